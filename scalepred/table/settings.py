"""Runs of the same sizes that are no seeds: of other rates, optimisers, architectures.

Their mean would be the law of nothing. Of every size the setting that did best counts,
as in `sweep.py`.
"""

import collections
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from scalepred.table import naming, numbers

_SETTINGS = re.compile(
    r"(.* )?(lr|learning rate|weight decay|wd|batch size|bs|batch|optimi[sz]er|optim|"
    r"opt|momentum|beta ?\d?|warmup( \w+)?|schedule|scheduler|lr schedule|dropout|"
    r"architecture|arch|family|model type|width|depth|n layers?|num layers|layers|"
    r"d model|hidden size|init( \w+)?|label smoothing|tokenizer|corpus|dataset|mup|"
    r"activation|norm|augment(ation)?|opt(imi[sz]er)? id|ema( decay)?|eta|"
    r"(gradient|grad) (accumulation|accum|acc)( steps)?|((gradient|grad) )?clip\w*"
    r"( value| norm)?|(decay|cooldown|anneal\w*) (steps|iters|fraction|tokens)|"
    r"\w+ loss (weight|coef\w*|scale))"
)
# What was measured of a run, not how it was trained: one says nothing of another.
_MEASURED = re.compile(
    r"(split|subset|domain|benchmark|language|test set|set|"
    r"(eval|evaluation|val|validation|test) (set|data|dataset|task|split|domain|name))"
)
_RESULTS = re.compile(
    r".*\b(loss|acc|accuracy|error|ppl|perplexity|bpb|time|timestamp|runtime|seconds?|"
    r"hours?|gpus?|id|name|date|datetime|created|updated|host|index|unnamed|duration|"
    r"value|score|number|user|notes|tags|commit|run|device|program|flops|step|steps|"
    r"wall|metric|task|seed|trial|line|url)\b.*|^$"
)
# What our own tables are searched over; all else in them follows from the sizes.
_OWN = ("learning_rate", "weight_decay")

Row = Mapping[str, str]


class Reduced(NamedTuple):
    """Rows that count, and what is said of it."""

    rows: list[tuple[int, Row]]
    note: str


def find_settings(rows: Sequence[tuple[int, Row]], ours: Sequence[str]) -> list[str]:
    """Columns that differ among runs of the same sizes, and are no result of them.

    Args:
        rows: with params, data, and perhaps epochs.
        ours: columns whose meaning is known.
    """
    first = rows[0][1]
    others = [name for name in first if name not in ours]
    if "cell_id" in first:
        others = [name for name in _OWN if name in first]
    groups: dict[tuple, list[Row]] = collections.defaultdict(list)
    for _, row in rows:
        groups[_sizes(row)].append(row)
    shared = [group for group in groups.values() if len(group) > 1]
    found = []
    for name in others:
        varying = [group for group in shared if len({row[name] for row in group}) > 1]
        if not varying:
            continue
        if (
            is_known(name)
            or is_measured(name)
            or (
                not _RESULTS.fullmatch(naming.plain(name))
                and _is_crossed(name, groups, varying)
            )
        ):
            found.append(name)
    return found


def is_measured(name: str) -> bool:
    """Whether a column of this name says on what runs were measured."""
    return _MEASURED.fullmatch(naming.plain(name)) is not None


def is_known(name: str) -> bool:
    """Whether a column of this name is a setting of runs, and nothing else."""
    return _SETTINGS.fullmatch(naming.plain(name)) is not None


def _is_crossed(
    name: str, groups: Mapping[tuple, list[Row]], varying: Sequence[list[Row]]
) -> bool:
    """Whether a few values of a column come again at most sizes."""
    counts = collections.Counter(
        value for group in groups.values() for value in {row[name] for row in group}
    )
    again = sum(count >= max(2, len(groups) / 3) for count in counts.values())
    return len(varying) > len(groups) / 2 and again >= max(2, len(counts) / 2)


def keep_best(
    rows: list[tuple[int, Row]],
    settings: Sequence[str],
    read: Callable[[str], float],
    rises: bool,
    with_epochs: bool = True,
) -> Reduced:
    """Of every size the runs of the setting that did best.

    Judged by the mean over seeds of `validation_value` where every run has one, else
    of the value itself.

    Args:
        rows: with params, data, value.
        settings: columns, from `find_settings`.
        read: a cell of value or validation_value as a number.
        rises: higher values are better.
        with_epochs: these are a size, where the table has them.
    """

    def has_validation(row: Row) -> bool:
        return not numbers.is_missing(row.get("validation_value", ""))

    by = "value"
    if all(has_validation(row) for _, row in rows):
        by = "validation_value"
    groups: dict[tuple, dict[tuple, list[tuple[int, Row]]]] = {}
    for line, row in rows:
        sizes = _sizes(row) if with_epochs else _sizes(row)[:2]
        runs = groups.setdefault(sizes, {})
        runs.setdefault(tuple(row[name] for name in settings), []).append((line, row))

    def judge(runs: Sequence[tuple[int, Row]]) -> float:
        mean = math.fsum(read(row[by]) for _, row in runs) / len(runs)
        return -mean if rises else mean

    best = [min(runs.values(), key=judge) for runs in groups.values()]
    kept = sorted((run for runs in best for run in runs), key=lambda run: run[0])
    named = ", ".join(settings)
    how = "by validation value" if by == "validation_value" else "by value"
    note = (
        f"{named} varies among runs of the same sizes: the best of each size counts "
        f"({how}), {len(kept)} of {len(rows)} runs; keep one with "
        f"--where={settings[0]}=..."
    )
    if by == "value":
        note += "; the least of noisy runs is a little too low"
    return Reduced(kept, note)


def _sizes(row: Row) -> tuple[str | None, ...]:
    return row["params"], row["data"], row.get("epochs")

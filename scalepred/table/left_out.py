"""Runs that did not end well, in one sentence: how many, and what is gone with them.

Runs that diverge are not a random part of a table: where only some of the seeds did,
the mean of the others is that of the lucky ones.
"""

import collections
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scalepred.table import numbers

# Where a tenth of the runs or every run of a size is missing, a note is too little.
_MANY = 0.1
_MOST_NAMED = 3
_NOUNS = {"params": "parameters", "data": "of data"}


class Run(NamedTuple):
    """What is looked at of a run; sizes are numbers, or text as a table has it."""

    params: float | str
    data: float | str
    status: str  # "ok", or how it ended


class LeftOut(NamedTuple):
    """What is said of runs that are left out.

    Attributes:
        sentence: "" where there are none.
        is_many: a fit of the others must be read with it in mind.
    """

    sentence: str = ""
    is_many: bool = False


NOTHING = LeftOut()


def describe(runs: Sequence[Run]) -> LeftOut:
    """Tells of the runs whose status is not "ok".

    Args:
        runs: all of a table.
    """
    lost = [run for run in runs if run.status != "ok"]
    kept = [run for run in runs if run.status == "ok"]
    if not lost:
        return NOTHING
    statuses = collections.Counter(run.status or "no status" for run in lost)
    how = ", ".join(f"{count} {status}" for status, count in statuses.items())
    said = f"{len(lost)} of {len(runs)} runs are left out ({how})"
    gone, survived = [], {run[:2] for run in kept}
    whole: set[Run] = set()
    for axis in ("params", "data"):
        missing = {getattr(run, axis) for run in lost}
        missing -= {getattr(run, axis) for run in kept}
        missing = {size for size in missing if not _is_word(size)}
        whole |= {run for run in lost if getattr(run, axis) in missing}
        if missing:
            sizes = dict.fromkeys(getattr(run, axis) for run in lost)
            gone.append(
                f"all with {_join(s for s in sizes if s in missing)} {_NOUNS[axis]}"
            )
    other = {run[:2] for run in lost if run not in whole} - survived
    other = {sizes for sizes in other if not all(map(_is_word, sizes))}
    if other:
        gone.append(f"all at {len(other)} other size" + "s" * (len(other) > 1))
    said = ", ".join([said, *gone])
    partly = len({run[:2] for run in lost} & survived)
    if partly:
        are = f"points at {partly} sizes are means"
        if partly == 1:
            are = "the point at 1 size is the mean"
        said += f"; {are} of the seeds that survived"
    return LeftOut(said, bool(gone) or len(lost) >= _MANY * len(runs))


def _is_word(size: float | str) -> bool:
    """What stands in the place of a size in a row of means or totals."""
    if isinstance(size, str):
        return not any(char.isdigit() for char in size)
    return not math.isfinite(size)


def _join(sizes: Iterable[float | str]) -> str:
    names = [s if isinstance(s, str) else numbers.write(s) for s in sizes]
    if len(names) > _MOST_NAMED:
        names[_MOST_NAMED:] = [f"{len(names) - _MOST_NAMED} more"]
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"

"""The runs of a sweep, read from a table of one's own or of a study."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.fitting.recipe.sweep import Sweep
from scalepred.runtime.files import open_path
from scalepred.table import columns, numbers
from scalepred.table.columns import Asked, Told
from scalepred.table.readers import files
from scalepred.table.readers import frame as frame_reader
from scalepred.table.rows import Measurement
from scalepred.table.selection import shorten

# How tables call what is tried; compared in lower case, without signs.
_USUAL = {
    "learning_rate": r"(peak |max |base )?(lr|learning rate)( peak| max)?",
    "weight_decay": r"weight decay|wd|decay",
    "batch_size": r"(global |train )?(bs|batch( size| sequences| tokens)?)",
}
KNOBS = tuple(_USUAL)
_PREFIX = re.compile(r"^(params|user attrs|config|summary|hparams|hyperparameters) ")


class Run(NamedTuple):
    """A run of a sweep."""

    place: tuple[float, ...]  # its sizes
    setting: float  # of the knob
    others: tuple[Any, ...]  # settings of what else was tried
    seed: str
    value: float  # NaN: diverged


def read_sweeps(
    table: Any,
    knob: str = "",
    *,
    column: str = "",
    metric: str | None = None,
    task: str | None = None,
    named: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
) -> list[Sweep]:
    """The sweep of each knob that a table tries, or of one.

    Of a size and a setting the runs count whose other settings did best there: the best
    rate is the one with the best batch size.

    Args:
        table: a file (see `Surface.from_csv`), the workdir of a study, rows of one, or
            a frame, columns by name.
        knob: learning_rate, weight_decay or batch_size; "": all that vary.
        column: that holds the knob, where its name does not tell.
        metric: see `Surface.from_csv`, as the others.
        task: likewise.
        named: by our name, what the table calls it.
        where: COLUMN=VALUE, which rows must have.

    Raises:
        UserError: the table cannot be read, or tries nothing.
    """
    if knob and knob not in KNOBS:
        raise UserError(f"knob={knob!r}: must be one of {', '.join(KNOBS)}")
    told = _tell(table, Asked(metric, task, None, named or {}, "", where))
    varying = columns.find_settings(told)
    header = list(told.rows[0][1])
    if column:
        if column not in header:
            raise UserError(
                f"column={column!r}: the table has no such column (there: "
                f"{shorten(', '.join(header))})"
            )
        found = {knob or "learning_rate": column}
    else:
        found = {
            name: own
            for name in ([knob] if knob else KNOBS)
            if (own := _find_column(name, varying))
        }
    if not found:
        wanted = knob or "learning_rate, weight_decay or batch_size"
        raise UserError(
            f"{wanted}: no column of it differs among runs of the same sizes, so there "
            "is no sweep to learn from; name one with column=, or train with "
            "grid.learning_rates"
        )
    return [_read(told, name, own, varying) for name, own in found.items()]


def _find_column(knob: str, names: Sequence[str]) -> str:
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
        if re.fullmatch(_USUAL[knob], _PREFIX.sub("", plain)):
            return name
    return ""


def _tell(table: Any, asked: Asked) -> Told:
    """The runs of a table of any kind."""
    if isinstance(table, str | os.PathLike):
        path = open_path("measurements", table)
        if path.is_dir():
            path = path / "measurements.csv"
        try:
            raw = files.read(path)
        except OSError as error:
            raise UserError(
                f"measurements={path}: cannot be read ({error.strerror}); give a file "
                "that can"
            ) from None
        return columns.tell_runs(raw, path, asked)
    if not hasattr(table, "keys") and not hasattr(table, "columns"):
        rows = list(table)
        if not rows or not isinstance(rows[0], Measurement):
            raise UserError("table: give a file, a workdir, rows of one, or a frame")
        table = _as_frame(rows)
    return columns.tell_runs(frame_reader.parse(table), "the table", asked)


def _as_frame(rows: Sequence[Measurement]) -> dict[str, list[Any]]:
    """Columns by name of rows of a study."""
    own = [name for name in vars(rows[0]) if not name.startswith("_")]
    frame = {name: [getattr(row, name) for row in rows] for name in own}
    others = dict.fromkeys(name for row in rows for name in row.others)
    del frame["others"]
    return frame | {
        name: [row.others.get(name, math.nan) for row in rows] for name in others
    }


def _read(told: Told, knob: str, column: str, varying: Sequence[str]) -> Sweep:
    """The sweep of one knob."""
    first = told.rows[0][1]
    axes = [name for name in ("params", "data") if name in told.reader.named.columns]
    if not axes:  # FLOPs alone
        axes = ["data"]
    if _varies_alone("epochs", axes, told):
        axes.append("epochs")
    others = [name for name in varying if name != column]
    value = _judged_by(told)
    runs = [
        *_make_runs(told, told.rows, axes, column, others, value),
        *_make_runs(
            told, _diverged(told, axes), axes, column, others, lambda *_: math.nan
        ),
    ]
    kept = keep_best(runs)
    notes = list(told.notes)
    if others:
        notes.append(
            f"{', '.join(others)} {'varies' if len(others) == 1 else 'vary'} too: of "
            f"each size and {knob} the best counts, {len(kept)} of {len(runs)} runs"
        )
    about = {
        "metric": told.conversion.metric if told.conversion else told.metric,
        "data_unit": columns.find_data_unit(first, told.reader),
        "notes": notes,
        "programs": sorted({row.get("program", "") for _, row in told.rows}),
    }
    return make_sweep(knob, axes, kept, **about)


def make_sweep(
    knob: str, axes: Sequence[str], runs: Sequence[Run], **about: Any
) -> Sweep:
    """The sweep that these runs are.

    Args:
        knob: that was tried.
        axes: names of the sizes in `Run.place`.
        runs: one for each size, setting and seed.
        about: metric, data_unit, notes and programs of the sweep.

    Raises:
        UserError: see `Sweep.from_arrays`.
    """
    places = np.array([run.place for run in runs], float).T
    return Sweep.from_arrays(
        dict(zip(axes, places, strict=True)),
        [run.setting for run in runs],
        [run.value for run in runs],
        knob=knob,
        seed=[run.seed for run in runs],
        **about,
    )


def _varies_alone(name: str, axes: Sequence[str], told: Told) -> bool:
    """Whether runs of the same other sizes differ in this one."""
    if name not in told.rows[0][1]:
        return False
    seen: dict[tuple[str, ...], str] = {}
    return any(
        seen.setdefault(tuple(row[axis] for axis in axes), row[name]) != row[name]
        for _, row in told.rows
    )


def _judged_by(told: Told) -> Callable[[int, Mapping[str, str]], float]:
    """The value of a row that the knob is chosen by, as the metric counts it."""
    first = told.rows[0][1]
    own = first.get("metric", "")
    # Rows of a study have the value of each further metric in a column of its name.
    name = f"validation_{own}" if own and own in first else "validation_value"
    is_there = name in first and not any(
        numbers.is_missing(row[name]) for _, row in told.rows
    )
    name, conversion = name if is_there else "value", told.conversion

    def read(line: int, row: Mapping[str, str]) -> float:
        number = told.reader.number(line, row, name, zero=True)
        return conversion.apply(number) if conversion is not None else number

    return read


def _diverged(told: Told, axes: Sequence[str]) -> list[tuple[int, Mapping[str, str]]]:
    """Rows of runs whose loss was not finite, where their sizes are known."""
    first = told.rows[0][1]
    found = []
    for line, row in told.failed:
        value = row.get("value", "").strip().lower().lstrip("+-")
        is_known = not any(numbers.is_missing(row.get(name, "")) for name in axes)
        is_alike = all(row.get(n) == first.get(n) for n in ("task",))
        has_diverged = "diverge" in row["status"].lower() or value in ("nan", "inf")
        if is_known and is_alike and has_diverged:
            found.append((line, row))
    return found


def _make_runs(
    told: Told,
    rows: Iterable[tuple[int, Mapping[str, str]]],
    axes: Sequence[str],
    column: str,
    others: Sequence[str],
    value: Callable[[int, Mapping[str, str]], float],
) -> list[Run]:
    reader = told.reader
    return [
        Run(
            tuple(reader.number(line, row, name) for name in axes),
            reader.number(line, row, column, zero=True),
            tuple(row[name] for name in others),
            row.get("seed", ""),
            value(line, row),
        )
        for line, row in rows
    ]


def keep_best(runs: Sequence[Run]) -> list[Run]:
    """Of each size and setting the runs with the other settings that did best."""
    groups: dict[tuple, dict[tuple[str, ...], list[Run]]] = {}
    for run in runs:
        group = groups.setdefault((run.place, run.setting), {})
        group.setdefault(run.others, []).append(run)

    def judge(own: Sequence[Run]) -> float:
        mean = math.fsum(run.value for run in own) / len(own)
        return mean if math.isfinite(mean) else math.inf

    best = (min(group.values(), key=judge) for group in groups.values())
    return [run for own in best for run in own]

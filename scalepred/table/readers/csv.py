"""Tables of runs as CSV: columns params, data, value, and some that may be there."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from scalepred.config import UserError
from scalepred.metrics import find_unit
from scalepred.table.left_out import LeftOut, Run, describe
from scalepred.table.rows import Table, has_parts

# Of 10 MB of garbage nobody needs more than the beginning.
_SNIFF_BYTES = 4096
_SHOWN_CHARS = 40

# Columns that say how much of the data was new; `data` then counts repeats too.
_UNIQUE_COLUMNS = ("unique_data", "unique_tokens")
# Epochs that differ by less than this share are the same number, rounded.
_EPOCHS_SLACK = 0.01

Row = Mapping[str, str]


class Columns(NamedTuple):
    """What a file says of its runs; names are those of `Surface.from_arrays`."""

    params: list[float]
    data: list[float]
    value: list[float]
    metric: str
    seed: np.ndarray | None
    weight: list[float] | None
    compute: list[float] | None
    task: str
    data_unit: str
    notes: list[str]
    epochs: list[float] | None
    left_out: LeftOut


def read(
    path: os.PathLike | str,
    metric: str | None = None,
    task: str | None = None,
    data_counts: str | None = None,
) -> Columns:
    """The columns of a file; see `Surface.from_csv`, which has the same arguments."""
    path = epath.Path(path)
    return tell(*_read_rows(path), path, metric, task, data_counts)


def tell(
    rows: list[tuple[int, Row]],
    notes: list[str],
    path: object,
    metric: str | None,
    task: str | None,
    data_counts: str | None,
) -> Columns:
    """What rows of text mean, whatever they were read from.

    Args:
        rows: line number and cells by column, at least one; those of runs that did
            not end well are left out.
        notes: what is said of them already.
        path: where they come from, for errors.
        metric: see `Surface.from_csv`, as the others.
        task: likewise.
        data_counts: likewise.
    """
    every, rows = rows, _drop_failed(rows, path)
    rows = _select(rows, "task", task, path)
    left_out = _describe_left_out(every, rows[0][1])
    rows = _select_metric(rows, metric, path)
    _check_no_twins(rows, path)
    first = rows[0][1]

    def numbers(name: str) -> list[float] | None:
        if name not in first:
            return None
        return [_number(path, line, row, name) for line, row in rows]

    params, data, value = (numbers(name) or [] for name in ("params", "data", "value"))
    compute = None
    if "flops" in first:
        compute = [
            _number(path, line, row, "flops") if row["flops"] else math.nan
            for line, row in rows
        ]
    metric, note = _tell_metric(first, metric, value)
    notes += [note] if note else []
    epochs, unit = None, first.get("data_unit", "") or "examples"
    if data_counts is not None:
        told = _tell_repeats(path, rows, data, data_counts)
        data, epochs = told.unique, told.epochs
        unit = told.unit or unit
        notes.append(told.note)
    return Columns(
        params,
        data,
        value,
        metric=metric,
        seed=np.array([row["seed"] for _, row in rows]) if "seed" in first else None,
        weight=numbers("weight"),
        compute=compute,
        task=first.get("task", ""),
        data_unit=unit,
        notes=notes,
        epochs=epochs,
        left_out=left_out,
    )


def _read_rows(path: epath.Path) -> tuple[list[tuple[int, Row]], list[str]]:
    """Rows with their line numbers, and what is said of the file."""
    if path.name == "measurements.csv" and has_parts(path):
        table = Table(path)  # which may be ahead of its view
        return _parse_csv(path, table.as_csv().decode()), [*table.notes]
    return _read_csv(path), []


def _drop_failed(rows: list[tuple[int, Row]], path: object) -> list[tuple[int, Row]]:
    """Rows of runs that ended well."""
    kept = [row for row in rows if row[1].get("status", "ok") == "ok"]
    if not kept:
        raise UserError(f"{path}: no row has status ok, so nothing can be fitted")
    return kept


def _describe_left_out(rows: list[tuple[int, Row]], chosen: Row) -> LeftOut:
    """What is said of runs that did not end well, of the task of the `chosen` row."""
    task = chosen.get("task")
    return describe(
        [
            Run(_as_size(row["params"]), _as_size(row["data"]), row.get("status", "ok"))
            for _, row in rows
            if row.get("task") in (task, "")
        ]
    )


def _as_size(cell: str) -> float | str:
    """A number where it is one: of a run that failed the cell may be anything."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _tell_metric(
    first: Row, asked: str | None, value: Sequence[float]
) -> tuple[str, str]:
    """The metric, and a note where it is guessed; "" where it is not.

    Args:
        first: a row.
        asked: the metric that the caller names, if any.
        value: of all rows.
    """
    named = first.get("metric", asked)
    if named is None:
        metric = "error" if all(v < 1 for v in value) else "loss"
        how = "all below 1" if metric == "error" else "some at 1 or above"
        return metric, f"no metric column: values taken for {metric} ({how})"
    # Rows of our own name the metrics of their task.
    if named in ("error", "loss") or "cell_id" in first:
        return named, ""
    if "metric" not in first:
        if find_unit(named):
            return named, ""
        raise UserError(
            f"metric={named!r}: must be error or loss, or end with _error or _loss"
        )
    metric = "loss" if any(v > 1 for v in value) else "error"
    return metric, f"metric {named!r} is taken for {metric}"


class _Repeats(NamedTuple):
    """How often data were seen.

    Attributes:
        unique: unique data of each row.
        epochs: of each row.
        unit: what they count now; "": what the table says.
        note: how all that was told.
    """

    unique: list[float]
    epochs: list[float]
    unit: str
    note: str


def _tell_repeats(
    path: object, rows: list[tuple[int, Row]], data: list[float], data_counts: str
) -> _Repeats:
    if data_counts not in ("auto", "unique", "seen"):
        raise UserError(
            f"data_counts={data_counts!r}: must be one of auto, unique, seen"
        )
    first = rows[0][1]
    new = next((name for name in _UNIQUE_COLUMNS if name in first), None)
    is_auto = data_counts == "auto"
    counts_seen = new is not None if is_auto else data_counts == "seen"
    how = "taken for" if is_auto else "given as"

    def read(name: str) -> list[float]:
        return [_number(path, line, row, name) for line, row in rows]

    if "epochs" not in first and (new is None or not counts_seen):
        raise UserError(
            f"{path}: no column epochs"
            + (" or unique_data" if counts_seen or is_auto else "")
            + "; a law of repeated data needs to know how often data were seen"
        )
    epochs = read("epochs") if "epochs" in first else []
    if not counts_seen:
        note = f"data are {how} unique data, each seen `epochs` times"
        return _Repeats(data, epochs, "", note)
    if new is None:
        unique = [n / times for n, times in zip(data, epochs, strict=True)]
        note = f"data are {how} data seen; unique data = data / epochs"
        return _Repeats(unique, epochs, "unique data", note)
    unique = read(new)
    ratios = [n / own for n, own in zip(data, unique, strict=True)]
    for (line, _), ratio, times in zip(rows, ratios, epochs, strict=False):
        if abs(ratio / times - 1) > _EPOCHS_SLACK:
            raise UserError(
                f"{path}, line {line}: data / {new} is {ratio:.4g}, but epochs is "
                f"{times:.4g}; correct that line, or say data_counts=unique if data do "
                "not count repeats"
            )
    note = f"data are {how} data seen, repeats included; epochs = data / {new}"
    return _Repeats(unique, ratios, new.replace("_", " "), note)


def _read_csv(path: epath.Path) -> list[tuple[int, Row]]:
    """Rows with their line numbers; every row has exactly the header's columns."""
    if not path.exists() or path.is_dir():
        raise UserError(f"measurements={path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(_SNIFF_BYTES)
    if not start.strip():
        raise UserError(
            f"{path}: the file is empty; it needs columns params, data, value"
        )
    if b"\0" in start:
        raise UserError(f"{path}: not a text file; it must be a CSV")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; it must be a CSV") from None
    return _parse_csv(path, text)


def check_header(path: object, header: Sequence[str]) -> None:
    """Every column has one name, and those that are needed are there."""
    missing = [name for name in ("params", "data", "value") if name not in header]
    if missing:
        shown = _shorten(", ".join(header))
        raise UserError(
            f"{path}: no column {', '.join(missing)} (columns found: {shown}); "
            "name the columns params, data, value"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UserError(f"{path}: column {twice!r} stands twice; keep one")


def _parse_csv(path: epath.Path, text: str) -> list[tuple[int, Row]]:
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(lines)]
        check_header(path, header)
        rows: list[tuple[int, Row]] = []
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path}, line {lines.line_num}: {len(cells)} cells for "
                    f"{len(header)} columns; correct that line"
                )
            named = {k: v.strip() for k, v in zip(header, cells, strict=True)}
            rows.append((lines.line_num, named))
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: not a CSV ({error})") from None
    if not rows:
        raise UserError(f"{path}: a header but no rows; add at least one point")
    return rows


def _select(
    rows: list[tuple[int, Row]], column: str, wanted: str | None, path: object
) -> list[tuple[int, Row]]:
    """Rows whose `column` is `wanted`; all rows where the file has no such column."""
    if column not in rows[0][1]:
        return rows
    names = sorted({row[column] for _, row in rows})
    if wanted is None:
        if len(names) > 1:
            raise UserError(
                f"{path}: several values of {column} in one file "
                f"({_shorten(', '.join(names))}); choose one with --{column}"
            )
        return rows
    kept = [(line, row) for line, row in rows if row[column] == wanted]
    if not kept:
        raise UserError(
            f"{column}={wanted!r}: not in {path} (there: {_shorten(', '.join(names))})"
        )
    return kept


def _select_metric(
    rows: list[tuple[int, Row]], metric: str | None, path: object
) -> list[tuple[int, Row]]:
    """Like `_select`; error and loss also say of what kind a lone metric is.

    Our own tables have a column for every metric beside the one that `value` is of.
    """
    names = {row.get("metric") for _, row in rows}
    if (
        metric
        and metric not in names
        and metric in rows[0][1]
        and "cell_id" in rows[0][1]
    ):
        return [
            (line, {**row, "metric": metric, "value": row[metric]})
            for line, row in rows
        ]
    if metric in ("error", "loss") and metric not in names and len(names) == 1:
        return [(line, {**row, "metric": metric}) for line, row in rows]
    return _select(rows, "metric", metric, path)


def _check_no_twins(rows: list[tuple[int, Row]], path: object) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        cells = tuple(row.values())
        if cells in seen:
            raise UserError(
                f"{path}: lines {seen[cells]} and {line} are the same; remove one, or "
                "add a seed column if they are two runs"
            )
        seen[cells] = line


def _number(path: object, line: int, row: Row, column: str) -> float:
    text = row[column]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
        wrong = "is not a number" if text else "is empty"
    else:
        wrong = "must be a positive finite number"
    if not (math.isfinite(number) and number > 0):
        shown = repr(_shorten(text)) if text else "the cell"
        raise UserError(
            f"{path}, line {line}, column {column}: {shown} {wrong}; correct or remove "
            "that row"
        )
    return number


def _shorten(text: str) -> str:
    """Printable and short: garbage must not flood or control the terminal."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= _SHOWN_CHARS else clean[: _SHOWN_CHARS - 3] + "..."

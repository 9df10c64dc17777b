"""What a table says of its runs, whatever it was read from."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.metrics import find_unit
from scalepred.table import (
    ended,
    history,
    lacking,
    meaning,
    naming,
    numbers,
    products,
    settings,
    stopped,
)
from scalepred.table.left_out import LeftOut
from scalepred.table.meaning import Conversion
from scalepred.table.readers.raw import Raw, Row
from scalepred.table.repeats import Repeats, find_passes, tell_if_told, tell_repeats
from scalepred.table.selection import (
    check_no_twins,
    select,
    select_metric,
    select_where,
    shorten,
)

# What data count, by a word in the name of their column.
_UNITS = (
    "tokens", "images", "samples", "steps", "words", "sentences", "bytes", "sequences",
    "documents", "hours",
)  # fmt: skip


class Asked(NamedTuple):
    """What the user says of a table; see `Surface.from_csv`."""

    metric: str | None = None
    task: str | None = None
    data_counts: str | None = None
    columns: Mapping[str, str] = {}
    decimal: str = ""
    where: Sequence[str] = ()


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
    conversion: Conversion | None


class Reader(NamedTuple):
    """Reads the cells of a table as numbers."""

    path: object
    named: naming.Naming
    decimal: str

    def number(self, line: int, row: Row, column: str, zero: bool = False) -> float:
        """A cell as a positive number.

        Raises:
            UserError: it is none.
        """
        text = row[column]
        try:
            number = numbers.parse(text, self.decimal)
            wrong = "must be a positive finite number" if text else "is empty"
        except ValueError as error:
            number, wrong = math.nan, f"is {error}"
        if column in self.named.units and numbers.has_unit(text):
            number, wrong = math.nan, "has a unit, and so has the name of the column"
        number *= self.named.units.get(column, 1.0)
        if not (number > 0 or (zero and number == 0)):
            shown = repr(shorten(text)) if text else "the cell"
            theirs = self.named.columns.get(column, column)
            raise UserError(
                f"{self.path}, line {line}, column {theirs}: {shown} {wrong}; correct "
                "or remove that row"
            )
        return number


class Told(NamedTuple):
    """The runs of a table, before anything is said of settings that vary among them.

    Attributes:
        rows: that ended well, with their lines; columns of known meaning have our name.
        failed: rows that did not.
        reader: of their cells.
        metric: of the values.
        conversion: of the values as they stand there into it, if any is needed.
        notes: sentences on what was guessed.
        left_out: what is said of `failed`.
    """

    rows: list[tuple[int, Row]]
    failed: list[tuple[int, Row]]
    reader: Reader
    metric: str
    conversion: Conversion | None
    notes: list[str]
    left_out: LeftOut


def tell_runs(raw: Raw, path: object, asked: Asked) -> Told:
    """The runs of a table by columns of our names, all settings of them.

    Args:
        raw: the table as it is written.
        path: where it comes from, for errors.
        asked: what the user says of it.

    Raises:
        UserError: names row, column and remedy.
    """
    header = list(raw.rows[0][1])
    named = naming.find(header, asked.columns, asked.metric, path)
    named = naming.find_sizes(named, [row for _, row in raw.rows])
    rows = select_where(raw.rows, asked.where, named.columns, path)
    rows, named, sparse = history.prepare(rows, named, asked.columns, path)
    named = _drop_empty_sizes(named, rows, asked.columns)
    _check_named(named, header, path)
    rows = [(line, _rename(row, named.columns)) for line, row in rows]
    reader = Reader(path, named, asked.decimal or _find_decimal(raw, rows, named))
    every, said = stopped.leave_out(
        ended.judge(rows, named),
        lambda run: run[1]["status"] if "cell_id" in run[1] else "",
        lambda run: tuple(run[1].get(name) for name in _OF_A_SETTING),
    )
    good = ended.drop_failed(every, path)
    good = select(good, "task", asked.task, path)
    left_out = ended.describe_left_out(every, good[0][1])
    good = select_metric(good, asked.metric, path)
    check_no_twins(good, path)
    notes = [*raw.notes, *([said] if said else [])]
    meaning.check_sign([row["value"] for _, row in good], path)
    values = [reader.number(line, row, "value", zero=True) for line, row in good]
    metric, conversion, note = _tell_metric(
        good[0][1], named.columns["value"], asked.metric, values, path
    )
    good, named = products.multiply(good, named, asked.columns, reader.decimal)
    reader = reader._replace(named=named)
    notes += _describe(raw, named, reader, conversion.metric if conversion else metric)
    good, filled = lacking.fill(good, named, reader.number)
    notes += [note] if note else []
    notes += [filled] if filled else []
    notes += sparse
    failed = [row for row in every if row[1]["status"] != "ok"]
    return Told(good, failed, reader, metric, conversion, notes, left_out)


def tell(raw: Raw, path: object, asked: Asked) -> Columns:
    """What a table means, of every size the runs that count.

    Args:
        raw: the table as it is written.
        path: where it comes from, for errors.
        asked: what the user says of it.

    Raises:
        UserError: names row, column and remedy.
    """
    told = tell_runs(raw, path, asked)
    good, reader, notes = told.rows, told.reader, told.notes
    lacking.check_curve(told.rows, reader.named, path)
    rises = told.conversion is not None and told.conversion.is_risen

    def read(cell: str) -> float:
        return numbers.parse(cell, reader.decimal)

    if varying := find_settings(told):
        lacking.check_settings(varying, reader.named, path)
        good, note = settings.keep_best(good, varying, read, rises)
        notes.append(note)
    repeats, note = _tell_repeats(good, reader, asked)
    notes += [note] if note else []
    if repeats is None and (passes := find_passes(good, reader.number)):
        good, note = settings.keep_best(good, [passes], read, rises, with_epochs=False)
        notes.append(note)
    return _make_columns(good, told, asked, repeats, notes)


def find_settings(told: Told) -> list[str]:
    """Columns that differ among runs of the same sizes, and are no result of them."""
    return settings.find_settings(told.rows, [*told.reader.named.columns, *_OURS])


# What seeds have in common, in tables of ours, which alone have stopped runs.
_OF_A_SETTING = (
    "task", "family", "width", "depth", "params", "data", "learning_rate",
)  # fmt: skip
# Columns that our own tables have, and that are no settings.
_OURS = ("data_unit", "unique_data", "unique_tokens", "cell_id", "width", "depth")


def _tell_repeats(
    rows: list[tuple[int, Row]], reader: Reader, asked: Asked
) -> tuple[Repeats | None, str]:
    """How often data were seen, where that is to be a size; and what is said of it."""
    if asked.data_counts is None:
        return None, ""
    if asked.data_counts == "if_told":
        return tell_if_told(reader.path, rows, reader.number)
    told = tell_repeats(reader.path, rows, asked.data_counts, reader.number)
    return told, told.note


def _make_columns(
    rows: list[tuple[int, Row]],
    told: Told,
    asked: Asked,
    repeats: Repeats | None,
    notes: list[str],
) -> Columns:
    first, conversion, reader = rows[0][1], told.conversion, told.reader

    def read(name: str) -> list[float]:
        return [reader.number(line, row, name) for line, row in rows]

    params, data = read("params"), read("data")
    value = [reader.number(line, row, "value", zero=True) for line, row in rows]
    if conversion is not None:
        value = [conversion.apply(number) for number in value]
    epochs, unit = None, find_data_unit(first, reader)
    if repeats is not None:
        data, epochs = repeats.unique, repeats.epochs
        unit = repeats.unit or unit
    sizes = {"params": np.array(params), "data": np.array(data)}
    for name, own in sizes.items():
        _check_counts(name, own, name in reader.named.columns, unit)
        if mixed := meaning.find_mixed_units(name, own):
            notes = [*notes, mixed]
    turned = conversion.name if conversion is not None and conversion.is_risen else ""
    # What is called an error or a loss may rise: the fit says that it does not scale.
    if turned or not (conversion or asked.metric):
        arrays = sizes["params"], sizes["data"], np.array(value)
        meaning.check_falls(*arrays, told.metric, turned)
    return Columns(
        params,
        data,
        value,
        metric=told.metric,
        seed=np.array([row["seed"] for _, row in rows]) if "seed" in first else None,
        weight=read("weight") if "weight" in first else None,
        compute=_read_flops(rows, reader, params, data),
        task=first.get("task", ""),
        data_unit=unit,
        notes=notes,
        epochs=epochs,
        left_out=told.left_out,
        conversion=conversion,
    )


def _read_flops(
    rows: list[tuple[int, Row]],
    reader: Reader,
    params: Sequence[float],
    data: Sequence[float],
) -> list[float] | None:
    """The cost of each run, NaN where a cell is empty; None without a column."""
    first = rows[0][1]
    if "flops" not in first:
        return None
    flops = [
        math.nan
        if numbers.is_missing(row["flops"])
        else reader.number(line, row, "flops")
        for line, row in rows
    ]
    if "cell_id" not in first:
        meaning.check_flops(np.array(flops), np.array(params), np.array(data))
    return flops


def _check_counts(name: str, sizes: np.ndarray, is_read: bool, unit: str) -> None:
    """Refuses sizes that are no counts.

    Args:
        name: params or data.
        sizes: of each run.
        is_read: they are the table's own, not made of its FLOPs.
        unit: what data count; of epochs there may be less than one.

    Raises:
        UserError: says how to name their unit.
    """
    if is_read and not (name == "data" and unit == "epochs"):
        meaning.check_counts(name, sizes)
    if not is_read and np.min(sizes) < 1:
        other = "data" if name == "params" else "params"
        raise UserError(
            f"{name}: FLOPs / (6 {other}) are {np.min(sizes):.3g}, which is no count; "
            "if the FLOPs have a unit, name their column so, as FLOPs (1e18)"
        )


def _drop_empty_sizes(
    named: naming.Naming, rows: list[tuple[int, Row]], said: Mapping[str, str]
) -> naming.Naming:
    """A size whose column is empty is as unknown as one without a column."""
    columns = {
        ours: theirs
        for ours, theirs in named.columns.items()
        if ours not in naming.SIZES
        or ours in said
        or not all(numbers.is_missing(row[theirs]) for _, row in rows)
    }
    return named._replace(columns=columns)


def _check_named(named: naming.Naming, header: Sequence[str], path: object) -> None:
    """A value and something to lay it against are there."""
    sizes = [name for name in naming.SIZES if name in named.columns]
    for share in (named.columns[name] for name in sizes):
        if "%" in share or "percent" in share.lower():
            raise UserError(
                f"{path}: {share} is a share, and no count; multiply it with the whole"
            )
    missing = [] if sizes else ["params", "data"]
    missing += [] if "value" in named.columns else ["value"]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)} (columns found: "
            f"{naming.show(header)}); name the columns params, data, value, or say "
            "which are, as --columns=params=N,data=D,value=loss"
        )


def _rename(row: Row, columns: Mapping[str, str]) -> Row:
    """The row by our names, beside its other columns."""
    ours = {theirs: name for name, theirs in columns.items()}
    return {ours.get(name, name): cell for name, cell in row.items()}


def _find_decimal(raw: Raw, rows: list[tuple[int, Row]], named: naming.Naming) -> str:
    names = [n for n in (*naming.SIZES, "value") if n in named.columns]
    cells = (row[name] for _, row in rows for name in names)
    return raw.decimal or numbers.find_decimal(cells, raw.comma)


def _tell_metric(
    first: Row,
    column: str,
    asked: str | None,
    values: Sequence[float],
    path: object,
) -> tuple[str, Conversion | None, str]:
    """The metric that is fitted, what is done to the values for it, and a note.

    Args:
        first: a row.
        column: that the values stand in.
        asked: the metric that the caller names, if any.
        values: of all rows.
        path: of the table, for errors.
    """
    told = column if column != "value" and "metric" not in first else None
    named = first.get("metric") or told or asked
    if named is None:
        metric = "error" if all(v < 1 for v in values) else "loss"
        how = "all below 1" if metric == "error" else "some at 1 or above"
        return metric, None, f"no metric column: values taken for {metric} ({how})"
    # Rows of our own name the metrics of their task.
    if "cell_id" in first:
        return named, None, ""
    # Error and loss also say of what kind a metric of another name is.
    if asked in ("error", "loss") and told is not None:
        kind = meaning.find_conversion(told, list(values), path)
        if kind is None or not (kind.is_risen or kind.is_log):
            named = asked
    found = meaning.find_conversion(named, list(values), path)
    is_ours = told is None and bool(find_unit(named))
    if found is not None and not (is_ours and not found.percent):
        return found.metric, found, found.note
    if find_unit(named):
        return named, None, ""
    if asked == named and "metric" not in first and told is None:
        raise UserError(
            f"metric={named!r}: must be error, loss, accuracy, perplexity or bpb, or "
            "end with _error or _loss"
        )
    metric = "loss" if any(v > 1 for v in values) else "error"
    return metric, None, f"metric {named!r} is taken for {metric}"


def _describe(raw: Raw, named: naming.Naming, reader: Reader, metric: str) -> list[str]:
    """What was taken for what, in one line; nothing where nothing was guessed."""
    kind = raw.kind
    if reader.decimal == ",":
        kind = f"{kind or 'CSV'}, comma for decimals"
    if not (kind or named.is_guessed or named.units):
        return []
    parts = []
    for ours, theirs in named.columns.items():
        unit = named.units.get(ours, 1.0)
        times = f" times {numbers.write_flops(unit)}" if unit != 1 else ""
        if ours != theirs or times:
            parts.append(f"{ours} is {theirs!r}{times}")
    said = f"read as {kind or 'CSV'}"
    if parts:
        said += ": " + ", ".join(parts)
    return [f"{said}; the value is fitted as {metric} (--columns says otherwise)"]


def find_data_unit(row: Row, reader: Reader) -> str:
    """What data count: as a row says, or by the name of their column."""
    return row.get("data_unit", "") or _find_unit(reader.named)


def _find_unit(named: naming.Naming) -> str:
    """What data count, by the name of their column."""
    theirs = named.columns.get("data", "").lower()
    if not theirs:
        alone = "flops" in named.columns and "params" not in named.columns
        return "FLOPs" if alone else "examples"
    if "token" in theirs:
        return "tokens"
    if "epoch" in theirs:
        return "epochs"
    if "step" in theirs or "iter" in theirs:
        return "steps"
    return next((unit for unit in _UNITS if unit in theirs), "examples")

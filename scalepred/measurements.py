"""The table between the two halves: rows on disk, and the surface read from them.

`training/` appends one `Measurement` a finished cell; `fitting/` reads a `Surface`,
the points (params, data, value) averaged over seeds. A row written is never lost or
changed.
"""

import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import io
import math
import operator
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from etils import epath

from scalepred.config import UserError
from scalepred.files import list_files, remove_abandoned, write_whole

# Of 10 MB of garbage nobody needs more than the beginning.
_SNIFF_BYTES = 4096
_SHOWN_CHARS = 40

# The parts of a table are merged at most so often, and for at most a hundredth of
# the time.
_MERGE_PAUSE_SECONDS = 30.0
_MERGE_PAUSE_RATIO = 100.0
_READ_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One trained cell, one row of measurements.csv. Lower `value` is better."""

    cell_id: str
    task: str
    family: str
    width: int
    depth: int
    params: int  # m as the law uses it: word embeddings excluded
    params_total: int
    data: int  # n, in data_unit
    data_unit: str
    epochs: float
    steps: int
    seed: int
    learning_rate: float
    flops: float  # of the whole training run
    metric: str  # error | loss
    value: float  # on the test part; NaN unless status is ok
    # The same metric on the cell's own training examples, of which as many are looked
    # at as there are test examples.
    train_value: float
    status: str  # ok | diverged | failed
    seconds: float  # the cell's share of wall time
    device: str
    program: str
    # On the part that rates are chosen by; NaN where there is none.
    validation_value: float = math.nan

    @functools.cached_property
    def line(self) -> str:
        """The row as it stands in a table, which it is written to more than once."""
        text = io.StringIO()
        cells = map(_cell_text, _values_of(self))
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue()


COLUMNS = tuple(field.name for field in dataclasses.fields(Measurement))
_values_of = operator.attrgetter(*COLUMNS)


class Table:
    """The rows of a workdir: parts that are written once, and measurements.csv.

    A part, `rows/<digest of its bytes>.csv`, is never changed, so that it can be
    checked, and no two processes write the same file. The table is what all parts
    hold together; measurements.csv is its view, written by `merge` and not read where
    there are parts. Without parts it is the table itself, as a user may bring it.

    Attributes:
        path: of measurements.csv.
        rows: by cell id.
        notes: what was damaged, a sentence each.
    """

    def __init__(self, path: os.PathLike | str):
        """Opens the table, or starts one where there is none; writes nothing.

        Raises:
            UserError: if a file is no table of ours.
        """
        self.path = epath.Path(path)
        self.rows: dict[str, Measurement] = {}
        self.notes: list[str] = []
        self._folder = self.path.parent / "rows"
        self._parts: set[str] = set()  # whose rows are in `rows`
        self._damaged: set[str] = set()
        self._not_in_parts: list[Measurement] = []
        self._last_merge = time.monotonic()
        self._merge_seconds = 0.0
        self._read()

    def append(self, rows: Sequence[Measurement]) -> None:
        """Writes rows and waits until they are on the disk."""
        if not rows:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_part([*self._not_in_parts, *rows])
        self._not_in_parts = []
        self.rows.update((row.cell_id, row) for row in rows)
        pause = max(_MERGE_PAUSE_SECONDS, _MERGE_PAUSE_RATIO * self._merge_seconds)
        if time.monotonic() - self._last_merge > pause:
            self.merge()

    def merge(self) -> None:
        """Makes one part of all, and measurements.csv the view of it.

        Another process may do the same: what is removed here stands in the new part.
        """
        began = time.monotonic()
        if self.rows:
            self._folder.mkdir(parents=True, exist_ok=True)
            old = set(self._parts)
            whole = self._write_part(self._sorted())
            self._not_in_parts = []
            view = self.as_csv()
            if not self.path.exists() or self.path.read_bytes() != view:
                write_whole(self.path, view)
            for name in old - {whole}:
                (self._folder / name).unlink(missing_ok=True)
            self._parts = {whole}
        for name in self._damaged:
            damaged = self._folder / name
            if damaged.exists():
                damaged.replace(self._folder / (name + ".damaged"))
        self._damaged = set()
        for folder in (self._folder, self.path.parent):
            remove_abandoned(folder)
        self._last_merge = time.monotonic()
        self._merge_seconds = self._last_merge - began

    def as_csv(self) -> bytes:
        """What measurements.csv should hold."""
        return _format_rows(self._sorted())

    def _sorted(self) -> list[Measurement]:
        """By size, then seed: the same table whatever the order of training."""
        return sorted(
            self.rows.values(),
            key=lambda row: (
                row.task, row.family, row.depth, row.width, row.data, row.seed,
                row.cell_id,
            ),
        )  # fmt: skip

    def _write_part(self, rows: Sequence[Measurement]) -> str:
        content = _format_rows(rows)
        name = _digest(content) + ".csv"
        if name not in self._parts:
            write_whole(self._folder / name, content)
        self._parts.add(name)
        return name

    def _read(self) -> None:
        parts = self._read_parts()
        for name, content in sorted(parts.items()):
            if _digest(content) + ".csv" != name:
                self._damaged.add(name)
                self.notes.append(
                    f"{self._folder / name}: damaged since it was written; its runs "
                    "are trained again"
                )
                continue
            rows = _parse_table(self._folder / name, content.decode())
            self.rows = {row.cell_id: row for row in rows} | self.rows
            self._parts.add(name)
        if not self.path.exists():
            return
        if parts:
            lines = set(self.path.read_bytes().splitlines())
            if not lines <= set(self.as_csv().splitlines()):
                self.notes.append(
                    f"{self.path}: changed or damaged since it was written; the rows "
                    f"in {self._folder} count"
                )
            return
        self._read_view()

    def _read_view(self) -> None:
        try:
            text = self.path.read_bytes().decode()
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}: damaged, or no table of runs; move it away"
            ) from None
        whole, _, torn = text.rpartition("\n")
        if torn:
            self.notes.append(
                f"{self.path}: its last row is cut off; that run is trained again"
            )
        self._not_in_parts = _parse_table(self.path, whole)
        self.rows = {row.cell_id: row for row in self._not_in_parts}

    def _read_parts(self) -> dict[str, bytes]:
        """Contents of all parts; another process may be merging them meanwhile."""
        for attempt in range(_READ_ATTEMPTS):
            paths = list_files(self._folder, ".csv")
            try:
                with concurrent.futures.ThreadPoolExecutor() as pool:  # for buckets
                    contents = list(pool.map(lambda path: path.read_bytes(), paths))
            except FileNotFoundError:
                if attempt == _READ_ATTEMPTS - 1:
                    raise
                continue
            return dict(zip((path.name for path in paths), contents, strict=True))
        raise AssertionError("not reached")


def _has_parts(path: epath.Path) -> bool:
    return bool(list_files(path.parent / "rows", ".csv"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _format_rows(rows: Iterable[Measurement]) -> bytes:
    header = ",".join(COLUMNS) + "\n"
    return (header + "".join(row.line for row in rows)).encode()


def _parse_table(path: epath.Path, text: str) -> list[Measurement]:
    lines = csv.reader(io.StringIO(text))
    header = tuple(next(lines, ()))
    # Tables written before there was a validation part lack the last column.
    if header and header not in (COLUMNS, COLUMNS[:-1]):
        raise UserError(
            f"{path}: its columns are not those of a table of runs; "
            "choose another --workdir, or move the file away"
        )
    rows = []
    for number, cells in enumerate(lines, start=2):
        try:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells, not {len(header)}")
            rows.append(_parse_row(cells))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}, row {number}: damaged ({error}); remove that row "
                "and its cell is trained again"
            ) from None
    return rows


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value).replace("\n", " ")  # a line is a row, also to a torn file


def _parse_row(cells: Sequence[str]) -> Measurement:
    values = {}
    # The last column may be missing and has a default.
    for field, text in zip(dataclasses.fields(Measurement), cells, strict=False):
        if field.type is float:
            values[field.name] = float(text) if text else math.nan
        elif field.type is int:
            values[field.name] = int(text)
        else:
            values[field.name] = text
    return Measurement(**values)


# Columns that say how much of the data was new; `data` then counts repeats too.
_UNIQUE_COLUMNS = ("unique_data", "unique_tokens")
# Epochs that differ by less than this share are the same number, rounded.
_EPOCHS_SLACK = 0.01


@dataclasses.dataclass(frozen=True)
class Surface:
    """Points (params, data, value), each the mean over its seeds.

    Attributes:
        params: model sizes m, counts [points].
        data: data sizes n, in `data_unit` [points].
        value: error (0 to 1) or loss (nats), mean over seeds [points].
        seed_values: the runs behind `value`, NaN where a point has no run of that
            seed [points, seeds].
        weight: importance of each point in a fit, mean over its rows [points].
        compute: training FLOPs of one run, NaN where unknown [points].
        metric: "error" (bounded by 1) or "loss".
        task: what was learnt; for titles.
        data_unit: what n counts.
        random_guess: value of a model that has learnt nothing; None: unknown.
        notes: choices made while reading (rows left out and why), to be printed.
        epochs: passes over the data of each point, at least 1; `data` are then unique
            data. None: not asked for, and `data` is whatever it is [points].
    """

    params: np.ndarray
    data: np.ndarray
    value: np.ndarray
    seed_values: np.ndarray
    weight: np.ndarray
    compute: np.ndarray
    metric: str = "error"
    task: str = ""
    data_unit: str = "examples"
    random_guess: float | None = None
    notes: tuple[str, ...] = ()
    epochs: np.ndarray | None = None

    @property
    def seen(self) -> np.ndarray:
        """Data that a run of each point went through, repeats included [points]."""
        return self.data if self.epochs is None else self.data * self.epochs

    @property
    def work(self) -> np.ndarray:
        """Model size times data seen: what compute goes with [points]."""
        return self.params * self.seen

    @property
    def highest(self) -> float:
        """That a value can be."""
        return 1.0 if self.metric == "error" else math.inf

    @property
    def num_seeds(self) -> np.ndarray:
        """Runs behind each point [points]."""
        return np.sum(np.isfinite(self.seed_values), axis=1)

    def __len__(self) -> int:
        return len(self.value)

    def where(self, mask: np.ndarray) -> Self:
        """The points at which `mask` [points] is true."""
        arrays = ["params", "data", "value", "seed_values", "weight", "compute"]
        if self.epochs is not None:
            arrays.append("epochs")
        kept = {name: getattr(self, name)[mask] for name in arrays}
        return dataclasses.replace(self, **kept)

    @classmethod
    def from_arrays(
        cls,
        params: Sequence[float] | np.ndarray,
        data: Sequence[float] | np.ndarray,
        value: Sequence[float] | np.ndarray,
        *,
        metric: str = "error",
        random_guess: float | None = None,
        seed: Sequence[int] | np.ndarray | None = None,
        weight: Sequence[float] | np.ndarray | None = None,
        compute: Sequence[float] | np.ndarray | None = None,
        task: str = "",
        data_unit: str = "examples",
        notes: Sequence[str] = (),
        epochs: Sequence[float] | np.ndarray | None = None,
    ) -> Self:
        """A surface from runs: rows with the same (params, data) are seeds of a point.

        With epochs, for laws that know of them, those with the same epochs too.

        Args:
            params: model sizes, above 0 [runs].
            data: data sizes, above 0 [runs].
            value: error or loss, above 0, lower is better [runs].
            metric: "error" or "loss".
            random_guess: value of a model that has learnt nothing, if known.
            seed: which runs belong together across points, as those of one split of
                the data or the checkpoints of one run do; None: order of rows [runs].
            weight: importance, above 0 [runs].
            compute: training FLOPs [runs].
            task: what was learnt.
            data_unit: what `data` counts.
            notes: carried along.
            epochs: passes over the data, 1 or more; `data` must then be unique data,
                of which a run went through data * epochs [runs].

        Raises:
            UserError: names the column, the row and what is wrong.
        """
        columns: dict[str, np.ndarray] = {}
        given = {"params": params, "data": data, "value": value}
        if weight is not None:
            given["weight"] = weight
        if epochs is not None:
            given["epochs"] = epochs
        for name, numbers in given.items():
            columns[name] = np.asarray(numbers, np.float64).reshape(-1)
            if len(columns[name]) != len(columns["params"]):
                raise UserError(
                    f"{name}: {len(columns[name])} values for "
                    f"{len(columns['params'])} params; give one for each run"
                )
            # A single run may err nowhere on a small test set; a point may not.
            _check_numbers(name, columns[name], zero_allowed=name == "value")
        if metric not in ("error", "loss"):
            raise UserError(f"metric={metric!r}: must be one of error, loss")
        num_runs = len(columns["params"])
        if num_runs == 0:
            raise UserError(
                "no runs: give at least one point of params, data and value"
            )
        if metric == "error" and np.any(columns["value"] > 1):
            worst = int(np.argmax(columns["value"]))
            raise UserError(
                f"value, row {worst + 1}: {columns['value'][worst]:g} is above 1, so "
                "it is no error rate; give fractions, or say metric=loss"
            )
        compute = np.full(num_runs, math.nan) if compute is None else compute
        compute = np.asarray(compute, np.float64)
        seeds = np.arange(num_runs) if seed is None else np.asarray(seed)
        weights = columns.get("weight", np.ones(num_runs))

        places = [columns["params"], columns["data"]]
        if epochs is not None:
            _check_epochs(columns["epochs"])
            places.append(np.maximum(columns["epochs"], 1.0))
        sizes = np.stack(places, axis=1)
        points, point_of_run = np.unique(sizes, axis=0, return_inverse=True)
        point_of_run = point_of_run.reshape(-1)
        if seed is None:  # the k-th run of each point
            order = np.argsort(point_of_run, kind="stable")
            starts = np.searchsorted(point_of_run[order], np.arange(len(points)))
            seeds = np.empty(num_runs, np.int64)
            seeds[order] = np.arange(num_runs) - starts[point_of_run[order]]
        seed_names, seed_of_run = np.unique(seeds, return_inverse=True)
        seed_values = np.full((len(points), len(seed_names)), math.nan)
        for run in range(num_runs):
            place = point_of_run[run], seed_of_run[run]
            if math.isfinite(seed_values[place]):
                raise UserError(
                    f"seed={seeds[run]}: stands twice at params="
                    f"{columns['params'][run]:g}, data={columns['data'][run]:g}; "
                    "remove one of the rows or number the seeds"
                )
            seed_values[place] = columns["value"][run]

        # Finite seeds exist at every point by construction.
        value_of_point = np.nanmean(seed_values, axis=1)
        if np.any(value_of_point == 0):
            point = points[int(np.argmax(value_of_point == 0))]
            raise UserError(
                f"value: 0 at params={point[0]:g}, data={point[1]:g}, so relative "
                "errors do not exist there; leave that point out"
            )
        return cls(
            params=points[:, 0],
            data=points[:, 1],
            value=value_of_point,
            seed_values=seed_values,
            weight=_mean_by_point(weights, point_of_run, len(points)),
            compute=_mean_by_point(compute, point_of_run, len(points)),
            metric=metric,
            task=task,
            data_unit=data_unit,
            random_guess=random_guess,
            notes=tuple(notes),
            epochs=None if epochs is None else points[:, 2],
        )

    @classmethod
    def from_csv(
        cls,
        path: os.PathLike | str,
        *,
        metric: str | None = None,
        task: str | None = None,
        random_guess: float | None = None,
        data_counts: str | None = None,
    ) -> Self:
        """Reads a CSV with columns params, data, value.

        Optional columns: flops, seed, metric, task, weight, status; epochs,
        unique_data, unique_tokens, which are read if `data_counts` is given. Rows whose
        status is not "ok" are left out and counted in `notes`. Of a workdir's
        measurements.csv the rows that it is a view of are read.

        Args:
            path: the file.
            metric: keeps the rows of this metric; without a metric column it says
                what `value` is (None: error if every value is below 1, else loss).
            task: keeps the rows of this task.
            random_guess: value of a model that has learnt nothing, if known.
            data_counts: what the column data counts, for laws that know of epochs:
                unique (a run saw each of them `epochs` times, as in our tables), seen
                (repeats count; unique_data, unique_tokens or epochs say how many are
                new) or auto: seen where there is a column of unique data, else unique;
                a note says which. None: epochs are not read.

        Raises:
            UserError: names file, row, column and remedy.
        """
        path = epath.Path(path)
        notes: list[str] = []
        if path.name == "measurements.csv" and _has_parts(path):
            table = Table(path)  # which may be ahead of its view
            notes += table.notes
            rows = _parse_csv(path, table.as_csv().decode())
        else:
            rows = _read_csv(path)
        if "status" in rows[0][1]:
            kept = [row for row in rows if row[1]["status"] == "ok"]
            if len(kept) < len(rows):
                left_out = len(rows) - len(kept)
                notes.append(
                    f"{left_out} of {len(rows)} rows have a status other than ok "
                    "and are left out"
                )
            rows = kept
            if not rows:
                raise UserError(
                    f"{path}: no row has status ok, so nothing can be fitted"
                )
        rows = _select(rows, "task", task, path)
        rows = _select_metric(rows, metric, path)
        _check_no_twins(rows, path)

        numbers = {}
        for name in ("params", "data", "value", "weight"):
            if name in rows[0][1]:
                numbers[name] = [_number(path, line, row, name) for line, row in rows]
        compute = None
        if "flops" in rows[0][1]:
            compute = [
                _number(path, line, row, "flops") if row["flops"] else math.nan
                for line, row in rows
            ]
        first = rows[0][1]
        if "metric" in first:
            named = first["metric"]
            if named not in ("error", "loss"):
                above_one = any(value > 1 for value in numbers["value"])
                metric = "loss" if above_one else "error"
                notes.append(f"metric {named!r} is taken for {metric}")
            else:
                metric = named
        elif metric is None:
            metric = "error" if all(v < 1 for v in numbers["value"]) else "loss"
            notes.append(
                f"no metric column: values taken for {metric} "
                f"({'all below 1' if metric == 'error' else 'some at 1 or above'})"
            )
        epochs, unit = None, first.get("data_unit", "") or "examples"
        if data_counts is not None:
            told = _tell_repeats(path, rows, numbers["data"], data_counts)
            numbers["data"], epochs = told.unique, told.epochs
            unit = told.unit or unit
            notes.append(told.note)
        return cls.from_arrays(
            numbers["params"],
            numbers["data"],
            numbers["value"],
            metric=metric,
            random_guess=random_guess,
            seed=np.array([row["seed"] for _, row in rows])
            if "seed" in first
            else None,
            weight=numbers.get("weight"),
            compute=compute,
            task=first.get("task", ""),
            data_unit=unit,
            notes=notes,
            epochs=epochs,
        )

    @classmethod
    def from_measurements(
        cls,
        rows: Iterable[Measurement],
        random_guess: float | None = None,
        with_epochs: bool = False,
    ) -> Self:
        """The surface of a table of runs; runs that did not end well are left out.

        Args:
            rows: of the table, whose data are unique data.
            random_guess: value of a model that has learnt nothing, if known.
            with_epochs: for laws that know of them.
        """
        rows = list(rows)
        good = [row for row in rows if row.status == "ok"]
        if not good:
            raise UserError("the table holds no run with status ok; nothing to fit")
        notes = []
        for row in rows:
            if row.status != "ok":
                notes.append(
                    f"run {row.cell_id} (params={row.params}, data={row.data}, "
                    f"seed={row.seed}) is left out: {row.status}"
                )
        return cls.from_arrays(
            [row.params for row in good],
            [row.data for row in good],
            [row.value for row in good],
            metric=good[0].metric,
            random_guess=random_guess,
            seed=[row.seed for row in good],
            compute=[row.flops for row in good],
            task=good[0].task,
            data_unit=good[0].data_unit,
            notes=notes,
            epochs=[row.epochs for row in good] if with_epochs else None,
        )


def _mean_by_point(
    values: np.ndarray, point_of_run: np.ndarray, num_points: int
) -> np.ndarray:
    sums = np.bincount(point_of_run, values, num_points)
    return sums / np.bincount(point_of_run, minlength=num_points)


def _check_numbers(name: str, numbers: np.ndarray, zero_allowed: bool) -> None:
    bad = ~(np.isfinite(numbers) & (numbers > 0))
    if zero_allowed:
        bad &= numbers != 0
    if np.any(bad):
        row = int(np.argmax(bad))
        raise UserError(
            f"{name}, row {row + 1}: {numbers[row]:g} must be a positive number; "
            "correct or remove that row"
        )


def _check_epochs(epochs: np.ndarray) -> None:
    bad = epochs < 1 - _EPOCHS_SLACK
    if np.any(bad):
        row = int(np.argmax(bad))
        raise UserError(
            f"epochs, row {row + 1}: {epochs[row]:g} must be a number of at least 1, "
            "as a run sees all of its unique data once; count only data seen as unique"
        )


_Row = Mapping[str, str]


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
    path: object, rows: list[tuple[int, _Row]], data: list[float], data_counts: str
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


def _read_csv(path: epath.Path) -> list[tuple[int, _Row]]:
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


def _parse_csv(path: epath.Path, text: str) -> list[tuple[int, _Row]]:
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(lines)]
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
        rows: list[tuple[int, _Row]] = []
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
    rows: list[tuple[int, _Row]], column: str, wanted: str | None, path: object
) -> list[tuple[int, _Row]]:
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
    rows: list[tuple[int, _Row]], metric: str | None, path: object
) -> list[tuple[int, _Row]]:
    """Like `_select`; error and loss also say of what kind a lone metric is."""
    names = {row.get("metric") for _, row in rows}
    if metric in ("error", "loss") and metric not in names and len(names) == 1:
        return [(line, {**row, "metric": metric}) for line, row in rows]
    return _select(rows, "metric", metric, path)


def _check_no_twins(rows: list[tuple[int, _Row]], path: object) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        cells = tuple(row.values())
        if cells in seen:
            raise UserError(
                f"{path}: lines {seen[cells]} and {line} are the same; remove one, or "
                "add a seed column if they are two runs"
            )
        seen[cells] = line


def _number(path: object, line: int, row: _Row, column: str) -> float:
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

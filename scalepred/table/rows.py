"""The table on disk: one row a finished cell, never lost or changed once written."""

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
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from scalepred.config import UserError
from scalepred.runtime.files import (
    Place,
    is_digest,
    list_files,
    remove_abandoned,
    write_whole,
)

# The parts of a table are merged at most so often, and for at most a hundredth of
# the time.
_MERGE_PAUSE_SECONDS = 30.0
_MERGE_PAUSE_RATIO = 100.0
_READ_ATTEMPTS = 5

# The status of a run that was stopped as it could not matter; its row has no value, but
# among its other columns the end of its training loss, forecast with an interval.
STOPPED = "stopped"
FORECAST_COLUMNS = ("forecast_end", "forecast_low", "forecast_high")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One trained cell, one row of measurements.csv. Lower `value` is better.

    `metric` is the first of the task; `others` are all that is known beside it.
    """

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
    metric: str  # that of the three values: the first of the task
    value: float  # on the test part; NaN unless status is ok
    # The same metric on the cell's own training examples, of which as many are looked
    # at as there are test examples.
    train_value: float
    status: str  # ok | diverged | stopped | failed
    seconds: float  # the cell's share of wall time
    device: str
    program: str
    # On the part that rates are chosen by; NaN where there is none.
    validation_value: float = math.nan
    # By column: the other metrics of the task on these three parts, as loss, train_loss
    # and validation_loss, and all of them on further test sets, as NAME_loss; of a run
    # that was stopped `FORECAST_COLUMNS`.
    others: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)

    def read(self, metric: str, part: str = "") -> float:
        """A metric on the test part, or on another: train, validation.

        Args:
            metric: of the task ("error", "loss"), or a column of `others`.
            part: "" for the test part.

        Raises:
            UserError: the row does not have it.
        """
        own = {"": "value", "train": "train_value", "validation": "validation_value"}
        if metric == self.metric and part in own:
            return getattr(self, own[part])
        column = f"{part}_{metric}" if part else metric
        value = self.others.get(column, math.nan)
        # Rows written before there were other metrics have none.
        if math.isnan(value) and not part and self.status == "ok":
            known = ", ".join(
                [self.metric, *(n for n, v in self.others.items() if not math.isnan(v))]
            )
            raise UserError(
                f"metric={metric}: run {self.cell_id} has none; choose one of {known}"
            )
        return value

    def line(self, other_columns: Sequence[str] = ()) -> str:
        """The row as it stands in a table of these further columns."""
        if not other_columns:
            return self._line + "\n"
        cells = (self.others.get(name, math.nan) for name in other_columns)
        return ",".join([self._line, *map(_cell_text, cells)]) + "\n"

    @functools.cached_property
    def _line(self) -> str:
        """The cells that every row has, which are written to more than one file."""
        text = io.StringIO()
        cells = map(_cell_text, _values_of(self))
        csv.writer(text, lineterminator="").writerow(cells)
        return text.getvalue()


COLUMNS = tuple(
    field.name for field in dataclasses.fields(Measurement) if field.name != "others"
)
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
        self._place = Place(self.path.parent)
        self._read()

    def append(self, rows: Sequence[Measurement]) -> None:
        """Writes rows and waits until they are on the disk."""
        if not rows:
            return
        self.check_workdir()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_part([*self._not_in_parts, *rows])
        self._not_in_parts = []
        self._add(rows)
        pause = max(_MERGE_PAUSE_SECONDS, _MERGE_PAUSE_RATIO * self._merge_seconds)
        if time.monotonic() - self._last_merge > pause:
            self.merge()

    def check_workdir(self) -> None:
        """Looks whether the workdir is still where it was, before more is written.

        Raises:
            OSError: it was moved or removed.
        """
        self._place.check()

    def merge(self) -> None:
        """Makes one part of all, and measurements.csv the view of it.

        Another process may do the same: what is removed here stands in the new part.
        """
        began = time.monotonic()
        self.check_workdir()
        old, whole = set(self._parts), set()
        if self.rows:
            self._folder.mkdir(parents=True, exist_ok=True)
            whole = {self._write_part(self._sorted())}
        self._not_in_parts = []
        view = self.as_csv()
        if not self.path.exists() or self.path.read_bytes() != view:
            write_whole(self.path, view)
        for name in old - whole:
            (self._folder / name).unlink(missing_ok=True)
        self._parts = whole
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

    def _add(self, rows: Sequence[Measurement]) -> None:
        """Of a run that was stopped and later trained to its end, the end counts."""
        for row in rows:
            known = self.rows.setdefault(row.cell_id, row)
            if known.status == STOPPED:
                self.rows[row.cell_id] = row

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
        for path in list_files(self._folder, ".csv"):
            if not is_digest(path.stem):
                self.notes.append(
                    f"{path}: not written by scalepred; it is left alone and its rows "
                    "do not count"
                )
        for name, content in sorted(parts.items()):
            if _digest(content) + ".csv" != name:
                self._damaged.add(name)
                self.notes.append(
                    f"{self._folder / name}: damaged since it was written; its runs "
                    "are trained again"
                )
                continue
            self._add(_parse_table(self._folder / name, content.decode()))
            self._parts.add(name)
        if not self.path.exists():
            return
        if parts:
            self._compare_view(self.path.read_bytes())
        else:
            self._read_view()

    def _compare_view(self, view: bytes) -> None:
        """Notes what somebody changed in measurements.csv since it was written.

        As written it has the bytes of the part that was made with it; that it lacks
        rows of later parts then only means that a process was killed before it wrote
        a new one.
        """
        is_first = view == _format_rows([])  # before there was a row
        if is_first or (self._folder / f"{_digest(view)}.csv").exists():
            return
        lines = set(view.splitlines())
        if not lines <= set(self.as_csv().splitlines()):
            self.notes.append(
                f"{self.path}: changed or damaged since it was written; the rows "
                f"in {self._folder} count"
            )
        ids = {line.partition(b",")[0].strip(b'"') for line in lines}
        missing = sum(cell_id.encode() not in ids for cell_id in self.rows)
        if missing:
            self.notes.append(
                f"{missing} row{'s' * (missing > 1)} of {self._folder} "
                f"{'are' if missing > 1 else 'is'} not in {self.path} and "
                f"{'count' if missing > 1 else 'counts'}; to train them again, remove "
                f"their lines and {self._folder} too"
            )

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
            paths = _list_parts(self._folder)
            try:
                with concurrent.futures.ThreadPoolExecutor() as pool:  # for buckets
                    contents = list(pool.map(lambda path: path.read_bytes(), paths))
            except FileNotFoundError:
                if attempt == _READ_ATTEMPTS - 1:
                    raise
                continue
            return dict(zip((path.name for path in paths), contents, strict=True))
        raise AssertionError("not reached")


def has_parts(path: epath.Path) -> bool:
    """Whether a table is the view of parts beside it."""
    return bool(_list_parts(path.parent / "rows"))


def _list_parts(folder: epath.Path) -> list[epath.Path]:
    """Files with the names of parts; others are the user's own."""
    return [path for path in list_files(folder, ".csv") if is_digest(path.stem)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _format_rows(rows: Sequence[Measurement]) -> bytes:
    """A header and a line a row; all columns that any row has."""
    others = tuple(dict.fromkeys(name for row in rows for name in row.others))
    header = ",".join([*COLUMNS, *others]) + "\n"
    return (header + "".join(row.line(others) for row in rows)).encode()


def _parse_table(path: epath.Path, text: str) -> list[Measurement]:
    lines = csv.reader(io.StringIO(text))
    header = tuple(next(lines, ()))
    # Tables written before there was a validation part lack that column, and those
    # before rows had every metric the ones after it.
    is_ours = header[: len(COLUMNS)] == COLUMNS or header == COLUMNS[:-1]
    if header and not is_ours:
        raise UserError(
            f"{path}: its columns are not those of a table of runs; "
            "choose another --workdir, or move the file away"
        )
    rows = []
    for number, cells in enumerate(lines, start=2):
        try:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells, not {len(header)}")
            rows.append(_parse_row(cells, header[len(COLUMNS) :]))
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


def _parse_row(cells: Sequence[str], other_columns: Sequence[str]) -> Measurement:
    values: dict[str, Any] = {}
    fixed = cells[: len(COLUMNS)]
    # The last column may be missing and has a default.
    for field, text in zip(dataclasses.fields(Measurement), fixed, strict=False):
        if field.type is float:
            values[field.name] = float(text) if text else math.nan
        elif field.type is int:
            values[field.name] = int(text)
        else:
            values[field.name] = text
    others = zip(other_columns, cells[len(COLUMNS) :], strict=True)
    values["others"] = {
        name: float(text) if text else math.nan
        for name, text in others
        if text or name not in FORECAST_COLUMNS  # which only stopped runs have
    }
    return Measurement(**values)

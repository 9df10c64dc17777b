"""The surface between the two halves: points (params, data, value) to be fitted.

A point is a mean over its seeds. `fitting/` reads nothing else of a table.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from scalepred.config import UserError
from scalepred.metrics import find_unit, is_bounded
from scalepred.runtime.files import open_path
from scalepred.table import numbers
from scalepred.table.columns import Asked, tell
from scalepred.table.left_out import NOTHING, LeftOut, Run, describe
from scalepred.table.meaning import Conversion
from scalepred.table.points import Numbers, average, check_flops, check_runs
from scalepred.table.readers import files
from scalepred.table.readers import frame as frame_reader
from scalepred.table.rows import Measurement

# Data of which one stands for many tokens or examples, so that 6 m n are no FLOPs.
_MANY_IN_ONE = ("steps", "epochs", "hours", "sequences", "sentences", "documents")


@dataclasses.dataclass(frozen=True, repr=False)
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
        metric: "error" and NAME_error are bounded by 1, "loss" and others are not.
        task: what was learnt; for titles.
        data_unit: what n counts.
        random_guess: value of a model that has learnt nothing; None: unknown.
        notes: choices made while reading (rows left out and why), to be printed.
        epochs: passes over the data of each point, at least 1; `data` are then unique
            data. None: not asked for, and `data` is whatever it is [points].
        seeds: see `table.points.Points`; None: each column of `seed_values` is a seed.
        left_out: runs of the table that did not end well, if any.
        conversion: what was done to the values of the table; None: nothing.
        seed_names: see `table.points.Points`.
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
    seeds: np.ndarray | None = None
    left_out: LeftOut = NOTHING
    conversion: Conversion | None = None
    seed_names: tuple[str, ...] | None = None

    @property
    def seen(self) -> np.ndarray:
        """Data that a run of each point went through, repeats included [points]."""
        return self.data if self.epochs is None else self.data * self.epochs

    @property
    def work(self) -> np.ndarray:
        """Model size times data seen: what compute goes with [points]."""
        return self.params * self.seen

    @property
    def why_no_costs(self) -> str:
        """Why 6 m n are no FLOPs, and no others are there; "" where they are known."""
        if self.data_unit not in _MANY_IN_ONE or np.any(np.isfinite(self.compute)):
            return ""
        return f"data are {self.data_unit}, and what one costs is not known"

    @property
    def highest(self) -> float:
        """That a value can be."""
        return 1.0 if is_bounded(self.metric) else math.inf

    @property
    def num_seeds(self) -> np.ndarray:
        """Runs behind each point [points]."""
        return np.sum(np.isfinite(self.seed_values), axis=1)

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        def ends(name: str, write: Callable[[float], str] = numbers.write) -> str:
            sizes = getattr(self, name)
            return f"{name} {write(np.min(sizes))} to {write(np.max(sizes))}"

        said = [ends("params"), ends("data"), ends("value", numbers.write_value)]
        if self.epochs is not None:
            said.append(ends("epochs"))
        of = f" of {self.task}" if self.task else ""
        return (
            f"Surface({self.metric}{of}, {len(self)} points from "
            f"{int(self.num_seeds.sum())} runs:\n    {', '.join(said)}; data are "
            f"{self.data_unit})"
        )

    def where(self, mask: np.ndarray) -> Self:
        """The points at which `mask` [points] is true."""
        arrays = ["params", "data", "value", "seed_values", "weight", "compute"]
        arrays += [
            name for name in ("epochs", "seeds") if getattr(self, name) is not None
        ]
        kept = {name: getattr(self, name)[mask] for name in arrays}
        return dataclasses.replace(self, **kept)

    @classmethod
    def from_arrays(
        cls,
        params: Numbers,
        data: Numbers,
        value: Numbers,
        *,
        metric: str = "error",
        random_guess: float | None = None,
        seed: Sequence[int] | np.ndarray | None = None,
        weight: Numbers | None = None,
        compute: Numbers | None = None,
        task: str = "",
        data_unit: str = "examples",
        notes: Sequence[str] = (),
        epochs: Numbers | None = None,
    ) -> Self:
        """A surface from runs: rows of the same sizes, and epochs, are seeds of one.

        Args:
            params: model sizes, above 0 [runs].
            data: data sizes, above 0 [runs].
            value: error or loss, above 0, lower is better [runs].
            metric: "error" (at most 1) or "loss", or NAME_error or NAME_loss.
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
        given = {"params": params, "data": data, "value": value}
        runs = check_runs({**given, "weight": weight, "epochs": epochs}, metric)
        points = average(runs, None if seed is None else np.asarray(seed))
        num_runs = len(runs["value"])
        compute = np.full(num_runs, math.nan) if compute is None else compute
        check_flops(np.asarray(compute, np.float64))
        return cls(
            params=points.sizes[:, 0],
            data=points.sizes[:, 1],
            value=points.value,
            seed_values=points.seed_values,
            weight=points.mean(runs.get("weight", np.ones(num_runs))),
            compute=points.mean(np.asarray(compute, np.float64)),
            metric=metric,
            task=task,
            data_unit=data_unit,
            random_guess=random_guess,
            notes=tuple(notes),
            epochs=None if epochs is None else points.sizes[:, 2],
            seeds=points.seeds,
            seed_names=points.seed_names,
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
        columns: Mapping[str, str] | None = None,
        decimal: str = "",
        where: Sequence[str] = (),
    ) -> Self:
        """Reads a table with columns params, data, value, or of the usual names.

        It may be a CSV of any dialect, JSON, JSON lines or parquet. Optional columns:
        flops, seed, metric, task, weight, status, validation_value; epochs,
        unique_data, unique_tokens, which are read if `data_counts` is given. Runs
        without a value or that did not end well are left out and counted; of runs that
        differ in a rate or another setting the best of each size count. `notes` say
        all that was guessed. Of a workdir's measurements.csv the rows that it is a view
        of are read.

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
                a note says which. if_told: auto, where the table says how often data
                were seen and that is a third size, no function of the two others.
                None: epochs are no size, and of runs that differ in them the best
                of each size count.
            columns: by our name, what the table calls it.
            decimal: "." or ","; "": as the numbers show.
            where: COLUMN=VALUE, which rows must have.

        Raises:
            UserError: names file, row, column and remedy.
        """
        path = open_path("measurements", path)
        try:
            raw = files.read(path)
        except OSError as error:
            raise UserError(
                f"measurements={path}: cannot be read ({error.strerror}); give a file "
                "that can"
            ) from None
        asked = Asked(metric, task, data_counts, columns or {}, decimal, where)
        return cls._of_task(
            random_guess=random_guess, **tell(raw, path, asked)._asdict()
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        metric: str | None = None,
        task: str | None = None,
        random_guess: float | None = None,
        data_counts: str | None = None,
        columns: Mapping[str, str] | None = None,
        where: Sequence[str] = (),
    ) -> Self:
        """Reads a DataFrame, or a mapping of columns, by the rules of `from_csv`.

        Args:
            frame: of pandas or polars, or anything else that gives columns by name.
            metric: see `from_csv`, as the others.
            task: likewise.
            random_guess: likewise.
            data_counts: likewise.
            columns: likewise.
            where: likewise.

        Raises:
            UserError: names row, column and remedy.
        """
        asked = Asked(metric, task, data_counts, columns or {}, ".", where)
        found = tell(frame_reader.parse(frame), "the table", asked)
        return cls._of_task(random_guess=random_guess, **found._asdict())

    @classmethod
    def from_measurements(
        cls,
        rows: Iterable[Measurement],
        random_guess: float | None = None,
        with_epochs: bool = False,
        metric: str | None = None,
    ) -> Self:
        """The surface of a table of runs; runs that did not end well are left out.

        Args:
            rows: of the table, whose data are unique data.
            random_guess: value of a model that has learnt nothing, if known.
            with_epochs: for laws that know of them.
            metric: of the rows' task; None: its first.

        Raises:
            UserError: no run ended well, or one has no such metric.
        """
        rows = list(rows)
        good = [row for row in rows if row.status == "ok"]
        if not good:
            raise UserError("the table holds no run with status ok; nothing to fit")
        metric = metric or good[0].metric
        runs = [Run(row.params, row.data, row.status) for row in rows]
        return cls._of_task(
            params=[row.params for row in good],
            data=[row.data for row in good],
            value=[row.read(metric) for row in good],
            metric=metric,
            random_guess=random_guess,
            seed=[row.seed for row in good],
            compute=[row.flops for row in good],
            task=good[0].task,
            data_unit=good[0].data_unit,
            left_out=describe(runs),
            epochs=[row.epochs for row in good] if with_epochs else None,
        )

    @classmethod
    def _of_task(
        cls,
        metric: str,
        left_out: LeftOut,
        random_guess: float | None,
        conversion: Conversion | None = None,
        **columns: Any,
    ) -> Self:
        """A surface of a metric that may be a task's own: lower is better, no bound.

        Few runs that are left out are worth a note; of many a fit warns.
        """
        kind = metric if find_unit(metric) else "loss"
        if conversion is not None and random_guess is not None:
            random_guess = conversion.apply_wanted(random_guess)
        surface = cls.from_arrays(metric=kind, random_guess=random_guess, **columns)
        few = () if left_out.is_many or not left_out.sentence else (left_out.sentence,)
        notes = (*surface.notes, *few)
        return dataclasses.replace(
            surface,
            metric=metric,
            notes=notes,
            left_out=left_out,
            conversion=conversion,
        )

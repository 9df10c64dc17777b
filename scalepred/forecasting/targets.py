"""Which cells of a study are evidence, and what is to be forecast from them."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from scalepred import grid, sweep
from scalepred.config import Experiment
from scalepred.data.dataset import Dataset
from scalepred.fitting.cost import Cost
from scalepred.fitting.estimate import knows_epochs
from scalepred.fitting.region import Sizes, check_target, fit_region
from scalepred.forecasting.forecast import Asked, Evidence
from scalepred.grid import Cell
from scalepred.runtime.files import digest
from scalepred.table.rows import Measurement, Table
from scalepred.table.surface import Surface
from scalepred.training.work import count_flops, count_params

# Of a row, what says nothing of the run: another machine's table is the same evidence.
_OF_THE_MACHINE = ("seconds", "device", "program")


class Parts(NamedTuple):
    """The cells of a study.

    Attributes:
        evidence: the fit region of the grid, which the law is fitted to.
        held_out: the rest of the grid.
        targets: cells beyond, or in, the rest of the grid; none of the evidence.
    """

    evidence: list[Cell]
    held_out: list[Cell]
    targets: list[Cell]

    @property
    def to_verify(self) -> list[Cell]:
        """What is trained after the forecast, each cell once."""
        return list(dict.fromkeys([*self.held_out, *self.targets]))


class Study(NamedTuple):
    """What every stage works on.

    Attributes:
        experiment: the config.
        dataset: what it names.
        parts: the cells: evidence, the rest of the grid, targets.
        workdir: where everything is kept.
        table: the rows; None in all processes but the first.
    """

    experiment: Experiment
    dataset: Dataset
    parts: Parts
    workdir: epath.Path
    table: Table | None

    @property
    def metric(self) -> str:
        """What is fitted of the rows: as the config says, or the first of the task."""
        return self.experiment.metric or next(iter(self.dataset.task.metrics))

    @property
    def rows(self) -> dict[str, Measurement]:
        """By cell id; none in all processes but the first."""
        return self.table.rows if self.table else {}


class Size(NamedTuple):
    """What a cell is to the law."""

    params: int
    data: int
    epochs: float

    @staticmethod
    def of(cell: Cell, dataset: Dataset) -> "Size":
        data = cell.dataset_size * dataset.units_per_example
        return Size(count_params(cell, dataset), data, cell.epochs)


def split_cells(experiment: Experiment, dataset: Dataset) -> Parts:
    """Cuts the grid into evidence and the rest, by size alone: nothing is trained yet.

    Raises:
        UserError: the fit region is empty, or a target lies inside it.
    """
    cells = grid.make_cells(experiment, dataset)
    sizes = [Size.of(cell, dataset) for cell in cells]
    params, data, epochs = np.array(sizes, float).T
    with_epochs = knows_epochs(experiment.fit.law)
    work = params * data * (epochs if with_epochs else 1.0)
    settings = experiment.fit
    in_fit = fit_region(
        Sizes(params, data, work),
        max_params=params.max() / settings.max_params_ratio,
        max_data=data.max() / settings.max_data_ratio,
        max_compute=work.max() / (settings.max_compute_ratio or 1.0),
    )
    targets = grid.make_target_cells(experiment, dataset)
    asked = experiment.targets
    plain = list(zip(asked.params, asked.data, strict=True))
    times = asked.epochs or (None,) * len(plain)
    named = [
        (size.params, size.data, size.epochs if with_epochs else None)
        for size in (Size.of(cell, dataset) for cell in targets)
    ]
    for size in (*named, *((*p, t) for p, t in zip(plain, times, strict=True))):
        known = epochs[in_fit] if with_epochs else None
        check_target(*size, params[in_fit], data[in_fit], known)
    pairs = list(zip(cells, in_fit, strict=True))
    return Parts(
        [cell for cell, is_fitted in pairs if is_fitted],
        [cell for cell, is_fitted in pairs if not is_fitted],
        targets,
    )


def ask(study: Study) -> dict[Asked, list[Cell]]:
    """What is to be forecast, with its cells: the targets, then the grid's rest."""
    dataset, parts = study.dataset, study.parts
    with_epochs = knows_epochs(study.experiment.fit.law)
    kinds: dict[tuple[float, float, float | None], str] = {}
    runs: dict[tuple[float, float, float | None], list[Cell]] = {}
    for kind, cells in (("target", parts.targets), ("held_out", parts.held_out)):
        for cell in cells:
            size = Size.of(cell, dataset)
            place = size.params, size.data, size.epochs if with_epochs else None
            if kinds.setdefault(place, kind) == kind:
                runs.setdefault(place, []).append(cell)
    found = {}
    for place, own in runs.items():
        asked = Asked(
            name=f"width {own[0].width}, depth {own[0].depth}",
            kind=kinds[place],
            params=float(place[0]),
            data=float(place[1]),
            epochs=place[2],
            flops=count_flops(own[0], dataset),
            num_seeds=len({cell.seed for cell in own}),
            num_measured=sum(cell.cell_id in study.rows for cell in own),
        )
        found[asked] = own
    return found


def ask_plain(experiment: Experiment, cost: Cost) -> list[Asked]:
    """The plain sizes of the targets, at what their FLOPs are by the cost of the table.

    Args:
        experiment: the study.
        cost: what FLOPs buy.
    """
    targets = experiment.targets
    times = targets.epochs or (None,) * len(targets.data)
    sizes = zip(targets.params, targets.data, times, strict=True)
    return [
        Asked("", "plain", m, n, epochs, float(cost.flops(m, n * (epochs or 1.0))))
        for m, n, epochs in sizes
    ]


def make_surface(study: Study, cells: Sequence[Cell]) -> Surface:
    """The points of these cells; where rates are swept, of the best of them."""
    experiment = study.experiment
    chosen, choices = sweep.choose(cells, study.rows, study.metric)
    random_guess: float | None = experiment.fit.random_guess
    if random_guess is not None and random_guess < 0:
        random_guess = study.dataset.random_guess(study.metric)
    surface = Surface.from_measurements(
        chosen,
        random_guess or None,
        knows_epochs(experiment.fit.law),
        metric=study.metric,
    )
    if not grid.is_sweep(experiment):
        return surface
    notes = (*surface.notes, *sweep.describe(choices))
    return dataclasses.replace(surface, notes=notes)


def weigh_evidence(rows: Sequence[Measurement]) -> Evidence:
    """What was spent, and a digest of the rows, whatever machine they come from."""
    lines = sorted(
        str([value for name, value in vars(row).items() if _is_of_the_run(name, value)])
        for row in rows
    )
    return Evidence(
        num_runs=len(rows),
        num_failed=sum(row.status != "ok" for row in rows),
        flops=sum(row.flops for row in rows),
        seconds=sum(row.seconds for row in rows),
        rows=digest(lines),
        runs=tuple(sorted(row.cell_id for row in rows)),
    )


def _is_of_the_run(name: str, value: object) -> bool:
    # A row keeps its line in its own dict once it was written, and rows of tables that
    # have no other metrics have the digest they had before there were any.
    return name not in (*_OF_THE_MACHINE, "_line") and (name != "others" or bool(value))

"""What a study is made of: its data, its cells, and which of them are evidence.

The cells are split by size alone, before anything is trained.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from scalepred import grid
from scalepred.config import Experiment
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset
from scalepred.fitting.estimate import knows_epochs
from scalepred.fitting.region import Sizes, check_target, fit_region
from scalepred.forecasting import recipes
from scalepred.grid import Cell
from scalepred.pairs import pair
from scalepred.table.rows import Measurement, Table
from scalepred.training.work import count_params


class Size(NamedTuple):
    """What a cell is to the law."""

    params: int
    data: int
    epochs: float

    @staticmethod
    def of(cell: Cell, dataset: Dataset) -> "Size":
        data = cell.dataset_size * dataset.units_per_example
        return Size(count_params(cell, dataset), data, cell.epochs)


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
        """All that is no evidence, each cell once."""
        return list(dict.fromkeys([*self.held_out, *self.targets]))

    def after_forecast(self, with_targets: bool) -> list[Cell]:
        """What is trained then: the rest of the grid, or the targets too."""
        return self.to_verify if with_targets else self.held_out

    def pair(self, baseline: "Parts") -> "Parts":
        """The same cells, paired with those of the arm that they are compared with."""
        grid_cells = [*self.evidence, *self.held_out]
        paired = pair(grid_cells, [*baseline.evidence, *baseline.held_out])
        count = len(self.evidence)
        targets = pair(self.targets, baseline.targets)
        return Parts(paired[:count], paired[count:], targets)


class TargetRates(NamedTuple):
    """Rates that the evidence chose for the targets.

    Attributes:
        of_cells: learning rate and weight decay of each target cell, in their order.
        notes: sentences on what was taken and why.
        said: of each cell, by rate, what a forecast keeps of the choice; empty where
            nothing was swept.
        regrets: of each cell draws of ln value at its rates over that at the best ones
            [draws]; empty where no law of them is known.
    """

    of_cells: list[tuple[float, float]]
    notes: tuple[str, ...] = ()
    said: Sequence[dict[str, Any]] = ()
    regrets: Sequence[np.ndarray] = ()


class Study(NamedTuple):
    """What every stage works on.

    Attributes:
        experiment: the config.
        dataset: what it names.
        parts: the cells: evidence, the rest of the grid, targets.
        workdir: where everything is kept.
        table: the rows; None in all processes but the first, and before it is opened.
        arm: its name, where the study is one of several arms.
        baseline: cells of the arm that it is compared with, itself perhaps.
        rates: of the targets, once the evidence has chosen them.
    """

    experiment: Experiment
    dataset: Dataset
    parts: Parts
    workdir: epath.Path
    table: Table | None = None
    arm: str = ""
    baseline: Parts | None = None
    rates: TargetRates | None = None

    @property
    def title(self) -> str:
        """For people."""
        name = self.experiment.name
        return f"{name}: {self.arm}" if self.arm else name

    @property
    def metric(self) -> str:
        """What is fitted of the rows: as the config says, or the first of the task."""
        return self.experiment.metric or next(iter(self.dataset.task.metrics))

    @property
    def rows(self) -> dict[str, Measurement]:
        """By cell id; none where there is no table."""
        return self.table.rows if self.table else {}

    @property
    def knows_epochs(self) -> bool:
        """Whether the law is told how often the data were seen."""
        return knows_epochs(self.experiment.fit.law)

    @property
    def is_sweep(self) -> bool:
        """Whether every cell is trained with several rates."""
        return grid.is_sweep(self.experiment)

    def size_of(self, cell: Cell) -> Size:
        """What a cell is to the law."""
        return Size.of(cell, self.dataset)

    @property
    def largest(self) -> tuple[float, float]:
        """The largest (params, data) of the grid."""
        cells = self.parts.evidence + self.parts.held_out
        params, data, _ = zip(*map(self.size_of, cells), strict=True)
        return float(max(params)), float(max(data))

    def describe_recipe(self) -> tuple[list[str], list[str]]:
        """What its runs take from `training.recipe`, and warnings of it."""
        cells = [*self.parts.evidence, *self.parts.to_verify]
        sizes = [self.size_of(cell)[:2] for cell in cells]
        training, unit = self.experiment.training, self.dataset.unit
        return recipes.describe(training, cells, sizes, unit)

    def are_done(self, cells: Sequence[Cell]) -> bool:
        """Whether each of them has a row."""
        return all(cell.cell_id in self.rows for cell in cells)

    def with_rates(self, rates: TargetRates) -> "Study":
        """The same, its targets with these rates."""
        cells = [
            dataclasses.replace(cell, learning_rate=rate, weight_decay=decay)
            for cell, (rate, decay) in zip(
                self.parts.targets, rates.of_cells, strict=True
            )
        ]
        if self.baseline:
            cells = pair(cells, self.baseline.targets)
        parts = self.parts._replace(targets=cells)
        return self._replace(parts=parts, rates=rates)


def prepare(
    experiment: Experiment, workdir: epath.Path, outline: bool = False
) -> Study:
    """Loads the data and splits the cells; touches nothing.

    Args:
        experiment: the study.
        workdir: where everything will be kept.
        outline: the shapes of the data will do.

    Raises:
        UserError: the fit region is empty, or a target lies inside it.
    """
    experiment = recipes.follow(experiment)
    dataset = load_dataset(experiment.dataset, outline=outline)
    return Study(experiment, dataset, split_cells(experiment, dataset), workdir)


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
    known = epochs[in_fit] if with_epochs else None
    asked = experiment.targets
    times = asked.epochs or (None,) * len(asked.params)
    for cell in targets:
        m, n, passes = Size.of(cell, dataset)
        passes = passes if with_epochs else None
        check_target(m, n, passes, params[in_fit], data[in_fit], known)
    for m, n, passes in zip(asked.params, asked.data, times, strict=True):
        check_target(m, n, passes, params[in_fit], data[in_fit], known)
    pairs = list(zip(cells, in_fit, strict=True))
    return Parts(
        [cell for cell, is_fitted in pairs if is_fitted],
        [cell for cell, is_fitted in pairs if not is_fitted],
        targets,
    )

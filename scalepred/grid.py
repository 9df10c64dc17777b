"""The cells of a study, their ids, and what of a cell a compiled program depends on.

Static or traced is decided here, once: what changes shapes or code stands in the
`ProgramKey`, one compile each; everything else is a number handed to the lane.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from typing import NamedTuple

from scalepred.config import Experiment, UserError
from scalepred.data.dataset import Dataset


class ProgramKey(NamedTuple):
    """What changes the shapes or the code of a training program."""

    dataset: str
    family: str
    width: int
    depth: int
    batch_size: int
    optimizer: str
    nesterov: bool
    schedule: str

    def __str__(self) -> str:
        optimizer = self.optimizer + ("-nesterov" if self.nesterov else "")
        return (
            f"{self.dataset}/{self.family}/width{self.width}/depth{self.depth}"
            f"/batch{self.batch_size}/{optimizer}/{self.schedule}"
        )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: everything that determines its outcome."""

    dataset: str
    family: str
    metric: str
    width: int
    depth: int
    dataset_size: int  # n, examples
    seed: int
    steps: int
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    schedule: str
    warmup_fraction: float

    @functools.cached_property
    def cell_id(self) -> str:
        """12 hex digits of all fields: stays when the grid grows around the cell."""
        return _hash(dataclasses.asdict(self))[:12]

    @functools.cached_property
    def random_words(self) -> tuple[int, int]:
        """Two 32-bit words that seed the run, whatever lane or pack it is put in.

        The metric is left out: what is read off a run does not change the run.
        """
        fields = dataclasses.asdict(self)
        del fields["metric"]
        digits = _hash(fields)
        return int(digits[:8], 16), int(digits[8:16], 16)

    @property
    def epochs(self) -> float:
        """Times each training example is seen, on average."""
        return self.steps * self.batch_size / self.dataset_size

    @property
    def program_key(self) -> ProgramKey:
        """The program that can train this cell."""
        return ProgramKey(
            dataset=self.dataset,
            family=self.family,
            width=self.width,
            depth=self.depth,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            nesterov=self.nesterov,
            schedule=self.schedule,
        )


def make_cells(experiment: Experiment, dataset: Dataset) -> list[Cell]:
    """The cells of the grid: depths, widths, sizes, seeds, the last the fastest.

    Raises:
        UserError: two data fractions give the same n.
    """
    grid, training = experiment.grid, experiment.training
    sizes: dict[int, float] = {}
    for fraction in grid.data_fractions:
        size = dataset.round_size(fraction)
        if size in sizes:
            raise UserError(
                f"grid.data_fractions={grid.data_fractions}: {sizes[size]} and "
                f"{fraction} of {dataset.num_train} both give n = {size}; drop one"
            )
        sizes[size] = fraction

    axes = (grid.depths, grid.widths, sizes, range(grid.seeds))
    return [
        Cell(
            dataset=dataset.name,
            family=experiment.family,
            metric=experiment.metric,
            width=int(width),
            depth=int(depth),
            dataset_size=size,
            seed=seed,
            steps=_num_steps(
                training.epochs, training.steps, size, training.batch_size
            ),
            batch_size=int(training.batch_size),
            optimizer=training.optimizer,
            learning_rate=float(training.learning_rate),
            momentum=float(training.momentum),
            nesterov=bool(training.nesterov),
            weight_decay=float(training.weight_decay),
            schedule=training.schedule,
            warmup_fraction=float(training.warmup_fraction),
        )
        for depth, width, size, seed in itertools.product(*axes)
    ]


def _num_steps(epochs: float, steps: int, size: int, batch_size: int) -> int:
    if epochs > 0:
        return math.ceil(epochs * size / batch_size)
    return int(steps)


def _hash(fields: dict[str, object]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

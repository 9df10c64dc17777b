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
from collections.abc import Sequence
from typing import Any, NamedTuple

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
    # Words for what only some programs do: clip, smooth, average, micro, crop,
    # crop_flip, fast, bfloat16.
    extras: tuple[str, ...] = ()

    def __str__(self) -> str:
        optimizer = self.optimizer + ("-nesterov" if self.nesterov else "")
        return (
            f"{self.dataset}/{self.family}/width{self.width}/depth{self.depth}"
            f"/batch{self.batch_size}/{optimizer}/{self.schedule}"
            + "".join(f"/{extra}" for extra in self.extras)
        )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: everything that determines its outcome.

    A field that has a default is part of the id only where it differs from it: so
    fields can be added and the ids in everybody's tables stay.
    """

    dataset: str
    family: str
    metric: str
    width: int
    depth: int
    dataset_size: int  # examples; n is this times the dataset's units an example
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
    beta2: float = 0.999
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    decay_points: tuple[float, ...] = ()  # step only
    decay_factor: float = 0.1  # step only
    cooldown_fraction: float = 0.2  # wsd only
    average_fraction: float = 0.0
    micro_batch_size: int = 0  # 0: the whole batch
    augment: str = "none"
    precision: str = "float32"
    # Examples at the end of the train part that rates are chosen by.
    validation_size: int = 0

    @functools.cached_property
    def cell_id(self) -> str:
        """12 hex digits of all fields: stays when the grid grows around the cell."""
        return _hash(self._fields())[:12]

    @functools.cached_property
    def random_words(self) -> tuple[int, int]:
        """Two 32-bit words that seed the run, whatever lane or pack it is put in.

        The metric is left out: what is read off a run does not change the run.
        """
        fields = self._fields()
        del fields["metric"]
        digits = _hash(fields)
        return int(digits[:8], 16), int(digits[8:16], 16)

    def _fields(self) -> dict[str, Any]:
        """Fields without those that have their default."""
        values = vars(self)
        return {
            name: values[name]
            for name, default in _DEFAULTS.items()
            if values[name] != default
        }

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
            batch_size=self.micro_batch_size or self.batch_size,
            optimizer=self.optimizer,
            nesterov=self.nesterov,
            schedule=self.schedule,
            extras=self._extras,
        )

    @functools.cached_property
    def _extras(self) -> tuple[str, ...]:
        asked = {
            "clip": self.clip_norm > 0,
            "smooth": self.label_smoothing > 0,
            "average": self.average_fraction > 0,
            "micro": self.micro_batch_size > 0,
            self.augment: self.augment != "none",
            self.precision: self.precision != "float32",
        }
        return tuple(word for word, is_asked in asked.items() if is_asked)


_CELL_FIELDS = dataclasses.fields(Cell)
_DEFAULTS = {field.name: field.default for field in _CELL_FIELDS}


def make_cells(experiment: Experiment, dataset: Dataset) -> list[Cell]:
    """The cells of the grid: depths, widths, sizes, rates, seeds, the last the fastest.

    Raises:
        UserError: two data fractions give the same n, or nothing is left to train on.
    """
    grid, training = experiment.grid, experiment.training
    return _cross(
        experiment,
        dataset,
        grid.depths,
        grid.widths,
        _find_sizes(experiment, dataset, "grid.data_fractions", grid.data_fractions),
        grid.learning_rates or (training.learning_rate,),
        grid.weight_decays or (training.weight_decay,),
        grid.seeds,
    )


def make_target_cells(
    experiment: Experiment, dataset: Dataset, rates: tuple[float, float] | None = None
) -> list[Cell]:
    """The cells of `targets`, in the same order; none where it names no width.

    Args:
        experiment: the study.
        dataset: what it names.
        rates: learning rate and weight decay that the evidence chose; None: those of
            `training`.

    Raises:
        UserError: two data fractions give the same n.
    """
    targets, training = experiment.targets, experiment.training
    if not targets.widths:
        return []
    rate, decay = rates or (training.learning_rate, training.weight_decay)
    return _cross(
        experiment,
        dataset,
        targets.depths or experiment.grid.depths,
        targets.widths,
        _find_sizes(
            experiment, dataset, "targets.data_fractions", targets.data_fractions
        ),
        (targets.learning_rate or rate,),
        (decay if targets.weight_decay < 0 else targets.weight_decay,),
        targets.seeds,
    )


def _validation_size(experiment: Experiment, dataset: Dataset) -> int:
    if not is_sweep(experiment):
        return 0
    return dataset.round_size(experiment.grid.validation_fraction)


def _find_sizes(
    experiment: Experiment, dataset: Dataset, field: str, fractions: Sequence[float]
) -> list[int]:
    """Examples of each data fraction."""
    num_train = dataset.num_train - _validation_size(experiment, dataset)
    if num_train < 1:
        raise UserError(
            f"grid.validation_fraction={experiment.grid.validation_fraction}: leaves "
            f"none of {dataset.num_train} examples to train on; lower it"
        )
    sizes: dict[int, float] = {}
    for fraction in fractions:
        size = dataset.round_size(fraction * num_train / dataset.num_train)
        size = min(size, num_train)
        if size in sizes:
            raise UserError(
                f"{field}={fractions}: {sizes[size]} and {fraction} of {num_train} "
                f"both give n = {size}; drop one"
            )
        sizes[size] = fraction
    return list(sizes)


def _cross(
    experiment: Experiment,
    dataset: Dataset,
    depths: Sequence[int],
    widths: Sequence[int],
    sizes: Sequence[int],
    learning_rates: Sequence[float],
    weight_decays: Sequence[float],
    seeds: int,
) -> list[Cell]:
    """Every one of these with every other."""
    training = experiment.training
    # What of the settings a cell has under the same name.
    names = {field.name for field in _CELL_FIELDS}
    settings = {
        field.name: _exactly(getattr(training, field.name), field.type)
        for field in dataclasses.fields(training)
        if field.name in names
    }
    if training.schedule != "step":
        settings["decay_points"] = ()
    axes = depths, widths, sizes, learning_rates, weight_decays, range(seeds)
    return [
        Cell(
            **settings
            | {
                "dataset": dataset.name,
                "family": experiment.family,
                "metric": experiment.metric,
                "width": int(width),
                "depth": int(depth),
                "dataset_size": size,
                "seed": seed,
                "learning_rate": float(rate),
                "weight_decay": float(decay),
                "validation_size": _validation_size(experiment, dataset),
                "steps": _num_steps(
                    training.epochs, training.steps, size, training.batch_size
                ),
            }
        )
        for depth, width, size, rate, decay, seed in itertools.product(*axes)
    ]


def is_sweep(experiment: Experiment) -> bool:
    """Whether there are rates to choose from."""
    grid = experiment.grid
    return max(len(grid.learning_rates), len(grid.weight_decays)) > 1


def _exactly(value: Any, kind: Any) -> Any:
    """1 and 1.0 are one setting and must have one id."""
    if kind == tuple[float, ...]:
        return tuple(float(item) for item in value)
    return kind(value)


def _num_steps(epochs: float, steps: int, size: int, batch_size: int) -> int:
    if epochs > 0:
        return math.ceil(epochs * size / batch_size)
    return int(steps)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_ENCODER.encode(fields).encode()).hexdigest()

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
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from scalepred.config import Experiment, UserError
from scalepred.data.dataset import Dataset
from scalepred.models.model import build_for, find_family
from scalepred.recipe import Recipe, check_branches, find_recipe


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
    # Words for what only some programs do: clip, smooth, average, micro, branch, crop,
    # crop_flip, fast, bfloat16.
    extras: tuple[str, ...] = ()

    def __str__(self) -> str:
        optimizer = self.optimizer + ("-nesterov" if self.nesterov else "")
        return (
            f"{self.dataset}/{self.family}/width{self.width}/depth{self.depth}"
            f"/batch{self.batch_size}/{optimizer}/{self.schedule}"
            + "".join(f"/{extra}" for extra in self.extras)
        )


_OF_PROGRAM = re.compile(
    r"(?P<family>[^/]*)/width\d+/depth\d+/batch\d+/(?P<optimizer>[^/]+)"
    r"/(?P<schedule>[^/]+)"
)


def read_programs(programs: Iterable[str]) -> dict[str, list[str]]:
    """Families, optimizers and schedules of programs by their names, as rows have them.

    Names of another form say nothing, and then there are none.
    """
    found = [match for name in programs if (match := _OF_PROGRAM.search(name))]
    kinds = _OF_PROGRAM.groupindex if found else ()
    return {kind: sorted({match[kind] for match in found}) for kind in kinds}


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
    # Random words of the run that this one is compared with, in 16 hex digits: both
    # have one start, where shapes allow, and one order of batches. "": its own.
    pair: str = ""
    # Whether it branches off a trunk: an epoch in an order of the data that is the same
    # for all lengths, so that its steps before the cooldown are a longer branch's.
    branch: bool = False

    @functools.cached_property
    def cell_id(self) -> str:
        """12 hex digits of all fields: stays when the grid grows around the cell."""
        return _hash(self._fields())[:12]

    @functools.cached_property
    def random_words(self) -> tuple[int, int]:
        """Two 32-bit words that seed the run, whatever lane or pack it is put in.

        The metric, the first of the task, is left out: what is read off a run does not
        change the run. Branches of one trunk have the same words.
        """
        fields = self._fields_of_trunk() if self.branch else self._fields()
        del fields["metric"]
        digits = self.pair or _hash(fields)
        return int(digits[:8], 16), int(digits[8:16], 16)

    @property
    def order_key(self) -> int:
        """Names the order of the examples: the seed, or below 0 that of branches."""
        return ~self.seed if self.branch else self.seed

    @functools.cached_property
    def trunk(self) -> str:
        """What branches of one trunk have in common: all but their length.

        Of the warm-up that is its steps: two arms may differ in nothing else.
        """
        warmup = round(self.warmup_fraction * self.steps)
        return _hash({**self._fields_of_trunk(), "warmup_steps": warmup})

    @property
    def cooldown_start(self) -> int:
        """Steps of a branch that are the trunk's, all at the full rate.

        The rate falls from (1 - cooldown_fraction) steps on; one step less, so that
        rounding never makes it fall before.
        """
        return max(0, math.floor((1 - self.cooldown_fraction) * self.steps) - 1)

    def _fields_of_trunk(self) -> dict[str, Any]:
        fields = self._fields()
        for name in ("dataset_size", "steps", "warmup_fraction"):
            fields.pop(name, None)
        return fields

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
            "branch": self.branch,
            self.augment: self.augment != "none",
            self.precision: self.precision != "float32",
        }
        return tuple(word for word, is_asked in asked.items() if is_asked)


_CELL_FIELDS = dataclasses.fields(Cell)
_DEFAULTS = {field.name: field.default for field in _CELL_FIELDS}


# Columns of parts that are looked at and never fitted.
_NO_METRICS = ("train_", "validation_")


def make_cells(experiment: Experiment, dataset: Dataset) -> list[Cell]:
    """The cells of the grid: depths, widths, sizes, rates, seeds, the last the fastest.

    Raises:
        UserError: two data fractions give the same n, nothing is left to train on, or
            the task has no such metric.
    """
    grid, training = experiment.grid, experiment.training
    known = [name for name in dataset.columns if not name.startswith(_NO_METRICS)]
    if experiment.metric and experiment.metric not in known:
        raise UserError(
            f"metric={experiment.metric!r}: dataset {dataset.name} is for "
            f"{dataset.task.name}; choose one of {', '.join(known)}"
        )
    return _cross(
        experiment,
        dataset,
        grid.depths,
        grid.widths,
        ("grid.data_fractions", grid.data_fractions),
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
        rates: learning rate and weight decay that the evidence chose, before rules;
            None: those of `training`.

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
        ("targets.data_fractions", targets.data_fractions),
        (targets.learning_rate or rate,),
        (decay if targets.weight_decay < 0 else targets.weight_decay,),
        targets.seeds,
    )


def _validation_size(experiment: Experiment, dataset: Dataset) -> int:
    if not is_sweep(experiment):
        return 0
    return dataset.round_size(experiment.grid.validation_fraction)


def _find_sizes(
    experiment: Experiment,
    dataset: Dataset,
    fractions: tuple[str, Sequence[float]],
    num_params: Callable[[], int],
) -> list[int]:
    """Examples of each data size of a model.

    Args:
        experiment: the study.
        dataset: what it names.
        fractions: name of the config's field, and parts of the training set.
        num_params: m, where the grid asks for data by parameter.
    """
    num_train = dataset.num_train - _validation_size(experiment, dataset)
    if num_train < 1:
        raise UserError(
            f"grid.validation_fraction={experiment.grid.validation_fraction}: leaves "
            f"none of {dataset.num_train} examples to train on; lower it"
        )
    field, asked = fractions
    if field.startswith("grid.") and experiment.grid.data_per_param:
        field, asked = "grid.data_per_param", experiment.grid.data_per_param
        whole = num_train * dataset.units_per_example
        parts = [ratio * num_params() / whole for ratio in asked]
        if max(parts) > 1:
            raise UserError(
                f"{field}={asked}: {max(asked):g} for each of {num_params():,} "
                f"parameters are more than the {whole:,} {dataset.unit} there are; "
                "lower it, or leave out the widest models"
            )
    else:
        parts = asked
    sizes: dict[int, float] = {}
    for part, wanted in zip(parts, asked, strict=True):
        size = min(dataset.round_size(part * num_train / dataset.num_train), num_train)
        if size in sizes:
            raise UserError(
                f"{field}={asked}: {sizes[size]} and {wanted} of {num_train} "
                f"both give n = {size}; drop one"
            )
        sizes[size] = wanted
    group = dataset.task.group
    least = min(dataset.num_test, *sizes)
    if least < group:
        raise UserError(
            f"{field}={asked}: {dataset.task.name} judges {group} examples together, "
            f"but the least of test part and subsets has {least}; leave out the small "
            "subsets, or choose a smaller group"
        )
    return list(sizes)


def _cross(
    experiment: Experiment,
    dataset: Dataset,
    depths: Sequence[int],
    widths: Sequence[int],
    fractions: tuple[str, Sequence[float]],
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
    settings |= {
        "dataset": dataset.name,
        "family": str(find_family(experiment.family)),
        "metric": next(iter(dataset.task.metrics)),
        "validation_size": _validation_size(experiment, dataset),
        "branch": experiment.grid.branches,
    }
    cells = []
    for depth, width in itertools.product(depths, widths):

        def num_params(width: int = width, depth: int = depth) -> int:
            return build_for(dataset, experiment.family, width, depth).num_params

        sizes = _find_sizes(experiment, dataset, fractions, num_params)
        runs: list[tuple[dict[str, Any], Recipe]] = []
        for size in sizes:
            run: dict[str, Any] = {**settings, "width": int(width)}
            run["depth"] = int(depth)
            run["dataset_size"] = size
            units = dataset.units_per_example
            runs.append((run, find_recipe(training, run, units, num_params)))
        if experiment.grid.branches:
            check_branches(training, [recipe for _, recipe in runs])
        for run, recipe in runs:
            rates = itertools.product(learning_rates, weight_decays)
            for (rate, decay), seed in itertools.product(rates, range(seeds)):
                scaled = {
                    "learning_rate": float(rate) * recipe.rate_factor,
                    "weight_decay": float(decay) * recipe.decay_factor,
                    "seed": seed,
                }
                cells.append(Cell(**run | recipe.settings | scaled))
    return cells


def find_base_rates(
    experiment: Experiment, dataset: Dataset, cell: Cell
) -> tuple[float, float]:
    """Learning rate and weight decay of a cell before the rules' factors."""
    recipe = find_recipe(
        experiment.training,
        vars(cell),
        dataset.units_per_example,
        lambda: build_for(dataset, cell.family, cell.width, cell.depth).num_params,
    )
    return (
        cell.learning_rate / recipe.rate_factor,
        cell.weight_decay / recipe.decay_factor,
    )


def is_sweep(experiment: Experiment) -> bool:
    """Whether there are rates to choose from."""
    grid = experiment.grid
    return max(len(grid.learning_rates), len(grid.weight_decays)) > 1


def _exactly(value: Any, kind: Any) -> Any:
    """1 and 1.0 are one setting and must have one id."""
    if kind == tuple[float, ...]:
        return tuple(float(item) for item in value)
    return kind(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_ENCODER.encode(fields).encode()).hexdigest()

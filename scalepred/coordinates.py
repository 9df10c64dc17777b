"""Coordinate check: how far activations move in the first steps, over width or depth.

Where a parametrisation transfers, the activations of every layer move by the same
amount at every size, so that the slope of ln(mean |change|) over ln(size) is 0 (Yang
and Hu et al. 2022, "Tensor Programs V", arXiv:2203.03466, appendix D.1).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from scalepred import grid
from scalepred.config import Experiment, UserError
from scalepred.data.dataset import Dataset
from scalepred.models import activations
from scalepred.models.model import Model, Variables, build_for
from scalepred.training import optimizer, program
from scalepred.training.args import lane_args
from scalepred.training.lane import LaneData, LaneState

MAX_SLOPE = 0.15  # of a layer that transfers, up or down
_PROBE = 16  # examples whose activations are looked at
_LEVEL = 0.9  # of intervals
_NUMBERED = re.compile(r"^(\w+)\.(\d+)\b")  # one of several blocks, or layers


class Moves(NamedTuple):
    """Of one layer, over sizes, seeds and steps."""

    layer: str
    start: np.ndarray  # mean |activation| before the first step [sizes, seeds]
    change: np.ndarray  # mean |activation - that before| [sizes, seeds, steps]


class Slope(NamedTuple):
    """Of ln(change) over ln(size), with a 90 % interval over seeds."""

    value: float  # NaN: at some size the layer did not move, or not to finite numbers
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if math.isnan(self.value):
            return "no number"
        if self.low >= -MAX_SLOPE and self.high <= MAX_SLOPE:
            return "transfers"
        if self.low > MAX_SLOPE:
            return "grows"
        if self.high < -MAX_SLOPE:
            return "shrinks"
        return "not clear"


class Check(NamedTuple):
    """What a coordinate check measured."""

    axis: str  # width | depth
    sizes: tuple[int, ...]
    steps: int
    moves: list[Moves]  # in the order in which the layers are computed

    def find_slope(self, moves: Moves, step: int = 0) -> Slope:
        """Of a layer's change after so many steps; 0: after all."""
        return fit_slope(self.sizes, moves.change[:, :, step - 1])


def fit_slope(sizes: Sequence[float], values: np.ndarray) -> Slope:
    """Slope of ln(value) over ln(size), one a seed; their mean and its interval.

    Args:
        sizes: above 0 [sizes].
        values: [sizes, seeds]; of one seed there is no interval: it is infinite.
    """
    if not (np.all(np.isfinite(values)) and np.all(values > 0)):
        return Slope(math.nan, math.nan, math.nan)
    slopes = np.polyfit(np.log(sizes), np.log(values), 1)[0]  # [seeds]
    mean, count = float(np.mean(slopes)), len(slopes)
    if count == 1:
        return Slope(mean, -math.inf, math.inf)
    error = float(np.std(slopes, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf((1 + _LEVEL) / 2, count - 1)) * error
    return Slope(mean, mean - half, mean + half)


def check_coordinates(
    experiment: Experiment, dataset: Dataset, begin: Callable[[str], None] = print
) -> Check:
    """Trains every size a few steps, as a study would, and looks at the layers.

    Args:
        experiment: of several widths and one depth, or one width and several depths;
            one data fraction, one rate, `training.steps` steps.
        dataset: what it names.
        begin: is told what is done next.

    Raises:
        UserError: not two sizes along one axis.
    """
    widths, depths = experiment.grid.widths, experiment.grid.depths
    if (len(widths) > 1) == (len(depths) > 1):
        raise UserError(
            f"--widths={_join(widths)} --depths={_join(depths)}: give several of one "
            "of them, and one of the other"
        )
    axis, sizes = ("width", widths) if len(widths) > 1 else ("depth", depths)
    sizes = tuple(sorted(sizes))
    found = []
    for size in sizes:
        begin(f"{axis} {size}")
        cells = grid.make_cells(experiment, dataset)
        moves = _follow(dataset, [c for c in cells if getattr(c, axis) == size])
        found.append(_align(moves) if axis == "depth" else moves)
    common = [name for name in found[0] if all(name in one for one in found)]
    moves = [
        Moves(
            name,
            np.array([one[name][0] for one in found]),
            np.array([one[name][1] for one in found]),
        )
        for name in common
    ]
    return Check(axis, sizes, experiment.training.steps, moves)


def _join(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


# By layer its start [seeds] and its changes [seeds, steps].
_Found = dict[str, tuple[np.ndarray, np.ndarray]]


def _follow(dataset: Dataset, cells: Sequence[grid.Cell]) -> _Found:
    """Of each layer its start [seeds] and its changes [seeds, steps]."""
    cell = cells[0]
    model = build_for(dataset, cell.family, cell.width, cell.depth)
    functions = program.make_program(cell.program_key, [model], dataset)
    if model.standard:
        optimizer.check_parametrized(cell.optimizer)
    look = _make_look(model, dataset)
    begin, step = jax.jit(functions.init_lane), jax.jit(functions.step_lane)
    starts, changes = [], []
    for run in cells:
        data = _data_of(dataset, run.seed)
        args = lane_args(run, 0, 0)
        state = begin(args)
        first = state
        seen = []
        for _ in range(run.steps):
            state = step(state, args, data)
            seen.append(look(first, state, data))
        starts.append({name: size for name, (size, _) in seen[0].items()})
        changes.append([{name: move for name, (_, move) in s.items()} for s in seen])
    return {
        name: (
            np.array([float(start[name]) for start in starts]),
            np.array([[float(one[name]) for one in seed] for seed in changes]),
        )
        for name in starts[0]
    }


def _data_of(dataset: Dataset, seed: int) -> LaneData:
    order = dataset.order(seed)[None]
    return LaneData(*map(jnp.asarray, (dataset.inputs, dataset.labels, order)))


Look = Callable[
    [LaneState, LaneState, LaneData], Mapping[str, tuple[jax.Array, jax.Array]]
]


def _make_look(model: Model, dataset: Dataset) -> Look:
    """(state before, state after, data) -> by layer its mean size before and its mean
    change, on the first examples of the train part.
    """
    names: list[str] = []

    def activate(state: LaneState, x: jax.Array) -> dict[str, jax.Array]:
        variables = Variables(state.params, state.model_state)
        return activations.record(model, variables, x, jax.random.key(0))

    @jax.jit
    def look(before: LaneState, after: LaneState, data: LaneData) -> list[Any]:
        rows = data.find_rows(0, jnp.arange(min(_PROBE, dataset.num_train)))
        x = (dataset.prepare or (lambda x: x))(data.inputs[rows])
        x = x.reshape(-1, *dataset.input_shape)  # of pairs and the like each one
        first, last = activate(before, x), activate(after, x)
        names[:] = first  # jax would sort them
        return [
            (_mean_size(first[name]), _mean_size(last[name] - first[name]))
            for name in names
        ]

    return lambda *args: dict(zip(names, look(*args), strict=True))


def _mean_size(x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(x))


def _align(found: _Found) -> _Found:
    """With the layers of the last block of several called so, at every depth."""
    numbers: dict[str, int] = {}
    for name in found:
        if numbered := _NUMBERED.match(name):
            group, number = numbered[1], int(numbered[2])
            numbers[group] = max(numbers.get(group, 0), number)

    def rename(numbered: re.Match) -> str:
        is_last = int(numbered[2]) == numbers[numbered[1]] > 0
        return f"{numbered[1]}.last" if is_last else numbered[0]

    return {_NUMBERED.sub(rename, name): moves for name, moves in found.items()}

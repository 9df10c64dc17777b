"""The law as a table that a page can read without Python.

    grid over ln m, ln n (and ln epochs)  ->  ln of value, lower, upper
    grid over ln budget                   ->  best split and what it reaches

The page's script reads both by cubics through four neighbours on each axis, which err
by far less than a digit that is shown. A table cannot hold what a law says of exact
sizes alone: under law=auto each fitted model size may have an offset of its own. The
table says what a *new* size gets (`LawTable.is_of_new_sizes`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scalepred.fitting import inversion
from scalepred.fitting.answers import Answer
from scalepred.fitting.estimate import knows_split
from scalepred.fitting.fit import Fit
from scalepred.report import words
from scalepred.report.page import packed
from scalepred.report.results import Results

# Nodes of the grid by the number of axes: all tables stay below 20 KB.
_NODES = {1: 161, 2: 37, 3: 17}
_BUDGETS = 33
_STRIDE = 4  # of the nodes at which a budget's intervals are solved for
_EPOCHS = (1.0, 2.0, 4.0, 8.0, 16.0)
# How far beyond runs, targets and budgets the table goes, and below the smallest run.
_BEYOND, _BELOW = 100.0, 3.0
# The best split of the largest budget may lie farther out, but no farther than this.
_FARTHEST = 1e5
_APART = 1e-6  # of ln size; see `_off_fitted_sizes`
_COLUMNS = ("value", "params", "data")


@dataclasses.dataclass(frozen=True)
class Axis:
    """Equally spaced logarithms of a size.

    Attributes:
        name: params | data | epochs.
        low: ln of the first node.
        high: ln of the last.
        count: of nodes.
    """

    name: str
    low: float
    high: float
    count: int

    @property
    def nodes(self) -> np.ndarray:
        """Logarithms of sizes [count]."""
        return np.linspace(self.low, self.high, self.count)


@dataclasses.dataclass(frozen=True)
class LawTable:
    """What a law says of one new run at every node.

    Attributes:
        axes: that the law depends on, in the order params, data, epochs.
        value: ln of the expected value, shaped by the axes.
        lower: ln of the lower end of the 90 % interval for a single run, likewise;
            None without resamples.
        upper: of its upper end.
        fixed: sizes that the law does not depend on, by name, as they were fitted.
        log_cost: ln of the FLOPs that each node of params and of data seen stands
            for, which add up; None where nothing is known of them or data are free.
        budgets: for which the best split is told; None where it cannot be.
        best: ln of value, params and data, each (best guess, lower, upper), at every
            budget [3, 3, epochs, budgets]; one number of epochs where they are no axis.
        is_of_new_sizes: fitted model sizes have offsets that are not in the table.
    """

    axes: tuple[Axis, ...]
    value: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    fixed: dict[str, float]
    log_cost: dict[str, np.ndarray] | None
    budgets: Axis | None
    best: np.ndarray | None
    is_of_new_sizes: bool

    @property
    def budget_range(self) -> Axis | None:
        """Budgets that the sliders offer; None where sizes have no cost."""
        if self.log_cost is None or self.budgets is not None:
            return self.budgets
        ends = [sum(float(one[i]) for one in self.log_cost.values()) for i in (0, -1)]
        return Axis("budget", ends[0], ends[1], _BUDGETS)

    def record(self) -> dict[str, Any]:
        """For JSON, below 20 KB."""
        cost = self.log_cost
        return {
            "axes": [dataclasses.asdict(axis) for axis in self.axes],
            "value": packed.floats(self.value),
            "ends": packed.ends(self.value, self.lower, self.upper),
            "fixed": self.fixed,
            "cost": cost and {name: packed.floats(one) for name, one in cost.items()},
            "budgets": self.budget_range and dataclasses.asdict(self.budget_range),
            "best": None if self.best is None else packed.floats(self.best),
            "newSizes": self.is_of_new_sizes,
        }


def make_law_table(results: Results) -> LawTable | None:
    """The law over all that was run or asked, and two decades of compute beyond.

    Args:
        results: of a study.

    Returns:
        None where the law depends on no size that the page knows.
    """
    fit = results.fit
    names = [name for name in ("params", "data", "epochs") if name in fit.law.axes]
    if not {"params", "data"} & set(names):
        return None
    fixed = {
        name: float(np.median(getattr(fit.surface, name)))
        for name in ("params", "data")
        if name not in names
    }
    if "epochs" not in names and (times := fit.epochs_at(None)):
        fixed["epochs"] = times
    budgets = best = None
    if knows_split(names, fit.surface) and fit.cost.data_power:
        budgets = _budget_axis(results)
        best = _best_splits(fit, budgets, _EPOCHS if "epochs" in names else [None])
    axes = tuple(
        Axis("epochs", 0.0, math.log(_EPOCHS[-1]), len(_EPOCHS))
        if name == "epochs"
        else _size_axis(results, name, best, _NODES[len(names)])
        for name in names
    )
    value, lower, upper = _predict(fit, axes, fixed)
    return LawTable(
        axes,
        value,
        lower,
        upper,
        fixed,
        _log_costs(fit, axes, fixed.get("epochs", 1.0)),
        None if best is None else budgets,
        best,
        bool(np.any(np.isfinite(fit.fitted.scale.levels))),
    )


def _asked_sizes(results: Results, name: str) -> np.ndarray:
    """Of every run, target and question."""
    rows = [getattr(row, name) for row in results.predictions]
    asked = [answer.asked.get(name, math.nan) for answer in results.answers]
    sizes = np.array([*rows, *asked])
    return sizes[np.isfinite(sizes)]


def _axis(
    name: str, ends: tuple[float, float], at: float, count: int, stride: int = 1
) -> Axis:
    """An axis over `ends` with `at` among every stride'th node: it is then exact."""
    low, high = np.log(ends)
    step = (high - low) / (count - 1 - stride)
    steps = stride * math.ceil((math.log(at) - low) / (stride * step) - 1e-9)
    low = math.log(at) - steps * step
    return Axis(name, low, low + (count - 1) * step, count)


def _budget_axis(results: Results) -> Axis:
    """From the smallest run to two decades beyond all that was asked."""
    asked = [answer.asked.get("budget", math.nan) for answer in results.answers]
    compute = np.array([row.compute for row in results.predictions])
    asked = np.array([budget for budget in asked if math.isfinite(budget)])
    at = asked.max() if len(asked) else compute.max()
    ends = compute.min() / _BELOW, max(compute.max(), at) * _BEYOND
    return _axis("budget", ends, at, _BUDGETS, _STRIDE)


def _size_axis(
    results: Results, name: str, best: np.ndarray | None, count: int
) -> Axis:
    """Over all that was asked and, as far as is sensible, the best splits."""
    asked = _asked_sizes(results, name)
    low, high = asked.min() / _BELOW, asked.max() * math.sqrt(_BEYOND)
    if best is None:
        high = asked.max() * _BEYOND
    else:
        path = np.exp(best[_COLUMNS.index(name), 0])
        low = max(min(low, path.min()), asked.min() / _FARTHEST)
        high = min(max(high, path.max()), asked.max() * _FARTHEST)
    targets = [getattr(row, name) for row in words.targets(results)]
    return _axis(name, (low, high), max(targets, default=asked.max()), count)


def _best_splits(
    fit: Fit, budgets: Axis, epochs: Sequence[float | None]
) -> np.ndarray | None:
    """`LawTable.best` at each epochs [3, 3, epochs, budgets], or None."""
    found = [_best_split(fit, budgets, times) for times in epochs]
    known = [best for best in found if best is not None]
    return np.stack(known, axis=2) if len(known) == len(found) else None


def _best_split(fit: Fit, budgets: Axis, epochs: float | None) -> np.ndarray | None:
    """`LawTable.best` at one number of epochs [3, 3, budgets].

    The best guess is solved for at every node; the ends of its intervals, which take
    all draws, at every fourth, and read between them as the page reads its tables.
    """
    center = _best_guesses(fit, budgets, epochs)
    if center is None:
        return None
    nodes = budgets.nodes[::_STRIDE]
    answers = [fit.best_for_budget(math.exp(node), epochs=epochs) for node in nodes]
    ends = np.stack([_log_answer(answer) for answer in answers], axis=-1)
    if np.any(np.isnan(ends)):  # there are no draws
        return np.stack([center] * 3, axis=1)
    return center[:, None] + _read_between(ends - ends[:, :1], _STRIDE)


def _read_between(values: np.ndarray, stride: int) -> np.ndarray:
    """The values, and stride - 1 more between any two, by the page's cubics.

    Args:
        values: at equally spaced nodes [..., nodes], at least 3.
        stride: of the nodes in what is given back.
    """
    count = values.shape[-1]
    # Beyond its ends a table goes on as a parabola.
    parabola = np.array([3.0, -3.0, 1.0])
    before, after = values[..., :3] @ parabola, values[..., :-4:-1] @ parabola
    known = np.concatenate([before[..., None], values, after[..., None]], axis=-1)
    place = np.arange(stride * (count - 1) + 1) / stride
    left = np.minimum(place.astype(int), count - 2)
    u = place - left
    return (
        ((2 - u) * u - 1) * u / 2 * known[..., left]
        + ((3 * u - 5) * u * u / 2 + 1) * known[..., left + 1]
        + ((4 - 3 * u) * u + 1) * u / 2 * known[..., left + 2]
        + (u - 1) * u * u / 2 * known[..., left + 3]
    )


def _best_guesses(fit: Fit, budgets: Axis, epochs: float | None) -> np.ndarray | None:
    """ln of value, params and data of best splits [3, budgets]; None: no optimum."""
    fitted = fit.fitted
    if epochs is not None:
        fitted = dataclasses.replace(fitted, epochs=epochs)
    cost = fit.cost.in_units(1.0, fit.epochs_at(epochs) or 1.0)
    # The best fit in place of every draw: one budget a draw, and nothing to compile.
    count = max(len(fitted.draws), budgets.count - 1)
    alone = dataclasses.replace(fitted, draws=np.repeat(fitted.theta[None], count, 0))
    asked = np.resize(budgets.nodes, 1 + count)
    x, y = inversion.split_costs(alone, asked, cost, math.inf)
    value = inversion.log_value_at(alone, x, y)
    if max(np.abs(x).max(), np.abs(y).max()) > inversion.REACH - 1:
        return None
    sizes = x + math.log(fitted.params_unit), y + math.log(fitted.data_unit)
    return np.stack([value, *sizes])[:, : budgets.count]


def _log_answer(answer: Answer) -> np.ndarray:
    """ln of value, params and data, each with its ends [3, 3]."""
    ends = [
        (answer.value, answer.lower, answer.upper),
        answer.details["params"],
        answer.details["data"],
    ]
    return np.log(np.minimum(ends, math.exp(inversion.REACH)))


def _predict(
    fit: Fit, axes: tuple[Axis, ...], fixed: dict[str, float]
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """ln of value, lower and upper at every node."""
    nodes = {
        axis.name: grid
        for axis, grid in zip(
            axes,
            np.meshgrid(*(axis.nodes for axis in axes), indexing="ij"),
            strict=True,
        )
    }
    places = {name: np.exp(grid) for name, grid in nodes.items()}
    if "params" in places:
        places["params"] = _off_fitted_sizes(fit, nodes["params"])
    shape = next(iter(nodes.values())).shape
    for name in ("params", "data"):
        places.setdefault(name, np.full(shape, fixed.get(name)))
    said = fit.predict(places["params"], places["data"], epochs=places.get("epochs"))
    value = np.log(said.value)
    if not len(fit.fitted.draws):
        return value, None, None
    return value, np.log(said.lower), np.log(said.upper)


def _off_fitted_sizes(fit: Fit, log_params: np.ndarray) -> np.ndarray:
    """Model sizes, a hair beside those that have an offset of their own."""
    levels = np.asarray(fit.fitted.scale.levels) + math.log(fit.fitted.params_unit)
    levels = levels[np.isfinite(levels)]
    near = np.abs(log_params[..., None] - levels) < _APART
    return np.exp(log_params + 2 * _APART * np.any(near, axis=-1))


def _log_costs(
    fit: Fit, axes: tuple[Axis, ...], epochs: float
) -> dict[str, np.ndarray] | None:
    """`LawTable.log_cost`: ln of g(m) at the nodes, and of factor h(n epochs)."""
    by_name = {axis.name: axis for axis in axes}
    if not {"params", "data"} <= set(by_name) or not fit.cost.data_power:
        return None
    cost = fit.cost
    params, data = by_name["params"].nodes, by_name["data"]
    most = by_name["epochs"].high if "epochs" in by_name else math.log(epochs)
    seen = np.linspace(data.low, data.high + most, data.count)
    return {
        "params": cost.params_growth.at(params),
        "data": math.log(cost.factor) + cost.data_growth.at(seen),
    }

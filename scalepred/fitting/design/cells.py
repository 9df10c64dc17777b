"""Runs that could be trained, or were: their sizes and what each costs."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting.cost import Cost
from scalepred.fitting.predict import FittedLaw
from scalepred.table.numbers import write, write_flops

# Candidates: sizes in steps of 2, from the smallest fitted to this many times the
# largest one.
_BEYOND = 16.0
_SAME_SIZE = 1e-6  # relative: two sizes are one


class Cells(NamedTuple):
    """Runs that could be trained, or were.

    Attributes:
        params: model sizes m, counts [cells].
        data: data sizes n, counts [cells].
        cost: of one run each, in the unit of the budget: FLOPs, m n, seconds, a
            currency [cells].
    """

    params: np.ndarray
    data: np.ndarray
    cost: np.ndarray

    @staticmethod
    def of(params: ArrayLike, data: ArrayLike, cost: ArrayLike) -> "Cells":
        """From sizes and costs that broadcast.

        Raises:
            UserError: if one of them is not a positive number.
        """
        arrays = []
        for name, given in (("params", params), ("data", data), ("cost", cost)):
            numbers = np.asarray(given, np.float64)
            if not np.all(np.isfinite(numbers) & (numbers > 0)):
                raise UserError(f"{name}={given}: must be positive numbers")
            arrays.append(numbers)
        return Cells(*(numbers.reshape(-1) for numbers in np.broadcast_arrays(*arrays)))

    def where(self, which: np.ndarray) -> "Cells":
        """Those of a mask or of places [cells]."""
        return Cells(self.params[which], self.data[which], self.cost[which])

    def large(self, budget: float, most: int) -> "Cells":
        """Those of which so many take the budget, or the largest that there are."""
        affordable = self.cost <= budget
        least = min(budget / most, np.max(self.cost, initial=0, where=affordable) / 8)
        return self.where(affordable & (self.cost >= least))

    def are_in(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Which of them have the sizes of one of other runs [cells]."""
        return np.any(self.same(params, data), axis=1)

    def same(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Which have the sizes of which other run [cells, runs]."""
        apart = [
            np.abs(np.log(own)[:, None] - np.log(other))
            for own, other in ((self.params, params), (self.data, data))
        ]
        return np.maximum(*apart) < _SAME_SIZE

    def pick(self, cell: int, before: float, after: float) -> "NextCell":
        """One of them, chosen."""
        sizes = float(self.params[cell]), float(self.data[cell])
        return NextCell(*sizes, float(self.cost[cell]), before, after)


class NextCell(NamedTuple):
    """A cell worth training.

    Attributes:
        params: m.
        data: n.
        cost: of one run, in the unit of the budget.
        before: 90 % half-width of the target's mean over that mean, once the cells
            before this one are measured; NaN while there is no fit.
        after: the same once this cell is measured, too.
    """

    params: float
    data: float
    cost: float
    before: float
    after: float

    def __str__(self) -> str:
        place = f"params={write(self.params)}, data={write(self.data)}"
        said = f"{place}: costs {write_flops(self.cost)}"
        if math.isnan(self.after):
            return said
        return f"{said}, narrows ±{self.before:.2%} to ±{self.after:.2%}"


def make_cells(
    fitted: FittedLaw,
    smallest: tuple[float, float],
    cost: Cost | Callable[[np.ndarray, np.ndarray], np.ndarray],
    target: tuple[float, float],
) -> Cells:
    """Sizes in steps of 2, from the smallest to some times the largest fitted ones.

    Args:
        fitted: the law.
        smallest: smallest model and data size worth training.
        cost: what one run of (params, data) costs: FLOPs, or any other.
        target: the target itself, and what is larger, is left out: it needs no law.
    """
    params, data = (size.reshape(-1) for size in np.meshgrid(
        _sizes(smallest[0], fitted.params_unit), _sizes(smallest[1], fitted.data_unit)
    ))  # fmt: skip
    kept = ~((params >= target[0]) & (data >= target[1]))
    params, data = params[kept], data[kept]
    of = cost.flops if isinstance(cost, Cost) else cost
    return Cells.of(params, data, of(params, data))


def check_targets(
    budget: float, targets: tuple[ArrayLike, ArrayLike]
) -> tuple[np.ndarray, np.ndarray]:
    """The sizes of some targets, each [targets], if they and the budget are numbers.

    Raises:
        UserError: if a number is not positive.
    """
    params, data = np.broadcast_arrays(*(np.atleast_1d(s) for s in targets))
    asked = (
        ("budget", budget),
        *(("target", size) for size in (*params.flat, *data.flat)),
    )
    for name, number in asked:
        if not (math.isfinite(number) and number > 0):
            raise UserError(f"{name}={number:g}: must be a positive number")
    return params.reshape(-1).astype(float), data.reshape(-1).astype(float)


def are_in(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which sizes are one of some others [sizes]."""
    apart = np.abs(np.log(sizes)[:, None] - np.log(others)[None])
    return np.any(apart < _SAME_SIZE, axis=1)


def distinct(sizes: np.ndarray) -> np.ndarray:
    """The distinct ones of some sizes."""
    ordered = np.sort(sizes)
    steps = np.diff(np.log(ordered), prepend=-np.inf)
    return ordered[steps >= _SAME_SIZE]


def _sizes(smallest: float, largest: float) -> np.ndarray:
    """Sizes in steps of 2 up to some times the largest fitted one."""
    steps = math.floor(math.log2(_BEYOND * largest / smallest) + 1e-9)
    return smallest * 2.0 ** np.arange(steps + 1)

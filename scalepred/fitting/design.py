"""Which cells to train next, so that a prediction gets surer for the money.

The draws of a fit say how the law's values at any two places vary together. To
measure one cell is to condition on it, which narrows the target by what the two have
in common; cells are taken one at a time, each the best bargain after those before it.
"""

import math
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.fitting.answers import Cost
from scalepred.fitting.predict import FittedLaw

# Candidates: sizes in steps of 2, from the smallest fitted to this many times the
# largest one.
_BEYOND = 16.0
_MAX_CELLS = 64
# A cell whose news narrows the target by less than this share is not worth its name.
_LEAST_GAIN = 1e-3


class NextCell(NamedTuple):
    """A cell worth training.

    Attributes:
        params: m.
        data: n.
        flops: of one run.
        spread: standard deviation of ln of the target's mean once this cell and those
            before it are measured.
    """

    params: float
    data: float
    flops: float
    spread: float


def next_cells(
    fitted: FittedLaw,
    smallest: tuple[float, float],
    cost: Cost,
    budget: float,
    target: tuple[float, float],
) -> list[NextCell]:
    """The cells that narrow the prediction of `target` most for `budget` FLOPs.

    Args:
        fitted: the law and its draws.
        smallest: smallest model and data size worth training.
        cost: what FLOPs buy.
        budget: FLOPs to spend on all of them together, one run each.
        target: (params, data) whose prediction is to be narrowed.

    Returns:
        Cells in the order in which to train them; none if the budget buys nothing
        that would help.

    Raises:
        UserError: if a number is not positive or the fit has no draws.
    """
    for name, number in (("budget", budget), ("target", min(target))):
        if not (math.isfinite(number) and number > 0):
            raise UserError(f"{name}={number:g}: must be a positive number")
    if len(fitted.draws) < 2:
        raise UserError("resamples=0: without draws nothing says which cell would help")
    params, data = (size.reshape(-1) for size in np.meshgrid(
        _sizes(smallest[0], fitted.params_unit), _sizes(smallest[1], fitted.data_unit)
    ))  # fmt: skip
    flops = cost.flops(params, data)
    # The target itself is the one cell that needs no law.
    kept = (flops <= budget) & ~((params >= target[0]) & (data >= target[1]))
    params, data, flops = params[kept], data[kept], flops[kept]
    if not len(params):
        return []
    places = np.append(params, target[0]), np.append(data, target[1])
    values = fitted.log_value(*places, draws=True)
    values = values - values.mean(axis=0)
    covariance = values.T @ values / (len(values) - 1)
    center = fitted.log_value(params, data)
    # What one run cannot tell: its own noise and the law's misfit there.
    unknown = fitted.noise.of(center) ** 2 + fitted.misfit**2 + 1e-12

    # Greedy by worth, and by worth for the money: neither is always the better, and
    # the better of the two is at most a constant factor from the best there is.
    plans = [
        _choose(params, data, flops, covariance, unknown, budget, price)
        for price in (np.ones_like(flops), flops)
    ]
    return min(plans, key=lambda plan: plan[-1].spread if plan else math.inf)


def _choose(
    params: np.ndarray,
    data: np.ndarray,
    flops: np.ndarray,
    covariance: np.ndarray,
    unknown: np.ndarray,
    budget: float,
    price: np.ndarray,
) -> list[NextCell]:
    """Cells one by one, each of the largest gain over `price` that is affordable.

    Args:
        params: of each candidate [cells].
        data: of each candidate [cells].
        flops: of each candidate [cells].
        covariance: of ln values of the candidates and, last, the target.
        unknown: variance that one run of a candidate leaves [cells].
        budget: FLOPs for all together.
        price: what a gain is divided by [cells].
    """
    chosen: list[NextCell] = []
    while len(chosen) < _MAX_CELLS:
        variance = np.diagonal(covariance)[:-1] + unknown
        gain = covariance[:-1, -1] ** 2 / variance
        worth = (flops <= budget) & (gain > _LEAST_GAIN * covariance[-1, -1])
        if not np.any(worth):
            break
        best = int(np.argmax(np.where(worth, gain / price, -np.inf)))
        column = covariance[:, best].copy()
        covariance = covariance - np.outer(column, column) / variance[best]
        budget -= flops[best]
        chosen.append(
            NextCell(
                float(params[best]),
                float(data[best]),
                float(flops[best]),
                float(np.sqrt(max(covariance[-1, -1], 0.0))),
            )
        )
    return chosen


def _sizes(smallest: float, largest: float) -> np.ndarray:
    """Sizes in steps of 2 up to some times the largest fitted one."""
    steps = math.floor(math.log2(_BEYOND * largest / smallest) + 1e-9)
    return smallest * 2.0 ** np.arange(steps + 1)

"""The cells that narrow a prediction most for a budget."""

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting.design import posterior
from scalepred.fitting.design.cells import Cells, NextCell, check_targets
from scalepred.fitting.design.posterior import Posterior
from scalepred.fitting.predict import FittedLaw

_MAX_CELLS = 64
# A cell whose news narrows the target by less than this share is not worth its name.
_LEAST_GAIN = 1e-3


def next_cells(
    fitted: FittedLaw,
    cells: Cells,
    budget: float,
    targets: tuple[ArrayLike, ArrayLike],
    until_width: float = 0.0,
) -> list[NextCell]:
    """The cells that narrow the prediction of the targets most for the budget.

    Args:
        fitted: the law and its draws.
        cells: candidates; what is beyond the budget is left out.
        budget: for all of them together, one run each.
        targets: (params, data) whose prediction is to be narrowed, which broadcast.
        until_width: half-width that is enough: no cells beyond those that reach it.

    Returns:
        Cells in the order in which to train them; none if the budget buys nothing
        that would help.

    Raises:
        UserError: if a number is not positive or the fit has no draws.
    """
    targets = check_targets(budget, targets)
    if len(fitted.draws) < 2:
        raise UserError("resamples=0: without draws nothing says which cell would help")
    cells = cells.where(cells.cost <= budget)
    if not len(cells.cost):
        return []
    return _best_plan(
        posterior.from_fit(fitted, cells, targets), cells, budget, until_width
    )


def plan_with_prior(
    cells: Cells,
    measured: tuple[np.ndarray, np.ndarray],
    budget: float,
    targets: tuple[ArrayLike, ArrayLike],
    metric: str = "error",
) -> list[NextCell]:
    """As `next_cells`, from the prior of the flexible law, where there is no fit yet.

    Args:
        cells: candidates.
        measured: (params, data) of the runs there are [runs].
        budget: for all of them together.
        targets: see `next_cells`.
        metric: error or loss; each has priors of its own.

    Raises:
        UserError: if a number is not positive.
    """
    targets = check_targets(budget, targets)
    largest = max(*cells.params, *measured[0]), max(*cells.data, *measured[1])
    cells = cells.where(cells.cost <= budget)
    if not len(cells.cost):
        return []
    known = posterior.from_prior(cells, measured, largest, targets, metric)
    return _best_plan(known, cells, budget, 0.0)


def _best_plan(
    known: Posterior, cells: Cells, budget: float, until_width: float
) -> list[NextCell]:
    """Greedy by worth, or by worth for the money: whichever ends better.

    Neither is always the better, and the better of the two is at most a constant
    factor from the best there is.
    """
    plans = [
        _choose(known, cells, budget, price, until_width)
        for price in (np.ones_like(cells.cost), cells.cost)
    ]

    def end(plan: tuple[list[NextCell], float, float]) -> tuple[bool, float]:
        chosen, left, width = plan
        reached = width <= until_width
        return not reached, sum(cell.cost for cell in chosen) if reached else left

    return min(plans, key=end)[0]


def _choose(
    known: Posterior,
    cells: Cells,
    budget: float,
    price: np.ndarray,
    until_width: float,
) -> tuple[list[NextCell], float, float]:
    """Cells one by one, each of the largest gain over `price` that is affordable.

    Args:
        price: what a gain is divided by [cells].

    Returns:
        The cells, the mean share of the targets' variance that they leave, and the
        half-width that they leave.
    """
    first = known.at_targets()

    def left() -> np.ndarray:
        """Share of each target's variance; all where there is none."""
        share = np.ones_like(first)
        return np.divide(known.at_targets(), first, out=share, where=first > 0)

    def width() -> float:
        return float(np.max(known.width * np.sqrt(left())))

    chosen: list[NextCell] = []
    free = np.ones(len(cells.cost), bool)
    before = width()
    while len(chosen) < _MAX_CELLS and not before <= until_width:
        gain = known.gains()
        worth = free & (cells.cost <= budget) & (gain > _LEAST_GAIN)
        if not np.any(worth):
            break
        with np.errstate(divide="ignore"):  # what costs nothing comes first
            each = np.divide(gain, price, out=np.full_like(gain, -np.inf), where=worth)
        best = int(np.argmax(each))
        known = known.after(best)
        free[best] = False
        budget -= float(cells.cost[best])
        after = width()
        chosen.append(cells.pick(best, before, after))
        before = after
    return chosen, float(np.mean(left())), before

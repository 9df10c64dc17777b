"""The design to begin with, before there are points enough for a fit."""

import math

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting.design.cells import Cells, NextCell, are_in, distinct
from scalepred.fitting.design.choose import plan_with_prior
from scalepred.table.numbers import write_size

# What law=auto needs, and the share of the budget that the first design may take.
LEAST_CELLS, _LEAST_SIZES = 5, 3
_FIRST_SHARE = 0.02


def first_cells(
    cells: Cells,
    measured: tuple[np.ndarray, np.ndarray],
    budget: float,
    targets: tuple[ArrayLike, ArrayLike],
    metric: str = "error",
) -> list[NextCell]:
    """The design to begin with: what law=auto needs at least, for little money.

    The prior says which cells of a small share of the budget tell most of the targets;
    the cheapest cells of other sizes make it five with three sizes on each axis (or
    as many as there are).

    Args:
        cells: candidates.
        measured: (params, data) of the runs there are, which need not be enough
            [runs].
        budget: that the whole study has left.
        targets: see `next_cells`.
        metric: error or loss.

    Raises:
        UserError: if the budget does not buy what a fit needs.
    """
    affordable = cells.where(cells.cost <= budget)
    chosen: list[NextCell] = []
    share = _FIRST_SHARE * budget
    if np.any(affordable.cost <= share):
        chosen = plan_with_prior(affordable, measured, share, targets, metric)
        # More of them would be for the fit to say.
        chosen = chosen[: 2 * LEAST_CELLS]
    return _complete(chosen, cells, measured, budget)


def _complete(
    chosen: list[NextCell],
    offered: Cells,
    measured: tuple[np.ndarray, np.ndarray],
    budget: float,
) -> list[NextCell]:
    """With the cheapest cells of other sizes until a fit can be made."""
    spent = sum(cell.cost for cell in chosen)
    places = [np.append(sizes, [cell[axis] for cell in chosen])
              for axis, sizes in enumerate(measured)]  # fmt: skip
    others = offered.where(~offered.are_in(*places))
    rest = others.where(others.cost <= budget)
    # As many sizes on each axis as a fit needs, or as there are.
    needed = [
        min(_LEAST_SIZES, len(distinct(np.append(sizes, others[axis]))))
        for axis, sizes in enumerate(places)
    ]
    count = min(LEAST_CELLS, len(places[0]) + len(others.cost))
    while True:
        missing = [n - len(distinct(s)) for n, s in zip(needed, places, strict=True)]
        if max(missing) <= 0 and len(places[0]) >= count:
            return chosen
        best = _cheapest_new(rest, places, missing, budget - spent)
        if best is None:
            raise UserError(
                f"budget={write_size(budget)}: buys {len(places[0])} cells, too few "
                f"for a fit, which takes {LEAST_CELLS} with {_LEAST_SIZES} sizes of "
                "model and of data; raise it or offer smaller cells"
            )
        chosen.append(rest.pick(best, math.nan, math.nan))
        spent += chosen[-1].cost
        places = [
            np.append(sizes, chosen[-1][axis]) for axis, sizes in enumerate(places)
        ]
        rest = rest.where(np.arange(len(rest.cost)) != best)


def _cheapest_new(
    rest: Cells, places: list[np.ndarray], missing: list[int], left: float
) -> int | None:
    """The cheapest of the cells that bring most of what is missing; None: no money."""
    news = np.zeros(len(rest.cost))
    for axis, sizes in enumerate(places):
        if missing[axis] > 0:
            news += ~are_in(rest[axis], sizes)
    is_needed = (news > 0) | (max(missing) <= 0)
    rank = np.lexsort((rest.cost, -news))
    rank = rank[(is_needed & (rest.cost <= left))[rank]]
    return int(rank[0]) if len(rank) else None

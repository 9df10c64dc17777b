"""The loop: fit, choose, measure, until the prediction is sure or the money is spent.

Its only state is the table of what was measured.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting.design.cells import Cells, NextCell, check_targets, distinct
from scalepred.fitting.design.choose import next_cells
from scalepred.fitting.design.first import LEAST_CELLS, first_cells
from scalepred.fitting.predict import FittedLaw
from scalepred.table.numbers import write_size
from scalepred.table.surface import Surface

# A round spends at most this share of what was spent before it: the fit learns before
# it spends as much again. With half of that the loop took 1.6 times as much on replayed
# studies (docs/results/planning.md): it never came to the large runs.
_ROUND_SHARE = 1.0


class Fitted(Protocol):
    """A fit, as far as the loop looks at it."""

    @property
    def fitted(self) -> FittedLaw: ...


FitT = TypeVar("FitT", bound=Fitted)


@dataclasses.dataclass(frozen=True)
class Round(Generic[FitT]):
    """Where the loop stands, and what it measures next.

    Attributes:
        number: from 0, in this run of the loop.
        num_points: measured so far.
        spent: on them.
        value: what the fit says of the target; NaN while there is no fit. Of several
            targets that of the widest interval counts, here and below.
        lower: lower end of the 90 % interval of its mean.
        upper: its upper end.
        half_width: half of upper - lower, over the value.
        cells: to be measured before the next round; empty at the end.
        stop: why it ends: reached | budget spent | nothing affordable helps; "" while
            it goes on.
        fit: of what was measured; None while there is none.
    """

    number: int
    num_points: int
    spent: float
    value: float
    lower: float
    upper: float
    half_width: float
    cells: tuple[NextCell, ...]
    stop: str
    fit: FitT | None

    @staticmethod
    def start(number: int, surface: Surface | None, spent: float) -> "Round[FitT]":
        """A round of which nothing is known yet but what there is."""
        num_points = 0 if surface is None else len(surface)
        nan = math.nan
        return Round(number, num_points, spent, nan, nan, nan, nan, (), "", None)

    @property
    def cost(self) -> float:
        """Of the cells."""
        return sum(cell.cost for cell in self.cells)


class _Money(NamedTuple):
    """The budget of the loop, and what of it is spent."""

    budget: float
    spent: float

    @property
    def left(self) -> float:
        # A sum of all cells may exceed the budget by a bit.
        return (self.budget - self.spent) * (1 + 1e-9)


def rounds(
    cells: Cells,
    targets: tuple[ArrayLike, ArrayLike],
    budget: float,
    until_width: float,
    measure: Callable[[Sequence[NextCell]], Surface],
    fit: Callable[[Surface], FitT],
    *,
    surface: Surface | None = None,
    unfinished: Sequence[NextCell] = (),
    metric: str = "error",
    spent: Callable[[Surface | None], float] | None = None,
) -> Iterator[Round[FitT]]:
    """Fits, chooses and measures until the prediction is sure or the money is spent.

    A round is yielded before its cells are measured, so that what is to come can be
    written down first. There is no state but the table: called again with the one that
    a stopped loop left, it goes on as that would have, with `unfinished` first.

    Args:
        cells: candidates; those that the table has are left out.
        targets: (params, data) whose prediction is wanted, which broadcast.
        budget: for everything, what the table cost before included.
        until_width: 90 % half-width of the targets' means, over those, that is
            enough; 0: spend all.
        measure: trains cells and returns the whole table. A cell that it lacks then,
            as its run diverged, is not asked for again.
        fit: of a table, with draws.
        surface: the table so far; None: there is none.
        unfinished: cells of the last round which the table lacks.
        metric: of what is measured; the prior's before there is a fit.
        spent: what a table cost; None: the sum of its rows, at the cost of the
            candidates of those sizes (`cost_of`).

    Raises:
        UserError: if a number is not positive, or the budget buys no fit.
    """
    targets = check_targets(budget, targets)
    if not (math.isfinite(until_width) and until_width >= 0):
        raise UserError(f"until_width={until_width:g}: must be 0 or more")
    count_spent = spent or (lambda table: cost_of(table, cells))
    if unfinished:
        surface = measure(unfinished)
    asked = np.zeros(len(cells.cost), bool)
    for number in itertools.count():
        money = _Money(budget, count_spent(surface))
        rest = cells.where(~cells.are_in(*_places(surface)) & ~asked)
        now = Round.start(number, surface, money.spent)
        if _needs_start(surface):
            now = _start(now, surface, rest, money, targets, metric)
        if not now.cells:
            assert surface is not None  # else there would be a start, or an error
            now = _look(now, fit(surface), targets)
            now = _decide(now, rest, money, targets, until_width)
        yield now
        if now.stop:
            return
        sizes = np.array([(cell.params, cell.data) for cell in now.cells]).T
        asked |= cells.are_in(*sizes)
        surface = measure(now.cells)


def _decide(
    now: Round[FitT],
    rest: Cells,
    money: _Money,
    targets: tuple[np.ndarray, np.ndarray],
    until_width: float,
) -> Round[FitT]:
    """The round with its cells, or with a reason to stop."""
    if now.half_width <= until_width:
        return dataclasses.replace(now, stop="reached")
    if not np.any(rest.cost <= money.left):
        return dataclasses.replace(now, stop="budget spent")
    chosen = _next_round(now, rest, money, targets, until_width)
    if not chosen:
        return dataclasses.replace(now, stop="nothing affordable helps")
    return dataclasses.replace(now, cells=tuple(chosen))


def cost_of(surface: Surface | None, cells: Cells) -> float:
    """What the runs of a table cost, at the price of the cells of their sizes.

    Runs of other sizes cost nothing: they were there before.
    """
    if surface is None:
        return 0.0
    cell, point = np.nonzero(cells.same(surface.params, surface.data))
    point, first = np.unique(point, return_index=True)
    return float(np.sum(surface.num_seeds[point] * cells.cost[cell[first]]))


def _places(surface: Surface | None) -> tuple[np.ndarray, np.ndarray]:
    """(params, data) of what was measured [points]."""
    none = np.empty(0)
    return (none, none) if surface is None else (surface.params, surface.data)


def _needs_start(surface: Surface | None) -> bool:
    """Whether there are too few points, or sizes, for a fit."""
    if surface is None or len(surface) < LEAST_CELLS:
        return True
    return min(len(distinct(sizes)) for sizes in _places(surface)) <= 1


def _start(
    now: Round[FitT],
    surface: Surface | None,
    rest: Cells,
    money: _Money,
    targets: tuple[np.ndarray, np.ndarray],
    metric: str,
) -> Round[FitT]:
    """The round with the cells that lack for a fit; none where no cell adds to it."""
    budget, spent = money
    if spent >= budget:
        raise UserError(
            f"budget={write_size(budget)}: {write_size(spent)} were spent on "
            f"{now.num_points} cells, too few for a fit; raise it"
        )
    chosen = first_cells(rest, _places(surface), budget - spent, targets, metric)
    return dataclasses.replace(now, cells=tuple(chosen))


def _look(
    now: Round[FitT], fit: FitT, targets: tuple[np.ndarray, np.ndarray]
) -> Round[FitT]:
    """What a fit says of the targets."""
    said = fit.fitted.predict(*targets)
    widths = (said.mean_upper - said.mean_lower) / (2 * said.value)
    worst = int(np.argmax(widths))
    return dataclasses.replace(
        now,
        value=float(said.value[worst]),
        lower=float(said.mean_lower[worst]),
        upper=float(said.mean_upper[worst]),
        half_width=float(widths[worst]),
        fit=fit,
    )


def _next_round(
    now: Round[FitT],
    rest: Cells,
    money: _Money,
    targets: tuple[np.ndarray, np.ndarray],
    until_width: float,
) -> list[NextCell]:
    """The cells of a round: for a share of what was spent, or else the best one."""
    assert now.fit is not None
    fitted, left = now.fit.fitted, money.left
    share = min(left, _ROUND_SHARE * money.spent)
    if share > 0:
        chosen = next_cells(fitted, rest, share, targets, until_width)
        if chosen:
            return chosen
    return next_cells(fitted, rest, left, targets, until_width)[:1]

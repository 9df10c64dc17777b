"""Which cells to train next, so that a prediction gets surer for the money.

The draws of a fit say how the law's values at any two places vary together. To
measure one cell is to condition on it, which narrows the target by what the two have
in common; cells are taken one at a time, each the best bargain after those before it.
Before there is a fit, the draws are those of the flexible law's prior, conditioned on
the places that were measured: how much a place tells does not depend on its value.

`rounds` is the loop of it: fit, choose, measure, until the prediction is sure enough
or the money is spent. Its only state is the table of what was measured.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting import flexible, predict
from scalepred.fitting.answers import Cost
from scalepred.fitting.laws import Law, Scale
from scalepred.fitting.predict import FittedLaw
from scalepred.metrics import is_bounded
from scalepred.table.surface import Surface

# Candidates: sizes in steps of 2, from the smallest fitted to this many times the
# largest one.
_BEYOND = 16.0
_MAX_CELLS = 64
# A cell whose news narrows the target by less than this share is not worth its name.
_LEAST_GAIN = 1e-3
# What law=auto needs, and the share of the budget that the first design may take.
_LEAST_CELLS, _LEAST_SIZES = 5, 3
_FIRST_SHARE = 0.02
# A round spends at most this share of what was spent before it: the fit learns before
# it spends as much again. With half of that the loop took 1.6 times as much on replayed
# studies (docs/results/planning.md): it never came to the large runs.
_ROUND_SHARE = 1.0
# Draws of the prior, and what it takes for the spread of ln value from the smallest
# size to the largest and for what a run leaves unknown about a law.
_PRIOR_DRAWS = 512
_PRIOR_RANGE = 1.0
_PRIOR_SEED = 0
# How little is known of the level of a value whose scale was never seen.
_LEVEL_SD = 1.0
_SAME_SIZE = 1e-6  # relative: two sizes are one
_COST_PULL = 0.5  # of the powers of a cost towards 1, in squared e-folds


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
        said = f"params={self.params:.4g}, data={self.data:.4g}: costs {self.cost:.3g}"
        if math.isnan(self.after):
            return said
        return f"{said}, narrows ±{self.before:.2%} to ±{self.after:.2%}"


class _Belief(NamedTuple):
    """What is known of ln values, as a normal distribution.

    Attributes:
        covariance: of the candidates and then the targets
            [cells + targets, cells + targets].
        unknown: variance that one run of a candidate leaves [cells].
        floor: variance of the targets that no cell takes away.
        width: 90 % half-width of each target [targets]; NaN: not known.
    """

    covariance: np.ndarray
    unknown: np.ndarray
    floor: float
    width: np.ndarray

    @property
    def num_cells(self) -> int:
        return len(self.unknown)

    def at_targets(self) -> np.ndarray:
        """Variance at each target [targets]."""
        return np.diagonal(self.covariance)[self.num_cells :] + self.floor

    def after(self, cell: int) -> "_Belief":
        """Once a candidate is measured."""
        column = self.covariance[:, cell]
        variance = column[cell] + self.unknown[cell]
        covariance = self.covariance - np.outer(column, column) / variance
        return self._replace(covariance=covariance)

    def gains(self) -> np.ndarray:
        """Share of the targets' variance that each cell takes away [cells]."""
        count = self.num_cells
        variance = np.diagonal(self.covariance)[:count] + self.unknown
        taken = self.covariance[:count, count:] ** 2 / variance[:, None]
        return np.mean(taken / self.at_targets(), axis=1)


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


def half_width(fitted: FittedLaw, targets: tuple[ArrayLike, ArrayLike]) -> np.ndarray:
    """90 % half-width of the mean at (params, data), over that mean [targets]."""
    said = fitted.predict(*_check(1.0, targets))
    return (said.mean_upper - said.mean_lower) / (2 * said.value)


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
    targets = _check(budget, targets)
    if len(fitted.draws) < 2:
        raise UserError("resamples=0: without draws nothing says which cell would help")
    cells = cells.where(cells.cost <= budget)
    if not len(cells.cost):
        return []
    return _best_plan(_believe_fit(fitted, cells, targets), cells, budget, until_width)


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
    targets = _check(budget, targets)
    largest = max(*cells.params, *measured[0]), max(*cells.data, *measured[1])
    cells = cells.where(cells.cost <= budget)
    if not len(cells.cost):
        return []
    belief = _believe_prior(cells, measured, largest, targets, metric)
    return _best_plan(belief, cells, budget, 0.0)


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
    offered = cells
    cells = cells.where(cells.cost <= budget)
    chosen: list[NextCell] = []
    share = _FIRST_SHARE * budget
    if np.any(cells.cost <= share):
        chosen = plan_with_prior(cells, measured, share, targets, metric)
        # More of them would be for the fit to say.
        chosen = chosen[: 2 * _LEAST_CELLS]
    spent = sum(cell.cost for cell in chosen)
    places = [np.append(sizes, [cell[axis] for cell in chosen])
              for axis, sizes in enumerate(measured)]  # fmt: skip
    rest = cells.where(~cells.are_in(*places))
    others = offered.where(~offered.are_in(*places))
    needed = [
        min(_LEAST_SIZES, len(_distinct(np.append(sizes, others[axis]))))
        for axis, sizes in enumerate(places)
    ]
    count = min(_LEAST_CELLS, len(places[0]) + len(others.cost))
    while True:
        missing = [n - len(_distinct(s)) for n, s in zip(needed, places, strict=True)]
        if max(missing) <= 0 and len(places[0]) >= count:
            return chosen
        news = np.zeros(len(rest.cost))
        for axis, sizes in enumerate(places):
            if missing[axis] > 0:
                news += ~_are_in(rest[axis], sizes)
        needed_one = (news > 0) | (max(missing) <= 0)
        # The cheapest of those that bring most of what is missing.
        rank = np.lexsort((rest.cost, -news))
        rank = rank[(needed_one & (rest.cost <= budget - spent))[rank]]
        if not len(rank):
            raise UserError(
                f"budget={budget:g}: buys {len(places[0])} cells, too few for a fit, "
                f"which takes {_LEAST_CELLS} with {_LEAST_SIZES} sizes of model and "
                "of data; raise it or offer smaller cells"
            )
        chosen.append(rest.pick(int(rank[0]), math.nan, math.nan))
        spent += chosen[-1].cost
        places = [
            np.append(sizes, chosen[-1][axis]) for axis, sizes in enumerate(places)
        ]
        rest = rest.where(np.arange(len(rest.cost)) != rank[0])


def learn_cost(params: ArrayLike, data: ArrayLike, cost: ArrayLike) -> Cost:
    """Cost as powers of the sizes, from runs whose cost is known: seconds, a price.

    The powers lie near 1 as far as the runs leave them open: three runs or three
    hundred, a largest run is never thought to be cheap because the small ones were.

    Args:
        params: model sizes, counts [runs].
        data: data sizes, counts [runs].
        cost: of each run, in any unit [runs].

    Raises:
        UserError: if a number is not positive, or there is no run.
    """
    runs = Cells.of(params, data, cost)
    if not len(runs.cost):
        raise UserError("cost: of no run is it known; choose a cost by size")
    x, y, log_cost = (np.log(numbers) for numbers in runs)
    x, y = x - x.max(), y - y.max()
    columns = np.stack([np.ones_like(x), x, y], axis=1)
    # As if one more run, as many e-folds away as this is strong, had powers of 1.
    pull = np.diag([0.0, _COST_PULL, _COST_PULL])
    offset = log_cost - x - y
    factor, *more = np.linalg.solve(columns.T @ columns + pull, columns.T @ offset)
    powers = [1 + float(one) for one in more]
    unit = powers[0] * np.log(runs.params.max()) + powers[1] * np.log(runs.data.max())
    return Cost(float(np.exp(factor - unit)), *powers)


def cost_model(
    name: str,
    surface: Surface,
    seconds: ArrayLike | None = None,
    price_per_hour: float = 0.0,
) -> Cost:
    """What a run costs, by the name of what is saved.

    Args:
        name: flops (as the table counts them), 6mn (FLOPs by Kaplan et al. 2020), mn,
            seconds (of a device, measured) or price (of those seconds).
        surface: the table; its data are those that runs go through.
        seconds: that a run of each point took, NaN where it is not known [points].
        price_per_hour: of a device, in any currency.

    Raises:
        UserError: if the name is unknown, or what it needs is not there.
    """
    if name in ("6mn", "mn"):
        return Cost(6.0 if name == "6mn" else 1.0)
    if name not in ("flops", "seconds", "price"):
        raise UserError(f"cost={name}: must be one of flops, 6mn, mn, seconds, price")
    if name == "price" and not (math.isfinite(price_per_hour) and price_per_hour > 0):
        raise UserError(
            f"price_per_hour={price_per_hour:g}: must be a positive number for "
            "cost=price"
        )
    numbers = surface.compute if name == "flops" else seconds
    known = np.zeros(len(surface), bool)
    if numbers is not None:
        numbers = np.broadcast_to(np.asarray(numbers, np.float64), known.shape)
        known = np.isfinite(numbers)
    if numbers is None or not np.any(known):
        column = "compute" if name == "flops" else "seconds"
        raise UserError(
            f"cost={name}: the table has no {column}; choose cost=6mn or cost=mn"
        )
    unit = price_per_hour / 3600 if name == "price" else 1.0
    return learn_cost(surface.params[known], surface.seen[known], numbers[known] * unit)


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

    @property
    def cost(self) -> float:
        """Of the cells."""
        return sum(cell.cost for cell in self.cells)


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
    written down first. There is no state but the table: called again with the table
    that a stopped loop left, it goes on as that would have. Where it was stopped in
    the middle of a round, the cells of that round which the table lacks come first.

    Args:
        cells: candidates; those that the table has are left out.
        targets: (params, data) whose prediction is wanted, which broadcast.
        budget: for everything, what the table cost before included.
        until_width: 90 % half-width of the targets' means, over those, that is
            enough; 0: spend all.
        measure: trains cells and returns the whole table, earlier rows included. A
            cell that is not in it afterwards, as its run diverged, is not asked for
            again.
        fit: of a table, with draws.
        surface: the table so far; None: there is none.
        unfinished: cells of the last round which the table lacks.
        metric: of what is measured; the prior's before there is a fit.
        spent: what a table cost; None: the sum of its rows, at the cost of the
            candidates of those sizes (`cost_of`).

    Raises:
        UserError: if a number is not positive, or the budget buys no fit.
    """
    targets = _check(budget, targets)
    if not (math.isfinite(until_width) and until_width >= 0):
        raise UserError(f"until_width={until_width:g}: must be 0 or more")
    count_spent = spent or (lambda table: cost_of(table, cells))
    if unfinished:
        surface = measure(unfinished)
    asked = np.zeros(len(cells.cost), bool)
    number = 0
    while True:
        so_far = count_spent(surface)
        left = (budget - so_far) * (1 + 1e-9)  # a sum of all may exceed it by a bit
        none = np.empty(0)
        places = (none, none) if surface is None else (surface.params, surface.data)
        free = ~cells.are_in(*places) & ~asked
        nan = math.nan
        now: Round[FitT] = Round(
            number, len(places[0]), so_far, nan, nan, nan, nan, (), "", None
        )
        rest = cells.where(free)
        chosen = _start(rest, surface, places, budget, so_far, targets, metric)
        if not chosen:
            assert surface is not None  # else there would be a start, or an error
            found = fit(surface)
            now = _look(now, found, targets)
            if now.half_width <= until_width:
                yield dataclasses.replace(now, stop="reached")
                return
            if not np.any(rest.cost <= left):
                yield dataclasses.replace(now, stop="budget spent")
                return
            chosen = _next_round(found.fitted, rest, so_far, left, targets, until_width)
        if not chosen:
            yield dataclasses.replace(now, stop="nothing affordable helps")
            return
        yield dataclasses.replace(now, cells=tuple(chosen))
        sizes = np.array([(cell.params, cell.data) for cell in chosen]).T
        asked |= cells.are_in(*sizes)
        surface = measure(chosen)
        number += 1


def cost_of(surface: Surface | None, cells: Cells) -> float:
    """What the runs of a table cost, at the price of the cells of their sizes.

    Runs of other sizes cost nothing: they were there before.
    """
    if surface is None:
        return 0.0
    cell, point = np.nonzero(cells.same(surface.params, surface.data))
    point, first = np.unique(point, return_index=True)
    return float(np.sum(surface.num_seeds[point] * cells.cost[cell[first]]))


def _start(
    cells: Cells,
    surface: Surface | None,
    places: tuple[np.ndarray, np.ndarray],
    budget: float,
    spent: float,
    targets: tuple[np.ndarray, np.ndarray],
    metric: str,
) -> list[NextCell]:
    """What lacks for a fit; none if it can be made."""
    fewest = min(len(_distinct(sizes)) for sizes in places)
    if surface is not None and len(surface) >= _LEAST_CELLS and fewest > 1:
        return []
    if spent >= budget:
        raise UserError(
            f"budget={budget:g}: {spent:g} were spent on {len(places[0])} cells, too "
            "few for a fit; raise it"
        )
    return first_cells(cells, places, budget - spent, targets, metric)


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
    fitted: FittedLaw,
    rest: Cells,
    spent: float,
    left: float,
    targets: tuple[np.ndarray, np.ndarray],
    until_width: float,
) -> list[NextCell]:
    """The cells of a round: for a share of what was spent, or else the best one."""
    share = min(left, _ROUND_SHARE * spent)
    if share > 0:
        chosen = next_cells(fitted, rest, share, targets, until_width)
        if chosen:
            return chosen
    return next_cells(fitted, rest, left, targets, until_width)[:1]


def _check(
    budget: float, targets: tuple[ArrayLike, ArrayLike]
) -> tuple[np.ndarray, np.ndarray]:
    """The targets' sizes, each [targets].

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


def _believe_fit(
    fitted: FittedLaw, cells: Cells, targets: tuple[np.ndarray, np.ndarray]
) -> _Belief:
    """What the draws of a fit say."""
    places = [np.append(cells[axis], targets[axis]) for axis in (0, 1)]
    values = fitted.log_value(*places, draws=True)
    center = fitted.log_value(cells.params, cells.data)
    # What one run cannot tell: its own noise and the law's misfit there.
    unknown = fitted.noise.of(center) ** 2 + fitted.misfit**2 + 1e-12
    slots = _unseen_slots(fitted.law)
    if slots:
        # Sizes of model that were never seen have one offset in a draw, but each its
        # own in truth: a cell tells nothing of it unless it has the target's size.
        without = fitted.draws.copy()
        without[:, slots] = 0.0
        plain = dataclasses.replace(fitted, draws=without)
        shared = values[:, : len(cells.cost)]
        alone = plain.log_value(cells.params, cells.data, draws=True)
        others = ~_are_in(cells.params, targets[0])
        unknown = unknown + others * np.var(shared - alone, axis=0)
        shared[:, others] = alone[:, others]
    values = values - values.mean(axis=0)
    covariance = values.T @ values / (len(values) - 1)
    width = half_width(fitted, targets)
    return _Belief(covariance, unknown, fitted.misfit**2, width)


def _unseen_slots(law: Law) -> list[int]:
    """Places in theta of what sizes of model without an offset of their own have."""
    law = law.part or law
    names = [parameter.name for parameter in law.parameters]
    return [i for i, name in enumerate(names) if name.endswith("_unseen")]


def _believe_prior(
    cells: Cells,
    measured: tuple[np.ndarray, np.ndarray],
    largest: tuple[float, float],
    targets: tuple[np.ndarray, np.ndarray],
    metric: str,
) -> _Belief:
    """What the flexible law's prior says, given where (not what) was measured."""
    is_loss = not is_bounded(metric)
    settings = flexible.LOSS if is_loss else flexible.ERROR
    members = [member for member in flexible.MEMBERS if member.widen == 1]
    weights = np.array([member.weight for member in members])
    rng = np.random.default_rng(_PRIOR_SEED)
    which = rng.choice(len(members), _PRIOR_DRAWS, p=weights / weights.sum())
    priors = [member.prior(settings, is_loss) for member in members]
    mean, sd = (np.stack(part)[which] for part in zip(*priors, strict=True))
    draws = mean + sd * rng.standard_normal(mean.shape)
    places = [
        np.concatenate([cells[axis], measured[axis], targets[axis]]) / largest[axis]
        for axis in (0, 1)
    ]
    # The level itself is not known: only differences count.
    high = _PRIOR_RANGE if is_loss else 0.0  # an error has a level to fall from
    scale = Scale(0.0, high - _PRIOR_RANGE, high)
    x, y = (np.log(sizes) for sizes in places)
    values = predict.evaluate(flexible.make_law(0, is_loss), draws, x, y, scale)
    values = values - values.mean(axis=0)
    covariance = values.T @ values / (len(values) - 1) + _LEVEL_SD**2
    count = len(cells.cost)
    unknown = np.full(count + len(measured[0]), settings.sigma**2)
    width = np.full(len(targets[0]), math.nan)
    belief = _Belief(covariance, unknown, settings.sigma**2, width)
    for run in range(count, len(unknown)):
        belief = belief.after(run)
    kept = np.r_[:count, len(unknown) : len(covariance)]
    return belief._replace(
        covariance=belief.covariance[np.ix_(kept, kept)], unknown=unknown[:count]
    )


def _best_plan(
    belief: _Belief, cells: Cells, budget: float, until_width: float
) -> list[NextCell]:
    """Greedy by worth, or by worth for the money: whichever ends better.

    Neither is always the better, and the better of the two is at most a constant
    factor from the best there is.
    """
    plans = [
        _choose(belief, cells, budget, price, until_width)
        for price in (np.ones_like(cells.cost), cells.cost)
    ]

    def end(plan: tuple[list[NextCell], float, float]) -> tuple[bool, float]:
        chosen, left, width = plan
        reached = width <= until_width
        return not reached, sum(cell.cost for cell in chosen) if reached else left

    return min(plans, key=end)[0]


def _choose(
    belief: _Belief,
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
    first = belief.at_targets()

    def width() -> float:
        return float(np.max(belief.width * np.sqrt(belief.at_targets() / first)))

    chosen: list[NextCell] = []
    free = np.ones(len(cells.cost), bool)
    before = width()
    while len(chosen) < _MAX_CELLS and not before <= until_width:
        gain = belief.gains()
        worth = free & (cells.cost <= budget) & (gain > _LEAST_GAIN)
        if not np.any(worth):
            break
        best = int(np.argmax(np.where(worth, gain / price, -np.inf)))
        belief = belief.after(best)
        free[best] = False
        budget -= float(cells.cost[best])
        after = width()
        chosen.append(cells.pick(best, before, after))
        before = after
    left = float(np.mean(belief.at_targets() / first))
    return chosen, left, before


def _are_in(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which sizes are one of some others [sizes]."""
    apart = np.abs(np.log(sizes)[:, None] - np.log(others)[None])
    return np.any(apart < _SAME_SIZE, axis=1)


def _distinct(sizes: np.ndarray) -> np.ndarray:
    """The distinct ones of some sizes."""
    ordered = np.sort(sizes)
    steps = np.diff(np.log(ordered), prepend=-np.inf)
    return ordered[steps >= _SAME_SIZE]


def _sizes(smallest: float, largest: float) -> np.ndarray:
    """Sizes in steps of 2 up to some times the largest fitted one."""
    steps = math.floor(math.log2(_BEYOND * largest / smallest) + 1e-9)
    return smallest * 2.0 ** np.arange(steps + 1)

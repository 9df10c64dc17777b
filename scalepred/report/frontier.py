"""The compute-optimal frontier: the least value that each budget buys, and its split.

It agrees with `Fit.best_for_budget`, which asks every draw for a split of its own; here
one split a budget is looked for, under the best fit, at many budgets at once.
"""

import math
from typing import NamedTuple

import numpy as np

from scalepred.fitting.cost import Cost
from scalepred.fitting.estimate import knows_split
from scalepred.fitting.fit import Fit
from scalepred.report.results import Results

PLACES = 60
# Budgets beyond those there are, as a factor.
_BEYOND = 1.6
# ln of how far beyond the fitted model sizes the best ones are looked for. No size that
# is tried is one of those, as such a size may have an offset of its own.
_BELOW, _ABOVE = 13.71, 14.23
# Model sizes tried at each budget, first over all, then about the best.
_COARSE, _FINE, _PASSES = 97, 25, 4
# ln of a size over the law's unit, beyond which no size is.
_REACH = 80.0


class Frontier(NamedTuple):
    """The best splits of budgets, ascending, each field [budgets].

    Attributes:
        budget: training FLOPs of one run.
        params: model size of the best split.
        data: data size, unique where data are seen more than once.
        value: expected there.
        lower: lower end of the 90 % interval for a new measurement; NaN without draws.
        upper: its upper end.
    """

    budget: np.ndarray
    params: np.ndarray
    data: np.ndarray
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def trace_frontier(results: Results, places: int = PLACES) -> Frontier | None:
    """The best splits from below the smallest run to beyond all that was asked for.

    Args:
        results: whose fit is asked.
        places: budgets, evenly spaced in the logarithm.

    Returns:
        None where no split of a budget can be told: the law has one axis, or sizes
        rise together in the points; or where it has no optimum at all.
    """
    fit = results.fit
    if not knows_split(fit.law.axes, fit.surface):
        return None
    runs = [row.compute for row in results.predictions]
    known = np.array([*runs, *asked_budgets(results)])
    known = known[np.isfinite(known) & (known > 0)]
    if not len(known):
        return None
    budget = np.geomspace(known.min() / _BEYOND, known.max() * _BEYOND, places)
    return split_budgets(fit, budget, _most_data(results))


def asked_budgets(results: Results) -> list[float]:
    """The budgets that an answer is about."""
    asked = [answer.asked.get("budget", math.nan) for answer in results.answers]
    return sorted({number for number in asked if math.isfinite(number)})


def _most_data(results: Results) -> float:
    """All the data there are, for costs that do not depend on them."""
    asked = [answer.asked.get("max_data", math.inf) for answer in results.answers]
    finite = [number for number in asked if math.isfinite(number)]
    return finite[0] if finite else float(results.surface.data.max())


def split_budgets(fit: Fit, budget: np.ndarray, max_data: float) -> Frontier | None:
    """The best split of each budget; those without an optimum are left out.

    Args:
        fit: of a law of both sizes.
        budget: training FLOPs of one run, ascending [budgets].
        max_data: all the data there are; used where they cost no FLOPs.
    """
    cost = fit.cost.in_units(1.0, fit.epochs_at() or 1.0)
    if cost.data_power == 0:
        params = np.exp(cost.params_growth.inverse(np.log(budget / cost.factor)))
        data = np.full_like(budget, max_data)
        has_optimum = np.ones(len(budget), bool)
    else:
        params, data, has_optimum = _search(fit, cost, np.log(budget))
    if not np.any(has_optimum):
        return None
    budget, params, data = (part[has_optimum] for part in (budget, params, data))
    said = fit.fitted.predict(params, data)
    return Frontier(budget, params, data, said.value, said.lower, said.upper)


def _search(
    fit: Fit, cost: Cost, log_budget: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Model, data and whether they are an optimum, of each ln(budget) [budgets].

    Along a budget the law falls while model is scarcer than data, then rises: the
    least of some sizes has the optimum between its neighbours.
    """
    sizes = np.log(fit.surface.params)
    tried = np.linspace(sizes.min() - _BELOW, sizes.max() + _ABOVE, _COARSE)
    log_params = np.broadcast_to(tried, (len(log_budget), _COARSE))
    row, has_optimum = np.arange(len(log_budget)), np.ones(len(log_budget), bool)
    best = log_params[:, 0]
    for _ in range(_PASSES):
        value = _value_along(fit, cost, log_budget[:, None], log_params)
        least = np.argmin(value, axis=1)
        inside = np.clip(least, 1, log_params.shape[1] - 2)
        has_optimum &= (least == inside) & np.isfinite(value[row, least])
        best = log_params[row, inside]
        step = log_params[:, 1:2] - log_params[:, :1]
        log_params = best[:, None] + step * np.linspace(-1, 1, _FINE)
    log_data = _log_data(cost, log_budget, best)
    return np.exp(best), np.exp(log_data), has_optimum


def _value_along(
    fit: Fit, cost: Cost, log_budget: np.ndarray, log_params: np.ndarray
) -> np.ndarray:
    """ln of the law where a budget is spent with each model size [budgets, sizes]."""
    log_data = _log_data(cost, log_budget, log_params)
    reached = np.abs(log_data - math.log(fit.fitted.data_unit)) < _REACH
    data = np.exp(np.where(reached, log_data, math.log(fit.fitted.data_unit)))
    value = fit.fitted.log_value(np.exp(log_params), data)
    return np.where(reached & ~np.isnan(value), value, np.inf)


def _log_data(cost: Cost, log_budget: np.ndarray, log_params: np.ndarray) -> np.ndarray:
    """ln of the data that are left for a model of each size."""
    spent = math.log(cost.factor) + cost.params_growth.at(log_params)
    return cost.data_growth.inverse(log_budget - spent)

"""What a run costs by its sizes, learnt from runs whose cost is known."""

import math

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting.cost import Cost
from scalepred.fitting.cost_reading import read_cost
from scalepred.fitting.design.cells import Cells
from scalepred.table.surface import Surface

_COST_PULL = 0.5  # of the powers of a cost towards 1, in squared e-folds


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
    if name == "flops":
        return read_cost(surface).cost
    unit = price_per_hour / 3600 if name == "price" else 1.0
    return learn_cost(surface.params[known], surface.seen[known], numbers[known] * unit)

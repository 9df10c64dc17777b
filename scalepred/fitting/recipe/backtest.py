"""A law of the best setting, held against sizes that it was not fitted to."""

import math
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.fitting.recipe.law import Best, fit_sweep
from scalepred.fitting.recipe.sweep import Points, Sweep


class Hidden(NamedTuple):
    """A size that was hidden from the law.

    Attributes:
        best: what the law says of it.
        tried: the best setting that was tried there.
        step: ln between the settings next to it: the best is known to half of it.
        law: what the law's setting costs, measured: ln of the value there, by a line
            between the settings tried, over the least value; NaN beyond those settings.
        largest: likewise the setting that was best at the largest fitted size.
    """

    best: Best
    tried: float
    step: float
    law: float
    largest: float


def hide_largest(sweep: Sweep, ratio: float, seed: int = 0) -> list[Hidden]:
    """Fits the sizes of at most 1 / ratio of the largest product of sizes.

    Args:
        sweep: of all sizes.
        ratio: above 1.
        seed: of the draws.

    Returns:
        Of each larger size what the law says, beside what was measured.

    Raises:
        UserError: too few sizes are left, or none is hidden.
    """
    work = np.sum([np.log(size) for size in sweep.sizes.values()], axis=0)
    is_kept = work <= work.max() - math.log(ratio) + 1e-9
    if is_kept.all():
        raise UserError(f"hide={ratio:g}: hides no size; give a number above 1")
    law = fit_sweep(_where(sweep, is_kept), seed)
    points = _where(sweep, ~is_kept).gather()
    found = []
    for i in range(len(points.mean)):
        sizes = {name: float(size[i]) for name, size in points.sizes.items()}
        best = law.best(**sizes)
        tried, step = _find_best(points, i)
        found.append(
            Hidden(
                best,
                tried,
                step,
                _measure(points, i, best.setting),
                _measure(points, i, law.largest_setting),
            )
        )
    return found


def _where(sweep: Sweep, mask: np.ndarray) -> Sweep:
    return sweep._replace(
        setting=sweep.setting[mask],
        value=sweep.value[mask],
        sizes={name: size[mask] for name, size in sweep.sizes.items()},
        seed=sweep.seed[mask],
    )


def _find_best(points: Points, number: int) -> tuple[float, float]:
    """The best setting tried at a size, and ln of the step beside it."""
    mean, tried = points.mean[number], points.log_setting[number]
    best = int(np.nanargmin(mean))
    steps = np.diff(tried[np.isfinite(tried)])
    return float(f"{math.exp(tried[best]):.12g}"), float(
        steps[max(best - 1, 0) : best + 1].max()
    )


def _measure(points: Points, number: int, setting: float) -> float:
    """ln of the value at a setting over the least, between the settings tried."""
    known = np.isfinite(points.mean[number])
    tried, mean = points.log_setting[number][known], points.mean[number][known]
    place = math.log(setting)
    if not tried[0] <= place <= tried[-1]:
        return math.nan
    return float(np.interp(place, tried, mean) - mean.min())

"""How well predictions did, in a few numbers."""

import math
from collections.abc import Sequence

import numpy as np


def summarise_errors(errors: np.ndarray) -> tuple[float, float]:
    """Signed mean and population standard deviation of relative errors."""
    return float(np.mean(errors)), float(np.std(errors))


def coverage(
    measured: Sequence[float] | np.ndarray,
    lower: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray,
) -> float:
    """Share of measured values within their intervals; NaN where there are none."""
    measured, lower, upper = (np.asarray(v) for v in (measured, lower, upper))
    if np.any(np.isnan(lower) | np.isnan(upper)):
        return math.nan
    return float(np.mean((measured >= lower) & (measured <= upper)))


def interval_score(
    measured: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: float = 0.9
) -> float:
    """How good intervals are: narrow ones that hold what is measured score least.

    The mean of (width + what lies outside, 2 / (1 - level) times) over the measured
    value (Gneiting and Raftery 2007, Eq. 43).

    Args:
        measured: values above 0 [points].
        lower: lower ends [points].
        upper: upper ends [points].
        level: that the intervals promise.
    """
    outside = np.maximum(lower - measured, 0.0) + np.maximum(measured - upper, 0.0)
    score = upper - lower + 2 / (1 - level) * outside
    return float(np.mean(score / measured))

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

"""Columns of numbers as short text for the script: base64 of float32 or 16 bits.

float32 is as short as five decimals and good for every digit that is shown. Ends of
intervals are shown with fewer: 16 bits of how far they are from their value will do.
"""

import base64
import math
from typing import Any

import numpy as np

# ln of an upper end over its value: what is more says as much as no end at all.
_NO_END = math.log(1e4)


def floats(numbers: np.ndarray) -> str:
    """Any shape, flattened; what is not known is NaN.

    A "~" before it says that it is float64, which numbers take that are too large or
    too small for float32.
    """
    numbers = np.asarray(numbers, np.float64)
    size = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    kind = np.finfo(np.float32)
    if np.all((size > kind.tiny) & (size < kind.max)):
        return _encode(numbers.astype("<f4"))
    return "~" + _encode(numbers.astype("<f8"))


def ends(
    log_value: np.ndarray, log_lower: np.ndarray | None, log_upper: np.ndarray | None
) -> dict[str, Any] | None:
    """How far both ends of intervals lie from their values, as shares of the farthest.

    Args:
        log_value: ln of the values, any shape.
        log_lower: ln of the lower ends, shaped like them; None: there are none.
        log_upper: ln of the upper ends, which may be infinite.

    Returns:
        most: what 65,535 stands for; lower, upper. None where no end is known.
    """
    if log_lower is None or log_upper is None or np.any(np.isnan(log_lower)):
        return None
    below = np.clip(log_value - log_lower, 0.0, _NO_END)
    above = np.clip(log_upper - log_value, 0.0, _NO_END)
    most = float(max(below.max(), above.max(), 1e-9))

    def say(apart: np.ndarray) -> str:
        return _encode(np.round(apart / most * 65535).astype("<u2"))

    return {"most": most, "lower": say(below), "upper": say(above)}


def _encode(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.tobytes()).decode()

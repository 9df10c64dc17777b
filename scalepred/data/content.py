"""Whether what arrays hold is what they are said to hold: one look at their extremes.

A class that no output stands for, or a number that is none, raises nothing where it is
trained on: its cross-entropy is negative, its loss NaN for every run.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

# Arrays are read in blocks of about so many bytes, as some are mapped and larger than
# memory.
_BLOCK_BYTES = 1 << 26
# What is stored in more bits becomes float32 on a device.
_LARGEST = float(np.finfo(np.float32).max)


class Outlier(NamedTuple):
    """The first number that is not where it should be.

    Attributes:
        row: along the first axis.
        value: the number.
    """

    row: int
    value: float | int


def is_whole(dtype: Any) -> bool:
    """Whether an array of this dtype holds whole numbers; bool does not."""
    return bool(jnp.issubdtype(dtype, jnp.integer))


def find_not_finite(array: Any) -> Outlier | None:
    """The first NaN, infinity, or number too large for float32.

    Args:
        array: anything with rows; whole numbers are not looked at.
    """
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return None
    return find_outside(array, -_LARGEST, _LARGEST)


def find_outside(
    array: Any, least: float | int, most: float | int = math.inf
) -> Outlier | None:
    """The first number below `least`, above `most`, or NaN.

    Args:
        array: real or whole numbers, an array or arrays joined [rows, ...].
        least: that is good.
        most: that is good.
    """
    for first, block in _cut_blocks(array):
        low, high = block.min().item(), block.max().item()
        if least <= low and high <= most:  # false of NaN
            continue
        is_bad = ~((block >= least) & (block <= most))
        place = np.unravel_index(int(np.argmax(is_bad)), block.shape)
        return Outlier(first + int(place[0]), block[place].item())
    return None


def _cut_blocks(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks with something in them, and the row that each begins at."""
    start = 0
    for part in getattr(array, "parts", (array,)):
        row_bytes = math.prod(part.shape[1:]) * part.dtype.itemsize
        num_rows = max(1, _BLOCK_BYTES // max(1, row_bytes))
        for first in range(0, part.shape[0], num_rows):
            block = np.asarray(part[first : first + num_rows])
            if block.size:
                yield start + first, block
        start += part.shape[0]

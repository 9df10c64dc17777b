"""One direction of a picture: its range, what it shows, the numbers at its ticks."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

# Units of text where it is largest; half of that on average is a letter's width.
FONT, LETTER = 18, 10.5
_MOST_TICKS = 8


@dataclasses.dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        low: number at the left or lower end, above 0 where `is_log`.
        high: number at the other end, above `low`.
        title: what it shows, with its unit; text of any kind.
        write: a number as it stands at a tick.
        shows: what it shows, for scripts: compute, data, params, value, ...
        is_log: logarithmic, or else linear.
    """

    low: float
    high: float
    title: str
    write: Callable[[float], str]
    shows: str
    is_log: bool = True

    def share(self, numbers: np.ndarray | float) -> np.ndarray:
        """Where numbers lie between low (0) and high (1), shaped like them."""
        low, high = self.low, self.high
        if not self.is_log:
            return (np.asarray(numbers, float) - low) / (high - low)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(np.asarray(numbers, float) / low) / math.log(high / low)


def extent(*numbers: np.ndarray | float, room: float = 0.05) -> tuple[float, float]:
    """The least and the largest finite positive number, and some room about them.

    Args:
        numbers: of any shape, at least one of them finite and above 0.
        room: on each side, as a share of what lies between, on a logarithmic axis.
    """
    flat = np.concatenate([np.ravel(np.asarray(part, float)) for part in numbers])
    flat = flat[np.isfinite(flat) & (flat > 0)]
    low, high = float(flat.min()), float(flat.max())
    margin = max((high / low) ** room, 1.5 if low == high else 1.002)
    return low / margin, high * margin


def choose_ticks(axis: Axis, length: float, is_upward: bool = False) -> list[float]:
    """The most round numbers whose words stand apart on an axis of so many units."""

    def stand_apart(numbers: list[float]) -> bool:
        texts = [axis.write(number) for number in numbers]
        if not 0 < len(texts) <= _MOST_TICKS or len(set(texts)) < len(texts):
            return False
        places = axis.share(np.array(numbers)) * length
        widths = np.array([len(text) * LETTER for text in texts])
        needed = (widths[1:] + widths[:-1]) / 2 + 12
        if is_upward:
            needed = np.full(len(widths) - 1, 1.4 * FONT)
        return bool(np.all(np.diff(places) >= needed))

    found = [series for series in round_numbers(axis) if stand_apart(series)]
    return max(found, key=len, default=[])


def round_numbers(axis: Axis) -> Iterator[list[float]]:
    """Series of round numbers along an axis, each from its low to its high end."""
    low, high = axis.low, axis.high
    span = high - low if not axis.is_log or high / low < 10 else math.nan
    if not math.isnan(span):
        size = math.floor(math.log10(span))
        for digit in (5.0, 2.5, 2.0, 1.0):
            for power in (size, size - 1):
                step = digit * 10.0**power
                places = np.arange(math.ceil(low / step), math.floor(high / step) + 1)
                yield [float(f"{place * step:.6g}") for place in places]
    if not axis.is_log:
        return
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    sets = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
    for digits in sets:
        numbers = [float(f"{d}e{decade}") for decade in decades for d in digits]
        yield [number for number in numbers if low <= number <= high]
    for stride in (2, 3, 4, 5, 10, 20):
        numbers = [10.0**d for d in decades if d % stride == 0]
        yield [number for number in numbers if low <= number <= high]

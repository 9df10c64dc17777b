"""Two curves draw by draw: how far apart, how surely, where they cross.

Curves are ln of the true mean value at ascending sizes [1 + draws, places], the best
fit first. Those of two laws have the same sizes, and draw i of the one belongs to draw
i of the other.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scalepred.fitting.power import Power
from scalepred.fitting.predict import LEVEL, Estimate

_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


class Curve(NamedTuple):
    """Along the compared sizes: best fit and 90 % interval, each [places]."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two groups at one place.

    Attributes:
        at: the place by name: budget; or params, data, epochs.
        first: value of the baseline there, a mean over runs.
        second: of the other.
        relative: second / first - 1; below zero the second is better.
        better: probability that the second is better, 0 to 1; NaN without draws.
        multiplier: how many times less of the compared size the second needs for the
            value that the first has here; infinite where it needs next to nothing, 0
            where it never gets there. None where it is not known what compute buys.
        power: what the shared runs could see there; None: the laws were compared.
        noise: standard deviation of ln of second / first of one pair of runs there;
            NaN: not known.
    """

    at: dict[str, float]
    first: Estimate
    second: Estimate
    relative: Estimate
    better: float
    multiplier: Estimate | None = None
    power: Power | None = None
    noise: float = math.nan

    @property
    def verdict(self) -> str:
        """second | first | none: whose interval of the difference leaves out zero."""
        if self.relative.upper < 0:
            return "second"
        return "first" if self.relative.lower > 0 else "none"


@dataclasses.dataclass(frozen=True)
class Needed:
    """What each of two groups needs to reach a value.

    Attributes:
        value: that is wanted.
        first: of the compared size, by the baseline; infinite where out of reach.
        second: by the other.
        ratio: first / second; NaN where neither ever gets there.
        better: probability that the second needs less.
    """

    value: float
    first: Estimate
    second: Estimate
    ratio: Estimate
    better: float


@dataclasses.dataclass(frozen=True)
class Crossing:
    """Where the one that is better in the end begins to be.

    Attributes:
        ahead: second | first, which is better at the largest size looked at.
        size: from which it is; 0: it is from the smallest size on.
        chance: probability that they cross between the ends.
        low: smallest size looked at.
        high: the largest.
    """

    ahead: str
    size: Estimate
    chance: float
    low: float
    high: float


def difference_along(
    size: float, sizes: np.ndarray, values: Sequence[np.ndarray]
) -> Difference:
    place = int(np.argmin(np.abs(np.log(sizes / size))))
    first, second = values[0][:, place], values[1][:, place]
    found = make_difference({"budget": size}, first, second)
    needed = _sizes_for(first, sizes, values[1])
    with np.errstate(divide="ignore"):
        multiplier = _estimate(size / needed)
    return dataclasses.replace(found, multiplier=multiplier)


def make_difference(
    at: dict[str, float], first: np.ndarray, second: np.ndarray
) -> Difference:
    """From ln of the values of both [1 + draws]."""
    relative = second - first
    with np.errstate(over="ignore"):
        return Difference(
            at=at,
            first=_estimate(np.exp(first)),
            second=_estimate(np.exp(second)),
            relative=_estimate(np.expm1(relative)),
            better=_chance(relative < 0),
        )


def needed_for(value: float, sizes: np.ndarray, values: Sequence[np.ndarray]) -> Needed:
    wanted = np.full(len(values[0]), math.log(value))
    first, second = (_sizes_for(wanted, sizes, own) for own in values)
    never = np.isinf(first) & np.isinf(second)
    either = first > 0, second > 0
    ratio = np.divide(
        np.where(never, 1.0, first),
        np.where(never, 1.0, second),
        out=np.ones(len(first)),
        where=either[0] | either[1],
    )
    if never[0]:
        ratio[:] = math.nan
    return Needed(
        value, _estimate(first), _estimate(second), _estimate(ratio),
        _chance(second < first),
    )  # fmt: skip


def multipliers_along(
    sizes: np.ndarray, values: Sequence[np.ndarray], shown: np.ndarray
) -> Curve:
    """Times less that the second needs for what the first has, at the shown sizes."""
    found = [
        difference_along(float(size), sizes, values).multiplier for size in sizes[shown]
    ]
    ends = [(one.value, one.lower, one.upper) for one in found if one is not None]
    return Curve(*np.array(ends).T)


def _sizes_for(wanted: np.ndarray, sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sizes at which curves fall to a value; infinite if never, 0 if they all are.

    Args:
        wanted: ln of the value of each curve [curves].
        sizes: ascending [places].
        values: ln of the curves [curves, places].
    """
    above = np.minimum.accumulate(values, axis=1) - wanted[:, None]
    after = np.sum(above > 0, axis=1)  # the first place at or below the value
    rows, inner = np.arange(len(above)), np.clip(after, 1, len(sizes) - 1)
    drop = above[rows, inner - 1] - above[rows, inner]
    share = np.clip(above[rows, inner - 1] / np.where(drop > 0, drop, 1.0), 0.0, 1.0)
    found = sizes[inner - 1] * (sizes[inner] / sizes[inner - 1]) ** share
    found = np.where(after == 0, 0.0, found)
    return np.where(after == len(sizes), math.inf, found)


def _between(sizes: np.ndarray, above: np.ndarray, after: int) -> float:
    """The size at which `above` [places] turns from positive to not, before `after`."""
    before = after - 1
    share = above[before] / (above[before] - above[after])
    return float(sizes[before] * (sizes[after] / sizes[before]) ** share)


def find_crossing(sizes: np.ndarray, difference: np.ndarray) -> Crossing:
    """From ln second - ln first [1 + draws, places]."""
    second_ahead = bool(difference[0, -1] < 0)
    behind = difference if second_ahead else -difference
    found = np.empty(len(behind))
    for i, own in enumerate(behind):
        late = np.flatnonzero(own > 0)
        if not len(late):
            found[i] = 0.0
        elif late[-1] == len(sizes) - 1:
            found[i] = math.inf
        else:
            found[i] = _between(sizes, own, int(late[-1]) + 1)
    inside = np.any(difference < 0, axis=1) & np.any(difference > 0, axis=1)
    return Crossing(
        ahead="second" if second_ahead else "first",
        size=_estimate(found),
        chance=_chance(inside),
        low=float(sizes[0]),
        high=float(sizes[-1]),
    )


def make_curve(log_values: np.ndarray) -> Curve:
    with np.errstate(over="ignore"):
        return Curve(*map(np.exp, _quantiles(log_values)))


def relative_curve(log_ratios: np.ndarray) -> Curve:
    """Of ln of the ratio of two curves: how far above the other, 0 where equal."""
    with np.errstate(over="ignore"):
        return Curve(*map(np.expm1, _quantiles(log_ratios)))


def _quantiles(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best fit and interval of each column [1 + draws, places]."""
    best = numbers[0]
    if len(numbers) == 1:
        return best, np.full(best.shape, math.nan), np.full(best.shape, math.nan)
    low, high = np.quantile(numbers[1:], _TAILS, axis=0)
    return best, np.minimum(low, best), np.maximum(high, best)


def _estimate(numbers: np.ndarray) -> Estimate:
    """Best fit and interval of [1 + draws] numbers, which may be infinite."""
    best, drawn = float(numbers[0]), numbers[1:]
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or math.isnan(best):
        return Estimate(best, math.nan, math.nan)
    low = float(np.quantile(drawn, _TAILS[0], method="lower"))
    high = float(np.quantile(drawn, _TAILS[1], method="higher"))
    return Estimate(best, min(low, best), max(high, best))


def _chance(true: np.ndarray) -> float:
    """Share of the draws, of [1 + draws]."""
    return float(np.mean(true[1:])) if len(true) > 1 else math.nan

"""What pairs of runs could have seen of a difference, and what would decide it.

A difference is seen where its 90 % interval leaves out zero. By the law of the
difference (`drift`) the interval of a new table of the same sizes and noise is known
before it is trained; so are those with more seeds.
"""

import dataclasses
import math

import numpy as np
import scipy.special

from scalepred.fitting.discrepancy import one_thread
from scalepred.fitting.drift import Drift, Field

CHANCE = 0.8  # with which a difference is to be seen
_SEEN = 1.645  # standard deviations from zero at which a 90 % interval leaves it out
_SIZES = np.geomspace(3e-4, 1.0, 15)  # differences tried, in ln of the value
_MORE = (1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 200, 500, 1000)  # seeds tried
_CASES = 24  # of the law of the difference that are averaged
_LEAST = 0.05  # of h: a difference there is no more than so much of one here


@dataclasses.dataclass(frozen=True)
class Power:
    """What these runs could see at one place, and what would decide it.

    Attributes:
        smallest: relative difference that had been seen with probability 80 %; 1 where
            none would be, so far from the runs.
        multiplier: the same as times less of the compared size; infinite likewise.
        more_seeds: further seeds of every size that would show the difference that is
            estimated, with probability 80 %; 0: it is seen; infinite: a thousand would
            not.
        params: model size at which one more seed narrows the interval the most.
        data: data size there.
        narrows: by what share of its width.
    """

    smallest: float
    multiplier: float
    more_seeds: float
    params: float
    data: float
    narrows: float


@one_thread()
def find_power(
    drift: Drift,
    params: float,
    data: float,
    drawn: np.ndarray,
    slope: float,
) -> Power:
    """What is known of the difference at one place.

    Args:
        drift: the law of the difference.
        params: model size of the place.
        data: data size.
        drawn: ln of the difference there, the best first [1 + draws].
        slope: of ln of the baseline's value by ln of the compared size, below zero.
    """
    some = dataclasses.replace(drift, cases=drift.cases.take(slice(_CASES)))
    field = Field(some, np.array([params]), np.array([data]))
    smallest = _smallest(field)
    low, high = np.quantile(drawn[1:], (0.05, 0.95))
    is_seen = low > 0 or high < 0
    at, narrows = _best_size(field)
    return Power(
        smallest=-math.expm1(-smallest),
        multiplier=math.exp(min(smallest / -slope, 700.0)) if slope < 0 else math.inf,
        more_seeds=0.0 if is_seen else _seeds_needed(field, abs(float(drawn[0]))),
        params=float(drift.shared.params[at]),
        data=float(drift.shared.data[at]),
        narrows=narrows,
    )


_ALL = slice(None)


def _variances(
    field: Field, level: np.ndarray, more: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of the difference at the place: after the runs, and before them [cases].

    Args:
        field: with one place.
        level: standard deviations in place of what was learnt [cases, ...].
        more: seeds of every size.
    """
    count = field.count
    covariance = field.covariance(_ALL, level)
    measured = field.measured(covariance, _ALL, more)
    towards = covariance[:, :count, count]
    told = np.einsum(
        "di,di->d", towards, np.linalg.solve(measured, towards[..., None])[..., 0]
    )
    before = covariance[:, count, count]
    return before - told, before


def _smallest(field: Field) -> float:
    """Least difference in ln that is seen with CHANCE; infinite if none is."""
    chances = np.array([_find_chance(field, size) for size in _SIZES])
    if chances[0] >= CHANCE:
        return float(_SIZES[0])
    enough = np.flatnonzero(chances >= CHANCE)
    if not len(enough):
        return math.inf
    i = int(enough[0])
    ends = chances[i - 1 : i + 1], np.log(_SIZES[i - 1 : i + 1])
    return math.exp(float(np.interp(CHANCE, *ends)))


def _find_chance(field: Field, size: float, more: float = 0.0) -> float:
    """With which probability a difference is seen.

    The mean over what the law of the difference may be: one case in which sizes differ
    oddly, so that no number of runs would tell, must not decide for all.

    Args:
        field: with one place.
        size: of a difference there, in ln of the value; slopes and all else go with it.
        more: seeds of every size.
    """
    here = np.sqrt(np.sum(field.level[:, :, field.count] ** 2, axis=1))
    here = np.maximum(here, _LEAST)
    after, before = _variances(field, size / here, more)
    # What is told of a difference is drawn towards zero by this share.
    share = np.maximum(1 - after / before, 1e-9)
    beyond = share * size - _SEEN * np.sqrt(after)
    return float(np.mean(scipy.special.ndtr(beyond / np.sqrt(share * after))))


def _seeds_needed(field: Field, difference: float) -> float:
    """Further seeds that show a difference with CHANCE; infinite: a thousand do not."""
    for more in _MORE:
        if difference and _find_chance(field, difference, more) >= CHANCE:
            return float(more)
    return math.inf


def _best_size(field: Field) -> tuple[int, float]:
    """Which size one more pair of runs tells most at, and what share it narrows."""
    count = field.count
    covariance = field.covariance(_ALL)
    measured = field.measured(covariance, _ALL)
    towards = covariance[:, :count, :]
    after = covariance - np.swapaxes(towards, 1, 2) @ np.linalg.solve(measured, towards)
    between = np.mean(after[:, :count, count] ** 2 / (
        np.diagonal(after, axis1=1, axis2=2)[:, :count]
        + field.noise * field.runs
    ), axis=0)  # fmt: skip
    at, now = int(np.argmax(between)), float(np.mean(after[:, count, count]))
    return at, 1 - math.sqrt(max(1 - float(between[at]) / now, 0.0))

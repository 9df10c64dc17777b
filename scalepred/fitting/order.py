"""Whether an order that was said beforehand came true."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from scalepred.config import UserError
from scalepred.fitting.predict import LEVEL, Estimate

# Deviations that the noise known beforehand counts as.
_KNOWN_FREEDOM = 8.0


class OrderScore(NamedTuple):
    """What was measured of a difference that was said beforehand.

    Attributes:
        outcome: confirmed | refuted | undecided.
        predicted: second | first | none: which was said to be better.
        probability: with which that was said, 0.5 to 1; NaN: not known.
        measured: second / first - 1, with the 90 % interval of its mean over runs.
        is_inside: whether the measured difference lies where it was said to, with the
            noise of so many runs; None: not known.
        why: a sentence.
    """

    outcome: str
    predicted: str
    probability: float
    measured: Estimate
    is_inside: bool | None
    why: str


def score_order(
    said: Mapping[str, Any],
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
) -> OrderScore:
    """Holds the values of both arms at a target against what was said of it.

    An order was predicted where the 90 % interval of the difference left out zero. It
    is confirmed, or refuted, where that of the measured difference does so too, on the
    same side or the other one: Student's interval of the paired differences, with the
    noise that the comparison knew.

    Args:
        said: a place or target of a pair in `Comparison.to_record()`.
        first: values of the baseline's runs [runs].
        second: of the other arm's, of the same seeds in the same order [runs].

    Raises:
        UserError: there are no runs, not as many, or values not above 0.
    """
    logs = _differences(first, second)
    known = _number(said.get("noise"))
    ends, spread = _interval(logs, known)
    measured = Estimate(*(float(np.expm1(end)) for end in ends))
    relative, better = said["relative"], said["better"]
    lower, upper = (_number(relative[name]) for name in ("lower", "upper"))
    predicted = "second" if upper < 0 else "first" if lower > 0 else "none"
    seen = "second" if ends[2] < 0 else "first" if ends[1] > 0 else "none"
    probability = math.nan if better is None else max(float(better), 1 - float(better))
    outcome, why = _judge(predicted, seen)
    is_inside = None
    if not (math.isnan(lower) or math.isnan(spread)):
        ends_said = _widen((_number(relative["value"]), lower, upper), spread)
        is_inside = ends_said[0] <= ends[0] <= ends_said[1]
    return OrderScore(outcome, predicted, probability, measured, is_inside, why)


def _number(number: float | str | None) -> float:
    """As it stands in JSON."""
    return math.nan if number is None else float(number)


def _differences(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> np.ndarray:
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise UserError(
            f"score_order: {one.size} values of the first arm and {other.size} of the "
            "second; give one of each for every seed"
        )
    if not (np.all(one > 0) and np.all(other > 0)):
        raise UserError("score_order: values must be above 0; leave out failed runs")
    return np.log(other) - np.log(one)


def _interval(logs: np.ndarray, known: float) -> tuple[list[float], float]:
    """Mean and 90 % interval of ln, and the standard deviation of the mean.

    The noise that was known beforehand counts as some deviations more: of two or three
    runs alone the spread is anybody's guess.
    """
    mean, freedom = float(np.mean(logs)), len(logs) - 1.0
    squares = float(np.sum((logs - mean) ** 2))
    if not math.isnan(known):
        squares += _KNOWN_FREEDOM * known**2
        freedom += _KNOWN_FREEDOM
    if not freedom:
        return [mean, math.nan, math.nan], math.nan
    spread = math.sqrt(squares / freedom / len(logs))
    wide = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * spread
    return [mean, mean - wide, mean + wide], spread


def _judge(predicted: str, seen: str) -> tuple[str, str]:
    if predicted == "none":
        return "undecided", "no order was predicted"
    if seen == "none":
        return "undecided", "the runs at the target do not tell the two apart"
    if seen == predicted:
        return "confirmed", "the one that was said to be better is better"
    return "refuted", "the other one is better"


def _widen(said: tuple[float, float, float], spread: float) -> tuple[float, float]:
    """An interval of the true difference, for a mean that errs by `spread`."""
    value, *ends = (math.log1p(max(number, -1 + 1e-12)) for number in said)
    more = float(special.ndtri((1 + LEVEL) / 2)) * spread
    low, high = (math.hypot(end - value, more) for end in ends)
    return value - low, value + high

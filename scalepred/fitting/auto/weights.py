"""Weights of the models of the average, by how they did in back-tests.

Stacking by predictive density, with few observations and a prior (pseudo-BMA: Yao et
al. 2018).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from scalepred.fitting import backtest

_FREEDOM = 3.0  # degrees of, of Student's t
_MEAN_OF_NORMAL = math.sqrt(2 / math.pi)  # of what is standard normal, without its sign
TEMPER = 0.75  # observations that a back-test counts for


@dataclasses.dataclass(frozen=True)
class MemberScore:
    """One shape that law=auto weighed.

    Attributes:
        name: for people.
        weight: its share of the draws behind every interval.
        errors: (ratio, mean absolute relative error) of each inner back-test.
    """

    name: str
    weight: float
    errors: tuple[tuple[float, float], ...]

    @staticmethod
    def of(
        name: str, weight: float, tests: Sequence[backtest.BackTest]
    ) -> "MemberScore":
        errors = ((test.ratio, test.score().error) for test in tests)
        return MemberScore(name, float(weight), tuple(errors))

    def __str__(self) -> str:
        errors = ", ".join(f"{e:.1%} (above 1/{ratio:g})" for ratio, e in self.errors)
        tested = f"back-test errors {errors}" if errors else "no back-test was possible"
        return f"law=auto: {self.name} weighs {self.weight:.0%}; {tested}"


def weigh(
    prior: np.ndarray, tests: list[list[backtest.BackTest]], usable: np.ndarray
) -> np.ndarray:
    """Weights of the members: prior times the density of what was hidden [members].

    Points hidden together err together, so a back-test counts as one observation of
    their mean size. What few back-tests say moves weights little, and a member that was
    wrong but said so loses less than one that was sure.

    Members that did not fit (`usable` [members]) have none, nor those with a back-test
    that did not, while another has no such. Only back-tests that all have count.
    """
    prior = prior * usable
    by_ratio = [{test.ratio: test for test in own} for own in tests]
    common = [ratio for ratio in by_ratio[0] if all(ratio in own for own in by_ratio)]
    if common:
        score = np.array(
            [sum(_log_density(own[ratio]) for ratio in common) for own in by_ratio]
        )
        score = np.where(np.isfinite(score) & usable, score, -np.inf)
        if np.any(np.isfinite(score)):
            prior = prior * np.exp(TEMPER * (score - score.max()))
    return prior / prior.sum()


def _log_density(test: backtest.BackTest) -> float:
    """Log predictive density of the hidden points as one observation, up to a constant.

    Of Student's t, at the mean of what they miss in promised deviations: one point far
    off must not decide alone, nor one back-test.
    """
    difference, sd = test.difference[~test.mask], test.sd[~test.mask]
    missed = np.mean(np.abs(difference) / sd) / _MEAN_OF_NORMAL
    tail = (_FREEDOM + 1) / 2 * np.log1p(missed**2 / _FREEDOM)
    return float(-np.mean(np.log(sd)) - tail)

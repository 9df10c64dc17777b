"""Weights of the models of the average, by how they did in back-tests."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from scalepred.fitting import backtest

# A model of 10 % smaller back-test errors counts 2.6 times more.
_SHARPNESS = 10.0


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
    prior: np.ndarray,
    tests: list[list[backtest.BackTest]],
    usable: np.ndarray,
    sharpness: float = _SHARPNESS,
) -> np.ndarray:
    """Weights of the members: prior over their back-tests' errors to a power [members].

    Members that did not fit (`usable` [members]) have none, nor those with a back-test
    that did not, while another has no such. Only back-tests that all have count.
    """
    prior = prior * usable
    errors = [{test.ratio: test.score().error for test in own} for own in tests]
    common = [ratio for ratio in errors[0] if all(ratio in own for own in errors)]
    if common:
        known = np.array([[own[ratio] for ratio in common] for own in errors])
        score = np.mean(np.log(known + 1e-6), axis=1)
        score = np.where(np.isfinite(score) & usable, score, np.inf)
        if np.any(np.isfinite(score)):
            prior *= np.exp(-sharpness * (score - score.min()))
    return prior / prior.sum()

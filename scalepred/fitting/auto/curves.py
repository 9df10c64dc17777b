"""law=auto along one size: the flexible curve, M4 and BNSL, averaged.

Their disagreement beyond the points is part of what is not known.
"""

import dataclasses
import functools

import numpy as np

from scalepred.fitting import backtest, least_squares, multistart, predict, solver
from scalepred.fitting.auto import fit as auto
from scalepred.fitting.auto import mean
from scalepred.fitting.auto.weights import MemberScore, weigh
from scalepred.fitting.laws import one_axis
from scalepred.table.surface import Surface

_MORE_POINTS = 2  # than parameters, at least
# Points a parameter of a form that no back-test could try: with fewer a break may hide
# behind the last point.
_UNTRIED_POINTS = 1.4
_FORMS = {
    "params": (one_axis.m4_params, one_axis.bnsl_params),
    "data": (one_axis.m4, one_axis.bnsl),
}


@dataclasses.dataclass(frozen=True)
class Average(auto.Auto):
    """An `Auto` of curves; parameters, health and influence are the flexible curve's.

    Attributes:
        curve: the flexible curve alone.
        others: fits of the published forms.
        weights: of the curve and the others.
    """

    curve: auto.Auto
    others: tuple[least_squares.LeastSquares, ...]
    weights: np.ndarray

    @functools.cached_property
    def parts(self) -> "tuple[auto.Auto | least_squares.LeastSquares, ...]":
        return self.curve, *self.others

    @functools.cached_property
    def fitted(self) -> predict.FittedLaw:
        """The average, with draws that follow one part each, by their weights."""
        rng = np.random.default_rng(self.seed)
        alone = [part.fitted for part in self.parts]
        count = min(len(one.draws) for one in alone)
        which = rng.choice(len(alone), count, p=self.weights)
        chosen = np.eye(len(alone))[which]
        draws = [rng.permutation(one.draws)[:count] for one in alone]
        return dataclasses.replace(
            alone[0],
            law=mean.make_law(tuple(one.law for one in alone)),
            theta=np.concatenate([one.theta for one in alone] + [self.weights]),
            draws=np.concatenate([*draws, chosen], axis=1),
            growth=float(self.weights @ [one.growth for one in alone]),
        )

    @functools.cached_property
    def differences(self) -> np.ndarray:
        """ln(law) - ln(measured) [points]."""
        return self.weights @ np.stack([part.differences for part in self.parts])

    @property
    def members(self) -> tuple[MemberScore, ...]:
        """All that was weighed: the curve's members, then the others."""
        first, *rest = self.weights
        own = [
            dataclasses.replace(score, weight=first * score.weight)
            for score in self.scores
        ]
        others = [
            MemberScore.of(part.law.name, weight, part.back_tests)
            for part, weight in zip(self.others, rest, strict=True)
        ]
        return *own, *others

    @functools.cached_property
    def back_tests(self) -> list[backtest.BackTest]:
        """Of the mean of the parts, where every part has one."""
        return mean.back_tests(self.weights, [part.back_tests for part in self.parts])

    def refit(self, surface: Surface) -> tuple[int, backtest.Refit]:
        """The fewest points it takes, and refits to subsets of another surface."""
        parts = [part.refit(surface) for part in self.parts]

        def refit(masks: np.ndarray) -> np.ndarray:
            logs = np.stack([np.log1p(refit_part(masks)) for _, refit_part in parts])
            return np.expm1(mean.average(self.weights, logs))

        return max(least for least, _ in parts), refit


def with_published_forms(curve: auto.Auto) -> auto.Auto:
    """The flexible curve averaged with the forms that the points suffice for."""
    forms = tuple(
        law
        for law in _FORMS[curve.law.axes[0]]
        if len(curve.surface) >= law.num_parameters + _MORE_POINTS
    )
    others = tuple(
        least_squares.fit(
            curve.surface,
            law,
            solver.RELATIVE,
            resamples=curve.resamples,
            starts=multistart.STARTS,
            seed=curve.seed,
            refit_points=curve.refit_points,
        )
        for law in forms
    )
    others = tuple(
        part
        for part in others
        if part.back_tests
        or len(curve.surface) >= _UNTRIED_POINTS * part.law.num_parameters
    )
    if not others:
        return curve
    weights = weigh(
        np.ones(len(others) + 1),
        [curve.back_tests, *(part.back_tests for part in others)],
        np.ones(len(others) + 1, bool),
    )
    fields = {
        field.name: getattr(curve, field.name) for field in dataclasses.fields(curve)
    }
    fields["law"] = mean.make_law((curve.law, *(part.law for part in others)))
    return Average(**fields, curve=curve, others=others, weights=weights)

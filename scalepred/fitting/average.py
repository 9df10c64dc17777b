"""law=auto along one size: the flexible curve, M4 and BNSL, averaged.

Where only one size varies, the published forms agree on the points and part beyond
them, and no back-test says reliably which is right. Their average errs less than each,
and their disagreement is part of what is not known.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting import (
    auto,
    backtest,
    least_squares,
    multistart,
    one_axis,
    predict,
    solver,
)
from scalepred.fitting.laws import Array, Law, Parameter, Scale
from scalepred.measurements import Surface

_MORE_POINTS = 2  # than parameters, at least
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
            law=self.law,
            theta=np.concatenate([one.theta for one in alone] + [self.weights]),
            draws=np.concatenate([*draws, chosen], axis=1),
            growth=float(self.weights @ [one.growth for one in alone]),
        )

    @functools.cached_property
    def differences(self) -> np.ndarray:
        """ln(law) - ln(measured) [points]."""
        return self.weights @ np.stack([part.differences for part in self.parts])

    @property
    def members(self) -> tuple[auto.MemberScore, ...]:
        """All that was weighed: the curve's members, then the others."""
        first, *rest = self.weights
        own = [
            dataclasses.replace(score, weight=first * score.weight)
            for score in self.scores
        ]
        others = [
            auto.MemberScore.of(part.law.name, weight, part.back_tests)
            for part, weight in zip(self.others, rest, strict=True)
        ]
        return *own, *others

    @functools.cached_property
    def back_tests(self) -> list[backtest.BackTest]:
        """Of the average, where every part has one."""
        of_parts = [{one.ratio: one for one in part.back_tests} for part in self.parts]
        found = []
        for ratio, first in of_parts[0].items():
            if not all(ratio in own for own in of_parts):
                continue
            differences = np.stack([own[ratio].difference for own in of_parts])
            mean = self.weights @ differences
            # Of a mixture: what each part promises, and how far it is from the mean.
            variance = np.stack([own[ratio].sd for own in of_parts]) ** 2
            sd = np.sqrt(self.weights @ (variance + (differences - mean) ** 2))
            found.append(backtest.BackTest(ratio, first.mask, mean, sd))
        return found

    def refit(self, surface: Surface) -> tuple[int, backtest.Refit]:
        """The fewest points it takes, and refits to subsets of another surface."""
        parts = [part.refit(surface) for part in self.parts]

        def refit(masks: np.ndarray) -> np.ndarray:
            logs = np.stack([np.log1p(refit_part(masks)) for _, refit_part in parts])
            return np.expm1(np.einsum("p,p...->...", self.weights, logs))

        return max(least for least, _ in parts), refit


@functools.cache
def make_law(parts: tuple[Law, ...]) -> Law:
    """The weighted geometric mean of laws.

    theta is that of each of them in turn, and then the weights. The published
    parameters are those of the first.
    """
    sizes = [part.num_parameters for part in parts]
    first = parts[0]

    def log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
        theta = jnp.asarray(theta)
        *own, weights = jnp.split(theta, np.cumsum(sizes))
        values = [
            part.log_value(one, x, y, scale)
            for part, one in zip(parts, own, strict=True)
        ]
        return jnp.asarray(sum(w * v for w, v in zip(weights, values, strict=True)))

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        own = theta[..., : sizes[0]]
        return first.public(own, scale, params_unit, data_unit)

    return dataclasses.replace(
        first,
        name="average",
        formula="geometric mean of " + ", ".join(part.name for part in parts),
        source="; ".join(dict.fromkeys(part.source for part in parts)),
        parameters=(
            *(one for part in parts for one in part.parameters),
            *(Parameter(f"weight {p.name}", 0.0, 1.0, is_log=False) for p in parts),
        ),
        log_value=log_value,
        public=public,
        bounded=False,
    )


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
        )
        for law in forms
    )
    if not others:
        return curve
    weights = auto.weigh(
        np.ones(len(others) + 1),
        [curve.back_tests, *(part.back_tests for part in others)],
        np.ones(len(others) + 1, bool),
    )
    fields = {
        field.name: getattr(curve, field.name) for field in dataclasses.fields(curve)
    }
    fields["law"] = make_law((curve.law, *forms))
    return Average(**fields, curve=curve, others=others, weights=weights)

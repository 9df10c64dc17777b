"""Laws of one size alone: learning curves along the data, or along the model.

Each form is written once, as a curve over s, the logarithm of a size relative to the
largest fitted one, and becomes two laws: `power` follows the data, `power_params` the
model size. Published parameters are in counts.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws.law import (
    AMPLITUDE,
    EXPONENT,
    Array,
    Law,
    Parameter,
    Scale,
    Sum,
    Term,
    by_name,
    exp_within_float,
    interpolate,
    log_sum,
    same_response,
)


@dataclasses.dataclass(frozen=True)
class _Curve:
    """A form along one size.

    Attributes:
        name: of the law along the data.
        source: paper and equation.
        formula: one line, in the size s.
        parameters: the inner ones; the exponent is called data_exponent.
        log_value: (theta, s) -> ln of the value.
        start: (uniform numbers [starts, parameters], scale) -> theta.
        public: (theta, ln of the size at s = 0) -> published parameters.
        bounded: see `Law`; such a curve fits its random-guess level.
        is_sum: theta is ln floor, ln amplitude, ln exponent of a sum of powers.
    """

    name: str
    source: str
    formula: str
    parameters: tuple[Parameter, ...]
    log_value: Callable[[Array, Array], jax.Array]
    start: Callable[[np.ndarray, Scale], np.ndarray]
    public: Callable[[np.ndarray, float], dict[str, np.ndarray]]
    bounded: bool = False
    is_sum: bool = False


def _along(axis: str, curve: _Curve) -> Law:
    """The law that follows `curve` along params or data."""
    for_data = axis == "data"

    def rename(name: str) -> str:
        return name if for_data else name.replace("data_exponent", "model_exponent")

    def log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
        del scale
        x, y = jnp.broadcast_arrays(x, y)
        return curve.log_value(theta, y if for_data else x)

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        del scale
        numbers = curve.public(theta, np.log(data_unit if for_data else params_unit))
        return {rename(name): number for name, number in numbers.items()}

    return Law(
        name=curve.name if for_data else f"{curve.name}_params",
        source=curve.source,
        formula=curve.formula + (", s = n" if for_data else ", s = m"),
        parameters=tuple(
            dataclasses.replace(parameter, name=rename(parameter.name))
            for parameter in curve.parameters
        ),
        log_value=log_value,
        start=curve.start,
        public=public,
        unit="counts",
        fits_guess=curve.bounded,
        bounded=curve.bounded,
        axes=(axis,),
        terms=(Term(1, 2, axis),) if curve.is_sum else (),
        sum=Sum(0, same_response) if curve.is_sum else None,
    )


# The saturating power law: Rosenfeld et al. 2020, Eq. 1 and 2, and the second
# estimator (M2) of Alabdulmohsin et al. 2022.
class InnerOfPower(NamedTuple):
    """Inner parameters of the power law, logarithms."""

    e: Array  # the floor E
    a: Array
    alpha: Array


def _power_log_value(theta: Array, s: Array) -> jax.Array:
    log = by_name(InnerOfPower, theta)
    return log_sum(log.e, log.a - jnp.exp(log.alpha) * s)


def _power_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + interpolate(uniform[:, 0], -3.0, 0.0),
        scale.log_low + interpolate(uniform[:, 1], -4.0, 0.0),
        np.log(interpolate(uniform[:, 2], 0.1, 1.2)),
    ]
    return np.stack(columns, axis=1)


def _power_public(theta: np.ndarray, log_unit: float) -> dict[str, np.ndarray]:
    log = by_name(InnerOfPower, theta)
    alpha = np.exp(log.alpha)
    return {
        "E": np.exp(log.e),
        "A": exp_within_float(log.a + alpha * log_unit),
        "data_exponent": alpha,
    }


_power = _Curve(
    name="power",
    source="Rosenfeld et al. 2020, Eq. 1 and 2",
    formula="E + A s^-alpha",
    parameters=(
        Parameter("E", *AMPLITUDE),
        Parameter("A", *AMPLITUDE),
        Parameter("data_exponent", *EXPONENT),
    ),
    log_value=_power_log_value,
    start=_power_start,
    public=_power_public,
    is_sum=True,
)


# Alabdulmohsin et al. 2022, estimator M4: (e - e_inf) / (e_0 - e)^shape = b s^-c.
# Inside, u = (e - e_inf) / (e_0 - e_inf) solves u / (1 - u)^shape = (A / span) s^-c
# with A = b span^shape, in units of the value: where e is small, e - e_inf is about
# A s^-c, so that amplitude, span and shape do not trade off against each other.
class InnerOfM4(NamedTuple):
    """Inner parameters of M4, logarithms."""

    limit: Array  # e_inf
    span: Array  # e_0 - e_inf
    amplitude: Array  # A
    exponent: Array  # c
    shape: Array


_NEWTON_STEPS = 8


def _solve_odds(log_g: Array, shape: Array) -> jax.Array:
    """v = ln(u / (1 - u)) for which ln(u) - shape * ln(1 - u) = log_g.

    The left side, v + (shape - 1) softplus(v), rises with v at a slope between 1 and
    shape and bends one way only, so that Newton's method from its asymptotes
    approaches from one side and cannot overshoot. The step with derivatives comes
    last: at a root it is the implicit function theorem.
    """

    def step(v: Array, log_g: Array, shape: Array) -> Array:
        slope = 1 + (shape - 1) * jax.nn.sigmoid(v)
        return v - (v + (shape - 1) * jax.nn.softplus(v) - log_g) / slope

    fixed_g, fixed_shape = jax.lax.stop_gradient((log_g, shape))
    v = jnp.where(fixed_g < 0, fixed_g, fixed_g / fixed_shape)
    for _ in range(_NEWTON_STEPS):
        v = step(v, fixed_g, fixed_shape)
    return jnp.asarray(step(jax.lax.stop_gradient(v), log_g, shape))


def _m4_log_value(theta: Array, s: Array) -> jax.Array:
    log = by_name(InnerOfM4, theta)
    log_g = log.amplitude - log.span - jnp.exp(log.exponent) * s
    v = _solve_odds(log_g, jnp.exp(log.shape))
    return log_sum(log.limit, log.span - jax.nn.softplus(-v))


def _m4_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    log_inf = scale.log_low + interpolate(uniform[:, 0], -4.0, -0.05)
    # Just above what was seen: the plateau, if the data reach it at all.
    log_guess = scale.log_high + interpolate(uniform[:, 1], 0.02, 0.5)
    columns = [
        log_inf,
        log_guess + np.log1p(-np.exp(log_inf - log_guess)),
        scale.log_low + interpolate(uniform[:, 2], -4.0, 0.5),
        np.log(interpolate(uniform[:, 3], 0.1, 1.2)),
        interpolate(uniform[:, 4], np.log(0.3), np.log(3.0)),
    ]
    return np.stack(columns, axis=1)


def _m4_public(theta: np.ndarray, log_unit: float) -> dict[str, np.ndarray]:
    log = by_name(InnerOfM4, theta)
    exponent, shape = np.exp(log.exponent), np.exp(log.shape)
    return {
        "irreducible": np.exp(log.limit),
        "random_guess": np.exp(np.logaddexp(log.limit, log.span)),
        "b": exp_within_float(log.amplitude - shape * log.span + exponent * log_unit),
        "data_exponent": exponent,
        "shape": shape,
    }


_m4 = _Curve(
    name="m4",
    source="Alabdulmohsin et al. 2022, M4",
    formula="(e - e_inf) / (e_0 - e)^shape = b s^-c",
    parameters=(
        Parameter("irreducible", *AMPLITUDE),
        Parameter("random_guess - irreducible", *AMPLITUDE),
        Parameter("amplitude", *AMPLITUDE),
        Parameter("data_exponent", *EXPONENT),
        # Eight Newton steps reach the last bits of float64 within these.
        Parameter("shape", 0.05, 20.0),
    ),
    log_value=_m4_log_value,
    start=_m4_start,
    public=_m4_public,
    bounded=True,
)


# Caballero et al. 2023, Eq. 1 with one break. Inside, the exponents before and after
# the break, c0 and c0 + c1, are both positive: the published form may rise, a law
# here may not. The amplitude is that of the decaying part at s = 1.
class InnerOfBroken(NamedTuple):
    """Inner parameters of a broken power law, logarithms."""

    floor: Array  # a
    amplitude: Array  # b
    before: Array  # exponent before the break, c0
    after: Array  # and after it, c0 + c1
    at: Array  # d1, where it breaks
    width: Array  # f1, of the break


def _bnsl_log_value(theta: Array, s: Array) -> jax.Array:
    log = by_name(InnerOfBroken, theta)
    before, after = jnp.exp(log.before), jnp.exp(log.after)
    width = jnp.exp(log.width)
    # How much further along the second exponent s is than s = 1 is.
    bent = jax.nn.softplus((s - log.at) / width)
    bent -= jax.nn.softplus(-log.at / width)
    decaying = log.amplitude - before * s - (after - before) * width * bent
    return log_sum(log.floor, decaying)


def _bnsl_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + interpolate(uniform[:, 0], -4.0, 0.0),
        scale.log_low + interpolate(uniform[:, 1], -4.0, 0.0),
        interpolate(uniform[:, 2], np.log(0.02), np.log(1.2)),
        interpolate(uniform[:, 3], np.log(0.05), np.log(2.0)),
        interpolate(uniform[:, 4], -7.0, 0.0),
        interpolate(uniform[:, 5], np.log(0.1), np.log(1.5)),
    ]
    return np.stack(columns, axis=1)


def _bnsl_public(theta: np.ndarray, log_unit: float) -> dict[str, np.ndarray]:
    log = by_name(InnerOfBroken, theta)
    before, after, width = np.exp(log.before), np.exp(log.after), np.exp(log.width)
    bent = width * np.logaddexp(0.0, -log.at / width)
    log_b = log.amplitude + (after - before) * bent + before * log_unit
    return {
        "a": np.exp(log.floor),
        "b": exp_within_float(log_b),
        "c0": before,
        "c1": after - before,
        "d1": np.exp(log.at + log_unit),
        "f1": width,
    }


_bnsl = _Curve(
    name="bnsl",
    source="Caballero et al. 2023, Eq. 1, one break",
    formula="a + b s^-c0 (1 + (s / d1)^(1 / f1))^(-c1 f1)",
    parameters=(
        Parameter("a", *AMPLITUDE),
        Parameter("b", *AMPLITUDE),
        Parameter("c0", *EXPONENT),
        Parameter("c0 + c1", *EXPONENT),
        # A break beyond the largest size cannot be seen, nor one far below all.
        Parameter("d1", 1e-12, 10.0),
        Parameter("f1", 0.02, 20.0),
    ),
    log_value=_bnsl_log_value,
    start=_bnsl_start,
    public=_bnsl_public,
)

_along_data = functools.partial(_along, "data")
_along_params = functools.partial(_along, "params")

power, power_params = _along_data(_power), _along_params(_power)
m4, m4_params = _along_data(_m4), _along_params(_m4)
bnsl, bnsl_params = _along_data(_bnsl), _along_params(_bnsl)

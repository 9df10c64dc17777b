"""Rosenfeld's envelope: between the level of a guess and what no size gets below.

    e = e0 z / sqrt(1 + z^2)                                                     (1)
    z = a n^-alpha + b m^-beta + c, over eta                                     (2)

Source: Rosenfeld et al. 2020, equations 4 and 5. The published form has a gauge
freedom: a, b, c and eta times any k give the same value. Here eta = 1 inside; the
published numbers are those with a = 1.
"""

import dataclasses
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
    interpolate,
    log_sum,
)

# ln(value / random guess) nearer to 0 than this is taken for this.
_NEAR_GUESS = -1e-3


def _odds(log_ratio: Array | float) -> np.ndarray:
    """ln z for which z / sqrt(1 + z^2) = exp(log_ratio); ratios below 1."""
    ratio = np.exp(np.minimum(log_ratio, _NEAR_GUESS))
    return np.log(ratio / np.sqrt(1 - ratio**2))


def _log_envelope(log_z: Array) -> jax.Array:
    """ln of z / sqrt(1 + z^2), stable at both ends."""
    return jnp.asarray(-0.5 * jnp.logaddexp(0.0, -2.0 * log_z))


class Inner(NamedTuple):
    """Inner parameters of Eq. (1), logarithms; eta is 1."""

    a: Array
    alpha: Array  # data exponent
    b: Array
    beta: Array  # model exponent
    c: Array


def _guess(theta: Array, scale: Scale) -> Array | float:
    """ln e0: the sixth parameter where it is fitted, else what is known."""
    return theta[..., 5] if theta.shape[-1] > 5 else scale.log_guess


def _rosenfeld_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    log = by_name(Inner, theta)
    # Eq. (2), the powers as logarithms.
    log_z = log_sum(
        log.a - jnp.exp(log.alpha) * y, log.b - jnp.exp(log.beta) * x, log.c
    )
    return jnp.asarray(_guess(theta, scale) + _log_envelope(log_z))  # Eq. (1)


def _rosenfeld_response(
    theta: np.ndarray, log_value: np.ndarray, scale: Scale
) -> tuple[np.ndarray, np.ndarray]:
    log_guess = np.asarray(_guess(theta, scale))[..., None]
    ratio = np.broadcast_to(log_value - log_guess, (len(theta), len(log_value)))
    ratio = np.minimum(ratio, _NEAR_GUESS)
    return _odds(ratio), 1 / -np.expm1(2 * ratio)


def _rosenfeld_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    fitted = uniform.shape[1] > 5
    # Just above what was seen: the plateau, if the data reach it at all.
    log_guess = scale.log_high + interpolate(uniform[:, -1], 0.02, 0.5)
    log_low = _odds(scale.log_low - (log_guess if fitted else scale.log_guess))
    columns = [
        log_low + interpolate(uniform[:, 0], -3.0, 0.5),
        np.log(interpolate(uniform[:, 1], 0.1, 1.2)),
        log_low + interpolate(uniform[:, 2], -6.0, 0.5),
        np.log(interpolate(uniform[:, 3], 0.1, 1.2)),
        log_low + interpolate(uniform[:, 4], -4.0, 0.0),
    ]
    return np.stack(columns + [log_guess] * fitted, axis=1)


def _rosenfeld_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del params_unit, data_unit  # published in fractions of the reference sizes
    log, log_guess = by_name(Inner, theta), np.asarray(_guess(theta, scale))
    return {
        "data_exponent": np.exp(log.alpha),
        "model_exponent": np.exp(log.beta),
        "b": np.exp(log.b - log.a),
        "c": np.exp(log.c - log.a),
        "eta": np.exp(-log.a),
        "random_guess": np.broadcast_to(np.exp(log_guess), log.a.shape),
        # The limit of Eq. (1) itself, not the paper's approximation for small c.
        "irreducible": np.exp(log_guess - 0.5 * np.logaddexp(0.0, -2.0 * log.c)),
    }


_rosenfeld_parameters = (
    Parameter("a/eta", *AMPLITUDE),
    Parameter("data_exponent", *EXPONENT),
    Parameter("b/eta", *AMPLITUDE),
    Parameter("model_exponent", *EXPONENT),
    Parameter("c/eta", *AMPLITUDE),
)

rosenfeld = Law(
    name="rosenfeld",
    source="Rosenfeld et al. 2020, Eq. 4 and 5",
    formula="e0 t / sqrt(t^2 + eta^2), t = n^-alpha + b m^-beta + c",
    parameters=_rosenfeld_parameters,
    log_value=_rosenfeld_log_value,
    start=_rosenfeld_start,
    public=_rosenfeld_public,
    unit="fractions of the largest fitted m and n",
    bounded=True,
    terms=(Term(0, 1, "data"), Term(2, 3, "params")),
    sum=Sum(4, _rosenfeld_response),
)

# For text the random-guess level is a sixth parameter (paper.md 1.4).
rosenfeld_fitted_guess = dataclasses.replace(
    rosenfeld,
    name="rosenfeld_fitted_guess",
    parameters=(*_rosenfeld_parameters, Parameter("random_guess", *AMPLITUDE)),
    fits_guess=True,
)


# Our relaxation of Rosenfeld's envelope (paper, 1.3 footnote to C1 and 6.4): levels of
# their own for m -> 0 and n -> 0. e = G z / sqrt(1 + z^2), and G rises from the lower
# level to the higher one as the size of the higher level runs out:
#     ln G = ln(lower) + |gap| w^2 / (1 + w^2), gap = ln(data level / model level), (3)
# with w the term of that size alone: a n^-alpha if gap > 0, b m^-beta if gap < 0. So
# G never falls as a size shrinks and the law is monotone; with gap = 0 it is
# `rosenfeld_fitted_guess` to the bit. Where both sizes run out the higher level holds:
# a monotone law cannot tend to both, as e(m, n) <= e(m, 0) and e(m, n) <= e(0, n).
def _two_plateaus_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> Array:
    log, gap = by_name(Inner, theta), theta[6]
    log_data = log.a - jnp.exp(log.alpha) * y
    log_model = log.b - jnp.exp(log.beta) * x
    rise = jnp.maximum(gap, 0.0) * jnp.exp(2 * _log_envelope(log_data))
    rise += jnp.maximum(-gap, 0.0) * jnp.exp(2 * _log_envelope(log_model))
    return _rosenfeld_log_value(theta[:6], x, y, scale) + rise  # Eq. (3)


def _two_plateaus_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    gap = interpolate(uniform[:, 6], -0.7, 0.7)
    theta = _rosenfeld_start(uniform[:, :6], scale)
    # The higher level lies above what was seen, the lower one may be below it.
    theta[:, 5] -= np.abs(gap)
    return np.concatenate([theta, gap[:, None]], axis=1)


def _two_plateaus_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    numbers = _rosenfeld_public(theta[..., :6], scale, params_unit, data_unit)
    lower, gap = numbers.pop("random_guess"), theta[..., 6]
    return {
        **numbers,
        "random_guess_model": lower * np.exp(np.maximum(-gap, 0.0)),
        "random_guess_data": lower * np.exp(np.maximum(gap, 0.0)),
    }


rosenfeld_two_plateaus = dataclasses.replace(
    rosenfeld_fitted_guess,
    name="rosenfeld_two_plateaus",
    source="Rosenfeld et al. 2020, Eq. 4 and 5, and footnote to criterion 1; form ours",
    formula="G t / sqrt(t^2 + eta^2), t = n^-alpha + b m^-beta + c, G between e_m, e_n",
    parameters=(
        *rosenfeld_fitted_guess.parameters,
        Parameter("plateau_gap", -5.0, 5.0, is_log=False),
    ),
    log_value=_two_plateaus_log_value,
    start=_two_plateaus_start,
    public=_two_plateaus_public,
    sum=None,
)

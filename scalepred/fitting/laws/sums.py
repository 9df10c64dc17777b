"""Sums of powers: Chinchilla's, Kaplan's without a floor, and the two coupled.

    e = E + A m^-alpha + B n^-beta                       Hoffmann et al. 2022      (1)
    e = E + ((A m^-alpha)^(1/k) + (B n^-beta)^(1/k))^k   Videau et al. 2026        (2)

Kaplan's law is (2) with k = beta and without E.
"""

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


class Inner(NamedTuple):
    """Inner parameters of Eq. (1), logarithms."""

    e: Array  # the floor E
    a: Array
    alpha: Array  # model exponent
    b: Array
    beta: Array  # data exponent


def _chinchilla_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log = by_name(Inner, theta)
    return log_sum(  # Eq. (1)
        log.e, log.a - jnp.exp(log.alpha) * x, log.b - jnp.exp(log.beta) * y
    )


def start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + interpolate(uniform[:, 0], -2.0, 0.0),
        scale.log_low + interpolate(uniform[:, 1], -6.0, 0.0),
        np.log(interpolate(uniform[:, 2], 0.1, 1.2)),
        scale.log_low + interpolate(uniform[:, 3], -6.0, 0.0),
        np.log(interpolate(uniform[:, 4], 0.1, 1.2)),
    ]
    return np.stack(columns, axis=1)


def public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    log = by_name(Inner, theta)
    alpha, beta = np.exp(log.alpha), np.exp(log.beta)
    return {
        "E": np.exp(log.e),
        "A": exp_within_float(log.a + alpha * np.log(params_unit)),
        "B": exp_within_float(log.b + beta * np.log(data_unit)),
        "model_exponent": alpha,
        "data_exponent": beta,
    }


chinchilla = Law(
    name="chinchilla",
    source="Hoffmann et al. 2022, approach 3",
    formula="E + A m^-alpha + B n^-beta",
    parameters=(
        Parameter("E", *AMPLITUDE),
        Parameter("A", *AMPLITUDE),
        Parameter("model_exponent", *EXPONENT),
        Parameter("B", *AMPLITUDE),
        Parameter("data_exponent", *EXPONENT),
    ),
    log_value=_chinchilla_log_value,
    start=start,
    public=public,
    unit="counts",
    terms=(Term(1, 2, "params"), Term(3, 4, "data")),
    sum=Sum(0, same_response),
)


# Powers of m and n that are coupled by an outer exponent k: inside,
#     E + (A^(1/k) + B^(1/k))^k with A = a m^-(alpha k), B = b n^-(beta k),
# so that amplitudes and exponents are those of the value itself whatever k is.
def _log_coupled(log_a: Array, log_b: Array, k: Array) -> jax.Array:
    return jnp.asarray(k * jnp.logaddexp(log_a / k, log_b / k))


class InnerOfKaplan(NamedTuple):
    """Inner parameters of Kaplan et al. 2020, Eq. 1.5, where k = beta; logarithms."""

    a: Array
    alpha: Array  # model exponent
    b: Array
    beta: Array  # data exponent


def _kaplan_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log = by_name(InnerOfKaplan, theta)
    beta = jnp.exp(log.beta)
    return _log_coupled(log.a - jnp.exp(log.alpha) * x, log.b - beta * y, beta)


def _kaplan_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + interpolate(uniform[:, 0], -3.0, 0.0),
        interpolate(uniform[:, 1], np.log(0.03), np.log(1.0)),
        scale.log_low + interpolate(uniform[:, 2], -3.0, 0.0),
        interpolate(uniform[:, 3], np.log(0.03), np.log(1.0)),
    ]
    return np.stack(columns, axis=1)


def _kaplan_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    log = by_name(InnerOfKaplan, theta)
    alpha, beta = np.exp(log.alpha), np.exp(log.beta)
    return {
        "N_c": exp_within_float(log.a / alpha + np.log(params_unit)),
        "model_exponent": alpha,
        "D_c": exp_within_float(log.b / beta + np.log(data_unit)),
        "data_exponent": beta,
    }


kaplan = Law(
    name="kaplan",
    source="Kaplan et al. 2020, Eq. 1.5",
    formula="((N_c / m)^(alpha / beta) + D_c / n)^beta",
    parameters=(
        Parameter("A", *AMPLITUDE),
        Parameter("model_exponent", *EXPONENT),
        Parameter("B", *AMPLITUDE),
        Parameter("data_exponent", *EXPONENT),
    ),
    log_value=_kaplan_log_value,
    start=_kaplan_start,
    public=_kaplan_public,
    unit="counts",
    terms=(Term(0, 1, "params"), Term(2, 3, "data")),
)


# Videau et al. 2026 (Skaling): Chinchilla's terms under one outer exponent k. The
# form is also that of the supervised law of Busbridge et al. 2025, there gamma.
def _coupled_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log, log_k = by_name(Inner, theta), theta[5]
    terms = log.a - jnp.exp(log.alpha) * x, log.b - jnp.exp(log.beta) * y
    return log_sum(log.e, _log_coupled(*terms, jnp.exp(log_k)))  # Eq. (2)


def _coupled_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    log_k = interpolate(uniform[:, 5], np.log(0.3), np.log(2.0))
    return np.append(start(uniform[:, :5], scale), log_k[:, None], axis=1)


def _coupled_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    log, k = by_name(Inner, theta), np.exp(theta[..., 5])
    alpha, beta = np.exp(log.alpha) / k, np.exp(log.beta) / k
    return {
        "E": np.exp(log.e),
        "A": exp_within_float(log.a / k + alpha * np.log(params_unit)),
        "B": exp_within_float(log.b / k + beta * np.log(data_unit)),
        "model_exponent": alpha,
        "data_exponent": beta,
        "k": k,
    }


coupled = Law(
    name="coupled",
    source="Videau et al. 2026 (Skaling)",
    formula="E + (A m^-alpha + B n^-beta)^k",
    parameters=(
        Parameter("E", *AMPLITUDE),
        Parameter("A^k", *AMPLITUDE),
        Parameter("k model_exponent", *EXPONENT),
        Parameter("B^k", *AMPLITUDE),
        Parameter("k data_exponent", *EXPONENT),
        # Below, the larger of two terms; above, their product.
        Parameter("k", 0.02, 50.0),
    ),
    log_value=_coupled_log_value,
    start=_coupled_start,
    public=_coupled_public,
    unit="counts",
    terms=(Term(1, 2, "params"), Term(3, 4, "data")),
)

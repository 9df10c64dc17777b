"""Chinchilla's law where data are repeated: a second pass is worth less than new data.

With U unique data and R = epochs - 1 repeats it sees D' data, with U_N of the N
parameters in use and R_N = N / U_N - 1 it sees N' parameters:

    D' = U + U R_D* (1 - exp(-R / R_D*))                                         (1)
    N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)), U_N = min(N, optimal N for U)    (2)

The optimum is where alpha A N^-alpha = beta B U^-beta (3), whatever the units are: what
the paper writes as G (U G)^(beta / alpha), G = (alpha A / (beta B))^(1 / (alpha +
beta)). The paper ties alpha to beta and fits R_D* and R_N* last; here all are free.

Source: Muennighoff et al. 2023, equations 5 to 7.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws.law import (
    Array,
    Law,
    Parameter,
    Scale,
    by_name,
    interpolate,
    log_sum,
)
from scalepred.fitting.laws.sums import Inner, chinchilla, public, start


class Decay(NamedTuple):
    """How fast repeats lose their worth; logarithms."""

    of_data: Array  # R_D*
    of_params: Array  # R_N*


def log_worth(log_times: Array, log_scale: Array) -> jax.Array:
    """ln of what exp(log_times) times the same are worth: 1 + s (1 - exp(-R / s)).

    R = exp(log_times) - 1 are the times beyond the first, s = exp(log_scale).
    """
    # Beyond e^60 all is lost, and there would be no derivative.
    repeats = jnp.expm1(jnp.minimum(log_times, 60.0))
    scale = jnp.exp(log_scale)
    return jnp.log1p(-scale * jnp.expm1(-repeats / scale))


def _constrained_log_value(
    theta: Array, x: Array, y: Array, scale: Scale, z: Array
) -> jax.Array:
    del scale
    log, decay = by_name(Inner, theta), by_name(Decay, theta[5:])
    alpha, beta = jnp.exp(log.alpha), jnp.exp(log.beta)
    optimal = (log.alpha + log.a - log.beta - log.b + beta * y) / alpha  # Eq. (3)
    used = jnp.minimum(x, optimal)
    return log_sum(
        log.e,
        log.a - alpha * (used + log_worth(x - used, decay.of_params)),  # Eq. (2)
        log.b - beta * (y + log_worth(z, decay.of_data)),  # Eq. (1)
    )


def _constrained_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    decays = interpolate(uniform[:, 5:], np.log(1.0), np.log(100.0))
    return np.append(start(uniform[:, :5], scale), decays, axis=1)


def _constrained_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    decay = by_name(Decay, theta[..., 5:])
    return {
        **public(theta, scale, params_unit, data_unit),
        "R_D*": np.exp(decay.of_data),
        "R_N*": np.exp(decay.of_params),
    }


data_constrained = Law(
    name="data_constrained",
    source="Muennighoff et al. 2023, Eq. 5 to 7",
    formula=(
        "E + A N'^-alpha + B D'^-beta, D' = n (1 + R_D* (1 - exp(-(epochs - 1) / "
        "R_D*))), N' likewise of m beyond what is optimal for n"
    ),
    parameters=(
        *chinchilla.parameters,
        # Below, a second pass is worth nothing; above, as much as new data.
        Parameter("R_D*", 1e-3, 1e5),
        Parameter("R_N*", 1e-3, 1e5),
    ),
    log_value=_constrained_log_value,
    start=_constrained_start,
    public=_constrained_public,
    unit="counts",
    axes=("params", "data", "epochs"),
)

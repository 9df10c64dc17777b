"""A law turned round: which size, split or cost reaches a value.

Every law is monotone in m and n, so an inverse is a bisection in the logarithm of a
size, to the last bits of float64, for the best fit and for every draw at once.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from scalepred.fitting import solver
from scalepred.fitting.laws import Array, Law, Scale
from scalepred.fitting.predict import FittedLaw
from scalepred.runtime import compiler

# Sizes looked at: e^+-80 times the reference, which is every size there is.
REACH = 80.0
_BISECTIONS = 64


def log_value_at(fitted: FittedLaw, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """ln of the law for the best fit and each draw, each at its own place."""
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    return solve_each(_value_at, fitted, theta, x, y)


def solve_each(
    solve: Callable[..., jax.Array],
    fitted: FittedLaw,
    theta: np.ndarray,
    *numbers: np.ndarray,
) -> np.ndarray:
    """Vectorises `solve` over the best fit and the draws, compiled once a law."""
    count = len(theta)
    index = np.minimum(np.arange(solver.bucket(count)), count - 1)
    z = None if fitted.epochs is None else math.log(fitted.epochs)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        padded = [np.asarray(number, np.float64)[index] for number in numbers]
        return np.asarray(
            _vectorised(solve, fitted.law, fitted.scale, z, theta[index], *padded)
        )[:count]


@compiler.jit_plainly(static_argnums=(0, 1))
def _vectorised(
    solve: Callable[..., jax.Array],
    law: Law,
    scale: Scale,
    z: float | None,
    theta: Array,
    *numbers: Array,
) -> jax.Array:
    return jax.vmap(functools.partial(solve, law.at(z), scale))(theta, *numbers)


def _bisect(
    is_above: Callable[[jax.Array], jax.Array], low: ArrayLike, high: ArrayLike
) -> jax.Array:
    """Where `is_above` turns true on [low, high]; true at `high` is assumed."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        above = is_above(middle)
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    ends = jnp.asarray(low, jnp.float64), jnp.asarray(high, jnp.float64)
    ends = jax.lax.fori_loop(0, _BISECTIONS, halve, ends)
    return jnp.mean(jnp.stack(ends))


def _value_at(law: Law, scale: Scale, theta: Array, x: Array, y: Array) -> jax.Array:
    return jnp.asarray(law.log_value(theta, x, y, scale))


def needed_data(
    law: Law, scale: Scale, theta: Array, wanted: Array, x: Array
) -> jax.Array:
    """ln(n / N) at which the law falls to `wanted`; infinite if it never does."""
    return _size_at(lambda y: law.log_value(theta, x, y, scale), wanted)


def needed_params(
    law: Law, scale: Scale, theta: Array, wanted: Array, y: Array
) -> jax.Array:
    """ln(m / M) at which the law falls to `wanted`; infinite if it never does."""
    return _size_at(lambda x: law.log_value(theta, x, y, scale), wanted)


def _size_at(log_value: Callable[[jax.Array], jax.Array], wanted: Array) -> jax.Array:
    found = _bisect(lambda size: log_value(size) <= wanted, -REACH, REACH)
    return jnp.where(log_value(jnp.asarray(REACH)) <= wanted, found, jnp.inf)


def best_split(
    law: Law,
    scale: Scale,
    theta: Array,
    log_cost: Array,
    log_unit: Array,
    params_power: Array,
    data_power: Array,
    top: Array,
) -> jax.Array:
    """ln(m / M) that minimises the law at one cost, with y at most `top`.

    Along that line the law falls while model is scarcer than data, then rises: the
    optimum is where the two slopes meet, in closed form (b beta / alpha) n^alpha =
    m^beta for Rosenfeld with both powers 1 (paper.md 6.1).
    """
    work = log_cost - log_unit

    def data_is_scarcer(x: jax.Array) -> jax.Array:
        y = (work - params_power * x) / data_power
        slopes = jax.grad(
            lambda sizes: law.log_value(theta, sizes[0], sizes[1], scale)
        )(jnp.stack([x, y]))
        return data_power * slopes[0] > params_power * slopes[1]  # both negative

    low = jnp.maximum(-REACH, (work - data_power * top) / params_power)
    high = jnp.minimum(REACH, (work + data_power * REACH) / params_power)
    return _bisect(data_is_scarcer, low, high)


def least_cost(
    law: Law, scale: Scale, theta: Array, wanted: Array, log_unit: Array, *plan: Array
) -> jax.Array:
    """ln of the least cost that reaches `wanted`; infinite if none does."""
    params_power, data_power, _ = plan

    def reached(log_cost: jax.Array) -> jax.Array:
        x = best_split(law, scale, theta, log_cost, log_unit, *plan)
        y = (log_cost - log_unit - params_power * x) / data_power
        return law.log_value(theta, x, y, scale) <= wanted

    high = jnp.asarray(log_unit + REACH)
    found = _bisect(reached, log_unit - REACH, high)
    return jnp.where(reached(high), found, jnp.inf)

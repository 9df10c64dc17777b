"""A law turned round: which size, split or cost reaches a value.

Every law is monotone in m and n, so an inverse is a bisection in the logarithm of a
size, to the last bits of float64, for the best fit and for every draw at once.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from scalepred.fitting import solver
from scalepred.fitting.cost import Cost, Growth
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


class _Plan(NamedTuple):
    """A cost by x = ln(m / M) and y = ln(n / N), and the largest y there is."""

    log_factor: Array
    top: Array
    params: Growth
    data: Growth


def _read_plan(kinds: tuple[int, int], numbers: tuple[Array, ...]) -> _Plan:
    log_factor, top, *growths = numbers
    m_power, m_bend, m_bend_power, n_power, n_bend, n_bend_power = growths
    return _Plan(
        log_factor,
        top,
        Growth(m_power, m_bend, m_bend_power, kinds[0]),
        Growth(n_power, n_bend, n_bend_power, kinds[1]),
    )


def _best_split(
    kinds: tuple[int, int],
    law: Law,
    scale: Scale,
    theta: Array,
    log_cost: Array,
    *numbers: Array,
) -> jax.Array:
    """ln(m / M) and ln(n / N) that minimise the law at one cost [2].

    Along that line the law falls while model is scarcer than data, then rises: the
    optimum is where the two slopes meet, in closed form (b beta / alpha) n^alpha =
    m^beta for Rosenfeld with both powers 1 (paper.md 6.1).
    """
    plan = _read_plan(kinds, numbers)

    def data_for(x: jax.Array) -> jax.Array:
        return plan.data.inverse(log_cost - plan.log_factor - plan.params.at(x))

    def data_is_scarcer(x: jax.Array) -> jax.Array:
        y = data_for(x)
        inside = jnp.clip(y, -REACH, plan.top)
        slopes = jax.grad(
            lambda sizes: law.log_value(theta, sizes[0], sizes[1], scale)
        )(jnp.stack([x, inside]))
        # Both are negative.
        of_params, of_data = plan.params.slope(x), plan.data.slope(inside)
        is_scarcer = of_data * slopes[0] > of_params * slopes[1]
        return (y < -REACH) | ((y < plan.top) & is_scarcer)

    x = _bisect(data_is_scarcer, -REACH, REACH)
    return jnp.stack([x, data_for(x)])


def _params_bought(
    kinds: tuple[int, int],
    law: Law,
    scale: Scale,
    theta: Array,
    log_cost: Array,
    *numbers: Array,
) -> jax.Array:
    """ln(m / M) and ln(n / N) at one cost with all data, which cost nothing [2]."""
    plan = _read_plan(kinds, numbers)
    return jnp.stack([plan.params.inverse(log_cost - plan.log_factor), plan.top])


def _least_cost(
    kinds: tuple[int, int],
    law: Law,
    scale: Scale,
    theta: Array,
    wanted: Array,
    *numbers: Array,
) -> jax.Array:
    """ln of the least cost that reaches `wanted`; infinite if none does."""
    log_factor = numbers[0]

    def reached(log_cost: jax.Array) -> jax.Array:
        x, y = _best_split(kinds, law, scale, theta, log_cost, *numbers)
        return law.log_value(theta, x, y, scale) <= wanted

    high = jnp.asarray(log_factor + REACH)
    found = _bisect(reached, log_factor - REACH, high)
    return jnp.where(reached(high), found, jnp.inf)


def split_costs(
    fitted: FittedLaw, log_cost: np.ndarray, cost: Cost, max_data: float
) -> tuple[np.ndarray, np.ndarray]:
    """ln(m / M) and ln(n / N) of the best split of each cost, with at most `max_data`.

    Args:
        fitted: the law and its draws.
        log_cost: ln of the cost, for the best fit and each draw [1 + draws].
        cost: by sizes; where data cost nothing all of them are used.
        max_data: largest n.
    """
    solve = _best_split if cost.data_power else _params_bought
    split = _solve_plan(solve, fitted, log_cost, cost, max_data)
    return split[:, 0], split[:, 1]


def least_costs(
    fitted: FittedLaw, wanted: np.ndarray, cost: Cost, max_data: float
) -> np.ndarray:
    """ln of the least cost that reaches each ln(value), infinite if none does.

    Args: see `split_costs`; data must cost something.
    """
    return _solve_plan(_least_cost, fitted, wanted, cost, max_data)


def _solve_plan(
    solve: Callable[..., jax.Array],
    fitted: FittedLaw,
    asked: np.ndarray,
    cost: Cost,
    max_data: float,
) -> np.ndarray:
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    cost = cost.in_units(fitted.params_unit, fitted.data_unit)
    params, data = cost.params_growth, cost.data_growth
    top = min(REACH, math.log(max_data / fitted.data_unit))
    numbers = math.log(cost.factor), top, *params[:3], *data[:3]
    plan = [np.full(len(theta), number) for number in numbers]
    solve = _of_kinds(solve, (params.kind, data.kind))
    return solve_each(solve, fitted, theta, asked, *plan)


@functools.cache
def _of_kinds(
    solve: Callable[..., jax.Array], kinds: tuple[int, int]
) -> Callable[..., jax.Array]:
    """One object for each kind of cost, so that it is compiled once."""
    return functools.partial(solve, kinds)

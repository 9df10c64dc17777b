"""The objective and its derivatives, by jax; what points say of parameters.

With d the difference of a point, J its derivative by theta, w its weight, m and p mean
and precision of the prior:

    objective = sum w rho(d) + sum p (theta - m)^2                               (1)
    gradient  = sum w rho'(d) J + 2 p (theta - m)                                (2)
    Hessian   = sum w rho''(d) J J^T + sum w rho'(d) d'' + 2 diag(p)             (3)

Gauss-Newton leaves the middle term of (3) out and takes a positive curvature for rho''.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws import Array, Law
from scalepred.fitting.solver.problem import (
    FEW_LANES,
    Problem,
    in_parts,
    spread_lanes,
)
from scalepred.fitting.solver.residual import Residual
from scalepred.runtime import compiler

# Points of a lane that are looked at together: more would not stay in the cache. Lanes
# of at least four times as many are padded to a multiple of it.
_POINTS_OF_CHUNK = 512


class Information(NamedTuple):
    """What lanes' points say of their parameters, at given parameters.

    Attributes:
        difference: ln(law) - ln(measured), 0 for points left out [lanes, points].
        weight: of each point, robust part included, in units of 1 / sigma^2
            [lanes, points].
        of_data: expected second derivative of half the objective, without the prior
            [lanes, parameters, parameters].
        total: the same with the prior.
    """

    difference: np.ndarray
    weight: np.ndarray
    of_data: np.ndarray
    total: np.ndarray


def information(
    law: Law, problem: Problem, theta: np.ndarray, residual: Residual
) -> Information:
    """How well each lane's parameters are known, to first order.

    Args:
        law: the functional form.
        problem: as for `solve`.
        theta: where, mostly the solution [lanes, parameters].
        residual: what was minimised.
    """
    difference, slopes = linearise(law, problem, theta)
    sigma = np.asarray(problem.sigma, np.float64)[..., None]
    rho = residual.rho(difference, sigma)
    curvature = np.asarray(problem.weight * rho.curvature / 2)
    of_data = np.swapaxes(slopes * curvature[..., None], 1, 2) @ slopes
    prior = np.asarray(problem.prior_precision)[..., None] * np.eye(theta.shape[1])
    return Information(difference, curvature * sigma**2, of_data, of_data + prior)


def linearise(
    law: Law, problem: Problem, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The law and its slopes at every point of positive weight.

    Returns:
        ln(law) - ln(measured) [lanes, points] and its derivative by theta
        [lanes, points, parameters].
    """
    difference, jacobian = in_parts(
        lambda _, part, theta: _linearise_lanes(law, theta, part),
        FEW_LANES,
        np.arange(len(theta)),
        spread_lanes(problem, len(theta)),
        np.asarray(theta, np.float64),
    )
    points = np.shape(problem.x)[-1]
    return difference[:, :points], np.swapaxes(jacobian, 1, 2)[:, :points]


def look(
    law: Law, residual: Residual, is_exact: Array, theta: jax.Array, one: Problem
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Objective, gradient, Hessian but for the law's curvature, positive diagonal."""
    add = functools.partial(_add_points, law, residual, is_exact, theta)
    size = len(theta)
    sums = jnp.zeros(()), jnp.zeros(size), jnp.zeros((size, size)), jnp.zeros(size)
    points = one.x.shape[0]
    if points < 4 * _POINTS_OF_CHUNK:
        sums = add(sums, one)
    else:

        def cut(leaf: Array) -> jax.Array:
            return jnp.reshape(leaf, (-1, _POINTS_OF_CHUNK))

        of_points = ("x", "y", "log_value", "weight", "z")
        chunks = {
            name: cut(leaf)
            for name in of_points
            if (leaf := getattr(one, name)) is not None
        }
        sums, _ = jax.lax.scan(
            lambda sums, chunk: (add(sums, one._replace(**chunk)), None), sums, chunks
        )
    objective, gradient, hessian, diagonal = sums
    precision = jnp.asarray(one.prior_precision)
    from_prior = theta - one.prior_mean
    objective += jnp.sum(precision * from_prior**2)
    gradient += 2 * precision * from_prior
    return (
        objective,
        gradient,
        hessian + 2 * jnp.diag(precision),
        diagonal + 2 * precision,
    )


_Sums = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _add_points(
    law: Law,
    residual: Residual,
    is_exact: Array,
    theta: jax.Array,
    sums: _Sums,
    one: Problem,
) -> _Sums:
    """What some points add to `look`, its prior apart."""
    d, jacobian = _linearise(law, theta, one)
    rho, slope, second, curvature = residual.rho_of(d, one.sigma, one.above)
    # A padded or left-out point may be anything, NaN included.
    rho = jnp.where(one.weight > 0, rho, 0.0)
    objective, gradient, hessian, diagonal = sums
    objective += jnp.sum(one.weight * rho)
    gradient += jacobian @ (one.weight * slope)
    diagonal += (jacobian * jacobian) @ (one.weight * curvature)
    if residual.has_kinks:
        curvature = jnp.where(is_exact, second, curvature)
    hessian += (jacobian * (one.weight * curvature)) @ jacobian.T
    return objective, gradient, hessian, diagonal


def law_curvature(
    law: Law, residual: Residual, theta: jax.Array, one: Problem
) -> jax.Array:
    """What the law's second derivatives add to the objective's [parameters, same]."""
    used = one.weight > 0
    d, _ = _linearise(law, theta, one)
    pull = jnp.where(
        used, one.weight * residual.rho_of(d, one.sigma, one.above).slope, 0.0
    )

    def pulled(theta: jax.Array) -> jax.Array:
        values = law.at(one.z).log_value(theta, one.x, one.y, one.scale)
        return jnp.sum(pull * jnp.where(used, values, 0.0))

    return jax.hessian(pulled)(theta)


@compiler.jit_plainly(static_argnums=0)
def _linearise_lanes(
    law: Law, theta: Array, problem: Problem
) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(functools.partial(_linearise, law))(jnp.asarray(theta), problem)


def _linearise(law: Law, theta: jax.Array, one: Problem) -> tuple[jax.Array, jax.Array]:
    """d [points] and its derivative [parameters, points]; 0 for points left out."""

    def difference(theta: jax.Array) -> jax.Array:
        values = law.at(one.z).log_value(theta, one.x, one.y, one.scale)
        return values - one.log_value

    d, push = jax.linearize(difference, theta)
    jacobian = jax.vmap(push)(jnp.eye(len(theta)))
    used = one.weight > 0
    return jnp.where(used, d, 0.0), jnp.where(used, jacobian, 0.0)

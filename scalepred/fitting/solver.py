"""One batched least-squares solver for every law.

Levenberg-Marquardt in float64, many independent lanes at once: starts, resamples,
folds and whole problems are all just lanes. A lane whose numbers go bad ends with a
status and disturbs no other. This file and `training/ensemble.py` are the only ones
with a lane axis.

Every residual is a function of d = ln(law) - ln(measured), so that a law is all a
fit needs: derivatives come from jax.
"""

import dataclasses
import enum
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from scalepred.fitting.laws import Array, Law, Scale

_STEP_TOLERANCE = 1e-10  # of an inner parameter (mostly logarithms)
_OBJECTIVE_TOLERANCE = 1e-14  # relative
_MAX_STEP = 1.5  # per iteration: a factor of 4.5 in a logarithmic parameter
_MAX_DAMPING = 1e14
# Below this many parameters the normal equations are solved by unrolled scalar
# operations, vectorised over lanes; LAPACK pays a call a lane.
_UNROLLED_PARAMETERS = 9
# Lanes are solved in blocks of this size: a program is compiled for a block, never for
# a number of lanes, and a slow lane holds up its own block only.
_BLOCK = 64
# Points are padded to the next of these times a power of two, so that a new table of
# another length does not compile again.
_BUCKETS = (4, 5, 6, 7)


class Status(enum.IntEnum):
    """How a lane ended."""

    CONVERGED = 0
    BOUND_HIT = 1  # converged, with a parameter at its bound
    ITERATION_LIMIT = 2
    NOT_FINITE = 3


@dataclasses.dataclass(frozen=True)
class Residual:
    """What is minimised: sum of weight * rho(d), d = ln(law) - ln(measured).

    Attributes:
        kind: relative: rho = (law / measured - 1)^2 (paper, section 4) | log: d^2 |
            huber: of d, d^2 / 2 up to delta and linear beyond (Hoffmann et al.) |
            robust: d^2 / sigma^2, linear from about delta sigmas on, and times
            `above` where the measurement lies above the law: badly tuned runs do.
        delta: knee of huber (in d) and robust (in sigmas).
        above: of robust.
    """

    kind: str = "relative"
    delta: float = 1e-3
    above: float = 1.0

    def rho(
        self, d: ArrayLike, sigma: ArrayLike
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """rho, its derivative, and the curvature Gauss-Newton uses, each like d."""
        d = jnp.asarray(d)
        if self.kind == "robust":
            side = jnp.where(d < 0, self.above, 1.0)
            bend = jnp.sqrt(1 + (d / (sigma * self.delta)) ** 2)
            curvature = 2 * side / (sigma**2 * bend)
            return side * 2 * self.delta**2 * (bend - 1), curvature * d, curvature
        if self.kind == "relative":
            ratio = jnp.exp(d)
            r = jnp.expm1(d)
            return r * r, 2 * r * ratio, 2 * ratio * ratio
        if self.kind == "log":
            return d * d, 2 * d, jnp.full_like(d, 2.0)
        if self.kind == "huber":
            size = jnp.abs(d)
            linear = size > self.delta
            rho = jnp.where(linear, self.delta * (size - self.delta / 2), d * d / 2)
            safe = jnp.where(linear, size, 1.0)
            curvature = jnp.where(linear, self.delta / safe, 1.0)
            return rho, curvature * d, curvature
        known = "relative, log, huber or robust"
        raise ValueError(f"residual {self.kind!r}: must be {known}")


RELATIVE = Residual("relative")


class Problem(NamedTuple):
    """What one lane fits. Each leaf may have a leading lane axis or be shared.

    Attributes:
        x: ln(m / M) [points].
        y: ln(n / N) [points].
        log_value: ln of the measured value [points].
        weight: 0 leaves a point out [points].
        prior_mean: of theta [parameters].
        prior_precision: 0: no prior. Adds precision * (theta - mean)^2 [parameters].
        scale: see laws.
        sigma: standard deviation that the robust residual is measured in.
    """

    x: Array
    y: Array
    log_value: Array
    weight: Array
    prior_mean: Array
    prior_precision: Array
    scale: Scale
    sigma: Array | float = 1.0


class Solution(NamedTuple):
    """Where each lane ended.

    Attributes:
        theta: inner parameters [lanes, parameters].
        objective: infinite for a lane that is not finite [lanes].
        status: `Status` [lanes].
        iterations: [lanes].
    """

    theta: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    iterations: np.ndarray


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


def bucket(size: int) -> int:
    """The padded length for `size`: at most a quarter more."""
    power = 1
    while True:
        for step in _BUCKETS:
            if step * power >= size:
                return step * power
        power *= 2


def solve(
    law: Law,
    problem: Problem,
    theta: np.ndarray,
    residual: Residual = RELATIVE,
    max_iterations: int = 200,
) -> Solution:
    """Minimises each lane's objective from its own starting point.

    Args:
        law: the functional form.
        problem: leaves with a lane axis differ by lane, others are shared.
        theta: starting points, brought within the law's bounds [lanes, parameters].
        residual: what is minimised.
        max_iterations: the limit of each lane.

    Returns:
        One solution a lane, in order; lanes do not influence each other.
    """
    return Solution(
        *_in_blocks(
            lambda part, theta: _solve(law, residual, part, theta, max_iterations),
            problem,
            theta,
        )
    )


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
    found = Information(
        *_in_blocks(
            lambda part, theta: _information(law, residual, part, theta), problem, theta
        )
    )
    points = np.shape(problem.x)[-1]
    return found._replace(
        difference=found.difference[:, :points], weight=found.weight[:, :points]
    )


def linearise(
    law: Law, problem: Problem, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The law and its slopes at every point of positive weight.

    Returns:
        ln(law) - ln(measured) [lanes, points] and its derivative by theta
        [lanes, points, parameters].
    """
    difference, jacobian = _in_blocks(
        lambda part, theta: _linearise_lanes(law, theta, part), problem, theta
    )
    points = np.shape(problem.x)[-1]
    return difference[:, :points], np.swapaxes(jacobian, 1, 2)[:, :points]


def _in_blocks(
    run: Callable[[Problem, np.ndarray], Sequence[jax.Array]],
    problem: Problem,
    theta: np.ndarray,
) -> list[np.ndarray]:
    """Runs lanes a block at a time, points padded; leaves come back [lanes, ...]."""
    lanes, points = len(theta), np.shape(problem.x)[-1]
    problem = _with_lanes(_pad_points(problem, bucket(points) - points), lanes)
    theta = np.asarray(theta, np.float64)
    parts = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for start in range(0, lanes, _BLOCK):
            # The last lane fills up the last block.
            index = np.minimum(np.arange(start, start + _BLOCK), lanes - 1)
            part = jax.tree.map(lambda leaf, index=index: leaf[index], problem)
            parts.append(run(part, theta[index]))
        return [np.concatenate(leaves)[:lanes] for leaves in zip(*parts, strict=True)]


def _with_lanes(problem: Problem, lanes: int) -> Problem:
    """Every leaf with a leading lane axis, as a view where it is shared."""

    def spread(leaf: Array, rank: int) -> np.ndarray:
        leaf = np.asarray(leaf, np.float64)
        if leaf.ndim > rank:
            return leaf
        return np.broadcast_to(leaf, (lanes, *leaf.shape))

    ranks = (1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0)  # of the leaves without a lane axis
    leaves, structure = jax.tree.flatten(problem)
    return structure.unflatten(map(spread, leaves, ranks))


def _pad_points(problem: Problem, extra: int) -> Problem:
    def pad(leaf: Array) -> np.ndarray:
        leaf = np.asarray(leaf, np.float64)
        return np.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, extra)])

    return problem._replace(
        x=pad(problem.x),
        y=pad(problem.y),
        log_value=pad(problem.log_value),
        weight=pad(problem.weight),
    )


class _Lane(NamedTuple):
    theta: jax.Array
    objective: jax.Array
    damping: jax.Array
    status: jax.Array  # -1 while moving
    iterations: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1))
def _solve(
    law: Law, residual: Residual, problem: Problem, theta: Array, max_iterations: int
) -> tuple[jax.Array, ...]:
    lower, upper = jnp.asarray(law.lower), jnp.asarray(law.upper)

    def objective_of(theta: jax.Array, one: Problem) -> jax.Array:
        d = law.log_value(theta, one.x, one.y, one.scale) - one.log_value
        # A padded or left-out point may be anything, NaN included.
        rho = jnp.where(one.weight > 0, residual.rho(d, one.sigma)[0], 0.0)
        prior = one.prior_precision * (theta - one.prior_mean) ** 2
        return jnp.sum(one.weight * rho) + jnp.sum(prior)

    def begin(theta: jax.Array, one: Problem) -> _Lane:
        theta = jnp.clip(theta, lower, upper)
        objective = objective_of(theta, one)
        finite = jnp.isfinite(objective)
        return _Lane(
            theta,
            jnp.where(finite, objective, jnp.inf),
            jnp.asarray(1e-3),
            jnp.where(finite, -1, Status.NOT_FINITE),
            jnp.asarray(0),
        )

    def advance(lane: _Lane, one: Problem) -> _Lane:
        theta = lane.theta

        d, jacobian = _linearise(law, theta, one)
        _, slope, curvature = residual.rho(d, one.sigma)
        gradient = jacobian @ (one.weight * slope)
        gradient += 2 * one.prior_precision * (theta - one.prior_mean)
        hessian = (jacobian * (one.weight * curvature)) @ jacobian.T
        hessian += 2 * jnp.diag(one.prior_precision)

        held = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
        diagonal = jnp.diagonal(hessian)
        # A flat direction (a term that vanished) must not make the system singular.
        # No more than that: amplitudes may be 1e-15 of the rest and still be found.
        damped = hessian + jnp.diag(lane.damping * diagonal + 1e-300)
        free = ~held
        damped = jnp.where(free[:, None] & free[None, :], damped, 0.0)
        damped += jnp.diag(jnp.where(held, 1.0, 0.0))
        step = _solve_positive(damped, jnp.where(free, -gradient, 0.0))
        trial = jnp.clip(theta + jnp.clip(step, -_MAX_STEP, _MAX_STEP), lower, upper)
        objective = objective_of(trial, one)

        better = objective < lane.objective  # false for NaN
        moved = jnp.max(jnp.abs(trial - theta))
        gain = (lane.objective - objective) / lane.objective
        settled = better & (gain < _OBJECTIVE_TOLERANCE) & (moved < 1e-6)
        # No step, however short, improves: the floor of float64 is reached.
        stuck = ~better & ((moved < _STEP_TOLERANCE) | (lane.damping >= _MAX_DAMPING))
        perfect = better & (objective == 0)
        done = settled | stuck | perfect | ((moved == 0) & jnp.isfinite(moved))
        iterations = lane.iterations + 1
        theta = jnp.where(better, trial, theta)
        hit = jnp.any(((theta <= lower) | (theta >= upper)) & (lower < upper))
        ended = jnp.where(hit, Status.BOUND_HIT, Status.CONVERGED)
        status = jnp.where(
            done,
            ended,
            jnp.where(iterations >= max_iterations, Status.ITERATION_LIMIT, -1),
        )
        return _Lane(
            theta,
            jnp.where(better, objective, lane.objective),
            jnp.where(better, lane.damping * 0.1, lane.damping * 8.0).clip(
                1e-15, 10 * _MAX_DAMPING
            ),
            status,
            iterations,
        )

    def body(lanes: _Lane) -> _Lane:
        moved = jax.vmap(advance)(lanes, problem)
        active = lanes.status < 0
        return jax.tree.map(
            lambda new, old: jnp.where(
                active.reshape(active.shape + (1,) * (new.ndim - 1)), new, old
            ),
            moved,
            lanes,
        )

    lanes = jax.vmap(begin)(jnp.asarray(theta), problem)
    lanes = jax.lax.while_loop(lambda lanes: jnp.any(lanes.status < 0), body, lanes)
    return lanes.theta, lanes.objective, lanes.status, lanes.iterations


@functools.partial(jax.jit, static_argnums=(0, 1))
def _information(
    law: Law, residual: Residual, problem: Problem, theta: Array
) -> tuple[jax.Array, ...]:
    def one_lane(theta: jax.Array, one: Problem) -> tuple[jax.Array, ...]:
        d, jacobian = _linearise(law, theta, one)
        curvature = one.weight * residual.rho(d, one.sigma)[2] / 2
        of_data = (jacobian * curvature) @ jacobian.T
        total = of_data + jnp.diag(jnp.asarray(one.prior_precision))
        return d, jnp.asarray(curvature * one.sigma**2), of_data, total

    return jax.vmap(one_lane)(jnp.asarray(theta), problem)


@functools.partial(jax.jit, static_argnums=0)
def _linearise_lanes(
    law: Law, theta: Array, problem: Problem
) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(functools.partial(_linearise, law))(jnp.asarray(theta), problem)


def _linearise(law: Law, theta: jax.Array, one: Problem) -> tuple[jax.Array, jax.Array]:
    """d [points] and its derivative [parameters, points]; 0 for points left out."""

    def difference(theta: jax.Array) -> jax.Array:
        return law.log_value(theta, one.x, one.y, one.scale) - one.log_value

    d, push = jax.linearize(difference, theta)
    jacobian = jax.vmap(push)(jnp.eye(len(theta)))
    used = one.weight > 0
    return jnp.where(used, d, 0.0), jnp.where(used, jacobian, 0.0)


def _solve_positive(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solves a symmetric positive definite system; NaN where it is not."""
    size = len(vector)
    if size > _UNROLLED_PARAMETERS:
        return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), vector)
    # Scaled to a unit diagonal: parameters differ by many orders of magnitude.
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))
    matrix = matrix * scale[:, None] * scale[None, :]
    vector = vector * scale
    factor: list[list[jax.Array]] = []
    forward: list[jax.Array] = []
    for i in range(size):
        row: list[jax.Array] = []
        for j in range(i):
            rest = matrix[i, j] - sum(row[k] * factor[j][k] for k in range(j))
            row.append(rest / factor[j][j])
        row.append(jnp.sqrt(matrix[i, i] - sum(entry * entry for entry in row)))
        factor.append(row)
        rest = vector[i] - sum(row[k] * forward[k] for k in range(i))
        forward.append(rest / row[i])
    solution: list[jax.Array] = [jnp.zeros(())] * size
    for i in reversed(range(size)):
        rest = forward[i] - sum(factor[k][i] * solution[k] for k in range(i + 1, size))
        solution[i] = rest / factor[i][i]
    return jnp.stack(solution) * scale

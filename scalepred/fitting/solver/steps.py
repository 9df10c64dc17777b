"""Levenberg-Marquardt, many lanes at once: a step, its damping, and when it ends.

With g and H of `derivatives` (2) and (3), D a positive diagonal and u the damping:

    move    = -(H + u D)^-1 g, within the bounds                                 (1)
    promise = -(g move + move H move / 2), what the model says it gains          (2)

A step that does not gain is not taken, and the next one is damped more.

Source: J. J. More, "The Levenberg-Marquardt algorithm: implementation and theory",
1978, with the gain ratio of M. J. D. Powell for the damping.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws import Array, Law
from scalepred.fitting.solver.derivatives import law_curvature, look
from scalepred.fitting.solver.elimination import solve_positive
from scalepred.fitting.solver.problem import MOVING, Problem, Status
from scalepred.fitting.solver.residual import Residual
from scalepred.runtime import compiler

_STEP_TOLERANCE = 1e-10  # of an inner parameter (mostly logarithms)
_OBJECTIVE_TOLERANCE = 1e-12  # relative
_SHORT_STEP = 1e-5  # longer ones never end a lane
_MAX_STEP = 1.5  # per iteration: a factor of 4.5 in a logarithmic parameter
_FIRST_DAMPING = 1e-3
_MAX_DAMPING = 1e14
# What damping is multiplied by after a step that gained at least so much of what its
# quadratic model promised; the last is for steps that gained nothing.
_DAMPING_AFTER = ((0.75, 0.2), (0.25, 1.0), (0.0, 2.0))
_DAMPING_AFTER_NOTHING = 4.0
# Lanes are solved in blocks of about so many points, which stay in the cache, and a
# slow lane holds up its own block only.
_POINTS_OF_BLOCK = 4096
# Exact steps that are taken before the law's own curvature is computed anew.
_EXACT_ROUND = 6


class Lanes(NamedTuple):
    """Lanes on their way; each leaf has a leading lane axis.

    Attributes:
        theta: the best place yet.
        objective: there, or at most a tolerance above it; infinite before the first
            look.
        gradient: there.
        hessian: there, of the model that steps minimise.
        diagonal: positive; what damping multiplies.
        damping: larger after a step that did not improve.
        move: the next step.
        promise: what it gains if the model is right.
        status: `Status`, or -1 while moving.
        iterations: steps tried.
    """

    theta: Array
    objective: Array
    gradient: Array
    hessian: Array
    diagonal: Array
    damping: Array
    move: Array
    promise: Array
    status: Array
    iterations: Array


def begin(theta: np.ndarray) -> Lanes:
    """Lanes that have not looked yet: their first step is none."""
    lanes, size = theta.shape
    return Lanes(
        theta=theta,
        objective=np.full(lanes, np.inf),
        gradient=np.zeros_like(theta),
        hessian=np.broadcast_to(np.eye(size), (lanes, size, size)),
        diagonal=np.ones_like(theta),
        damping=np.full(lanes, _FIRST_DAMPING),
        move=np.zeros_like(theta),
        promise=np.zeros(lanes),
        status=np.full(lanes, MOVING),
        iterations=np.full(lanes, -1),
    )


class Steps(NamedTuple):
    """How lanes go on; all traced.

    Attributes:
        most: steps of this call.
        reweighted: steps of a lane before it goes on exactly.
        limit: steps of a lane.
    """

    most: Array | int
    reweighted: Array | int
    limit: Array | int


@compiler.jit_plainly(static_argnums=(0, 1))
def advance(
    law: Law, residual: Residual, steps: Steps, problem: Problem, lanes: Lanes
) -> Lanes:
    """Moves every lane until it is done, or the steps are."""
    count, points = problem.x.shape
    block = min(count, 2 ** max(3, int(math.log2(_POINTS_OF_BLOCK // points + 1))))

    def cut(leaf: Array) -> jax.Array:
        return jnp.reshape(leaf, (count // block, block, *jnp.shape(leaf)[1:]))

    moved = jax.lax.map(
        lambda part: _advance_block(law, residual, steps, *part),
        jax.tree.map(cut, (problem, lanes)),
    )
    return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), moved)


def _advance_block(
    law: Law, residual: Residual, steps: Steps, problem: Problem, lanes: Lanes
) -> Lanes:
    """All lanes of a block at once, until the last of them is done.

    Reweighted Gauss-Newton is good from afar, but crawls where rho has kinks. There
    later steps are exact, and end soon: they take rho's own second derivative, and the
    law's, which costs several steps and so is computed anew once in a while.
    """
    lower, upper = jnp.asarray(law.lower), jnp.asarray(law.upper)
    lanes = lanes._replace(theta=jnp.clip(lanes.theta, lower, upper))
    step = functools.partial(_step, law, residual, steps)

    def together(state: tuple[Lanes, jax.Array], curvature: jax.Array) -> Any:
        lanes, left = state
        active = lanes.status == MOVING
        moved = jax.vmap(step)(lanes, problem, curvature)

        def keep(new: Array, old: Array) -> jax.Array:
            return jnp.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(keep, moved, lanes), left - 1

    def goes_on(state: tuple[Lanes, jax.Array]) -> jax.Array:
        lanes, left = state
        return jnp.any(lanes.status == MOVING) & (left > 0)

    def some_steps(state: tuple[Lanes, jax.Array]) -> Any:
        lanes, left = state
        curvature = jax.lax.cond(
            jnp.any(lanes.iterations + _EXACT_ROUND >= steps.reweighted),
            lambda: jax.vmap(functools.partial(law_curvature, law, residual))(
                jnp.asarray(lanes.theta), problem
            ),
            lambda: jnp.zeros_like(lanes.hessian),
        )
        some = jnp.minimum(left, _EXACT_ROUND)
        lanes, unused = jax.lax.while_loop(
            goes_on, lambda state: together(state, curvature), (lanes, some)
        )
        return lanes, left - some + unused

    state = lanes, jnp.asarray(steps.most)
    if residual.has_kinks:
        return jax.lax.while_loop(goes_on, some_steps, state)[0]
    nothing = jnp.zeros_like(lanes.hessian)
    return jax.lax.while_loop(goes_on, lambda s: together(s, nothing), state)[0]


def _step(
    law: Law,
    residual: Residual,
    steps: Steps,
    lane: Lanes,
    one: Problem,
    curvature: jax.Array,
) -> Lanes:
    """Looks where the last move led, keeps to it if that is better, and plans the next.

    Args:
        law: the functional form.
        residual: what is minimised.
        steps: how lanes go on.
        lane: one of them.
        one: its problem.
        curvature: the law's own part of the Hessian, for exact steps.
    """
    lower, upper = jnp.asarray(law.lower), jnp.asarray(law.upper)
    is_first, iterations = lane.iterations < 0, lane.iterations + 1
    is_exact = residual.has_kinks & (iterations >= steps.reweighted)
    trial = jnp.asarray(lane.theta + lane.move)
    objective, gradient, hessian, diagonal = look(law, residual, is_exact, trial, one)
    hessian += jnp.where(is_exact, curvature, 0.0)

    better = objective < lane.objective  # false for NaN
    gained = jnp.asarray(lane.objective - objective)
    # Exact steps start with care: their matrix need not be positive.
    turns = residual.has_kinks & (iterations == steps.reweighted)
    damping = _next_damping(lane, better, gained, turns)
    new = trial, objective, gradient, hessian, diagonal
    # The first fields of a lane are these.
    theta, objective, gradient, hessian, diagonal = (
        jnp.where(better, *pair) for pair in zip(new, lane, strict=False)
    )
    trial = _next(lower, upper, damping, theta, gradient, hessian, diagonal)
    move = trial - theta
    promise = -move @ (gradient + hessian @ move / 2)  # Eq. (2)

    moved, next_moved = jnp.max(jnp.abs(lane.move)), jnp.max(jnp.abs(move))
    least = _OBJECTIVE_TOLERANCE * objective
    # A last step that can gain no more than this is taken unseen, where the model was
    # right so far.
    is_last = better & ~is_first & (damping <= _FIRST_DAMPING)
    is_last &= (promise >= 0) & (promise < least) & (next_moved < _SHORT_STEP)
    theta = jnp.where(is_last, trial, theta)
    settled = is_last | (better & (gained < least) & (moved < _SHORT_STEP))
    # No step, however short, improves: the floor of float64 is reached.
    stuck = ~better & ((moved < _STEP_TOLERANCE) | (lane.damping >= _MAX_DAMPING))
    done = settled | stuck | (next_moved == 0)
    done = (done & ~is_first) | (better & (objective == 0))
    hit = jnp.any(((theta <= lower) | (theta >= upper)) & (lower < upper))
    status = jnp.where(iterations >= steps.limit, Status.ITERATION_LIMIT, MOVING)
    status = jnp.where(done, jnp.where(hit, Status.BOUND_HIT, Status.CONVERGED), status)
    status = jnp.where(is_first & ~better, Status.NOT_FINITE, status)
    numbers = theta, objective, gradient, hessian, diagonal
    return Lanes(*numbers, damping, move, promise, status, iterations)


def _next_damping(
    lane: Lanes, better: jax.Array, gained: jax.Array, turns: jax.Array
) -> jax.Array:
    """Less after a step that gained what it promised, more after one that did not.

    Args:
        lane: before the step.
        better: whether it improved.
        gained: by how much.
        turns: whether exact steps begin, for which it is not below the first.
    """
    kept = gained / lane.promise
    conditions = [better & (kept >= share) for share, _ in _DAMPING_AFTER]
    factors = [jnp.asarray(factor) for _, factor in _DAMPING_AFTER]
    damping = lane.damping * jnp.select(conditions, factors, _DAMPING_AFTER_NOTHING)
    damping = jnp.where(turns, jnp.maximum(damping, _FIRST_DAMPING), damping)
    damping = jnp.where(lane.iterations < 0, lane.damping, damping)
    return damping.clip(1e-15, 10 * _MAX_DAMPING)


def _next(
    lower: jax.Array,
    upper: jax.Array,
    damping: jax.Array,
    theta: jax.Array,
    gradient: jax.Array,
    hessian: jax.Array,
    diagonal: jax.Array,
) -> jax.Array:
    """Where the damped model is least, within the bounds, Eq. (1) [parameters]."""
    held = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
    free = ~held
    # A flat direction (a term that vanished) must not make the system singular.
    # No more than that: amplitudes may be 1e-15 of the rest and still be found.
    damped = hessian + jnp.diag(damping * diagonal + 1e-300)
    damped = jnp.where(free[:, None] & free[None, :], damped, 0.0)
    damped += jnp.diag(jnp.where(held, 1.0, 0.0))
    move = solve_positive(damped, jnp.where(free, -gradient, 0.0))
    return jnp.clip(theta + jnp.clip(move, -_MAX_STEP, _MAX_STEP), lower, upper)

"""One batched least-squares solver for every law.

Levenberg-Marquardt in float64, many independent lanes at once: starts, resamples,
folds and whole problems are all just lanes. A lane whose numbers go bad ends with a
status and disturbs no other. This file and `training/ensemble.py` are the only ones
with a lane axis.

Every residual is a function of d = ln(law) - ln(measured), so that a law is all a
fit needs: derivatives come from jax.
"""

import concurrent.futures
import dataclasses
import enum
import functools
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws import Array, Law, Scale
from scalepred.runtime import compiler

_STEP_TOLERANCE = 1e-10  # of an inner parameter (mostly logarithms)
_OBJECTIVE_TOLERANCE = 1e-12  # relative
_SHORT_STEP = 1e-5  # longer ones never end a lane
_MAX_STEP = 1.5  # per iteration: a factor of 4.5 in a logarithmic parameter
_MAX_DAMPING = 1e14
# Rows that are eliminated one by one; products do the rest.
_BLOCK_OF_ROWS = 9
# A program is compiled for so many lanes, never for the number asked for; the small one
# is for fits from a few good starts. The robust residual has one for all: its law takes
# longest to compile, and its lanes are never many.
_LANES, _FEW_LANES, _ROBUST_LANES = 128, 8, 32
# Within it lanes are solved in blocks of about so many points, which stay in the cache,
# and a slow lane holds up its own block only.
_POINTS_OF_BLOCK = 4096
# Steps after which lanes that are done make room, most of a refit's; later rounds are
# half as long as all before them. Kinks take half as many again.
_FIRST_ROUND, _FIRST_ROUND_OF_KINKS = 8, 12
# Steps of reweighted Gauss-Newton before a residual with kinks goes on exactly, and how
# many of those are taken before the law's bend is computed anew.
_REWEIGHTED = 24
_EXACT_ROUND = 6
_FIRST_DAMPING = 1e-3
# What damping is multiplied by after a step that gained at least so much of what its
# quadratic model promised; the last is for steps that gained nothing.
_DAMPING_AFTER = ((0.75, 0.2), (0.25, 1.0), (0.0, 2.0))
_DAMPING_AFTER_NOTHING = 4.0
# Knees of a Huber residual narrower than the first are approached by this factor.
_WIDE_KNEE = 1e-3
_KNEE_STEP = 4.0
_STEPS_A_KNEE = 30
_MOVING = -1
# Points are padded to the next of these times a power of two, so that a new table of
# another length does not compile again.
_BUCKETS = (4, 5, 6, 7)


class Status(enum.IntEnum):
    """How a lane ended."""

    CONVERGED = 0
    BOUND_HIT = 1  # converged, with a parameter at its bound
    ITERATION_LIMIT = 2
    NOT_FINITE = 3


class Rho(NamedTuple):
    """What one point adds to the objective, and derivatives by d; each like d.

    Attributes:
        value: rho(d).
        slope: its first derivative.
        second: its second derivative, which may be 0 or negative.
        curvature: what Gauss-Newton takes for it: positive, and slope / d where rho is
            a reweighted square.
    """

    value: Array
    slope: Array
    second: Array
    curvature: Array


@dataclasses.dataclass(frozen=True)
class Residual:
    """What is minimised: sum of weight * rho(d), d = ln(law) - ln(measured).

    Attributes:
        kind: relative: rho = (law / measured - 1)^2 (paper, section 4) | log: d^2 |
            huber: of d, d^2 / 2 up to delta and linear beyond (Hoffmann et al.);
            delta near 0 gives least absolute deviations (Besiroglu et al.) |
            robust: d^2 / sigma^2, linear from about delta sigmas on.
        delta: knee of huber and robust, in sigmas (1 unless the problem says).
        above: factor on rho where the measurement lies above the law: badly tuned
            runs do, and none lies below.
    """

    kind: str = "relative"
    delta: float = 1e-3
    above: float = 1.0

    @property
    def has_kinks(self) -> bool:
        """The second derivative jumps, and reweighting alone converges slowly."""
        return self.kind == "huber"

    def rho(self, d: Array, sigma: Array | float) -> Rho:
        """rho and its derivatives at differences d, for standard deviations sigma.

        Of numpy's arrays by numpy, of jax's by jax.
        """
        return self.rho_of(d, sigma, self.above)

    def rho_of(self, d: Array, sigma: Array | float, above: Array | float) -> Rho:
        """`rho` for another factor."""
        side = d.__array_namespace__().where(d < 0, above, 1.0)
        return Rho(*(side * part for part in self._of_one_side(d, sigma)))

    def _of_one_side(self, d: Array, sigma: Array | float) -> Rho:
        xp = d.__array_namespace__()
        if self.kind == "robust":
            bend = xp.sqrt(1 + (d / (sigma * self.delta)) ** 2)
            curvature = 2 / (sigma**2 * bend)
            second = curvature / bend**2
            return Rho(2 * self.delta**2 * (bend - 1), curvature * d, second, curvature)
        if self.kind == "relative":
            ratio, r = xp.exp(d), xp.expm1(d)
            second = 2 * ratio * (2 * ratio - 1)
            return Rho(r * r, 2 * r * ratio, second, 2 * ratio * ratio)
        if self.kind == "log":
            two = xp.full_like(d, 2.0)
            return Rho(d * d, 2 * d, two, two)
        if self.kind == "huber":
            size, knee = xp.abs(d), self.delta * sigma
            linear = size > knee
            value = xp.where(linear, knee * (size - knee / 2), d * d / 2)
            safe = xp.where(linear, size, 1.0)
            curvature = xp.where(linear, knee / safe, 1.0)
            second = xp.where(linear, 0.0, 1.0)
            return Rho(value, curvature * d, second, curvature)
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
        above: see `Residual`, which says it; here so that it is no other program.
        z: ln(epochs), for laws that know of them [points].
    """

    x: Array
    y: Array
    log_value: Array
    weight: Array
    prior_mean: Array
    prior_precision: Array
    scale: Scale
    sigma: Array | float = 1.0
    above: Array | float = 1.0
    z: Array | None = None


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
    is_near: bool = False,
) -> Solution:
    """Minimises each lane's objective from its own starting point.

    Args:
        law: the functional form.
        problem: leaves with a lane axis differ by lane, others are shared.
        theta: starting points, brought within the law's bounds [lanes, parameters].
        residual: what is minimised.
        max_iterations: the limit of each lane.
        is_near: the starting points are near their optima, as those of resamples are.

    Returns:
        One solution a lane, in order; lanes do not influence each other.
    """
    problem = _spread(problem._replace(above=residual.above), len(theta))
    residual = dataclasses.replace(residual, above=1.0)
    theta = np.asarray(theta, np.float64)
    if residual.has_kinks and residual.delta < _WIDE_KNEE:
        # A narrow knee hides where to go: wider ones first.
        widths = np.geomspace(_WIDE_KNEE / residual.delta, 1, _num_knees(residual))
        for width in widths[:-1]:
            wide = problem._replace(sigma=width * problem.sigma)
            lanes = _move(law, residual, wide, theta, _STEPS_A_KNEE, is_near)
            theta, is_near = np.asarray(lanes.theta), True
    lanes = _move(law, residual, problem, theta, max_iterations, is_near)
    theta, objective, *_, status, iterations = map(np.asarray, lanes)
    return Solution(theta, objective, status, iterations)


def _num_knees(residual: Residual) -> int:
    return 1 + math.ceil(math.log(_WIDE_KNEE / residual.delta) / math.log(_KNEE_STEP))


def _move(
    law: Law,
    residual: Residual,
    problem: Problem,
    theta: np.ndarray,
    max_iterations: int,
    is_near: bool,
) -> "_Lanes":
    """Lanes from their starts to their ends, or to the limit."""
    lanes = _begin(theta)
    plan = _Steps(0, 0 if is_near else _REWEIGHTED, max_iterations)
    most = _FIRST_ROUND_OF_KINKS if residual.has_kinks else _FIRST_ROUND
    if len(theta) <= 2 * _FEW_LANES:
        most = max_iterations + 1
    taken = 0
    while len(moving := np.flatnonzero(lanes.status == _MOVING)):
        # Lanes that are done make room: one that crawls holds up few others.
        go = functools.partial(_go, law, residual, plan._replace(most=most))
        room = _FEW_LANES if len(moving) <= 2 * _FEW_LANES else _LANES
        room = _ROBUST_LANES if residual.kind == "robust" else room
        lanes = _put(lanes, moving, _in_parts(go, room, moving, problem, lanes))
        taken += most
        most = taken // 2
    return lanes


def _go(
    law: Law,
    residual: Residual,
    plan: "_Steps",
    count: int,
    problem: Problem,
    lanes: "_Lanes",
) -> "_Lanes":
    """Moves the first `count` lanes; a block of others alone ends at once."""
    is_real = np.arange(len(lanes.status)) < count
    status = np.where(is_real, lanes.status, Status.CONVERGED)
    return _advance(law, residual, plan, problem, lanes._replace(status=status))


def _put(lanes: "_Lanes", which: np.ndarray, new: "_Lanes") -> "_Lanes":
    """The lanes with some of them replaced."""

    def put(old: Array, new: Array) -> np.ndarray:
        old = np.array(old)
        old[which] = new
        return old

    return jax.tree.map(put, lanes, new)


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
    difference, jacobian = _in_parts(
        lambda _, part, theta: _linearise_lanes(law, theta, part),
        _FEW_LANES,
        np.arange(len(theta)),
        _spread(problem, len(theta)),
        np.asarray(theta, np.float64),
    )
    points = np.shape(problem.x)[-1]
    return difference[:, :points], np.swapaxes(jacobian, 1, 2)[:, :points]


def _in_parts(
    run: Callable[..., Any], room: int, which: np.ndarray, *trees: Any
) -> Any:
    """Runs some of the lanes, `room` at a time; leaves come back as numpy's.

    `run` is told how many there are; places without a lane repeat the last one.
    """
    parts = np.array_split(which, -(-len(which) // room))

    def run_part(part: np.ndarray) -> Any:
        index = part[np.minimum(np.arange(room), len(part) - 1)]
        # Set here, as it holds for a thread.
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            found = run(len(part), *jax.tree.map(lambda leaf: leaf[index], trees))
            return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(part)], found)

    if len(parts) == 1:
        return run_part(parts[0])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(run_part, parts))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def _spread(problem: Problem, lanes: int) -> Problem:
    """Every leaf with a leading lane axis, a view where it is shared; points padded."""
    extra = bucket(np.shape(problem.x)[-1]) - np.shape(problem.x)[-1]

    def spread(leaf: Array | float, rank: int, is_padded: bool) -> np.ndarray:
        leaf = np.asarray(leaf, np.float64)
        if is_padded and extra:
            leaf = np.concatenate([leaf, np.zeros((*leaf.shape[:-1], extra))], axis=-1)
        if leaf.ndim > rank:
            return leaf
        return np.broadcast_to(leaf, (lanes, *leaf.shape))

    return Problem(
        *(spread(leaf, 1, True) for leaf in problem[:4]),
        *(spread(leaf, 1, False) for leaf in problem[4:6]),
        scale=Scale(
            *(spread(leaf, 0, False) for leaf in problem.scale[:3]),
            levels=spread(problem.scale.levels, 1, False),
        ),
        sigma=spread(problem.sigma, 0, False),
        above=spread(problem.above, 0, False),
        z=None if problem.z is None else spread(problem.z, 1, True),
    )


class _Lanes(NamedTuple):
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


def _begin(theta: np.ndarray) -> _Lanes:
    """Lanes that have not looked yet: their first step is none."""
    lanes, size = theta.shape
    return _Lanes(
        theta=theta,
        objective=np.full(lanes, np.inf),
        gradient=np.zeros_like(theta),
        hessian=np.broadcast_to(np.eye(size), (lanes, size, size)),
        diagonal=np.ones_like(theta),
        damping=np.full(lanes, _FIRST_DAMPING),
        move=np.zeros_like(theta),
        promise=np.zeros(lanes),
        status=np.full(lanes, _MOVING),
        iterations=np.full(lanes, -1),
    )


class _Steps(NamedTuple):
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
def _advance(
    law: Law, residual: Residual, steps: _Steps, problem: Problem, lanes: _Lanes
) -> _Lanes:
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
    law: Law, residual: Residual, steps: _Steps, problem: Problem, lanes: _Lanes
) -> _Lanes:
    """Levenberg-Marquardt, all lanes at once.

    Reweighted Gauss-Newton is good from afar, but crawls where rho has kinks. There
    later steps are exact, and end soon: they take rho's own second derivative, and the
    law's, which costs several steps and so is computed anew once in a while.
    """
    lower, upper = jnp.asarray(law.lower), jnp.asarray(law.upper)
    lanes = lanes._replace(theta=jnp.clip(lanes.theta, lower, upper))

    def step(lane: _Lanes, one: Problem, bend: jax.Array) -> _Lanes:
        is_first, iterations = lane.iterations < 0, lane.iterations + 1
        is_exact = residual.has_kinks & (iterations >= steps.reweighted)
        trial = jnp.asarray(lane.theta + lane.move)
        objective, gradient, hessian, diagonal = _look(
            law, residual, is_exact, trial, one
        )
        hessian += jnp.where(is_exact, bend, 0.0)

        better = objective < lane.objective  # false for NaN
        gained = lane.objective - objective
        kept = gained / lane.promise
        conditions = [better & (kept >= share) for share, _ in _DAMPING_AFTER]
        factors = [jnp.asarray(factor) for _, factor in _DAMPING_AFTER]
        damping = lane.damping * jnp.select(conditions, factors, _DAMPING_AFTER_NOTHING)
        # Exact steps start with care: their matrix need not be positive.
        turns = residual.has_kinks & (iterations == steps.reweighted)
        damping = jnp.where(turns, jnp.maximum(damping, _FIRST_DAMPING), damping)
        damping = jnp.where(is_first, lane.damping, damping)
        damping = damping.clip(1e-15, 10 * _MAX_DAMPING)
        new = trial, objective, gradient, hessian, diagonal
        # The first fields of a lane are these.
        theta, objective, gradient, hessian, diagonal = (
            jnp.where(better, *pair) for pair in zip(new, lane, strict=False)
        )
        trial = _next(lower, upper, damping, theta, gradient, hessian, diagonal)
        move = trial - theta
        promise = -move @ (gradient + hessian @ move / 2)

        moved, next_moved = jnp.max(jnp.abs(lane.move)), jnp.max(jnp.abs(move))
        least = _OBJECTIVE_TOLERANCE * objective
        # A last step that can gain no more than this is taken unseen, where the model
        # was right so far.
        is_last = better & ~is_first & (damping <= _FIRST_DAMPING)
        is_last &= (promise >= 0) & (promise < least) & (next_moved < _SHORT_STEP)
        theta = jnp.where(is_last, trial, theta)
        settled = is_last | (better & (gained < least) & (moved < _SHORT_STEP))
        # No step, however short, improves: the floor of float64 is reached.
        stuck = ~better & ((moved < _STEP_TOLERANCE) | (lane.damping >= _MAX_DAMPING))
        done = settled | stuck | (next_moved == 0)
        done = (done & ~is_first) | (better & (objective == 0))
        hit = jnp.any(((theta <= lower) | (theta >= upper)) & (lower < upper))
        status = jnp.where(iterations >= steps.limit, Status.ITERATION_LIMIT, _MOVING)
        ended = jnp.where(hit, Status.BOUND_HIT, Status.CONVERGED)
        status = jnp.where(done, ended, status)
        status = jnp.where(is_first & ~better, Status.NOT_FINITE, status)
        return _Lanes(
            theta,
            objective,
            gradient,
            hessian,
            diagonal,
            damping,
            move,
            promise,
            status,
            iterations,
        )

    def together(state: tuple[_Lanes, jax.Array], bend: jax.Array) -> Any:
        lanes, left = state
        active = lanes.status == _MOVING
        moved = jax.vmap(step)(lanes, problem, bend)

        def keep(new: Array, old: Array) -> jax.Array:
            return jnp.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(keep, moved, lanes), left - 1

    def goes_on(state: tuple[_Lanes, jax.Array]) -> jax.Array:
        lanes, left = state
        return jnp.any(lanes.status == _MOVING) & (left > 0)

    def some_steps(state: tuple[_Lanes, jax.Array]) -> Any:
        lanes, left = state
        bend = jax.lax.cond(
            jnp.any(lanes.iterations + _EXACT_ROUND >= steps.reweighted),
            lambda: jax.vmap(functools.partial(_law_bend, law, residual))(
                jnp.asarray(lanes.theta), problem
            ),
            lambda: jnp.zeros_like(lanes.hessian),
        )
        some = jnp.minimum(left, _EXACT_ROUND)
        lanes, unused = jax.lax.while_loop(
            goes_on, lambda state: together(state, bend), (lanes, some)
        )
        return lanes, left - some + unused

    state = lanes, jnp.asarray(steps.most)
    if residual.has_kinks:
        return jax.lax.while_loop(goes_on, some_steps, state)[0]
    nothing = jnp.zeros_like(lanes.hessian)
    return jax.lax.while_loop(goes_on, lambda s: together(s, nothing), state)[0]


def _next(
    lower: jax.Array,
    upper: jax.Array,
    damping: jax.Array,
    theta: jax.Array,
    gradient: jax.Array,
    hessian: jax.Array,
    diagonal: jax.Array,
) -> jax.Array:
    """Where the damped model is least, within the bounds [parameters]."""
    held = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
    free = ~held
    # A flat direction (a term that vanished) must not make the system singular.
    # No more than that: amplitudes may be 1e-15 of the rest and still be found.
    damped = hessian + jnp.diag(damping * diagonal + 1e-300)
    damped = jnp.where(free[:, None] & free[None, :], damped, 0.0)
    damped += jnp.diag(jnp.where(held, 1.0, 0.0))
    move = _solve_positive(damped, jnp.where(free, -gradient, 0.0))
    return jnp.clip(theta + jnp.clip(move, -_MAX_STEP, _MAX_STEP), lower, upper)


def _look(
    law: Law, residual: Residual, is_exact: Array, theta: jax.Array, one: Problem
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Objective, gradient, Hessian but for the law's bend, and a positive diagonal."""
    d, jacobian = _linearise(law, theta, one)
    rho, slope, second, curvature = residual.rho_of(d, one.sigma, one.above)
    # A padded or left-out point may be anything, NaN included.
    rho = jnp.where(one.weight > 0, rho, 0.0)
    from_prior = theta - one.prior_mean
    objective = jnp.sum(one.weight * rho) + jnp.sum(one.prior_precision * from_prior**2)
    gradient = jacobian @ (one.weight * slope) + 2 * one.prior_precision * from_prior
    diagonal = (jacobian * jacobian) @ (one.weight * curvature)
    diagonal += 2 * one.prior_precision
    if residual.has_kinks:
        curvature = jnp.where(is_exact, second, curvature)
    hessian = (jacobian * (one.weight * curvature)) @ jacobian.T
    hessian += 2 * jnp.diag(jnp.asarray(one.prior_precision))
    return objective, gradient, hessian, diagonal


def _law_bend(
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


def _solve_positive(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solves a symmetric positive definite system; NaN where it is not.

    Vectorised over lanes, where LAPACK takes one lane after the other; and LAPACK's
    calls wait for threads of the very pool that they run in, so that programs in as
    many Python threads as there are cores may wait for ever.
    """
    # Scaled to a unit diagonal: parameters differ by many orders of magnitude.
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))
    columns = matrix * scale[:, None] * scale[None, :]
    columns = jnp.concatenate([columns, (vector * scale)[:, None]], axis=1)
    return _eliminate(columns)[:, 0] * scale


def _eliminate(columns: jax.Array) -> jax.Array:
    """From [A, B] to A^-1 B, a block of rows after the other."""
    rows, size = len(columns), min(_BLOCK_OF_ROWS, len(columns))

    def eliminate_row(k: Array, block: jax.Array) -> jax.Array:
        pivot = jnp.sqrt(block[k, k])  # NaN below 0
        row = block[k] / pivot / pivot
        others = jnp.where(jnp.arange(size) == k, 0.0, block[:, k])
        return (block - others[:, None] * row).at[k].set(row)

    first = jax.lax.fori_loop(0, size, eliminate_row, columns[:size])[:, size:]
    if size == rows:
        return first
    by_rest, own = jnp.split(first, [rows - size], axis=1)
    rest = _eliminate(columns[size:, size:] - columns[size:, :size] @ first)
    return jnp.concatenate([own - by_rest @ rest, rest])

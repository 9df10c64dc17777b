"""The most probable flexible law of each subset of the points, and how sure it is.

So many parameters need a prior: weak normal ones on every parameter, a robust and
one-sided loss, and weights that grow with compute, because the prediction is wanted
beyond the largest. The noise and the spread of the offsets are learnt in turns with
the parameters: an empirical Bayes estimate.

    -2 ln posterior = sum w rho(d / sigma) + sum p (theta - mean)^2
                      + 2 sum w ln sigma + what `_sigma_penalty` says
                      + 2 levels ln(offset sd, slope sd)                         (1)
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from scalepred.fitting import solver
from scalepred.fitting.auto.correlation import find_shares
from scalepred.fitting.auto.law import CORE_SIZE, LEVEL_COUNTS, find_levels, make_law
from scalepred.fitting.auto.priors import Member, Settings
from scalepred.fitting.laws import Law, Scale
from scalepred.fitting.multistart import Points
from scalepred.runtime import steps

_ROUNDS = 4  # of: fit, then re-estimate the noise and the spread of the offsets
_ITERATIONS = 15
_FIRST_SIGMA = 0.03
KNEE = 2.0  # residuals beyond so many sigmas count linearly
# Noise tried, times the expected one.
_SIGMAS = np.geomspace(0.01, 100.0, 185)
_FROZEN = 1e12  # precision of a prior that is no choice

NUM_STARTS = 2  # the prior's mean, and a draw this far around it, in its deviations
_START_SPREAD = 0.8
_WIDEST_START = 1.5


class Estimate(NamedTuple):
    """The most probable parameters of each subset and how sure they are.

    Attributes:
        theta: inner parameters [subsets, parameters].
        covariance: of theta, to first order [subsets, parameters, parameters].
        sigma: standard deviation of ln value about the law [subsets].
        objective: minus twice the log of the posterior [subsets].
        problem: that theta solves, each leaf [subsets, ...].
        shares: how much a point counts, as neighbours err together [subsets].
        agree: share of starts that ended at the same optimum [subsets].
        status: `solver.Status` [subsets].
    """

    theta: np.ndarray
    covariance: np.ndarray
    sigma: np.ndarray
    objective: np.ndarray
    problem: solver.Problem
    shares: np.ndarray
    agree: np.ndarray
    status: np.ndarray

    @property
    def scale(self) -> Scale:
        """Of each subset, with its levels."""
        return self.problem.scale


class Spreads(NamedTuple):
    """Standard deviations that the estimate learns itself, each [lanes].

    Attributes:
        sigma: of ln value about the law.
        offset_sd: of the offsets of model sizes.
        slope_sd: of ln of their data exponents.
    """

    sigma: np.ndarray
    offset_sd: np.ndarray
    slope_sd: np.ndarray


def estimate(
    points: Points,
    masks: np.ndarray,
    members: Sequence[Member],
    settings: Settings,
    is_loss: bool,
    seed: int = 0,
    axes: tuple[str, ...] = ("params", "data"),
    near: Estimate | None = None,
) -> tuple[Law, Estimate]:
    """The most probable law for each subset of the points.

    Args:
        points: all points.
        masks: which belong to each subset [subsets, points].
        members: whose prior each subset is fitted with [subsets].
        settings: priors and weights.
        is_loss: whether the random-guess level is fitted.
        seed: of the starts beside the prior's mean.
        axes: sizes that vary.
        near: of some of the points of each subset, from which to start; of no use if
            other model sizes recur in them.

    Returns:
        The law (its theta has room for the levels) and an estimate a subset; x and y
        of a subset's law are relative to the subset's own largest sizes, see
        `Estimate.scale` and `references`.
    """
    law, levels, has_level = _find_law(points, masks, is_loss, axes)
    scale = points.scale(masks)._replace(levels=levels)
    if near is not None and not np.array_equal(near.scale.levels, levels):
        near = None
    starts = NUM_STARTS if near is None else 1
    lanes = np.repeat(np.arange(len(masks)), starts)
    has_level = has_level[lanes]
    mean, own_sd = _stack_priors(members, settings, is_loss, law.num_parameters)
    mean, own_sd = mean[lanes], own_sd[lanes]
    theta = _start(mean, own_sd, seed, near)
    power = np.array([0.0 if m.is_equal else settings.compute_power for m in members])
    problem = _make_problem(points, masks, lanes, power, settings.above, mean, scale)
    problem = problem if "epochs" in axes else problem._replace(z=None)
    solution, problem, spreads = _learn(
        law, problem, theta, settings, own_sd, has_level
    )
    residual = solver.Residual("robust", KNEE, settings.above)
    known = solver.information(law, problem, solution.theta, residual)
    shares = find_shares(points, known)
    covariance = _covariance(known, shares, spreads, has_level)
    objective = _objective(solution, problem, spreads, settings, has_level)
    chosen, agree = _choose(objective.reshape(len(masks), starts))
    return law, Estimate(
        theta=solution.theta[chosen],
        covariance=covariance[chosen],
        sigma=spreads.sigma[chosen],
        objective=objective[chosen],
        problem=jax.tree.map(lambda leaf: leaf[chosen], problem),
        shares=shares[chosen],
        agree=agree if near is None else near.agree,
        status=solution.status[chosen],
    )


def _find_law(
    points: Points, masks: np.ndarray, is_loss: bool, axes: tuple[str, ...]
) -> tuple[Law, np.ndarray, np.ndarray]:
    """The law with room for the levels of every subset.

    Returns:
        The law; x of each subset's levels, infinite where there are fewer [subsets,
        levels]; which slots of an offset are used [subsets, slots].
    """
    reference_x, _ = references(points, masks)
    found = [
        find_levels(points.x - reference, mask)
        for mask, reference in zip(masks, reference_x, strict=True)
    ]
    most = max(len(levels) for levels in found)
    num_levels = next(count for count in LEVEL_COUNTS if count >= most)
    levels = np.full((len(masks), num_levels), np.inf)
    has_level = np.zeros((len(masks), num_levels + 1 if num_levels else 0))
    for subset, own in enumerate(found):
        levels[subset, : len(own)] = own
        has_level[subset, : len(own)] = 1.0
    return make_law(num_levels, is_loss, axes), levels, has_level


def _make_problem(
    points: Points,
    masks: np.ndarray,
    lanes: np.ndarray,
    power: np.ndarray,
    above: float,
    mean: np.ndarray,
    scale: Scale,
) -> solver.Problem:
    """What each lane fits: the points of its subset, in units of its largest sizes.

    Args:
        points: all points.
        masks: of each subset [subsets, points].
        lanes: the subset of each lane [lanes].
        power: a point weighs its compute to this power [subsets].
        above: weight of a residual above the law.
        mean: of the priors [lanes, parameters].
        scale: of each subset.
    """
    reference_x, reference_y = references(points, masks)
    x = points.x - reference_x[lanes, None]
    y = points.y - reference_y[lanes, None]
    z = None if points.z is None else np.broadcast_to(points.z, x.shape)
    log_work = x + y if z is None else x + y + z
    work = np.exp(np.minimum(log_work, _largest(log_work, masks[lanes])))
    work /= np.exp(_largest(log_work, masks[lanes]))
    return solver.Problem(
        x=x,
        y=y,
        log_value=np.broadcast_to(points.log_value, x.shape),
        weight=masks[lanes] * points.weight * work ** power[lanes, None],
        prior_mean=mean,
        prior_precision=np.zeros_like(mean),
        scale=Scale(*(np.asarray(leaf)[lanes] for leaf in scale)),
        above=np.full(len(lanes), above),
        z=z,
    )


def _learn(
    law: Law,
    problem: solver.Problem,
    theta: np.ndarray,
    settings: Settings,
    own_sd: np.ndarray,
    has_level: np.ndarray,
) -> tuple[solver.Solution, solver.Problem, Spreads]:
    """Parameters and spreads in turns, each given the other."""
    count = len(theta)
    residual = solver.Residual("robust", KNEE, settings.above)
    spreads = Spreads(
        sigma=np.full(count, _FIRST_SIGMA),
        offset_sd=np.full(count, settings.offset_sd),
        slope_sd=np.full(count, settings.slope_sd),
    )
    solution = solver.Solution(theta, *np.zeros((3, count)))
    for done in range(_ROUNDS):
        steps.tell(done / _ROUNDS)
        problem = problem._replace(
            sigma=spreads.sigma,
            prior_precision=_precision(own_sd, has_level, spreads),
        )
        solution = solver.solve(law, problem, solution.theta, residual, _ITERATIONS)
        known = solver.information(law, problem, solution.theta, residual)
        covariance = np.linalg.inv(known.total)
        spreads = Spreads(
            _noise(settings, problem, known, covariance),
            *_offset_spreads(settings, has_level, solution.theta, covariance),
        )
    return solution, problem, spreads


def predict_points(
    law: Law, estimate: Estimate, points: Points, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each subset's law says of every point, and how sure it is.

    Returns:
        ln(law) - ln(measured) and its standard deviation, each [subsets, points].
    """
    reference_x, reference_y = references(points, masks)
    parameters = estimate.theta.shape[1]
    problem = solver.Problem(
        x=points.x - reference_x[:, None],
        y=points.y - reference_y[:, None],
        log_value=points.log_value,
        weight=np.ones(len(points.x)),
        prior_mean=np.zeros(parameters),
        prior_precision=np.zeros(parameters),
        scale=estimate.scale,
        z=points.z if "epochs" in law.axes else None,
    )
    difference, jacobian = solver.linearise(law, problem, estimate.theta)
    variance = np.einsum("spi,sij,spj->sp", jacobian, estimate.covariance, jacobian)
    return difference, np.sqrt(estimate.sigma[:, None] ** 2 + np.maximum(variance, 0.0))


def references(points: Points, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the largest model and data size of each subset [subsets]."""
    return (
        np.where(masks, points.x, -np.inf).max(axis=1),
        np.where(masks, points.y, -np.inf).max(axis=1),
    )


def _largest(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
    return np.where(masks, values, -np.inf).max(axis=1, keepdims=True)


def _stack_priors(
    members: Sequence[Member], settings: Settings, is_loss: bool, num_parameters: int
) -> tuple[np.ndarray, np.ndarray]:
    """The prior of each subset; that of offsets is 0 and learnt (`_precision`).

    Returns:
        Means [subsets, parameters]; standard deviations [subsets, own parameters],
        which are all but those of offsets.
    """
    priors = [member.prior(settings, is_loss) for member in members]
    mean = np.zeros((len(priors), num_parameters))
    own = _own_places(num_parameters, len(settings.priors))
    mean[:, own] = np.stack([mean for mean, _ in priors])
    return mean, np.stack([sd for _, sd in priors])


def _own_places(num_parameters: int, num_own: int) -> np.ndarray:
    """Where parameters that are no offsets stand in theta [own parameters].

    The core is first; last is how repeats lose their worth, where epochs vary.
    """
    last = num_parameters - (num_own - CORE_SIZE)
    return np.r_[:CORE_SIZE, last:num_parameters]


def _start(
    mean: np.ndarray, own_sd: np.ndarray, seed: int, near: Estimate | None
) -> np.ndarray:
    """Where each lane starts: near an estimate, or around the prior's mean.

    Args:
        mean: of the priors [lanes, parameters].
        own_sd: of the parameters that are no offsets [lanes, own parameters].
        seed: of what is drawn.
        near: from which to start, one lane a subset; None: `NUM_STARTS` a subset.
    """
    if near is not None:
        return np.where(np.isfinite(near.theta), near.theta, mean)
    num_own = own_sd.shape[1]
    normal = np.random.default_rng(seed).standard_normal((NUM_STARTS, num_own))
    normal[0] = 0.0
    spread = np.tile(_START_SPREAD * normal, (len(mean) // NUM_STARTS, 1))
    theta = mean.copy()
    own = _own_places(theta.shape[1], num_own)
    theta[:, own] += np.minimum(own_sd, _WIDEST_START) * spread
    return theta


def _objective(
    solution: solver.Solution,
    problem: solver.Problem,
    spreads: Spreads,
    settings: Settings,
    has_level: np.ndarray,
) -> np.ndarray:
    """Eq. (1) of each lane, infinite where its fit failed [lanes]."""
    sigma, offset_sd, slope_sd = spreads
    objective = (
        solution.objective
        + 2 * np.log(sigma) * np.asarray(problem.weight).sum(axis=1)
        + _sigma_penalty(settings, sigma)
        + 2 * has_level.sum(axis=1) * np.log(offset_sd * slope_sd)
    )
    return np.where(np.isfinite(objective), objective, np.inf)


def _choose(objective: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best start of each subset, and what share of starts is as good.

    Args:
        objective: [subsets, starts].

    Returns:
        Its lane [subsets]; the share [subsets].
    """
    num_subsets, starts = objective.shape
    best = np.argmin(objective, axis=1)
    agree = np.mean(objective <= objective.min(axis=1)[:, None] + 0.1, axis=1)
    return np.arange(num_subsets) * starts + best, agree


def _precision(
    own_sd: np.ndarray, has_level: np.ndarray, spreads: Spreads
) -> np.ndarray:
    """Of every parameter's prior; slots without a level are held at 0."""
    core, last = np.split(own_sd**-2.0, [CORE_SIZE], axis=1)
    offsets = np.where(has_level > 0, spreads.offset_sd[:, None] ** -2.0, _FROZEN)
    steeper = np.where(has_level > 0, spreads.slope_sd[:, None] ** -2.0, _FROZEN)
    return np.concatenate([core, offsets, steeper, last], axis=1)


def _noise(
    settings: Settings,
    problem: solver.Problem,
    known: solver.Information,
    covariance: np.ndarray,
) -> np.ndarray:
    """sigma of each lane [lanes], from its weighted residuals and the expected one.

    The mean of ln sigma, not its likeliest value: with a point or two more than
    parameters the residuals may be next to nothing by chance.
    """
    weight = np.asarray(problem.weight)
    used = np.einsum("lij,lji->l", known.of_data, covariance)
    # Robust weights are below 1; 1.2 makes up for that under normal noise.
    squares = 1.2 * np.sum(known.weight * known.difference**2, axis=1)
    freedom = np.maximum(weight.sum(axis=1) - used, 0.0)
    tried = settings.sigma * _SIGMAS
    score = (
        2 * freedom[:, None] * np.log(tried)
        + squares[:, None] / tried**2
        + _sigma_penalty(settings, tried)
    )
    chance = np.exp((score.min(axis=1, keepdims=True) - score) / 2)
    return np.exp(chance @ np.log(tried) / chance.sum(axis=1))


def _sigma_penalty(settings: Settings, sigma: np.ndarray) -> np.ndarray:
    """Minus twice the log of sigma's prior, up to a constant.

    Upwards the inverse gamma form, which holds as so many points would; downwards
    Student's, since a table that is a hundred times cleaner than others may say so.
    """
    distance = np.log(sigma / settings.sigma)
    up = 2 * distance + np.expm1(-2 * np.maximum(distance, 0.0))
    down = 2 * np.log1p(settings.sigma_strength * distance**2)
    return np.where(distance > 0, settings.sigma_strength * up, down)


def _covariance(
    known: solver.Information,
    shares: np.ndarray,
    spreads: Spreads,
    has_level: np.ndarray,
) -> np.ndarray:
    """Of theta, also where points err together [lanes, parameters, parameters]."""
    prior = known.total - known.of_data
    covariance = np.linalg.inv(shares[:, None, None] * known.of_data + prior)
    # What an unseen size may have for an offset is part of what is not known. It is
    # in the last slot.
    if slots := has_level.shape[1]:
        unseen = CORE_SIZE + slots - 1
        has_offsets = has_level.sum(axis=1) > 0
        covariance[:, unseen, unseen] = spreads.offset_sd**2 * has_offsets
    return covariance


def _offset_spreads(
    settings: Settings, has_level: np.ndarray, theta: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spread of the offsets, and of the data exponents, over model sizes [lanes]."""
    slots = has_level.shape[1]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    spreads = []
    for first, expected in (
        (CORE_SIZE, settings.offset_sd),
        (CORE_SIZE + slots, settings.slope_sd),
    ):
        part = slice(first, first + slots)
        squares = np.sum(has_level * (theta[:, part] ** 2 + variance[:, part]), axis=1)
        strength = settings.offset_strength
        spreads.append(
            np.sqrt(
                (squares + strength * expected**2) / (has_level.sum(axis=1) + strength)
            )
        )
    return spreads[0], spreads[1]

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
    believed = [member.prior(settings, is_loss) for member in members]
    mean, sd = (np.stack(part)[lanes] for part in zip(*believed, strict=True))
    none = np.zeros_like(has_level)
    mean = _place_offsets(mean, none, none)
    if near is None:
        around = _spread_starts(seed, sd.shape[1])
        moved = np.minimum(sd, _WIDEST_START) * np.tile(around, (len(masks), 1))
        theta = mean + _place_offsets(moved, none, none)
    else:
        theta = np.where(np.isfinite(near.theta), near.theta, mean)
    equal = np.array([member.is_equal for member in members])
    power = np.where(equal, 0.0, settings.compute_power)[lanes]
    problem = _make_problem(points, masks, lanes, power, settings.above, mean, scale)
    if "epochs" not in axes:
        problem = problem._replace(z=None)
    learnt = _learn(law, problem, theta, settings, sd, has_level)
    found = _conclude(law, points, settings, has_level, *learnt)
    by_subset = found.objective.reshape(len(masks), starts)
    best = np.argmin(by_subset, axis=1)
    lowest = by_subset[np.arange(len(masks)), best]
    chosen = np.arange(len(masks)) * starts + best
    agree = np.mean(by_subset <= lowest[:, None] + 0.1, axis=1)
    found = jax.tree.map(lambda leaf: leaf[chosen], found)
    return law, found._replace(agree=agree if near is None else near.agree)


def _conclude(
    law: Law,
    points: Points,
    settings: Settings,
    has_level: np.ndarray,
    solution: solver.Solution,
    problem: solver.Problem,
    spreads: Spreads,
) -> Estimate:
    """The estimate of each lane, whose `agree` is 1; an objective that is not finite
    is infinite.
    """
    sigma, offset_sd, slope_sd = spreads
    weight = np.asarray(problem.weight)
    objective = (  # Eq. (1)
        solution.objective
        + 2 * np.log(sigma) * weight.sum(axis=1)
        + _sigma_penalty(settings, sigma)
        + 2 * has_level.sum(axis=1) * np.log(offset_sd * slope_sd)
    )
    residual = solver.Residual("robust", KNEE, settings.above)
    known = solver.information(law, problem, solution.theta, residual)
    shares = find_shares(points, known)
    covariance = _covariance(known, shares)
    # What an unseen size may have for an offset is part of what is not known.
    if slots := has_level.shape[1]:
        unseen = CORE_SIZE + slots - 1
        covariance[:, unseen, unseen] = offset_sd**2 * (has_level.sum(axis=1) > 0)
    return Estimate(
        theta=solution.theta,
        covariance=covariance,
        sigma=sigma,
        objective=np.where(np.isfinite(objective), objective, np.inf),
        problem=problem,
        shares=shares,
        agree=np.ones(len(sigma)),
        status=solution.status,
    )


def _place_offsets(
    own: np.ndarray, offsets: np.ndarray, steeper: np.ndarray
) -> np.ndarray:
    """Numbers in the order of theta: the core's, those of model sizes, the rest's.

    Args:
        own: of all parameters but those of model sizes [lanes, parameters].
        offsets: of the offset of each slot [lanes, slots].
        steeper: of its change of the data exponent [lanes, slots].
    """
    core, rest = np.split(own, [CORE_SIZE], axis=1)
    return np.concatenate([core, offsets, steeper, rest], axis=1)


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
        power: a point weighs its compute to this power [lanes].
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
        weight=masks[lanes] * points.weight * work ** power[:, None],
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


def _spread_starts(seed: int, parameters: int) -> np.ndarray:
    """0, then draws around it, in prior deviations [starts, parameters]."""
    normal = np.random.default_rng(seed).standard_normal((NUM_STARTS, parameters))
    normal[0] = 0.0
    return _START_SPREAD * normal


def _precision(
    own_sd: np.ndarray, has_level: np.ndarray, spreads: Spreads
) -> np.ndarray:
    """Of every parameter's prior; slots without a level are held at 0."""
    offsets = np.where(has_level > 0, spreads.offset_sd[:, None] ** -2.0, _FROZEN)
    steeper = np.where(has_level > 0, spreads.slope_sd[:, None] ** -2.0, _FROZEN)
    return _place_offsets(own_sd**-2.0, offsets, steeper)


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


def _covariance(known: solver.Information, shares: np.ndarray) -> np.ndarray:
    """Of theta, also where points err together."""
    prior = known.total - known.of_data
    return np.linalg.inv(shares[:, None, None] * known.of_data + prior)


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

"""One law of which the usual ones are corners, and the estimator that goes with it.

The law bends between Rosenfeld's envelope, the rational law, Chinchilla's sum and the
harder "whichever is scarcer" form; a size of model that was trained on several data
sizes may have a small offset of its own, which takes up what parameters do not count
(depth, patches, heads). So many parameters need a prior, and the estimate is the most
probable one: weak normal priors on every parameter, a robust and one-sided loss, and
weights that grow with compute, because the prediction is wanted beyond the largest.

`law=auto` is this. All members of it (see `MEMBERS`) are one law under different
priors, so that scoring them by back-tests is one compiled program.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting import solver
from scalepred.fitting.laws import Array, Law, Parameter, Scale
from scalepred.fitting.multistart import Points

CORE = ("A", "model_exponent", "B", "data_exponent", "floor", "top", "bend", "hardness")
_CORE_SIZE = len(CORE)
# Sizes of model with an offset of their own: none, or at most this many. Programs are
# compiled for the next of these counts.
_LEVEL_COUNTS = (0, 4, 8, 16, 24)
_MIN_LEVELS = 3
_SAME_SIZE = 1e-9  # of x: two sizes of model are one
_ROUNDS = 4  # of: fit, then re-estimate the noise and the spread of the offsets
_ITERATIONS = 15
_FIRST_SIGMA = 0.03
KNEE = 2.0  # residuals beyond so many sigmas count linearly
# Fewer pairs of neighbours than this say nothing of their correlation.
_MIN_NEIGHBOURS = 20
_DRAW_ITERATIONS = 4  # of a draw, from the estimate: later steps change little
_FAR = 1e3  # sigmas of the residual in which draws are fitted
_FROZEN = 1e12  # precision of a prior that is no choice
_HELD_SD = 1e-3  # of a member's held parameters
# Prior of the top where the level is the given one, or anything below it.
_GIVEN_LEVEL = -30.0, _HELD_SD
_LEVEL_BELOW = 0.0, 2.0

NUM_STARTS = 3  # the prior's mean, and draws this far around it, in its deviations
_START_SPREAD = 0.8
_WIDEST_START = 1.5


@dataclasses.dataclass(frozen=True)
class Settings:
    """Priors and weights for one kind of metric.

    Attributes:
        mean: of the core parameters' priors, in the order of `CORE`.
        sd: their standard deviations.
        compute_power: a point weighs (m n / largest m n) to this power.
        above: weight of a residual above the law.
        sigma: expected standard deviation of ln value about the law.
        sigma_strength: how many points that expectation counts for.
        offset_sd: expected spread of the offsets of model sizes, in ln t.
        bend_sd: expected spread of their data exponents, in ln.
        offset_strength: how many model sizes those two count for.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    compute_power: float
    above: float
    sigma: float
    sigma_strength: float
    offset_sd: float
    bend_sd: float
    offset_strength: float


def _settings(
    medians: tuple[float, ...], sd: tuple[float, ...], **others: float
) -> Settings:
    """Medians of A, exponents, B, bend and hardness; floor and top as they are."""
    logs = [
        np.log(value) if i not in (4, 5) else value for i, value in enumerate(medians)
    ]
    return Settings(tuple(map(float, logs)), sd, **others)


# Priors and weights as eight public studies of language models (losses) and of image
# models (errors) suggest them; docs/benchmarks.md says what was seen while choosing.
LOSS = _settings(
    (0.053, 0.32, 0.23, 0.44, 1.06, -0.5, 1.85, 0.92),
    (2.3, 0.29, 1.7, 0.39, 0.9, 2.0, 0.155, 0.55),
    compute_power=1.3,
    above=0.4,
    sigma=0.008,
    sigma_strength=6.0,
    offset_sd=0.02,
    bend_sd=0.1,
    offset_strength=0.8,
)
ERROR = _settings(
    (0.09, 0.32, 0.19, 0.36, -0.3, 0.0, 1.72, 0.67),
    (1.35, 0.30, 2.2, 0.35, 3.0, 1e-6, 0.155, 0.26),
    compute_power=0.5,
    above=1.0,
    sigma=0.006,
    sigma_strength=1.5,
    offset_sd=0.3,
    bend_sd=0.065,
    offset_strength=0.5,
)


@dataclasses.dataclass(frozen=True)
class Member:
    """One of the shapes that `law=auto` weighs: the law under a prior of its own.

    Attributes:
        name: for people.
        weight: before the back-tests have spoken.
        mean: inner values at which core parameters are held, by name.
        widen: factor on the standard deviations of the priors.
        is_below: the level of an error is fitted, from the largest value to 1.
    """

    name: str
    weight: float
    mean: tuple[tuple[str, float], ...] = ()
    widen: float = 1.0
    is_below: bool = False

    def prior(self, settings: Settings, is_loss: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the core parameters."""
        mean = np.array(settings.mean)
        sd = np.where(np.array(settings.sd) > _HELD_SD, self.widen, 1.0) * settings.sd
        for name, value in self.mean:
            mean[CORE.index(name)] = value
            sd[CORE.index(name)] = _HELD_SD
        if not is_loss:
            top = CORE.index("top")
            mean[top], sd[top] = _LEVEL_BELOW if self.is_below else _GIVEN_LEVEL
        return mean, sd


# The usual laws are corners of this one, with the same weak priors on the rest.
MEMBERS = (
    Member("flexible", 0.5),
    Member("envelope (Rosenfeld)", 0.1, (("bend", np.log(2.0)), ("hardness", 0.0))),
    Member("rational", 0.1, (("bend", 0.0), ("hardness", 0.0))),
    Member("sum (Chinchilla)", 0.1, (("top", 7.0), ("bend", 0.0), ("hardness", 0.0))),
    Member("scarcer of the two", 0.1, (("hardness", np.log(3.0)),)),
    # Where nothing is like the studies that the priors come from.
    Member("wide priors", 0.1, widen=4.0),
)
# Of errors whose random-guess level nobody gave: a choice among four is wrong in three
# of four, and what starts there falls later and faster than from 1.
UNKNOWN_LEVEL = Member("level below 1", 0.1, widen=4.0, is_below=True)


# Learning curves are dense and smooth: they say themselves what the priors say of
# grids. In the order of CORE.
_CURVE_SD = (5.0, 2.0, 5.0, 2.0, 5.0, 5.0, 0.6, 0.5)
_ABSENT = -30.0  # ln of the amplitude of a size that does not vary
# Parameters that mean nothing where one size alone varies.
_OF_NO_AXIS = {
    "data": ("A", "model_exponent", "hardness"),
    "params": ("B", "data_exponent", "hardness"),
}


def for_curves(settings: Settings) -> Settings:
    """The settings for points along one size only."""
    sd = tuple(
        wide if own > _HELD_SD else own
        for wide, own in zip(_CURVE_SD, settings.sd, strict=True)
    )
    return dataclasses.replace(
        settings, sd=sd, compute_power=0.5, above=1.0, sigma=0.001, sigma_strength=2.0
    )


def curve_members(axis: str) -> tuple[Member, ...]:
    """What is weighed where only params, or only data, varies."""
    absent = ("A", _ABSENT) if axis == "data" else ("B", _ABSENT)
    held = (absent, ("hardness", 0.0))
    return (
        Member("curve", 0.55, held),
        Member("envelope (Rosenfeld)", 0.15, (*held, ("bend", np.log(2.0)))),
        Member("rational", 0.15, (*held, ("bend", 0.0))),
        Member("power", 0.15, (*held, ("top", 7.0), ("bend", 0.0))),
    )


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


class _Spreads(NamedTuple):
    """Standard deviations that the estimate learns itself, each [lanes].

    Attributes:
        sigma: of ln value about the law.
        offset_sd: of the offsets of model sizes.
        bend_sd: of ln of their data exponents.
    """

    sigma: np.ndarray
    offset_sd: np.ndarray
    bend_sd: np.ndarray


# e = U z (1 + z^h)^(-1/h), z = (E + s t) / U,
# t = [(A m^-alpha)^k + (B n^-beta)^k]^(1/k): h is the bend (2: Rosenfeld's envelope,
# 1: rational), k the hardness (1: sum, large: the scarcer of the two), s the scale of
# the smallest errors, U the random-guess level.
def _log_value(
    num_levels: int, is_loss: bool, theta: Array, x: Array, y: Array, scale: Scale
) -> jax.Array:
    log_a, log_alpha, log_b, log_beta, floor, top, log_bend, log_hard = (
        theta[i] for i in range(_CORE_SIZE)
    )
    offset, steeper = _level_terms(num_levels, theta, x, scale)
    hard, bend = jnp.exp(log_hard), jnp.exp(log_bend)
    of_model = log_a - jnp.exp(log_alpha) * x
    of_data = log_b - jnp.exp(log_beta + steeper) * y
    log_t = jnp.logaddexp(hard * of_model, hard * of_data) / hard + offset
    log_floor = scale.log_low + jax.nn.log_sigmoid(floor)
    # The level of a loss is above all values, of an error between them and the given.
    if is_loss:
        log_top = scale.log_high + jnp.logaddexp(0.0, top)
    else:
        below = jax.nn.sigmoid(top)
        log_top = (1 - below) * scale.log_guess + below * scale.log_high
    log_z = jnp.logaddexp(log_floor, scale.log_low + log_t) - log_top
    return jnp.asarray(log_top - jax.nn.softplus(-bend * log_z) / bend)


def _level_terms(
    num_levels: int, theta: Array, x: Array, scale: Scale
) -> tuple[jax.Array, jax.Array]:
    """Offset of ln t and of ln beta at each place; the last slot is unseen sizes'."""
    if not num_levels:
        return jnp.zeros(()), jnp.zeros(())
    x = jnp.asarray(x)
    own = jnp.abs(x[..., None] - jnp.asarray(scale.levels)) < _SAME_SIZE
    unseen = ~jnp.any(own, axis=-1, keepdims=True)
    which = jnp.concatenate([own, unseen], axis=-1).astype(jnp.float64)
    offsets = theta[_CORE_SIZE : _CORE_SIZE + num_levels + 1]
    steeper = theta[_CORE_SIZE + num_levels + 1 :]
    return which @ offsets, which @ steeper


@functools.cache
def make_law(
    num_levels: int, is_loss: bool, axes: tuple[str, ...] = ("params", "data")
) -> Law:
    """The law with room for that many model sizes of their own."""
    names = list(CORE)
    if num_levels:
        slots = [str(i) for i in range(num_levels)] + ["unseen"]
        names += [f"offset_{slot}" for slot in slots]
        names += [f"steeper_{slot}" for slot in slots]

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        del params_unit, data_unit
        low = np.exp(scale.log_low)
        floor = low / (1 + np.exp(-theta[..., 4]))
        high, guess = np.exp(scale.log_high), np.exp(scale.log_guess)
        if is_loss:
            top = high * (1 + np.exp(theta[..., 5]))
        else:
            top = guess * (high / guess) ** (1 / (1 + np.exp(-theta[..., 5])))
        bend = np.exp(theta[..., 6])
        ratio = floor / top
        numbers = {
            "A": low * np.exp(theta[..., 0]),
            "model_exponent": np.exp(theta[..., 1]),
            "B": low * np.exp(theta[..., 2]),
            "data_exponent": np.exp(theta[..., 3]),
            "irreducible": floor * (1 + ratio**bend) ** (-1 / bend),
            "random_guess": top,
            "bend": bend,
            "hardness": np.exp(theta[..., 7]),
        }
        gone = _OF_NO_AXIS[axes[0]] if len(axes) == 1 else ()
        return {name: numbers[name] for name in numbers if name not in gone}

    return Law(
        name="flexible",
        source="scalepred; Rosenfeld et al. 2020 and Hoffmann et al. 2022 are corners",
        formula=(
            "U z (1 + z^h)^(-1/h), z = (E + [(A m^-alpha)^k + (B n^-beta)^k]^(1/k)) / U"
        ),
        # No bounds: the priors do it.
        parameters=tuple(Parameter(name, -40.0, 40.0, is_log=False) for name in names),
        log_value=functools.partial(_log_value, num_levels, is_loss),
        start=_no_random_starts,
        public=public,
        unit="fractions of the largest fitted m and n",
        bounded=not is_loss,
        axes=axes,
    )


def _no_random_starts(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    raise NotImplementedError(
        "this law is fitted by flexible.estimate, from its priors"
    )


def find_levels(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Model sizes that recur at several data sizes; none if they are few or many."""
    sizes, counts = np.unique(x[mask], return_counts=True)
    levels = sizes[counts >= 2]
    if not _MIN_LEVELS <= len(levels) <= _LEVEL_COUNTS[-1]:
        return np.empty(0)
    return levels


def estimate(
    points: Points,
    masks: np.ndarray,
    members: Sequence[Member],
    settings: Settings,
    is_loss: bool,
    seed: int = 0,
    axes: tuple[str, ...] = ("params", "data"),
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

    Returns:
        The law (its theta has room for the levels) and an estimate a subset; x and y
        of a subset's law are relative to the subset's own largest sizes, see
        `Estimate.scale` and `references`.
    """
    reference_x, reference_y = references(points, masks)
    found = [
        find_levels(points.x - reference, mask)
        for mask, reference in zip(masks, reference_x, strict=True)
    ]
    most = max(len(levels) for levels in found)
    num_levels = next(count for count in _LEVEL_COUNTS if count >= most)
    law = make_law(num_levels, is_loss, axes)
    levels = np.full((len(masks), num_levels), np.inf)
    has_level = np.zeros((len(masks), num_levels + 1 if num_levels else 0))
    for subset, own in enumerate(found):
        levels[subset, : len(own)] = own
        has_level[subset, : len(own)] = 1.0
    scale = points.scale(masks)._replace(levels=levels)

    lanes = np.repeat(np.arange(len(masks)), NUM_STARTS)
    x = points.x - reference_x[lanes, None]
    y = points.y - reference_y[lanes, None]
    work = np.exp(np.minimum(x + y, _largest(x + y, masks[lanes])))
    work /= np.exp(_largest(x + y, masks[lanes]))
    weight = masks[lanes] * points.weight * work**settings.compute_power
    has_level = has_level[lanes]

    priors = [member.prior(settings, is_loss) for member in members]
    mean = np.zeros((len(lanes), _CORE_SIZE + 2 * has_level.shape[1]))
    mean[:, :_CORE_SIZE] = np.stack([mean for mean, _ in priors])[lanes]
    core_sd = np.stack([sd for _, sd in priors])[lanes]
    theta = mean.copy()
    theta[:, :_CORE_SIZE] += np.minimum(core_sd, _WIDEST_START) * np.tile(
        _spread_starts(seed), (len(masks), 1)
    )
    residual = solver.Residual("robust", KNEE, settings.above)
    problem = solver.Problem(
        x=x,
        y=y,
        log_value=np.broadcast_to(points.log_value, x.shape),
        weight=weight,
        prior_mean=mean,
        prior_precision=np.zeros_like(theta),
        scale=Scale(*(np.asarray(leaf)[lanes] for leaf in scale)),
        above=np.full(len(lanes), settings.above),
    )
    spreads = _Spreads(
        sigma=np.full(len(lanes), _FIRST_SIGMA),
        offset_sd=np.full(len(lanes), settings.offset_sd),
        bend_sd=np.full(len(lanes), settings.bend_sd),
    )
    solution = solver.Solution(theta, *np.zeros((3, len(lanes))))
    for _ in range(_ROUNDS):
        problem = problem._replace(
            sigma=spreads.sigma,
            prior_precision=_precision(core_sd, has_level, spreads),
        )
        solution = solver.solve(law, problem, solution.theta, residual, _ITERATIONS)
        known = solver.information(law, problem, solution.theta, residual)
        covariance = np.linalg.inv(known.total)
        spreads = _Spreads(
            _noise(settings, problem, known, covariance),
            *_offset_spreads(settings, has_level, solution.theta, covariance),
        )
    sigma, offset_sd, bend_sd = spreads
    objective = (
        solution.objective
        + 2 * np.log(sigma) * (weight.sum(axis=1) + settings.sigma_strength)
        + settings.sigma_strength * (settings.sigma / sigma) ** 2
        + 2 * has_level.sum(axis=1) * np.log(offset_sd * bend_sd)
    )
    known = solver.information(law, problem, solution.theta, residual)
    shares = _shares(points, known)
    covariance = _covariance(known, shares)
    # What an unseen size may have for an offset is part of what is not known.
    if num_levels:
        unseen = _CORE_SIZE + num_levels
        covariance[:, unseen, unseen] = offset_sd**2 * (has_level.sum(axis=1) > 0)
    by_subset = np.where(np.isfinite(objective), objective, np.inf).reshape(
        len(masks), NUM_STARTS
    )
    best = np.argmin(by_subset, axis=1)
    lowest = by_subset[np.arange(len(masks)), best]
    chosen = np.arange(len(masks)) * NUM_STARTS + best
    return law, Estimate(
        theta=solution.theta[chosen],
        covariance=covariance[chosen],
        sigma=sigma[chosen],
        objective=lowest,
        problem=jax.tree.map(lambda leaf: leaf[chosen], problem),
        shares=shares[chosen],
        agree=np.mean(by_subset <= lowest[:, None] + 0.1, axis=1),
        status=solution.status[chosen],
    )


def draw(
    law: Law, estimate: Estimate, subset: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Parameters that may be the true ones, as far as the points and the prior say.

    The points are moved by their noise and the prior's mean by its own spread, and the
    law is fitted again (randomise, then optimise: Bardsley et al. 2014). Unlike draws
    from `Estimate.covariance` these keep to the bent valley in which parameters make up
    for each other, so that their predictions lie around the estimate's.

    Args:
        subset: whose parameters each draw is of [draws].
        rng: of the moves.

    Returns:
        theta [draws, parameters]; draws that are not finite are left out.
    """
    problem = estimate.problem
    residual = solver.Residual("robust", KNEE)
    asymmetric = dataclasses.replace(residual, above=float(np.max(problem.above)))
    known = solver.information(law, problem, estimate.theta, asymmetric)
    weight = known.weight * estimate.shares[:, None]

    lanes, sigma = problem._replace(weight=weight), np.asarray(problem.sigma)
    lanes = jax.tree.map(lambda leaf: np.asarray(leaf)[subset], lanes)
    weight, sigma = lanes.weight, sigma[subset][:, None]
    noise = sigma * rng.standard_normal(weight.shape)
    moved = rng.standard_normal(lanes.prior_mean.shape)
    # Robust weights are in already: far from the knee the residual is a square.
    lanes = lanes._replace(
        log_value=lanes.log_value + noise / np.sqrt(np.maximum(weight, 1e-12)),
        prior_mean=lanes.prior_mean + moved / np.sqrt(lanes.prior_precision),
        weight=weight * _FAR**2,
        sigma=sigma[:, 0] * _FAR,
    )
    start = estimate.theta[subset]
    found = solver.solve(law, lanes, start, residual, _DRAW_ITERATIONS, is_near=True)
    theta = found.theta.copy()
    if levels := np.shape(problem.scale.levels)[1]:
        # An unseen size has no point, so only its spread is known.
        unseen = _CORE_SIZE + levels
        spread = np.sqrt(estimate.covariance[subset, unseen, unseen])
        theta[:, unseen] = spread * rng.standard_normal(len(theta))
    return theta[found.status != solver.Status.NOT_FINITE]


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


def _spread_starts(seed: int) -> np.ndarray:
    """0, then draws around it, in prior deviations [starts, core parameters]."""
    normal = np.random.default_rng(seed).standard_normal((NUM_STARTS, _CORE_SIZE))
    normal[0] = 0.0
    return _START_SPREAD * normal


def _precision(
    core_sd: np.ndarray, has_level: np.ndarray, spreads: _Spreads
) -> np.ndarray:
    """Of every parameter's prior; slots without a level are held at 0."""
    core = core_sd**-2.0
    offsets = np.where(has_level > 0, spreads.offset_sd[:, None] ** -2.0, _FROZEN)
    steeper = np.where(has_level > 0, spreads.bend_sd[:, None] ** -2.0, _FROZEN)
    return np.concatenate([core, offsets, steeper], axis=1)


def _noise(
    settings: Settings,
    problem: solver.Problem,
    known: solver.Information,
    covariance: np.ndarray,
) -> np.ndarray:
    """sigma of each lane, from its weighted residuals and the expected one."""
    weight = np.asarray(problem.weight)
    used = np.einsum("lij,lji->l", known.of_data, covariance)
    freedom = np.maximum(weight.sum(axis=1) - used, 1.0)
    # Robust weights are below 1; 1.2 makes up for that under normal noise.
    squares = 1.2 * np.sum(known.weight * known.difference**2, axis=1)
    expected = settings.sigma_strength * settings.sigma**2
    return np.sqrt((squares + expected) / (freedom + settings.sigma_strength))


def _covariance(known: solver.Information, shares: np.ndarray) -> np.ndarray:
    """Of theta, also where points err together."""
    prior = known.total - known.of_data
    return np.linalg.inv(shares[:, None, None] * known.of_data + prior)


def _shares(points: Points, known: solver.Information) -> np.ndarray:
    """How much each point of a lane counts where neighbours err together [lanes].

    Checkpoints of one run are many points and little news: with correlation r between
    neighbours along n, points count as (1 - r) / (1 + r) of independent ones. The
    neighbours are points of one size of model or, where that says more, runs of one
    seed: checkpoints of several runs may lie between each other.
    """
    everywhere = np.zeros((len(points.x), 1))
    kinds = [everywhere]
    if points.of_runs is not None and points.of_runs.shape[1] > 1:
        kinds.append(points.of_runs)
    shares = np.ones(len(known.difference))
    for of_runs in kinds:
        point, seed = np.nonzero(np.isfinite(of_runs))
        order = np.lexsort((points.y[point], points.x[point], seed))
        point, seed = point[order], seed[order]
        for lane, difference in enumerate(known.difference):
            used = known.weight[lane, point] > 0
            at, of_seed = point[used], seed[used]
            error = difference[at] - of_runs[at, of_seed]
            same = np.abs(np.diff(points.x[at])) < _SAME_SIZE
            same &= of_seed[1:] == of_seed[:-1]
            if same.sum() < _MIN_NEIGHBOURS:
                continue
            first, second = error[:-1][same], error[1:][same]
            correlation = np.sum(first * second) / np.sqrt(
                np.sum(first**2) * np.sum(second**2) + 1e-300
            )
            share = np.clip((1 - correlation) / (1 + correlation), 1e-3, 1.0)
            shares[lane] = min(shares[lane], share)
    return shares


def _offset_spreads(
    settings: Settings, has_level: np.ndarray, theta: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spread of the offsets, and of the data exponents, over model sizes [lanes]."""
    slots = has_level.shape[1]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    spreads = []
    for first, expected in (
        (_CORE_SIZE, settings.offset_sd),
        (_CORE_SIZE + slots, settings.bend_sd),
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

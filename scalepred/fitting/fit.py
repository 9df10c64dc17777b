"""From a surface to a fitted law: the entry point of the right half.

    surface -> many starts -> best fit -> resamples -> intervals
                                       -> held-out scores, health

`fit` returns a `Fit`, which predicts and answers; every choice it made is in it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting import (
    answers,
    backtest,
    design,
    flexible,
    multistart,
    predict,
    solver,
)
from scalepred.fitting.laws import (
    Law,
    Scale,
    find_law,
    rosenfeld,
    rosenfeld_fitted_guess,
)
from scalepred.measurements import Surface

_STARTS = 64
# A fitted power of the cost this close to 0 or 1 is 0 or 1.
_COST_POWER_SLACK = 0.15
# Points that auto needs, and that must be left in its back-tests: priors do the rest.
_AUTO_POINTS = 5
_AUTO_BACK_TEST_POINTS = 8
_SHARPNESS = 10.0  # of the members' weights
# Fewer starts than this share at the optimum: the fit may depend on luck.
_FEW_AGREE = 0.1
_ILL_CONDITIONED = 1e8


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A parameter in its published units, with its 90 % interval."""

    value: float
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class Warn:
    """Something the reader of a fit must know: a code for programs, a sentence."""

    code: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class MemberScore:
    """One shape that law=auto weighed.

    Attributes:
        name: for people.
        weight: its share of the draws behind every interval.
        errors: (ratio, mean absolute relative error) of each inner back-test.
    """

    name: str
    weight: float
    errors: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        errors = ", ".join(f"{e:.1%} (above 1/{ratio:g})" for ratio, e in self.errors)
        tested = f"back-test errors {errors}" if errors else "no back-test was possible"
        return f"law=auto: {self.name} weighs {self.weight:.0%}; {tested}"


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law fitted to a surface.

    Attributes:
        surface: the points fitted.
        fitted: the law with its numbers and resamples.
        parameters: published parameters by name.
        objective: at the optimum; for the relative residual the sum of squared
            relative errors.
        status: how the solver ended.
        starts: starting points tried.
        agree: share of them that ended at the optimum.
        bounds_hit: parameters at a bound.
        condition_number: of the information matrix with unit diagonal; large: the
            points cannot tell some parameters apart.
        residual: what was minimised.
        inner_tests: back-tests inside the fit region.
        cross_validation: held-out folds.
        warnings: codes and sentences.
        notes: choices made for the user.
        members: what law=auto weighed, empty for other laws.
    """

    surface: Surface
    fitted: predict.FittedLaw
    parameters: dict[str, Estimate]
    objective: float
    status: solver.Status
    starts: int
    agree: float
    bounds_hit: tuple[str, ...]
    condition_number: float
    residual: solver.Residual
    inner_tests: list[backtest.InnerTest]
    cross_validation: backtest.CrossValidation
    warnings: tuple[Warn, ...]
    notes: tuple[str, ...]
    members: tuple[MemberScore, ...] = ()

    @property
    def law(self) -> Law:
        return self.fitted.law

    @property
    def cost(self) -> answers.Cost:
        """What FLOPs buy, read from the table; 6 m n (Kaplan et al.) where it has none.

        Powers near 1 are taken for 1: FLOPs go as m n. Otherwise they are fitted.
        """
        surface = self.surface
        known = np.isfinite(surface.compute)
        if not np.any(known):
            return answers.Cost(6.0)
        log_sizes = np.log(np.stack([surface.params[known], surface.data[known]]))
        log_flops = np.log(surface.compute[known])
        plain = answers.Cost(float(np.exp(np.mean(log_flops - log_sizes.sum(axis=0)))))
        columns = np.vstack([np.ones(len(log_flops)), log_sizes])
        if np.linalg.matrix_rank(columns) < 3:
            return plain
        factor, *powers = np.linalg.lstsq(columns.T, log_flops)[0]
        if all(abs(power - 1) < _COST_POWER_SLACK for power in powers):
            return plain
        params_power, data_power = (
            0.0 if abs(power) < _COST_POWER_SLACK else float(power) for power in powers
        )
        return answers.Cost(float(np.exp(factor)), params_power, data_power)

    def corners(self, surface: Surface) -> list[backtest.Corner]:
        """The paper's extrapolation protocol: the law refitted at every corner.

        Args:
            surface: every measured point, the held-out ones too.
        """
        if self.members:
            refit, least = _refit_flexible(surface), _AUTO_POINTS
        else:
            refit = backtest.refit_law(
                self.law, surface, self.residual, self.fitted.seed
            )
            least = self.law.num_parameters
        return backtest.corner_array(surface, least, refit, self.law.axes)

    def predict(
        self, params: ArrayLike, data: ArrayLike, num_seeds: ArrayLike = 1
    ) -> predict.Prediction:
        """Expected value and 90 % intervals at sizes that broadcast.

        Args:
            params: model sizes, counts above 0.
            data: data sizes, counts above 0.
            num_seeds: runs averaged in the measurement the interval is for.

        Raises:
            UserError: if a size is not a positive number.
        """
        for name, sizes in (("params", params), ("data", data)):
            sizes = np.asarray(sizes, np.float64)
            if not np.all(np.isfinite(sizes) & (sizes > 0)):
                raise UserError(f"{name}={sizes}: sizes must be positive numbers")
        return self.fitted.predict(params, data, num_seeds)

    def data_needed(self, value: float, params: float) -> answers.Answer:
        """Data with which a model of `params` reaches `value`."""
        return answers.data_needed(self.fitted, value, params, self.surface.data_unit)

    def params_needed(self, value: float, data: float) -> answers.Answer:
        """Model size with which `data` suffices to reach `value`."""
        return answers.params_needed(self.fitted, value, data)

    def best_for_budget(
        self, budget: float, max_data: float = math.inf
    ) -> answers.Answer:
        """The model and data that err least for `budget` training FLOPs.

        Args:
            budget: FLOPs of one run.
            max_data: no more data than this exist.
        """
        return answers.best_for_budget(
            self.fitted,
            budget,
            self.cost,
            self.surface.data_unit,
            self.surface.metric,
            max_data,
        )

    def cheapest_for_target(
        self, value: float, max_data: float = math.inf
    ) -> answers.Answer:
        """The least training FLOPs that reach `value`, with at most `max_data`."""
        return answers.cheapest_for_target(
            self.fitted, value, self.cost, self.surface.data_unit, max_data
        )

    def next_cells(
        self, budget: float, target: tuple[float, float]
    ) -> list[design.NextCell]:
        """The cells to train next, to be surer of the error at `target`.

        Args:
            budget: training FLOPs for all of them together.
            target: (params, data) to be predicted.
        """
        smallest = float(self.surface.params.min()), float(self.surface.data.min())
        return design.next_cells(self.fitted, smallest, self.cost, budget, target)


def fit(
    surface: Surface,
    law: str | Law = "auto",
    *,
    residual: solver.Residual = solver.RELATIVE,
    resamples: int = 1000,
    starts: int = _STARTS,
    seed: int = 0,
) -> Fit:
    """Fits a law to every point of a surface.

    Args:
        surface: the fit region; `Surface.where` cuts one out.
        law: "auto" (one flexible law under several priors, weighed by back-tests:
            see `fitting.flexible`), another name (see `laws.find_law`) or a law of
            one's own.
        residual: what is minimised; the paper's relative residual unless said;
            not with law="auto", which has its own.
        resamples: draws behind every interval; 0: none, intervals are NaN.
        starts: starting points of the optimiser; auto starts from its priors.
        seed: of starts, folds and resamples.

    Raises:
        UserError: if the points cannot determine the law.

    Source: Rosenfeld et al. 2020, section 4 (objective), 6 (cross-validation), 7
    (extrapolation). The intervals are ours.
    """
    if law == "auto":
        if residual != solver.RELATIVE:
            raise UserError(
                f"residual={residual.kind}: law=auto has a residual of its own; leave "
                "it out or name another law"
            )
        return _fit_auto(surface, resamples, seed)
    law = find_law(law) if isinstance(law, str) else law
    notes = list(surface.notes)
    if law is rosenfeld and surface.random_guess is None:
        law = rosenfeld_fitted_guess
        notes.append("the random-guess level is fitted, because none was given")
    multistart.check_fittable(surface, law)
    points = multistart.make_points(surface)
    everything = np.ones((1, len(surface)), bool)
    best = multistart.fit_subsets(
        law, points, everything, residual=residual, starts=starts, seed=seed
    )
    if not math.isfinite(best.objective[0]):
        raise UserError(
            f"law={law.name}: no start gave a finite fit of these {len(surface)} "
            "points; check their values"
        )
    theta = best.theta[0]
    scale = points.scale(everything).of_lane(0)
    errors = backtest.relative_errors(law, theta, points)
    noise = predict.estimate_noise(surface.value, surface.seed_values)
    misfit = _estimate_misfit(law, points, errors, noise, surface.num_seeds)
    inner = backtest.inner_tests(law, surface, residual, seed)
    draws = _resample(
        law, surface, points, theta, scale, misfit, noise, residual, resamples, seed
    )
    fitted = predict.FittedLaw(
        law=law,
        theta=theta,
        draws=draws,
        scale=scale,
        params_unit=points.params_unit,
        data_unit=points.data_unit,
        misfit=misfit,
        growth=backtest.learn_growth(inner),
        noise=noise,
        seed=seed,
    )
    hit = (theta <= law.lower) | (theta >= law.upper)
    bounds_hit = tuple(
        parameter.name
        for parameter, is_hit in zip(law.parameters, hit, strict=True)
        if is_hit
    )
    condition = _condition_number(law, theta, points, scale)
    result = Fit(
        surface=surface,
        fitted=fitted,
        parameters=_published(fitted),
        objective=float(best.objective[0]),
        status=solver.Status(int(best.status[0])),
        starts=starts,
        agree=float(best.agree[0]),
        bounds_hit=bounds_hit,
        condition_number=condition,
        residual=residual,
        inner_tests=inner,
        cross_validation=backtest.cross_validate(
            len(surface),
            law.num_parameters,
            backtest.refit_law(law, surface, residual, seed),
            seed,
        ),
        warnings=(),
        notes=tuple(notes),
    )
    return dataclasses.replace(result, warnings=_warnings(result))


def _fit_auto(surface: Surface, resamples: int, seed: int) -> Fit:
    """Fits the flexible law under every member's prior, weighed by back-tests.

    The prediction is that of the member of most weight; the draws behind its intervals
    come from all members, so that what the law is counts among what is not known.
    """
    multistart.check_sizes(surface, _AUTO_POINTS, "auto")
    multistart.check_above_guess(surface, bounded=True)
    is_loss = surface.metric == "loss"
    settings = flexible.LOSS if is_loss else flexible.ERROR
    fits_guess = is_loss and surface.random_guess is None
    points = multistart.make_points(surface)
    members = flexible.MEMBERS
    hidings = backtest.inner_masks(surface, _AUTO_BACK_TEST_POINTS)
    folds = backtest.fold_masks(len(surface), seed)
    everything = np.ones(len(surface), bool)
    masks = [everything, *hidings.values()] * len(members) + [*folds]
    per_member = 1 + len(hidings)
    owners = [member for member in members for _ in range(per_member)]
    owners += [members[0]] * len(folds)
    law, estimate = flexible.estimate(
        points, np.stack(masks), owners, settings, fits_guess, seed
    )
    difference, sd = flexible.predict_points(law, estimate, points, np.stack(masks))
    tests = [
        [
            backtest.make_test(ratio, mask, difference[first + i], sd[first + i])
            for i, (ratio, mask) in enumerate(hidings.items(), start=1)
        ]
        for first in range(0, per_member * len(members), per_member)
    ]
    rows = np.arange(len(members)) * per_member  # fitted to everything
    usable = np.isfinite(estimate.objective[rows])
    if not np.any(usable):
        raise UserError(
            f"law=auto: no start gave a finite fit of these {len(surface)} points; "
            "check their values or name a law"
        )
    weights = _weigh(members, tests, usable)
    best = int(rows[np.argmax(weights)])
    noise = predict.estimate_noise(surface.value, surface.seed_values)
    of_means = np.mean(noise.of(points.log_value) ** 2 / surface.num_seeds)
    misfit = math.sqrt(max(estimate.sigma[best] ** 2 - of_means, 0.0))
    fitted = predict.FittedLaw(
        law=law,
        theta=estimate.theta[best],
        draws=_draw_members(estimate, rows, weights, resamples, seed),
        scale=estimate.scale.of_lane(best),
        params_unit=points.params_unit,
        data_unit=points.data_unit,
        misfit=misfit,
        growth=1.0,  # the members' disagreement takes its place
        noise=noise,
        seed=seed,
    )
    core = estimate.covariance[best][: len(flexible.CORE), : len(flexible.CORE)]
    size = np.sqrt(np.diagonal(core))
    fold_rows = slice(per_member * len(members), None)
    notes = list(surface.notes)
    if fits_guess:
        notes.append("the random-guess level is fitted, because none was given")
    elif surface.random_guess is None:
        notes.append("the random-guess level is taken for 1, because none was given")
    scores = tuple(
        MemberScore(
            member.name,
            float(weight),
            tuple((test.ratio, test.error) for test in own),
        )
        for member, weight, own in zip(members, weights, tests, strict=True)
    )
    result = Fit(
        surface=surface,
        fitted=fitted,
        parameters=_published(fitted),
        objective=float(estimate.objective[best]),
        status=solver.Status(int(estimate.status[best])),
        starts=flexible.NUM_STARTS,
        agree=float(estimate.agree[best]),
        bounds_hit=(),
        condition_number=float(np.linalg.cond(core / size[:, None] / size[None, :])),
        residual=solver.Residual("robust", flexible.KNEE, settings.above),
        inner_tests=tests[int(np.argmax(weights))],
        cross_validation=backtest.summarise_folds(
            folds, np.expm1(difference[fold_rows])
        ),
        warnings=(),
        notes=(*notes, *map(str, scores)),
        members=scores,
    )
    return dataclasses.replace(result, warnings=_warnings(result))


def _refit_flexible(surface: Surface) -> backtest.Refit:
    """Refits the flexible law, under its own prior, to subsets of the surface."""
    is_loss = surface.metric == "loss"
    settings = flexible.LOSS if is_loss else flexible.ERROR
    points = multistart.make_points(surface)

    def refit(masks: np.ndarray) -> np.ndarray:
        members = [flexible.MEMBERS[0]] * len(masks)
        fits_guess = is_loss and surface.random_guess is None
        law, estimate = flexible.estimate(points, masks, members, settings, fits_guess)
        return np.expm1(flexible.predict_points(law, estimate, points, masks)[0])

    return refit


def _weigh(
    members: Sequence[flexible.Member],
    tests: list[list[backtest.InnerTest]],
    usable: np.ndarray,
) -> np.ndarray:
    """Weights of the members: prior times what their back-tests say.

    Members that did not fit (`usable` [members]) have none, nor those with a back-test
    that did not, while another has no such.
    """
    prior = np.array([member.weight for member in members]) * usable
    if tests[0]:
        errors = np.array([[test.error for test in own] for own in tests])
        score = np.mean(np.log(errors + 1e-6), axis=1)
        score = np.where(np.isfinite(score) & usable, score, np.inf)
        if np.any(np.isfinite(score)):
            # A member of 10 % smaller back-test errors counts 2.6 times as much.
            prior *= np.exp(-_SHARPNESS * (score - score.min()))
    return prior / prior.sum()


def _draw_members(
    estimate: flexible.Estimate,
    best: np.ndarray,
    weights: np.ndarray,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Draws of theta from the members' normal approximations, by their weights."""
    rng = np.random.default_rng(seed)
    draws = [np.empty((0, estimate.theta.shape[1]))]
    for row, count in zip(best, rng.multinomial(resamples, weights), strict=True):
        if not count:  # perhaps because it did not fit
            continue
        # Directions the points know nothing of may have a variance of about 0.
        variances, directions = np.linalg.eigh(estimate.covariance[row])
        factor = directions * np.sqrt(np.maximum(variances, 0.0))
        normal = rng.standard_normal((count, len(variances)))
        draws.append(estimate.theta[row] + normal @ factor.T)
    return np.concatenate(draws)


def _estimate_misfit(
    law: Law,
    points: multistart.Points,
    errors: np.ndarray,
    noise: predict.Noise,
    num_seeds: np.ndarray,
) -> float:
    """Standard deviation of the true means about the law, in ln value.

    What the residuals show beyond the noise of the means; with few degrees of freedom
    it is known badly, and the resamples carry that through the refits.
    """
    freedom = max(len(errors) - law.num_parameters, 1)
    total = np.sum(points.weight * np.log1p(errors) ** 2) / freedom
    of_means = noise.of(points.log_value) ** 2 / num_seeds
    return float(np.sqrt(max(total - np.mean(of_means), 0.0)))


def _resample(
    law: Law,
    surface: Surface,
    points: multistart.Points,
    theta: np.ndarray,
    scale: Scale,
    misfit: float,
    noise: predict.Noise,
    residual: solver.Residual,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Refits to resampled points: theta of each draw [draws, parameters].

    Each draw takes seeds with replacement, the same ones at every point because runs
    of one seed share their split of the data, and moves each point by the law's
    misfit. Points without repeats are moved by the noise of their kind instead.
    """
    if not resamples:
        return np.empty((0, law.num_parameters))
    rng = np.random.default_rng(seed)
    runs = surface.seed_values
    num_seeds = runs.shape[1]
    # How often each seed is taken [draws, 1, seeds].
    taken = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), resamples)
    present = np.isfinite(runs)
    counts = taken[:, None, :] * present
    total = counts.sum(axis=2)
    means = (counts * np.where(present, runs, 0.0)).sum(axis=2) / np.maximum(total, 1)
    repeated = (surface.num_seeds >= 2) & (total > 0)
    single = rng.standard_normal(total.shape) * noise.of(points.log_value)
    single /= np.sqrt(surface.num_seeds)
    log_means = np.where(
        repeated, np.log(np.where(repeated, means, 1.0)), points.log_value + single
    )
    log_means += misfit * rng.standard_normal(log_means.shape)
    problem = solver.Problem(
        x=points.x,
        y=points.y,
        log_value=log_means,
        weight=points.weight,
        prior_mean=np.zeros(law.num_parameters),
        prior_precision=np.zeros(law.num_parameters),
        scale=scale,
    )
    start = np.broadcast_to(theta, (resamples, law.num_parameters))
    solution = solver.solve(law, problem, start, residual, max_iterations=100)
    good = solution.status != solver.Status.NOT_FINITE
    return solution.theta[good]


def _published(fitted: predict.FittedLaw) -> dict[str, Estimate]:
    units = fitted.scale, fitted.params_unit, fitted.data_unit
    best = fitted.law.public(fitted.theta, *units)
    draws = fitted.law.public(fitted.draws, *units)
    tails = ((1 - predict.LEVEL) / 2, (1 + predict.LEVEL) / 2)
    estimates = {}
    for name, value in best.items():
        lower = upper = math.nan
        if len(fitted.draws):
            lower, upper = np.quantile(draws[name], tails)
        estimates[name] = Estimate(float(value), float(lower), float(upper))
    return estimates


def _condition_number(
    law: Law, theta: np.ndarray, points: multistart.Points, scale: Scale
) -> float:
    jacobian = backtest.jacobian(law, theta, points, scale)
    information = (jacobian * points.weight[:, None]).T @ jacobian
    size = np.sqrt(np.maximum(np.diagonal(information), 1e-300))
    return float(np.linalg.cond(information / size[:, None] / size[None, :]))


def _warnings(result: Fit) -> tuple[Warn, ...]:
    """Sentences for what makes this fit less than it seems."""
    found: list[Warn] = []

    def add(code: str, sentence: str) -> None:
        found.append(Warn(code, sentence))

    surface, law = result.surface, result.law
    parameters = len(flexible.CORE) if result.members else law.num_parameters
    if len(surface) < 2 * parameters:
        add(
            "few_points",
            f"{len(surface)} points for {parameters} parameters: intervals rest on "
            + ("priors" if result.members else "little"),
        )
    for axis, sizes in (("params", surface.params), ("data", surface.data)):
        scales = len(np.unique(sizes))
        if scales < 3 and axis in law.axes:
            add(
                "few_scales",
                f"only {scales} {axis} sizes: the {axis} exponent cannot be told from "
                "the floor it ends at",
            )
    guess = surface.random_guess
    if law.bounded and guess:
        at_guess = int(np.sum(surface.value >= multistart.PLATEAU_FRACTION * guess))
        if at_guess:
            add(
                "plateau_points",
                f"{at_guess} of {len(surface)} points lie at the random-guess level "
                f"{guess:g} and tell little",
            )
    log_sizes = np.log(surface.params), np.log(surface.data)
    if min(np.std(sizes) for sizes in log_sizes) > 0:
        correlation = float(np.corrcoef(*log_sizes)[0, 1])
        if abs(correlation) > 0.98:
            add(
                "confounded_sizes",
                f"model and data sizes rise together (correlation {correlation:.3f}): "
                "what one does cannot be told from what the other does",
            )
    if result.status == solver.Status.ITERATION_LIMIT and not result.members:
        add("iteration_limit", "the solver stopped at its iteration limit")
    for name in result.bounds_hit:
        add("bound_hit", f"{name} is at its bound, so its term may be absent")
    if result.agree < _FEW_AGREE:
        add(
            "starts_disagree",
            f"only {result.agree:.0%} of {result.starts} starts found this optimum",
        )
    if result.condition_number > _ILL_CONDITIONED:
        add(
            "ill_conditioned",
            f"condition number {result.condition_number:.1e}: some parameters cannot "
            "be told apart, though predictions may be fine",
        )
    surprising = [test for test in result.inner_tests if test.surprise > 3]
    if surprising:
        worst = max(surprising, key=lambda test: test.surprise)
        add(
            "back_test_failed",
            f"hiding the top {worst.ratio:g}x of compute, the law missed it by "
            f"{worst.error:.1%}, {worst.surprise:.1f} times what its fit promised"
            + ("" if result.members else "; intervals are widened for it"),
        )
    if not result.inner_tests:
        add(
            "no_back_test",
            "too few points or sizes to hide some and predict them: how errors grow "
            "with distance is not known, only assumed",
        )
    return tuple(found)


def fit_region(
    surface: Surface,
    *,
    max_params: float = math.inf,
    max_data: float = math.inf,
    max_compute: float = math.inf,
) -> np.ndarray:
    """Mask of the points with m, n and m n within limits [points].

    Raises:
        UserError: if no point is left.
    """
    slack = 1 + 1e-9  # limits are often ratios of the sizes themselves
    work = surface.params * surface.data
    mask = (
        (surface.params <= max_params * slack)
        & (surface.data <= max_data * slack)
        & (work <= max_compute * slack)
    )
    if not np.any(mask):
        raise UserError(
            f"fit region params <= {max_params:g}, data <= {max_data:g}, params * data "
            f"<= {max_compute:g}: holds no point; widen it"
        )
    return mask


def summarise_errors(errors: np.ndarray) -> tuple[float, float]:
    """Signed mean and population standard deviation of relative errors."""
    return float(np.mean(errors)), float(np.std(errors))


def coverage(
    measured: Sequence[float] | np.ndarray,
    lower: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray,
) -> float:
    """Share of measured values within their intervals; NaN where there are none."""
    measured, lower, upper = (np.asarray(v) for v in (measured, lower, upper))
    if np.any(np.isnan(lower) | np.isnan(upper)):
        return math.nan
    return float(np.mean((measured >= lower) & (measured <= upper)))

"""From a surface to a fitted law: the entry point of the right half.

    surface -> many starts -> best fit -> resamples -> intervals
                                       -> held-out scores, health

`fit` returns a `Fit`, which predicts and answers; every choice it made is in it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import answers, backtest, multistart, predict, solver
from scalepred.fitting.laws import (
    Array,
    Law,
    Scale,
    find_law,
    rosenfeld,
    rosenfeld_fitted_guess,
)
from scalepred.measurements import Surface

_STARTS = 64
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

    @property
    def law(self) -> Law:
        return self.fitted.law

    @property
    def flops_per_work(self) -> float:
        """FLOPs = this times m times n; from the table, else 6 (Kaplan et al.)."""
        ratio = self.surface.compute / (self.surface.params * self.surface.data)
        known = ratio[np.isfinite(ratio)]
        return float(np.exp(np.mean(np.log(known)))) if len(known) else 6.0

    def predict(
        self, params: Array, data: Array, num_seeds: Array | int = 1
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

    def best_for_budget(self, budget: float) -> answers.Answer:
        """The model and data that err least for `budget` training FLOPs."""
        return answers.best_for_budget(
            self.fitted, budget, self.flops_per_work, self.surface.data_unit
        )

    def cheapest_for_target(self, value: float) -> answers.Answer:
        """The least training FLOPs that reach `value`."""
        return answers.cheapest_for_target(
            self.fitted, value, self.flops_per_work, self.surface.data_unit
        )


def fit(
    surface: Surface,
    law: str | Law = "rosenfeld",
    *,
    residual: solver.Residual = solver.RELATIVE,
    resamples: int = 1000,
    starts: int = _STARTS,
    seed: int = 0,
) -> Fit:
    """Fits a law to every point of a surface.

    Args:
        surface: the fit region; `Surface.where` cuts one out.
        law: a name (see `laws.find_law`) or a law of one's own.
        residual: what is minimised; the paper's relative residual unless said.
        resamples: draws behind every interval; 0: no intervals (they are as wide as
            nothing, so predictions say nan).
        starts: starting points of the optimiser.
        seed: of starts, folds and resamples.

    Raises:
        UserError: if the points cannot determine the law.

    Source: Rosenfeld et al. 2020, section 4 (objective), 6 (cross-validation), 7
    (extrapolation). The intervals are ours.
    """
    law = find_law(law) if isinstance(law, str) else law
    notes = list(surface.notes)
    if law is rosenfeld and surface.random_guess is None:
        law = rosenfeld_fitted_guess
        notes.append("the random-guess level is fitted, because none was given")
    multistart.check_fittable(surface, law)
    points = multistart.make_points(surface, law)
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
        cross_validation=backtest.cross_validate(law, surface, residual, seed),
        warnings=(),
        notes=tuple(notes),
    )
    return dataclasses.replace(result, warnings=_warnings(result))


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
    spare = len(surface) - law.num_parameters
    if spare < law.num_parameters:
        add(
            "few_points",
            f"{len(surface)} points for {law.num_parameters} parameters: intervals "
            "rest on little",
        )
    for axis, sizes in (("model", surface.params), ("data", surface.data)):
        scales = len(np.unique(sizes))
        if scales < 3:
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
    if result.status == solver.Status.ITERATION_LIMIT:
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
            f"{worst.error:.1%}, {worst.surprise:.1f} times what its fit promised; "
            "intervals are widened for it",
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
    """Share of measured values within their intervals."""
    measured, lower, upper = (np.asarray(v) for v in (measured, lower, upper))
    return float(np.mean((measured >= lower) & (measured <= upper)))

"""A published law fitted by least squares, and what is known of it by refitting.

The fit is done at once; resamples, back-tests and folds wait until someone asks.
"""

import concurrent.futures
import dataclasses
import functools
import math

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import backtest, merging, multistart, predict, sample, solver
from scalepred.fitting import discrepancy as misfit_lib
from scalepred.fitting.laws import Law, Scale
from scalepred.table.surface import Surface

# Moved points of all draws that are held at once.
_MOST_MOVED = 2**23


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """The law's best parameters for a surface.

    Attributes:
        surface: the points fitted.
        law: the functional form.
        residual: what was minimised.
        seed: of starts, folds and resamples.
        resamples: draws behind every interval.
        points: the surface as it was fitted, weights included.
        theta: inner parameters [parameters].
        objective: at the optimum; for the relative residual the sum of squared
            relative errors.
        status: how the solver ended.
        starts: starting points tried.
        agree: share of those carried to the end that ended at the optimum.
        notes: choices made for the user.
        refit_points: that back-tests and folds take of more; 0: all.
    """

    surface: Surface
    law: Law
    residual: solver.Residual
    seed: int
    resamples: int
    points: multistart.Points
    theta: np.ndarray
    objective: float
    status: solver.Status
    starts: int
    agree: float
    notes: tuple[str, ...]
    refit_points: int

    members = ()  # nothing was weighed

    @functools.cached_property
    def scale(self) -> Scale:
        return self.points.scale(np.ones((1, len(self.surface)), bool)).of_lane(0)

    @property
    def epochs(self) -> float | None:
        """Passes over the data where nothing else is said: one.

        None where the law knows nothing of them.
        """
        return 1.0 if "epochs" in self.law.axes else None

    @functools.cached_property
    def noise(self) -> predict.Noise:
        return predict.estimate_noise(self.surface.value, self.surface.seed_values)

    @functools.cached_property
    def differences(self) -> np.ndarray:
        """ln(law) - ln(measured) [points]."""
        points = self.points
        places = points.x, points.y, self.scale, points.z
        found = predict.evaluate(self.law, self.theta[None], *places)[0]
        return found - points.log_value

    @functools.cached_property
    def misfit(self) -> misfit_lib.Misfit:
        """How far the true means lie from the law, beyond the noise of the means."""
        of_means = self.noise.of(self.points.log_value) ** 2 / self.surface.num_seeds
        fitted = self.law, self.points, *self._linear
        return backtest.find_misfit(*fitted, of_means, self.residual, self.seed)

    @functools.cached_property
    def fitted(self) -> predict.FittedLaw:
        """The law with the draws behind its intervals."""
        # Together, as back-tests keep no more than one core busy.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            tests = pool.submit(lambda: self.inner_tests)
            draws = self._resample()
            growth = backtest.learn_growth(tests.result())
        return self.with_draws(draws, growth)

    def with_draws(self, draws: np.ndarray, growth: float) -> predict.FittedLaw:
        """The law with draws of theta [draws, parameters] behind its intervals."""
        return predict.FittedLaw(
            law=self.law,
            theta=self.theta,
            draws=draws,
            scale=self.scale,
            params_unit=self.points.params_unit,
            data_unit=self.points.data_unit,
            misfit=self.misfit.overall_sd,
            growth=growth,
            noise=self.noise,
            seed=self.seed,
            epochs=self.epochs,
            highest=self.surface.highest,
        )

    @functools.cached_property
    def back_tests(self) -> list[backtest.BackTest]:
        """Fits with the largest compute of the fit region hidden."""
        return backtest.back_tests(self.law, self._sample, self.residual, self.seed)

    @functools.cached_property
    def inner_tests(self) -> list[backtest.InnerTest]:
        """Their scores."""
        return [test.score() for test in self.back_tests]

    @functools.cached_property
    def cross_validation(self) -> backtest.CrossValidation:
        """Held-out folds."""
        chosen = sample.choose_for_folds(self.surface, self.refit_points)
        surface = self.surface.where(chosen)
        least, refit = self.refit(surface)
        return backtest.cross_validate(len(surface), least, refit, self.seed)

    @functools.cached_property
    def _sample(self) -> Surface:
        """The points that are refitted to."""
        return self.surface.where(sample.choose(self.surface, self.refit_points))

    @property
    def bounds_hit(self) -> tuple[str, ...]:
        """Parameters at a bound."""
        hit = (self.theta <= self.law.lower) | (self.theta >= self.law.upper)
        parameters = zip(self.law.parameters, hit, strict=True)
        return tuple(parameter.name for parameter, is_hit in parameters if is_hit)

    @functools.cached_property
    def information(self) -> np.ndarray:
        """Of the parameters, with unit diagonal [parameters, parameters]."""
        _, slopes = self._linear
        information = (slopes * self.points.weight[:, None]).T @ slopes
        size = np.sqrt(np.maximum(np.diagonal(information), 1e-300))
        return information / size[:, None] / size[None, :]

    def publish(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Published parameters [thetas] of inner ones [thetas, parameters]."""
        units = self.points.params_unit, self.points.data_unit
        return self.law.public(theta, self.scale, *units)

    def refit(self, surface: Surface) -> tuple[int, backtest.Refit]:
        """The fewest points it takes, and refits to subsets of another surface."""
        return (
            self.law.num_parameters,
            backtest.refit_law(self.law, surface, self.residual, self.seed),
        )

    def without(self, counts: np.ndarray) -> np.ndarray:
        """Parameters refitted to some of the points [sets, parameters].

        Args:
            counts: how often each point counts, 0 leaves it out [sets, points].
        """
        problem = self.problem()._replace(weight=counts * self.points.weight)
        return self._refit(problem, len(counts)).theta

    @functools.cached_property
    def _linear(self) -> tuple[np.ndarray, np.ndarray]:
        """ln(law) - ln(measured) [points], and its slopes [points, parameters]."""
        fits = self.law, self.theta[None], self.points, self.scale
        (difference,), (slopes,) = backtest.linearise(*fits)
        return difference, slopes

    def _refit(self, problem: solver.Problem, lanes: int) -> solver.Solution:
        start = np.broadcast_to(self.theta, (lanes, len(self.theta)))
        return solver.solve(self.law, problem, start, self.residual, 100, is_near=True)

    def problem(self) -> solver.Problem:
        """What a refit to all points solves."""
        zeros = np.zeros(self.law.num_parameters)
        points = self.points
        return solver.Problem(
            points.x,
            points.y,
            points.log_value,
            points.weight,
            prior_mean=zeros,
            prior_precision=zeros,
            scale=self.scale,
            z=points.z,
        )

    def _resample(self) -> np.ndarray:
        """Refits to resampled points: theta of each draw [draws, parameters].

        Each draw moves the points by a misfit of the law and by the seeds' noise, both
        of which neighbours may share. A Huber fit takes points with replacement: its
        outliers are no normal misfit.
        """
        if not self.resamples:
            return np.empty((0, self.law.num_parameters))
        rng = np.random.default_rng(self.seed)
        # So many draws at a time: all of many points would fill the memory.
        most = max(1, _MOST_MOVED // len(self.surface))
        found = []
        for first in range(0, self.resamples, most):
            draws = min(most, self.resamples - first)
            if self.residual.has_kinks:
                theta = self._refit_to(self._taken(draws, rng), draws)
            else:
                misfit, noise = self.draw_errors(draws, rng)
                theta = self.refit_moved(misfit + noise)
            found.append(theta[np.isfinite(theta[:, 0])])
        return np.concatenate(found)

    def refit_moved(self, errors: np.ndarray) -> np.ndarray:
        """theta refitted to points that err otherwise; NaN where that failed.

        Args:
            errors: added to ln of the measured values [draws, points].
        """
        log_means = self.points.log_value + errors
        is_square = self.residual in (solver.RELATIVE, solver.Residual("log"))
        if len(self.surface) > merging.MOST_POINTS and is_square:
            problem = self._merged(log_means)
        else:
            problem = self.problem()._replace(log_value=log_means)
        return self._refit_to(problem, len(errors))

    def _refit_to(self, problem: solver.Problem, lanes: int) -> np.ndarray:
        found = self._refit(problem, lanes)
        failed = found.status == solver.Status.NOT_FINITE
        return np.where(failed[:, None], np.nan, found.theta)

    def _taken(self, draws: int, rng: np.random.Generator) -> solver.Problem:
        """Points with replacement."""
        count = len(self.surface)
        taken = rng.multinomial(count, np.full(count, 1 / count), draws)
        return self.problem()._replace(weight=taken * self.points.weight)

    def draw_errors(
        self, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the points may err by, in ln of the value: misfit, and noise of seeds.

        Each [draws, points].
        """
        log_value, surface = self.points.log_value, self.surface
        nothing = np.zeros((draws, len(surface)))
        misfit = nothing + self.misfit.draw(*nothing.shape, rng)
        noise = self.noise.of(log_value)
        drawn = nothing
        if np.any(noise):
            with np.errstate(divide="ignore"):  # a run may err nowhere
                deviation = np.log(surface.seed_values) - log_value[:, None]
            deviation = np.where(np.isfinite(deviation), deviation, np.nan)
            places = backtest.places_of(self.law, self.points)
            drawn = misfit_lib.draw_seeds(
                deviation / noise[:, None], places, draws, rng
            )
        return misfit, drawn * noise / np.sqrt(surface.num_seeds)

    def _merged(self, log_means: np.ndarray) -> solver.Problem:
        """Points of nearly the same sizes as one, draw by draw [draws, points].

        Of relative residuals r = law / measured - 1, as all in a cell move together by
        a factor f, sum w (f (1 + r) - 1)^2 = W (f s - 1)^2 + a constant, with
        s = sum w (1 + r)^2 / sum w (1 + r) and W = (sum w (1 + r))^2 / sum w (1 + r)^2.
        """
        cell, weight = self._cells, self.points.weight
        total = merging.sum_cells(cell, weight)
        centre = dataclasses.replace(
            self.points,
            **{
                name: merging.sum_cells(cell, weight * values)[0] / total[0]
                for name in ("x", "y", "z")
                if (values := getattr(self.points, name)) is not None
            },
            log_value=np.zeros(total.shape[1]),
            weight=total[0],
            of_runs=None,
        )
        log_law = backtest.linearise(self.law, self.theta[None], centre, self.scale)[0]
        difference = self.differences + self.points.log_value - log_means
        if self.residual == solver.RELATIVE:
            once = merging.sum_cells(cell, weight * np.exp(difference))
            twice = merging.sum_cells(cell, weight * np.exp(2 * difference))
            shift, total = np.log(twice / once), once**2 / twice
        else:
            shift = merging.sum_cells(cell, weight * difference) / total
        return self.problem()._replace(
            x=centre.x,
            y=centre.y,
            z=centre.z,
            log_value=log_law - shift,
            weight=np.broadcast_to(total, shift.shape),
        )

    @functools.cached_property
    def _cells(self) -> np.ndarray:
        """Which points are merged in draws [points]."""
        return merging.find_cells(backtest.places_of(self.law, self.points))


def fit(
    surface: Surface,
    law: Law,
    residual: solver.Residual,
    *,
    resamples: int,
    starts: int,
    seed: int,
    notes: tuple[str, ...] = (),
    refit_points: int = sample.REFIT_POINTS,
) -> LeastSquares:
    """Fits `law` to every point of the surface, from many starts.

    Raises:
        UserError: if the points cannot determine the law.
    """
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
    return LeastSquares(
        surface=surface,
        law=law,
        residual=residual,
        seed=seed,
        resamples=resamples,
        points=points,
        theta=best.theta[0],
        objective=float(best.objective[0]),
        status=solver.Status(int(best.status[0])),
        starts=starts,
        agree=float(best.agree[0]),
        notes=(*notes, *sample.notes(surface, refit_points)),
        refit_points=refit_points,
    )


def weigh_by_noise(found: LeastSquares) -> Surface:
    """The fitted surface with weights 1 / variance of each point about the law.

    The variance is the law's misfit and, for a mean over seeds, its share of the
    run-to-run noise: a cell with more seeds, or steadier ones, counts for more.

    Raises:
        UserError: if no point has two seeds, so that noise is not known.
    """
    surface = found.surface
    if not found.noise.sd:
        raise UserError(
            "weights=noise: no point has two seeds that differ, so the noise is not "
            "known; train more seeds or leave weights=given"
        )
    own = found.noise.of(found.points.log_value) ** 2 / surface.num_seeds
    own = own + found.misfit.overall_sd**2
    return dataclasses.replace(surface, weight=1 / own)

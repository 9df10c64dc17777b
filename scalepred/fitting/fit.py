"""From a surface to a fitted law: the entry point of the right half.

    surface -> many starts -> best fit -> resamples -> intervals
                                       -> held-out scores, health

`fit` returns a `Fit`, which predicts and answers; every choice it made is in it.
"""

import dataclasses
import functools
import math
import os
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from scalepred.config import UserError
from scalepred.fitting import (
    answers,
    backtest,
    health,
    least_squares,
    multistart,
    plot,
    predict,
    sample,
    saved,
    solver,
    summary,
    through,
    two_stage,
)
from scalepred.fitting.auto import fit as auto_fit
from scalepred.fitting.auto import weights as auto_weights
from scalepred.fitting.cost import Cost
from scalepred.fitting.cost_reading import CostReading, read_cost
from scalepred.fitting.design.cells import NextCell, make_cells
from scalepred.fitting.design.choose import next_cells
from scalepred.fitting.estimate import Settings, counts_of, estimate
from scalepred.fitting.laws import Law
from scalepred.fitting.offsets import Offset, find_offset
from scalepred.fitting.predict import FittedLaw
from scalepred.fitting.scaling import NotScaling, judge
from scalepred.fitting.warn import Warn
from scalepred.table.surface import Surface


@dataclasses.dataclass(frozen=True, repr=False)
class Fit:
    """A law fitted to a surface.

    What takes refitting (intervals, back-tests, folds, health) is computed when it is
    first asked for, and kept.

    Attributes:
        estimate: the parameters and where they come from.
        extra_warnings: of those who used the fit.
        called: the name that the law was asked by.
    """

    estimate: (
        least_squares.LeastSquares | auto_fit.Auto | through.TwoStage | saved.Saved
    )
    extra_warnings: tuple[Warn, ...] = ()
    called: str = ""

    @property
    def surface(self) -> Surface:
        """The points fitted."""
        return self.estimate.surface

    @property
    def law(self) -> Law:
        return self.estimate.law

    @property
    def residual(self) -> solver.Residual:
        """What was minimised."""
        return self.estimate.residual

    @property
    def objective(self) -> float:
        """At the optimum; for the relative residual the sum of squared errors."""
        return self.estimate.objective

    @property
    def status(self) -> solver.Status:
        """How the solver ended."""
        return self.estimate.status

    @property
    def starts(self) -> int:
        """Starting points tried."""
        return self.estimate.starts

    @property
    def agree(self) -> float:
        """Share of the starts carried to the end that ended at the optimum."""
        return self.estimate.agree

    @property
    def bounds_hit(self) -> tuple[str, ...]:
        """Parameters at a bound."""
        return self.estimate.bounds_hit

    @property
    def notes(self) -> tuple[str, ...]:
        """Choices made for the user."""
        return (*self.estimate.notes, *map(str, self.members))

    @property
    def members(self) -> tuple[auto_weights.MemberScore, ...]:
        """What law=auto weighed; empty for other laws."""
        return self.estimate.members

    @property
    def fitted(self) -> predict.FittedLaw:
        """The law with its numbers and the draws behind its intervals."""
        return self.estimate.fitted

    @functools.cached_property
    def parameters(self) -> dict[str, predict.Estimate]:
        """Published parameters by name."""
        return self.fitted.parameters()

    @property
    def inner_tests(self) -> list[backtest.InnerTest]:
        """Back-tests inside the fit region."""
        return self.estimate.inner_tests

    @property
    def cross_validation(self) -> backtest.CrossValidation:
        """Held-out folds (paper, section 6)."""
        return self.estimate.cross_validation

    @functools.cached_property
    def condition_number(self) -> float:
        """Large: the points cannot tell some parameters apart."""
        if isinstance(self.estimate, saved.Saved | through.TwoStage):
            return self.estimate.condition_number
        return health.condition_number(self.estimate)

    @functools.cached_property
    def _told(self) -> NotScaling | None:
        """What the points say without a law; takes as long as some fits."""
        return judge(self.surface)

    @functools.cached_property
    def not_scaling(self) -> NotScaling | None:
        """Why the points do not scale as a law; None: nothing speaks against it."""
        told, is_direct = self._told, self.law.name != two_stage.NAME
        # That an error bends is what its second stage is for.
        return told if told and (is_direct or told.code == "does_not_scale") else None

    @functools.cached_property
    def warnings(self) -> tuple[Warn, ...]:
        """What makes this fit less than it seems."""
        if isinstance(self.estimate, saved.Saved | through.TwoStage):
            return (*self.estimate.warnings, *self.extra_warnings)
        return (*health.check(self.estimate, self._told), *self.extra_warnings)

    def save(self, path: os.PathLike | str) -> None:
        """Writes the fit as one file of numbers; `scalepred.load` gives it back.

        Raises:
            UserError: a law of one's own was given as an object, not by its name.
        """
        saved.save(self, path)

    def summary(self) -> str:
        """The fit on one screen: parameters, back-tests, what is to be feared."""
        return summary.summarise(self)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return summary.as_html(self)

    def plot(self) -> Any:
        """A matplotlib figure: the curves with their intervals, and the points.

        `scalepred.draw` gives the figures of a report.
        """
        return plot.plot(self)

    def to_frame(self) -> Any:
        """The points and what the fit says of each, as a pandas DataFrame.

        Columns params, data, value, weight, and predicted, lower, upper: the 90 %
        interval of a measurement like the one of the point.

        Raises:
            UserError: pandas is not installed.
        """
        return summary.to_frame(self)

    @functools.cached_property
    def cost_reading(self) -> CostReading:
        """What FLOPs buy, as the table says, and how well that is known."""
        return read_cost(self.surface)

    @property
    def cost(self) -> Cost:
        """What FLOPs buy, as the table says; else 6 m n (Kaplan et al. 2020)."""
        return self.cost_reading.cost

    def corners(self, surface: Surface) -> list[backtest.Corner]:
        """The paper's extrapolation protocol: the law refitted at every corner.

        Args:
            surface: every measured point, the held-out ones too. Of very many some are
                taken, as folds do, and fewer corners.
        """
        chosen = sample.choose_for_folds(surface, self.estimate.refit_points)
        most = backtest.MOST_CORNERS if np.all(chosen) else backtest.FEW_CORNERS
        surface = surface.where(chosen)
        least, refit = self.estimate.refit(surface)
        return backtest.corner_array(surface, least, refit, self.law.axes, most)

    def predict(
        self,
        params: ArrayLike,
        data: ArrayLike,
        num_seeds: ArrayLike = 1,
        epochs: ArrayLike | None = None,
    ) -> predict.Prediction:
        """Expected value, 90 % and 50 % intervals at sizes that broadcast.

        Args:
            params: model sizes, counts above 0.
            data: data sizes, counts above 0.
            num_seeds: runs averaged in the measurement the interval is for.
            epochs: passes over the data, 1 or more, for laws that know of them; None:
                one. `data` are then unique data.

        Raises:
            UserError: if a size is not a positive number.
        """
        self._check_sizes(params, data, epochs)
        return self.fitted.predict(params, data, num_seeds, epochs)

    def offset_at(
        self, params: float, data: float, epochs: float | None = None
    ) -> Offset | None:
        """What a prediction owes to its exact size of model; see `offsets`."""
        self._check_sizes(params, data, epochs)
        return find_offset(self.fitted, params, data, epochs)

    def probability(
        self,
        value: ArrayLike,
        params: ArrayLike,
        data: ArrayLike,
        num_seeds: ArrayLike = 1,
        epochs: ArrayLike | None = None,
    ) -> np.ndarray:
        """How likely a measurement at these sizes is `value` or less.

        Args:
            value: error or loss, above 0; all arguments broadcast.
            params: model sizes, counts above 0.
            data: data sizes, counts above 0.
            num_seeds: runs averaged in the measurement; math.inf: their true mean.
            epochs: see `predict`.

        Returns:
            0 to 1; NaN if the fit has no resamples.

        Raises:
            UserError: if a number is not positive.
        """
        self._check_sizes(params, data, epochs)
        for name, numbers in (("value", value), ("num_seeds", num_seeds)):
            numbers = np.asarray(numbers, np.float64)
            if not np.all(numbers > 0):
                raise UserError(f"{name}={numbers}: must be above 0")
        return self.fitted.probability(value, params, data, num_seeds, epochs)

    def _check_sizes(
        self, params: ArrayLike, data: ArrayLike, epochs: ArrayLike | None
    ) -> None:
        for name, sizes in (("params", params), ("data", data)):
            sizes = np.asarray(sizes, np.float64)
            if not np.all(np.isfinite(sizes) & (sizes > 0)):
                raise UserError(f"{name}={sizes}: sizes must be positive numbers")
        if epochs is not None:
            self._check_epochs(epochs)

    def data_needed(
        self, value: float, params: float, epochs: float | None = None
    ) -> answers.Answer:
        """Data with which a model of `params` reaches `value`.

        Args:
            value: wanted error or loss.
            params: model size.
            epochs: here and below: passes over the data, for laws that know of them,
                data being unique data then; None: one.
        """
        unit = self.surface.data_unit
        return answers.data_needed(self._fitted_at(epochs), value, params, unit)

    def params_needed(
        self, value: float, data: float, epochs: float | None = None
    ) -> answers.Answer:
        """Model size with which `data` suffices to reach `value`."""
        return answers.params_needed(self._fitted_at(epochs), value, data)

    def best_for_budget(
        self, budget: float, max_data: float = math.inf, epochs: float | None = None
    ) -> answers.Answer:
        """The model and data that err least for `budget` training FLOPs.

        Args:
            budget: FLOPs of one run.
            max_data: no more data than this exist.
            epochs: see `data_needed`.
        """
        return answers.best_for_budget(
            self._fitted_at(epochs),
            budget,
            self._cost_at(epochs),
            self.surface.data_unit,
            self.surface.metric,
            max_data,
        )

    def budget_suffices(
        self,
        value: float,
        budget: float,
        max_data: float = math.inf,
        epochs: float | None = None,
    ) -> answers.Answer:
        """How likely `budget` training FLOPs, well split, reach `value`: go or no-go.

        Args:
            value: wanted error or loss.
            budget: FLOPs of one run.
            max_data: no more data than this exist.
            epochs: see `data_needed`.
        """
        return answers.budget_suffices(
            self._fitted_at(epochs),
            value,
            budget,
            self._cost_at(epochs),
            self.surface.data_unit,
            self.surface.metric,
            max_data,
        )

    def cheapest_for_target(
        self, value: float, max_data: float = math.inf, epochs: float | None = None
    ) -> answers.Answer:
        """The least training FLOPs that reach `value`, with at most `max_data`."""
        return answers.cheapest_for_target(
            self._fitted_at(epochs),
            value,
            self._cost_at(epochs),
            self.surface.data_unit,
            max_data,
        )

    def next_cells(
        self,
        budget: float,
        target: tuple[float, float],
        epochs: float | None = None,
        *,
        cost: Cost | None = None,
        until_width: float = 0.0,
        most: int = 0,
    ) -> list[NextCell]:
        """The cells to train next, to be surer of the error at `target`.

        Args:
            budget: for all of them together, in the unit of `cost`.
            target: (params, data) to be predicted.
            epochs: of the target and of the cells; see `data_needed`.
            cost: of a run, see `design.costs.cost_model`; None: training FLOPs.
            until_width: relative half-width of the 90 % interval that is enough.
            most: few large cells, at most so many, in place of many; 0: any number.
        """
        smallest = float(self.surface.params.min()), float(self.surface.data.min())
        fitted = self._fitted_at(epochs)
        cells = make_cells(fitted, smallest, cost or self._cost_at(epochs), target)
        if most:
            cells = cells.large(budget, most)
        chosen = next_cells(fitted, cells, budget, target, until_width)
        return chosen[:most] if most else chosen

    def epochs_at(self, epochs: float | None = None) -> float | None:
        """Passes over the data that a question is answered for.

        Args:
            epochs: asked for; None: one, or those of every point where the law knows
                nothing of them.

        Returns:
            None where nothing is known of epochs.
        """
        if epochs is not None:
            self._check_epochs(epochs)
            return float(epochs)
        if self.surface.epochs is None:
            return None
        return self.fitted.epochs or float(np.median(self.surface.epochs))

    def _fitted_at(self, epochs: float | None) -> FittedLaw:
        if epochs is None:
            return self.fitted
        return dataclasses.replace(self.fitted, epochs=self.epochs_at(epochs))

    def _cost_at(self, epochs: float | None) -> Cost:
        """The cost by unique data."""
        cost, times = self.cost, self.epochs_at(epochs)
        return cost.in_units(1.0, times) if times else cost

    def _check_epochs(self, epochs: ArrayLike) -> None:
        numbers, known = np.asarray(epochs, np.float64), self.surface.epochs
        if "epochs" not in self.law.axes and (
            known is None or not np.allclose(numbers, np.median(known), rtol=0.1)
        ):
            raise UserError(
                f"epochs={epochs}: law={self.law.name} knows nothing of epochs"
                + ("" if known is None else f" but {np.median(known):g}")
                + "; leave them out"
            )
        if not np.all(np.isfinite(numbers) & (numbers >= 1)):
            raise UserError(f"epochs={epochs}: must be numbers of at least 1")


def fit(
    surface: Surface | Any,
    law: str | Law = "auto",
    *,
    residual: solver.Residual = solver.RELATIVE,
    weights: str = "given",
    resamples: int = 1000,
    starts: int = multistart.STARTS,
    seed: int = 0,
    refit_points: int = sample.REFIT_POINTS,
    losses: Surface | None = None,
    is_through: bool = False,
) -> Fit:
    """Fits a law to every point of a surface.

    Args:
        surface: the fit region; `Surface.where` cuts one out. A DataFrame, or a
            mapping of columns, is read by `Surface.from_frame`.
        law: "auto" (one flexible law under several priors, weighed by back-tests:
            see `fitting.flexible`), another name (see `laws.find_law`) or a law of
            one's own.
        residual: what is minimised; the paper's relative residual unless said;
            not with law="auto", which has its own.
        weights: "given" (those of the surface, equal if it has none) or "noise": 1 /
            variance about the law, misfit and seed noise together.
        resamples: draws behind every interval; 0: none, intervals are NaN.
        starts: starting points of the optimiser; auto starts from its priors.
        seed: of starts, folds and resamples.
        refit_points: of a table with more points a random sample is refitted in
            back-tests, folds and corners, as a note says; 0: all are.
        losses: of runs of the same sizes, where the surface is of a task's error: it
            may then be predicted through them (`through.py`), if back-tests say that
            this errs less.
        is_through: predicts it through the losses, whatever back-tests say.

    Raises:
        UserError: if the points cannot determine the law.

    Source: Rosenfeld et al. 2020, section 4 (objective), 6 (cross-validation), 7
    (extrapolation). The intervals are ours.
    """
    if not isinstance(surface, Surface):
        surface = Surface.from_frame(surface, data_counts=counts_of(law))
    settings = Settings(residual, weights, resamples, starts, seed, refit_points)
    called = law if isinstance(law, str) else law.name
    if losses is None:
        return Fit(estimate(surface, law, settings), called=called)
    found = through.fit(surface, losses, law, settings, is_through)
    return Fit(found, called=called)


def load(path: os.PathLike | str) -> Fit:
    """The fit that `Fit.save` wrote.

    Raises:
        UserError: there is no such file, or it is no saved fit.
    """
    found = saved.load(path)
    return Fit(found, called=found.called)

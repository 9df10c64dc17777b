"""Results to report on: an ordinary study, and odd ones."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

import scalepred
from scalepred.fitting import backtest
from scalepred.fitting.warn import Warn
from scalepred.forecasting.forecast import Asked
from scalepred.report import results as results_lib
from scalepred.report.results import Results

NASTY = '<script>alert("$x$ & \x1b[31m")</script>'


def make_surface(params, data, num_seeds=2, *, noise=0.02, **about):
    """Runs of a known law at sizes that are paired [points], with noise."""
    rng = np.random.default_rng(0)
    params, data = (np.repeat(sizes, num_seeds) for sizes in (params, data))
    floor = 2.0 * params**-0.5 + 3.0 * data**-0.6 + 0.015
    value = 0.9 * floor / np.sqrt(1 + floor**2)
    value = value * np.exp(noise * rng.standard_normal(len(value)))
    about = {"random_guess": 0.9, "task": "task", **about}
    return scalepred.Surface.from_arrays(params, data, value, **about)


# A plain size beyond the grid.
TARGET = Asked("", "plain", 1e6, 1e5, None, 6e11)


def make_results(*args, **about) -> Results:
    """As `results.make_results`, without the seconds that refitting corners takes."""
    return _with_corners(results_lib.make_results(*args, **about), [])


def _with_corners(made: Results, corners: list[backtest.Corner]) -> Results:
    vars(made)["corners"] = corners
    return made


def _replace(made: Results, **changes) -> Results:
    """The results with some changes and the same corners."""
    return _with_corners(dataclasses.replace(made, **changes), made.corners)


def _make_corners(surface: scalepred.Surface) -> list[backtest.Corner]:
    """Errors that shrink towards the full grid; the smallest corners fit nothing."""
    corners = []
    for i, m in enumerate(np.unique(surface.params)):
        for j, n in enumerate(np.unique(surface.data)):
            fitted, targets = backtest.corner_masks(surface, m, n)
            counts = int(fitted.sum()), int(targets.sum())
            mean, std = 1 / (i + j) - 0.3 if i * j else math.nan, 0.02 * i
            corners.append(backtest.Corner(m, n, *counts, mean, std))
    return corners[:-1]


@functools.cache
def grid() -> Results:
    """A full grid, fitted in its corner, asked everything."""
    params, data = np.meshgrid(np.geomspace(200, 5e4, 6), np.geomspace(100, 3e3, 5))
    surface = make_surface(params.ravel(), data.ravel())
    in_fit = (surface.params < 2e4) & (surface.data < 1e3)
    fit = scalepred.fit(surface.where(in_fit), "rosenfeld", resamples=50, starts=16)
    answers = [
        fit.data_needed(0.1, 5e4),
        fit.best_for_budget(1e12),
        fit.data_needed(1e-4, 5e4),
        fit.params_needed(0.1, 1e4),
        fit.cheapest_for_target(0.1),
    ]
    training = results_lib.Training(60, 1, 1e12, 75.0, ("cpu",), 6, 9.5, 3.0, 0.93)
    made = make_results(
        "Grid", surface, in_fit, fit, answers, targets=[TARGET], training=training
    )
    return _with_corners(made, _make_corners(surface))


def scattered() -> Results:
    rng = np.random.default_rng(1)
    params, data = np.exp(rng.uniform(5, 11, 150)), np.exp(rng.uniform(4, 9, 150))
    surface = make_surface(params, data, 1, metric="loss", data_unit="tokens")
    in_fit = params * data <= (params * data).max() / 50
    return make_results("Scattered", surface, in_fit, grid().fit, [])


def many_sizes() -> Results:
    """A grid of more sizes than can be read."""
    params, data = np.meshgrid(np.geomspace(100, 1e6, 15), np.geomspace(100, 1e5, 14))
    surface = make_surface(params.ravel(), data.ravel(), 1)
    in_fit = np.asarray(surface.params < 1e4)
    many = make_results("Many sizes", surface, in_fit, grid().fit, [])
    return _with_corners(many, _make_corners(surface))


def few_points() -> Results:
    surface = make_surface(
        np.array([1e3, 1e4, 1e5, 1e3, 1e4, 1e5]), np.repeat([1e3, 3e4], 3), 1
    )
    return make_results("Six points", surface, np.ones(6, bool), grid().fit, [])


def one_point() -> Results:
    surface = make_surface(np.array([1e3]), np.array([1e3]), 1)
    return make_results("One point", surface, np.ones(1, bool), grid().fit, [])


def without_draws() -> Results:
    estimate = dataclasses.replace(grid().fit.estimate, resamples=0)
    # As of points too few for either.
    vars(estimate).update(
        cross_validation=backtest.CrossValidation(
            math.nan, math.nan, math.nan, math.nan, 0
        ),
        inner_tests=[],
    )
    fit = dataclasses.replace(grid().fit, estimate=estimate)
    predictions = [
        dataclasses.replace(row, lower=math.nan, upper=math.nan)
        for row in grid().predictions
    ]
    answers = [fit.data_needed(0.1, 5e4), fit.best_for_budget(1e12)]
    return _replace(
        grid(), fit=fit, predictions=predictions, answers=answers, training=None
    )


def nasty() -> Results:
    """Every text that a file or a user can bring."""
    about = {"task": NASTY, "data_unit": NASTY, "notes": (NASTY,)}
    surface = dataclasses.replace(grid().surface, **about)
    law = dataclasses.replace(grid().fit.law, name=NASTY, formula=NASTY, source=NASTY)
    parameters = [
        dataclasses.replace(parameter, name=NASTY, lower=1e-30, upper=1e30)
        for parameter in law.parameters
    ]
    estimate = dataclasses.replace(
        grid().fit.estimate,
        law=dataclasses.replace(
            law,
            parameters=tuple(parameters),
            public=lambda theta, *_: {NASTY: theta[..., 0]},
        ),
        surface=dataclasses.replace(grid().fit.surface, **about),
        notes=(NASTY,),
    )
    fit = dataclasses.replace(
        grid().fit, estimate=estimate, extra_warnings=(Warn(NASTY, NASTY),)
    )
    answers = [
        dataclasses.replace(answer, unit=NASTY, why=NASTY) for answer in grid().answers
    ]
    answers.append(dataclasses.replace(answers[0], question=NASTY))
    return _replace(
        grid(),
        title=NASTY,
        surface=surface,
        fit=fit,
        answers=answers,
        training=results_lib.Training(1, 0, 1.0, 1.0, (NASTY,), 1, 1.0, 1.0, 1.0),
        versions={NASTY: NASTY},
    )


ODD: dict[str, Callable[[], Results]] = {
    "grid": grid,
    "scattered": scattered,
    "many_sizes": many_sizes,
    "few_points": few_points,
    "one_point": one_point,
    "without_draws": without_draws,
    "nasty": nasty,
}

"""Small studies of every kind that a page can be of, made once a session."""

import dataclasses
import functools

import numpy as np
from example_results import TARGET, grid, make_results, make_surface

import scalepred
from scalepred.fitting.comparison import Comparison, compare
from scalepred.forecasting.forecast import Asked
from scalepred.report.results import Results


@functools.cache
def offsets() -> Results:
    """law=auto over sizes that were each trained on several data sizes, in error."""
    params, data = np.meshgrid(np.geomspace(1e4, 1e6, 5), np.geomspace(1e3, 1e5, 5))
    surface = make_surface(params.ravel(), data.ravel(), 1)
    in_fit = surface.work < surface.work.max() / 30
    fit = scalepred.fit(surface.where(in_fit), resamples=50)
    answers = [fit.best_for_budget(1e13), fit.data_needed(0.04, 1e6)]
    targets = [Asked("", "plain", 1e7, 1e6, None, 6e13)]
    return make_results("Offsets", surface, in_fit, fit, answers, targets=targets)


@functools.cache
def repeated() -> Results:
    """A loss of data seen more than once."""
    sizes = (
        1e7 * 4.0 ** np.arange(4),
        1e8 * 4.0 ** np.arange(4),
        np.array([1, 2, 4, 16]),
    )
    m, n, epochs = (np.ravel(size) for size in np.meshgrid(*sizes))
    worth = n * (1 + 15 * (1 - np.exp(-(epochs - 1) / 15)))
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(len(m)))
    value = (1.7 + 400 * m**-0.34 + 400 * worth**-0.28) * noise
    surface = scalepred.Surface.from_arrays(
        m, n, value, metric="loss", epochs=epochs, data_unit="tokens"
    )
    in_fit = surface.work < surface.work.max() / 60
    fit = scalepred.fit(
        surface.where(in_fit), "data_constrained", resamples=50, starts=16
    )
    answers = [fit.best_for_budget(1e21)]
    targets = [Asked("", "plain", 1e10, 1e10, 4.0, 2.4e21)]
    return make_results("Repeated", surface, in_fit, fit, answers, targets=targets)


@functools.cache
def one_axis() -> Results:
    """A learning curve: one model, more and more data."""
    data = np.geomspace(100, 1e5, 9)
    surface = make_surface(np.full(9, 5e4), data, 2)
    in_fit = np.asarray(surface.data < 1e4)
    fit = scalepred.fit(surface.where(in_fit), "power", resamples=50)
    targets = [Asked("", "plain", 5e4, 1e6, None, 3e11)]
    return make_results(
        "One axis", surface, in_fit, fit, [fit.data_needed(0.05, 5e4)], targets=targets
    )


def free_data() -> Results:
    """FLOPs that do not depend on data, as with a fixed number of steps."""
    surface = dataclasses.replace(grid().surface, compute=grid().surface.params * 6e3)
    in_fit = np.array(
        [row.region == "fit" for row in grid().predictions[: len(surface)]]
    )
    fit = scalepred.fit(surface.where(in_fit), "rosenfeld", resamples=20, starts=16)
    return make_results("Free data", surface, in_fit, fit, [], targets=[TARGET])


STUDIES = {"grid": grid, "offsets": offsets, "repeated": repeated, "one_axis": one_axis}


def many_points() -> Results:
    """5,000 points under a law that is fitted already."""
    rng = np.random.default_rng(1)
    params = np.exp(rng.uniform(5, 13, 5000)).round()
    data = np.exp(rng.uniform(4, 11, 5000)).round()
    surface = make_surface(params, data, 1, metric="error", data_unit="images")
    in_fit = surface.work <= surface.work.max() / 100
    answers = [grid().fit.best_for_budget(1e12)]
    return make_results(
        "Many points", surface, in_fit, grid().fit, answers, targets=[TARGET]
    )


@functools.cache
def rising() -> Results:
    """Accuracy taken for error: values rise with both sizes."""
    params, data = np.meshgrid(np.geomspace(1e4, 1e6, 4), np.geomspace(1e3, 1e5, 4))
    floor = 3 * params**-0.4 + 5 * data**-0.4
    value = 0.8 / np.sqrt(1 + floor**2)
    surface = scalepred.Surface.from_arrays(
        params.ravel(), data.ravel(), value.ravel(), random_guess=0.9
    )
    fit = scalepred.fit(surface, "rosenfeld", resamples=20, starts=8)
    return make_results("Rising", surface, np.ones(16, bool), fit, [])


@functools.cache
def families() -> Comparison:
    """Two architectures on the same sizes; the second's loss is 5% lower."""
    params, data = np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(2e8, 2e10, 5))
    params, data = params.ravel(), data.ravel()
    fits = {}
    for seed, (name, factor) in enumerate((("plain", 1.0), ("gated", 0.95))):
        noise = np.exp(2e-3 * np.random.default_rng(seed).standard_normal(25))
        value = factor * (1.7 + 400 * params**-0.34 + 410 * data**-0.28) * noise
        surface = scalepred.Surface.from_arrays(
            params, data, value, metric="loss", data_unit="tokens"
        )
        fits[name] = scalepred.fit(surface, "chinchilla", resamples=50, starts=8)
    return compare(fits, budgets=[1e20])


def published(path, law: str = "auto", ratio: float = 50.0, **about) -> Results:
    """A table of published points, its largest compute held out and asked about."""
    surface = scalepred.Surface.from_csv(path, **about)
    in_fit = surface.work <= surface.work.max() / ratio
    fit = scalepred.fit(surface.where(in_fit), law, resamples=100)
    params, data = 10 * float(surface.params.max()), 10 * float(surface.data.max())
    flops = float(fit.cost.flops(params, data))
    answers = [fit.best_for_budget(10.0**23.76)]
    targets = [Asked("", "plain", params, data, None, flops)]
    return make_results(surface.task, surface, in_fit, fit, answers, targets=targets)

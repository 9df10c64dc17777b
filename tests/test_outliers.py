"""Outliers are named where they are, and nowhere else."""

import numpy as np
import pytest

import scalepred
from scalepred.fitting import outliers
from scalepred.fitting.least_squares import LeastSquares
from scalepred.table import numbers
from scalepred.table.surface import Surface


def truth(m, n):
    return 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28


def lines(noise: float = 0.003) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes and values of 60 runs on six lines of equal compute."""
    compute, factor = np.meshgrid(
        np.geomspace(1e19, 3e21, 6), 2 ** np.linspace(-2, 2, 10)
    )
    m = (0.6 * (compute / 6) ** 0.45 * factor).reshape(-1)
    n = compute.reshape(-1) / 6 / m
    errors = np.random.default_rng(0).standard_normal(60)
    return m, n, truth(m, n) * (1 + noise * errors)


def grid(count: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.geomspace(1e6, 1e9, count), np.geomspace(1e8, 1e11, count)
    m, n = np.meshgrid(*sizes)
    return m.reshape(-1), n.reshape(-1)


def find(m, n, value, law: str = "chinchilla") -> tuple[set[float], dict[str, str]]:
    """The values of the outliers, and the fit's warnings by code."""
    surface = Surface.from_arrays(m, n, value, metric="loss")
    fit = scalepred.fit(surface, law, resamples=0)
    assert isinstance(fit.estimate, LeastSquares)
    apart, _ = outliers.find(fit.estimate)
    found = {warning.code: warning.sentence for warning in fit.warnings}
    assert ("outliers" in found) == np.any(apart)
    return set(surface.value[apart]), found


def test_outliers_at_an_end_do_not_hide_each_other():
    """Four runs of ever larger models on the cheapest line, ever more too high."""
    m, n, value = lines()
    own = 0.6 * (1e19 / 6) ** 0.45 * np.array([8, 11, 15, 20])
    bad = truth(own, 1e19 / 6 / own) * [1.1, 1.2, 1.4, 1.6]
    good = scalepred.fit(
        Surface.from_arrays(m, n, value, metric="loss"), "chinchilla", resamples=0
    )
    named, found = find(
        np.append(m, own), np.append(n, 1e19 / 6 / own), np.append(value, bad)
    )
    assert named == set(bad)
    for name in ("model_exponent", "data_exponent"):
        without = good.parameters[name].value
        said = f"{name.replace('_', ' ')} would be {without:.3g} instead of"
        assert said in found["outliers"]
    assert found["outliers"].startswith("4 points lie more than 5 standard deviations")
    assert all(f"{numbers.write(size)} parameters" in found["outliers"] for size in own)
    assert "influential_point" not in found


@pytest.mark.parametrize(
    ("which", "factor"),
    [
        ("largest two", 1.15),
        ("one", 0.1),  # a decimal point too far to the left
        ("one", 10.0),
        ("three", 1.1),
        ("three", 0.93),
    ],
)
def test_every_outlier_is_named_and_no_other(which, factor):
    m, n, value = lines()
    chosen = {
        "largest two": np.argsort(m * n)[-2:],
        "one": np.array([17]),
        "three": np.array([11, 30, 44]),
    }[which]
    value[chosen] *= factor
    named, found = find(m, n, value)
    assert named == set(value[chosen])
    assert "would be" in found["outliers"]


@pytest.mark.parametrize("count", [4, 5, 8])
def test_a_corner_of_a_small_grid_is_named(count):
    m, n = grid(count)
    noise = np.random.default_rng(1).standard_normal(len(m))
    value = truth(m, n) * (1 + 0.003 * noise)
    value[-1] *= 1.2
    assert find(m, n, value)[0] == {value[-1]}


def draw(kind: str, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of standard deviation about 1."""
    count = len(value)
    if kind == "long tails":
        return rng.standard_t(5, count) / np.sqrt(5 / 3)
    noise = rng.standard_normal(count)
    if kind == "larger below":
        return noise * (value / np.median(value)) ** -1.5
    return noise


@pytest.mark.parametrize("kind", ["normal", "long tails", "larger below"])
@pytest.mark.parametrize("size", [0.0, 0.003, 0.03])
def test_noise_is_no_outlier(kind, size):
    rng = np.random.default_rng(2)
    scattered = np.exp(rng.uniform(np.log(1e6), np.log(1e9), (2, 40)))
    for m, n in (grid(4), grid(6), grid(10), lines()[:2], scattered * [[1], [100]]):
        value = truth(m, n)
        value = value * np.exp(size * draw(kind, value, rng))
        assert not find(m, n, value)[0]


@pytest.mark.parametrize("count", [5, 8, 10, 12])
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_an_end_that_bends_away_is_no_outlier(count, noise):
    m, n = grid(count)
    errors = 1 + noise * np.random.default_rng(3).standard_normal(len(m))
    value = truth(m, n)
    bent = {
        "one model size": value * np.where(m < 2e6, 1.05, 1.0),
        "one data size": value * np.where(n > 9e10, 1.05, 1.0),
        "a plateau": value / (1 + (value / 5) ** 8) ** 0.125,
        "more and more": value * (1 + 0.02 * np.maximum(np.log(n / 1e10), 0)),
    }
    assert not {name for name, v in bent.items() if find(m, n, v * errors)[0]}


@pytest.mark.parametrize("law", ["power", "m4"])
@pytest.mark.parametrize("count", [12, 20, 40])
def test_a_curve_that_the_law_does_not_fit_has_no_outliers(law, count):
    n = np.geomspace(1e3, 1e8, count)
    curves = {
        "plateau": 0.9 / (1 + (n / 1e4) ** 2) ** 0.25 + 0.02,
        "two slopes": 0.05 + (n / 1e3) ** -0.1 * (1 + (n / 1e5) ** 2) ** -0.2,
        "logarithm": 1 / (1 + np.log(n / 1e3)),
        "bump": 0.05 + (n / 1e3) ** -0.3 * (1 + 0.5 * np.exp(-(np.log(n / 1e5) ** 2))),
    }
    for name, value in curves.items():
        assert not find(np.full(count, 1e7), n, value, law)[0], name


def test_a_single_run_among_many_seeds_is_noisier():
    """It lies four of its own standard deviations off, twenty of the others'."""
    m, n = grid(6)
    rng = np.random.default_rng(4)
    seeds = np.where(np.arange(36) == 20, 1, 24)
    own = np.repeat(np.arange(36), seeds)
    value = truth(m, n)[own] * np.exp(0.02 * rng.standard_normal(len(own)))
    value[own == 20] = truth(m, n)[20] * 1.08
    assert not find(m[own], n[own], value)[0]
    value[own == 20] = truth(m, n)[20] * 1.3
    assert find(m[own], n[own], value)[0] == set(value[own == 20])


@pytest.mark.parametrize("which", ["largest", "smallest", "middle"])
@pytest.mark.parametrize("value", [4.0, 11.0, 1e9])
def test_auto_names_the_run_that_diverged(which, value):
    """Even the largest, which leads the law, named by the law of the others."""
    m, n = grid(5)
    at = {"largest": 24, "smallest": 0, "middle": 12}[which]
    noise = np.random.default_rng(1).standard_normal(25)
    values = truth(m, n) * (1 + 0.005 * noise)
    values[at] = max(value, 2 * values[at])
    fit = scalepred.fit(
        Surface.from_arrays(m, n, values, metric="loss"), "auto", resamples=0
    )
    sentence = {w.code: w.sentence for w in fit.warnings}["outliers"]
    sizes = numbers.write(m[at]), numbers.write(n[at])
    place = f"{sizes[0]} parameters and {sizes[1]} examples"
    assert sentence.startswith(f"the point at {place} lies more than 5")


def test_auto_names_no_run_where_larger_models_do_worse():
    """Over-fitting is no accident of one run."""
    m, n = grid(5)
    values = truth(m, n) + 0.3 * np.clip(np.log10(m / n), 0, None)
    surface = Surface.from_arrays(m, n, values, metric="loss")
    assert not np.any(outliers.stand_above_smaller(surface))

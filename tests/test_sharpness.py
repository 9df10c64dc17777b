"""Intervals of law=auto are as narrow as tables allow, and no narrower."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import scalepred
from scalepred.fitting import multistart, solver
from scalepred.fitting.auto.correlation import find_shares
from scalepred.table.surface import Surface

_SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"


def _ladder() -> tuple[np.ndarray, np.ndarray]:
    """25 runs over 3,300 times of compute: five sizes, five ratios of data to them."""
    params = np.repeat([2e8, 4e8, 8e8, 1.3e9, 3.2e9], 5)
    return params, params * np.tile([10.0, 20, 40, 100, 200], 5)


def _chinchilla(params: np.ndarray, data: np.ndarray) -> np.ndarray:
    return 1.75 + 350 * params**-0.34 + 1100 * data**-0.35


@pytest.fixture(scope="module")
def clean() -> scalepred.Fit:
    """A ladder of Chinchilla's law with 0.05 % noise."""
    params, data = _ladder()
    noise = 0.0005 * np.random.default_rng(0).standard_normal(25)
    value = _chinchilla(params, data) * np.exp(noise)
    return scalepred.fit(Surface.from_arrays(params, data, value, metric="loss"))


def test_a_clean_ladder_is_known_to_its_smallest_runs(clean):
    said = clean.predict(*_ladder())
    assert np.all(said.upper / said.lower < 1.01)
    truth = _chinchilla(*_ladder())
    assert np.mean((said.lower <= truth) & (truth <= said.upper)) >= 0.8


def test_a_clean_ladder_is_extrapolated_closely(clean):
    far = 1.32e10, 5e12  # 96 times the largest compute
    (truth,) = _chinchilla(*(np.array([size]) for size in far))
    said = clean.predict(*far)
    assert said.lower <= truth <= said.upper
    # The law itself, by least squares, is known to a factor of 1.004.
    assert said.upper / said.lower < 1.02


def test_a_ladder_with_noise_is_not_taken_for_a_clean_one():
    params, data = _ladder()
    noise = 0.02 * np.random.default_rng(0).standard_normal(25)
    value = _chinchilla(params, data) * np.exp(noise)
    fit = scalepred.fit(Surface.from_arrays(params, data, value, metric="loss"))
    said = fit.predict(params, data)
    assert np.all(said.upper / said.lower > 1.03)


@pytest.mark.parametrize("count", [5, pytest.param(6, marks=pytest.mark.slow)])
def test_scatter_of_a_few_sizes_is_seen(count):
    held = []
    for seed in range(10):
        params = 3e6 * 2.0 ** np.arange(count + 2)
        noise = 0.015 * np.random.default_rng(seed).standard_normal(len(params))
        value = (0.15 + 0.09 * (params / 3e6) ** -0.45) * np.exp(noise)
        data = np.full(len(params), 1.28e6)
        table = Surface.from_arrays(params[:count], data[:count], value[:count])
        said = scalepred.fit(table).predict(params[count:], data[count:])
        held.append((said.lower <= value[count:]) & (value[count:] <= said.upper))
    assert np.mean(held) >= 0.8


@pytest.mark.parametrize(("sizes", "is_less"), [(20, True), (6, False)])
def test_neighbouring_sizes_that_err_together_count_for_less(sizes, is_less):
    m, n = (
        axis.reshape(-1)
        for axis in np.meshgrid(2.0 ** np.arange(sizes), 2.0 ** np.arange(sizes))
    )
    surface = Surface.from_arrays(m, n, np.full(len(m), 0.5))
    points = multistart.make_points(surface)
    # Alike along params at each size of data, one up and the next down.
    common = (-1.0) ** np.searchsorted(np.unique(n), surface.data)
    error = common + 0.3 * np.random.default_rng(0).standard_normal(len(m))
    known = solver.Information(
        difference=error[None],
        weight=np.ones((1, len(m))),
        of_data=np.zeros((1, 1, 1)),
        total=np.zeros((1, 1, 1)),
    )
    (share,) = find_shares(points, known)
    assert (share < 0.2) == is_less


def test_a_value_is_chosen_by_the_other_studies():
    """In a process of its own: scripts share the names of their flags."""
    code = """
import choose_priors
import numpy as np

# The second value is best for two studies, and far worse for the third.
scores = np.log([[1.0, 1.0, 1.0], [0.9, 0.9, 3.0]])
chosen = choose_priors.choose((10.0, 20.0), scores)
assert chosen.by_others == [10.0, 10.0, 20.0], chosen
assert abs(chosen.score - 3.0 ** (1 / 3)) < 1e-9, chosen
before = choose_priors.weights.TEMPER
assert before != 5.0
with choose_priors.patched(choose_priors.KNOBS["temper"].patch(5.0)):
    assert choose_priors.weights.TEMPER == 5.0
assert choose_priors.weights.TEMPER == before
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(_SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

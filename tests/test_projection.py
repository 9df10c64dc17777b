"""Variable projection against scipy's non-negative least squares."""

import jax
import numpy as np
import pytest
import scipy.optimize

from scalepred.fitting import laws, projection
from scalepred.fitting.laws import Scale

SCALE = Scale(np.log(0.9), np.log(0.05), np.log(0.85))
SUMS = [law for law in laws.BUILT_IN if law.sum is not None]


def make_points(law, seed, noise=0.0):
    rng = np.random.default_rng(seed)
    theta = law.start(rng.uniform(size=(1, law.num_parameters)), SCALE)[0]
    x, y = -rng.uniform(0, 5, 30), -rng.uniform(0, 5, 30)
    with jax.enable_x64(True):
        log_value = np.asarray(law.log_value(theta, x, y, SCALE))
    return theta, x, y, log_value + noise * rng.standard_normal(30)


@pytest.mark.parametrize("law", SUMS, ids=lambda law: law.name)
def test_true_exponents_bring_the_true_amplitudes(law):
    theta, x, y, log_value = make_points(law, seed=1)
    start = theta.copy()
    rows = [law.sum.floor, *(term.amplitude for term in law.terms)]
    start[rows] = -3.0
    found, error = projection.project(
        law, x, y, log_value, np.ones(30), SCALE, start[None]
    )
    # An amplitude that is next to nothing is raised to what a fit can see.
    with jax.enable_x64(True):
        again = np.asarray(law.log_value(found[0], x, y, SCALE))
    np.testing.assert_allclose(again, log_value, atol=5e-3)
    assert error[0] < 1e-8


@pytest.mark.parametrize("seed", range(20))
def test_amplitudes_are_those_of_nonnegative_least_squares(seed):
    rng = np.random.default_rng(seed)
    features = rng.uniform(0.1, 1.0, (25, 3))
    target = features @ rng.normal(0.3, 1.0, 3) + 0.1 * rng.standard_normal(25)
    found, gain = projection._non_negative(
        (features.T @ features)[None], (features.T @ target)[None]
    )
    expected, residual = scipy.optimize.nnls(features, target)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6, atol=1e-8)
    assert target @ target - gain[0] == pytest.approx(residual**2, rel=1e-6, abs=1e-9)


def test_left_out_points_do_not_count():
    theta, x, y, log_value = make_points(laws.chinchilla, seed=2, noise=0.01)
    weight = np.where(np.arange(30) < 25, 1.0, 0.0)
    bad = np.where(weight > 0, log_value, 50.0)
    starts = theta + 0.1 * np.random.default_rng(0).standard_normal((4, 5))
    one = projection.project(laws.chinchilla, x, y, bad, weight, SCALE, starts)
    two = projection.project(
        laws.chinchilla, x[:25], y[:25], log_value[:25], np.ones(25), SCALE, starts
    )
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-12)

"""Laws against the published numbers, and the properties each must have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepred.config import UserError
from scalepred.fitting import laws
from scalepred.fitting.laws import Scale
from tests import published

# Random-guess level 0.9, values seen between 0.05 and 0.8.
SCALE = Scale(float(np.log(0.9)), float(np.log(0.05)), float(np.log(0.8)))


def theta_of(row: published.Row) -> np.ndarray:
    """Inner parameters (gauge eta = 1) of a published row."""
    return np.log([1 / row.eta, row.alpha, row.b / row.eta, row.beta, row.c / row.eta])


def value_at(row: published.Row, m: float, n: float) -> float:
    scale = SCALE._replace(log_guess=np.log(row.guess))
    with jax.enable_x64(True):
        log_value = laws.rosenfeld.log_value(
            jnp.asarray(theta_of(row)), np.log(m), np.log(n), scale
        )
    return float(np.exp(log_value))


# paper.md 5.2: (1, 1), (1/16, 1/8), (largest m, 1), smallest grid point.
VECTORS = {
    "ImageNet": (0.2792, 0.5605, 0.2792, 0.9914),
    "CIFAR10": (0.0481, 0.1854, 0.0458, 0.4320),
    "CIFAR100": (0.2564, 0.6245, 0.2420, 0.8946),
    "DTD": (0.7469, 0.9184, 0.7469, 0.9578),
    "Aircraft": (0.6589, 0.9837, 0.6578, 0.9897),
    "UCF101": (0.3280, 0.9143, 0.3178, 0.9838),
    "PTB": (4.2659, 5.2672, 4.2659, 5.9001),
    "WikiText-2": (4.3606, 5.3952, 4.3606, 6.0670),
    "WikiText-103": (3.5341, 4.4918, 3.5341, 6.3298),
}


@pytest.mark.parametrize("row", published.ROWS, ids=lambda row: row.name)
def test_published_values(row):
    m, n, _ = published.grid(row)
    places = (1, 1), (1 / 16, 1 / 8), (m.max(), 1), (m.min(), n.min())
    found = [value_at(row, *place) for place in places]
    np.testing.assert_allclose(found, VECTORS[row.name], atol=5.01e-5, rtol=0)


# paper.md 5.2, last column: exact limits, printed to as many digits.
LIMITS = {
    "ImageNet": (0.1923, 1e-4), "CIFAR10": (3e-15, 1e-15), "CIFAR100": (0.1009, 1e-4),
    "DTD": (1.5e-9, 1e-10), "Aircraft": (4.5e-10, 1e-11), "UCF101": (3.9e-10, 1e-11),
    "PTB": (3.799, 1e-3), "WikiText-2": (3.862, 1e-3), "WikiText-103": (3.193, 1e-3),
}  # fmt: skip


@pytest.mark.parametrize("row", published.ROWS, ids=lambda row: row.name)
def test_published_limits(row):
    limit, digit = LIMITS[row.name]
    public = laws.rosenfeld.public(
        theta_of(row), SCALE._replace(log_guess=np.log(row.guess)), 1.0, 1.0
    )
    assert public["irreducible"] == pytest.approx(limit, abs=0.51 * digit)
    assert public["data_exponent"] == pytest.approx(row.alpha, rel=1e-14)
    assert public["model_exponent"] == pytest.approx(row.beta, rel=1e-14)
    assert public["b"] == pytest.approx(row.b, rel=1e-14)
    assert public["c"] == pytest.approx(row.c, rel=1e-14)
    assert public["eta"] == pytest.approx(row.eta, rel=1e-14)


def test_rosenfeld_is_modulus_of_complex_form():
    row = published.BY_NAME["CIFAR100"]
    m, n, _ = published.grid(row)
    t = n**-row.alpha + row.b * m**-row.beta + row.c
    complex_form = row.guess * np.abs(t / (t - 1j * row.eta))
    found = [value_at(row, *place) for place in zip(m, n, strict=True)]
    np.testing.assert_allclose(found, complex_form, rtol=1e-13)


def test_chinchilla_is_sum_of_powers():
    alpha, beta, e, a, b = 0.34, 0.28, 1.69, 406.4, 410.7
    m, n, m_unit, n_unit = 7e10, 1.4e12, 1e10, 3e11
    theta = np.log([e, a * m_unit**-alpha, alpha, b * n_unit**-beta, beta])
    with jax.enable_x64(True):
        found = laws.chinchilla.log_value(
            jnp.asarray(theta), np.log(m / m_unit), np.log(n / n_unit), SCALE
        )
    np.testing.assert_allclose(
        np.exp(found), e + a * m**-alpha + b * n**-beta, rtol=1e-13
    )
    public = laws.chinchilla.public(theta, SCALE, m_unit, n_unit)
    np.testing.assert_allclose([public["A"], public["B"]], [a, b], rtol=1e-12)


@pytest.mark.parametrize("law", laws.BUILT_IN, ids=lambda law: law.name)
@given(seed=st.integers(0, 10**6))
def test_monotone_bounded_and_differentiable(law, seed):
    """C1, C4 and C5 of the paper, at starts, where every fit begins."""
    rng = np.random.default_rng(seed)
    theta = law.start(rng.uniform(size=(1, law.num_parameters)), SCALE)[0]
    assert np.all((law.lower <= theta) & (theta <= law.upper))
    sizes = np.linspace(-25, 25, 101)
    with jax.enable_x64(True):
        theta = jnp.asarray(theta)
        for x, y in ((sizes, np.zeros(101)), (np.zeros(101), sizes)):
            log_value = np.asarray(law.log_value(theta, x, y, SCALE))
            assert np.all(np.isfinite(log_value))
            assert np.all(np.diff(log_value) <= 1e-12)
        slopes = jax.jacfwd(lambda theta: law.log_value(theta, sizes, -sizes, SCALE))
        assert np.all(np.isfinite(slopes(theta)))
        if law.bounded:
            guess = np.exp(theta[5]) if law.fits_guess else 0.9
            far = np.exp(law.log_value(theta, np.array(-400.0), np.array(0.0), SCALE))
            np.testing.assert_allclose(far, guess, rtol=1e-6)


def test_law_of_ones_own_is_the_function_given():
    law = laws.law_from_function(
        "mine",
        lambda p, m, n: p["scale"] * n ** -p["exponent"] + p["shift"] + 0 * m,
        [
            laws.Parameter("scale", 1e-3, 1e3),
            laws.Parameter("exponent", 0.01, 2.0),
            laws.Parameter("shift", -1.0, 1.0, is_log=False),
        ],
    )
    theta = np.array([np.log(2.0), np.log(0.5), 0.25])
    with jax.enable_x64(True):
        found = law.log_value(jnp.asarray(theta), np.log(1.0), np.log(4.0), SCALE)
    assert float(np.exp(found)) == pytest.approx(2.0 * 4**-0.5 + 0.25, rel=1e-14)
    public = law.public(theta, SCALE, 1.0, 1.0)
    assert public["shift"] == 0.25
    assert public["scale"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("rosenfield", "must be one of rosenfeld"),
        ("no.such.module.law", "No module named"),
        ("math.pi", "must be a Law"),
        ("scalepred.fitting.laws.nothing", "has no attribute"),
    ],
)
def test_unknown_laws_are_refused(name, part):
    with pytest.raises(UserError, match=part):
        laws.find_law(name)


def test_laws_are_found_by_name_and_path():
    assert laws.find_law("rosenfeld") is laws.rosenfeld
    assert laws.find_law("scalepred.fitting.laws.chinchilla") is laws.chinchilla

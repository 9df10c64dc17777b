"""Laws against the published numbers, and the properties each must have."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepred.config import UserError
from scalepred.fitting import laws
from scalepred.fitting.laws import Scale
from tests import published
from tests.formulas import FORMULAS

# Random-guess level 0.9, values seen between 0.05 and 0.8.
SCALE = Scale(float(np.log(0.9)), float(np.log(0.05)), float(np.log(0.8)))
EPOCHS = 5.0


def theta_of(row: published.Row) -> np.ndarray:
    """Inner parameters (gauge eta = 1) of a published row."""
    return np.log([1 / row.eta, row.alpha, row.b / row.eta, row.beta, row.c / row.eta])


def value_at(row: published.Row, m, n) -> float:
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


@functools.cache
def compiled(law: laws.Law) -> tuple[Callable, Callable]:
    """The law and its derivatives by theta; of repeated data, at `EPOCHS`."""
    log_value = law.at(np.log(EPOCHS)).log_value
    return jax.jit(log_value), jax.jit(jax.jacfwd(log_value))


def value_of(law: laws.Law, theta, x, y, scale=SCALE) -> np.ndarray:
    with jax.enable_x64(True):
        return np.exp(np.asarray(compiled(law)[0](theta, x, y, scale)))


def draw_theta(law: laws.Law, seed: int) -> np.ndarray:
    uniform = np.random.default_rng(seed).uniform(size=(1, law.num_parameters))
    return law.start(uniform, SCALE)[0]


every_law = pytest.mark.parametrize("law", laws.BUILT_IN, ids=lambda law: law.name)


@every_law
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_value_is_the_published_form_of_the_published_parameters(law, seed):
    """Value and units at once: the formula in plain numpy, from what users see."""
    theta = draw_theta(law, seed)
    x, y = np.random.default_rng(seed).uniform(-7, 2, (2, 101))
    m_unit, n_unit = 3e7, 5e5
    public = law.public(theta, SCALE, m_unit, n_unit)
    in_counts = law.unit == "counts"
    m, n = np.exp(x) * (m_unit if in_counts else 1.0), np.exp(y)
    n = n * (n_unit if in_counts else 1.0)
    epochs = [EPOCHS] if "epochs" in law.axes else []
    expected = FORMULAS[law.name](public, m, n, *epochs)
    np.testing.assert_allclose(value_of(law, theta, x, y), expected, rtol=1e-9)


def test_chinchilla_at_published_parameters():
    """Hoffmann et al. 2022: their 70 B model on 1.4 T tokens."""
    e, a, alpha, b, beta = 1.69, 406.4, 0.34, 410.7, 0.28
    theta = np.log([e, a * 7e10**-alpha, alpha, b * 1.4e12**-beta, beta])
    # 1.69 + 406.4 exp(-0.34 * 24.9719) + 410.7 exp(-0.28 * 27.9675)
    assert value_of(laws.chinchilla, theta, 0.0, 0.0) == pytest.approx(1.9367, abs=1e-4)


def test_kaplan_at_published_parameters():
    """Kaplan et al. 2020, Table 2: one of the two sizes alone is a power law."""
    n_c, alpha, d_c, beta = 6.4e13, 0.076, 1.8e13, 0.103
    theta = np.log([(n_c / 1e9) ** alpha, alpha, (d_c / 1e10) ** beta, beta])
    far = 1e4
    # exp(0.076 * 11.0666), exp(0.103 * 7.4955)
    assert value_of(laws.kaplan, theta, 0.0, far) == pytest.approx(2.3188, abs=1e-4)
    assert value_of(laws.kaplan, theta, far, 0.0) == pytest.approx(2.1642, abs=1e-4)
    # (3518.09 + 1800)^0.103
    assert value_of(laws.kaplan, theta, 0.0, 0.0) == pytest.approx(2.41965, abs=1e-5)


def test_coupled_is_chinchilla_at_one_and_the_larger_term_at_zero():
    theta = np.log([0.1, 0.2, 0.5, 0.3, 0.4])
    x, y = np.array([-3.0, 0.0, 2.0]), np.array([1.0, 0.0, -4.0])
    one = value_of(laws.coupled, np.append(theta, 0.0), x, y)
    np.testing.assert_allclose(one, value_of(laws.chinchilla, theta, x, y), rtol=1e-14)
    small = value_of(laws.coupled, np.append(theta, -12.0), x, y)
    larger = np.maximum(0.2 * np.exp(-0.5 * x), 0.3 * np.exp(-0.4 * y))
    np.testing.assert_allclose(small, 0.1 + larger, rtol=1e-4)


@given(seed=st.integers(0, 10**6))
def test_equal_plateaus_are_rosenfelds_envelope(seed):
    """To the bit, and from either side."""
    theta = draw_theta(laws.rosenfeld_fitted_guess, seed)
    x, y = np.random.default_rng(seed).uniform(-20, 20, (2, 30))
    plain = value_of(laws.rosenfeld_fitted_guess, theta, x, y)
    two = laws.rosenfeld_two_plateaus
    np.testing.assert_array_equal(plain, value_of(two, np.append(theta, 0.0), x, y))
    for gap in (-1e-9, 1e-9):
        near = value_of(two, np.append(theta, gap), x, y)
        np.testing.assert_allclose(near, plain, rtol=2e-9)


@pytest.mark.parametrize("gap", [-0.6, 0.6])
def test_each_plateau_is_reached(gap):
    """Each level where its size alone runs out, the higher one where both do."""
    theta = np.append(np.log([0.3, 0.5, 0.2, 0.4, 0.01, 2.0]), gap)
    low, high = 2.0, 2.0 * np.exp(0.6)
    public = laws.rosenfeld_two_plateaus.public(theta, SCALE, 1.0, 1.0)
    model, data = (low, high) if gap > 0 else (high, low)
    assert public["random_guess_model"] == pytest.approx(model)
    assert public["random_guess_data"] == pytest.approx(data)
    far = 200.0
    x, y = np.array([-far, far, -far]), np.array([far, -far, -far])
    found = value_of(laws.rosenfeld_two_plateaus, theta, x, y)
    np.testing.assert_allclose(found, [model, data, high], rtol=1e-12)


def test_m4_is_a_power_law_between_its_two_ends():
    theta = np.log([0.05, 0.85, 0.01, 0.5, 2.0])
    assert value_of(laws.one_axis.m4, theta, 0.0, -200.0) == pytest.approx(0.9)
    assert value_of(laws.one_axis.m4, theta, 0.0, 200.0) == pytest.approx(0.05)
    slope = np.diff(
        np.log(value_of(laws.one_axis.m4, theta, 0.0, np.array([10.0, 11.0])) - 0.05)
    )
    assert slope == pytest.approx(-0.5, rel=1e-3)


@given(
    log_g=st.floats(-60, 60),
    log_shape=st.floats(np.log(0.05), np.log(20.0)),
)
def test_m4_is_solved_to_the_last_bits_with_its_derivatives(log_g, log_shape):
    def left_side(u, shape):
        return jnp.log(u) - shape * jnp.log1p(-u)

    with jax.enable_x64(True):
        shape = jnp.exp(log_shape)
        v, slopes = jax.value_and_grad(laws.one_axis._solve_odds, argnums=(0, 1))(
            jnp.asarray(log_g), shape
        )
        # ln u and ln(1 - u) of u = sigmoid(v), which float64 cannot hold near 1.
        softplus = jnp.logaddexp(0.0, v)
        assert float(v - softplus + shape * softplus) == pytest.approx(
            log_g, rel=1e-13, abs=1e-13
        )
        along = 1 + (shape - 1) / (1 + jnp.exp(-v))
        assert float(slopes[0]) == pytest.approx(float(1 / along), rel=1e-12)
        assert float(slopes[1]) == pytest.approx(float(-softplus / along), rel=1e-12)


def test_bnsl_has_one_exponent_on_each_side_of_its_break():
    theta = np.log([1e-20, 0.1, 0.1, 0.7, np.exp(-3.0), 0.2])
    log_value = np.log(
        value_of(laws.one_axis.bnsl, theta, 0.0, np.array([-12, -11, 5.0, 6.0]))
    )
    assert log_value[1] - log_value[0] == pytest.approx(-0.1, rel=1e-9)
    assert log_value[3] - log_value[2] == pytest.approx(-0.7, rel=1e-9)
    assert value_of(laws.one_axis.bnsl, theta, 0.0, 0.0) == pytest.approx(0.1)


@every_law
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_monotone_bounded_and_differentiable(law, seed):
    """C1, C4 and C5 of the paper, at starts, where every fit begins."""
    theta = draw_theta(law, seed)
    assert np.all((law.lower <= theta) & (theta <= law.upper))
    sizes = np.linspace(-25, 25, 101)
    zeros = np.zeros(101)
    for axis, x, y in (("params", sizes, zeros), ("data", zeros, sizes)):
        log_value = np.log(value_of(law, theta, x, y))
        assert np.all(np.isfinite(log_value))
        change = np.diff(log_value)
        assert np.all(change <= 1e-12)
        # Not 0: XLA may round the last few of many numbers otherwise than the rest.
        assert axis in law.axes or np.all(np.abs(change) < 1e-14)
    with jax.enable_x64(True):
        assert np.all(np.isfinite(compiled(law)[1](theta, sizes, -sizes, SCALE)))
    if law.bounded:
        public = law.public(theta, SCALE, 1.0, 1.0)
        guess = max(public[name] for name in public if "random_guess" in name)
        # M4 nears its level as slowly as s^(0.1 / 3).
        far = value_of(law, theta, -700.0, -700.0)
        np.testing.assert_allclose(far, guess, rtol=1e-6)


@every_law
def test_published_parameters_are_numbers_at_every_bound(law):
    """An exponent near 0 makes constants that float64 cannot hold."""
    corners = np.stack([law.lower, law.upper])
    choice = np.random.default_rng(0).integers(0, 2, (64, law.num_parameters))
    theta = np.take_along_axis(corners, choice, axis=0)
    for name, number in law.public(theta, SCALE, 1e12, 1e13).items():
        assert np.all(np.isfinite(number)), name


def constrained_theta(e=1.87, a=521.0, b=1488.0, alpha=0.3527, rd=15.39, rn=5.31):
    """Muennighoff et al. 2023, Eq. 16 to 20, for sizes in counts."""
    return np.log([e, a, alpha, b, alpha, rd, rn])


def constrained(theta, m, n, epochs) -> np.ndarray:
    with jax.enable_x64(True):
        m, n, epochs = (np.log(np.asarray(s, np.float64)) for s in (m, n, epochs))
        law = laws.data_constrained.at(epochs)
        return np.exp(np.asarray(law.log_value(jnp.asarray(theta), m, n, SCALE)))


def test_data_constrained_by_hand():
    """2.81 B parameters, 4 B unique tokens: G = (521 / 1488)^(1 / 0.7054) = 0.22584.

    U_N = 4e9 G^2 = 2.0401e8, R_N = 12.774, N' = U_N (1 + 5.31 (1 - e^-2.4056)) =
    1.1896e9; at 4 epochs D' = 4e9 (1 + 15.39 (1 - e^(-3 / 15.39))) = 1.4905e10.
    """
    once, often = constrained(constrained_theta(), 2.81e9, 4e9, [1.0, 4.0])
    model = 521 * 1.1896e9**-0.3527
    assert once == pytest.approx(1.87 + model + 1488 * 4e9**-0.3527, rel=1e-4)
    assert often == pytest.approx(1.87 + model + 1488 * 1.4905e10**-0.3527, rel=1e-4)


@given(seed=st.integers(0, 10**6))
def test_data_constrained_is_chinchilla_where_nothing_is_in_excess(seed):
    """One epoch and no more parameters than the data can use."""
    theta = draw_theta(laws.data_constrained, seed)
    y = np.random.default_rng(seed).uniform(-20, 20, 30)
    log_a, log_alpha, log_b, log_beta = theta[1:5]
    optimal = log_alpha + log_a - log_beta - log_b + np.exp(log_beta) * y
    x = optimal / np.exp(log_alpha) - np.linspace(0.1, 20, 30)
    with jax.enable_x64(True):
        law = laws.data_constrained.at(0.0)
        found = np.asarray(law.log_value(jnp.asarray(theta), x, y, SCALE))
    expected = np.log(value_of(laws.chinchilla, theta[:5], x, y))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_without_decay_data_constrained_is_chinchilla_on_data_seen():
    theta = constrained_theta(rd=1e9, rn=1e9)
    m, n, epochs = (
        s.ravel() for s in np.meshgrid([1e7, 1e9], [1e8, 1e11], [1.0, 3.0, 40.0])
    )
    seen = value_of(laws.chinchilla, theta[:5], np.log(m), np.log(n * epochs))
    np.testing.assert_allclose(constrained(theta, m, n, epochs), seen, rtol=1e-6)


def test_more_epochs_help_less_and_less_to_a_limit():
    theta = constrained_theta()
    epochs = np.geomspace(1, 1e6, 200)
    value = constrained(theta, 1e8, 1e9, epochs)
    assert np.all(np.diff(value) <= 0)
    # All repeats together are worth R_D* times the data.
    limit = constrained_theta(b=1488 * (1 + 15.39) ** -0.3527)
    limit[1] = np.log(521)
    model = constrained(theta, 1e8, 1e9, 1.0) - 1.87 - 1488 * 1e9**-0.3527
    expected = 1.87 + model + np.exp(limit[3]) * 1e9**-0.3527
    assert value[-1] == pytest.approx(expected, rel=1e-12)


def test_law_of_ones_own_may_know_epochs():
    law = laws.law_from_function(
        "mine",
        lambda p, m, n, epochs: 1 + p["scale"] * (n * epochs**0.5) ** -0.5 + 0 * m,
        [laws.Parameter("scale", 1e-3, 1e3)],
        axes=("params", "data", "epochs"),
    )
    with jax.enable_x64(True):
        found = law.at(np.log(16.0)).log_value(jnp.zeros(1), 0.0, np.log(0.25), SCALE)
    assert float(np.exp(found)) == pytest.approx(2.0, rel=1e-14)


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
        ("rosenfield", "must be one of auto, rosenfeld"),
        ("no.such.module.law", "No module named"),
        ("math.pi", "must be a Law"),
        ("scalepred.fitting.laws.nothing", "has no attribute"),
    ],
)
def test_unknown_laws_are_refused(name, part):
    with pytest.raises(UserError, match=part):
        laws.find_law(name)


def test_laws_are_found_by_name_and_path():
    for law in laws.BUILT_IN:
        assert laws.find_law(law.name) is law
    assert laws.find_law("scalepred.fitting.laws.chinchilla") is laws.chinchilla

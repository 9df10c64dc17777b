"""What every built-in law owes: its own surface found again, units, refusals."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalepred
from scalepred.config import UserError
from scalepred.fitting import laws
from scalepred.table.surface import Surface
from tests.formulas import FORMULAS

# Parameters a study might find, in the published form, for sizes in fractions of the
# largest; grids reach the plateaus where a law has some.
_ROSENFELD = {
    "data_exponent": 0.7, "model_exponent": 0.5, "b": 0.15, "c": 0.7, "eta": 7.0,
    "random_guess": 0.99,
}  # fmt: skip
_POWER = {"E": 0.05, "A": 0.02, "data_exponent": 0.4}
_M4 = {
    "irreducible": 0.03, "random_guess": 0.9, "b": 0.02, "data_exponent": 0.8,
    "shape": 0.6,
}  # fmt: skip
_BNSL = {"a": 0.02, "b": 0.004, "c0": 0.15, "c1": 0.5, "d1": 0.02, "f1": 0.4}
TRUTHS = {
    "rosenfeld": _ROSENFELD,
    "rosenfeld_fitted_guess": {**_ROSENFELD, "random_guess": 6.5},
    "rosenfeld_two_plateaus": {
        **{k: v for k, v in _ROSENFELD.items() if k != "random_guess"},
        "random_guess_model": 6.5,
        "random_guess_data": 9.0,
    },
    "chinchilla": {
        "E": 1.7, "A": 0.1, "model_exponent": 0.34, "B": 0.2, "data_exponent": 0.28,
    },
    "kaplan": {"N_c": 3e4, "model_exponent": 0.076, "D_c": 9e2, "data_exponent": 0.1},
    "coupled": {
        "E": 1.7, "A": 0.05, "model_exponent": 0.6, "B": 0.1, "data_exponent": 0.5,
        "k": 0.6,
    },
    "data_constrained": {
        "E": 1.7, "A": 0.1, "model_exponent": 0.34, "B": 0.2, "data_exponent": 0.28,
        "R_D*": 15.0, "R_N*": 5.0,
    },
    "power": _POWER,
    "power_params": _POWER,
    "m4": _M4,
    "m4_params": _M4,
    "bnsl": _BNSL,
    "bnsl_params": _BNSL,
}  # fmt: skip

every_law = pytest.mark.parametrize("law", laws.BUILT_IN, ids=lambda law: law.name)


def grid(law: laws.Law) -> tuple[np.ndarray, ...]:
    """Sizes to fit, in fractions of the largest: about 50 points for every law.

    Epochs come third where the law knows of them.
    """
    if law.axes == ("data",):
        n = np.geomspace(1e-5, 1.0, 50)
        return np.ones(50), n
    if law.axes == ("params",):
        m = np.geomspace(1e-5, 1.0, 50)
        return m, np.ones(50)
    m, n = np.meshgrid(4.0 ** -np.arange(7), 4.0 ** -np.arange(7))
    m, n = m.reshape(-1), n.reshape(-1)
    if "epochs" in law.axes:
        return m, n, np.resize([1.0, 2.0, 4.0, 10.0, 30.0], 49)
    return m, n


def surface_of(law: laws.Law, sizes, value, m_unit=1.0, n_unit=1.0) -> Surface:
    m, n, *epochs = sizes
    is_error = np.all(value < 1)
    return Surface.from_arrays(
        m * m_unit,
        n * n_unit,
        value,
        metric="error" if is_error else "loss",
        random_guess=0.99 if law.name == "rosenfeld" else None,
        epochs=epochs[0] if epochs else None,
    )


def predict(fit: scalepred.Fit, m, n, *epochs) -> np.ndarray:
    return fit.predict(m, n, epochs=epochs[0] if epochs else None).value


@functools.cache
def noiseless_fit(name: str) -> scalepred.Fit:
    law = laws.find_law(name)
    sizes = grid(law)
    value = FORMULAS[name](TRUTHS[name], *sizes)
    return scalepred.fit(surface_of(law, sizes, value), law, resamples=0)


@every_law
def test_own_surface_is_found_again(law):
    found = noiseless_fit(law.name)
    assert found.law is law
    assert found.objective < 1e-12
    assert found.agree >= 0.1
    # Ten times beyond the grid along each axis that the law knows, and within it.
    m = np.array([0.01, 0.3, 1.0, 10.0, 10.0]) if "params" in law.axes else np.ones(5)
    n = np.array([0.3, 0.01, 10.0, 1.0, 10.0]) if "data" in law.axes else np.ones(5)
    sizes = [m, n, np.array([1.0, 1.0, 60.0, 3.0, 1.5])][: max(2, len(law.axes))]
    expected = FORMULAS[law.name](TRUTHS[law.name], *sizes)
    np.testing.assert_allclose(predict(found, *sizes), expected, rtol=1e-4)


@every_law
@settings(max_examples=2)
@given(
    seed=st.integers(0, 10**6),
    m_unit=st.floats(1e-3, 1e12),
    n_unit=st.floats(1e-3, 1e12),
)
def test_units_and_order_do_not_matter(law, seed, m_unit, n_unit):
    rng = np.random.default_rng(seed)
    sizes = grid(law)
    m, n, *epochs = sizes
    value = FORMULAS[law.name](TRUTHS[law.name], *sizes)
    value = value * np.exp(0.01 * rng.standard_normal(len(m)))
    value = np.minimum(value, 0.999) if np.median(value) < 1 else value
    order = rng.permutation(len(m))
    one = surface_of(law, sizes, value)
    turned = [size[order] for size in sizes]
    two = surface_of(law, turned, value[order], m_unit, n_unit)
    first = scalepred.fit(one, law, resamples=0)
    second = scalepred.fit(two, law, resamples=0)
    assert second.objective == pytest.approx(first.objective, rel=1e-6)
    np.testing.assert_allclose(
        predict(second, m * m_unit, n * n_unit, *epochs),
        predict(first, *sizes),
        rtol=1e-4,
    )


def refusal(surface: Surface, law: laws.Law) -> str:
    """The message of a refused fit: one sentence that ends with what to do."""
    with pytest.raises(UserError) as caught:
        scalepred.fit(surface, law, resamples=0)
    message = str(caught.value)
    assert "\n" not in message
    assert ". " not in message
    assert not message.endswith(".")
    return message


@every_law
def test_fewer_points_than_parameters_are_refused(law):
    count = law.num_parameters - 1
    sizes = 2.0 ** -np.arange(count)
    m = sizes if "params" in law.axes else np.ones(count)
    n = sizes if "data" in law.axes else np.ones(count)
    epochs = [1.0 + np.arange(count)] if "epochs" in law.axes else []
    surface = surface_of(law, (m, n, *epochs), 0.5 * sizes**-0.1)
    message = refusal(surface, law)
    assert f"fewer than the {law.num_parameters} parameters" in message
    assert "add points" in message


@every_law
def test_one_size_is_refused(law):
    """Along an axis of the law; the law of the other axis is the remedy."""
    for place, axis in enumerate(("params", "data")):
        if axis not in law.axes:
            continue
        sizes = list(grid(law))
        sizes[place] = np.full(len(sizes[place]), 7.0)
        value = np.full(len(sizes[place]), 0.5)
        message = refusal(surface_of(law, sizes, value), law)
        assert f"{axis}: every point to fit has {axis}=7, so" in message
        assert "add a second size" in message
        other = {"params": "power", "data": "power_params"}[axis]
        other = f"or use law=auto or law={other}"
        assert message.endswith(other) == (len(law.axes) == 2)


@every_law
def test_a_size_the_law_does_not_know_may_not_vary(law):
    m, n = np.meshgrid([1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    m, n = m.reshape(-1), n.reshape(-1)
    for unknown in {"params", "data"} - set(law.axes):
        message = refusal(surface_of(law, (m, n), 0.5 * (m * n) ** -0.1), law)
        assert f"law={law.name}: knows nothing of {unknown}, which varies" in message
        assert "from 1 to 4" in message
        assert "law=rosenfeld" in message


@pytest.mark.parametrize("column", ["params", "data", "value"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_bad_numbers_never_reach_a_law(column, bad):
    columns = {name: [1.0, 2.0, 3.0] for name in ("params", "data", "value")}
    columns[column] = [1.0, bad, 3.0]
    with pytest.raises(UserError, match=f"{column}, row 2: {bad:g} must be a positive"):
        Surface.from_arrays(
            columns["params"], columns["data"], columns["value"], metric="loss"
        )

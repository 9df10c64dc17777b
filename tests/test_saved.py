"""A saved fit says what the fit said; what is no saved fit is not taken for one."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

import scalepred
from scalepred import UserError
from scalepred.fitting import laws, saved

QUANTITIES = ("law", "objective", "status", "starts", "agree", "members", "called")


def make_surface(axes: str = "both", metric: str = "loss") -> scalepred.Surface:
    m, n = 10.0 ** np.arange(5, 9), 10.0 ** np.arange(6, 11)
    if axes == "data":
        m = m[:1]
    m, n = (sizes.reshape(-1) for sizes in np.meshgrid(m, n))
    value = 1.7 + 300 * m**-0.4 + 900 * n**-0.45
    value = value / (10 if metric == "error" else 1)
    noise = np.random.default_rng(0).normal(1, 0.01, (3, len(value)))
    return scalepred.Surface.from_arrays(
        np.tile(m, 3),
        np.tile(n, 3),
        (value * noise).reshape(-1),
        metric=metric,
        seed=np.repeat([0, 1, 2], len(m)),
    )


@pytest.mark.parametrize(
    ("law", "axes", "metric"),
    [
        ("chinchilla", "both", "loss"),
        ("rosenfeld", "both", "error"),
        ("auto", "both", "loss"),
        ("auto", "data", "loss"),
        ("m4", "data", "loss"),
    ],
)
def test_a_saved_fit_says_the_same(law, axes, metric, tmp_path):
    fit = scalepred.fit(make_surface(axes, metric), law, resamples=50)
    fit.save(tmp_path / "fit.npz")
    again = scalepred.load(tmp_path / "fit.npz")
    for name in QUANTITIES:
        assert getattr(again, name) == getattr(fit, name), name
    for places in ((1e9, 1e11), (fit.surface.params, fit.surface.data)):
        for one, other in zip(
            fit.predict(*places), again.predict(*places), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert again.warnings == fit.warnings
    assert again.notes == fit.notes
    assert str(again.cross_validation) == str(fit.cross_validation)  # may hold NaN
    params = float(fit.surface.params.max())
    assert again.data_needed(1.9, params) == fit.data_needed(1.9, params)
    # What is saved again is the same file.
    assert saved.to_bytes(again) == saved.to_bytes(fit)


def test_what_takes_refitting_is_fitted_again(tmp_path):
    fit = scalepred.fit(make_surface(), "chinchilla", resamples=20)
    fit.save(tmp_path / "fit.npz")
    again = scalepred.load(tmp_path / "fit.npz")
    assert again.corners(fit.surface) == fit.corners(fit.surface)


def test_a_law_of_ones_own_is_saved_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "own_law.py").write_text(
        "from scalepred import Parameter, law_from_function\n"
        "own = law_from_function('own', lambda p, m, n: p['E'] + p['A'] * m ** -0.4"
        " + p['B'] * n ** -0.45, [Parameter(k, 1e-9, 1e3) for k in 'EAB'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    fit = scalepred.fit(make_surface(), "own_law.own", resamples=20)
    fit.save(tmp_path / "fit.npz")
    assert scalepred.load(tmp_path / "fit.npz").predict(1e9, 1e11) == fit.predict(
        1e9, 1e11
    )
    unnamed = dataclasses.replace(fit, called="own")
    with pytest.raises(UserError, match="ask for it by name"):
        unnamed.save(tmp_path / "other.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"params,data,value\n1,2,3\n"])
def test_what_is_no_saved_fit_is_told_so(content, tmp_path):
    path = tmp_path / "fit.npz"
    with pytest.raises(UserError, match="no saved fit"):
        scalepred.load(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match="no saved fit"):
        scalepred.load(path)


def test_any_flipped_byte_is_noticed_or_changes_nothing(tmp_path):
    fit = scalepred.fit(make_surface(), "chinchilla", resamples=5)
    path = tmp_path / "fit.npz"
    fit.save(path)
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 40):
        content[place] ^= 0x10
        path.write_bytes(bytes(content))
        content[place] ^= 0x10
        try:
            found = scalepred.load(path)
        except UserError:
            continue
        assert saved.to_bytes(found) == saved.to_bytes(fit)


# Copies and pickles.


def _power(p, m, n):
    return p["E"] + p["A"] * m**-0.4 + p["B"] * n**-0.45


def make_own_law(function=_power) -> scalepred.Law:
    parameters = [scalepred.Parameter(name, 1e-9, 1e3) for name in "EAB"]
    return scalepred.law_from_function("own", function, parameters)


def leaves(value: object) -> list[object]:
    """The numbers and words of a value."""
    return list(value) if isinstance(value, tuple) else [*vars(value).values()]


def check_same(again: scalepred.Fit, fit: scalepred.Fit) -> None:
    for places in ((1e9, 1e11), (fit.surface.params, fit.surface.data)):
        for one, other in zip(
            fit.predict(*places), again.predict(*places), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert again.warnings == fit.warnings
    assert again.inner_tests == fit.inner_tests


@pytest.mark.parametrize(
    ("law", "axes", "metric"),
    [
        ("chinchilla", "both", "loss"),
        ("rosenfeld", "both", "error"),
        ("auto", "both", "loss"),
        ("auto", "data", "loss"),
        (make_own_law(), "both", "loss"),
    ],
    ids=("chinchilla", "rosenfeld", "auto", "auto of one axis", "own"),
)
def test_copies_and_pickles_of_a_fit_say_the_same(law, axes, metric):
    fit = scalepred.fit(make_surface(axes, metric), law, resamples=20)
    check_same(copy.deepcopy(fit), fit)  # before anything was computed
    check_same(pickle.loads(pickle.dumps(fit)), fit)  # and after
    params = float(fit.surface.params.max())
    answer = fit.data_needed(1.9 if metric == "loss" else 0.19, params)
    for value in (answer, fit.predict(np.array([1e8, 1e9]), 1e11), fit.surface):
        for again in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert type(again) is type(value)
            jax.tree.map(np.testing.assert_array_equal, leaves(again), leaves(value))


@pytest.mark.parametrize("law", laws.BUILT_IN, ids=lambda law: law.name)
def test_a_built_in_law_is_the_same_law_after_a_pickle(law):
    assert pickle.loads(pickle.dumps(law)) is law
    assert copy.deepcopy(law) is law


def test_what_was_changed_of_ones_own_law_stays_changed():
    law = dataclasses.replace(make_own_law(), bounded=True)
    again = pickle.loads(pickle.dumps(law))
    assert again.bounded
    theta, scale = np.zeros(3), laws.Scale(0.0, 0.0, 0.0)
    assert again.log_value(theta, 0.5, 0.1, scale) == law.log_value(
        theta, 0.5, 0.1, scale
    )


def test_a_lambda_is_pickled_by_the_name_of_its_law(tmp_path, monkeypatch):
    (tmp_path / "lambda_law.py").write_text(
        "from scalepred import Parameter, law_from_function\n"
        "own = law_from_function('own', lambda p, m, n: p['E'] + p['A'] * m ** -0.4"
        " + p['B'] * n ** -0.45, [Parameter(k, 1e-9, 1e3) for k in 'EAB'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    fit = scalepred.fit(make_surface(), "lambda_law.own", resamples=5)
    content = pickle.dumps(fit)
    check_same(pickle.loads(content), fit)
    (tmp_path / "fit.pickle").write_bytes(content)
    read = (
        "import pickle; fit = pickle.load(open('fit.pickle', 'rb'));"
        "print(float(fit.predict(1e9, 1e11).upper))"
    )
    done = subprocess.run(
        [sys.executable, "-c", read], cwd=tmp_path, capture_output=True, text=True
    )
    assert float(done.stdout) == float(fit.predict(1e9, 1e11).upper), done.stderr


def test_a_function_that_cannot_be_pickled_is_told():
    law = make_own_law(lambda p, m, n: p["E"] + p["A"] * m**-0.4 + p["B"] * n**-0.45)
    fit = scalepred.fit(make_surface(), law, resamples=5)
    check_same(copy.deepcopy(fit), fit)
    with pytest.raises(UserError, match="own: cannot be pickled"):
        pickle.dumps(fit)

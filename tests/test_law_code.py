"""The law as code gives what the fit predicts, for every law."""

import dataclasses
import functools
import json

import numpy as np
import pytest

import scalepred
from scalepred.fitting.laws import find
from scalepred.report import law_code, law_forms

_SIZES = np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5)
# Sizes that were fitted, between them and far beyond.
_PLACES = np.array([[1e6, 1e8], [5.6e6, 1e11], [3e7, 2e9], [1e9, 1e11], [7e10, 1e13]]).T


@functools.cache
def _surface(kind: str) -> scalepred.Surface:
    params, data = (sizes.ravel() for sizes in np.meshgrid(*_SIZES))
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(25))
    loss = (1.7 + 300 * params**-0.4 + 900 * data**-0.45) * noise
    make = scalepred.Surface.from_arrays
    if kind == "repeated":
        epochs = np.resize([1.0, 2.0, 4.0], 25)
        return make(params, data, loss, metric="loss", epochs=epochs)
    if kind == "data":
        return make(np.full(10, 1e7), np.geomspace(1e8, 1e11, 10), loss[::-1][:10],
                    metric="loss")  # fmt: skip
    if kind == "params":
        return make(np.geomspace(1e8, 1e11, 10), np.full(10, 1e7), loss[::-1][:10],
                    metric="loss")  # fmt: skip
    if kind == "error":
        return make(params, data, np.minimum(loss / 8, 0.9), random_guess=0.9)
    return make(params, data, loss, metric="loss")


def _kinds(law: str) -> list[str]:
    if law == "data_constrained":
        return ["repeated"]
    if law == "auto":
        return ["loss", "error", "data", "params"]
    axes = find.find_law(law).axes
    return ["loss", "error"] if len(axes) == 2 else list(axes)


@pytest.mark.parametrize("law", ["auto", *(law.name for law in find.BUILT_IN)])
def test_code_predicts_as_the_fit_does(law):
    for kind in _kinds(law):
        fit = scalepred.fit(_surface(kind), law, resamples=0)
        params, data = _PLACES
        if kind == "data":
            params = np.full(5, 1e7)
        if kind == "params":
            data = np.full(5, 1e7)
        epochs = (np.full(5, 3.0),) if kind == "repeated" else ()
        names: dict = {}
        code = law_code.python_code(fit)
        exec(code, names)
        told = names["value"](params, data, *epochs)
        np.testing.assert_allclose(
            told, fit.predict(params, data, 1, *epochs).value, rtol=1e-9
        )
        # Also one size at a time, and for JSON.
        alone = names["value"](params[2], data[2], *(times[2] for times in epochs))
        assert alone == pytest.approx(told[2], rel=1e-12)
        parts = [part.as_record() for part in law_code.find_parts(fit.fitted)]
        assert sum(part["weight"] for part in parts) == pytest.approx(1)
        assert json.loads(json.dumps(parts)) == parts


def test_sizes_with_an_offset_of_their_own_are_in_the_code():
    fit = scalepred.fit(_surface("loss"), resamples=0)
    own = law_code.find_parts(fit.fitted)[0].numbers["own"]
    np.testing.assert_allclose(own[0], _SIZES[0] / 1e9)
    assert np.ptp(own[1]) > 0


def test_room_for_offsets_that_no_size_has_is_left_out():
    fitted = scalepred.fit(_surface("loss"), resamples=0).fitted
    nowhere = np.full_like(fitted.scale.levels, np.inf)
    scale = fitted.scale._replace(levels=nowhere)
    parts = law_code.find_parts(dataclasses.replace(fitted, scale=scale))
    assert parts
    for part in parts:
        assert "own" not in part.numbers
        assert 1.7 < part.form(0.1, 0.1, **part.numbers) < 10


def test_code_of_a_law_of_ones_own_reads_the_fit():
    law = scalepred.law_from_function(
        "mine",
        lambda p, m, n: p["a"] * m**-0.1 * n**-0.1,
        [scalepred.Parameter("a", 1e-3, 1e3)],
    )
    fit = scalepred.fit(_surface("loss"), law, resamples=0)
    assert law_code.find_parts(fit.fitted) == []
    code = law_code.python_code(fit)
    assert "mine is a law of your own, or too long" in code
    compile(code, "law", "exec")


def test_a_law_whose_sizes_have_no_offsets_of_their_own_has_that_of_all_others():
    x = np.array([0.1, 1.0])
    assert law_forms.own_terms(x, ([], [0.02], [-0.01])) == (0.02, -0.01)

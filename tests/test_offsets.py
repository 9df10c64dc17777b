"""Sizes of model with an offset of their own say so, and so do those beside them."""

import functools

import numpy as np

import scalepred
from scalepred.report import words
from scalepred.table.surface import Surface


@functools.cache
def _fit() -> scalepred.Fit:
    """Six sizes of model on six of data; the fourth is 12 % worse than its size."""
    sizes, data = 1e6 * 3.0 ** np.arange(6), 1e8 * 3.0 ** np.arange(6)
    m, n = (a.ravel() for a in np.meshgrid(sizes, data))
    value = 0.02 + 30 * m**-0.35 + 30 * n**-0.3
    value *= np.where(m == sizes[3], 1.12, 1.0)
    value *= np.exp(0.003 * np.random.default_rng(0).standard_normal(len(m)))
    return scalepred.fit(Surface.from_arrays(m, n, value, metric="loss"), resamples=50)


def test_a_fitted_size_has_its_own_and_a_new_one_beside_it_has_not():
    fit, size, data = _fit(), 2.7e7, 1e9
    own = fit.offset_at(size, data)
    near = fit.offset_at(1.01 * size, data)
    assert own is not None
    assert near is not None
    assert (own.is_own, near.is_own) == (True, False)
    assert own.size == near.size
    assert 0.001 < own.share < 0.2
    # It is what the prediction changes by.
    beside = fit.predict(size * (1 + 1e-5), data).value
    assert abs(fit.predict(size, data).value / beside - 1 - own.share) < 1e-3
    assert fit.offset_at(1.5 * size, data) is None


def test_it_is_told_in_words():
    fit = _fit()
    said = words.describe_offset(fit, 2.7e7, 1e9, None)
    assert said.startswith("; this size of model was fitted, and has an offset of its")
    beside = words.describe_offset(fit, 2.75e7, 1e9, float("nan"))
    assert "a new size of model, without the offset (+" in beside
    assert "27M parameters" in beside
    assert words.describe_offset(fit, 1e9, 1e9, None) == ""


def test_published_laws_have_none():
    fit = scalepred.fit(_fit().surface, "chinchilla", resamples=0)
    assert fit.offset_at(2.7e7, 1e9) is None

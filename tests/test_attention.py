"""Attention by hand is plain attention, its derivatives too."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepred.models import attention
from scalepred.models.target import traced_as


def _plain(queries, keys, values, is_seen=None):
    """As papers write it."""
    scores = jnp.einsum("bthk,bshk->bhts", queries, keys) / math.sqrt(keys.shape[-1])
    if is_seen is not None:
        scores = jnp.where(is_seen, scores, -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    weights /= jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.einsum("bhts,bshk->bthk", weights, values)


def _draw(shape, seed=0, count=4):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for _ in range(count)]


def _derivatives(attend, arrays):
    """Values of three arrays, and the derivatives of their product with a fourth."""
    *inputs, wanted = arrays
    mixed, pull = jax.vjp(attend, *inputs)
    return [mixed, *pull(wanted)]


@settings(max_examples=12)  # each shape is compiled
@given(
    st.sampled_from([(1, 1, 1, 1), (2, 7, 1, 3), (3, 8, 4, 2), (1, 5, 3, 8)]),
    st.booleans(),
    st.sampled_from(["cpu", "gpu", "tpu"]),
    st.integers(0, 99),
)
def test_values_and_derivatives_are_those_of_plain_attention(
    shape, is_causal, platform, seed
):
    time = shape[1]
    is_seen = jnp.tril(jnp.ones((time, time), bool)) if is_causal else None
    with traced_as(platform=platform):
        found = _derivatives(
            lambda q, k, v: attention.attend(q, k, v, is_seen), _draw(shape, seed)
        )
    wanted = _derivatives(lambda q, k, v: _plain(q, k, v, is_seen), _draw(shape, seed))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("in_turn", [True, False])
def test_lanes_in_turn_or_together(in_turn):
    inputs = _draw((3, 2, 6, 2, 4))
    one = jax.jit(lambda arrays: _derivatives(attention.attend, arrays))
    over = (lambda args: jax.lax.map(one, args)) if in_turn else jax.vmap(one)
    for index, alone in enumerate(zip(*over(inputs), strict=True)):
        wanted = one([array[index] for array in inputs])
        for found, expected in zip(alone, wanted, strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_zeros_appended_read_nothing_and_learn_nothing():
    """So that padded heads and features stay zero."""
    inputs = _draw((2, 6, 2, 4))
    padded = [np.pad(array, ((0, 0), (0, 0), (0, 3), (0, 0))) for array in inputs]
    narrow = _derivatives(attention.attend, inputs)
    for found, wanted in zip(
        _derivatives(attention.attend, padded), narrow, strict=True
    ):
        np.testing.assert_allclose(found[:, :, :2], wanted, rtol=2e-5, atol=2e-6)
        assert not np.any(found[:, :, 2:])


def test_far_scores_do_not_overflow():
    queries, keys, values, wanted = _draw((1, 5, 1, 4))
    found = _derivatives(attention.attend, [1e4 * queries, keys, values, wanted])
    assert all(np.all(np.isfinite(array)) for array in found)


def test_the_softmax_of_sixteen_bits_takes_thirty_two():
    inputs = [jnp.asarray(array, jnp.bfloat16) for array in _draw((2, 64, 2, 16))]
    traced = jax.make_jaxpr(attention.attend)(*inputs[:3])
    assert re.findall(r":(\w+)\[[\d,]*\] = exp ", str(traced)) == ["f32"]
    found = attention.attend(*inputs[:3])
    assert found.dtype == jnp.bfloat16
    wanted = _plain(*(array.astype(np.float32) for array in inputs[:3]))
    np.testing.assert_allclose(found.astype(np.float32), wanted, atol=0.01)

"""Cheap random numbers: as good as random, and the same wherever a lane stands."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scalepred.training import noise

KEY = noise.make_key(np.array([3, 4], np.uint32))


def _draw(key, count=1 << 16) -> np.ndarray:
    return np.asarray(jax.random.bits(key, (count,)))


def _words(key) -> np.ndarray:
    return np.asarray(jax.random.key_data(key))


KEYS = {
    "plain": KEY,
    "zero": noise.make_key(np.zeros(2, np.uint32)),
    "seeded": jax.random.key(0, impl=noise._HASH),
    "next step": jax.random.fold_in(KEY, 1),
    "step after": jax.random.fold_in(KEY, 2),
    "nested": jax.random.fold_in(jax.random.fold_in(KEY, 1), 1),
    "split": jax.random.split(KEY)[0],
    "other half": jax.random.split(KEY)[1],
    "other first word": noise.make_key(np.array([2, 4], np.uint32)),
    "other second word": noise.make_key(np.array([3, 5], np.uint32)),
}


@pytest.mark.parametrize("name", KEYS)
def test_numbers_are_uniform_and_independent(name):
    """Each test fails by chance once in ten thousand sets of numbers; these do not."""
    bits = _draw(KEYS[name])
    assert len(np.unique(bits)) > len(bits) - 10  # half a pair meets by chance
    least = 1e-4
    for low in range(0, 32, 8):  # every byte, alone and with the byte after
        byte = (bits >> low) & 255
        assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > least
        pairs = (byte[:-1] >> 4) * 16 + (byte[1:] >> 4)
        assert stats.chisquare(np.bincount(pairs, minlength=256)).pvalue > least
    uniform = np.asarray(jax.random.uniform(KEYS[name], (1 << 16,)))
    assert stats.kstest(uniform, "uniform").pvalue > least
    for lag in (1, 2, 3, 64, 256):
        correlation = np.corrcoef(uniform[:-lag], uniform[lag:])[0, 1]
        assert abs(correlation) < 4 / math.sqrt(len(uniform))


def test_keys_that_are_near_share_nothing():
    drawn = {name: _draw(key) for name, key in KEYS.items()}
    for one, other in itertools.combinations(drawn.values(), 2):
        agree = np.bitwise_count(~(one ^ other)).mean() / 32
        assert abs(agree - 0.5) < 4 * 0.5 / math.sqrt(32 * len(one))
        # Nor is one the other moved along, but for numbers that meet by chance.
        assert len(np.intersect1d(one, other)) < 10


def test_a_changed_bit_changes_half_of_the_bits():
    steps = jnp.arange(2000, dtype=jnp.uint32)
    fold = jax.jit(jax.vmap(lambda n: jax.random.fold_in(KEY, n)))
    before = _words(fold(steps))
    for bit in range(32):
        changed = _words(fold(steps ^ np.uint32(1 << bit)))
        share = np.bitwise_count(before ^ changed).mean(axis=0) / 32
        np.testing.assert_allclose(share, 0.5, atol=0.02)


def test_keys_of_many_steps_are_distinct():
    fold = jax.jit(jax.vmap(lambda n: jax.random.fold_in(KEY, n)))
    words = _words(fold(jnp.arange(100_000, dtype=jnp.uint32)))
    assert len(np.unique(words, axis=0)) == len(words)
    # Of 1e5 numbers of 32 bits 1.16 pairs meet; a hash should have no more.
    for part in words.T:
        assert len(np.unique(part)) > len(words) - 10


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: jax.random.normal(key, (3, 5)),
        lambda key: jax.random.bernoulli(key, 0.9, (7,)),
        lambda key: jax.random.randint(key, (2, 4), 0, 9),
        lambda key: jax.random.permutation(key, 10),
        lambda key: jax.random.key_data(jax.random.split(key, 3)),
    ],
    ids=["normal", "bernoulli", "randint", "permutation", "split"],
)
def test_a_lane_draws_what_it_draws_alone(draw):
    keys = jax.random.split(KEY, 4)
    together = jax.jit(jax.vmap(draw))(keys)
    for lane in range(4):
        np.testing.assert_array_equal(together[lane], draw(keys[lane]))
    nested = jax.vmap(jax.vmap(draw))(keys.reshape(2, 2))
    np.testing.assert_array_equal(nested.reshape(together.shape), together)


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_numbers_of_all_widths(width):
    with jax.enable_x64(True):
        bits = np.asarray(jax.random.bits(KEY, (5000,), f"uint{width}"))
    assert bits.dtype == f"uint{width}"
    for bit in range(width):
        share = ((bits >> np.array(bit, bits.dtype)) & 1).mean()
        assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(len(bits))


def test_more_rows_change_none_before():
    few, many = (np.asarray(jax.random.uniform(KEY, (n, 6))) for n in (4, 9))
    np.testing.assert_array_equal(few, many[:4])

"""Batches without replacement: a bijection for every n, each example once an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepred.training import sampling

WORDS = jnp.array([3, 5], jnp.uint32)
MAX_SIZE = 200


@jax.jit
def _epoch(words, epoch, size):
    """A whole epoch's order, garbage beyond n."""
    position = jnp.arange(MAX_SIZE, dtype=jnp.uint32) % size
    return sampling.permute(words, epoch, position, size)


def test_bijective_for_every_small_size():
    for size in range(1, MAX_SIZE + 1):
        order = np.asarray(_epoch(WORDS, jnp.uint32(size), jnp.uint32(size)))[:size]
        assert np.array_equal(np.sort(order), np.arange(size)), size


@pytest.mark.parametrize("size", [1280, 50_000, 65_537])
def test_bijective_for_large_sizes(size):
    position = jnp.arange(size, dtype=jnp.uint32)
    permute = jax.jit(sampling.permute)
    order = np.asarray(permute(WORDS, jnp.uint32(9), position, jnp.uint32(size)))
    assert np.array_equal(np.sort(order), np.arange(size))


@settings(max_examples=25)
@given(size=st.integers(1, 40), batch_size=st.sampled_from([1, 8, 13]))
def test_each_example_once_an_epoch(size, batch_size):
    draw = jax.jit(sampling.draw_batch, static_argnums=3)
    cursor, drawn = sampling.start(), []
    for _ in range(-(-3 * size // batch_size)):
        batch, cursor = draw(WORDS, cursor, jnp.uint32(size), batch_size)
        drawn.extend(np.asarray(batch))
    for epoch in range(3):
        seen = drawn[epoch * size : (epoch + 1) * size]
        assert np.array_equal(np.sort(seen), np.arange(size))


@settings(max_examples=25)
@given(
    size=st.integers(1, 40),
    batch_size=st.sampled_from([1, 8, 13]),
    steps=st.integers(1, 9),
    before=st.integers(0, 99),
)
def test_several_batches_at_once_are_the_same(size, batch_size, steps, before):
    draw, n = jax.jit(sampling.draw_batch, static_argnums=3), jnp.uint32(size)
    start = sampling.advance(sampling.start(), n, before)
    together, after = draw(WORDS, start, n, steps * batch_size)
    cursor, apart = start, []
    for _ in range(steps):
        batch, cursor = draw(WORDS, cursor, n, batch_size)
        apart.extend(np.asarray(batch))
    assert np.array_equal(together, apart)
    assert cursor == after


def test_epochs_and_keys_differ():
    size = jnp.uint32(100)
    first = np.asarray(_epoch(WORDS, jnp.uint32(0), size))[:100]
    for words, epoch in ((WORDS, 1), (WORDS.at[0].set(4), 0), (WORDS.at[1].set(4), 0)):
        other = np.asarray(_epoch(words, jnp.uint32(epoch), size))[:100]
        # A random permutation keeps one place in expectation.
        assert np.sum(first == other) < 10


def test_every_example_comes_at_every_position_equally_often():
    size, epochs = 50, 20_000
    position = jnp.full(epochs, 7, jnp.uint32)
    epoch = jnp.arange(epochs, dtype=jnp.uint32)
    drawn = jax.jit(sampling.permute)(WORDS, epoch, position, jnp.uint32(size))
    counts = np.bincount(np.asarray(drawn), minlength=size)
    chi2 = np.sum((counts - epochs / size) ** 2) / (epochs / size)
    # Mean size - 1, standard deviation sqrt(2 (size - 1)) = 10 for a uniform draw.
    assert 20 < chi2 < 100


def test_no_overflow_after_two_to_the_32_examples():
    """Position and epoch are carried apart, so only the epoch number grows."""
    cursor = sampling.Cursor(jnp.uint32(2**31), jnp.uint32(6))
    batch, after = sampling.draw_batch(WORDS, cursor, jnp.uint32(7), 9)
    assert (int(after.epoch), int(after.position)) == (2**31 + 2, 1)
    assert sorted(np.asarray(batch)[1:8]) == list(range(7))


def test_traced_size_under_vmap_equals_one_lane_alone():
    sizes = jnp.array([3, 20, 77], jnp.uint32)
    draw = jax.vmap(lambda n: sampling.draw_batch(WORDS, sampling.start(), n, 16)[0])
    together = draw(sizes)
    for lane, size in enumerate(sizes):
        alone, _ = sampling.draw_batch(WORDS, sampling.start(), size, 16)
        assert np.array_equal(together[lane], alone)


@pytest.mark.parametrize("size", [1, 37, 1025, 99_999])
@pytest.mark.parametrize("batch_size", [8, 33])
def test_the_host_knows_what_a_lane_draws(size, batch_size):
    words = np.array([2**32 - 1, 12345], np.uint32)
    n = jnp.uint32(size)
    for consecutive in (False, True):

        def draw(cursor, consecutive=consecutive):
            if consecutive:
                return sampling.draw_consecutive(cursor, n, batch_size)
            return sampling.draw_batch(jnp.array(words), cursor, n, batch_size)

        cursor, drawn, draw = sampling.start(), [], jax.jit(draw)
        for _ in range(12):
            batch, cursor = draw(cursor)
            drawn.append(np.asarray(batch))
        found = sampling.find_draws(words, 5, 7, size, batch_size, consecutive)
        assert found.dtype == np.int32
        assert np.array_equal(found, np.concatenate(drawn[5:]))


def test_the_root_is_exact():
    """It was taken in float32, which is exact up to 2**24: no order has changed."""
    roots = np.arange(1, 4097, dtype=np.uint32)
    size = np.unique(np.concatenate([roots**2 - 1, roots**2, roots**2 + 1])[1:])
    size = size[(size > 0) & (size <= 2**24)]
    before = np.ceil(np.sqrt(size.astype(np.float32))).astype(np.uint32)
    assert np.array_equal(sampling._ceil_root(size, np), before)
    assert np.array_equal(
        jax.jit(sampling._ceil_root, static_argnums=1)(size, jnp), before
    )
    large = np.array([2**31 - 1, 2**30, 2**30 + 1, 2**30 - 1], np.uint32)
    assert sampling._ceil_root(large, np).tolist() == [46341, 32768, 32769, 32768]

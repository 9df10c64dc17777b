"""Batches without replacement, where the number of examples is a traced number.

Shuffling would sort as many numbers as the largest lane has examples. Instead each
epoch is a keyed permutation of 0..n-1 that is evaluated one position at a time: a
Feistel network with additions on a rectangle of about sqrt(n) x sqrt(n), and again
wherever it lands outside of n (cycle walking). Nothing is stored but the position.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_NUM_ROUNDS = 4
_GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: spreads consecutive numbers


class Cursor(NamedTuple):
    """Where a lane stands in its data: two numbers, as one would overflow."""

    epoch: jax.Array  # uint32 []
    position: jax.Array  # of the next example within the epoch, below n; uint32 []


def start() -> Cursor:
    """Before the first example."""
    return Cursor(jnp.uint32(0), jnp.uint32(0))


def draw_batch(
    words: jax.Array, cursor: Cursor, size: jax.Array, batch_size: int
) -> tuple[jax.Array, Cursor]:
    """The next batch; it may straddle epochs, and n may be smaller than the batch.

    Args:
        words: key of the order, uint32 [2].
        cursor: where the lane stands.
        size: n, at least 1, uint32 [].
        batch_size: examples to draw.

    Returns:
        Example numbers below n, int32 [batch_size], and the cursor after them. Every
        example comes once an epoch.
    """
    position = cursor.position + jnp.arange(batch_size, dtype=jnp.uint32)
    examples = permute(words, cursor.epoch + position // size, position % size, size)
    end = cursor.position + jnp.uint32(batch_size)
    return examples, Cursor(cursor.epoch + end // size, end % size)


def draw_consecutive(
    cursor: Cursor, size: jax.Array, batch_size: int
) -> tuple[jax.Array, Cursor]:
    """The next window of each of `batch_size` equal stretches of the data.

    For models that carry what they read from one window to the next. What does not
    fill a stretch is left out; where n is below the batch, stretches are one window.

    Args:
        cursor: where the lane stands; `position` counts within the stretches.
        size: n, at least 1, uint32 [].
        batch_size: stretches.

    Returns:
        Example numbers below n, int32 [batch_size], and the cursor after them; an
        epoch begins where its position is 0.
    """
    length = jnp.maximum(size // batch_size, 1)
    row = jnp.arange(batch_size, dtype=jnp.uint32)
    examples = (row * length + cursor.position) % size
    end = cursor.position + 1
    after = Cursor(cursor.epoch + end // length, end % length)
    return examples.astype(jnp.int32), after


def permute(
    words: jax.Array, epoch: jax.Array, position: jax.Array, size: jax.Array
) -> jax.Array:
    """Example at each position of an epoch: a bijection of 0..n-1.

    Args:
        words: key of the order, uint32 [2].
        epoch: uint32 [batch].
        position: below n, uint32 [batch].
        size: n, uint32 [].

    Returns:
        Example numbers, int32 [batch].
    """
    # Any rectangle that holds n will do, so float32's rounding is harmless.
    rows = jnp.ceil(jnp.sqrt(size.astype(jnp.float32))).astype(jnp.uint32)
    columns = (size + rows - 1) // rows
    epoch_word = _hash(_hash(epoch * jnp.uint32(_GOLDEN) ^ words[0]) ^ words[1])
    round_keys = [_hash(epoch_word + jnp.uint32(r)) for r in range(_NUM_ROUNDS)]

    def shuffle(x: jax.Array) -> jax.Array:
        right, left = x // rows, x % rows
        for r in range(0, _NUM_ROUNDS, 2):
            left = _add(left, _hash(right ^ round_keys[r]), rows)
            right = _add(right, _hash(left ^ round_keys[r + 1]), columns)
        return right * rows + left

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x >= size, shuffle(x), x)

    landed = jax.lax.while_loop(
        lambda x: jnp.any(x >= size), walk, shuffle(position.astype(jnp.uint32))
    )
    return landed.astype(jnp.int32)


def _add(x: jax.Array, random: jax.Array, modulus: jax.Array) -> jax.Array:
    """(x + random) mod `modulus`, which is below 2**16; a division would cost 3x."""
    total = x + (((random >> 16) * modulus) >> 16)
    return jnp.where(total >= modulus, total - modulus, total)


def _hash(x: jax.Array) -> jax.Array:
    """Mixes 32 bits so that each depends on all: shift-multiply rounds.

    Source: constants of the `lowbias32` mixer, C. Wellons, "Prospecting for hash
    functions", 2018 (public domain).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)

"""Batches without replacement, where the number of examples is a traced number.

Shuffling would sort as many numbers as the largest lane has examples. Instead each
epoch is a keyed permutation of 0..n-1 that is evaluated one position at a time: a
Feistel network with additions on a rectangle of about sqrt(n) x sqrt(n), and again
wherever it lands outside of n (cycle walking). Nothing is stored but the position.

All of it is counted in whole numbers, so that every device draws the same examples,
and so does the host, which has to know them where data are streamed.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.training.noise import mix

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
    words: jax.Array | None, cursor: Cursor, size: jax.Array, batch_size: int
) -> tuple[jax.Array, Cursor]:
    """The next batch; it may straddle epochs, and n may be smaller than the batch.

    Args:
        words: key of the order, uint32 [2]; None: every epoch counts from 0 to n-1.
        cursor: where the lane stands.
        size: n, at least 1, uint32 [].
        batch_size: examples to draw.

    Returns:
        Example numbers below n, int32 [batch_size], and the cursor after them. Every
        example comes once an epoch.
    """
    position = cursor.position + jnp.arange(batch_size, dtype=jnp.uint32)
    if words is None:
        examples = (position % size).astype(jnp.int32)
    else:
        epoch = cursor.epoch + position // size
        examples = permute(words, epoch, position % size, size)
    return examples, advance(cursor, size, batch_size)


def advance(cursor: Cursor, size: jax.Array, count: int) -> Cursor:
    """The cursor after `count` more examples of `draw_batch`."""
    end = cursor.position + jnp.uint32(count)
    return Cursor(cursor.epoch + end // size, end % size)


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


def find_draws(
    words: np.ndarray | None,
    first: int,
    count: int,
    size: int,
    batch_size: int,
    consecutive: bool,
) -> np.ndarray:
    """What a lane draws, told on the host.

    Args:
        words: as `draw_batch` takes them.
        first: batches drawn before.
        count: batches.
        size: n.
        batch_size: examples of a batch.
        consecutive: as `draw_consecutive` draws them, else as `draw_batch`.

    Returns:
        Example numbers below n, int32 [count * batch_size].
    """
    if consecutive:
        length = max(size // batch_size, 1)
        position = (first + np.arange(count)[:, None]) % length
        examples = (np.arange(batch_size) * length + position) % size
        return examples.astype(np.int32).reshape(-1)
    number = first * batch_size + np.arange(count * batch_size)
    if words is None:
        return (number % size).astype(np.int32)
    epoch, position = (part.astype(np.uint32) for part in np.divmod(number, size))
    return permute(words, epoch, position, np.uint32(size))


def permute(words: Any, epoch: Any, position: Any, size: Any) -> Any:
    """Example at each position of an epoch: a bijection of 0..n-1.

    Args:
        words: key of the order, uint32 [2].
        epoch: uint32 [batch].
        position: below n, uint32 [batch]; where it is of numpy, numpy computes.
        size: n, uint32 [].

    Returns:
        Example numbers, int32 [batch].
    """
    xp = np if isinstance(position, np.ndarray) else jnp
    rows = _ceil_root(size, xp)
    columns = (size + rows - 1) // rows
    epoch_word = mix(mix(epoch * np.uint32(_GOLDEN) ^ words[0]) ^ words[1])
    round_keys = [mix(epoch_word + np.uint32(r)) for r in range(_NUM_ROUNDS)]

    def shuffle(x: Any) -> Any:
        right, left = x // rows, x % rows
        for r in range(0, _NUM_ROUNDS, 2):
            left = _add(left, mix(right ^ round_keys[r]), rows, xp)
            right = _add(right, mix(left ^ round_keys[r + 1]), columns, xp)
        return right * rows + left

    def is_outside(x: Any) -> Any:
        return xp.any(x >= size)

    def walk(x: Any) -> Any:
        return xp.where(x >= size, shuffle(x), x)

    landed = shuffle(position.astype(np.uint32))
    if xp is jnp:
        landed = jax.lax.while_loop(is_outside, walk, landed)
    else:
        while is_outside(landed):
            landed = walk(landed)
    return landed.astype(np.int32)


def _ceil_root(size: Any, xp: Any) -> Any:
    """The root of n, rounded up. Floats only come near: devices round differently."""
    near = xp.sqrt(size.astype(np.float32)).astype(np.uint32)
    root = xp.maximum(near, np.uint32(1)) - 1
    for _ in range(3):
        root = root + (root * root < size)
    return root


def _add(x: Any, random: Any, modulus: Any, xp: Any) -> Any:
    """(x + random) mod `modulus`, which is below 2**16; a division would cost 3x."""
    total = x + (((random >> 16) * modulus) >> 16)
    return xp.where(total >= modulus, total - modulus, total)

"""Cheap random numbers for what training drops and shifts: a hash of a counter.

Threefry, jax's default, takes a CPU more than three times as long for a mask, and
longer to compile. `rbg` would be cheap too, but under vmap its numbers depend on the
lane. Here a number depends on the key and on its place alone, and rows that are
appended to an array change none before them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random as extend

_GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: spreads consecutive numbers


def mix(x: Any) -> Any:
    """Mixes 32 bits so that each depends on all: a bijection of shifts and products.

    Source: constants of the `lowbias32` mixer, C. Wellons, "Prospecting for hash
    functions", 2018 (public domain).
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def make_key(words: Any) -> jax.Array:
    """A key for `jax.random`, of two words, uint32 [2]."""
    return jax.random.wrap_key_data(jnp.asarray(words), impl=_HASH)


def _seed(seed: jax.Array) -> jax.Array:
    return _fold_in(jnp.zeros(2, jnp.uint32), seed)


def _fold_in(key: jax.Array, number: Any) -> jax.Array:
    number = number.astype(jnp.uint32)
    other = number + np.uint32(_GOLDEN)
    return jnp.stack(
        [mix(mix(number ^ key[0]) ^ key[1]), mix(mix(other ^ key[1]) + key[0])]
    )


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    numbers = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.uint32)
    # Not the keys of `fold_in` with the same numbers.
    keys = jax.vmap(_fold_in, (None, 0))(mix(key + np.uint32(_GOLDEN)), numbers)
    return keys.reshape(*shape, 2)


def _draw_bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    """Random bits; numbers of 8 and 16 are the low ends of those of 32."""
    count = np.prod(shape, dtype=int)
    place = jnp.arange(count * max(width // 32, 1), dtype=jnp.uint32).reshape(
        *shape, *([2] if width == 64 else [])
    )
    # Mixed, so that of keys that are near none is another one's moved along.
    first, second = mix(key + np.uint32(_GOLDEN))
    words = mix(mix(place ^ first) + second)
    if width == 64:
        high, low = (words[..., part].astype(jnp.uint64) for part in (0, 1))
        return high << np.uint64(32) | low
    return words.astype(f"uint{width}")


_HASH: Any = extend.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_draw_bits,
    fold_in=_fold_in,
    name="hash",
    tag="hash",
)

"""Attention by distance over a window and a memory of what came before it.

Source: Z. Dai et al., "Transformer-XL", ACL 2019, 3.3 and appendix B.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.attention import compare, mix
from scalepred.models.product import multiply


class RelativeAttention(nnx.Module):
    """Heads whose scores are of content and of distance, each with a bias."""

    def __init__(
        self, size: int, num_heads: int, init: nnx.Initializer, *, rngs: nnx.Rngs
    ):
        """Makes the layer.

        Args:
            size: features before and after.
            num_heads: they share the features.
            init: of all weights.
            rngs: of its key.
        """
        head = size // num_heads
        noise = init(rngs.params(), (5, size, num_heads, head))
        # Queries, keys and values on an axis of their own.
        self.qkv = nnx.Param(noise[:3])
        self.positions = nnx.Param(noise[3])
        self.out = nnx.Param(noise[4].reshape(num_heads, head, size))

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        waves: jax.Array,
        biases: jax.Array,
        is_seen: jax.Array,
    ) -> jax.Array:
        """What each position reads.

        Args:
            x: [batch, T, size].
            memory: what this layer was given for the window before [batch, M, size].
            waves: of the distances M + T - 1 down to 0 [M + T, size].
            biases: u and v, added to queries [2, heads, head].
            is_seen: whether a query sees a key [batch, 1, T, M + T].

        Returns:
            [batch, T, size].
        """
        both = jnp.concatenate([memory, x], axis=1)
        query = multiply(x, self.qkv[0])
        key, value = (multiply(both, weights) for weights in self.qkv[1:])
        distance = jnp.einsum("ks,shd->khd", waves, self.positions[...])
        content = compare(*(jnp.moveaxis(a, 2, 1) for a in (query + biases[0], key)))
        position = jnp.einsum("bthd,khd->bhtk", query + biases[1], distance)
        scores = (content + shift(position)) / math.sqrt(query.shape[-1])
        scores = jnp.where(is_seen, scores, -1e9)
        read = jnp.moveaxis(mix(scores, jnp.moveaxis(value, 2, 1)), 1, 2)
        size = x.shape[-1]
        return multiply(read.reshape(x.shape), self.out[...].reshape(size, size))


def shift(scores: jax.Array) -> jax.Array:
    """Scores by distance -> scores by key.

    Args:
        scores: column c is of distance K - 1 - c [..., T, K].

    Returns:
        Row i moved left by T - 1 - i, so that column j is of key j, which is
        i + K - T - j before the query; columns in the future are left undefined.
    """
    *batch, length, num_keys = scores.shape
    padded = jnp.pad(scores, [(0, 0)] * (len(batch) + 1) + [(1, 0)])
    turned = padded.reshape(*batch, num_keys + 1, length)
    return turned[..., 1:, :].reshape(*batch, length, num_keys)


def make_waves(num_distances: int, size: int) -> jax.Array:
    """Sines and cosines of the distances, the farthest first [distances, size]."""
    distance = jnp.arange(num_distances - 1, -1, -1, dtype=jnp.float32)
    frequency = 10_000.0 ** -(jnp.arange(0, size, 2) / size)
    angle = distance[:, None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def find_seen(length: int, num_keys: int, has_read: jax.Array) -> jax.Array:
    """Keys not in the future, and none of a memory of nothing.

    Args:
        length: T, positions of the window.
        num_keys: those of memory and window.
        has_read: whether the memory is of something [batch].

    Returns:
        Whether a query sees a key [batch, 1, T, num_keys].
    """
    key = jnp.arange(num_keys)
    first = num_keys - length
    is_past = key <= jnp.arange(length)[:, None] + first
    is_real = (key >= first) | has_read[:, None, None, None]
    return is_past & is_real

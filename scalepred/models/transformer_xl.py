"""Transformer-XL: relative positions, and a memory of the window before.

`width` is the inner size of the feed-forward layers (2,100 in the base model), which
alone is scaled, as in the paper (2.2); `depth` the layers (16). The model size of 410
and the ten heads stay, so m does not fall below a third. The memory is as long as a
window. The softmax is plain and tied where the official one is adaptive: m, which has
no embeddings, is the same.

Source: Z. Dai et al., "Transformer-XL: Attentive Language Models beyond a
Fixed-Length Context", ACL 2019; sizes of the official base model for WikiText-103.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.attention import compare, mix
from scalepred.models.language import TiedEmbedding, check_tokens
from scalepred.models.model import Model, Tree, from_nnx, multiply

_INIT = nnx.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is not scaled."""

    model_size: int = 410
    num_heads: int = 10
    dropout: float = 0.1


class Layer(nnx.Module):
    """Attention over memory and window, then two feed-forward layers; norms after."""

    def __init__(self, width: int, recipe: Recipe, rngs: nnx.Rngs):
        size, heads = recipe.model_size, recipe.num_heads
        head = size // heads
        noise = _INIT(rngs.params(), (5, size, heads, head), jnp.float32)
        # Queries, keys and values on an axis of their own.
        self.qkv = nnx.Param(noise[:3])
        self.positions = nnx.Param(noise[3])
        self.out = nnx.Param(noise[4].reshape(heads, head, size))
        self.norm_attention = nnx.LayerNorm(size, epsilon=1e-5, rngs=rngs)
        self.inner = nnx.Linear(size, width, kernel_init=_INIT, rngs=rngs)
        self.outer = nnx.Linear(width, size, kernel_init=_INIT, rngs=rngs)
        self.norm_outer = nnx.LayerNorm(size, epsilon=1e-5, rngs=rngs)
        self.dropout = nnx.Dropout(recipe.dropout)

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        waves: jax.Array,
        biases: jax.Array,
        is_seen: jax.Array,
        rngs: nnx.Rngs,
    ) -> jax.Array:
        """One layer.

        Args:
            x: [batch, T, size].
            memory: what this layer was given for the window before [batch, M, size].
            waves: of the distances M + T - 1 down to 0 [M + T, size].
            biases: u and v, added to queries [2, heads, head].
            is_seen: whether a query sees a key [batch, 1, T, M + T].
            rngs: of dropout.

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
        read = multiply(read.reshape(x.shape), self.out[...].reshape(size, size))
        x = self.norm_attention(x + self.dropout(read, rngs=rngs))
        inner = self.dropout(nnx.relu(self.inner(x)), rngs=rngs)
        return self.norm_outer(x + self.dropout(self.outer(inner), rngs=rngs))


class TransformerXL(nnx.Module):
    """Embedding, layers with their memories, the embedding again."""

    def __init__(
        self,
        width: int,
        depth: int,
        window: int,
        vocabulary_size: int,
        recipe: Recipe,
        rngs: nnx.Rngs,
    ):
        size, heads = recipe.model_size, recipe.num_heads
        # Smaller than the official 0.02: a norm comes before the scores, and tied
        # words of that size would make a fresh model sure that each word is repeated.
        init = nnx.initializers.normal(1 / size)
        self.embedding = TiedEmbedding(vocabulary_size, size, rngs, init)
        self.layers = nnx.List([Layer(width, recipe, rngs) for _ in range(depth)])
        shape = (2, heads, size // heads)
        self.biases = nnx.Param(_INIT(rngs.params(), shape, jnp.float32))
        self.memories = nnx.BatchStat(jnp.zeros((1, depth, window, size)))
        self.has_read = nnx.BatchStat(jnp.zeros(1))  # 1: the memory is of something
        self.dropout = nnx.Dropout(recipe.dropout)

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        memories, has_read = self.memories[...], self.has_read[...]
        size, length = memories.shape[-1], tokens.shape[1]
        num_keys = memories.shape[2] + length
        x = self.embedding(tokens, rngs) * math.sqrt(size)
        x = self.dropout(x, rngs=rngs)
        waves = self.dropout(make_waves(num_keys, size).astype(x.dtype), rngs=rngs)
        is_seen = _find_seen(length, num_keys, has_read > 0)
        inputs = []
        for index, layer in enumerate(self.layers):
            inputs.append(x)
            x = layer(x, memories[:, index], waves, self.biases[...], is_seen, rngs)
        # Gradients do not reach into the window before.
        self.memories[...] = jax.lax.stop_gradient(jnp.stack(inputs, axis=1))
        self.has_read[...] = jnp.ones_like(has_read)
        return self.embedding.score(self.dropout(x, rngs=rngs))


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


def _find_seen(length: int, num_keys: int, has_read: jax.Array) -> jax.Array:
    """Keys not in the future, and none of a memory of nothing [batch, 1, T, keys]."""
    key = jnp.arange(num_keys)
    first = num_keys - length
    is_past = key <= jnp.arange(length)[:, None] + first
    is_real = (key >= first) | has_read[:, None, None, None]
    return is_past & is_real


def restart(state: Tree, batch_size: int) -> Tree:
    """Nothing read."""
    return jax.tree.map(
        lambda leaf: jnp.zeros((batch_size, *leaf.shape[1:]), leaf.dtype), state
    )


def make(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    recipe: Recipe,
) -> Model:
    """The Transformer-XL of that inner size, depth and recipe.

    Bucketed by exact width: masks of wider layers would have other bits.

    Raises:
        UserError: the dataset is not text.
    """
    check_tokens("transformer_xl", input_shape)
    return from_nnx(
        lambda rngs: TransformerXL(
            width, depth, input_shape[0], num_classes, recipe, rngs
        ),
        embeddings=frozenset({"embedding"}),
        restart=restart,
    )


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The base model's sizes."""
    return make(width, depth, input_shape, num_classes, Recipe())

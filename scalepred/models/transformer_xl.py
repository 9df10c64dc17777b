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

from scalepred.models.layers import Embedding, check_tokens
from scalepred.models.model import Model, Tree, from_nnx
from scalepred.models.relative_attention import (
    RelativeAttention,
    find_seen,
    make_waves,
)

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
        size = recipe.model_size
        self.attention = RelativeAttention(size, recipe.num_heads, _INIT, rngs=rngs)
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
        """One layer [batch, T, size]; arguments as of `RelativeAttention`."""
        read = self.attention(x, memory, waves, biases, is_seen)
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
        self.embedding = Embedding(
            vocabulary_size, size, init=init, is_tied=True, rngs=rngs
        )
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
        is_seen = find_seen(length, num_keys, has_read > 0)
        inputs = []
        for index, layer in enumerate(self.layers):
            inputs.append(x)
            x = layer(x, memories[:, index], waves, self.biases[...], is_seen, rngs)
        # Gradients do not reach into the window before.
        self.memories[...] = jax.lax.stop_gradient(jnp.stack(inputs, axis=1))
        self.has_read[...] = jnp.ones_like(has_read)
        return self.embedding.score(self.dropout(x, rngs=rngs))


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

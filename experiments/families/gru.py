"""GRU language model: `depth` layers of `width` units.

Source: K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder",
EMNLP 2014; reset after the product. A gate has an array of its own, so that zeros
may be appended to it; a unit of padding stays at tanh(0) = 0.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.initializers import normal
from scalepred.models.layers import Embedding, Linear, check_tokens
from scalepred.models.model import Model, from_nnx


class Layer(nnx.Module):
    def __init__(self, units: int, rngs: nnx.Rngs):
        self.outer = nnx.List([Linear(units, units, rngs=rngs) for _ in range(3)])
        self.inner = nnx.List([Linear(units, units, rngs=rngs) for _ in range(3)])

    def __call__(self, x: jax.Array) -> jax.Array:
        def step(h: jax.Array, driven: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
            update, reset, fresh = (linear(h) for linear in self.inner)
            update, reset = (
                nnx.sigmoid(update + driven[0]),
                nnx.sigmoid(reset + driven[1]),
            )
            h = update * h + (1 - update) * jnp.tanh(driven[2] + reset * fresh)
            return h, h

        driven = [jnp.swapaxes(linear(x), 0, 1) for linear in self.outer]
        return jax.lax.scan(step, jnp.zeros_like(x[:, 0]), driven)[1].swapaxes(0, 1)


class GRU(nnx.Module):
    def __init__(self, width: int, depth: int, words: int, rngs: nnx.Rngs):
        self.embedding = Embedding(words, width, init=normal(1.0), rngs=rngs)
        self.layers = nnx.List([Layer(width, rngs) for _ in range(depth)])
        self.output = Linear(width, words, rngs=rngs)

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(x)


def build(width: int, depth: int, shape: tuple[int, ...], classes: int) -> Model:
    check_tokens("gru", shape)
    return from_nnx(
        lambda rngs: GRU(width, depth, classes, rngs),
        embeddings=frozenset({"embedding", "output"}),
        can_be_padded=True,
    )

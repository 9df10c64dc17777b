"""Diagonal state-space model (S4D) on text: `depth` layers of `width` channels.

Each channel has 16 complex states exp((-decay + i frequency) step t), whose sum is the
kernel of a causal convolution; steps start between 0.001 and 0.1.

Source: A. Gu et al., "On the Parameterization and Initialization of Diagonal State
Space Models", NeurIPS 2022, 4 (S4D-Lin).
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.initializers import normal, uniform
from scalepred.models.layers import Embedding, Linear, RMSNorm, check_tokens
from scalepred.models.model import Model, from_nnx


class Layer(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.log_step = nnx.Param(uniform(2.3)(rngs.params(), (width, 1)) - 4.6)
        self.log_decay = nnx.Param(jnp.full((width, 16), jnp.log(0.5)))
        self.frequency = nnx.Param(jnp.tile(jnp.pi * jnp.arange(16), (width, 1)))
        self.out = nnx.Param(normal(0.25)(rngs.params(), (2, width, 16)))
        self.direct = nnx.Param(normal(1.0)(rngs.params(), (width,)))
        self.norm, self.mix = RMSNorm(width), Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        u, time = self.norm(x), jnp.arange(x.shape[1])
        at = time[:, None, None] * jnp.exp(self.log_step[...])  # [time, width, 1]
        size, angle = jnp.exp(-jnp.exp(self.log_decay[...]) * at), self.frequency * at
        cosine, sine = self.out[...]
        kernel = jnp.sum(size * (cosine * jnp.cos(angle) - sine * jnp.sin(angle)), -1)
        back = time[:, None] - time
        causal = jnp.where((back >= 0)[..., None], kernel[back], 0)
        y = jnp.einsum("tsc,bsc->btc", causal, u) + self.direct * u
        return x + self.mix(nnx.gelu(y))


class S4D(nnx.Module):
    def __init__(self, width: int, depth: int, words: int, rngs: nnx.Rngs):
        self.embedding = Embedding(words, width, init=normal(1.0), rngs=rngs)
        self.layers = nnx.List([Layer(width, rngs) for _ in range(depth)])
        self.norm, self.output = RMSNorm(width), Linear(width, words, rngs=rngs)

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def build(width: int, depth: int, shape: tuple[int, ...], classes: int) -> Model:
    check_tokens("s4d", shape)
    make = functools.partial(S4D, width, depth, classes)
    names = frozenset({"embedding", "output"})
    return from_nnx(make, embeddings=names, can_be_padded=True)

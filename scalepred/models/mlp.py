"""Multi-layer perceptron: `depth` hidden tanh layers of `width` units.

Tanh and not relu: in a relu network of few units a good part of them is dead from the
start or dies, and its error is then a matter of luck, which no law in m describes.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.model import Model, draw_arrays, from_nnx, multiply


class Linear(nnx.Module):
    """A product with weights that are given, and a bias that starts at zero."""

    def __init__(self, weights: jax.Array):
        self.kernel = nnx.Param(weights)
        self.bias = nnx.Param(jnp.zeros(weights.shape[1]))

    def __call__(self, x: jax.Array) -> jax.Array:
        return multiply(x, self.kernel[...]) + self.bias[...]


class MLP(nnx.Module):
    """Flattened input, tanh layers, linear output."""

    def __init__(
        self, num_inputs: int, width: int, depth: int, num_classes: int, rngs: nnx.Rngs
    ):
        sizes = [num_inputs] + [width] * depth + [num_classes]
        shapes = list(itertools.pairwise(sizes))
        drawn = draw_arrays(_uniform, rngs.params(), shapes)
        # Variance 1 / fan_in.
        self.layers = nnx.List(
            [Linear(noise * math.sqrt(3 / len(noise))) for noise in drawn]
        )

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            x = nnx.tanh(layer(x))
        return self.layers[-1](x)


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-1, maxval=1)


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The MLP of that width; tanh(0) = 0, so it may be padded with zeros."""
    num_inputs = math.prod(input_shape)
    return from_nnx(
        lambda rngs: MLP(num_inputs, width, depth, num_classes, rngs),
        can_be_padded=True,
    )

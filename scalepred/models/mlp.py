"""Multi-layer perceptron: `depth` hidden tanh layers of `width` units.

Tanh and not relu: in a relu network of few units a good part of them is dead from the
start or dies, and its error is then a matter of luck, which no law in m describes.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.model import Model, from_nnx


class MLP(nnx.Module):
    """Flattened input, tanh layers, linear output."""

    def __init__(
        self, num_inputs: int, width: int, depth: int, num_classes: int, rngs: nnx.Rngs
    ):
        sizes = [num_inputs] + [width] * depth + [num_classes]
        shapes = list(itertools.pairwise(sizes))
        counts = [math.prod(shape) for shape in shapes]
        # Drawn at once: each call of the random generator takes as long to compile as
        # the rest of the network.
        noise = jax.random.uniform(rngs.params(), (sum(counts),), minval=-1, maxval=1)
        ends = list(itertools.accumulate(counts))
        self.layers = nnx.List()
        for (fan_in, fan_out), part in zip(
            shapes, jnp.split(noise, ends[:-1]), strict=True
        ):
            # Variance 1 / fan_in.
            weights = part.reshape(fan_in, fan_out) * math.sqrt(3 / fan_in)
            self.layers.append(
                nnx.Linear(fan_in, fan_out, kernel_init=_given(weights), rngs=rngs)
            )

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            x = nnx.tanh(layer(x))
        return self.layers[-1](x)


def _given(weights: jax.Array) -> nnx.Initializer:
    return lambda key, shape, dtype: weights.astype(dtype)


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The MLP of that width; tanh(0) = 0, so it may be padded with zeros."""
    num_inputs = math.prod(input_shape)
    return from_nnx(
        lambda rngs: MLP(num_inputs, width, depth, num_classes, rngs),
        can_be_padded=True,
    )

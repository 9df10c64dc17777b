"""Multi-layer perceptron: `depth` hidden relu layers of `width` units."""

import itertools
import math

import jax
from flax import nnx

from scalepred.models.model import Model, from_nnx


class MLP(nnx.Module):
    """Flattened input, relu layers, linear output."""

    def __init__(
        self, num_inputs: int, width: int, depth: int, num_classes: int, rngs: nnx.Rngs
    ):
        he_normal = nnx.initializers.he_uniform()
        sizes = [num_inputs] + [width] * depth
        self.hidden = nnx.List(
            nnx.Linear(fan_in, fan_out, kernel_init=he_normal, rngs=rngs)
            for fan_in, fan_out in itertools.pairwise(sizes)
        )
        self.output = nnx.Linear(sizes[-1], num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = x.reshape(len(x), -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.output(x)


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The MLP of that width; relu(0) = 0, so it may be padded with zeros."""
    num_inputs = math.prod(input_shape)
    return from_nnx(
        lambda rngs: MLP(num_inputs, width, depth, num_classes, rngs),
        can_be_padded=True,
    )

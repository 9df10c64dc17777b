"""Multi-layer perceptron: `depth` hidden tanh layers of `width` units.

Tanh and not relu: in a relu network of few units a good part of them is dead from the
start or dies, and its error is then a matter of luck, which no law in m describes.

Option: mlp(parametrization='mup', base_width=64), see `parametrization.py`.
"""

import itertools
import math

import jax
from flax import nnx

from scalepred.models.initializers import uniform
from scalepred.models.layers import Linear
from scalepred.models.model import Model, from_nnx
from scalepred.models.parametrization import (
    FIXED,
    HIDDEN,
    INPUT,
    OUTPUT,
    VECTOR,
    Roles,
    find_ratios,
    parametrize,
)


class MLP(nnx.Module):
    """Flattened input, tanh layers, linear output."""

    def __init__(
        self, num_inputs: int, width: int, depth: int, num_classes: int, rngs: nnx.Rngs
    ):
        sizes = [num_inputs] + [width] * depth + [num_classes]
        self.layers = nnx.List()
        for inputs, outputs in itertools.pairwise(sizes):
            init = uniform(math.sqrt(3 / inputs))  # variance 1 / fan-in
            self.layers.append(Linear(inputs, outputs, kernel_init=init, rngs=rngs))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            x = nnx.tanh(layer(x))
        return self.layers[-1](x)


def build(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    parametrization: str = "standard",
    base_width: int = 64,
) -> Model:
    """The MLP of that width; tanh(0) = 0, so it may be padded with zeros.

    Args:
        width: units a layer.
        depth: hidden layers.
        input_shape: of one example.
        num_classes: number of logits.
        parametrization: standard or mup.
        base_width: at which mup is the standard one.

    Raises:
        UserError: no such parametrisation.
    """
    ratios = find_ratios("mlp", parametrization, (width, base_width), depth=None)
    num_inputs = math.prod(input_shape)
    model = from_nnx(
        lambda rngs: MLP(num_inputs, width, depth, num_classes, rngs),
        can_be_padded=True,
    )
    return parametrize(model, ratios, make_roles(depth))


def make_roles(depth: int) -> Roles:
    """Of the weights of so many hidden layers."""
    return {
        "layers.0.kernel": INPUT,
        f"layers.{depth}.kernel": OUTPUT,
        f"layers.{depth}.bias": FIXED,
        "layers.*.kernel": HIDDEN,
        "layers.*.bias": VECTOR,
    }

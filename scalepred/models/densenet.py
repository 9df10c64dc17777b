"""DenseNet without bottlenecks: `width` is the growth k, `depth` the layers L.

The paper takes L = 40, k = 32. The first convolution has 16 channels at k = 32 and is
scaled with k, as all channels are (2.2).

Source: G. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017; no
dropout.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.config import UserError
from scalepred.models.initializers import fan_out_normal_by_key
from scalepred.models.layers import BatchNorm, Conv, check_images, pool_everything
from scalepred.models.model import Model, from_nnx

_NUM_BLOCKS = 3


class NormConv(nnx.Module):
    """BatchNorm, relu, convolution."""

    def __init__(self, inputs: int, outputs: int, size: int, rngs: nnx.Rngs):
        self.norm = BatchNorm(inputs, rngs=rngs)
        init = fan_out_normal_by_key
        self.conv = Conv(inputs, outputs, size, kernel_init=init, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(nnx.relu(self.norm(x)))


class DenseNet(nnx.Module):
    """Three blocks, in which every layer sees all before it, and pooling between."""

    def __init__(
        self,
        growth: int,
        depth: int,
        first: int,
        input_channels: int,
        num_classes: int,
        rngs: nnx.Rngs,
    ):
        channels = first
        init = fan_out_normal_by_key
        self.stem = Conv(input_channels, channels, 3, kernel_init=init, rngs=rngs)
        self.blocks, self.transitions = nnx.List(), nnx.List()
        for block in range(_NUM_BLOCKS):
            layers = nnx.List()
            for _ in range((depth - 4) // _NUM_BLOCKS):
                layers.append(NormConv(channels, growth, 3, rngs))
                channels += growth
            self.blocks.append(layers)
            if block < _NUM_BLOCKS - 1:
                self.transitions.append(NormConv(channels, channels, 1, rngs))
        self.norm = BatchNorm(channels, rngs=rngs)
        self.output = nnx.Linear(channels, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = self.stem(x)
        for index, layers in enumerate(self.blocks):
            for layer in layers:
                x = jnp.concatenate([x, layer(x)], axis=-1)
            if index < len(self.transitions):
                x = nnx.avg_pool(self.transitions[index](x), (2, 2), (2, 2))
        return self.output(pool_everything(nnx.relu(self.norm(x))))


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The DenseNet of that growth and depth; bucketed by exact width.

    Concatenated channels would move if each part were padded at its end.

    Raises:
        UserError: the depth is not 3 x layers + 4, or the inputs are not images.
    """
    if depth < 7 or (depth - 4) % _NUM_BLOCKS:
        raise UserError(f"grid.depths={depth}: densenet has depths 3 j + 4, such as 40")
    check_images("densenet", input_shape)
    first = max(1, round(width / 2))
    return from_nnx(
        lambda rngs: DenseNet(width, depth, first, input_shape[-1], num_classes, rngs)
    )

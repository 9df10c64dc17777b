"""ResNet of bottleneck blocks: `width` 64 and `depth` 50 is ResNet-50.

Width is the channels of the first stage; the others have 2, 4 and 8 times as many, and
blocks put out four times what they work in. All convolutions and with them the input
of the last layer are scaled by one factor, as in the paper (2.2).

Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the
stride stands in the 3x3 convolution, as in the PyTorch code that the paper used. The
last norm of a block starts at 0. Below 128 pixels the first convolution keeps the
size; no parameter depends on it.
"""

import functools

import jax
from flax import nnx

from scalepred.config import UserError
from scalepred.models.initializers import fan_out_normal_by_key
from scalepred.models.layers import ConvNorm, check_images, pool_everything
from scalepred.models.model import Model, from_nnx

# Blocks of each stage, by depth.
_BLOCKS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    38: (3, 3, 3, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_EXPANSION = 4
_LARGE_IMAGE = 128  # pixels
_ConvNorm = functools.partial(ConvNorm, kernel_init=fan_out_normal_by_key)


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 convolution beside a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int, rngs: nnx.Rngs):
        outputs = _EXPANSION * channels
        self.reduce = _ConvNorm(inputs, channels, 1, rngs=rngs)
        self.work = _ConvNorm(channels, channels, 3, stride, rngs=rngs)
        self.expand = _ConvNorm(channels, outputs, 1, scale=0.0, rngs=rngs)
        changes = stride > 1 or inputs != outputs
        self.shortcut = (
            _ConvNorm(inputs, outputs, 1, stride, rngs=rngs) if changes else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        past = x if self.shortcut is None else self.shortcut(x)
        x = nnx.relu(self.work(nnx.relu(self.reduce(x))))
        return nnx.relu(past + self.expand(x))


class ResNet(nnx.Module):
    """7x7 convolution, pooling, four stages, mean, linear."""

    def __init__(
        self,
        width: int,
        blocks: tuple[int, ...],
        input_shape: tuple[int, ...],
        num_classes: int,
        rngs: nnx.Rngs,
    ):
        stride = 2 if input_shape[0] >= _LARGE_IMAGE else 1
        self.stem = _ConvNorm(input_shape[-1], width, 7, stride, rngs=rngs)
        self.blocks = nnx.List()
        inputs = width
        for stage, num_blocks in enumerate(blocks):
            channels = width * 2**stage
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                self.blocks.append(Bottleneck(inputs, channels, stride, rngs))
                inputs = _EXPANSION * channels
        self.output = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = nnx.relu(self.stem(x))
        x = nnx.max_pool(x, (3, 3), (2, 2), "SAME")
        for block in self.blocks:
            x = block(x)
        return self.output(pool_everything(x))


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The ResNet of that width and depth; BatchNorm and relu may be padded.

    Raises:
        UserError: there is no ResNet of that depth, or the inputs are not images.
    """
    if depth not in _BLOCKS:
        depths = ", ".join(map(str, _BLOCKS))
        raise UserError(f"grid.depths={depth}: resnet50 has depths {depths}")
    check_images("resnet50", input_shape)
    return from_nnx(
        lambda rngs: ResNet(width, _BLOCKS[depth], input_shape, num_classes, rngs),
        can_be_padded=True,
    )

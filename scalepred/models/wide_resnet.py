"""Residual network for small images: depth 6k + 2, stages of `width`, 2x and 4x.

The paper's WRN-44-16 (Rosenfeld et al. 2020, section 3) is depth 44, width 16, with
661,338 parameters for ten classes; width is the base number of channels, 16 is no
widening factor. A stage has k blocks of two 3x3 convolutions, each with BatchNorm; the
shortcut into stages two and three is a 1x1 convolution with BatchNorm.

Options: wide_resnet(parametrization='mup', base_width=16) or
wide_resnet(parametrization='completep', base_width=16, base_depth=14), see
`parametrization.py`. (CompleteP is made for blocks whose norm stands before; here relu
follows the sum.)

Source: He et al. 2016, section 4.2, with projections; starts as in the code the paper
builds on: weights normal with variance 2 / (k^2 out), the last scale of a block zero,
the output layer's weights with deviation 0.01.
"""

import jax
from flax import nnx

from scalepred.config import UserError
from scalepred.models.initializers import normal
from scalepred.models.layers import ConvNorm, Linear, check_images, pool_everything
from scalepred.models.model import Model, from_nnx
from scalepred.models.parametrization import (
    FIXED,
    HIDDEN,
    INPUT,
    VECTOR,
    Role,
    find_ratios,
    parametrize,
)

ROLES = {
    "stem.conv.kernel": INPUT,
    "stem.norm.*": VECTOR,
    "blocks.*.shortcut.conv.kernel": HIDDEN,
    "blocks.*.shortcut.norm.*": VECTOR,
    "blocks.*.conv.kernel": Role("hidden", "inside"),
    "blocks.*.first.norm.*": Role("vector", "inside"),
    "blocks.*.second.norm.*": Role("vector", "end"),
    "output.kernel": Role("output", width_start=0.5),  # deviation 0.01
    "output.bias": FIXED,
}


class Block(nnx.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs):
        self.first = ConvNorm(inputs, outputs, 3, stride, rngs=rngs)
        self.second = ConvNorm(outputs, outputs, 3, scale=0.0, rngs=rngs)
        changes = inputs != outputs
        self.shortcut = (
            ConvNorm(inputs, outputs, 1, stride, rngs=rngs) if changes else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        past = x if self.shortcut is None else self.shortcut(x)
        return nnx.relu(self.second(nnx.relu(self.first(x))) + past)


class WideResNet(nnx.Module):
    """3x3 convolution, three stages of blocks, mean, linear."""

    def __init__(
        self,
        width: int,
        blocks_per_stage: int,
        input_channels: int,
        num_classes: int,
        rngs: nnx.Rngs,
    ):
        self.stem = ConvNorm(input_channels, width, 3, rngs=rngs)
        self.blocks = nnx.List()
        inputs = width
        for stage in range(3):
            for index in range(blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                outputs = width * 2**stage
                self.blocks.append(Block(inputs, outputs, stride, rngs))
                inputs = outputs
        self.output = Linear(inputs, num_classes, kernel_init=normal(0.01), rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.output(pool_everything(x))


def build(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    parametrization: str = "standard",
    base_width: int = 16,
    base_depth: int = 14,
) -> Model:
    """The network of that base width and depth; relu(0) = 0, so it may be padded.

    Args:
        width: channels of the first stage.
        depth: layers, 6k + 2.
        input_shape: [height, width, channels].
        num_classes: number of logits.
        parametrization: standard, mup or completep.
        base_width: at which mup and completep are the standard one.
        base_depth: likewise completep, in layers.

    Raises:
        UserError: a depth that is not 6k + 2, examples that are not images, or no such
            parametrisation.
    """
    if depth < 8 or depth % 6 != 2:
        raise UserError(
            f"grid.depths={depth}: a wide_resnet has 6k + 2 layers; choose 8, 14, 20, "
            "26, 32, 38, 44, ..."
        )
    check_images("wide_resnet", input_shape)
    blocks = depth // 6, base_depth // 6
    ratios = find_ratios("wide_resnet", parametrization, (width, base_width), blocks)
    model = from_nnx(
        lambda rngs: WideResNet(width, depth // 6, input_shape[-1], num_classes, rngs),
        can_be_padded=True,
    )
    return parametrize(model, ratios, ROLES)

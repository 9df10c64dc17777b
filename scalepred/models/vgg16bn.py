"""VGG-16 with BatchNorm for small images: `width` 64 is the published one.

Width is the channels of the first stage; the others and the two hidden linear layers
(8 times as many) scale with it, as in the paper (2.2). `depth` is 11, 13, 16 or 19.

Source: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks", ICLR 2015. For
32 pixels the 4,096 hidden units are 512, as usual, and nothing is dropped out; the
paper does not say which form it took.
"""

import jax
from flax import nnx

from scalepred.config import UserError
from scalepred.models.initializers import fan_out_normal_by_key
from scalepred.models.layers import ConvNorm, check_images, pool_everything
from scalepred.models.model import Model, from_nnx

# Convolutions of each stage, by depth; three linear layers follow.
_CONVS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_CHANNELS = (1, 2, 4, 8, 8)  # of each stage, in widths


class VGG(nnx.Module):
    """Stages of 3x3 convolutions with pooling between, then three linear layers."""

    def __init__(
        self,
        width: int,
        convs: tuple[int, ...],
        input_channels: int,
        num_classes: int,
        rngs: nnx.Rngs,
    ):
        self.stages = nnx.List()
        inputs = input_channels
        for num_convs, channels in zip(convs, _CHANNELS, strict=True):
            stage = nnx.List()
            for _ in range(num_convs):
                outputs = width * channels
                conv = ConvNorm(
                    inputs,
                    outputs,
                    3,
                    use_bias=True,
                    kernel_init=fan_out_normal_by_key,
                    rngs=rngs,
                )
                stage.append(conv)
                inputs = outputs
            self.stages.append(stage)
        self.hidden = nnx.List(
            [nnx.Linear(inputs, inputs, rngs=rngs) for _ in range(2)]
        )
        self.output = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        for stage in self.stages:
            for conv in stage:
                x = nnx.relu(conv(x))
            # Once a single pixel is left there is nothing to pool.
            if min(x.shape[1:3]) > 1:
                x = nnx.max_pool(x, (2, 2), (2, 2))
        x = pool_everything(x)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.output(x)


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The VGG of that width and depth; BatchNorm and relu may be padded.

    Raises:
        UserError: there is no VGG of that depth, or the inputs are not images.
    """
    if depth not in _CONVS:
        depths = ", ".join(map(str, _CONVS))
        raise UserError(f"grid.depths={depth}: vgg16bn has depths {depths}")
    check_images("vgg16bn", input_shape)
    return from_nnx(
        lambda rngs: VGG(width, _CONVS[depth], input_shape[-1], num_classes, rngs),
        can_be_padded=True,
    )

"""ConvNeXt, all blocks alike: `depth` of `width` channels over patches of 2x2 pixels.

Source: Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022, 3.3 (isotropic); without
layer scale, of 5x5 where images are small.
"""

import jax
from flax import nnx

from scalepred.models.layers import Conv, LayerNorm, Linear, check_images
from scalepred.models.model import Model, from_nnx


class Block(nnx.Module):
    def __init__(self, width: int, size: int, rngs: nnx.Rngs):
        self.depthwise = Conv(
            width, width, size, groups=width, use_bias=True, rngs=rngs
        )
        self.norm = LayerNorm(width)
        self.expand = Linear(width, 4 * width, rngs=rngs)
        self.contract = Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = self.expand(self.norm(self.depthwise(x)))
        return x + self.contract(nnx.gelu(hidden))


class ConvNeXt(nnx.Module):
    def __init__(
        self,
        width: int,
        depth: int,
        shape: tuple[int, ...],
        classes: int,
        rngs: nnx.Rngs,
    ):
        self.stem = Conv(shape[2], width, 2, 2, use_bias=True, rngs=rngs)
        size = 7 if shape[0] >= 32 else 5
        self.blocks = nnx.List([Block(width, size, rngs) for _ in range(depth)])
        self.norm = LayerNorm(width)
        self.output = Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x.mean((1, 2))))


def build(width: int, depth: int, shape: tuple[int, ...], classes: int) -> Model:
    check_images("convnext", shape)
    return from_nnx(
        lambda rngs: ConvNeXt(width, depth, shape, classes, rngs), can_be_padded=True
    )

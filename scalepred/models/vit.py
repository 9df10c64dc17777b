"""Vision transformer: `depth` pre-norm blocks of `width` features over 4x4 patches.

RMSNorm, heads of 16 features (one head where the width is smaller), a GELU layer of 4
`width` units, learned positions, no biases but the last; the mean over patches is
classified. As in the decoder of this package, weights start with variance 1 / fan-in,
those that write to the residual stream 1 / (2 depth fan-in), the output layer at zero.

Options: vit(parametrization='mup', base_width=64) or
vit(parametrization='completep', base_width=64, base_depth=4), see `parametrization.py`.

Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; mean in the
place of a class token, patches of 4 pixels for images of 32.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.config import UserError
from scalepred.models.initializers import normal
from scalepred.models.layers import (
    Linear,
    RMSNorm,
    TransformerBlock,
    check_images,
    cut_patches,
)
from scalepred.models.model import Model, from_nnx
from scalepred.models.parametrization import (
    BLOCK_ROLES,
    FIXED,
    INPUT,
    OUTPUT,
    VECTOR,
    find_ratios,
    parametrize,
)

_PATCH = 4  # pixels
_HEAD = 16  # features
ROLES = {
    "patches.kernel": INPUT,
    "positions": INPUT,
    **BLOCK_ROLES,
    "norm.scale": VECTOR,
    "output.kernel": OUTPUT,
    "output.bias": FIXED,
}


class VisionTransformer(nnx.Module):
    """Patches, blocks, norm, mean, linear."""

    def __init__(
        self,
        width: int,
        depth: int,
        input_shape: tuple[int, ...],
        num_classes: int,
        rngs: nnx.Rngs,
    ):
        height, breadth, channels = input_shape
        num_patches = height * breadth // _PATCH**2
        patch_size = _PATCH * _PATCH * channels
        self.patches = Linear(patch_size, width, use_bias=False, rngs=rngs)
        noise = normal(0.02)(rngs.params(), (num_patches, width))
        self.positions = nnx.Param(noise)
        head = min(_HEAD, width)
        self.blocks = nnx.List(
            [TransformerBlock(width, head, depth, rngs=rngs) for _ in range(depth)]
        )
        self.norm = RMSNorm(width)
        zeros = nnx.initializers.zeros
        self.output = Linear(width, num_classes, kernel_init=zeros, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = self.patches(cut_patches(x, _PATCH)) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.output(jnp.mean(self.norm(x), axis=1))


def build(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    parametrization: str = "standard",
    base_width: int = 64,
    base_depth: int = 4,
) -> Model:
    """The transformer of that width and depth.

    Zeros appended to it are heads that are zero, so from 16 features on it may be
    padded.

    Args:
        width: features; a multiple of 16, or a smaller number.
        depth: blocks.
        input_shape: [height, width, channels], both sides a multiple of 4 pixels.
        num_classes: number of logits.
        parametrization: standard, mup or completep.
        base_width: at which mup and completep are the standard one.
        base_depth: likewise completep.

    Raises:
        UserError: a width that heads do not fill, images that patches do not, or no
            such parametrisation.
    """
    ratios = find_ratios(
        "vit", parametrization, (width, base_width), (depth, base_depth)
    )
    check_images("vit", input_shape)
    height, breadth, _ = input_shape
    if width % _HEAD and width > _HEAD:
        raise UserError(
            f"grid.widths={width}: a vit has heads of {_HEAD} features; choose a "
            f"multiple of {_HEAD} or a smaller number"
        )
    if height % _PATCH or breadth % _PATCH:
        raise UserError(
            f"family='vit': images of {height} x {breadth} pixels are no whole number "
            f"of patches of {_PATCH}; choose a dataset of another size"
        )
    model = from_nnx(
        lambda rngs: VisionTransformer(width, depth, input_shape, num_classes, rngs),
        can_be_padded=width >= _HEAD,
    )
    return parametrize(model, ratios, ROLES)

"""Vision transformer: `depth` pre-norm blocks of `width` features over 4x4 patches.

RMSNorm, heads of 16 features (one head where the width is smaller), a GELU layer of 4
`width` units, learned positions, no biases but the last; the mean over patches is
classified. As in the decoder of this package, weights start with variance 1 / fan-in,
those that write to the residual stream 1 / (2 depth fan-in), the output layer at zero.

Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; mean in the
place of a class token, patches of 4 pixels for images of 32.
"""

import math

import jax
import jax.numpy as jnp

from scalepred.config import UserError
from scalepred.models.attention import attend
from scalepred.models.model import Model, Tree, Variables, draw_arrays, multiply
from scalepred.models.vision import check_images

_PATCH = 4  # pixels
_HEAD = 16  # features
_EPSILON = 1e-6


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The transformer of that width and depth.

    Zeros appended to it are heads that are zero, so from 16 features on it may be
    padded.

    Raises:
        UserError: a width that heads do not fill, or images that patches do not.
    """
    check_images("vit", input_shape)
    height, breadth, channels = input_shape
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
    head = min(_HEAD, width)
    heads = width // head
    num_patches = height * breadth // _PATCH**2
    patch_size = _PATCH * _PATCH * channels

    def init(key: jax.Array) -> Variables:
        to_stream = 1 / math.sqrt(2 * depth)
        block = {
            "attend": ((width, 3, heads, head), 1 / math.sqrt(width)),
            "project": ((heads, head, width), to_stream / math.sqrt(width)),
            "expand": ((width, 4 * width), 1 / math.sqrt(width)),
            "contract": ((4 * width, width), to_stream / math.sqrt(4 * width)),
        }
        patches = ((patch_size, width), 1 / math.sqrt(patch_size))
        positions = ((num_patches, width), 0.02)
        every = [patches, positions, *[*block.values()] * depth]
        drawn = draw_arrays(jax.random.normal, key, [shape for shape, _ in every])
        arrays = iter(
            [noise * scale for noise, (_, scale) in zip(drawn, every, strict=True)]
        )
        params: Tree = {"patches": next(arrays), "positions": next(arrays)}
        for index in range(depth):
            params[f"block{index}"] = {
                **{name: next(arrays) for name in block},
                "norm1": jnp.ones(width),
                "norm2": jnp.ones(width),
            }
        params["norm"] = jnp.ones(width)
        params["output"] = {
            "kernel": jnp.zeros((width, num_classes)),
            "bias": jnp.zeros(num_classes),
        }
        # Carried along, as a padded lane does not know its true width otherwise.
        return Variables(params, {"width": jnp.float32(width)})

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        del train, key  # nothing random
        stream = multiply(_cut_patches(x), params["patches"]) + params["positions"]
        true_width = state["width"].astype(stream.dtype)
        for index in range(depth):
            block = params[f"block{index}"]
            normed = _normalise(stream, block["norm1"], true_width)
            qkv = jnp.moveaxis(multiply(normed, block["attend"]), 2, 0)
            read = attend(*qkv).reshape(stream.shape)
            stream += multiply(read, block["project"].reshape(width, width))
            normed = _normalise(stream, block["norm2"], true_width)
            hidden = jax.nn.gelu(multiply(normed, block["expand"]))
            stream += multiply(hidden, block["contract"])
        pooled = jnp.mean(_normalise(stream, params["norm"], true_width), axis=1)
        return pooled @ params["output"]["kernel"] + params["output"]["bias"], state

    return Model(init, apply, can_be_padded=head == _HEAD)


def _cut_patches(x: jax.Array) -> jax.Array:
    """[batch, height, width, channels] -> [batch, patches, 4 x 4 x channels]."""
    batch, height, width, channels = x.shape
    rows, columns = height // _PATCH, width // _PATCH
    x = x.reshape(batch, rows, _PATCH, columns, _PATCH, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def _normalise(x: jax.Array, scale: jax.Array, true_width: jax.Array) -> jax.Array:
    """RMSNorm over the true features; those of padding are zero and stay so."""
    mean_square = jnp.sum(jnp.square(x), axis=-1, keepdims=True) / true_width
    return x * jax.lax.rsqrt(mean_square + _EPSILON) * scale

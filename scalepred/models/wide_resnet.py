"""Residual network for small images: depth 6k + 2, stages of `width`, 2x and 4x.

The paper's WRN-44-16 (Rosenfeld et al. 2020, section 3) is depth 44, width 16, with
661,338 parameters for ten classes; width is the base number of channels, 16 is no
widening factor. A stage has k blocks of two 3x3 convolutions, each with BatchNorm; the
shortcut into stages two and three is a 1x1 convolution with BatchNorm.

Source: He et al. 2016, section 4.2, with projections; starts as in the code the paper
builds on: weights normal with variance 2 / (k^2 out), the last scale of a block zero,
the output layer's weights with deviation 0.01.
"""

import math

import jax
import jax.numpy as jnp

from scalepred.config import UserError
from scalepred.models.convolution import convolve
from scalepred.models.model import Model, Tree, Variables, draw_arrays

_MOMENTUM = 0.9  # of the averages that evaluation uses
_EPSILON = 1e-5


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The network of that base width and depth; relu(0) = 0, so it may be padded.

    Raises:
        UserError: a depth that is not 6k + 2, or examples that are not images.
    """
    if depth < 8 or depth % 6 != 2:
        raise UserError(
            f"grid.depths={depth}: a wide_resnet has 6k + 2 layers; choose 8, 14, 20, "
            "26, 32, 38, 44, ..."
        )
    if len(input_shape) != 3:
        raise UserError(
            f"family=wide_resnet: takes images [height, width, channels], not examples "
            f"of shape {input_shape}; choose another family or dataset"
        )
    num_blocks = depth // 6
    widths = (width, 2 * width, 4 * width)

    def init(key: jax.Array) -> Variables:
        kernels: Tree = {"stem": (3, 3, input_shape[-1], width)}
        before = width
        for stage, after in enumerate(widths):
            for block in range(num_blocks):
                name = f"stage{stage}_block{block}"
                kernels[f"{name}_first"] = (3, 3, before, after)
                kernels[f"{name}_second"] = (3, 3, after, after)
                if before != after:
                    kernels[f"{name}_shortcut"] = (1, 1, before, after)
                before = after
        params, state = {}, {}
        shapes = [*kernels.values(), (before, num_classes)]
        *drawn, last = draw_arrays(jax.random.normal, key, shapes)
        for (name, shape), noise in zip(kernels.items(), drawn, strict=True):
            variance = 2 / (shape[0] * shape[1] * shape[3])
            ones = jnp.ones(shape[3])
            params[name] = {
                "kernel": noise * math.sqrt(variance),
                "scale": 0 * ones if name.endswith("second") else ones,
                "bias": 0 * ones,
            }
            state[name] = {"mean": 0 * ones, "variance": ones}
        params["output"] = {
            "kernel": 0.01 * last,
            "bias": jnp.zeros(num_classes),
        }
        return Variables(params, state)

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        del key  # nothing random
        after: Tree = {}

        def layer(name: str, x: jax.Array, stride: int = 1) -> jax.Array:
            x = convolve(x, params[name]["kernel"], stride)
            x, after[name] = _normalise(params[name], state[name], x, train)
            return x

        x = jax.nn.relu(layer("stem", x))
        for stage in range(3):
            for block in range(num_blocks):
                name = f"stage{stage}_block{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                has_shortcut = f"{name}_shortcut" in params
                shortcut = layer(f"{name}_shortcut", x, stride) if has_shortcut else x
                x = jax.nn.relu(layer(f"{name}_first", x, stride))
                x = jax.nn.relu(layer(f"{name}_second", x) + shortcut)
        pooled = jnp.mean(x, axis=(1, 2))
        return pooled @ params["output"]["kernel"] + params["output"]["bias"], after

    return Model(init, apply, can_be_padded=True)


def _normalise(
    params: Tree, state: Tree, x: jax.Array, train: bool
) -> tuple[jax.Array, Tree]:
    """BatchNorm: by the batch in training, by the averages in evaluation."""
    if train:
        wide = x.astype(state["mean"].dtype)
        mean = jnp.mean(wide, axis=(0, 1, 2))
        variance = jnp.mean(jnp.square(wide - mean), axis=(0, 1, 2))
        batch = {"mean": mean, "variance": variance}
        state = jax.tree.map(
            lambda old, new: _MOMENTUM * old + (1 - _MOMENTUM) * new, state, batch
        )
    else:
        mean, variance = state["mean"], state["variance"]
    factor = params["scale"] * jax.lax.rsqrt(variance + _EPSILON)
    shift = params["bias"] - mean * factor
    return x * factor.astype(x.dtype) + shift.astype(x.dtype), state

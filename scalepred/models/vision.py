"""What the convolutional families share: convolution with BatchNorm, pooling."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.config import UserError
from scalepred.models.convolution import convolve

# Of the running mean and variance, as in the code the paper builds on.
_NORM_MOMENTUM = 0.9


class Conv(nnx.Module):
    """A square convolution that keeps the size, but for its stride."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int,
        rngs: nnx.Rngs,
        use_bias: bool = False,
    ):
        # Variance 2 / (what an input feeds into), He's for relu.
        deviation = math.sqrt(2 / (size * size * outputs))
        noise = jax.random.normal(rngs.params(), (size, size, inputs, outputs))
        self.kernel = nnx.Param(noise * deviation)
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        x = convolve(x, self.kernel[...], self.stride)
        return x if self.bias is None else x + self.bias[...]


class ConvNorm(nnx.Module):
    """A convolution and BatchNorm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int,
        rngs: nnx.Rngs,
        norm_scale: float = 1.0,
        use_bias: bool = False,
    ):
        self.conv = Conv(inputs, outputs, size, stride, rngs, use_bias)
        self.norm = batch_norm(outputs, rngs, norm_scale)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


def batch_norm(channels: int, rngs: nnx.Rngs, scale: float = 1.0) -> nnx.BatchNorm:
    """BatchNorm with PyTorch's momentum, begun at a scale."""
    return nnx.BatchNorm(
        channels,
        momentum=_NORM_MOMENTUM,
        scale_init=nnx.initializers.constant(scale),
        rngs=rngs,
    )


def pool_everything(x: jax.Array) -> jax.Array:
    """Mean over height and width: [batch, height, width, c] -> [batch, c]."""
    return jnp.mean(x, axis=(1, 2))


def check_images(family: str, input_shape: tuple[int, ...]) -> None:
    """Convolutions need [height, width, channels].

    Raises:
        UserError: the dataset has something else.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"family={family!r}: needs images [height, width, channels], but the "
            f"dataset has examples of shape {input_shape}; choose another of them"
        )

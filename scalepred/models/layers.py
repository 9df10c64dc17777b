"""The layers that every family is built of: flax's own, but for three differences.

Products and convolutions have the form that the device at hand is fast at. All first
weights of a network are drawn in one call (see `initializers.py`). And norms are exact
under zero padding: they carry how many of their features are real (`TrueWidth`), so
that a narrow model inside a wide one trains as if it were alone (see
`training/padding.py`).

All parameters are float32 and are used in the precision of the input. A layer of flax
that is not here (`nnx.Dropout`, `nnx.max_pool`, `nnx.GroupNorm`) may stand beside them.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.config import UserError
from scalepred.models.attention import attend
from scalepred.models.convolution import conv_general_dilated
from scalepred.models.initializers import fan_in_normal, fan_out_normal
from scalepred.models.product import dot_general, multiply

_FAN_IN, _FAN_OUT = fan_in_normal(), fan_out_normal()
# What products with weights are multiplied by; None: nothing.
Gain = jax.Array | float | None


class Linear(nnx.Linear):
    """x W + b over the last axis; W starts with variance 1 / inputs, b at zero."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        use_bias: bool = True,
        gain: float | None = None,
        kernel_init: nnx.Initializer = _FAN_IN,
        rngs: nnx.Rngs,
    ):
        """Makes the layer.

        Args:
            inputs: features before.
            outputs: features after.
            use_bias: whether there is b.
            gain: what x W is multiplied by (not b), as the maximal-update
                parametrisation does; None: nothing.
            kernel_init: of W [inputs, outputs].
            rngs: of flax's initialisers.
        """
        super().__init__(
            inputs,
            outputs,
            use_bias=use_bias,
            kernel_init=kernel_init,
            dot_general=functools.partial(dot_general, gain=gain),
            rngs=rngs,
        )


class Conv(nnx.Conv):
    """A square convolution with zeros around the image; no bias unless asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        *,
        groups: int = 1,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = _FAN_OUT,
        rngs: nnx.Rngs,
    ):
        """Makes the layer.

        Args:
            inputs: channels before.
            outputs: channels after.
            size: height and width of the kernel.
            stride: in both directions; the size after is ceil(size before / stride).
            groups: of channels that see only one another; `inputs`: depthwise.
            use_bias: whether a number is added to each channel.
            kernel_init: of the kernel [size, size, inputs / groups, outputs].
            rngs: of flax's initialisers.
        """
        super().__init__(
            inputs,
            outputs,
            (size, size),
            stride,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=kernel_init,
            conv_general_dilated=conv_general_dilated,
            rngs=rngs,
        )
        if use_bias:  # flax would take a key for these zeros
            self.use_bias, self.bias = True, nnx.Param(jnp.zeros(outputs))


class BatchNorm(nnx.BatchNorm):
    """BatchNorm over all axes but the last, with PyTorch's momentum and epsilon.

    One product and one sum an element; statistics in the precision of the averages,
    which is float32 where the input has 16 bits.
    """

    def __init__(self, features: int, *, scale: float = 1.0, rngs: nnx.Rngs):
        """Makes the layer.

        Args:
            features: size of the last axis.
            scale: what the normed input is multiplied by at the start.
            rngs: of flax's initialisers.
        """
        super().__init__(
            features,
            momentum=0.9,
            epsilon=1e-5,
            use_fast_variance=False,
            scale_init=nnx.initializers.constant(scale),
            rngs=rngs,
        )

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - no mask
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        assert self.scale is not None
        assert self.bias is not None
        mean, variance = self.mean[...], self.var[...]
        if use_running_average is None:
            use_running_average = self.use_running_average
        if not use_running_average:
            axes = tuple(range(x.ndim - 1))
            wide = x.astype(mean.dtype)
            batch_mean = jnp.mean(wide, axis=axes)
            batch_variance = jnp.mean(jnp.square(wide - batch_mean), axis=axes)
            # `mean[...] = ` would look through the whole trace, for the sharding.
            self.mean.set_value(self._move(mean, batch_mean))
            self.var.set_value(self._move(variance, batch_variance))
            mean, variance = batch_mean, batch_variance
        factor = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        shift = self.bias[...] - mean * factor
        return x * factor.astype(x.dtype) + shift.astype(x.dtype)

    def _move(self, old: jax.Array, new: jax.Array) -> jax.Array:
        return self.momentum * old + (1 - self.momentum) * new


class ConvNorm(nnx.Module):
    """A convolution and BatchNorm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        *,
        scale: float = 1.0,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = _FAN_OUT,
        rngs: nnx.Rngs,
    ):
        """Makes both; see `Conv`, and `BatchNorm` of `scale`."""
        self.conv = Conv(
            inputs,
            outputs,
            size,
            stride,
            use_bias=use_bias,
            kernel_init=kernel_init,
            rngs=rngs,
        )
        self.norm = BatchNorm(outputs, scale=scale, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class TrueWidth(nnx.BatchStat):
    """How many features are real, a float32 that padding leaves as it is.

    It is state and not a number of the program, as models of several widths may share
    a program.
    """


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + 1e-6) times a scale, over the true features.

    Source: B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", NeurIPS
    2019. Features of padding are zero and stay so.
    """

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.width = TrueWidth(jnp.float32(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        width = self.width[...].astype(x.dtype)
        mean_square = jnp.sum(jnp.square(x), axis=-1, keepdims=True) / width
        return x * jax.lax.rsqrt(mean_square + 1e-6) * self.scale[...]


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + 1e-6) times a scale, plus a bias; true features.

    Source: J. L. Ba et al., "Layer Normalization", 2016. `nnx.LayerNorm` would count
    features of padding.
    """

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.width = TrueWidth(jnp.float32(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        width = self.width[...].astype(x.dtype)
        # Before the sum too, else padding, though it is zero, would have a gradient.
        is_real = jnp.arange(x.shape[-1]) < width
        mean = jnp.sum(jnp.where(is_real, x, 0), axis=-1, keepdims=True) / width
        x = jnp.where(is_real, x - mean, 0)
        variance = jnp.sum(jnp.square(x), axis=-1, keepdims=True) / width
        x *= jax.lax.rsqrt(variance + 1e-6)
        return x * self.scale[...] + self.bias[...]


class Attention(nnx.Module):
    """Softmax attention of positions to one another, in heads; no biases.

    Appended zeros are heads that are zero, so it may be padded by whole heads.

    Source: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, 3.2.
    """

    def __init__(
        self,
        features: int,
        head: int,
        *,
        is_causal: bool = False,
        is_rotary: bool = False,
        kernel_init: nnx.Initializer | None = None,
        out_init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ):
        """Makes the layer.

        Args:
            features: before and after, a multiple of `head`.
            head: features of a head; even, if rotary.
            is_causal: whether positions see only themselves and those before.
            is_rotary: whether queries and keys are turned by their positions (J. Su
                et al., "RoFormer", 2021).
            kernel_init: of queries, keys and values [features, 3, heads, head]; None:
                variance 1 / features.
            out_init: of the product after [heads, head, features]; likewise.
            rngs: of flax's initialisers.
        """
        start = fan_in_normal(fan_in=features)
        heads = features // head
        shape = (features, 3, heads, head)
        self.qkv = nnx.Param((kernel_init or start)(rngs.params(), shape))
        shape = (heads, head, features)
        self.out = nnx.Param((out_init or start)(rngs.params(), shape))
        self.is_causal, self.is_rotary = is_causal, is_rotary

    def __call__(
        self, x: jax.Array, gain: jax.Array | float | None = None
    ) -> jax.Array:
        """Attends.

        Args:
            x: [batch, positions, features].
            gain: what both products with weights are multiplied by; None: nothing.

        Returns:
            [batch, positions, features].
        """
        qkv = multiply(x, self.qkv[...])
        queries, keys, values = jnp.moveaxis(qkv if gain is None else qkv * gain, 2, 0)
        if self.is_rotary:
            queries, keys = rotate(queries), rotate(keys)
        is_seen = None
        if self.is_causal:
            is_seen = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        read = attend(queries, keys, values, is_seen).reshape(x.shape)
        read = multiply(read, self.out[...].reshape(x.shape[-1], -1))
        return read if gain is None else read * gain


def rotate(x: jax.Array) -> jax.Array:
    """Rotary positions: pairs of features turned by angles 10000^(-i/pairs) t.

    Args:
        x: [batch, time, heads, features], features even.

    Returns:
        The same shape.

    Source: J. Su et al., "RoFormer", 2021, equation 34.
    """
    positions, pairs = x.shape[1], x.shape[-1] // 2
    speed = 10000.0 ** (-jnp.arange(pairs) / pairs)
    angle = (jnp.arange(positions)[:, None] * speed)[:, None, :]  # [time, 1, pairs]
    cosine, sine = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :pairs], x[..., pairs:]
    turned = first * cosine - second * sine, first * sine + second * cosine
    return jnp.concatenate(turned, axis=-1)


class TransformerBlock(nnx.Module):
    """x + attention(norm(x)), then x + contract(gelu(expand(norm(x)))); RMSNorm.

    The GELU layer has 4 `features` units. There are no biases. Weights start with
    variance 1 / fan-in, but those that write to the stream with 1 / (2 depth fan-in).
    """

    def __init__(
        self,
        features: int,
        head: int,
        depth: int,
        *,
        start_gain: float = 1.0,
        is_causal: bool = False,
        is_rotary: bool = False,
        rngs: nnx.Rngs,
    ):
        """Makes the block.

        Args:
            features: of the stream.
            head: features of a head.
            depth: blocks of the network.
            start_gain: what all weights are multiplied by at the start.
            is_causal: see `Attention`.
            is_rotary: see `Attention`.
            rngs: of flax's initialisers.
        """
        to_stream = start_gain / (2 * depth) ** 0.5
        self.norm1 = RMSNorm(features)
        self.attention = Attention(
            features,
            head,
            is_causal=is_causal,
            is_rotary=is_rotary,
            kernel_init=fan_in_normal(start_gain),
            out_init=fan_in_normal(to_stream, features),
            rngs=rngs,
        )
        self.norm2 = RMSNorm(features)
        inner = 4 * features
        self.expand = Linear(
            features,
            inner,
            use_bias=False,
            kernel_init=fan_in_normal(start_gain),
            rngs=rngs,
        )
        self.contract = Linear(
            inner,
            features,
            use_bias=False,
            kernel_init=fan_in_normal(to_stream),
            rngs=rngs,
        )

    def __call__(
        self, x: jax.Array, gain: jax.Array | float | None = None
    ) -> jax.Array:
        """The stream after the block [batch, positions, features].

        Args:
            x: the stream before.
            gain: what all products with weights are multiplied by; None: nothing.
        """
        x += self.attention(self.norm1(x), gain)
        hidden = self.expand(self.norm2(x))
        hidden = nnx.gelu(hidden if gain is None else hidden * gain)
        written = self.contract(hidden)
        return x + (written if gain is None else written * gain)


class Embedding(nnx.Module):
    """Tokens to vectors; tied, also vectors to scores of tokens by the same table."""

    def __init__(
        self,
        vocabulary_size: int,
        features: int,
        *,
        init: nnx.Initializer,
        is_tied: bool = False,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        """Makes the layer.

        Args:
            vocabulary_size: tokens.
            features: of a vector.
            init: of the table [vocabulary_size, features].
            is_tied: whether there are scores, which have a bias.
            dropout: share of the tokens that are zero in a step, wherever they stand.
            rngs: of flax's initialisers.
        """
        self.table = nnx.Param(init(rngs.params(), (vocabulary_size, features)))
        self.bias = nnx.Param(jnp.zeros(vocabulary_size)) if is_tied else None
        self.dropout = nnx.Dropout(dropout, broadcast_dims=(1,)) if dropout else None

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Vectors [batch, positions, features] of tokens [batch, positions]."""
        table = self.table[...]
        if self.dropout is not None:
            table = self.dropout(table, rngs=rngs)
        return table[tokens.astype(jnp.int32)]

    def score(self, x: jax.Array) -> jax.Array:
        """Logits [batch, positions, vocabulary_size], if tied."""
        assert self.bias is not None, "an embedding that is not tied has no scores"
        return multiply(x, self.table[...].T) + self.bias[...]


def cut_patches(x: jax.Array, size: int) -> jax.Array:
    """Squares of an image, row by row, each as one vector.

    Args:
        x: [batch, height, width, channels], both sides a multiple of `size`.
        size: of a square, pixels.

    Returns:
        [batch, squares, size * size * channels].
    """
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x.reshape(batch, rows, size, columns, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


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
            f"family={family!r}: takes images [height, width, channels], but the "
            f"dataset has examples of shape {input_shape}; choose another of them"
        )


def check_tokens(family: str, input_shape: tuple[int, ...]) -> None:
    """Language models read windows [positions] of tokens.

    Raises:
        UserError: the dataset has something else.
    """
    if len(input_shape) != 1:
        raise UserError(
            f"family={family!r}: takes windows of tokens [positions], but the dataset "
            f"has examples of shape {input_shape}; choose a text such as ptb or stdlib"
        )

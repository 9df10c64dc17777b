"""Convolution in the form that the device at hand is fast at.

XLA for the CPU rewrites convolutions to what its fast kernels take only outside of
loops. The forward pass of an NHWC convolution is in that form already; its two
derivatives are not, and in the loop over steps they take twenty times as long. So
here they are written in it: all three are NHWC, HWIO -> NHWC. Of few channels these
kernels make little; there a matrix product of the image's patches is up to nine times
as fast.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from scalepred.models import target

# canonical: as above; native: XLA's own derivatives; patches: a matrix product.
FORMS = ("canonical", "native", "patches")
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_FEW_CHANNELS = 4


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1
) -> jax.Array:
    """Convolution with zeros around the image ("SAME"), in the form of `traced_as`.

    auto: native, but on a CPU canonical, or patches where channels are few. One of
    groups is native, but on a CPU, if depthwise, a sum of shifted images.

    Args:
        x: [batch, height, width, channels].
        kernel: [height, width, channels / groups, channels after].
        stride: in both directions.
        groups: of channels that see only one another; `channels` of them: depthwise.

    Returns:
        [batch, ceil(height / stride), ceil(width / stride), channels after].
    """
    form = target.convolution_form()
    if groups > 1:
        is_depthwise = groups == x.shape[-1] == kernel.shape[-1]
        if is_depthwise and target.is_cpu() and form != "native":
            return _convolve_depthwise(x, kernel, stride)
        padding = _same(x, kernel, stride)
        return _convolve(x, kernel, padding, strides=stride, groups=groups)
    if form == "auto":
        form = "native"
        if target.is_cpu():
            few = kernel.shape[2] <= _FEW_CHANNELS
            form = "patches" if few else "canonical"
    if kernel.shape[:2] == (1, 1):
        return _every(x, stride) @ kernel[0, 0]
    if form == "patches":
        return _convolve_patches(x, kernel, stride)
    if form == "native":
        return _convolve(x, kernel, _same(x, kernel, stride), strides=stride)
    return _convolve_canonical(x, kernel, stride)


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    **kwargs: Any,
) -> jax.Array:
    """`convolve` with the arguments of `jax.lax.conv_general_dilated`, for `nnx.Conv`.

    What `convolve` does not do (other padding, dilation, other strides in the two
    directions, images of one or three dimensions) is XLA's own convolution.
    """
    dilations = {*(lhs_dilation or ()), *(rhs_dilation or ())}
    is_ours = x.ndim == 4 and padding == "SAME" and dilations <= {1}
    if is_ours and len({*window_strides}) == 1:
        return convolve(x, kernel, window_strides[0], feature_group_count)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
        **kwargs,
    )


def _every(x: jax.Array, stride: int) -> jax.Array:
    """The pixels that a convolution with a single tap looks at.

    XLA's compiler for GPUs (jaxlib 0.10.2) aborts where it would read only these in
    the matrix product itself: "subdim_size_accumulator == dim_size".
    """
    if stride == 1:
        return x
    return jax.lax.optimization_barrier(x[:, ::stride, ::stride])


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    padding: list[tuple[int, int]],
    *,
    strides: int = 1,
    dilate_x: int = 1,
    dilate_kernel: int = 1,
    groups: int = 1,
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        padding,
        lhs_dilation=(dilate_x, dilate_x),
        rhs_dilation=(dilate_kernel, dilate_kernel),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def _same(x: jax.Array, kernel: jax.Array, stride: int) -> list[tuple[int, int]]:
    """Zeros before and after the image in each direction."""
    padding = []
    for size, taps in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        missing = max((-(-size // stride) - 1) * stride + taps - size, 0)
        padding.append((missing // 2, missing - missing // 2))
    return padding


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_canonical(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return _convolve(x, kernel, _same(x, kernel, stride), strides=stride)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_canonical(x, kernel, stride), (x, kernel)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Derivatives with respect to image and kernel.

    The image's is a convolution of dy, spread out by the stride, with the kernel
    turned round; the kernel's is one of the image, with channels in the place of the
    batch, with dy, spread out. Where the last rows of the image met no tap, the
    padding after it is negative.
    """
    x, kernel = saved
    for_x, for_kernel = [], []
    before = [pair[0] for pair in _same(x, kernel, stride)]
    sizes = zip(x.shape[1:3], kernel.shape[:2], dy.shape[1:3], before, strict=True)
    for size, taps, size_after, first in sizes:
        reach = (size_after - 1) * stride
        for_x.append((taps - 1 - first, size - 1 - reach + first))
        for_kernel.append((first, taps + reach - size - first))
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = _convolve(dy, turned, for_x, dilate_x=stride)
    dkernel = _convolve(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        for_kernel,
        dilate_kernel=stride,
    )
    return dx, dkernel.transpose(1, 2, 0, 3)


_convolve_canonical.defvjp(_forward, _backward)


def _convolve_patches(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The image once for each tap, side by side, times the kernel as a matrix."""
    height, width = (-(-size // stride) for size in x.shape[1:3])
    padded = jnp.pad(x, [(0, 0), *_same(x, kernel, stride), (0, 0)])
    shifted = [
        padded[:, down : down + (height - 1) * stride + 1 : stride][
            :, :, right : right + (width - 1) * stride + 1 : stride
        ]
        for down in range(kernel.shape[0])
        for right in range(kernel.shape[1])
    ]
    patches = jnp.concatenate(shifted, axis=-1)
    flat = _multiply(
        patches.reshape(-1, patches.shape[-1]), kernel.reshape(-1, kernel.shape[-1])
    )
    return flat.reshape(*patches.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The sum of shifted images, one for each tap, times the tap's number a channel.

    A loop over taps: all of them in one expression take as fast a step, but a 7x7
    kernel four times as long to compile.
    """
    padded = jnp.pad(x, [(0, 0), *_same(x, kernel, stride), (0, 0)])
    sizes = tuple(-(-size // stride) for size in x.shape[1:3])
    return _add_taps(padded, kernel, sizes, stride)


def _add_taps(
    x: jax.Array, kernel: jax.Array, sizes: Sequence[int], stride: int
) -> jax.Array:
    """The depthwise convolution of an image that has its zeros around it."""
    taps = kernel.reshape(-1, kernel.shape[-1])

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        place = divmod(index, kernel.shape[1])
        return total + _look(x, place, sizes, stride) * taps[index]

    nothing = jnp.zeros((len(x), *sizes, x.shape[-1]), x.dtype)
    return jax.lax.fori_loop(0, len(taps), add, nothing)


def _look(x: jax.Array, place: Any, sizes: Sequence[int], stride: int) -> jax.Array:
    """What the tap at this row and column of a kernel sees of a padded image."""
    reach = [(size - 1) * stride + 1 for size in sizes]
    start = (0, *place, 0)
    seen = jax.lax.dynamic_slice(x, start, (len(x), *reach, x.shape[-1]))
    return seen[:, ::stride, ::stride]


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(
    stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `_backward`; here the image's derivative too is a sum of shifted dy."""
    x, kernel = saved
    padding = _same(x, kernel, stride)
    for_x = [(0, 0, 0)]
    sizes = zip(x.shape[1:3], kernel.shape[:2], dy.shape[1:3], padding, strict=True)
    for size, taps, size_after, (first, _) in sizes:
        after = size - 1 - (size_after - 1) * stride + first
        for_x.append((taps - 1 - first, after, stride - 1))
    spread = jax.lax.pad(dy, jnp.zeros((), dy.dtype), [*for_x, (0, 0, 0)])
    dx = _add_taps(spread, kernel[::-1, ::-1], x.shape[1:3], 1)

    padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])

    def sum_tap(index: jax.Array) -> jax.Array:
        place = divmod(index, kernel.shape[1])
        return jnp.sum(_look(padded, place, dy.shape[1:3], stride) * dy, axis=(0, 1, 2))

    places = jnp.arange(kernel.shape[0] * kernel.shape[1])
    return dx, jax.lax.map(sum_tap, places).reshape(kernel.shape)


_convolve_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


@jax.custom_vjp
def _multiply(patches: jax.Array, kernel: jax.Array) -> jax.Array:
    """[places, taps x channels] times [taps x channels, channels after]."""
    return patches @ kernel


def _multiply_forward(
    patches: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return patches @ kernel, (patches, kernel)


def _multiply_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The kernel's with its few rows first, which takes a CPU less than half as long.

    XLA would turn the product round again.
    """
    patches, kernel = saved
    return dy @ kernel.T, jax.lax.optimization_barrier(dy.T @ patches).T


_multiply.defvjp(_multiply_forward, _multiply_backward)

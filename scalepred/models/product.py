"""Products of activations and weights, in the form that the device is fast at."""

from typing import Any

import jax
import jax.numpy as jnp

from scalepred.models import target

# Turning a factor costs little beside a product of few multiplications or many rows.
_FEW_MULTIPLICATIONS = 1e6
_MANY_ROWS = 256


def multiply(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The product along x's last axis, as one of two matrices.

    XLA cuts the derivatives of a product of more axes up in ways that take a fifth
    longer, in the whole step of a decoder on a CPU.

    Args:
        x: [..., inputs].
        weights: [inputs, ...].

    Returns:
        The axes of x but the last, then those of the weights but the first.
    """
    rows, matrix = x.reshape(-1, len(weights)), weights.reshape(len(weights), -1)
    is_small = len(rows) * matrix.size <= _FEW_MULTIPLICATIONS
    is_worth = is_small or len(rows) >= _MANY_ROWS
    form = _multiply_turned if is_worth and target.is_cpu() else jnp.dot
    return form(rows, matrix).reshape(*x.shape[:-1], *weights.shape[1:])


def dot_general(
    x: jax.Array,
    weights: jax.Array,
    dimension_numbers: Any,
    *args: Any,
    gain: float | None = None,
    **kwargs: Any,
) -> jax.Array:
    """`multiply` with the arguments of `jax.lax.dot_general`, as flax's layers call it.

    Args:
        x: [..., inputs].
        weights: [inputs, outputs].
        dimension_numbers: which axes are summed over; for others than x's last and
            the first of the weights, or with a precision, it is XLA's own product.
        args: as of `jax.lax.dot_general`.
        gain: what the product is multiplied by; None: nothing.
        kwargs: as of `jax.lax.dot_general`.
    """
    is_plain = dimension_numbers == (((x.ndim - 1,), (0,)), ((), ()))
    if is_plain and kwargs.get("precision") is None:
        product = multiply(x, weights)
    else:
        product = jax.lax.dot_general(x, weights, dimension_numbers, *args, **kwargs)
    return product if gain is None else product * gain


@jax.custom_vjp
def _multiply_turned(x: jax.Array, weights: jax.Array) -> jax.Array:
    """A product of two matrices, for a CPU.

    For the derivative by the weights the smaller factor is turned first. XLA would
    read one along its columns, with another kernel: a fifth more time for a whole step
    of an MLP of few units, a twentieth for one of a decoder.
    """
    return x @ weights


def _multiply_forward(
    x: jax.Array, weights: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ weights, (x, weights)


def _multiply_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weights = saved
    if x.shape[1] <= dy.shape[1]:
        dweights = jax.lax.optimization_barrier(x.T) @ dy
    else:
        rows = jax.lax.optimization_barrier(dy.T)
        dweights = jax.lax.optimization_barrier(rows @ x).T
    return dy @ weights.T, dweights


_multiply_turned.defvjp(_multiply_forward, _multiply_backward)

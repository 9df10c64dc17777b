"""FLOPs of a function, counted from its jaxpr: every round of every loop.

The convention:

- A product of matrices or a convolution takes 2 FLOPs a multiply-add (Kaplan et al.
  2020, "Scaling Laws for Neural Language Models", 2.1). The zeros around an image are
  not multiplied, as in XLA's own count; with them a 3x3 convolution of 8x8 pixels has
  19 % more, one of 32x32 pixels 4 %. All scores of a causal attention are computed,
  so all are counted.
- Arithmetic on floating-point numbers takes one FLOP an element: of the result, of
  what a reduction reads, of every window of a pooling. So does exp or tanh.
- Moves are free: copies, gathers (an embedding), changes of type, comparisons,
  choices, whole numbers.
- A scan takes its body's FLOPs times its length; of a branch the larger side counts.
- A training step is three forward passes: forward, and twice as much backward
  (Kaplan et al., 2.1). What is computed again to save memory is not counted.

XLA's cost analysis takes the body of a loop once, whatever its length: an LSTM over
35 words has two thirds of its products in there.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from scalepred.config import UserError

# Their function is called once, with its arguments.
_CALLS = {
    "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "jit", "pjit", "remat", "remat2",
}  # fmt: skip
# Nothing is computed.
_FREE = {
    "bitcast_convert_type", "broadcast_in_dim", "concatenate", "convert_element_type",
    "copy", "copy_p", "device_put", "dynamic_slice", "dynamic_update_slice", "gather",
    "iota", "name", "optimization_barrier", "pad", "reduce_precision", "reshape",
    "rev", "scatter", "select_n", "sharding_constraint", "slice", "sort", "split",
    "squeeze", "stop_gradient", "top_k", "transpose",
}  # fmt: skip
# These take more than an element's worth, and how much is not said here.
_UNKNOWN = {
    "cholesky", "custom_linear_solve", "eig", "eigh", "ffi_call", "fft", "householder_"
    "product", "lu", "pallas_call", "qr", "ragged_dot_general", "schur", "shard_map",
    "svd", "triangular_solve", "tridiagonal", "tridiagonal_solve",
}  # fmt: skip


class Flops(NamedTuple):
    """Of one call."""

    products: int  # of matrices, and convolutions
    others: int

    @property
    def total(self) -> int:
        """Both."""
        return self.products + self.others

    def plus(self, other: "Flops", times: int = 1) -> "Flops":
        """And so many times the other."""
        return Flops(
            self.products + times * other.products, self.others + times * other.others
        )


_NOTHING = Flops(0, 0)


def count(function: Callable[..., Any], *args: Any) -> Flops:
    """FLOPs of a call; nothing is compiled or computed.

    Args:
        function: what jax can trace.
        args: arrays, or shapes with dtypes in their place.

    Raises:
        UserError: it has a loop of unknown length, or a part that nobody can look into.
    """
    return count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def count_jaxpr(jaxpr: core.Jaxpr) -> Flops:
    """FLOPs of one call of a traced function; raises as `count`."""
    found = _NOTHING
    for eqn in jaxpr.eqns:
        found = found.plus(_count_equation(eqn))
    return found


def _count_equation(eqn: Any) -> Flops:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        inner = math.prod(shape[axis] for axis in contracted)
        return Flops(2 * inner * _size(eqn.outvars[0]), 0)
    if name == "conv_general_dilated":
        return Flops(2 * _count_multiplications(eqn), 0)
    if name == "scan":
        return _NOTHING.plus(count_jaxpr(params["jaxpr"].jaxpr), params["length"])
    if name == "while":
        once = count_jaxpr(params["body_jaxpr"].jaxpr)
        once = once.plus(count_jaxpr(params["cond_jaxpr"].jaxpr))
        return once if once == _NOTHING else _NOTHING.plus(once, _count_rounds(eqn))
    if name == "cond":
        branches = [count_jaxpr(branch.jaxpr) for branch in params["branches"]]
        return max(branches, key=lambda branch: branch.total)
    called = find_called(eqn)
    if called is not None:
        return count_jaxpr(getattr(called, "jaxpr", called))
    if name in _UNKNOWN:
        raise UserError(
            f"family: its forward pass calls {name}, of which the FLOPs cannot be "
            "counted; write that part with products, convolutions and scans"
        )
    is_real = jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact)
    if name in _FREE or not is_real:
        return _NOTHING
    return Flops(0, _count_elements(eqn))


def find_called(eqn: Any) -> Any:
    """The function, closed or not, that an equation calls once; None: it calls none."""
    if eqn.primitive.name not in _CALLS:
        return None
    return eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]


def _count_elements(eqn: Any) -> int:
    name = eqn.primitive.name
    if name.startswith("reduce_window"):
        return math.prod(eqn.params["window_dimensions"]) * _size(eqn.outvars[0])
    if name.startswith("reduce"):
        return _size(eqn.invars[0])
    if name.startswith("scatter"):
        return _size(eqn.invars[2])  # what is added
    return sum(map(_size, eqn.outvars))


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _count_multiplications(eqn: Any) -> int:
    """Of a convolution, those with zeros around or within the image left out."""
    params = eqn.params
    layout = params["dimension_numbers"]
    image, kernel, result = (
        [variable.aval.shape[axis] for axis in spec]  # batch, features, places
        for variable, spec in zip(
            (*eqn.invars, *eqn.outvars),
            (layout.lhs_spec, layout.rhs_spec, layout.out_spec),
            strict=True,
        )
    )
    found = result[0] * result[1] * kernel[1]
    axes = zip(
        image[2:], kernel[2:], result[2:], params["window_strides"],
        params["padding"], params["lhs_dilation"], params["rhs_dilation"],
        strict=True,
    )  # fmt: skip
    for size, taps, size_after, stride, (before, _), spread, spread_taps in axes:
        places = (
            place * stride + tap * spread_taps - before
            for place in range(size_after)
            for tap in range(taps)
        )
        found *= sum(
            0 <= place <= (size - 1) * spread and place % spread == 0
            for place in places
        )
    return found


def _count_rounds(eqn: Any) -> int:
    """Of a while loop that counts up by one from a constant to a constant.

    Raises:
        UserError: it is another.
    """
    params = eqn.params
    test, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    num_consts = params["cond_nconsts"], params["body_nconsts"]
    try:
        (compare,) = test.eqns
        counter, end = compare.invars
        index = test.invars.index(counter) - num_consts[0]
        begin = eqn.invars[sum(num_consts) + index]
        (step,) = [one for one in body.eqns if body.outvars[index] in one.outvars]
        before, by = step.invars
        is_counted = (
            (compare.primitive.name, step.primitive.name) == ("lt", "add")
            and before is body.invars[num_consts[1] + index]
            and by.val == 1
        )
        rounds = int(end.val) - int(begin.val)
    except (AttributeError, ValueError):
        is_counted, rounds = False, 0
    if not is_counted:
        raise UserError(
            "family: its forward pass has a while loop of a length that nobody knows "
            "before it runs; write it as jax.lax.scan"
        )
    return max(rounds, 0)

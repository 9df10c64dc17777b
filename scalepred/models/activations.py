"""What the layers of a model put out, by the weights they have; any model, any flax.

The traced forward pass is gone through operation by operation. Wherever numbers that
depend on the input meet a weight in a product, a convolution or a look-up, the result
is an activation of that weight's layer, before any bias, norm or nonlinearity.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from scalepred.models import target
from scalepred.models.flops import find_called
from scalepred.models.model import Model, Variables

_MEETINGS = {"dot_general", "conv_general_dilated", "gather"}


class _Source(NamedTuple):
    """What a number was computed from."""

    weights: frozenset[str]
    has_input: bool


_NOTHING = _Source(frozenset(), False)


def record(
    model: Model, variables: Variables, x: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """Activations of a forward pass in training, in the order they are computed.

    What stands within a scan or another loop is not looked at.

    Args:
        model: any.
        variables: of it; a model that reads on has read nothing before.
        x: a batch, as the model is given it [batch, ...].
        key: of dropout and the like.

    Returns:
        By the path of the weight, such as "blocks.0.attention.qkv"; arrays
        [batch, ..., features].
    """

    def forward(variables: Variables, x: jax.Array) -> jax.Array:
        return model.apply(*variables, x, train=True, key=key)[0]

    if model.restart:
        state = model.restart(variables.state, len(x))
        variables = Variables(variables.params, state)
    with target.traced_as("native", "cpu"):
        traced = jax.make_jaxpr(forward)(variables, x)
    named, _ = jax.tree_util.tree_flatten_with_path(variables.params)
    sources = [_Source(frozenset({_name(path)}), False) for path, _ in named]
    sources += [_NOTHING] * len(jax.tree.leaves(variables.state))
    found: dict[str, jax.Array] = {}
    values = [*jax.tree.leaves(variables), x]
    _evaluate(traced, values, [*sources, _Source(frozenset(), True)], found)
    return found


def _name(path: Any) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return name.removesuffix(".kernel").removesuffix(".table").removesuffix(".conv")


def _evaluate(
    closed: core.ClosedJaxpr,
    values: list[Any],
    sources: list[_Source],
    found: dict[str, jax.Array],
) -> tuple[list[Any], list[_Source]]:
    """Results and what they were computed from; what is found is added to `found`."""
    jaxpr = closed.jaxpr
    known = dict.fromkeys(jaxpr.constvars, _NOTHING) | dict(
        zip(jaxpr.invars, sources, strict=True)
    )
    numbers = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    numbers |= dict(zip(jaxpr.invars, values, strict=True))

    def read(variables: Sequence[Any]) -> tuple[list[Any], list[_Source]]:
        pairs = [
            (one.val, _NOTHING)
            if isinstance(one, core.Literal)
            else (numbers[one], known[one])
            for one in variables
        ]
        return [value for value, _ in pairs], [source for _, source in pairs]

    for eqn in jaxpr.eqns:
        inputs, origins = read(eqn.invars)
        called = find_called(eqn)
        if called is None:
            outputs, after = _apply(eqn, inputs, origins)
            weight = _find_weight(eqn, origins)
            if weight is not None:
                found.setdefault(weight, outputs[0])
        else:
            if isinstance(called, core.Jaxpr):
                called = core.ClosedJaxpr(called, [])
            outputs, after = _evaluate(called, inputs, origins, found)
        known |= dict(zip(eqn.outvars, after, strict=True))
        numbers |= dict(zip(eqn.outvars, outputs, strict=True))
    return read(jaxpr.outvars)


def _apply(
    eqn: Any, inputs: list[Any], origins: list[_Source]
) -> tuple[list[Any], list[_Source]]:
    outputs = eqn.primitive.bind(*inputs, **eqn.params)
    outputs = outputs if eqn.primitive.multiple_results else [outputs]
    joined = _Source(
        frozenset().union(*(origin.weights for origin in origins)),
        any(origin.has_input for origin in origins),
    )
    return outputs, [joined] * len(outputs)


def _find_weight(eqn: Any, origins: list[_Source]) -> str | None:
    """The weight that the input meets in this operation, if it is of one."""
    if eqn.primitive.name not in _MEETINGS:
        return None
    alone = [one for one in origins[:2] if not one.has_input]
    if len(alone) != 1 or len(alone[0].weights) != 1:
        return None
    return next(iter(alone[0].weights))

"""Laws of one's own, from a function."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws.law import Array, Law, Parameter, Scale


def law_from_function(
    name: str,
    function: Callable[..., Array],
    parameters: Sequence[Parameter],
    *,
    source: str = "",
    formula: str = "",
    axes: Sequence[str] = ("params", "data"),
) -> Law:
    """A law of one's own.

    Args:
        name: what reports call it.
        function: (parameters by name, m, n) -> value, positive and not increasing in
            m or n, written with jax.numpy; m and n are fractions of the largest
            fitted sizes. With epochs among the axes it takes them as a fourth, as
            they are; n is then unique data.
        parameters: names and bounds; starts are drawn between the bounds.
        source: where the form comes from.
        formula: one line, for people.
        axes: what it depends on: params and data, and epochs if it is to know how
            often the data were seen.

    Returns:
        A law that fits, predicts and answers like the built-in ones.
    """
    parameters = tuple(parameters)
    return Law(
        name=name,
        source=source,
        formula=formula,
        parameters=parameters,
        # Not closures, which no pickle can hold.
        log_value=functools.partial(_log_value, function, parameters),
        start=functools.partial(_start, parameters),
        public=functools.partial(_public, parameters),
        unit="fractions of the largest fitted m and n",
        axes=tuple(axes),
    )


def _log_value(
    function: Callable[..., Array],
    parameters: tuple[Parameter, ...],
    theta: Array,
    x: Array,
    y: Array,
    scale: Scale,
    z: Array | None = None,
) -> jax.Array:
    del scale
    natural = {
        parameter.name: jnp.exp(theta[..., i]) if parameter.is_log else theta[..., i]
        for i, parameter in enumerate(parameters)
    }
    sizes = [jnp.exp(x), jnp.exp(y)] + ([] if z is None else [jnp.exp(z)])
    return jnp.log(function(natural, *sizes))


def _start(
    parameters: tuple[Parameter, ...], uniform: np.ndarray, scale: Scale
) -> np.ndarray:
    del scale
    low, high = np.transpose([parameter.inner_bounds for parameter in parameters])
    return low + uniform * (high - low)


def _public(
    parameters: tuple[Parameter, ...],
    theta: np.ndarray,
    scale: Scale,
    params_unit: float,
    data_unit: float,
) -> dict[str, np.ndarray]:
    del scale, params_unit, data_unit
    return {
        parameter.name: np.exp(theta[..., i]) if parameter.is_log else theta[..., i]
        for i, parameter in enumerate(parameters)
    }

"""First weights, all of a network drawn in one call of the random generator.

Each call takes as long to compile as the rest of a small network. So `from_nnx` builds
a module twice: once for the shapes, where the initialisers below only note what they
are asked for, and once with numbers, which they hand out in the same order. They are
ordinary flax initialisers, so flax's own layers take them too; called elsewhere they
draw by their key. Initialisers of flax always draw by their key.
"""

import contextlib
import contextvars
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Distribution = Callable[[jax.Array, tuple[int, ...]], jax.Array]
Shapes = list[tuple[int, ...]]


class Request(NamedTuple):
    """What one initialiser was asked for."""

    distribution: Distribution
    shape: tuple[int, ...]


# (distribution, shape) -> array; None: each draws for itself.
_source: contextvars.ContextVar[Callable[..., jax.Array] | None]
_source = contextvars.ContextVar("source", default=None)


def normal(deviation: float) -> nnx.Initializer:
    """Normal numbers of mean 0 and this standard deviation."""
    return _make_initializer(_normal, lambda noise, shape: noise * deviation)


def uniform(bound: float) -> nnx.Initializer:
    """Numbers that are uniform between -bound and bound."""
    return _make_initializer(_uniform, lambda noise, shape: noise * bound)


def fan_in_normal(gain: float = 1.0, fan_in: int | None = None) -> nnx.Initializer:
    """Normal numbers of variance gain^2 / fan_in.

    Args:
        gain: 1 keeps the variance of independent inputs.
        fan_in: inputs of a unit; None: the first axis, as in [inputs, ...].
    """
    return _make_initializer(
        _normal, lambda noise, shape: noise * gain / math.sqrt(fan_in or shape[0])
    )


def fan_out_normal() -> nnx.Initializer:
    """Normal numbers of variance 2 / (kernel places times channels after).

    Source: K. He et al., "Delving Deep into Rectifiers", ICCV 2015, equation 14; for a
    kernel [height, width, channels, channels after].
    """

    def scale(noise: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return noise * math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1]))

    return _make_initializer(_normal, scale)


# The same numbers in law, but each array by its own key: the start that vgg16bn,
# densenet and resnet50 have in all tables so far.
fan_out_normal_by_key = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


@contextlib.contextmanager
def noted() -> Iterator[list[Request]]:
    """The list of what the initialisers in here are asked for; they give zeros."""
    requests: list[Request] = []

    def note(distribution: Distribution, shape: tuple[int, ...]) -> jax.Array:
        requests.append(Request(distribution, shape))
        return jnp.zeros(shape)

    with _answered_by(note):
        yield requests


@contextlib.contextmanager
def handed_out(requests: Iterable[Request], key: jax.Array) -> Iterator[int]:
    """The initialisers in here give numbers drawn at once, in the order of `requests`.

    Args:
        requests: of `noted`.
        key: of all numbers: normal ones have it, uniform ones the first made of it.

    Yields:
        How many of the keys that are made of it are used.
    """
    shapes: dict[Distribution, Shapes] = {_normal: [], _uniform: []}
    for distribution, shape in requests:
        shapes[distribution].append(shape)
    keys = {_normal: key}
    if shapes[_uniform]:
        keys[_uniform] = jax.random.fold_in(key, 0)
    parts = {kind: _draw_arrays(kind, keys[kind], shapes[kind]) for kind in keys}
    with _answered_by(lambda distribution, shape: next(parts[distribution])):
        yield len(keys) - 1


def _normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(key, shape)


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-1, maxval=1)


def _make_initializer(
    distribution: Distribution,
    scale: Callable[[jax.Array, tuple[int, ...]], jax.Array],
) -> nnx.Initializer:
    def initialise(
        key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> jax.Array:
        del out_sharding  # parameters are placed by the trainer
        source, shape = _source.get(), tuple(shape)
        noise = source(distribution, shape) if source else distribution(key, shape)
        return scale(noise, shape).astype(dtype)

    return initialise


@contextlib.contextmanager
def _answered_by(source: Callable[..., jax.Array]) -> Iterator[None]:
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def _draw_arrays(
    distribution: Distribution, key: jax.Array, shapes: Shapes
) -> Iterator[jax.Array]:
    """Independent arrays of a distribution, drawn at once and then cut up."""
    if not shapes:
        return iter(())
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    parts = jnp.split(distribution(key, (ends[-1],)), ends[:-1])
    return (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

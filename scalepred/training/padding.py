"""Narrow models inside wide ones: zero padding is a fixed point of training.

A unit whose incoming and outgoing weights are zero has activation 0 and gradient 0,
if f(0) = 0; every elementwise optimiser leaves it there. So a model that starts at its
true width and is then padded with zeros trains as if it were not padded, and models
of neighbouring widths can share a compiled program.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scalepred.models.model import Model, Variables


def pad_tree(tree: Any, shapes: Any) -> Any:
    """Appends zeros to every axis of every leaf until it has the shape wanted.

    Args:
        tree: arrays.
        shapes: the same tree with anything that has a `shape`, none of them smaller.
    """

    def pad(leaf: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
        if leaf.shape == wanted.shape:
            return leaf
        sizes = zip(leaf.shape, wanted.shape, strict=True)
        return jnp.pad(leaf, [(0, after - before) for before, after in sizes])

    return jax.tree.map(pad, tree, shapes)


def pad_init(model: Model, shapes: Variables) -> Callable[[jax.Array], Variables]:
    """The model's `init`, at its true width, then padded to `shapes`."""
    return lambda key: pad_tree(model.init(key), shapes)

"""Narrow models inside wide ones: zero padding is a fixed point of training.

A unit whose incoming and outgoing weights are zero has activation 0 and gradient 0,
if f(0) = 0; every elementwise optimiser leaves it there. So a model that starts at its
true width and is then padded with zeros trains as if it were not padded, and models
of neighbouring widths can share a compiled program.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError
from scalepred.models import target
from scalepred.models.model import Model, Variables
from scalepred.runtime import compiler

# Largest difference of a padded model, as a share; wrong ones are off by the share of
# the width that was appended, and parts of a model may compute in float32.
_TOLERANCE = 1e-4
# Of models that compute in float32 whatever their weights are.
_COARSE_TOLERANCE = 1e-2
_BATCH = 16  # examples; of fewer a little dropout may drop nothing


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


def check_padding(
    family: str, narrow: Model, wide: Model, example: jax.ShapeDtypeStruct
) -> None:
    """Tries out what a family says of itself: that zeros may be appended to it.

    On random examples the narrow model, padded to the shapes of the wide one, must
    have the outputs (in training and when scored), the state and the gradients that it
    has alone, and gradients of exactly zero where it was padded. The weights are random
    everywhere, as those that start at zero hide others.

    Args:
        family: its name, for the error.
        narrow: a member of it that is padded.
        wide: one whose shapes it is padded to.
        example: shape and dtype of one input.

    Raises:
        UserError: the two differ; says in what, and what may be wrong.
    """
    if not _can_hold(wide.shapes, narrow.shapes):
        raise UserError(
            f"family={family!r}: says can_be_padded, but at another width its weights "
            "have other names or axes, or not all of them are as large; leave "
            "can_be_padded out"
        )
    params, state = jax.jit(narrow.init)(jax.random.key(0))
    compare = functools.partial(_compare, narrow, wide, Variables(params, state))
    tolerance = _TOLERANCE
    try:
        with _on_cpu(in_double=True):
            differences = compare(example)
    except TypeError:  # the model insists on its own type, as in the carry of a scan
        tolerance = _COARSE_TOLERANCE
        with _on_cpu(in_double=False):
            differences = compare(example)
    for name, leaf in jax.tree_util.tree_leaves_with_path(differences):
        if not leaf <= tolerance:
            where = jax.tree_util.keystr(name, simple=True, separator=".")
            raise UserError(
                f"family={family!r}: says can_be_padded, but padded with zeros to the "
                f"shapes of a wider member it has other {where} (off by {leaf:.2g} of "
                "the largest); use norms that count real features only, such as those "
                "of scalepred.models.layers, units that are 0 for an input of 0, and "
                "no dropout, or leave can_be_padded out, or set packing.width_bucket=1 "
                "(exact widths)"
            )


def _compare(
    narrow: Model, wide: Model, variables: Variables, example: jax.ShapeDtypeStruct
) -> Any:
    """How far each result is off, as `_find_difference` says."""
    random = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda leaf: _widen(leaf) + 0.1 * random.normal(size=leaf.shape),
        variables.params,
    )
    x = random.normal(size=(_BATCH, *example.shape))
    if not jnp.issubdtype(example.dtype, jnp.floating):
        x = (x > 0).astype(example.dtype)  # tokens 0 and 1, which all texts have
    options = compiler.known({"xla_backend_optimization_level": "0"})
    run_both = functools.partial(_run_both, narrow, wide)
    run_once = jax.jit(run_both, compiler_options=options)
    found = run_once(Variables(moved, jax.tree.map(_widen, variables.state)), x)
    return jax.tree.map(_find_difference, *found)


@contextlib.contextmanager
def _on_cpu(in_double: bool) -> Iterator[None]:
    """Deep networks amplify what is rounded: in float32 small mistakes are hidden."""
    with (
        jax.default_device(jax.devices("cpu")[0]),
        target.traced_as("native", "cpu"),
        jax.enable_x64(in_double),
    ):
        yield


def _widen(leaf: Any) -> np.ndarray:
    """Numbers as float64, all else as it is."""
    array = np.asarray(leaf)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _can_hold(wide: Any, narrow: Any) -> bool:
    """Whether every leaf may be padded to that of the wide tree."""
    if jax.tree.structure(wide) != jax.tree.structure(narrow):
        return False
    pairs = zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True)
    return all(
        big.ndim == small.ndim
        and all(a >= b for a, b in zip(big.shape, small.shape, strict=True))
        for big, small in pairs
    )


def _run_both(
    narrow: Model, wide: Model, variables: Variables, x: jax.Array
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Outputs, state and gradients of the narrow model alone, padded to those of it
    inside the wide one; the latter; and 1 where they are not padding.
    """

    def run(model: Model, variables: Variables) -> dict[str, Any]:
        state, key = variables.state, jax.random.key(0)
        state = model.restart(state, len(x)) if model.restart else state

        def loss(params: Any) -> tuple[jax.Array, Any]:
            outputs, after = model.apply(params, state, x, train=True, key=key)
            return jnp.sum(jnp.sin(outputs)), (outputs, after)

        params = variables.params
        gradient, (outputs, after) = jax.grad(loss, has_aux=True)(params)
        scored, _ = model.apply(params, state, x, train=False, key=key)
        return {
            "outputs": outputs,
            "state": after,
            "gradient": gradient,
            "scored outputs": scored,
        }

    alone = run(narrow, variables)
    padded = run(wide, pad_tree(variables, wide.shapes))
    is_real = pad_tree(jax.tree.map(lambda leaf: jnp.ones(leaf.shape), alone), padded)
    return pad_tree(alone, padded), padded, is_real


def _find_difference(alone: Any, padded: Any, is_real: Any) -> float:
    """As a share of the largest number; infinite if padding is not exactly zero."""
    alone, padded = np.asarray(alone, np.float64), np.asarray(padded, np.float64)
    if np.any(padded[np.asarray(is_real) == 0] != 0):
        return math.inf
    largest = np.max(np.abs(alone), initial=1e-6)
    return float(np.max(np.abs(alone - padded), initial=0.0) / largest)

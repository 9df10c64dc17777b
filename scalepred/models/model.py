"""A model is two pure functions over plain dicts; flax ends in this file."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred import models as package
from scalepred.models import flops, target
from scalepred.runtime.modules import find_module

Tree = dict[str, Any]

# Turning a factor costs little beside a product of few multiplications or many rows.
_FEW_MULTIPLICATIONS = 1e6
_MANY_ROWS = 256


class Variables(NamedTuple):
    """Arrays of a model as nested dicts."""

    params: Tree  # trained
    state: Tree  # carried along, such as BatchNorm's averages


class Apply(Protocol):
    """The forward pass: logits [batch, (positions,) classes] and the state after it."""

    def __call__(
        self, params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]: ...


@dataclasses.dataclass(frozen=True)
class Model:
    """One member of a family, at one width.

    Attributes:
        init: key -> Variables.
        apply: (params, state, x [batch, ...], train, key) -> (logits, state).
        embeddings: top-level names in `params` that the law does not count.
        can_be_padded: zeros appended to every axis stay zeros in training and change
            no output (see `training/padding.py`).
        restart: of a model that reads on from window to window and keeps what it read
            in its state: (state, batch size) -> the state with nothing read. Its
            batches are then consecutive windows; it is restarted every epoch.
    """

    init: Callable[[jax.Array], Variables]
    apply: Apply
    embeddings: frozenset[str] = frozenset()
    can_be_padded: bool = False
    restart: Callable[[Tree, int], Tree] | None = None

    @functools.cached_property
    def shapes(self) -> Variables:
        """`init`'s result with shapes and dtypes in place of arrays."""
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        # Without the sharding they would carry if first asked for under a mesh.
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)

    @functools.cached_property
    def num_params_by_group(self) -> dict[str, int]:
        """Parameters under each top-level name of `params`."""
        return {
            group: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
            for group, tree in self.shapes.params.items()
        }

    @functools.cached_property
    def num_params_total(self) -> int:
        """All parameters."""
        return sum(self.num_params_by_group.values())

    @functools.cached_property
    def num_params(self) -> int:
        """m as the law uses it: word embeddings excluded, as in the paper."""
        groups = self.num_params_by_group.items()
        return sum(count for group, count in groups if group not in self.embeddings)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - models are few and kept anyway
    def count_forward(self, example: jax.ShapeDtypeStruct) -> flops.Flops:
        """FLOPs of one example's forward pass, by the convention of `flops.py`.

        They are those of evaluation: dropout, and BatchNorm by the batch, are not in.

        Raises:
            UserError: see `flops.count`.
        """

        def forward(variables: Variables, x: jax.Array, key: jax.Array) -> jax.Array:
            return self.apply(*variables, x[None], train=False, key=key)[0]

        # The same on every machine, whatever is faster there.
        with target.traced_as("native", "cpu"):
            return flops.count(forward, self.shapes, example, jax.random.key(0))

    def count_forward_flops(self, example: jax.ShapeDtypeStruct) -> float:
        """All FLOPs of one example's forward pass; a training step takes three."""
        return float(self.count_forward(example).total)


def from_nnx(
    make_module: Callable[[nnx.Rngs], nnx.Module],
    embeddings: frozenset[str] = frozenset(),
    can_be_padded: bool = False,
    restart: Callable[[Tree, int], Tree] | None = None,
) -> Model:
    """The pure functions of a flax NNX module.

    Args:
        make_module: builds the module; it is called as `module(x, rngs=...)`, where
            `rngs` is for dropout and the like, and returns logits
            [batch, (positions,) classes]. Its variables are `nnx.Param`, which are
            trained, and `nnx.BatchStat`, which the module itself may set.
        embeddings: attributes of the module that the law does not count.
        can_be_padded: see `Model`.
        restart: see `Model`.
    """

    @functools.cache
    def graph() -> Any:  # a plan builds many models and runs none
        module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
        return nnx.split(module, nnx.Param, nnx.BatchStat)[0]

    def init(key: jax.Array) -> Variables:
        module = make_module(nnx.Rngs(key))
        _, params, state = nnx.split(module, nnx.Param, nnx.BatchStat)
        return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(state))

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        module: Any = nnx.merge(graph(), params, state)
        module.train() if train else module.eval()
        logits = module(x, rngs=nnx.Rngs(key))
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Model(init, apply, embeddings, can_be_padded, restart)


@functools.lru_cache(maxsize=256)  # what was counted of a model is not counted again
def build_model(
    family: str, width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The family's member of that width and depth.

    Args:
        family: a module of `scalepred.models` ("mlp") or the dotted path of a module
            of one's own, with `build(width, depth, input_shape, num_classes)`.
        width: units a layer, or what the family calls its width.
        depth: layers, or what the family calls its depth.
        input_shape: of one example.
        num_classes: number of logits.

    Raises:
        UserError: no such family; names those that come with the package.
    """
    module = find_module("family", family, package, "build")
    return module.build(width, depth, input_shape, num_classes)


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


def draw_arrays(
    distribution: Callable[..., jax.Array],
    key: jax.Array,
    shapes: Iterable[tuple[int, ...]],
) -> list[jax.Array]:
    """Independent arrays of a distribution, drawn at once and then cut up.

    Each call of the random generator takes as long to compile as the rest of a small
    network.

    Args:
        distribution: (key, shape) -> array, such as `jax.random.normal`.
        key: of all the numbers.
        shapes: of the arrays.
    """
    shapes = list(shapes)
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    parts = jnp.split(distribution(key, (ends[-1],)), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

"""A model is two pure functions over plain dicts; flax ends in this file."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen, nnx

from scalepred import models as package
from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.models import flops, initializers, target
from scalepred.runtime import named
from scalepred.runtime.modules import find_module

Tree = dict[str, Any]
_NUM_SIZES = 4  # arguments of a family's `build` that are no options


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
        outline: `init`'s shapes where they are known without it.
        standard: where weights are stored in another parametrisation: the model that
            they are translated for, whose FLOPs count. (Translating takes an operation
            a weight and step, whatever the batch.)
    """

    init: Callable[[jax.Array], Variables]
    apply: Apply
    embeddings: frozenset[str] = frozenset()
    can_be_padded: bool = False
    restart: Callable[[Tree, int], Tree] | None = None
    outline: Callable[[], Variables] | None = None
    standard: "Model | None" = None

    @functools.cached_property
    def shapes(self) -> Variables:
        """`init`'s result with shapes and dtypes in place of arrays."""
        outline = self.outline or (lambda: jax.eval_shape(self.init, jax.random.key(0)))
        shapes = outline()
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
        if self.standard:
            return self.standard.count_forward(example)

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
            trained, and `nnx.BatchStat`, which the module itself may set. Weights
            that the initialisers of `initializers.py` make are drawn all at once.
        embeddings: attributes of the module that the law does not count.
        can_be_padded: see `Model`.
        restart: see `Model`.
    """

    def make(rngs: _Rngs) -> tuple[Any, Variables]:
        module = make_module(rngs)
        graph, *states = nnx.split(module, nnx.Param, nnx.BatchStat)
        return graph, Variables(*map(nnx.to_pure_dict, states))

    @functools.cache
    def outline() -> _Outline:
        """Of a module without numbers: many models are planned that are never run."""
        found = []

        def make_one(key: jax.Array) -> Variables:
            rngs = _Rngs(key)
            graph, variables = make(rngs)
            found.append((graph, rngs.default.used))
            return variables

        with initializers.noted() as requests:
            shapes = jax.eval_shape(make_one, jax.random.key(0))
        graph, num_keys = found[0]
        return _Outline(graph, shapes, requests, num_keys)

    def init(key: jax.Array) -> Variables:
        of = outline()
        with initializers.handed_out(of.requests, key) as used:
            return make(_Rngs(key, used, of.num_keys))[1]

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        module: Any = nnx.merge(outline().graph, params, state)
        module.train() if train else module.eval()
        logits = module(x, rngs=nnx.Rngs(key))
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Model(
        init, apply, embeddings, can_be_padded, restart, lambda: outline().shapes
    )


class _Outline(NamedTuple):
    """What is known of a module before it has numbers."""

    graph: Any
    shapes: Variables
    requests: list[initializers.Request]
    num_keys: int  # that its layers ask for


class _Rngs(nnx.Rngs):
    """Flax's keys, but the count of them is Python's."""

    def __init__(self, key: jax.Array, used: int = 0, num_keys: int = 0):
        self.default = _Stream(key, used, num_keys)


class _Stream(nnx.RngStream):
    """Flax's own count is part of what is traced, and each change of it looks through
    all that was traced before: half of the time that a deep network takes to build.
    Where it is known how many keys will be asked for, they are made at once.
    """

    def __init__(self, key: jax.Array, used: int, num_keys: int):
        super().__init__(key, tag="default")
        self.used, self.made = used, used + num_keys
        if num_keys:
            numbers = jnp.arange(self.made)
            self.keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)

    def __call__(self) -> jax.Array:
        number, self.used = self.used, self.used + 1
        if number < self.made:
            return self.keys[number]
        return jax.random.fold_in(self.key[...], number)


def from_linen(
    module: linen.Module,
    input_shape: tuple[int, ...],
    dtype: Any = jnp.float32,
    embeddings: frozenset[str] = frozenset(),
    can_be_padded: bool = False,
) -> Model:
    """The pure functions of a flax Linen module.

    Args:
        module: it is called as `module(x)` and returns logits
            [batch, (positions,) classes]. If its `__call__` has an argument `train`
            or `training`, that is whether it is being trained; if `deterministic` or
            `use_running_average`, whether not. Of its collections of variables
            `params` is trained; the others, such as `batch_stats`, are the state. Its
            `dropout` stream has the key of the step.
        input_shape: of one example.
        dtype: of the examples; `jnp.int32` for tokens.
        embeddings: top-level names of `params` that the law does not count.
        can_be_padded: see `Model`.
    """
    arguments = inspect.signature(type(module).__call__).parameters

    def flags(train: bool) -> dict[str, Any]:
        meanings = {
            "train": train,
            "training": train,
            "deterministic": not train,
            "use_running_average": not train,
        }
        return {name: value for name, value in meanings.items() if name in arguments}

    def init(key: jax.Array) -> Variables:
        x = jnp.zeros((1, *input_shape), dtype)
        state = dict(module.init(key, x, **flags(train=False)))
        return Variables(state.pop("params", {}), state)

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        variables = {"params": params, **state}
        logits, changed = module.apply(
            variables, x, mutable=list(state), rngs={"dropout": key}, **flags(train)
        )
        return logits, {**state, **changed}

    return Model(init, apply, embeddings, can_be_padded)


class Family(NamedTuple):
    """What a config's `family` stands for: "mlp", "mlp(parametrization='mup')"."""

    module: ModuleType
    name: str
    options: Mapping[str, Any]  # those that are not the defaults

    def __str__(self) -> str:
        """In one spelling, which ids of cells are made of."""
        return str(named.Named(self.name, self.options))


def find_family(family: str) -> Family:
    """The module of a family and its options.

    Raises:
        UserError: no such family or option; names those there are.
    """
    name, given = named.parse("family", family, "mlp(parametrization='mup')")
    module = find_module("family", name, package, "build")
    if not given:
        return Family(module, name, {})
    known = list(inspect.signature(module.build).parameters.values())[_NUM_SIZES:]
    defaults = {one.name: one.default for one in known if one.default is not one.empty}
    options = {}
    for option, value in given.items():
        if option not in defaults:
            has = f"it has {', '.join(sorted(defaults))}" if defaults else "it has none"
            raise UserError(f"family={family!r}: {name} has no option {option}; {has}")
        default = defaults[option]
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if type(value) is not type(default):
            raise UserError(
                f"family={family!r}: {option}={value!r} must be a value such as "
                f"{default!r}"
            )
        if value != default:
            options[option] = value
    return Family(module, name, options)


def is_builtin(family: str) -> bool:
    """Whether a family comes with the package, whose tests then know it."""
    return find_family(family).module.__name__.startswith(f"{package.__name__}.")


def build_for(dataset: Dataset, family: str, width: int, depth: int) -> Model:
    """The family's model of that width and depth for a dataset."""
    return build_model(family, width, depth, dataset.input_shape, dataset.head_size)


def build_model(
    family: str, width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The family's member of that width and depth.

    Args:
        family: a module of `scalepred.models` ("mlp") or the dotted path of a module
            of one's own, with `build(width, depth, input_shape, num_classes)`. Further
            arguments of `build`, which have defaults, are options that may follow the
            name in brackets: "mlp(parametrization='mup')".
        width: units a layer, or what the family calls its width.
        depth: layers, or what the family calls its depth.
        input_shape: of one example.
        num_classes: number of logits.

    Raises:
        UserError: no such family or option; names those there are.
    """
    found = find_family(family)
    sizes = width, depth, input_shape, num_classes
    return _build(found.module.build, *sizes, **found.options)


# What was counted of a model is not counted again. By the function, not the name: a
# module that was loaded anew has another.
@functools.lru_cache(maxsize=256)
def _build(build: Callable[..., Model], *sizes: Any, **options: Any) -> Model:
    return build(*sizes, **options)

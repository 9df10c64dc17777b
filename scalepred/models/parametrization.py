"""How first weights and learning rates follow width and depth: mup and completep.

Tuned once at a small width, one learning rate then serves every width (and, with
completep, every depth). With r = width / base_width, a weight has, relative to the
standard parametrisation at the same width (variance 1 / inputs),

| role   | what it is                          | start    | rate, adam | rate, sgd |
| ------ | ----------------------------------- | -------- | ---------- | --------- |
| input  | from a fixed size to the width      | 1        | 1          | r         |
| hidden | from the width to the width         | 1        | 1 / r      | 1         |
| output | from the width to a fixed size      | r^(-1/2) | 1 / r      | 1 / r     |
| vector | biases and scales of `width` numbers | 1        | 1          | r         |
| fixed  | no axis that grows with the width   | 1        | 1          | 1         |

(Yang and Hu et al. 2022, "Tensor Programs V", arXiv:2203.03466, table 3.) `adam` are
all optimisers whose update of an entry has a size of its own: adam, lion, sign_sgd.

completep is mup, and with q = depth / base_depth what a residual branch adds to the
stream is divided by q (Dey et al. 2025, "Don't be lazy: CompleteP enables compute-
efficient deep transformers", arXiv:2505.01618, table 1, alpha = 1). First weights are
then those of the base depth.

At the base width and depth both are the standard parametrisation.

**Form.** No optimiser has to know of it. A weight W is stored as V, W = a V, where a is
Adam's factor in the table (and 1 / q at the end of a branch), and the gradient that
the optimiser is given is s times that of W, where a s is SGD's factor. A step of Adam
of size 1 then moves W by a, one of SGD by a s. Two more rules of CompleteP follow by
themselves: gradients of V have the same size at every width and depth, so that Adam's
epsilon needs no correction, and a decoupled weight decay shrinks W by the same share.
(What does change with the width is the norm of the whole gradient, which
`training.clip_norm` limits: about as r. For adam that hardly matters; leave it at 0
for sgd.)

r is in the model's state, so that a narrow model inside a wide one has its own.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalepred.config import UserError
from scalepred.models.model import Model, Tree, Variables

NAMES = ("standard", "mup", "completep")
_STATE = "parametrization"  # where r is in a model's state


class Rule(NamedTuple):
    """Exponents of r, relative to the standard parametrisation."""

    start: float  # of first weights
    adam: float  # of the learning rate
    sgd: float  # likewise


RULES = {
    "input": Rule(start=0.0, adam=0.0, sgd=1.0),
    "hidden": Rule(start=0.0, adam=-1.0, sgd=0.0),
    "output": Rule(start=-0.5, adam=-1.0, sgd=-1.0),
    "vector": Rule(start=0.0, adam=0.0, sgd=1.0),
    "fixed": Rule(start=0.0, adam=0.0, sgd=0.0),
}


class Role(NamedTuple):
    """What a weight is to its network."""

    kind: str  # of RULES
    # Of a residual branch: "inside", or "end", whose product is added to the stream.
    branch: str = ""
    # Exponents of r and q in the standard start beside variance 1 / inputs: 1/2 of r
    # where that is a constant, -1/2 of q where it falls as the root of the depth.
    width_start: float = 0.0
    depth_start: float = 0.0


# Patterns of a weight's path in `params`, the first that fits counts: its role.
Roles = Mapping[str, Role]

INPUT, HIDDEN, OUTPUT = Role("input"), Role("hidden"), Role("output")
VECTOR, FIXED = Role("vector"), Role("fixed")

# Of `layers.TransformerBlock`.
BLOCK_ROLES = {
    "blocks.*.attention.qkv": Role("hidden", "inside"),
    "blocks.*.attention.out": Role("hidden", "end", depth_start=-0.5),
    "blocks.*.expand.kernel": Role("hidden", "inside"),
    "blocks.*.contract.kernel": Role("hidden", "end", depth_start=-0.5),
    "blocks.*.scale": Role("vector", "inside"),
}


@dataclasses.dataclass(frozen=True)
class Ratios:
    """A network's size over that at which it is the standard one."""

    width: float  # r
    depth: float  # q; 1 for mup


def find_ratios(
    family: str,
    parametrization: str,
    width: tuple[int, int],
    depth: tuple[int, int] | None,
) -> Ratios | None:
    """r and q of a member of a family; None: it is in the standard parametrisation.

    Args:
        family: its name, for the error.
        parametrization: standard, mup or completep.
        width: of the member, and of the base.
        depth: likewise, in layers or blocks; None: the family has no residual branches.

    Raises:
        UserError: no such parametrisation, or none for this family; a base below 1.
    """
    has = [name for name in NAMES if depth or name != "completep"]
    if parametrization not in has:
        why = "" if depth else f" ({family} has no residual branches)"
        raise UserError(
            f"family={family!r}: parametrization={parametrization!r} must be one of "
            f"{', '.join(has)}{why}"
        )
    if parametrization == "standard":
        return None
    if width[1] < 1 or (depth and depth[1] < 1):
        raise UserError(
            f"family={family!r}: base_width and base_depth must be sizes that a member "
            "of the family has"
        )
    of_depth = depth[0] / depth[1] if depth and parametrization == "completep" else 1.0
    return Ratios(width[0] / width[1], of_depth)


def parametrize(standard: Model, ratios: Ratios | None, roles: Roles) -> Model:
    """The same network with its weights stored as the rules say.

    Args:
        standard: the network, in the standard parametrisation at its own size.
        ratios: of `find_ratios`; None: it stays as it is.
        roles: of all its weights.

    Raises:
        UserError: a weight has no role, or the model reads on from window to window.
    """
    if ratios is None:
        return standard
    if standard.restart:
        raise UserError(
            "family: a model that reads on from window to window has no "
            "parametrization but the standard one; leave it out"
        )
    r, q = ratios.width, ratios.depth

    def init(key: jax.Array) -> Variables:
        params, state = standard.init(key)

        def store(path: Any, weight: jax.Array) -> jax.Array:
            return weight * first_factor(find_role(roles, path), r, q)

        params = jax.tree_util.tree_map_with_path(store, params)
        return Variables(params, {**state, _STATE: jnp.float32(r)})

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        # Of the lane: in a program for several widths another than `ratios.width`.
        true = state[_STATE]

        def read(path: Any, stored: jax.Array) -> jax.Array:
            role = find_role(roles, path)
            factors = multiplier(role, true, q), gradient_factor(role, true, q)
            return _translate(stored, *map(jnp.asarray, factors))

        weights = jax.tree_util.tree_map_with_path(read, params)
        rest = {name: part for name, part in state.items() if name != _STATE}
        outputs, after = standard.apply(weights, rest, x, train=train, key=key)
        return outputs, {**after, _STATE: true}

    return dataclasses.replace(
        standard,
        init=init,
        apply=apply,
        outline=_outline_with_ratio(standard),
        standard=standard,
    )


def _outline_with_ratio(standard: Model) -> Callable[[], Variables]:
    def outline() -> Variables:
        params, state = standard.shapes
        ratio = jax.ShapeDtypeStruct((), jnp.float32)
        return Variables(params, {**state, _STATE: ratio})

    return outline


def find_role(roles: Roles, path: Any) -> Role:
    """Of the weight at that path of jax's; raises UserError if it has none."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    for pattern, role in roles.items():
        if fnmatch.fnmatchcase(name, pattern):
            return role
    raise UserError(
        f"family: weight {name} has no role in the parametrization; add a pattern for "
        f"it to {', '.join(roles)}"
    )


def multiplier(role: Role, r: Any, q: float) -> Any:
    """a of W = a V: Adam's factor of the rate, and the branch's of the depth."""
    by_width = _power(r, RULES[role.kind].adam)
    return by_width / q if role.branch == "end" else by_width


def gradient_factor(role: Role, r: Any, q: float) -> Any:
    """s, by which the gradient of W is multiplied for the optimiser.

    The gradients inside of a branch are 1 / q of what they would be in a shallow
    network; at its end they are not, as its factor stands after W.
    """
    rule = RULES[role.kind]
    by_width = _power(r, rule.sgd - rule.adam)
    return by_width * q if role.branch == "inside" else by_width


def first_factor(role: Role, r: float, q: float) -> float:
    """What the standard first weights are multiplied by to give V."""
    rule = RULES[role.kind]
    by_width = r ** (rule.start - role.width_start - rule.adam)
    return by_width * q**-role.depth_start


def _power(r: Any, exponent: float) -> Any:
    """r^exponent, exact where r is 1, whatever a device makes of powers."""
    known = {-1.0: 1 / r, 0.0: 1.0, 1.0: r}
    return known[exponent] if exponent in known else r**exponent


@jax.custom_vjp
def _translate(stored: jax.Array, a: jax.Array, s: jax.Array) -> jax.Array:
    """a V, whose gradient is called s times that of the result."""
    del s
    # In float32, as 16 bits would round the factor, alike in every weight.
    wide = jnp.promote_types(stored.dtype, jnp.float32)
    return (stored.astype(wide) * a).astype(stored.dtype)


def _translate_forward(
    stored: jax.Array, a: jax.Array, s: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _translate(stored, a, s), (a, s)


def _translate_backward(
    factors: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    a, s = factors
    wide = jnp.promote_types(gradient.dtype, jnp.float32)
    scaled = (gradient.astype(wide) * s).astype(gradient.dtype)
    return scaled, jnp.zeros_like(a), jnp.zeros_like(s)


_translate.defvjp(_translate_forward, _translate_backward)

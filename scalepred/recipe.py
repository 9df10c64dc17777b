"""The recipe of a run: its batch, steps and rates, which may follow its size.

A rule is a factor such as "(64 / width)**0.5": arithmetic of the run's sizes.
"""

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from scalepred.config import Training, UserError

KIND = "scalepred recipe"  # of a recipe.json, see `training.recipe`

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_FUNCTIONS = {"sqrt": math.sqrt, "log": math.log, "min": min, "max": max}


class Recipe(NamedTuple):
    """What the sizes of a run say of it."""

    settings: dict[str, Any]  # batch_size, steps, and warmup_fraction if in steps
    rate_factor: float  # of its learning rate
    decay_factor: float  # of its weight decay


def find_recipe(
    training: Training,
    run: Mapping[str, Any],
    units: int,
    num_params: Callable[[], int],
) -> Recipe:
    """Batch, steps and the factors of the rates, in this order.

    Args:
        training: says how long and by which rules.
        run: width, depth and dataset_size (examples).
        units: that an example adds to n.
        num_params: m; asked for where a rule may need it.
    """
    size = run["dataset_size"]
    sizes: dict[str, float] = {"width": run["width"], "depth": run["depth"]}
    rules = (
        training.batch_size_rule,
        training.learning_rate_rule,
        training.weight_decay_rule,
    )
    if any(rules) or training.data_per_param:  # else no model need be built
        sizes |= {"params": num_params(), "data": size * units}
    factor = find_factor("training.batch_size_rule", training.batch_size_rule, sizes)
    whole = training.micro_batch_size or 1
    batch_size = training.batch_size
    if training.batch_size_rule:
        batch_size = max(1, round(factor * batch_size / whole)) * whole
    steps = int(training.steps)
    if training.epochs > 0:
        steps = math.ceil(training.epochs * size / batch_size)
    elif training.data_per_param > 0:
        examples = training.data_per_param * sizes["params"] / units
        steps = max(1, math.ceil(examples / batch_size))
    seen = steps * batch_size * units
    sizes |= {"steps": steps, "batch_size": batch_size, "seen": seen}
    settings: dict[str, Any] = {"batch_size": batch_size, "steps": steps}
    if training.warmup_steps:
        settings["warmup_fraction"] = min(training.warmup_steps / steps, 1 - 1e-6)
    return Recipe(
        settings,
        find_factor("training.learning_rate_rule", training.learning_rate_rule, sizes),
        find_factor("training.weight_decay_rule", training.weight_decay_rule, sizes),
    )


def check_branches(training: Training, recipes: Sequence[Recipe]) -> None:
    """Whether runs of several lengths can share their first steps.

    Args:
        training: their settings.
        recipes: of one model at each of its data sizes.

    Raises:
        UserError: the first steps of a short run are not those of a long one.
    """
    cooldown = training.cooldown_fraction
    for field, good, accepted in (
        ("schedule", training.schedule == "wsd", "wsd, constant before the cooldown"),
        ("epochs", training.epochs == 1, "1: a branch reads on in the data"),
        ("cooldown_fraction", cooldown > 0, "above 0: it is what branches off"),
        ("warmup_fraction", training.warmup_fraction == 0, "0; use warmup_steps"),
        (
            "average_fraction",
            training.average_fraction <= cooldown,
            f"at most training.cooldown_fraction={cooldown}",
        ),
    ):
        if not good:
            raise UserError(
                f"grid.branches: training.{field}={getattr(training, field)!r} must be "
                f"{accepted}; or leave grid.branches out"
            )
    shared = [(one.settings["batch_size"], *one[1:]) for one in recipes]
    if len(set(shared)) > 1:
        raise UserError(
            "grid.branches: batch size and rates must not depend on the length of a "
            "run; write training.batch_size_rule, learning_rate_rule and "
            "weight_decay_rule in width, depth and params alone"
        )
    steps = min(one.settings["steps"] for one in recipes)
    if training.warmup_steps > max(0, math.floor((1 - cooldown) * steps) - 1):
        raise UserError(
            f"grid.branches: training.warmup_steps={training.warmup_steps} must end "
            f"before the shortest run of {steps} steps cools down; lower it, or leave "
            "out the smallest of grid.data_fractions"
        )


def find_factor(field: str, rule: str, sizes: Mapping[str, float]) -> float:
    """What a number of the config is multiplied by for a run of these sizes.

    Args:
        field: of the config, for the error.
        rule: arithmetic of the sizes' names, numbers, sqrt, log, min and max; "": 1.
        sizes: by name.

    Raises:
        UserError: not such an expression, or its value is no number above 0.
    """
    if not rule:
        return 1.0
    try:
        value = _compute(_parse(rule), sizes)
    except (SyntaxError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = "unknown name " if isinstance(error, KeyError) else ""
        raise UserError(
            f"{field}={rule!r}: cannot be computed ({what}{error}); write arithmetic "
            f"of {', '.join(sizes)} with numbers, sqrt, log, min and max"
        ) from None
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise UserError(
            f"{field}={rule!r}: is {value} at "
            + ", ".join(f"{name}={size:g}" for name, size in sizes.items())
            + "; it must be a number above 0"
        )
    return float(value)


@functools.cache
def _parse(rule: str) -> ast.expr:
    return ast.parse(rule, mode="eval").body


def _compute(node: ast.expr, sizes: Mapping[str, float]) -> float:
    """The value of an expression; nothing but arithmetic is understood."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_compute(node.operand, sizes))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _compute(node.left, sizes), _compute(node.right, sizes)
        return _OPERATORS[type(node.op)](left, float(right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _FUNCTIONS[node.func.id](*(_compute(one, sizes) for one in node.args))
    raise ValueError(f"{ast.unparse(node)} is no arithmetic")

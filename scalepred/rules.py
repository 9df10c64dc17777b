"""Rules of a recipe: factors such as "(64 / width)**0.5" that follow a run's size."""

import ast
import functools
import math
import operator
from collections.abc import Mapping

from scalepred.config import UserError

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_FUNCTIONS = {"sqrt": math.sqrt, "log": math.log, "min": min, "max": max}


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

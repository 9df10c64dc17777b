"""What a config names with options of its own: "lion(b1=0.95)"."""

import ast
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from scalepred.config import UserError


class Named(NamedTuple):
    """A name and its options."""

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        """In one spelling, whatever the order of the options was."""
        if not self.options:
            return self.name
        options = sorted(self.options.items())
        inside = ", ".join(f"{option}={value!r}" for option, value in options)
        return f"{self.name}({inside})"


@functools.cache
def parse(field: str, text: str, example: str) -> Named:
    """The name and the options in a text such as "lion(b1=0.95)".

    Args:
        field: of the config, for the error.
        text: its value.
        example: a right one, for the error.

    Raises:
        UserError: not of the form name(option=value, ...).
    """
    name, bracket, _ = text.partition("(")
    if not bracket:
        return Named(name, {})
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        options = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError):
        raise UserError(
            f"{field}={text!r}: write a name, or name(option=value, ...), such as "
            f"{example}"
        ) from None
    return Named(name, options)

"""How a law is made again: by its name, or from what it was made of.

A law holds functions, which no file should. A saved fit keeps the record of a law,
which JSON can hold (`describe`, `build`); a pickle the same, and for a law of one's own
that has no name the reference to its function (`reduce`).
"""

import copyreg
import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

from scalepred.config import UserError
from scalepred.fitting import two_stage
from scalepred.fitting.auto import law as auto_law
from scalepred.fitting.auto import mean as auto_mean
from scalepred.fitting.laws import Law, find_law


def describe(law: Law, called: str) -> dict[str, Any]:
    """What `build` makes the law of.

    Args:
        law: any.
        called: the name that it was asked by, if it is one of one's own.

    Raises:
        UserError: the law has no name it can be found by.
    """
    inner = two_stage.find_inner(law)
    if inner is not None:
        return {"through": describe(inner, called)}
    if law.parts:
        return {"mean_of": [describe(part, called) for part in law.parts]}
    if law.name == "flexible":
        levels = sum(name.name.startswith("offset_") for name in law.parameters)
        return {
            "levels": max(levels - 1, 0),
            "is_loss": not law.bounded,
            "axes": law.axes,
        }
    for name in (law.name, called):
        try:
            found = find_law(name)
        except UserError:
            continue
        if found == law:
            return {"name": name}
    raise UserError(
        f"law={law.name}: is one of your own and was given as an object, so that a "
        "saved fit could not find it again; ask for it by name (module.attribute)"
    )


def build(record: dict[str, Any]) -> Law:
    """The law that `describe` told of."""
    if "through" in record:
        return two_stage.make_law(build(record["through"]))
    if "mean_of" in record:
        return auto_mean.make_law(tuple(map(build, record["mean_of"])))
    if "levels" in record:
        axes = tuple(record["axes"])
        return auto_law.make_law(record["levels"], record["is_loss"], axes)
    return find_law(record["name"])


def reduce(law: Law) -> tuple[Callable[..., Law], tuple[Any, ...]]:
    """The call that makes the law again when a pickle of it is read.

    Raises:
        UserError: the law is one of one's own, its function cannot be pickled and no
            module has the law as an attribute.
    """
    try:
        return build, (describe(law, _own_name(law)),)
    except UserError:
        pass
    for field in dataclasses.fields(law):
        function = getattr(law, field.name)
        parts = function.args if isinstance(function, functools.partial) else ()
        for part in (function, *parts):
            name = getattr(part, "__qualname__", "")
            if "<" in name:  # <lambda>, <locals>
                raise UserError(
                    f"law={law.name}: cannot be pickled ({name}); define its function "
                    "with def at the top of a module"
                )
    return Law, tuple(getattr(law, field.name) for field in dataclasses.fields(law))


# Here, and not in the law, which knows none of those it could be.
copyreg.pickle(Law, reduce)


def _own_name(law: Law) -> str:
    """module.attribute of a law of one's own, in the module of its function; or ""."""
    for function in (law.log_value, *getattr(law.log_value, "args", ())):
        module = getattr(function, "__module__", None) or ""
        for name, value in vars(sys.modules.get(module, object)).items():
            if value is law:
                return f"{module}.{name}"
    return ""

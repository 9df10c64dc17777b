"""Modules that a name in a config stands for: ours, or the user's own."""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from scalepred.config import UserError


def find_module(
    field: str, name: str, builtin: ModuleType, function: str
) -> ModuleType:
    """The module that a name in a config stands for.

    Args:
        field: the config's field, for the error.
        name: a module of the package `builtin`, or any other that can be imported,
            such as a file beside the experiment.
        builtin: package that is searched first.
        function: what the module must define.

    Raises:
        UserError: no such module, or it does not define `function`.
    """
    for path in (f"{builtin.__name__}.{name}", name):
        if _exists(path):
            module = importlib.import_module(path)
            if hasattr(module, function):
                return module
    raise UserError(
        f"{field}={name!r}: no module of that name has a function {function}(); "
        f"choose one of {', '.join(_names(builtin, function))} or name a module that "
        "can be imported, such as a file beside the experiment"
    )


def _exists(path: str) -> bool:
    try:
        return importlib.util.find_spec(path) is not None
    except (ImportError, ValueError):  # a parent is missing, or the name is no name
        return False


def _names(builtin: ModuleType, function: str) -> list[str]:
    """Modules of the package that define `function` themselves."""
    names = [module.name for module in pkgutil.iter_modules(builtin.__path__)]
    modules = {n: importlib.import_module(f"{builtin.__name__}.{n}") for n in names}
    return sorted(name for name in names if hasattr(modules[name], function))

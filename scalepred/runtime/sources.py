"""Code and data of one's own that runs depend on, as digests: a change is told.

A row is named by the settings of its run, and a family that was edited has the same
settings. So the record of a workdir has a digest of every module of one's own.
"""

import ast
import hashlib
import importlib.util
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

from etils import epath

from scalepred.config import UserError
from scalepred.runtime.files import digest

_PACKAGE = "scalepred"
_INSTALLED = ("site-packages", "dist-packages")

# By module, as it was when it was first looked at; with a spec, which a module that is
# loaded anew has another of.
_SOURCES: dict[str, tuple[object, str]] = {}

# By what is named in the config, such as "family": digests by module, or by part.
Sources = Mapping[str, Mapping[str, str]]


def digest_module(module: ModuleType) -> dict[str, str]:
    """Digests of a module's source and of those that it imports from beside it.

    Beside it are modules of its own package, and those in the folder from which it is
    imported. What stands in a function `get_config` is left out, as a study may stand
    in the same file; all else counts, comments too.

    Args:
        module: that a config names.

    Returns:
        By name of the module; none for a module of this package.
    """
    found: dict[str, str] = {}
    top = module.__name__.partition(".")[0]
    path = _path_of(module.__name__)
    if top == _PACKAGE or path is None:
        return found
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    root = path.parents[depth]
    waiting = [module.__name__]
    while waiting:
        name = waiting.pop()
        path = _path_of(name)
        if name in found or path is None or not _is_beside(name, path, top, root):
            continue
        source = _read(name, path)
        tree = ast.parse(source)
        found[name] = digest(_without_config(source, tree))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imported(tree, package)
    return dict(sorted(found.items()))


def _path_of(name: str) -> pathlib.Path | None:
    """The file of Python that a module is in; None if there is none."""
    loaded = sys.modules.get(name)
    try:
        spec = None if loaded else importlib.util.find_spec(name)
    except (ImportError, ValueError):  # no module, but a name in one
        return None
    path = getattr(loaded, "__file__", None) or (spec and spec.origin)
    is_source = path and path.endswith(".py") and pathlib.Path(path).is_file()
    return pathlib.Path(path).resolve() if path and is_source else None


def _read(name: str, path: pathlib.Path) -> str:
    """The source that is loaded, which an editor may have changed on the disk since."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    loaded, source = _SOURCES.get(name, (None, ""))
    if spec is None or loaded is not spec:
        source = path.read_text(encoding="utf-8")
        _SOURCES[name] = spec, source
    return source


def _is_beside(name: str, path: pathlib.Path, top: str, root: pathlib.Path) -> bool:
    own = name.partition(".")[0]
    if own == top:
        return True
    return (
        own != _PACKAGE
        and path.is_relative_to(root)
        and not set(_INSTALLED) & set(path.parts)
    )


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names of modules that an import may stand for, and of the packages around."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base]).strip(".")
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    for name in names:
        if name.partition(".")[0] in sys.stdlib_module_names:
            continue
        parts = name.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _without_config(source: str, tree: ast.Module) -> str:
    lines = source.splitlines()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "get_config":
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [""] * (last - first)
    return "\n".join(lines)


def digest_package() -> str:
    """Of all the code of this package."""
    root = pathlib.Path(__file__).resolve().parents[1]
    files = sorted(root.rglob("*.py"))
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def find_changes(workdir: epath.Path, now: Sources) -> list[str]:
    """What the runs of a workdir were made with and is other now, a sentence each.

    Args:
        workdir: whose config.json is read; one that was written before sources were
            recorded says nothing of them.
        now: the sources of a study.

    Raises:
        UserError: that file is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return []
    try:
        before = json.loads(path.read_text()).get("sources", {})
    except (ValueError, AttributeError):
        raise UserError(f"{path}: damaged; put it back as it was") from None
    return [
        f"{part} ({field}) is not what it was when the runs in {workdir} were made"
        for field, digests in now.items()
        for part, one in digests.items()
        if before.get(field, {}).get(part, one) != one
    ]


def refuse(changes: list[str]) -> UserError:
    """That rows of other code would be taken for those of this one."""
    return UserError(
        f"{'; '.join(changes)} (any edit of a source counts, of a comment too); choose "
        "another --workdir, or, if the rows are still right, keep them with "
        "--config.keep_rows=true"
    )

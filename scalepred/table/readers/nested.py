"""Cells that hold objects: a run's config and summary, as the API of W&B gives them."""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from scalepred.table.readers.raw import Row

# Of a dictionary that Python printed: what `literal_eval` does not know.
_NUMPY = re.compile(r"\bnp\.\w+\(([^()]*)\)")
_NO_NUMBER = re.compile(r"-?\b(nan|inf)\b")
# What W&B puts around a value of a config.
_WRAPPED = ({"value"}, {"desc", "value"})
_LONGEST = 100_000  # characters of a cell that is parsed
_FIRST = 20  # rows that are looked at


def as_rows(records: Sequence[Mapping[str, Any]]) -> list[tuple[int, Row]]:
    """Rows of text, numbered from 1, with the columns of all; what lacks is empty.

    Objects within objects are columns "outer.inner".
    """
    flat = [flatten(record) for record in records]
    names = dict.fromkeys(name for one in flat for name in one)
    return [
        (number, {name: one.get(name, "") for name in names})
        for number, one in enumerate(flat, start=1)
    ]


def expand(rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Rows whose cells are text, those that hold an object as columns of their own."""
    if not any(
        _looks_like_one(cell) for _, row in rows[:_FIRST] for cell in row.values()
    ):
        return rows
    wide = as_rows([row for _, row in rows])
    return [(line, row) for (line, _), (_, row) in zip(rows, wide, strict=True)]


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Cells of text by column."""
    flat: dict[str, str] = {}
    for name, value in record.items():
        own = _read_object(value) if isinstance(value, str) else value
        if isinstance(own, dict) and set(own) in _WRAPPED:
            own = own["value"]
        if isinstance(own, dict):
            flat |= flatten(own, f"{prefix}{name}.")
        elif isinstance(own, str):
            flat[prefix + name] = own
        else:
            # Numbers as Python writes them, which are read back as the same.
            flat[prefix + name] = "" if own is None else json.dumps(own, default=str)
    return flat


def _looks_like_one(cell: str) -> bool:
    return cell.startswith("{") and cell.endswith("}") and len(cell) <= _LONGEST


def _read_object(cell: str) -> dict[str, Any] | str:
    """An object in JSON or as Python prints it; other text as it is."""
    if not _looks_like_one(cell):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        plain = _NO_NUMBER.sub("None", _NUMPY.sub(r"\1", cell))
        try:
            with warnings.catch_warnings(action="ignore"):
                found = ast.literal_eval(plain)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return cell
    if not isinstance(found, dict):
        return cell
    return {str(name): value for name, value in found.items()}

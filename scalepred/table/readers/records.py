"""JSON: a row an object, a line each or in a list; histories of trainers."""

import json
from typing import Any

from scalepred.config import UserError
from scalepred.table.readers.raw import Raw


def is_json(text: str) -> bool:
    """Whether the file begins as JSON does."""
    return text.lstrip()[:1] in ("{", "[")


def parse(path: object, text: str) -> Raw:
    """Rows of a JSON file; objects within objects are columns "outer.inner".

    Raises:
        UserError: names the line and what is wrong with it.
    """
    kind, records = _find_records(path, text)
    rows = []
    names: dict[str, None] = {}
    flat = [_flatten(record) for record in records]
    for one in flat:
        names |= dict.fromkeys(one)
    for number, one in enumerate(flat, start=1):
        rows.append((number, {name: one.get(name, "") for name in names}))
    if not rows:
        raise UserError(f"{path}: no rows; add at least one point")
    return Raw(rows, kind)


def _find_records(path: object, text: str) -> tuple[str, list[Any]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        return "trainer_state.json, a run's history", whole["log_history"]
    if isinstance(whole, dict):
        columns = [v for v in whole.values() if isinstance(v, list)]
        if columns and len(columns) == len(whole):
            lengths = {len(column) for column in columns}
            if len(lengths) > 1:
                raise UserError(
                    f"{path}: columns of {sorted(lengths)} rows; give as many"
                )
            keys = list(whole)
            return "JSON, a list a column", [
                dict(zip(keys, cells, strict=True))
                for cells in zip(*columns, strict=True)
            ]
        if whole and all(isinstance(v, dict) for v in whole.values()):
            return "JSON, an object a column", _turn(whole)
        return "JSON lines", [whole]
    if isinstance(whole, list):
        if not all(isinstance(one, dict) for one in whole):
            raise UserError(f"{path}: a list, but not of objects; give one a run")
        return "JSON, a list of rows", whole
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}: not JSON ({error.msg}); correct that line"
            ) from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: not an object; give one a run")
        records.append(record)
    return "JSON lines", records


def _turn(columns: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """As pandas writes a frame: cells by row within columns."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    return [{name: column.get(key) for name, column in columns.items()} for key in keys]


def _flatten(record: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            flat[prefix + name] = value
        else:
            # Numbers as Python writes them, which are read back as the same.
            text = "" if value is None else json.dumps(value)
            flat[prefix + name] = text
    return flat

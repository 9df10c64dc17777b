"""JSON: a row an object, a line each or in a list; histories of trainers."""

import json
from typing import Any

from scalepred.config import UserError
from scalepred.table.readers import nested, wandb
from scalepred.table.readers.raw import Raw

# What W&B adds to the summary of a run.
_WANDB = {"_wandb", "_runtime"}


def is_json(text: str) -> bool:
    """Whether the file begins as JSON does."""
    return text.lstrip()[:1] in ("{", "[")


def parse(path: object, text: str) -> Raw:
    """Rows of a JSON file; objects within objects are columns "outer.inner".

    Raises:
        UserError: names the line and what is wrong with it.
    """
    kind, records = _find_records(path, text)
    rows = nested.as_rows(records)
    if not rows:
        raise UserError(f"{path}: no rows; add at least one point")
    return Raw(rows, kind)


def _find_records(path: object, text: str) -> tuple[str, list[Any]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        return "trainer_state.json, a run's history", _as_objects(
            path, whole["log_history"]
        )
    if isinstance(whole, dict) and _WANDB & set(whole):
        raise UserError(f"{path}: {wandb.ONE_RUN}")
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
        return "JSON, a list of rows", _as_objects(path, whole)
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


def _as_objects(path: object, rows: list[Any]) -> list[Any]:
    if not all(isinstance(one, dict) for one in rows):
        raise UserError(f"{path}: a list, but not of objects; give one a run")
    return rows


def _turn(columns: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """As pandas writes a frame: cells by row within columns."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    return [{name: column.get(key) for name, column in columns.items()} for key in keys]

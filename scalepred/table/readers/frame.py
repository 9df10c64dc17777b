"""Tables in memory: a DataFrame of pandas or polars, or any mapping of columns."""

from typing import Any

from scalepred.config import UserError
from scalepred.table.readers import nested
from scalepred.table.readers.raw import Raw, Row


def parse(frame: Any, path: object = "the table") -> Raw:
    """The rows of a frame, as a CSV would hold them.

    Args:
        frame: columns by name, all of one length; missing cells are None or NaN.
        path: what it is called, for errors.

    Raises:
        UserError: it is no table.
    """
    try:
        names = list(getattr(frame, "columns", frame))
        columns = {str(name): [*map(_to_text, frame[name])] for name in names}
    except (TypeError, KeyError, IndexError):
        raise UserError(
            f"a {type(frame).__name__} is no table; give a Surface, a DataFrame or a "
            "mapping with columns params, data, value"
        ) from None
    if len(columns) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: column {str(twice)!r} stands twice; keep one")
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) > 1:
        raise UserError(f"{path}: columns of {sorted(lengths)} rows; give as many")
    rows: list[tuple[int, Row]] = [
        (number, dict(zip(columns, cells, strict=True)))
        for number, cells in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    if not rows:
        raise UserError(f"{path}: no rows; add at least one point")
    return Raw(nested.expand(rows))


def _to_text(cell: Any) -> str:
    """As a CSV would hold it; a cell that is missing is empty."""
    text = str(cell).strip()
    # pandas has a missing cell that is neither true nor false when compared.
    return "" if cell is None or text in ("nan", "<NA>", "NaT") else text

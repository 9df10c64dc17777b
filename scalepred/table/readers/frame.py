"""Tables in memory: a DataFrame of pandas or polars, or any mapping of columns."""

from typing import Any

from scalepred.config import UserError
from scalepred.table.readers import csv


def read(
    frame: Any,
    metric: str | None = None,
    task: str | None = None,
    data_counts: str | None = None,
) -> csv.Columns:
    """The columns of a frame, by the same rules as those of a file.

    Args:
        frame: columns by name, all of one length; missing cells are None or NaN.
        metric: see `Surface.from_csv`, as the others.
        task: likewise.
        data_counts: likewise.

    Raises:
        UserError: it is no table, or what is in it cannot be fitted.
    """
    try:
        names = list(getattr(frame, "columns", frame))
        columns = {str(name): [*map(_to_text, frame[name])] for name in names}
    except (TypeError, KeyError, IndexError):
        raise UserError(
            f"a {type(frame).__name__} is no table; give a Surface, a DataFrame or a "
            "mapping with columns params, data, value"
        ) from None
    csv.check_header("the table", [str(name) for name in names])
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) > 1:
        raise UserError(f"the table: columns of {sorted(lengths)} rows; give as many")
    rows: list[tuple[int, csv.Row]] = [
        (number, dict(zip(columns, cells, strict=True)))
        for number, cells in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    if not rows:
        raise UserError("the table: no rows; add at least one point")
    return csv.tell(rows, [], "the table", metric, task, data_counts)


def _to_text(cell: Any) -> str:
    """As a CSV would hold it; a cell that is missing is empty."""
    text = str(cell).strip()
    # pandas has a missing cell that is neither true nor false when compared.
    return "" if cell is None or text in ("nan", "<NA>", "NaT") else text

"""Which rows of a table count."""

from collections.abc import Mapping, Sequence

from scalepred.config import UserError
from scalepred.table import numbers

_SHOWN_CHARS = 40
_LISTED_CHARS = 160

Row = Mapping[str, str]


def select(
    rows: list[tuple[int, Row]], column: str, wanted: str | None, path: object
) -> list[tuple[int, Row]]:
    """Rows whose `column` is `wanted`; all rows where the file has no such column."""
    if column not in rows[0][1]:
        return rows
    names = sorted({row[column] for _, row in rows})
    if wanted is None:
        if len(names) > 1:
            raise UserError(
                f"{path}: several values of {column} in one file "
                f"({_list_some(names)}); choose one with --{column}"
            )
        return rows
    kept = [(line, row) for line, row in rows if row[column] == wanted]
    if not kept:
        raise UserError(
            f"{column}={wanted!r}: not in {path} (there: {_list_some(names)})"
        )
    return kept


def _list_some(names: Sequence[str]) -> str:
    """Names that can be typed: whole ones, as many as a line or two hold."""
    shown: list[str] = []
    for name in names:
        shown.append(shorten(name, _LISTED_CHARS))
        if len(", ".join(shown)) > _LISTED_CHARS:
            shown = shown[:-1] or shown
            break
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def select_metric(
    rows: list[tuple[int, Row]], metric: str | None, path: object
) -> list[tuple[int, Row]]:
    """Like `select`; error and loss also say of what kind a lone metric is.

    Our own tables have a column for every metric beside the one that `value` is of.
    """
    names = {row.get("metric") for _, row in rows}
    if (
        metric
        and metric not in names
        and metric in rows[0][1]
        and "cell_id" in rows[0][1]
    ):
        return [
            (line, {**row, "metric": metric, "value": row[metric]})
            for line, row in rows
        ]
    if metric in ("error", "loss") and metric not in names and len(names) == 1:
        return [(line, {**row, "metric": metric}) for line, row in rows]
    return select(rows, "metric", metric, path)


def check_no_twins(rows: list[tuple[int, Row]], path: object) -> None:
    """Refuses rows that are the same in every column."""
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        cells = tuple(row.values())
        if cells in seen:
            raise UserError(
                f"{path}: lines {seen[cells]} and {line} are the same; remove one, or "
                "add a seed column if they are two runs"
            )
        seen[cells] = line


def select_where(
    rows: list[tuple[int, Row]],
    wanted: Sequence[str],
    names: Mapping[str, str],
    path: object,
) -> list[tuple[int, Row]]:
    """Rows whose columns have the wanted cells; numbers are compared as such.

    Args:
        rows: of a table.
        wanted: column=cell, each; columns by the table's name or by ours.
        names: of the table's columns, by our name.
        path: of the table, for errors.

    Raises:
        UserError: no such column, or no such row.
    """
    for text in wanted:
        column, found, cell = text.partition("=")
        column, cell = column.strip(), cell.strip()
        if column not in rows[0][1]:
            column = names.get(column, column)
        if not found or column not in rows[0][1]:
            raise UserError(
                f"--where={text}: must look like COLUMN=VALUE, with a column of {path} "
                f"({shorten(', '.join(rows[0][1]))})"
            )
        there = dict.fromkeys(row[column] for _, row in rows)
        rows = [(line, row) for line, row in rows if _is_same(row[column], cell)]
        if not rows:
            raise UserError(
                f"--where={text}: no such row in {path} (there: "
                f"{shorten(', '.join(there))})"
            )
    return rows


def _is_same(cell: str, wanted: str) -> bool:
    if cell == wanted:
        return True
    try:
        return numbers.parse(cell) == numbers.parse(wanted)
    except ValueError:
        return False


def shorten(text: str, most: int = _SHOWN_CHARS) -> str:
    """Printable and short: garbage must not flood or control the terminal."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= most else clean[: most - 3] + "..."

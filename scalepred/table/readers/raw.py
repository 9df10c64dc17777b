"""What every reader gives: rows of text by the names that the file has."""

from collections.abc import Mapping
from typing import NamedTuple

Row = Mapping[str, str]


class Raw(NamedTuple):
    """A table as it is written.

    Attributes:
        rows: line number and cells by column.
        kind: what it was read as, for people; "": as plain a CSV as can be.
        decimal: the decimal mark, where the format says it; else "".
        comma: commas separate its cells.
        notes: what is said of the file.
    """

    rows: list[tuple[int, Row]]
    kind: str = ""
    decimal: str = ""
    comma: bool = False
    notes: tuple[str, ...] = ()

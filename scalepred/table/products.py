"""Data that no column counts, but two or three together do.

Steps times what one step takes are tokens; parameters times data a parameter are data.
"""

import math
import re
from collections.abc import Mapping, Sequence

from scalepred.table import naming, numbers
from scalepred.table.naming import Naming
from scalepred.table.readers.raw import Row

Rows = list[tuple[int, Row]]

_TOKENS = (
    "tokens per step", "tokens per batch", "tokens per update", "batch tokens",
    "batch size tokens", "batch size in tokens", "global batch size tokens",
    "train batch size tokens",
)  # fmt: skip
_BATCH = (
    "global batch size", "total batch size", "total train batch size", "batch size",
    "train batch size", "batch", "bs", "batch size sequences",
)  # fmt: skip
_LENGTH = (
    "seq len", "seq length", "seqlen", "sequence length", "context length",
    "context len", "context size", "ctx len", "n ctx", "block size", "max seq len",
    "max seq length",
)  # fmt: skip
# Where one of these is not 1, a batch may be a part of what a step takes.
_PARTS = re.compile(
    r"(gradient|grad) (accumulation|accum|acc)( steps)?|accumulate grad batches|"
    r"world size|(n|num) (gpus?|devices|nodes|workers)|data parallel( size)?"
)
# No step takes more tokens, and no parameter: then a batch counts tokens already.
_MOST = 1e8


def multiply(
    rows: Rows, named: Naming, said: Mapping[str, str], decimal: str
) -> tuple[Rows, Naming]:
    """Data as the product of columns; all as it is where not every row tells.

    Args:
        rows: that count, by our names.
        named: which columns are ours.
        said: by our name, what the user calls it.
        decimal: mark of the table.

    Returns:
        The rows, and the columns: that of data says what was multiplied.
    """
    header = list(rows[0][1])
    data, unit = named.columns.get("data", ""), named.units.get("data", 1.0)
    cells, factors = {}, []
    if not data and "params" in named.columns:
        factors = ["params", naming.find_ratio(header)]
        unit = named.units.get("params", 1.0)
    elif data and "data" not in said and _are_steps(data):
        factors = ["data", *_find_a_step(rows, header, decimal)]
        cells = {"data_unit": "tokens"}
    if len(factors) < 2 or not all(factors):
        return rows, named
    counted = []
    for line, row in rows:
        first, *others = (_read(row[name], decimal) for name in factors)
        each = math.prod(others)
        count = first * each * unit
        if not (0 < each <= _MOST and count >= 1):  # nor NaN
            return rows, named
        counted.append((line, {**cells, **row, "data": f"{count:.0f}"}))
    how = " x ".join(named.columns.get(name, name) for name in factors)
    units = {name: unit for name, unit in named.units.items() if name != "data"}
    columns = named.columns | {"data": how}
    return counted, named._replace(columns=columns, units=units, is_guessed=True)


def _are_steps(name: str) -> bool:
    """Whether a column of this name counts steps; epochs are none."""
    return bool(naming.find_steps([name])) and naming.plain(name) != "epoch"


def _find_a_step(rows: Rows, header: Sequence[str], decimal: str) -> list[str]:
    """The columns that say how many tokens a step takes; some "" where none does."""
    parts = [
        name
        for name in header
        if _PARTS.fullmatch(naming.drop_prefix(naming.plain(name)))
    ]
    if any(_read(row[name], decimal) != 1 for name in parts for _, row in rows):
        return [""]
    if tokens := _find(header, _TOKENS):
        return [tokens]
    return [_find(header, _BATCH), _find(header, _LENGTH)]


def _find(header: Sequence[str], usual: Sequence[str]) -> str:
    """The first column of a usual name; "" where there is none."""
    plainly = {naming.drop_prefix(naming.plain(name)): name for name in header}
    return next((plainly[name] for name in usual if name in plainly), "")


def _read(text: str, decimal: str) -> float:
    """A cell as a number, NaN where it is none."""
    try:
        return numbers.parse(text, decimal)
    except ValueError:
        return math.nan

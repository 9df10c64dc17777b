"""Steps times what one step takes: tokens, where a table tells batch and length."""

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
# No step takes so many tokens: the batch counts tokens already, or something else.
_MOST_TOKENS = 1e8


def count_tokens(
    rows: Rows, named: Naming, said: Mapping[str, str], decimal: str
) -> tuple[Rows, Naming]:
    """Data in tokens in place of steps; all as it is where not every row tells.

    Args:
        rows: that count, by our names.
        named: which columns are ours.
        said: by our name, what the user calls it.
        decimal: mark of the table.

    Returns:
        The rows, and the columns: that of data says what was multiplied.
    """
    header = list(rows[0][1])
    step = named.columns.get("data", "")
    if "data" in said or naming.find_steps([step]) != step or "epoch" in step.lower():
        return rows, named
    a_step, batch = _find(header, _TOKENS), _find(header, _BATCH)
    factors = [a_step] if a_step else [batch, _find(header, _LENGTH)]
    parts = [
        name
        for name in header
        if _PARTS.fullmatch(naming.drop_prefix(naming.plain(name)))
    ]
    shared = any(_read(row[name], decimal) != 1 for name in parts for _, row in rows)
    if not all(factors) or shared:
        return rows, named
    counted = []
    for line, row in rows:
        tokens = math.prod(_read(row[name], decimal) for name in factors)
        count = _read(row["data"], decimal) * tokens
        if not (1 <= tokens <= _MOST_TOKENS and count >= 1):  # not so of NaN, too
            return rows, named
        cells = {"data": f"{count:.0f}", "data_unit": row.get("data_unit") or "tokens"}
        counted.append((line, {**row, **cells}))
    how = " x ".join([step, *factors])
    columns = named.columns | {"data": how}
    return counted, named._replace(columns=columns, is_guessed=True)


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

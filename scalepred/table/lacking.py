"""A size that no column holds: made of FLOPs, one for all, or asked about."""

import re
from collections.abc import Callable, Sequence

from scalepred.config import UserError
from scalepred.table import naming, settings
from scalepred.table.naming import Naming
from scalepred.table.readers.raw import Row

# What the name of a column may hold that is the size that no other column is.
_SIZE_NAME = re.compile(
    r"\b(e|p|z|t)?flops?\b|\bcompute\b|\b(tokens?|params?|parameters?|examples?|samples?|"
    r"images?|words|bytes|sequences|data|hours)\b"
)
# Of a model, which say how large it is without its parameters.
_SHAPE = re.compile(
    r"(width|depth|d model|d ff|(n|num) (layers?|heads?|blocks)|layers|"
    r"(hidden|model|embedding|embed) (size|dim)|channels)"
)
_SPEED = re.compile(r"\b(s|sec|seconds?|throughput)\b")
_TRAIN_FLOPS = 6.0  # a parameter and example (Kaplan et al. 2020, section 2.1)

Rows = list[tuple[int, Row]]


def _find(named: Naming) -> list[str]:
    """The sizes that no column holds."""
    return [name for name in ("params", "data") if name not in named.columns]


def check_settings(varying: Sequence[str], named: Naming, path: object) -> None:
    """Refuses what may be the size that is missing, not a setting of which one is best.

    Raises:
        UserError: a size is missing, and a column of unknown meaning varies.
    """
    if measured := next(filter(settings.is_measured, varying), None):
        raise UserError(
            f"{path}: several values of {measured} at the same sizes, and one says "
            f"nothing of another; choose one with --where={measured}=..."
        )
    lacking = _find(named)
    unknown = [name for name in varying if not settings.is_known(name)]
    if lacking and unknown and "flops" not in named.columns:
        raise UserError(
            f"{path}: no column of {lacking[0]}, and {unknown[0]} differs among runs "
            f"that are otherwise alike; say --columns={lacking[0]}={unknown[0]} if it "
            f"is that, or keep one of them with --where={unknown[0]}=..."
        )


def check_curve(rows: Rows, named: Naming, path: object) -> None:
    """Refuses a curve along one size of runs that differ in what may be the other.

    Raises:
        UserError: names the column.
    """
    columns, lacking = named.columns, _find(named)
    if len(lacking) != 1 or "flops" in columns:
        return
    known = "data" if lacking == ["params"] else "params"
    for name in sorted(rows[0][1].keys() - columns.keys()):
        plain = naming.plain(name)
        is_size = _SIZE_NAME.search(plain) and not _SPEED.search(plain)
        is_size = is_size and not settings.is_known(name)
        if not is_size and not (known == "data" and _SHAPE.fullmatch(plain)):
            continue
        pairs = {(row[known], row[name]) for _, row in rows}
        if len(pairs) > len({row[known] for _, row in rows}):
            raise UserError(
                f"{path}: no column of {lacking[0]}, and {name} differs among runs of "
                f"the same {known}; say --columns={lacking[0]}={name} if it is that, "
                f"or keep one of them with --where={name}=..."
            )


def fill(
    rows: Rows, named: Naming, number: Callable[[int, Row, str], float]
) -> tuple[Rows, str]:
    """Rows with both sizes, and how: from FLOPs, or 1 for one that is not known.

    Args:
        rows: by our names.
        named: which columns have them.
        number: (line, row, column) -> the cell as a number.
    """
    lacking = _find(named)
    if not lacking:
        return rows, ""
    lacks, has = lacking[0], "data" if lacking[0] == "params" else "params"
    flops = "flops" in named.columns
    filled = []
    for line, row in rows:
        own = {**row}
        if len(lacking) == 2:
            own |= {"params": "1", "data": row["flops"]}
        elif flops:
            cost = number(line, row, "flops")
            own[lacks] = repr(cost / _TRAIN_FLOPS / number(line, row, has))
        else:
            own[lacks] = "1"
        filled.append((line, own))
    if len(lacking) == 2:
        note = "no column of params or data: a curve along compute is fitted"
    elif flops:
        note = f"no column of {lacks}: {lacks} are FLOPs / (6 {has})"
    else:
        note = (
            f"no column of {lacks}: a curve along {has} is fitted, of runs whose "
            f"{lacks} are taken to be the same"
        )
    return filled, note

"""Histories: the rows that a run logged along its steps, of which few hold the value.

Rows of one step belong together; one without the value is no run that failed; and
where nothing says the sizes of several runs, their curves are not of one law, unless
they are numbered as repeats of one.
"""

import re
from collections.abc import Mapping, Sequence

from scalepred.config import UserError
from scalepred.table import naming, numbers
from scalepred.table.naming import Naming
from scalepred.table.readers.raw import Row

Rows = list[tuple[int, Row]]

# How tools call a run, best first.
_RUNS = ("run id", "run name", "run path", "run", "runs", "name", "trial id", "trial")
# How people call repeats of one run.
_REPEAT = re.compile(r"(rep|repeat|replicate|seed|fold|trial|run)?[ _-]?\d+", re.I)


def prepare(
    rows: Rows, named: Naming, said: Mapping[str, str], path: object
) -> tuple[Rows, Naming, list[str]]:
    """The rows that hold a value, their columns by what is known of those rows.

    Args:
        rows: of a table as it is written.
        named: which of its columns are ours.
        said: by our name, what the user calls it.
        path: of the table, for errors.

    Returns:
        Rows, columns and sentences; all as they were where the table is no history.

    Raises:
        UserError: there are several runs that are no repeats, and nothing says their
            sizes.
    """
    header = list(rows[0][1])
    step, value = naming.find_steps(header), named.columns.get("value")
    run = _find_run(rows, header, named)
    is_curve = "params" not in named.columns
    is_curve &= not {"flops", "data"} <= set(named.columns)
    if run and value and is_curve and (step or not _are_repeats(rows, run)):
        _check_one_run(rows, run, value, path)
    if not step or not value or "status" in named.columns:
        return rows, named, []
    if "params" in named.columns and not run:
        return rows, named, []
    notes = []
    if run and "seed" not in named.columns:
        named = named._replace(columns=named.columns | {"seed": run}, is_guessed=True)
    merged = _merge(rows, (step, run) if run else (step,), value)
    kept = [(line, row) for line, row in merged if not numbers.is_missing(row[value])]
    if not kept:
        return rows, named, []
    if len(kept) < len(merged):
        notes.append(
            f"{len(merged) - len(kept)} of {len(merged)} steps hold no {value} and are "
            "left out"
        )
    return kept, _choose_data(kept, named, said, step), notes


def starts_at_zero(row: Row, named: Naming) -> bool:
    """Whether a row stands at the start of a run, which has learnt nothing there."""
    data = named.columns.get("data", "")
    is_along = "params" not in named.columns or bool(naming.find_steps(list(row)))
    is_along |= naming.find_steps([data]) == data
    return is_along and row.get("data", "").strip() in ("0", "0.0")


def _find_run(rows: Rows, header: Sequence[str], named: Naming) -> str:
    """The column that names the run of each row, of which a run has several."""
    free = [name for name in header if name not in named.columns.values()]
    for wanted in _RUNS:
        for name in free:
            runs = {row[name] for _, row in rows}
            if naming.plain(name) == wanted and len(runs) <= len(rows) / 2:
                return name if _is_of_one_size(rows, name, named) else ""
    return ""


def _is_of_one_size(rows: Rows, run: str, named: Naming) -> bool:
    params = named.columns.get("params")
    if params is None:
        return True
    sizes = {(row[run], row[params]) for _, row in rows if row[params]}
    return len(sizes) <= len({row[run] for _, row in rows})


def _check_one_run(rows: Rows, run: str, value: str, path: object) -> None:
    runs = dict.fromkeys(row[run] for _, row in rows if not _lacks(row, value))
    if len(runs) < 2:
        return
    first = next(iter(runs))
    raise UserError(
        f"{path}: curves of {len(runs)} runs ({run}: {naming.show([*runs])}), and "
        f"nothing says their sizes; add a column params, keep one with --where={run}"
        f"={first}, or say --columns=seed={run} if they are repeats of one"
    )


def _are_repeats(rows: Rows, run: str) -> bool:
    """Whether runs are named as repeats of one: rep0, seed 1, fold-2, or by number."""
    return all(_REPEAT.fullmatch(row[run].strip()) for _, row in rows)


def _lacks(row: Row, name: str) -> bool:
    return numbers.is_missing(row[name])


def _merge(rows: Rows, keys: Sequence[str], value: str) -> Rows:
    """Rows of the same step as one, where none contradicts the others."""
    merged: list[tuple[int, dict[str, str]]] = []
    open_at: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        key = tuple(row[name] for name in keys)
        place = open_at.get(key)
        if place is not None and _agree(merged[place][1], row, value):
            own = merged[place][1]
            own |= {name: cell for name, cell in row.items() if cell}
            continue
        open_at[key] = len(merged)
        merged.append((line, dict(row)))
    return [*merged]


def _agree(one: Row, other: Row, value: str) -> bool:
    """Whether at most one has the value, and no cell says two things."""
    if one[value] and other[value]:
        return False
    return all(one[name] in ("", cell) or not cell for name, cell in other.items())


def _choose_data(
    rows: Rows, named: Naming, said: Mapping[str, str], step: str
) -> Naming:
    """Steps in place of data that most rows lack; no FLOPs that they lack."""
    columns = dict(named.columns)
    for name in ("data", "flops"):
        theirs = columns.get(name)
        if theirs is None or name in said:
            continue
        lacking = sum(_lacks(row, theirs) for _, row in rows)
        if lacking > len(rows) / 2:
            columns.pop(name)
    columns.setdefault("data", step)
    # FLOPs / (6 steps) are the size of nothing.
    if "params" not in columns and columns["data"] == step and "flops" not in said:
        columns.pop("flops", None)
    return named._replace(columns=columns)

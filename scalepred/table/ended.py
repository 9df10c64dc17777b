"""How the runs of a table ended: which count, and what is said of the others."""

import re
from collections.abc import Mapping

from scalepred.config import UserError
from scalepred.table import history, naming, numbers
from scalepred.table.left_out import LeftOut, Run, describe
from scalepred.table.readers.raw import Row
from scalepred.table.selection import shorten

# How people and tools call a run that ended well.
_ENDED_WELL = {
    "ok", "finished", "complete", "completed", "success", "succeeded", "successful",
    "done", "converged", "trialstate.complete", "true", "1",
}  # fmt: skip
# Columns of yes and no that say whether it did not, or did.
_YES, _NO = {"true", "1", "1.0", "yes", "y"}, {"false", "0", "0.0", "no", "n"}
_FLAGS = ("diverged", "crashed", "failed", "killed", "aborted", "oom")
_NOT_FLAGS = ("converged", "completed", "finished", "success", "succeeded", "ok")
_CODES = ("exit code", "exitcode", "exit status", "return code", "returncode")

Rows = list[tuple[int, Row]]


def judge(rows: Rows, named: naming.Naming) -> Rows:
    """The rows with a status: ok only if a run ended well and has what is fitted.

    Args:
        rows: by our names.
        named: which columns have them.
    """
    flags = _find_flags(rows)
    return [(line, _judge(row, named, flags)) for line, row in rows]


def drop_failed(rows: Rows, path: object) -> Rows:
    """Rows of runs that ended well."""
    kept = [row for row in rows if row[1]["status"] == "ok"]
    if not kept:
        there = dict.fromkeys(row["status"] or "none" for _, row in rows)
        raise UserError(
            f"{path}: no row has status ok, so nothing can be fitted (there: "
            f"{shorten(', '.join(there))}; ok, finished, completed and success are "
            "runs that ended well)"
        )
    return kept


def describe_left_out(rows: Rows, chosen: Row) -> LeftOut:
    """What is said of runs that did not end well, of the task of the `chosen` row."""
    task = chosen.get("task")
    return describe(
        [
            Run(
                _as_size(row.get("params", "")),
                _as_size(row.get("data", "")),
                row["status"],
            )
            for _, row in rows
            if row.get("task") in (task, "") and row["status"] != "at step 0"
        ]
    )


def _as_size(cell: str) -> float | str:
    """A number where it is one: of a run that failed the cell may be anything."""
    try:
        return float(cell)
    except ValueError:
        return cell.strip()


def _find_flags(rows: Rows) -> dict[str, str]:
    """Of columns that say whether a run failed, what is said of one that did."""
    found = {}
    for name in rows[0][1]:
        flag = naming.plain(name).removeprefix("is ").removeprefix("has ")
        if flag in (*_FLAGS, *_NOT_FLAGS) and all(
            row[name].strip().lower() in {*_YES, *_NO, ""} for _, row in rows
        ):
            found[name] = flag if flag in _FLAGS else f"not {flag}"
        codes = [row[name].strip().removesuffix(".0") for _, row in rows]
        if flag in _CODES and all(re.fullmatch(r"-?\d*", code) for code in codes):
            found[name] = "exit code"
    return found


def _judge(row: Row, named: naming.Naming, flags: Mapping[str, str]) -> Row:
    """The row with a status: ok only if it ended well and has what is fitted.

    Args:
        row: by our names.
        named: which columns have them.
        flags: from `_find_flags`.
    """
    status = row.get("status", "ok").strip()
    for name, said in flags.items():
        cell = row[name].strip().lower()
        if said == "exit code":
            code = cell.removesuffix(".0")
            status = f"exit code {code}" if code not in ("", "0") else status
            continue
        wrong = _NO if said.startswith("not ") else _YES
        status = said if cell in wrong else status
    if status.lower() in _ENDED_WELL:
        needed = [name for name in naming.SIZES if name in named.columns]
        needed = needed[:2] if len(needed) == 3 else needed
        status = "ok"
        for name in ("value", *needed):
            if numbers.is_missing(row[name]) and not _is_ours(row):
                status = f"without a {name}" if name == "value" else f"without {name}"
                break
            if name == "data" and history.starts_at_zero(row, named):
                status = "at step 0"
    return {**row, "status": status}


def _is_ours(row: Row) -> bool:
    return "cell_id" in row and row.get("status") == "ok"

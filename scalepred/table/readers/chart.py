"""A chart that W&B exports: columns "RUN - KEY" beside the steps or another x."""

from scalepred.config import UserError
from scalepred.table.readers.raw import Row

_APART = " - "
# Beside every line stand its ends, those of what was smoothed or grouped.
_ENDS = ("__MIN", "__MAX")


def keep_one_run(
    path: object, header: list[str], rows: list[tuple[int, Row]]
) -> tuple[list[str], list[tuple[int, Row]]]:
    """The curves of a chart of one run, by their keys; other tables as they are.

    Args:
        path: for errors.
        header: names of the columns.
        rows: line and cells by column.

    Raises:
        UserError: it is a chart of several runs, of which nothing says the sizes.
    """
    lines = [name for name in header[1:] if not name.endswith(_ENDS)]
    parts = {name: name.rpartition(_APART) for name in lines}
    if not lines or any(not apart for _, apart, _ in parts.values()):
        return header, rows
    # Steps that stand beside the lines, and the time, are W&B's own.
    curves = {
        name: (run, key)
        for name, (run, _, key) in parts.items()
        if not key.startswith("_")
    }
    keys = {key for _, key in curves.values()}
    has_ends = all(name + end in header for name in lines for end in _ENDS)
    if not keys or (len(keys) > 1 and not has_ends):
        return header, rows
    runs = {run for run, _ in curves.values()}
    if len(runs) > 1:
        raise UserError(
            f"{path}: a chart of {len(runs)} runs as W&B exports it, in which nothing "
            f"says their sizes; export the table of runs, with columns for parameters, "
            f"data and {', '.join(sorted(keys))}"
        )
    kept = {header[0]: header[0], **{name: key for name, (_, key) in curves.items()}}
    named: list[tuple[int, Row]] = [
        (number, {ours: row[name] for name, ours in kept.items()})
        for number, row in rows
        if any(row[name] for name in curves)
    ]
    return [*kept.values()], named

"""A chart that W&B exports: one column a run, named "RUN - KEY", beside the steps."""

from scalepred.config import UserError
from scalepred.table.readers.raw import Row

_APART = " - "
# Beside a smoothed or grouped line stand its ends.
_ENDS = ("__MIN", "__MAX")


def keep_one_run(
    path: object, header: list[str], rows: list[tuple[int, Row]]
) -> tuple[list[str], list[tuple[int, Row]]]:
    """The curve of a chart of one run, its column named by its key; others as they are.

    Args:
        path: for errors.
        header: names of the columns.
        rows: line and cells by column.

    Raises:
        UserError: it is a chart of several runs, of which nothing says the sizes.
    """
    lines = [name for name in header[1:] if not name.endswith(_ENDS)]
    parts = [name.rpartition(_APART) for name in lines]
    keys = {key for _, apart, key in parts if apart}
    if not lines or len(keys) != 1 or any(not apart for _, apart, _ in parts):
        return header, rows
    (key,) = keys
    if len(lines) > 1:
        raise UserError(
            f"{path}: a chart of {len(lines)} runs as W&B exports it, in which nothing "
            f"says their sizes; export the table of runs, with columns for parameters, "
            f"data and {key}"
        )
    kept = {header[0]: header[0], lines[0]: key}
    named: list[tuple[int, Row]] = [
        (number, {kept[name]: row[name] for name in kept})
        for number, row in rows
        if row[lines[0]]
    ]
    return [*kept.values()], named

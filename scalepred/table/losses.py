"""The losses that stand beside the errors of a task, in the same rows of a table."""

import os
from collections.abc import Mapping
from typing import Any

from scalepred.config import UserError
from scalepred.metrics import is_bounded
from scalepred.runtime.files import open_path
from scalepred.table import meaning
from scalepred.table.readers import files
from scalepred.table.surface import Surface

AUTO, NONE, LOSS = "auto", "none", "loss"


def read_losses(
    path: os.PathLike | str,
    surface: Surface,
    through: str,
    columns: Mapping[str, str],
    **how: Any,
) -> Surface | None:
    """The surface of the losses of a table whose errors are to be followed through it.

    Args:
        path: the table.
        surface: of the errors, as it was read.
        through: auto (where there is a loss beside an error or accuracy that was asked
            for by name), none, loss, or the name of a column or metric.
        columns: by our name, what the table calls it.
        how: what else `Surface.from_csv` is told.

    Returns:
        None where none is wanted, or none is there.

    Raises:
        UserError: one was asked for that is not there.
    """
    if through == NONE or (through == AUTO and not is_bounded(surface.metric)):
        return None
    raw = files.read(open_path("measurements", path))
    rows = [row for _, row in raw.rows]
    metrics = sorted({row["metric"] for row in rows if row.get("metric")})
    names = [name for name in (*metrics, *rows[0]) if _is_loss(name)]
    if through not in (AUTO, LOSS):
        names = [name for name in (*metrics, *rows[0]) if name == through]
    if through == AUTO and "cell_id" in rows[0]:
        return None  # a study of ours names the metric that it fits
    if not names:
        if through == AUTO:
            return None
        raise UserError(
            f"--through={through}: {path} has no such column of losses (columns found: "
            f"{', '.join(rows[0])}); name one that it has, or leave it out"
        )
    name = min(names, key=_train_last)
    if name not in metrics and "cell_id" not in rows[0]:
        columns = {**columns, "value": name}
    return Surface.from_csv(path, metric=name, columns=columns, **how)


def _is_loss(name: str) -> bool:
    """Whether a column or metric of this name holds losses."""
    try:
        found = meaning.find_conversion(name, [1.0], "")
    except UserError:  # it rises
        return False
    return found is not None and found.metric in ("loss", "bits") and not found.is_risen


def _train_last(name: str) -> bool:
    """What was measured on the data trained on comes last."""
    return "train" in name.lower()

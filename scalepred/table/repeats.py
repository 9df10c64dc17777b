"""Data that were seen more than once: what a column of data counts."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError

# Columns that say how much of the data was new; `data` then counts repeats too.
UNIQUE_COLUMNS = ("unique_data", "unique_tokens")
# Epochs that differ by less than this share are the same number, rounded.
_EPOCHS_SLACK = 0.01
# Numbers of epochs within this factor are the same: whole steps make them differ.
SAME_EPOCHS = 1.1
# Share of the variance of ln epochs that the two sizes leave where they are a third.
_OWN_VARIANCE = 0.04

Row = Mapping[str, str]


class Repeats(NamedTuple):
    """How often data were seen.

    Attributes:
        unique: unique data of each row.
        epochs: of each row.
        unit: what they count now; "": what the table says.
        note: how all that was told.
    """

    unique: list[float]
    epochs: list[float]
    unit: str
    note: str


def tell_repeats(
    path: object,
    rows: list[tuple[int, Row]],
    data_counts: str,
    number: Callable[[int, Row, str], float],
) -> Repeats:
    """What `data` counts, and how often they were seen.

    Args:
        path: of the table, for errors.
        rows: by our names.
        data_counts: auto, unique or seen; see `Surface.from_csv`.
        number: (line, row, column) -> the cell as a number.

    Raises:
        UserError: the table does not say, or contradicts itself.
    """
    if data_counts not in ("auto", "unique", "seen"):
        raise UserError(
            f"data_counts={data_counts!r}: must be one of auto, unique, seen"
        )
    first = rows[0][1]
    new = next((name for name in UNIQUE_COLUMNS if name in first), None)
    is_auto = data_counts == "auto"
    counts_seen = new is not None if is_auto else data_counts == "seen"
    how = "taken for" if is_auto else "given as"

    def read(name: str) -> list[float]:
        return [number(line, row, name) for line, row in rows]

    if "epochs" not in first and (new is None or not counts_seen):
        raise UserError(
            f"{path}: no column epochs"
            + (" or unique_data" if counts_seen or is_auto else "")
            + "; a law of repeated data needs to know how often data were seen"
        )
    data = read("data")
    epochs = read("epochs") if "epochs" in first else []
    if not counts_seen:
        note = f"data are {how} unique data, each seen `epochs` times"
        return Repeats(data, epochs, "", note)
    if new is None:
        unique = [n / times for n, times in zip(data, epochs, strict=True)]
        note = f"data are {how} data seen; unique data = data / epochs"
        return Repeats(unique, epochs, "unique data", note)
    unique = read(new)
    ratios = [n / own for n, own in zip(data, unique, strict=True)]
    for (line, _), ratio, times in zip(rows, ratios, epochs, strict=False):
        if abs(ratio / times - 1) > _EPOCHS_SLACK:
            raise UserError(
                f"{path}, line {line}: data / {new} is {ratio:.4g}, but epochs is "
                f"{times:.4g}; correct that line, or say data_counts=unique if data do "
                "not count repeats"
            )
    note = f"data are {how} data seen, repeats included; epochs = data / {new}"
    return Repeats(unique, ratios, new.replace("_", " "), note)


def tell_if_told(
    path: object,
    rows: list[tuple[int, Row]],
    number: Callable[[int, Row, str], float],
) -> tuple[Repeats | None, str]:
    """How often data were seen, where the table says so and it is a third size.

    Args:
        path: of the table, for errors.
        rows: by our names.
        number: (line, row, column) -> the cell as a number.

    Returns:
        None where the data are to be read as they stand; and what is said of it.
    """
    if not {"epochs", *UNIQUE_COLUMNS} & set(rows[0][1]):
        return None, ""
    try:
        told = tell_repeats(path, rows, "auto", number)
    except UserError as error:
        return None, f"epochs are left out: {error}"
    params = [number(line, row, "params") for line, row in rows]
    epochs = np.array(told.epochs)
    if epochs.max() <= SAME_EPOCHS * epochs.min():
        return None, ""
    if epochs.min() < 1 - _EPOCHS_SLACK:
        why = f"a run has {epochs.min():.3g}, and a pass sees all of the unique data"
    elif len(set(params)) < 2 or len(set(told.unique)) < 2:
        why = "parameters and unique data must vary beside them"
    elif _follows(np.log(epochs), np.log(params), np.log(told.unique)):
        why = "they follow from parameters and data, so they are no size of their own"
    else:
        return told, told.note
    return None, f"epochs are left out: {why}"


def find_passes(
    rows: list[tuple[int, Row]], number: Callable[[int, Row, str], float]
) -> str:
    """The column by which runs of the same sizes saw data differently often, or "".

    Args:
        rows: by our names.
        number: (line, row, column) -> the cell as a number.
    """
    for name in ("epochs", *UNIQUE_COLUMNS):
        if name not in rows[0][1]:
            continue
        ends: dict[tuple[str, str], tuple[float, float]] = {}
        for line, row in rows:
            try:
                own = number(line, row, name)
            except UserError:  # as good as no column: nobody asked for it
                continue
            sizes = row["params"], row["data"]
            low, high = ends.get(sizes, (own, own))
            ends[sizes] = min(low, own), max(high, own)
        if any(high > SAME_EPOCHS * low for low, high in ends.values()):
            return name
    return ""


def _follows(epochs: np.ndarray, params: np.ndarray, data: np.ndarray) -> bool:
    """Whether a plane through the two other sizes says the third, all ln [rows]."""
    sizes = np.stack([np.ones(len(params)), params, data], axis=1)
    left = epochs - sizes @ np.linalg.lstsq(sizes, epochs, rcond=None)[0]
    return bool(np.var(left) < _OWN_VARIANCE * np.var(epochs))

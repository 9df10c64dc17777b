"""The fit region: which points are fitted, and that a target lies outside."""

import math
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.table.numbers import write_place, write_size
from scalepred.table.points import LARGEST, SMALLEST
from scalepred.table.surface import Surface


class Sizes(NamedTuple):
    """Sizes without values, such as those of cells that are not trained yet.

    Attributes:
        params: model sizes [points].
        data: data sizes [points].
        work: model size times data seen [points].
    """

    params: np.ndarray
    data: np.ndarray
    work: np.ndarray


def fit_region(
    sizes: Surface | Sizes,
    *,
    max_params: float = math.inf,
    max_data: float = math.inf,
    max_compute: float = math.inf,
) -> np.ndarray:
    """Mask of the points with m, n and m n within limits [points].

    With epochs m n is model size times data seen.

    Raises:
        UserError: if no point is left.
    """
    slack = 1 + 1e-9  # limits are often ratios of the sizes themselves
    mask = (
        (sizes.params <= max_params * slack)
        & (sizes.data <= max_data * slack)
        & (sizes.work <= max_compute * slack)
    )
    if not np.any(mask):
        raise UserError(
            f"fit region params <= {write_size(max_params)}, data <= "
            f"{write_size(max_data)}, params * data <= {write_size(max_compute)}: "
            "holds no point; widen it"
        )
    return mask


def check_target(
    params: float,
    data: float,
    epochs: float | None,
    fitted_params: np.ndarray,
    fitted_data: np.ndarray,
    fitted_epochs: np.ndarray | None,
) -> None:
    """A size at or below a fitted one is no prediction.

    Args:
        params: m of the target.
        data: n.
        epochs: passes over the data; None: the law knows nothing of them.
        fitted_params: model sizes of the fit region [points].
        fitted_data: data sizes [points].
        fitted_epochs: passes over the data, if known [points].

    Raises:
        UserError: it is so, or a size is no number between `SMALLEST` and `LARGEST`.
    """
    sizes = {"params": params, "data": data, "epochs": epochs}
    for name, size in sizes.items():
        if size is None:
            continue
        if not (math.isfinite(size) and size > 0):
            raise UserError(f"target {name}={size:g}: must be a positive number")
        if not SMALLEST <= size <= LARGEST:
            raise UserError(
                f"target {name}={write_size(size)}: must be between "
                f"{write_size(SMALLEST)} and {write_size(LARGEST)}"
            )
    inside = (fitted_params >= params) & (fitted_data >= data)
    if epochs is not None and fitted_epochs is not None:
        inside &= fitted_epochs >= epochs
    if np.any(inside):
        raise UserError(
            f"target {write_place(params, data)}: lies inside the fit region, which "
            f"goes up to {write_place(fitted_params.max(), fitted_data.max())}, so it "
            "is no prediction; choose a larger one"
        )

"""The fit region: what lies inside it is no prediction."""

import math

import numpy as np

from scalepred.config import UserError


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
        UserError: it is so, or a size is no positive number.
    """
    for name, size in (("params", params), ("data", data)):
        if not (math.isfinite(size) and size > 0):
            raise UserError(f"target {name}={size:g}: must be a positive number")
    inside = (fitted_params >= params) & (fitted_data >= data)
    if epochs is not None and fitted_epochs is not None:
        inside &= fitted_epochs >= epochs
    if np.any(inside):
        raise UserError(
            f"target params={params:g}, data={data:g}: lies inside the fit region "
            f"(params up to {fitted_params.max():g}, data up to "
            f"{fitted_data.max():g}), so it is no prediction; choose a larger one"
        )

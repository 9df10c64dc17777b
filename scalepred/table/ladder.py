"""Ladders: runs whose model and data grow together, seen along their compute alone.

Such runs cannot tell what model and data are worth, each, but a law of their compute,
L = E + A C^-alpha, can be told of them and goes on along the same ladder.
"""

import dataclasses

import numpy as np

from scalepred.config import UserError
from scalepred.table.numbers import write_place, write_size
from scalepred.table.surface import Surface

_TRAIN_FLOPS = 6.0  # a parameter and example (Kaplan et al. 2020, section 2.1)
# Data that differ by less than this share from those of the ladder lie on it.
_ON_LADDER = 0.1


def along_compute(surface: Surface) -> Surface:
    """The points with FLOPs in the place of data, and a model size of 1.

    Raises:
        UserError: model and data do not rise together, or nobody knows what runs cost.
    """
    if surface.why_no_costs:
        raise UserError(
            f"--law=..._compute: {surface.why_no_costs}; give a column of FLOPs, or "
            "choose another law"
        )
    off = np.abs(np.log(surface.seen) - _log_data_at(surface, surface.params))
    if np.max(off) > np.log1p(_ON_LADDER):
        worst = int(np.argmax(off))
        raise UserError(
            "--law=..._compute: "
            f"{write_place(surface.params[worst], surface.data[worst])} lies beside "
            "the ladder of the other points; choose a law of both sizes, such as "
            "--law=auto"
        )
    return dataclasses.replace(
        surface,
        params=np.ones(len(surface)),
        data=_flops(surface),
        compute=_flops(surface),
        data_unit="FLOPs",
        epochs=None,
    )


def place_on_ladder(surface: Surface, target: tuple[float, ...]) -> tuple[float, float]:
    """A target of the ladder, as `along_compute` would see it.

    Args:
        surface: the ladder.
        target: (params, data), one of which may be NaN.

    Raises:
        UserError: it does not lie on the ladder.
    """
    params, data = target[:2]
    if np.isnan(params):
        slope, start = _line(surface)
        if slope == 0:
            raise UserError("--target: needs params, too; write params=1e9,data=2e10")
        params = float(np.exp((np.log(data) - start) / slope))
    wanted = float(np.exp(_log_data_at(surface, np.array([params]))[0]))
    if np.isnan(data):
        data = wanted
    if abs(np.log(data / wanted)) > np.log1p(_ON_LADDER):
        raise UserError(
            f"--target={write_place(params, data)}: a law along compute speaks of the "
            f"ladder of the table only, which has data={write_size(wanted)} there"
        )
    largest = int(np.argmax(surface.work))
    factor = _flops(surface)[largest] / surface.work[largest]
    # Of floats of Python, which are infinite beyond the largest.
    return 1.0, float(factor) * float(params) * float(data)


def _flops(surface: Surface) -> np.ndarray:
    known = np.isfinite(surface.compute)
    return np.where(known, surface.compute, _TRAIN_FLOPS * surface.work)


def _line(surface: Surface) -> tuple[float, float]:
    """ln data = slope * ln params + start, as the points have it."""
    x, y = np.log(surface.params), np.log(surface.seen)
    if np.std(x) == 0:
        return 0.0, float(np.mean(y))
    slope = float(np.cov(x, y, bias=True)[0, 1] / np.var(x))
    return slope, float(np.mean(y) - slope * np.mean(x))


def _log_data_at(surface: Surface, params: np.ndarray) -> np.ndarray:
    if len(surface) < 2 or np.std(np.log(surface.params)) == 0:
        return np.log(surface.seen[: len(params)])
    slope, start = _line(surface)
    return slope * np.log(params) + start

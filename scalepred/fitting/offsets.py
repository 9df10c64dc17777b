"""Sizes of model that have an offset of their own under law=auto, told where asked.

A size that was trained on several amounts of data may lie off the law of all sizes, for
what parameters do not count. Its offset is kept for that size alone, so that what is
predicted of a size a hair beside it is another number: that of a new model.
"""

import math
from typing import NamedTuple

import numpy as np

from scalepred.fitting.predict import FittedLaw

# A model within this factor of one with an offset may be meant for it.
_NEAR = math.log(1.05)
_SAME = 1e-8  # of ln size
_BESIDE = 1e-6  # of ln size: another model
_NO_MATTER = 1e-3  # an offset of a smaller share of the value is not told


class Offset(NamedTuple):
    """An offset that a prediction has, or would have at a size nearby.

    Attributes:
        size: parameters of the model that has it.
        share: by how much it changes the value there: 0.02 is 2 % more.
        is_own: the size asked about is this one; False: it is near, and new.
    """

    size: float
    share: float
    is_own: bool


def find_offset(
    fitted: FittedLaw, params: float, data: float, epochs: float | None = None
) -> Offset | None:
    """The offset that matters to a prediction; None where there is none.

    Args:
        fitted: any law.
        params: model size asked about, a count.
        data: data size, a count.
        epochs: passes over the data, for laws that know of them.
    """
    levels = np.asarray(fitted.scale.levels) + math.log(fitted.params_unit)
    levels = levels[np.isfinite(levels)]
    if not len(levels):
        return None
    nearest = float(levels[np.argmin(np.abs(levels - math.log(params)))])
    apart = abs(nearest - math.log(params))
    if apart > _NEAR:
        return None
    sizes = np.exp([nearest, nearest + _BESIDE])
    own, beside = fitted.log_value(sizes, data, epochs=epochs)
    share = math.expm1(float(own - beside))
    if abs(share) < _NO_MATTER:
        return None
    return Offset(float(sizes[0]), share, apart < _SAME)

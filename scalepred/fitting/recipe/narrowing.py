"""Which further sweep would say most of the best setting at a target."""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from scalepred.fitting.recipe.law import RecipeLaw

# Times the largest size of the sweep along one axis: what may still be cheap.
_FARTHER = 4.0
# From the middle of a normal law to the ends of its 90 % interval.
_TO_END = 1.645
# A further sweep is of three settings, these factors from the best there.
FACTORS = (0.5, 1.0, 2.0)


class Narrowing(NamedTuple):
    """A further sweep.

    Attributes:
        sizes: that it is at.
        settings: that it tries, three of them.
        before: upper end of the target's interval over its lower end, as it is.
        after: as it is expected to be then.
    """

    sizes: dict[str, float]
    settings: tuple[float, ...]
    before: float
    after: float


def narrow(law: RecipeLaw, target: Mapping[str, float]) -> Narrowing:
    """The sweep of three settings at one size that narrows the interval most.

    Sizes are the corners of the sweep and 4 times farther along either axis. The draws
    say how the best settings of two sizes vary together; that of a size that is
    measured is known to the noise of its bowl and the size's own deviation.

    Args:
        law: fitted to the sweep so far.
        target: sizes, all axes of the law.
    """
    draws = law.draws
    at_target, own = law.draw_law(target), law.growth(target) ** 2
    deviation = float(np.mean(draws.deviation**2))
    curvature = draws.below * draws.above / (draws.below + draws.above) / draws.width
    noise = np.median(draws.noise) / (math.sqrt(2) * np.median(curvature) * math.log(2))
    spread = float(np.var(at_target))
    best, least = dict(target), math.inf
    for sizes in _candidates(law):
        there = law.draw_law(sizes)
        together = float(np.cov(at_target, there)[0, 1])
        after = spread - together**2 / (np.var(there) + deviation + noise**2)
        if after < least:
            best, least = sizes, float(after)
    middle = math.exp(float(np.median(law.draw_law(best))))

    def width(variance: float) -> float:
        return math.exp(2 * _TO_END * math.sqrt(max(0.0, variance) + own * deviation))

    settings = tuple(float(f"{factor * middle:.2g}") for factor in FACTORS)
    return Narrowing(best, settings, width(spread), width(least))


def _candidates(law: RecipeLaw) -> list[dict[str, float]]:
    """Corners of the sweep, and its largest size farther along each axis."""
    ends = [
        sorted({float(size.min()), float(size.max())})
        for size in law.points.sizes.values()
    ]
    found = [
        dict(zip(law.axes, corner, strict=True)) for corner in itertools.product(*ends)
    ]
    largest = found[-1]
    farther = [{**largest, name: _FARTHER * largest[name]} for name in law.axes]
    return found + farther

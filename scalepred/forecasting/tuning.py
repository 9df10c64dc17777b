"""What the rates of a target add to its forecast."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Tuning(NamedTuple):
    """What is known of the rates of a target.

    Attributes:
        rates: by name: which was taken, the interval of the best, and the regret.
        regret: draws of ln value at these rates over that at the best ones, less what
            the steps between rates cost the evidence [draws].
    """

    rates: dict[str, Any]
    regret: np.ndarray

    @property
    def factor(self) -> float:
        """On the value that the law says: what the rates cost on average.

        1 where that is no more than the evidence has.
        """
        return math.exp(max(0.0, float(np.mean(self.regret))))

    def add(self, said: Mapping[str, Any], highest: float) -> dict[str, Any]:
        """A target of a forecast with the regret in value and intervals.

        The regret is independent of the fit: above the value both deviations add as
        squares. Below it there is nothing to add, as no rate is better than the best.

        Args:
            said: value, ends, and ends of the mean over seeds.
            highest: that a value can be.
        """
        value, shift = said["value"], math.log(self.factor)
        more = {
            name: max(0.0, float(np.quantile(self.regret, level)) - shift)
            for name, level in (("upper", 0.95), ("upper_50", 0.75))
        }

        def widen(ends: Mapping[str, float]) -> dict[str, float]:
            found = {}
            for name in ("lower", "upper", "lower_50", "upper_50"):
                gap = math.log(ends[name] / value)
                if name in more:
                    gap = math.hypot(gap, more[name])
                found[name] = min(value * math.exp(gap + shift), highest)
            return found

        return {
            **said,
            "value": min(value * self.factor, highest),
            **widen(said),
            "mean_over_seeds": widen(said["mean_over_seeds"]),
            "rates": self.rates,
        }

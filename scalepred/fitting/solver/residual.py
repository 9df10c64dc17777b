"""What a point adds to the objective: rho of d = ln(law) - ln(measured)."""

import dataclasses
import math
from typing import NamedTuple

from scalepred import config, validation
from scalepred.fitting.laws import Array


class Rho(NamedTuple):
    """What one point adds to the objective, and derivatives by d; each like d.

    Attributes:
        value: rho(d).
        slope: its first derivative.
        second: its second derivative, which may be 0 or negative.
        curvature: what Gauss-Newton takes for it: positive, and slope / d where rho is
            a reweighted square.
    """

    value: Array
    slope: Array
    second: Array
    curvature: Array


@dataclasses.dataclass(frozen=True)
class Residual:
    """What is minimised: sum of weight * rho(d), d = ln(law) - ln(measured).

    Attributes:
        kind: relative: rho = (law / measured - 1)^2 (paper, section 4) | log: d^2 |
            huber: of d, d^2 / 2 up to delta and linear beyond (Hoffmann et al.);
            delta near 0 gives least absolute deviations (Besiroglu et al.) |
            robust: d^2 / sigma^2, linear from about delta sigmas on.
        delta: knee of huber and robust, in sigmas (1 unless the problem says).
        above: factor on rho where the measurement lies above the law: badly tuned
            runs do, and none lies below.

    Raises:
        UserError: there is no such kind, or a number is not above 0.
    """

    kind: str = "relative"
    delta: float = config.RESIDUAL_WIDTH
    above: float = 1.0

    def __post_init__(self) -> None:
        kinds = *config.RESIDUALS, *config.WIDE_RESIDUALS
        if self.kind not in kinds:
            raise config.UserError(
                f"residual={self.kind!r}: must be one of {', '.join(kinds)}"
            )
        for name in ("delta", "above"):
            number = getattr(self, name)
            if not 0 < number < math.inf:
                raise config.UserError(
                    f"residual: {name}={number!r}: must be a number above 0"
                )

    @staticmethod
    def of(settings: config.Fitting) -> "Residual":
        """What the settings of a study name.

        Raises:
            UserError: they name none.
        """
        return Residual(*validation.parse_residual(settings.residual), settings.above)

    def __str__(self) -> str:
        """Kind and width, and what is not usual."""
        width = f":{self.delta:g}" if self.kind in config.WIDE_RESIDUALS else ""
        above = "" if self.above == 1 else f", times {self.above:g} above the law"
        return f"{self.kind}{width}{above}"

    @property
    def has_kinks(self) -> bool:
        """The second derivative jumps, and reweighting alone converges slowly."""
        return self.kind == "huber"

    def rho(self, d: Array, sigma: Array | float) -> Rho:
        """rho and its derivatives at differences d, for standard deviations sigma.

        Of numpy's arrays by numpy, of jax's by jax.
        """
        return self.rho_of(d, sigma, self.above)

    def rho_of(self, d: Array, sigma: Array | float, above: Array | float) -> Rho:
        """`rho` for another factor."""
        side = d.__array_namespace__().where(d < 0, above, 1.0)
        return Rho(*(side * part for part in self._of_one_side(d, sigma)))

    def _of_one_side(self, d: Array, sigma: Array | float) -> Rho:
        xp = d.__array_namespace__()
        if self.kind == "robust":
            # Pseudo-Huber: 2 delta^2 (root - 1), the root that of 1 + (d / knee)^2.
            root = xp.sqrt(1 + (d / (sigma * self.delta)) ** 2)
            curvature = 2 / (sigma**2 * root)
            second = curvature / root**2
            return Rho(2 * self.delta**2 * (root - 1), curvature * d, second, curvature)
        if self.kind == "relative":
            ratio, r = xp.exp(d), xp.expm1(d)
            second = 2 * ratio * (2 * ratio - 1)
            return Rho(r * r, 2 * r * ratio, second, 2 * ratio * ratio)
        if self.kind == "log":
            two = xp.full_like(d, 2.0)
            return Rho(d * d, 2 * d, two, two)
        size, knee = xp.abs(d), self.delta * sigma
        linear = size > knee
        value = xp.where(linear, knee * (size - knee / 2), d * d / 2)
        safe = xp.where(linear, size, 1.0)
        curvature = xp.where(linear, knee / safe, 1.0)
        second = xp.where(linear, 0.0, 1.0)
        return Rho(value, curvature * d, second, curvature)


RELATIVE = Residual("relative")

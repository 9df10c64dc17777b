"""What a training run costs by its sizes, in FLOPs or any other unit."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from scalepred.table.surface import Surface

# A fitted power of the cost this close to 0 or 1 is 0 or 1.
_COST_POWER_SLACK = 0.15


class Cost(NamedTuple):
    """Training FLOPs of one run: factor * m^params_power * n^data_power.

    With a fixed number of epochs both powers are 1 (Rosenfeld et al., section 2); with
    a fixed number of steps data cost nothing and data_power is 0.
    """

    factor: float
    params_power: float = 1.0
    data_power: float = 1.0

    def flops(self, params: ArrayLike, data: ArrayLike) -> np.ndarray:
        """FLOPs of runs of these sizes, which broadcast."""
        of_params = np.asarray(params, np.float64) ** self.params_power
        return self.factor * of_params * np.asarray(data, np.float64) ** self.data_power

    def __str__(self) -> str:
        powers = f"m^{self.params_power:.3g} n^{self.data_power:.3g}"
        return f"{self.factor:.3g} {powers} FLOPs"


def read_cost(surface: Surface) -> Cost:
    """What FLOPs buy, read from a table; 6 m n (Kaplan et al.) where it has none.

    Data are those that a run goes through: unique data times epochs. Powers near 1
    are taken for 1: FLOPs go as m n. Otherwise they are fitted.
    """
    known = np.isfinite(surface.compute)
    if not np.any(known):
        return Cost(6.0)
    log_sizes = np.log(np.stack([surface.params[known], surface.seen[known]]))
    log_flops = np.log(surface.compute[known])
    plain = Cost(float(np.exp(np.mean(log_flops - log_sizes.sum(axis=0)))))
    columns = np.vstack([np.ones(len(log_flops)), log_sizes])
    if np.linalg.matrix_rank(columns) < 3:
        return plain
    factor, *powers = np.linalg.lstsq(columns.T, log_flops)[0]
    if all(abs(power - 1) < _COST_POWER_SLACK for power in powers):
        return plain
    params_power, data_power = (
        0.0 if abs(power) < _COST_POWER_SLACK else float(power) for power in powers
    )
    return Cost(float(np.exp(factor)), params_power, data_power)

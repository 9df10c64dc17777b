"""What a training run costs by its sizes, in FLOPs or any other unit."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from scalepred.table.numbers import write_flops

# FLOPs by parameter and datum: 2 forward, 4 backward (Kaplan et al. 2020).
KAPLAN = 6.0
_NEWTON_STEPS = 12
_VERY_FAR = 1e4  # e-folds


_Numbers = Any  # float, or array of NumPy or JAX


class Growth(NamedTuple):
    """How cost grows with one size: a power, which may have a bend; see `Cost`.

    Attributes:
        power: of the cost, above the bend.
        log_bend: ln of the size at the bend.
        bend_power: above 0, at most 1.
        kind: 1 or -1, the sign of the bend_power in `Cost`; 0: there is no bend.
    """

    power: _Numbers
    log_bend: _Numbers = -_VERY_FAR
    bend_power: _Numbers = 1.0
    kind: int = 0

    def at(self, log_size: _Numbers) -> _Numbers:
        """ln of the cost over its factor, any shape; of JAX where the size is."""
        return self.power * self._bend(log_size, self.kind)

    def inverse(self, log_cost: _Numbers) -> _Numbers:
        """ln of the size with this ln of the cost; a power of 0 has none."""
        return self._bend(log_cost / self.power, -self.kind)

    def slope(self, log_size: _Numbers) -> _Numbers:
        """Of `at`: the power of the cost about a size."""
        if self.kind < 0:
            inside = self._straighten(log_size)
            return self.power / self._slope(inside)
        return self.power * (self._slope(log_size) if self.kind else 1.0)

    def _bend(self, x: _Numbers, kind: int) -> _Numbers:
        """ln(e^x + b^p e^(x (1 - p))), or its inverse, or x."""
        if kind < 0:
            return self._straighten(x)
        return self._bend_up(x) if kind else x

    def _bend_up(self, x: _Numbers) -> _Numbers:
        return x + _module(x).logaddexp(0.0, self.bend_power * (self.log_bend - x))

    def _slope(self, x: _Numbers) -> _Numbers:
        """Of the bend upwards: 1 - p far below it, 1 far above it."""
        xp, power = _module(x), self.bend_power
        return 1 - power * xp.exp(-xp.logaddexp(0.0, power * (x - self.log_bend)))

    def _straighten(self, x: _Numbers) -> _Numbers:
        """The inverse of the bend upwards, which is convex, by Newton's method.

        It starts at the lower of the two asymptotes, above the solution, and falls
        towards it. Where there is none (p = 1, below the bend) it ends far down.
        """
        xp, power = _module(x), self.bend_power
        least = xp.maximum(1 - power, 1e-9)  # slope
        y = xp.minimum(x, (x - power * self.log_bend) / least)
        for _ in range(_NEWTON_STEPS):
            step = (self._bend_up(y) - x) / xp.maximum(self._slope(y), least)
            y = y - step
        return xp.maximum(y, -_VERY_FAR)


def _module(number: _Numbers) -> Any:
    return jnp if isinstance(number, jax.Array) else np


class Cost(NamedTuple):
    """Training FLOPs of one run: factor * g(m) * h(n).

    g(m) = m^power, or with a bend b and a bend_power p above 0

        g(m) = (m + b^p m^(1 - p))^power,

    as where FLOPs hold embeddings, heads or attention that m leaves out. With a
    bend_power of -p it is a^power, where m = a + b^p a^(1 - p), as where m holds what
    FLOPs leave out. h(n) alike. Far above the bend both are the plain power.

    With a fixed number of epochs both powers are 1 (Rosenfeld et al., section 2); with
    a fixed number of steps data cost nothing and data_power is 0.
    """

    factor: float
    params_power: float = 1.0
    data_power: float = 1.0
    params_bend: float = 0.0
    params_bend_power: float = 0.0
    data_bend: float = 0.0
    data_bend_power: float = 0.0

    @property
    def params_growth(self) -> Growth:
        """g(m)."""
        return _growth(self.params_power, self.params_bend, self.params_bend_power)

    @property
    def data_growth(self) -> Growth:
        """h(n)."""
        return _growth(self.data_power, self.data_bend, self.data_bend_power)

    def flops(self, params: ArrayLike, data: ArrayLike) -> np.ndarray:
        """FLOPs of runs of these sizes, which broadcast and may be infinite."""
        log_params, log_data = (
            np.log(np.asarray(size, np.float64)) for size in (params, data)
        )
        # A size that is out of reach costs without end; a bend is not taken of it.
        endless = np.isposinf(log_params) | np.isposinf(log_data)
        log_params = np.where(np.isposinf(log_params), 0.0, log_params)
        log_data = np.where(np.isposinf(log_data), 0.0, log_data)
        grown = self.params_growth.at(log_params) + self.data_growth.at(log_data)
        with np.errstate(over="ignore"):  # beyond 1e308 FLOPs there is no number
            return np.where(endless, np.inf, self.factor * np.exp(grown))

    def in_units(self, params: float, data: float) -> "Cost":
        """The same cost by sizes that are counted in multiples of these."""
        return self._replace(
            factor=self.factor * params**self.params_power * data**self.data_power,
            params_bend=self.params_bend / params,
            data_bend=self.data_bend / data,
        )

    def __str__(self) -> str:
        params, where_params = _describe("m", "a", *self[1:2], *self[3:5])
        data, where_data = _describe("n", "d", *self[2:3], *self[5:7])
        product = " ".join(filter(None, [write_flops(self.factor), params, data]))
        where = " and ".join(filter(None, [where_params, where_data]))
        return f"{product} FLOPs" + (f", where {where}" if where else "")


def _growth(power: float, bend: float, bend_power: float) -> Growth:
    if not (bend and bend_power):
        return Growth(power)
    return Growth(power, math.log(bend), abs(bend_power), 1 if bend_power > 0 else -1)


def _describe(
    name: str, own: str, power: float, bend: float, bend_power: float
) -> tuple[str, str]:
    """In words: m, m^0.85, (m + 3.1e5 m^0.333); a, "m = a + 3.1e5 a^0.333"."""
    if not bend_power or not power:
        return _power(name, power), ""
    kind = name if bend_power > 0 else own
    share, rest = bend ** abs(bend_power), _power(kind, 1 - abs(bend_power))
    bent = f"{kind} + {' '.join(filter(None, [write_flops(share), rest]))}"
    if bend_power < 0:
        return _power(own, power), f"{name} = {bent}"
    return _power(f"({bent})", power), ""


def _power(name: str, power: float) -> str:
    """m^0.85; m for a power of 1, nothing for one of 0."""
    rounded = f"{power:.3g}"
    return {"0": "", "1": name}.get(rounded, f"{name}^{rounded}")

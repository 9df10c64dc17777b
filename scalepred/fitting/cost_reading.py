"""The cost of a run by its sizes, read from the FLOPs of a table.

FLOPs / (m n) of a table are rarely constant: m leaves out what FLOPs hold (embeddings,
heads, attention), or the other way round. A straight power of m through them makes
large models far too cheap or too dear. So with f = FLOPs / n

    f = a m + b m^(1 - r)   or   m = a f + b f^(1 - r),   a >= 0, b >= 0, 0 < r <= 1,

which end at a constant unless the table speaks for a pure power (a = 0). Data alike.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from scalepred.fitting.cost import KAPLAN, Cost, Growth
from scalepred.table.surface import Surface

OFF = 0.25  # of its cost: a run that the cost does not know
_FREE = 0.15  # data whose cost grows by less than this power are free
_LEVEL = 0.9  # of what the table leaves open
_FAR = math.log(1e3)  # costs are compared this far beyond the largest size
_NOTHING = 1e-3  # share of a constant, even there, that counts for none
_APART = 10.0  # times the median residual: the row is wrong
_FARTHEST = 50.0  # ln; FLOPs further from those of the other rows mean nothing
_BINS = 256  # of a size; sizes in one are taken together
_EXPONENTS = np.linspace(0.02, 1.0, 50)
_STEEPEST = 0.95  # exponent where m holds what FLOPs leave out
_STEEP = 4.0  # no cost grows by a higher power of a size
_ZOOMS = 5  # of the grid about its best exponent, each ten times finer
_SWEEPS = 30  # over both sizes in turn
# FLOPs are rounded, so smaller relative residuals mean nothing; larger ones do not
# where as many numbers are fitted as there are sizes.
_ROUNDING, _UNTESTED = 1e-6, 1e-3


class CostReading(NamedTuple):
    """A cost and how well it is known.

    Attributes:
        cost: the dearest for large runs that fits about as well as any: where a table
            leaves that open, large runs are not thought to be cheap.
        cheapest: for large runs, of those that the table does not rule out at 90 %.
        dearest: likewise.
        scatter: root mean square of FLOPs / cost - 1.
        num_points: that know their FLOPs; 0: the cost is 6 m n by Kaplan et al.
        num_apart: of them that are more than `OFF` off.
        largest: FLOPs of the largest run that was read; NaN without any.
    """

    cost: Cost
    cheapest: Cost
    dearest: Cost
    scatter: float = math.nan
    num_points: int = 0
    num_apart: int = 0
    largest: float = math.nan

    def spread(self, params: float, data: float) -> tuple[float, float]:
        """Least and largest cost that the table does not rule out, over `cost`."""
        ratios = [float(one.flops(params, data)) for one in self[:3]]
        return min(ratios) / ratios[0], max(ratios) / ratios[0]


def read_cost(surface: Surface) -> CostReading:
    """What FLOPs buy, read from a table; 6 m n (Kaplan et al.) where it has none.

    Data are those that a run goes through: unique data times epochs. The plainest law
    is taken that the table does not rule out: c m n; then with a bend or another power
    in m, in n, in both.
    """
    known = np.isfinite(surface.compute) & (surface.compute > 0)
    if not np.any(known):
        plain = Cost(KAPLAN)
        return CostReading(plain, plain, plain)
    params, data = surface.params[known], surface.seen[known]
    flops = surface.compute[known]
    excess = np.log(flops) - np.log(params) - np.log(data)
    usual = float(np.median(excess))
    excess = excess - usual
    axes = _Axis(np.log(params)), _Axis(np.log(data), may_be_free=True)
    bent, curves = _which_bend(axes, excess)
    of_data = axes[1].read(excess - curves[0].at(axes[0].size), bent[1])
    level = of_data[0].level
    of_data = [one._replace(level=one.level - level) for one in of_data]
    rest = excess - of_data[0].at(axes[1].size)
    floor = math.log(KAPLAN) - usual
    if np.any(excess < floor - _UNTESTED) or of_data[0].growth.power != 1:
        floor = -math.inf
    of_params = axes[0].read(rest, bent[0], floor)
    of_params = [one._replace(level=one.level + usual) for one in of_params]
    cost, cheapest, dearest = map(_to_cost, of_params, of_data)
    off = flops / cost.flops(params, data) - 1
    return CostReading(
        cost,
        cheapest,
        dearest,
        scatter=float(np.sqrt(np.mean(off**2))),
        num_points=len(flops),
        num_apart=int(np.sum(np.abs(off) > OFF)),
        largest=float(np.max(flops)),
    )


class _Curve(NamedTuple):
    """ln(FLOPs / m n) along one size."""

    level: float
    growth: Growth

    def at(self, x: np.ndarray) -> np.ndarray:
        return self.level + self.growth.at(x) - x

    def without_level(self) -> "_Curve":
        return self._replace(level=0.0)


class _Axis:
    """One size of the points, and the curves along it."""

    def __init__(self, size: np.ndarray, may_be_free: bool = False):
        """Sorts the points into bins.

        Args:
            size: ln m or ln n [points].
            may_be_free: whether cost may do without this size.
        """
        self.size = size
        self._may_be_free = may_be_free
        width = max(float(np.ptp(size)), 1e-9) / _BINS
        bins = np.round((size - size.min()) / width)
        _, self._bin = np.unique(bins, return_inverse=True)
        self._count = np.bincount(self._bin)
        self._x = np.bincount(self._bin, size) / self._count

    def best(self, excess: np.ndarray) -> _Curve:
        """The curve with the least squares of the residuals."""
        middle = self._middle(excess)
        squares, curves = self._candidates(middle)
        if not len(squares):
            return _plain(middle)
        return self._check_free(curves[int(np.argmin(squares))])

    def read(
        self, excess: np.ndarray, may_bend: bool, floor: float = -np.inf
    ) -> tuple[_Curve, _Curve, _Curve]:
        """The curve to be used, and the cheapest and dearest that are possible.

        Args:
            excess: ln(FLOPs / m n) without the other size's part [points].
            may_bend: whether the points need more than a constant.
            floor: that it ends above, if the points allow that.
        """
        middle = self._middle(excess)
        plain = _plain(middle)
        squares, curves = self._candidates(middle, floor)
        if not len(squares):
            return plain, plain, plain
        spare = max(len(middle) - 3, 1)
        noise = max(squares.min() / spare, self._noise(excess, middle))
        misfit = (squares - squares.min()) / noise
        far = np.array([c.at(self._x[-1] + _FAR) for c in curves])
        possible = misfit <= special.fdtri(1, spare, _LEVEL)
        if np.any(possible & (far >= floor)):
            possible &= far >= floor
        order = [int(i) for i in np.argsort(far, kind="stable") if possible[i]]
        near = [i for i in order if misfit[i] <= max(1.0, np.min(misfit[order]))]
        chosen = curves[near[-1]]
        of_plain = np.sum((middle - plain.level) ** 2) - squares.min()
        if not may_bend or of_plain <= 2 * special.fdtri(2, spare, _LEVEL) * noise:
            chosen = plain
        found = chosen, curves[order[0]], curves[order[-1]]
        chosen, cheapest, dearest = map(self._check_free, found)
        return chosen, cheapest, dearest

    def _noise(self, excess: np.ndarray, middle: np.ndarray) -> float:
        """Least variance of a bin's middle: rounding, and what its points show."""
        least = _ROUNDING if len(middle) > 3 else _UNTESTED
        within = self._middle((excess - middle[self._bin]) ** 2)
        return max(least**2, float(np.mean(within / np.maximum(self._count - 1, 1))))

    def _middle(self, numbers: np.ndarray) -> np.ndarray:
        """Median of each bin: one wrong row does not move it [bins]."""
        ordered = numbers[np.lexsort((numbers, self._bin))]
        first = np.cumsum(self._count) - self._count
        lower, upper = first + (self._count - 1) // 2, first + self._count // 2
        middle = (ordered[lower] + ordered[upper]) / 2
        return np.clip(middle, -_FARTHEST, _FARTHEST)

    def _candidates(
        self, middle: np.ndarray, floor: float = -np.inf
    ) -> tuple[np.ndarray, list[_Curve]]:
        """Squares of residuals, and the best curve of each exponent."""
        if len(middle) < 2:
            return np.empty(0), []
        found: list[tuple[float, _Curve]] = []
        for is_up, end in {(True, 0.0), (True, math.exp(floor)), (False, 0.0)}:
            exponents, step = _EXPONENTS, _EXPONENTS[1] - _EXPONENTS[0]
            for _ in range(1 + _ZOOMS):
                exponents = exponents[exponents <= (1 if is_up else _STEEPEST)]
                squares, curves = self._solve(middle, is_up, exponents, end)
                found += zip(squares.tolist(), curves, strict=True)
                best = exponents[np.argmin(squares)]
                exponents = np.linspace(best - step, best + step, 21)
                exponents = np.clip(exponents, _EXPONENTS[0], 1.0)
                step /= 10
        found = [one for one in found if math.isfinite(one[0])]
        return np.array([one[0] for one in found]), [one[1] for one in found]

    def _solve(
        self, middle: np.ndarray, is_up: bool, r: np.ndarray, end: float
    ) -> tuple[np.ndarray, list[_Curve]]:
        """Least squares by a and b at each exponent [exponents].

        The squares are of the residuals of `middle`, infinite where cost would hardly
        grow with the models, or faster than any does.
        """
        weight = np.exp(-middle) if is_up else np.exp(middle)
        x = self._x if is_up else self._x + middle
        falling = np.exp(-np.outer(r, x - x[-1])) * weight
        aa, bb, ab = weight @ weight, np.sum(falling**2, axis=1), falling @ weight
        ya, yb = np.sum(weight), np.sum(falling, axis=1)
        det = np.maximum(aa * bb - ab**2, 1e-13 * aa * bb)
        a = np.where(aa * yb < ab * ya, ya / aa, (bb * ya - ab * yb) / det)
        a = np.maximum(a, end)
        b = np.maximum((yb - a * ab) / bb, 0.0)
        a[a <= _NOTHING * b * np.exp(-r * _FAR)] = 0.0
        b[b * np.max(falling / weight, axis=1) <= _ROUNDING * a] = 0.0
        curves = [
            _to_curve(is_up, *numbers, float(x[-1]))
            for numbers in zip(r.tolist(), a.tolist(), b.tolist(), strict=True)
        ]
        level = np.array([curve.level for curve in curves])[:, None]
        power, log_bend, bend_power = (
            np.array([curve.growth[field] for curve in curves])[:, None]
            for field in range(3)
        )
        growth = Growth(power, log_bend, bend_power, 1 if is_up else -1)
        residuals = middle - (level + growth.at(self._x) - self._x)
        squares = np.sum(residuals**2, axis=1)
        slope = growth.slope(self._x[-1:])[:, 0]
        hardly = (slope < _FREE) & (not self._may_be_free)
        return np.where(hardly | (slope > _STEEP), np.inf, squares), curves

    def _check_free(self, curve: _Curve) -> _Curve:
        """Data whose cost hardly grows at the end cost nothing."""
        end = self._x[-1]
        if not self._may_be_free or curve.growth.slope(end) >= _FREE:
            return curve
        return _Curve(float(curve.at(end) + end), Growth(0.0))


def _plain(mean: np.ndarray) -> _Curve:
    return _Curve(float(np.mean(mean)), Growth(1.0))


def _to_curve(is_up: bool, r: float, a: float, b: float, x0: float) -> _Curve:
    """From f = m (a + b (m / e^x0)^-r), or from m = f (a + b (f / e^x0)^-r)."""
    if not b:
        return _Curve(math.log(a) if is_up else -math.log(a), Growth(1.0))
    log_b = math.log(b) + r * x0
    if not a:
        power = 1 - r if is_up else 1 / (1 - r)
        return _Curve(log_b if is_up else -log_b * power, Growth(power))
    level, log_bend = math.log(a), (log_b - math.log(a)) / r
    if is_up:
        return _Curve(level, Growth(1.0, log_bend, r, 1))
    return _Curve(-level, Growth(1.0, log_bend + level, r, -1))


def _which_bend(
    axes: tuple[_Axis, _Axis], excess: np.ndarray
) -> tuple[tuple[bool, bool], tuple[_Curve, _Curve]]:
    """Which sizes need a curve, the fewest that will do, and the curves.

    Both curves are fitted in turn to what the other leaves.
    """
    params, data = axes
    level, flat = _plain(excess), _plain(np.zeros(1))
    alone = params.best(excess), data.best(excess)
    both = alone[0], flat
    for _ in range(_SWEEPS):
        of_data = data.best(excess - both[0].at(params.size)).without_level()
        change = np.ptp(of_data.at(data.size) - both[1].at(data.size))
        both = params.best(excess - of_data.at(data.size)), of_data
        if change < _ROUNDING / 10:
            break
    tried = [
        ((False, False), (level, flat)),
        ((True, False), (alone[0], flat)),
        ((False, True), (flat, alone[1])),
        ((True, True), both),
    ]
    residuals = np.array(
        [
            excess - one.at(params.size) - other.at(data.size)
            for _, (one, other) in tried
        ]
    )
    # A row that is wrong would make every curve look as good as another.
    apart = np.abs(residuals[-1])
    kept = apart <= _APART * np.median(apart) + _UNTESTED
    squares = np.sum(residuals[:, kept] ** 2, axis=1)
    spare = max(int(np.sum(kept)) - 6, 1)
    least = _ROUNDING if np.sum(kept) > 6 else _UNTESTED
    noise = max(squares.min() / spare, least**2)
    bound = 4 * special.fdtri(4, spare, _LEVEL) * noise
    return tried[int(np.argmax(squares <= squares.min() + bound))]


def _to_cost(params: _Curve, data: _Curve) -> Cost:
    m, n = params.growth, data.growth
    m_bend, n_bend = (math.exp(one.log_bend) if one.kind else 0.0 for one in (m, n))
    m_bent, n_bent = m.kind * m.bend_power, n.kind * n.bend_power
    factor = math.exp(params.level + data.level)
    return Cost(factor, m.power, n.power, m_bend, m_bent, n_bend, n_bent)

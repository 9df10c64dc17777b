"""Transfer test: does the best learning rate of a small model serve a large one?

At each width the bottom of the bowl is that of a parabola in ln(rate) through the rates
around the lowest mean, and its interval follows from how far runs are off the parabola.
(Where the bowl is lopsided the bottom is off by some percent, which the interval does
not say: one with a cubic term of a tenth of the square's, by 8 %.)
Runs that diverged, or were stopped, have an infinite loss: their rates are never the
best, and no part of the parabola.
"""

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.table.rows import Measurement

_NEIGHBOURS = 2  # rates on each side of the lowest that the parabola goes through
_DRAWS = 4000
_ENDS = 0.05, 0.95  # of intervals
# Of the draws of a bowl, at least so many must have a bottom.
_LEAST_BOTTOMS = 0.95


class Interval(NamedTuple):
    """A number and its 90 % interval; NaN: not known."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)


class Bowl(NamedTuple):
    """Loss over learning rate at one width."""

    width: int
    rates: np.ndarray  # ascending [rates]
    means: np.ndarray  # over seeds; infinite where any diverged [rates]
    rate: Interval  # at the bottom; unknown unless status is "ok"
    value: float  # at the bottom; unless status is "ok" the lowest mean
    status: str  # ok | edge | flat | few
    draws: np.ndarray  # of ln(rate) at the bottom [draws]; empty unless "ok"

    @property
    def reason(self) -> str:
        """Why there is no bottom, as a sentence's end; "" if there is one."""
        return {
            "ok": "",
            "edge": "the lowest is the last rate tried, or beside one that diverged "
            "or was stopped",
            "flat": "the rates around the lowest do not bend upwards for sure",
            "few": "fewer than three rates beside each other, or one run of each",
        }[self.status]


class Group(NamedTuple):
    """The bowls of one family and depth."""

    family: str
    depth: int
    metric: str
    bowls: tuple[Bowl, ...]  # by width, ascending

    @property
    def found(self) -> tuple[Bowl, ...]:
        """Those with a bottom."""
        return tuple(bowl for bowl in self.bowls if bowl.status == "ok")

    def find_factor(self) -> Interval:
        """The best rate at the largest width over that at the smallest, where both
        are known.
        """
        found = self.found
        if len(found) < 2:
            return UNKNOWN
        return _exponential(_between(found[-1].draws - found[0].draws))

    def find_exponent(self) -> Interval:
        """p of best rate = c width^p over all widths."""
        found = self.found
        if len(found) < 2:
            return UNKNOWN
        widths = np.log([bowl.width for bowl in found])
        rates = np.array([bowl.draws for bowl in found])  # [widths, draws]
        return _between(np.polyfit(widths, rates, 1)[0])

    def find_excess(self) -> Interval:
        """What the largest model loses by the smallest one's best rate, as a share.

        Read off the measured means, with straight lines in ln(rate) between; infinite
        where the rate is beside one that diverged.
        """
        found = self.found
        if len(found) < 2 or self.bowls[-1] is not found[-1]:
            return UNKNOWN
        largest = found[-1]
        rates = np.log(largest.rates)
        values = np.interp(found[0].draws, rates, largest.means)
        outside = (found[0].draws < rates[0]) | (found[0].draws > rates[-1])
        values = np.where(outside, np.inf, values)
        return _between(np.maximum(values / largest.value - 1, 0))

    def judge(self, factor: float) -> str:
        """transfers | moves | not clear: whether the rate stays within a factor."""
        found = self.find_factor()
        if math.isnan(found.value):
            return "not clear"
        if found.low >= 1 / factor and found.high <= factor:
            return "transfers"
        if found.low > factor or found.high < 1 / factor:
            return "moves"
        return "not clear"


def _between(draws: np.ndarray) -> Interval:
    low, middle, high = np.quantile(draws, (_ENDS[0], 0.5, _ENDS[1]), method="nearest")
    return Interval(float(middle), float(low), float(high))


def _exponential(found: Interval) -> Interval:
    """Infinite where it is beyond all numbers."""
    with np.errstate(over="ignore"):
        return Interval(*(float(np.exp(end)) for end in found))


def read_groups(rows: Iterable[Measurement], metric: str = "") -> list[Group]:
    """The bowls of a table, by family and depth.

    A value is that of the validation part where there is one. Of several data sizes at
    a width the largest counts.

    Args:
        rows: of a table.
        metric: of the task; "": the first.

    Raises:
        UserError: no family was trained at two widths with three rates each.
    """
    groups: dict[tuple[str, int], list[Measurement]] = collections.defaultdict(list)
    for row in rows:
        groups[row.family, row.depth].append(row)
    found = []
    for (family, depth), members in sorted(groups.items()):
        name = metric or members[0].metric
        bowls = _read_bowls(members, name)
        if sum(len(bowl.rates) >= 3 for bowl in bowls) >= 2:
            found.append(Group(family, depth, name, bowls))
    if not found:
        raise UserError(
            "--workdir: no family and depth has two widths with three rates each; set "
            "grid.learning_rates and grid.widths, train, and ask again"
        )
    return found


def _read_bowls(rows: Sequence[Measurement], metric: str) -> tuple[Bowl, ...]:
    largest: dict[int, int] = collections.defaultdict(int)
    for row in rows:
        largest[row.width] = max(largest[row.width], row.data)
    values: dict[int, dict[float, dict[int, float]]] = {}
    for row in rows:
        if row.data == largest[row.width]:
            at_rate = values.setdefault(row.width, {}).setdefault(row.learning_rate, {})
            at_rate[row.seed] = _read_value(row, metric)
    return tuple(fit_bowl(width, values[width]) for width in sorted(values))


def _read_value(row: Measurement, metric: str) -> float:
    if row.status != "ok":
        return math.inf
    value = row.read(metric, "validation")
    return row.read(metric) if math.isnan(value) else value


def fit_bowl(width: int, values: Mapping[float, Mapping[int, float]]) -> Bowl:
    """The bottom at one width.

    Every seed has a level of its own; curvature and bottom are shared.

    Args:
        width: of the models.
        values: by rate and seed; infinite where a run diverged.
    """
    rates = np.array(sorted(values))
    means = np.array([np.mean(list(values[rate].values())) for rate in rates])
    best = int(np.argmin(means))

    def without(status: str) -> Bowl:
        lowest = float(means[best])
        return Bowl(width, rates, means, UNKNOWN, lowest, status, np.empty(0))

    finite = np.isfinite(means)
    inner = [best - 1, best + 1]
    if len(rates) < 3 or not finite[best]:
        return without("few")
    if inner[0] < 0 or inner[1] >= len(rates) or not finite[inner].all():
        return without("edge")
    low = high = best
    while low > 0 and best - low < _NEIGHBOURS and finite[low - 1]:
        low -= 1
    while high < len(rates) - 1 and high - best < _NEIGHBOURS and finite[high + 1]:
        high += 1
    near = rates[low : high + 1]
    runs = [
        (rate, *run) for rate in near for run in sorted(values[float(rate)].items())
    ]
    center = math.log(rates[best])
    x = np.log([rate for rate, _, _ in runs]) - center
    seeds = sorted({seed for _, seed, _ in runs})
    levels = np.array([[seed == one for one in seeds] for _, seed, _ in runs], float)
    y = np.array([value for _, _, value in runs])
    design = np.column_stack([x**2, x, levels])
    freedom = len(y) - design.shape[1]
    if freedom < 1:
        return without("few")
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    residuals = y - design @ coefficients
    variance = float(residuals @ residuals) / freedom
    covariance = variance * np.linalg.inv(design.T @ design)[:2, :2]
    draws = _draw(coefficients[:2], covariance, freedom, width)
    curved = draws[:, 0] > 0
    if np.mean(curved) < _LEAST_BOTTOMS or coefficients[0] <= 0:
        return without("flat")
    # Of the few draws without a bottom nothing is known.
    kept = np.resize(draws[curved], draws.shape)
    bottoms = center - kept[:, 1] / (2 * kept[:, 0])
    middle = -coefficients[1] / (2 * coefficients[0])
    level = float(np.mean(coefficients[2:]))
    value = level - float(coefficients[1]) ** 2 / (4 * float(coefficients[0]))
    ends = _between(bottoms)
    rate = _exponential(ends._replace(value=center + float(middle)))
    return Bowl(width, rates, means, rate, value, "ok", bottoms)


def _draw(
    mean: np.ndarray, covariance: np.ndarray, freedom: int, seed: int
) -> np.ndarray:
    """Student's t of several numbers, which the noise's own estimate makes wide."""
    random = np.random.default_rng(seed)
    normal = random.multivariate_normal(np.zeros(2), covariance, _DRAWS)
    scale = np.sqrt(freedom / random.chisquare(freedom, _DRAWS))
    return mean + normal * scale[:, None]

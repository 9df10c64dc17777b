"""Whether a value scales at all: at chance, rising, U-shaped, with a peak, bending.

A law that only falls can be fitted to anything. Before it is believed, the points are
asked without it: along each size, with the other one held, f is a piecewise linear
function of the logarithm of that size, fitted to ln value with a level for every line
of points,

    ln value = level[line] + f(ln size) + noise                                    (1)

and what f does between any two of its knots is a difference with a standard error. The
noise is what is left over, or that of the seeds where it is larger. All thresholds
stand below; docs/trust.md has how often they raise a false alarm.

Source: five kinds of curves that do not extrapolate are told apart by Lourie, Hu and
Cho 2025 (arXiv:2507.00885), by eye; the tests are ours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from scalepred.fitting.predict import estimate_noise
from scalepred.metrics import find_noun, is_bounded
from scalepred.table.surface import Surface

# What chance may do in all the differences of one table together.
_CHANCE = 5e-3
# A rise counts from this share of all that f does, and of the value.
_RISE_SHARE, _RISE_LEAST = 0.2, 0.01
# Of single lines of points, the share that must rise by itself.
_LINES_SHARE = 1 / 3
# A line of its own has so many points at least; lines that only share f have fewer.
_LONG_LINE, _SHORT_LINE = 6, 3
_FEWEST, _MOST_KNOTS = 5, 8  # points in all; knots
_APART, _APART_SHARE = math.log(1.1), 0.03  # between knots: ln size; of their range
_LEAST_NOISE = 1e-6  # of ln value: tables have so many digits
# No trend: so likely at least were the slopes all zero. So near random guess less will
# do: a law would have to leave it first.
_NO_TREND, _AT_CHANCE, _NEAR_GUESS = 0.05, 0.005, 0.05
# Bending: the slope at the large end over that in the middle, how sure it is, and how
# much the value falls in all.
_STEEPER, _STEEPER_CHANCE, _FALL_LEAST = 1.5, 1e-4, 0.03
# Larger shares of the random-guess level say nothing of what lies beneath it.
_PLATEAU = 0.97


class NotScaling(NamedTuple):
    """Why no law of these points should be believed.

    Attributes:
        kind: at_chance, no_trend, rising, u_shaped, peaked or bending.
        axis: size along which it is seen: params, data or compute; "": all.
        sentence: for people; starts small and has no full stop.
    """

    kind: str
    axis: str
    sentence: str

    @property
    def code(self) -> str:
        """Of the warning: larger runs may yet show that a bending value scales."""
        return "still_bending" if self.kind == "bending" else "does_not_scale"


class _Line(NamedTuple):
    """Points along one size; those of a line share all others.

    Attributes:
        axis: params, data or compute.
        size: ln of it [points].
        value: ln of the value [points].
        line: number of each point's line [points].
        noise: standard deviation of ln value by the seeds; 0: not known.
    """

    axis: str
    size: np.ndarray
    value: np.ndarray
    line: np.ndarray
    noise: float

    def where(self, mask: np.ndarray) -> "_Line":
        _, line = np.unique(self.line[mask], return_inverse=True)
        return self._replace(size=self.size[mask], value=self.value[mask], line=line)

    @property
    def num_levels(self) -> int:
        """Numbers that `level` takes."""
        return int(self.line.max()) + 1

    def without_level(self, columns: np.ndarray) -> np.ndarray:
        """Columns less what the level of Eq. (1) can follow [points, columns]."""
        counts = np.bincount(self.line)
        means = [np.bincount(self.line, column) / counts for column in columns.T]
        return columns - np.stack(means, axis=1)[self.line]


class _Profile(NamedTuple):
    """f of Eq. (1) at its knots, the first of which is 0.

    Attributes:
        knots: ln size [knots].
        f: [knots].
        covariance: of f [knots, knots].
        variance: of the noise of one point.
        freedom: of that variance.
    """

    knots: np.ndarray
    f: np.ndarray
    covariance: np.ndarray
    variance: float
    freedom: int

    def rises(self, chance: float) -> np.ndarray:
        """Which differences f[j] - f[i], i < j, are rises beyond chance [i, j]."""
        return self._beyond(self.f - self.f[:, None], chance)

    def falls(self, chance: float) -> np.ndarray:
        """Which are falls beyond chance [i, j]."""
        return self._beyond(self.f[:, None] - self.f, chance)

    def _beyond(self, change: np.ndarray, chance: float) -> np.ndarray:
        own = np.diagonal(self.covariance)
        sd = np.sqrt(np.maximum(own[:, None] + own - 2 * self.covariance, 1e-24))
        count = len(self.f) * (len(self.f) - 1) / 2
        threshold = -special.stdtrit(self.freedom, chance / count)
        return np.triu(change > threshold * sd, 1)


def judge(surface: Surface) -> NotScaling | None:
    """Why a surface does not scale as a law; None where nothing speaks against it.

    Args:
        surface: the points to be fitted; fewer than five are not judged.
    """
    if len(surface) < _FEWEST:
        return None
    lines = _lines(surface)
    if not lines:
        return None
    flat = _flat(surface, lines)
    if flat is not None:
        return flat
    chance = _CHANCE / len(lines)
    for view in lines:
        found = _rise(view, surface, chance)
        if found is not None:
            return found
    for view in lines:
        if _is_bending(view, surface):
            sentence = (
                f"the {_thing(surface)} falls faster and faster as {_NAMES[view.axis]} "
                "grows, up to the largest that was fitted: where a power law begins is "
                "not seen"
            )
            return NotScaling("bending", view.axis, sentence)
    return None


_NAMES = {"params": "model size", "data": "data size", "compute": "compute"}


def _thing(surface: Surface) -> str:
    return find_noun(surface.metric)


def _lines(surface: Surface) -> list[_Line]:
    """The points along each size, where lines of them share the other; else compute."""
    sizes = {"params": np.log(surface.params), "data": np.log(surface.data)}
    value = np.log(surface.value)
    noise = estimate_noise(surface.value, surface.seed_values)
    typical = noise.sd / math.sqrt(float(np.mean(surface.num_seeds)))
    found = []
    for axis, name in (("params", "data"), ("data", "params")):
        if np.ptp(sizes[axis]) == 0:
            continue
        shared = [sizes[name]]
        if surface.epochs is not None:
            shared.append(surface.epochs)
        _, line = np.unique(np.stack(shared), axis=1, return_inverse=True)
        line = line.reshape(-1)
        long = np.bincount(line)[line] >= _SHORT_LINE
        if np.sum(long) >= max(_FEWEST, len(surface) / 2):
            whole = _Line(axis, sizes[axis], value, line, typical)
            found.append(whole.where(long))
    size = sizes["params"] + sizes["data"]
    if not found and surface.epochs is None and np.ptp(size) > 0:
        line = np.zeros(len(surface), int)
        found.append(_Line("compute", size, value, line, typical))
    return found


def _fit_profile(view: _Line, most_knots: int) -> _Profile | None:
    """f by least squares; None where nothing is left over to tell the noise from."""
    knots = _place_knots(view.size, most_knots)
    columns = view.without_level(_hats(view.size, knots)[:, 1:])
    left = view.without_level(view.value[:, None])[:, 0]
    freedom = len(view.size) - view.num_levels - columns.shape[1]
    information = columns.T @ columns
    if freedom < 1 or np.linalg.cond(information) > 1e10:
        return None
    f = np.linalg.solve(information, columns.T @ left)
    left_over = float(np.sum((left - columns @ f) ** 2)) / freedom
    variance = max(left_over, view.noise**2, _LEAST_NOISE**2)
    covariance = np.pad(variance * np.linalg.inv(information), ((1, 0), (1, 0)))
    return _Profile(knots, np.append(0.0, f), covariance, variance, freedom)


def _place_knots(size: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the sizes, evenly among them, none close to another."""
    levels = np.unique(size)
    chosen = np.quantile(levels, np.linspace(0, 1, min(most, len(levels))))
    apart = max(_APART, _APART_SHARE * float(np.ptp(size)))
    knots = [chosen[0]]
    for knot in chosen[1:]:
        if knot - knots[-1] >= apart:
            knots.append(knot)
    return np.array(knots)


def _hats(size: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Hat functions that add up to 1 [points, knots]."""
    return np.stack([np.interp(size, knots, one) for one in np.eye(len(knots))], axis=1)


def _rise(view: _Line, surface: Surface, chance: float) -> NotScaling | None:
    """A rise in f of all lines, or of many a line by itself."""
    num_lines = int(view.line.max()) + 1
    knots = _most_knots(len(view.size)) if num_lines == 1 else _MOST_KNOTS
    profile = _fit_profile(view, knots)
    found = None if profile is None else _shape(profile, chance)
    if found is not None:
        return _say(found, view, surface, "")
    own = np.bincount(view.line)
    long = np.flatnonzero(own >= _LONG_LINE)
    if num_lines == 1 or len(long) < 2:
        return None
    alone = [view.where(view.line == number) for number in long]
    profiles = [_fit_profile(one, _most_knots(len(one.size))) for one in alone]
    shapes = [_shape(one, chance) for one in _share_noise(profiles)]
    told = [shape for shape in shapes if shape is not None]
    if len(told) < max(2, _LINES_SHARE * len(long)):
        return None
    kinds = [shape.kind for shape in told]
    most = max(set(kinds), key=kinds.count)
    shape = max((s for s in told if s.kind == most), key=lambda s: s.rise)
    where = f" at {len(told)} of {len(long)} sizes of the other"
    return _say(shape, view, surface, where)


class _Shape(NamedTuple):
    """What f does that no law does.

    Attributes:
        kind: rising, u_shaped or peaked.
        rise: of ln value.
        start: ln size from where it rises.
        end: ln size up to where it does.
    """

    kind: str
    rise: float
    start: float
    end: float


def _shape(profile: _Profile, chance: float) -> _Shape | None:
    """The largest rise of f beyond chance, and what comes before and after it."""
    f, rises = profile.f, profile.rises(chance)
    change = np.where(rises, f - f[:, None], -math.inf)
    start, end = np.unravel_index(int(np.argmax(change)), change.shape)
    rise = float(change[start, end])
    if rise < max(_RISE_SHARE * float(np.ptp(f)), _RISE_LEAST):
        return None
    falls = profile.falls(chance)
    if np.any(falls[end, end:]) and f[end] - f[-1] > rise / 2:
        kind = "peaked"
    elif np.any(falls[:start, start]) and f[0] - f[start] > rise / 4:
        kind = "u_shaped"
    else:
        kind = "rising"
    return _Shape(kind, rise, profile.knots[start], profile.knots[end])


def _share_noise(profiles: Sequence[_Profile | None]) -> list[_Profile]:
    """Profiles of lines whose noise is the same, which all of them tell together."""
    known = [one for one in profiles if one is not None]
    freedom = sum(one.freedom for one in known)
    variance = sum(one.freedom * one.variance for one in known) / max(freedom, 1)
    return [
        one._replace(
            covariance=one.covariance * (variance / one.variance),
            variance=variance,
            freedom=freedom,
        )
        for one in known
    ]


def _say(shape: _Shape, view: _Line, surface: Surface, where: str) -> NotScaling:
    from scalepred.table import numbers

    start, end = (numbers.write(float(np.exp(s))) for s in (shape.start, shape.end))
    rise = f"{math.expm1(shape.rise):.0%} from {start} to {end}"
    thing, size = _thing(surface), _NAMES[view.axis]
    sentence = {
        "rising": f"the {thing} rises with {size}{where}: by {rise}",
        "u_shaped": f"the {thing} falls and then rises with {size}{where}: by {rise}",
        "peaked": f"the {thing} has a peak along {size}{where}, as in double descent: "
        f"it rises by {rise}, and falls again",
    }[shape.kind]
    return NotScaling(shape.kind, view.axis, sentence)


def _flat(surface: Surface, lines: Sequence[_Line]) -> NotScaling | None:
    """No slope along any size that chance would not have."""
    guess, middle = surface.random_guess, float(np.median(surface.value))
    at_chance = bool(guess) and abs(middle / guess - 1) < _NEAR_GUESS
    chance = _AT_CHANCE if at_chance else _NO_TREND
    logs = [np.log(surface.params), np.log(surface.data)]
    sizes = [size for size in logs if np.ptp(size) > 0]
    value = np.log(surface.value)
    ranks = [_rank(size) for size in sizes]
    for one, by in ((sizes, value), (ranks, _rank(value))):
        if _find_chance(one, by) < chance:
            return None
    # A slope is not all that there may be: a fall that ends, or a peak, is seen below.
    for view in lines:
        profile = _fit_profile(view, _most_knots(len(view.size)))
        if profile is not None and (
            np.any(profile.falls(chance)) or np.any(profile.rises(chance))
        ):
            return None
    thing, spread = _thing(surface), f"{np.std(value):.1%}"
    if at_chance:
        sentence = (
            f"the {thing} is at chance ({guess:.4g}) at all sizes, but for a scatter "
            f"of {spread}: nothing was learnt yet that could be followed"
        )
        return NotScaling("at_chance", "", sentence)
    sentence = f"the {thing} shows no trend with size beyond its scatter of {spread}"
    return NotScaling("no_trend", "", sentence)


def _rank(values: np.ndarray) -> np.ndarray:
    """1 for the lowest and up; equal ones share the mean of their ranks [points]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _find_chance(sizes: Sequence[np.ndarray], value: np.ndarray) -> float:
    """How likely such slopes along the sizes were by chance; 0: it cannot be told."""
    matrix = np.stack([size - size.mean() for size in sizes], axis=1)
    left = value - value.mean()
    slopes, _, rank, _ = np.linalg.lstsq(matrix, left, rcond=None)
    freedom = len(left) - 1 - int(rank)
    if freedom < 2:
        return 0.0
    explained = float(np.sum((matrix @ slopes) ** 2)) / int(rank)
    rest = float(np.sum((left - matrix @ slopes) ** 2)) / freedom
    ratio = explained / max(rest, 1e-300)
    return float(special.fdtrc(int(rank), freedom, ratio))


def _is_bending(view: _Line, surface: Surface) -> bool:
    """Whether ln value still falls more steeply at the large end than before it."""
    value, guess = np.exp(view.value), surface.random_guess
    if guess is None and is_bounded(surface.metric):
        guess = 1.0
    kept = np.ones(len(value), bool)
    log_value = view.value
    if guess:  # what the plateau of Rosenfeld's law bends is no surprise
        kept = value < _PLATEAU * guess
        share = np.minimum(value / guess, _PLATEAU)
        log_value = np.log(share) - 0.5 * np.log1p(-(share**2))
    if np.sum(kept) < _FEWEST:
        return False
    below = view._replace(value=log_value).where(kept)
    size = below.size - below.size.max()  # slopes at the end
    columns = below.without_level(np.stack([size, size**2], axis=1))
    left = below.without_level(below.value[:, None])[:, 0]
    freedom = len(left) - below.num_levels - 2
    information = columns.T @ columns
    if freedom < 2 or np.linalg.cond(information) > 1e10:
        return False
    slope, curve = np.linalg.solve(information, columns.T @ left)
    variance = float(np.sum((left - columns @ [slope, curve]) ** 2)) / freedom
    sd = math.sqrt(
        max(variance, view.noise**2) * float(np.linalg.inv(information)[1, 1])
    )
    before = slope + curve * size.min()  # in the middle
    fall = -(slope * size.min() + curve * size.min() ** 2)
    return bool(
        curve < special.stdtrit(freedom, _STEEPER_CHANCE) * max(sd, 1e-12)
        and -slope > _STEEPER * max(-before, 0.0)
        and -fall > _FALL_LEAST
    )


def _most_knots(points: int) -> int:
    """Of one line of points: enough must be left over to tell the noise from."""
    return min(_MOST_KNOTS, max(2, round(0.6 * points)))

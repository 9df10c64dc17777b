"""Runs of two tables that belong together, and how far apart their values are.

Runs of one seed at one size may share the order of their data, their initialisation,
their split: what they err by is alike, and cancels in the difference of the two. Where
no seed is common, runs of the same sizes are set against each other in their order: the
difference is free of the law, though not of the noise.
"""

import dataclasses
import math

import numpy as np
from scipy import special

from scalepred.fitting.predict import LEVEL, Estimate
from scalepred.table.surface import Surface

# Sizes that differ by less, in ln, are the same ones.
_SAME = 1e-6
# With fewer sizes or runs in common, or a smaller share of the sizes of the smaller
# table, the laws say more than the differences.
_FEWEST_SIZES, _FEWEST_RUNS, _LEAST_SHARE = 3, 5, 0.5


@dataclasses.dataclass(frozen=True)
class Shared:
    """Runs of two tables at the same sizes, one by one.

    Attributes:
        params: model sizes [sizes].
        data: data sizes [sizes].
        epochs: passes over the data [sizes]; None: not told.
        difference: ln of the second run's value less ln of the first's, NaN where a
            size has no such pair [sizes, seeds].
        by: seed | size: what the runs have in common.
    """

    params: np.ndarray
    data: np.ndarray
    epochs: np.ndarray | None
    difference: np.ndarray
    by: str

    def __len__(self) -> int:
        return len(self.params)

    @property
    def runs(self) -> np.ndarray:
        """Pairs of runs of each size [sizes]."""
        return np.sum(np.isfinite(self.difference), axis=1)

    @property
    def mean(self) -> np.ndarray:
        """Of the differences of each size [sizes]."""
        return np.nanmean(self.difference, axis=1)

    @property
    def squares(self) -> np.ndarray:
        """Squared deviations from the mean of the size, added up [sizes]."""
        return np.nansum((self.difference - self.mean[:, None]) ** 2, axis=1)

    def where(self, mask: np.ndarray) -> "Shared":
        """The sizes at which `mask` [sizes] is true."""
        epochs = None if self.epochs is None else self.epochs[mask]
        return Shared(
            self.params[mask], self.data[mask], epochs, self.difference[mask], self.by
        )


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What a comparison rests on.

    Attributes:
        runs: pairs of runs at the same sizes.
        points: sizes that have such pairs.
        by: seed | size: what the runs of a pair have in common.
        alike: correlation of the seeds' noise of the two, -1 to 1; NaN: not known.
        why_not: a sentence, where the laws are compared and not the runs; else "".
    """

    runs: int
    points: int
    by: str
    alike: float
    why_not: str = ""


def find_shared(first: Surface, second: Surface) -> Shared:
    """Runs of two tables at the same sizes: of the same seed, where seeds have names.

    Args:
        first: a table.
        second: another, whose values are held against the first's.
    """
    places = {place: i for i, place in enumerate(_places(first))}
    both = [(places[p], i) for i, p in enumerate(_places(second)) if p in places]
    one, other = np.array(sorted(both), int).reshape(-1, 2).T
    values = [
        np.log(np.where(own > 0, own, math.nan))
        for own in (first.seed_values[one], second.seed_values[other])
    ]
    names = first.seed_names or (), second.seed_names or ()
    if first.seeds is not None or second.seeds is not None:
        names = (), ()  # so many seeds that columns are no seeds
    common = [name for name in names[0] if name in names[1]]
    if common:
        columns = [[own.index(name) for name in common] for own in names]
        values = [v[:, own] for v, own in zip(values, columns, strict=True)]
    else:
        values = [np.take_along_axis(v, _in_order(v), axis=1) for v in values]
        count = min(v.shape[1] for v in values)
        values = [v[:, :count] for v in values]
    difference = values[1] - values[0]
    shared = Shared(
        first.params[one],
        first.data[one],
        None if first.epochs is None else first.epochs[one],
        difference,
        "seed" if common else "size",
    )
    return shared.where(shared.runs > 0)


def _places(surface: Surface) -> list[tuple[int, ...]]:
    sizes = [surface.params, surface.data]
    sizes += [] if surface.epochs is None else [surface.epochs]
    steps = np.round(np.log(np.stack(sizes, axis=1)) / _SAME).astype(int)
    return [tuple(row) for row in steps]


def _in_order(values: np.ndarray) -> np.ndarray:
    """The columns of each row, those with a number first [rows, columns]."""
    return np.argsort(np.isnan(values), axis=1, kind="stable")


def describe_pairing(first: Surface, second: Surface, shared: Shared) -> Pairing:
    """Whether the shared runs tell the difference better than two laws do."""
    runs, points = int(shared.runs.sum()), len(shared)
    smaller = min(len(first), len(second))
    why_not = ""
    if not points:
        why_not = "no run of the one has the sizes of a run of the other"
    elif points < _FEWEST_SIZES or runs < _FEWEST_RUNS:
        why_not = f"only {runs} runs at {points} sizes have a partner in the other"
    elif points < _LEAST_SHARE * smaller:
        why_not = f"only {points} of {smaller} sizes are in both"
    alike = _correlate(first, second, shared) if shared.by == "seed" else math.nan
    return Pairing(runs, points, shared.by, alike, why_not)


def _correlate(first: Surface, second: Surface, shared: Shared) -> float:
    """Of the seeds' noise: from the variances of the two and of their difference."""
    freedom = float(np.sum(shared.runs[shared.runs >= 2] - 1))
    variances = [_seed_variance(own) for own in (first, second)]
    if not freedom or not all(variances):
        return math.nan
    of_difference = float(np.sum(shared.squares)) / freedom
    alike = (sum(variances) - of_difference) / (2 * math.sqrt(math.prod(variances)))
    return float(np.clip(alike, -1.0, 1.0))


def _seed_variance(surface: Surface) -> float:
    """Of ln of the value of one run about its size's mean; 0 where it is not known."""
    logs = np.log(surface.seed_values)
    several = surface.num_seeds >= 2
    if not np.any(several):
        return 0.0
    means = np.nanmean(logs[several], axis=1, keepdims=True)
    freedom = float(np.sum(surface.num_seeds[several] - 1))
    return float(np.nansum((logs[several] - means) ** 2)) / freedom


@dataclasses.dataclass(frozen=True)
class Scale:
    """What was measured at one size.

    Attributes:
        params: model size.
        data: data size.
        compute: training FLOPs of one run, or what the laws are compared along.
        runs: pairs of runs.
        relative: second / first - 1, with the 90 % interval of Student's t.
        multiplier: how many times less of the compared size the second needs, by the
            slope of the baseline's law there; NaN: the law is flat.
    """

    params: float
    data: float
    compute: float
    runs: int
    relative: Estimate
    multiplier: Estimate


def measure_scales(
    shared: Shared, noise: np.ndarray, sizes: np.ndarray, slopes: np.ndarray
) -> tuple[Scale, ...]:
    """The paired difference of each size, smallest first.

    Where sizes have several pairs of runs, their noise is pooled: it has the freedom of
    all of them. Else it is what the law of the difference takes for noise.

    Args:
        shared: pairs of runs.
        noise: standard deviation of one pair's difference, by the law [sizes].
        sizes: along the compared axis [sizes].
        slopes: of ln of the baseline's value by ln of the size [sizes].
    """
    freedom = float(np.sum(shared.runs - 1))
    ratio = 1.0
    if freedom:
        ratio = math.sqrt(float(np.sum(shared.squares / noise**2)) / freedom)
    else:
        freedom = max(len(shared) - 3.0, 1.0)
    width = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * ratio * noise
    width = width / np.sqrt(shared.runs)
    found = []
    for i in np.argsort(sizes, kind="stable"):
        ends = shared.mean[i] + np.array([0.0, -width[i], width[i]])
        with np.errstate(divide="ignore", over="ignore"):
            times = np.exp(ends / slopes[i]) if slopes[i] < 0 else ends * math.nan
        found.append(
            Scale(
                float(shared.params[i]),
                float(shared.data[i]),
                float(sizes[i]),
                int(shared.runs[i]),
                Estimate(*map(float, np.expm1(ends))),
                Estimate(float(times[0]), float(times[2]), float(times[1])),
            )
        )
    return tuple(found)

"""Two fits drawn together, where their runs share noise.

Runs of one seed at one size may share the order of their data, their initialisation,
their split: what they err by is alike, and cancels in a difference. Two to four seeds
are too few to be resampled (their spread would come out too small), so errors are drawn
from a normal law, as for one fit, and those of the second follow those of the first as
far as the shared runs do:

    e_2 = r (s_2 / s_1) e_1 + sqrt(1 - r^2) e'_2                                  (1)

with the errors e_1, e'_2 that each fit would draw for itself, of standard deviations
s_1, s_2, and the correlation r. Two correlations are learnt. That of seeds comes from
the deviations of shared runs from the mean of their size. That of the laws' misfits
comes from the residuals at shared sizes, less what seeds explain; where a size has one
run only its noise is part of the misfit. Each draw has its own r, from what is known of
it (Fisher 1915: atanh r is about normal), as a few sizes tell it roughly.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from scalepred.fitting import backtest
from scalepred.fitting.fit import Fit
from scalepred.fitting.least_squares import LeastSquares
from scalepred.fitting.predict import FittedLaw
from scalepred.table.surface import Surface

# Sizes that differ by less, in ln, are the same ones.
_SAME = 1e-6
# With fewer numbers behind it a correlation is anybody's guess.
_FEWEST = 4


class Correlation(NamedTuple):
    """How alike two lists of errors are.

    Attributes:
        value: -1 to 1; NaN where there are too few.
        freedom: independent numbers behind it.
    """

    value: float
    freedom: float

    def draw(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """What it may be [draws]; 0 where it is not known."""
        if math.isnan(self.value):
            return np.zeros(draws)
        centre = math.atanh(float(np.clip(self.value, -0.9999, 0.9999)))
        wide = 1 / math.sqrt(self.freedom - 1)
        return np.tanh(centre + wide * rng.standard_normal(draws))


_UNKNOWN = Correlation(math.nan, 0.0)


@dataclasses.dataclass(frozen=True)
class Shared:
    """Runs of the same seed at the same sizes in two surfaces.

    Attributes:
        first: points of the first surface that have some [shared points].
        second: the same sizes in the second [shared points].
        runs: how many runs of each point are shared [shared points].
        columns: of the shared seeds, in each surface's `seed_values` [2, seeds].
    """

    first: np.ndarray
    second: np.ndarray
    runs: np.ndarray
    columns: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Whether two fits were drawn together.

    Attributes:
        runs: that share seed and size.
        points: sizes that have such runs.
        seeds: correlation of their deviations from the mean of their size.
        residuals: correlation of the residuals of the two laws at these sizes.
        why_not: a sentence, where they were drawn independently; else "".
    """

    runs: int
    points: int
    seeds: float
    residuals: float
    why_not: str = ""

    @property
    def is_known(self) -> bool:
        """Whether the runs tell how alike their errors are."""
        return not (math.isnan(self.seeds) and math.isnan(self.residuals))


def find_shared(first: Surface, second: Surface) -> Shared:
    """Runs that two surfaces share, by the names of their seeds."""
    names = first.seed_names or (), second.seed_names or ()
    if first.seeds is not None or second.seeds is not None:
        names = (), ()  # so many seeds that columns are no seeds
    places = {place: i for i, place in enumerate(_places(first))}
    both = [(places[p], i) for i, p in enumerate(_places(second)) if p in places]
    pairs = np.array(sorted(both), int).reshape(-1, 2).T
    seeds = [name for name in names[0] if name in names[1]]
    columns = np.array([[own.index(name) for name in seeds] for own in names], int)
    runs = np.sum(np.isfinite(_shared_values(first, second, pairs, columns)[0]), axis=1)
    has = runs > 0
    return Shared(pairs[0][has], pairs[1][has], runs[has], columns)


def _places(surface: Surface) -> list[tuple[int, ...]]:
    sizes = [surface.params, surface.data]
    sizes += [] if surface.epochs is None else [surface.epochs]
    steps = np.round(np.log(np.stack(sizes, axis=1)) / _SAME).astype(int)
    return [tuple(row) for row in steps]


def _shared_values(
    first: Surface, second: Surface, pairs: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ln of the shared runs' values, NaN elsewhere, each [points, seeds]."""
    with np.errstate(divide="ignore"):
        values = [
            np.log(surface.seed_values[np.ix_(points, own)])
            for surface, points, own in zip(
                (first, second), pairs, columns, strict=True
            )
        ]
    has = np.isfinite(values[0]) & np.isfinite(values[1])
    return np.where(has, values[0], np.nan), np.where(has, values[1], np.nan)


def draw_pair(
    first: Fit, second: Fit, seed: int = 0
) -> tuple[FittedLaw, FittedLaw, Pairing]:
    """The two laws with draws that belong together, one to one.

    Where runs are shared, both are refitted to points that err together. Where they are
    not, or a fit cannot be drawn so, the draws are those of the fits, in random order:
    independent, which is right without shared noise and too wide with it. That is so of
    law=auto, whose draws wander by its members and priors more than by the noise, of a
    Huber residual, whose draws take points instead of moving them, and of a fit that
    was loaded.

    Args:
        first: a fit.
        second: another.
        seed: of the order, or of the draws.
    """
    rng = np.random.default_rng(seed)
    shared = find_shared(first.surface, second.surface)
    one, other = first.estimate, second.estimate
    why_not = _why_not(one, other, shared)
    if (
        isinstance(one, LeastSquares)
        and isinstance(other, LeastSquares)
        and not why_not
    ):
        pairing, mixer = _learn(one, other, shared)
        if pairing.is_known:
            return *_draw_together(one, other, mixer, rng), pairing
        why_not = "too few runs are shared to tell how alike their errors are"
    pairing = Pairing(int(shared.runs.sum()), len(shared), math.nan, math.nan, why_not)
    return *_draw_apart(first.fitted, second.fitted, rng), pairing


def _why_not(one: object, other: object, shared: Shared) -> str:
    if not len(shared):
        return "no run of the one has seed and sizes of a run of the other"
    for estimate in (one, other):
        if not isinstance(estimate, LeastSquares):
            return "law=auto, and a fit that was loaded, cannot be drawn together"
        if estimate.residual.has_kinks:
            return f"residual={estimate.residual.kind} resamples points, not errors"
    return ""


def _draw_apart(
    first: FittedLaw, second: FittedLaw, rng: np.random.Generator
) -> tuple[FittedLaw, FittedLaw]:
    """The fits' own draws in random order: both may come from the same numbers."""
    count = min(len(first.draws), len(second.draws))

    def shuffle(fitted: FittedLaw) -> FittedLaw:
        order = rng.permutation(len(fitted.draws))[:count]
        return dataclasses.replace(
            fitted, draws=fitted.draws[order], misfits=fitted.wander[order]
        )

    return shuffle(first), shuffle(second)


class _Mixer(NamedTuple):
    """What (1) takes.

    Attributes:
        shared: runs.
        seeds: correlation of the seeds' noise.
        residuals: of the residuals.
        noise: share of the variance of residuals that is noise of seeds, in each.
        runs: of a mean's noise, which part is shared: runs / sqrt(runs_1 runs_2).
    """

    shared: Shared
    seeds: Correlation
    residuals: Correlation
    noise: tuple[float, float]
    runs: np.ndarray

    def draw(
        self, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Correlations of misfits and of seeds, each [draws]."""
        residuals, seeds = self.residuals.draw(draws, rng), self.seeds.draw(draws, rng)
        of_noise = math.sqrt(self.noise[0] * self.noise[1])
        of_misfit = math.sqrt((1 - self.noise[0]) * (1 - self.noise[1]))
        if math.isnan(self.residuals.value):
            return np.zeros(draws), seeds
        # Where the noise explains all residuals the misfits hardly matter.
        left = residuals - seeds * of_noise * float(np.mean(self.runs))
        misfits = np.clip(left / max(of_misfit, 1e-3), -0.999, 0.999)
        return misfits, seeds


def _learn(
    one: LeastSquares, other: LeastSquares, shared: Shared
) -> tuple[Pairing, _Mixer]:
    pairs = np.stack([shared.first, shared.second])
    values = _shared_values(one.surface, other.surface, pairs, shared.columns)
    several = shared.runs >= 2
    seeds = _UNKNOWN
    if np.any(several) and one.noise.sd and other.noise.sd:
        deviations = [
            (own[several] - np.nanmean(own[several], axis=1, keepdims=True))
            / estimate.noise.of(estimate.points.log_value[at][several])[:, None]
            for own, estimate, at in zip(values, (one, other), pairs, strict=True)
        ]
        freedom = float(np.sum(shared.runs[several] - 1))
        seeds = _correlate(deviations[0], deviations[1], freedom)
    differences = [
        (np.sqrt(estimate.points.weight) * estimate.differences)[at]
        for estimate, at in zip((one, other), pairs, strict=True)
    ]
    parameters = max(one.law.num_parameters, other.law.num_parameters)
    freedom = len(shared) - parameters
    residuals = _correlate(differences[0], differences[1], freedom)
    counts = (
        one.surface.num_seeds[shared.first] * other.surface.num_seeds[shared.second]
    )
    mixer = _Mixer(
        shared,
        seeds,
        residuals,
        (_noise_share(one), _noise_share(other)),
        shared.runs / np.sqrt(counts),
    )
    pairing = Pairing(int(shared.runs.sum()), len(shared), seeds.value, residuals.value)
    return pairing, mixer


def _correlate(first: np.ndarray, second: np.ndarray, freedom: float) -> Correlation:
    size = math.sqrt(float(np.nansum(first**2)) * float(np.nansum(second**2)))
    if freedom < _FEWEST or not size:
        return _UNKNOWN
    return Correlation(float(np.nansum(first * second)) / size, freedom)


def _noise_share(estimate: LeastSquares) -> float:
    """Share of the variance of the means about the law that is noise of seeds."""
    own = estimate.noise.of(estimate.points.log_value) ** 2 / estimate.surface.num_seeds
    total = float(np.mean(own)) + estimate.misfit.overall_sd**2
    return float(np.mean(own)) / total if total else 0.0


def _draw_together(
    one: LeastSquares, other: LeastSquares, mixer: _Mixer, rng: np.random.Generator
) -> tuple[FittedLaw, FittedLaw]:
    draws = min(one.resamples, other.resamples)
    misfits, seeds = mixer.draw(draws, rng)
    first, second = _draw_errors(one, draws, rng), _draw_errors(other, draws, rng)
    shares = misfits[:, None], seeds[:, None] * mixer.runs
    at = mixer.shared
    for share, others, own in zip(shares, first, second, strict=True):
        fresh = np.sqrt(1 - share**2) * own[:, at.second]
        own[:, at.second] = share * others[:, at.first] + fresh  # (1)
    thetas = [_refit(one, first), _refit(other, second)]
    good = np.isfinite(thetas[0][:, 0]) & np.isfinite(thetas[1][:, 0])
    wander = rng.standard_normal((2, draws))
    wander[1] = misfits * wander[0] + np.sqrt(1 - misfits**2) * wander[1]
    # One number for both, or errors that they share would not cancel.
    growth = math.sqrt((_growth(one) ** 2 + _growth(other) ** 2) / 2)
    drawn = [
        dataclasses.replace(estimate.with_draws(theta[good], growth), misfits=own[good])
        for estimate, theta, own in zip((one, other), thetas, wander, strict=True)
    ]
    return drawn[0], drawn[1]


def _growth(estimate: LeastSquares) -> float:
    return backtest.learn_growth(estimate.inner_tests)


def _draw_errors(
    estimate: LeastSquares, draws: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Misfits and noise of seeds, in standard deviations, each [draws, points]."""
    drawn = estimate.draw_errors(draws, rng)
    return [
        np.divide(errors, sd, out=rng.standard_normal(errors.shape), where=sd > 0)
        for errors, sd in zip(drawn, _sizes(estimate), strict=True)
    ]


def _sizes(estimate: LeastSquares) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation of misfit and of the means' noise, each [points]."""
    count = len(estimate.surface)
    noise = estimate.noise.of(estimate.points.log_value)
    return (
        np.full(count, estimate.misfit.overall_sd),
        noise / np.sqrt(estimate.surface.num_seeds),
    )


def _refit(estimate: LeastSquares, errors: list[np.ndarray]) -> np.ndarray:
    """theta of each draw [draws, parameters]."""
    misfit, noise = (e * sd for e, sd in zip(errors, _sizes(estimate), strict=True))
    return estimate.refit_moved(misfit + noise)

"""How far the truth lies from a law, and how alike at neighbouring sizes.

A law is never quite right, and where it errs it errs in one direction over a stretch of
sizes. The parameters follow such an error, so residuals look smaller and more random
than the misfit is. What the parameters cannot follow still shows how large and how
smooth it must be (restricted maximum likelihood: Patterson and Thompson 1971), and
resamples that are moved by such misfits give parameters their honest width.

Noise of seeds may be alike at neighbours as well, where runs of one seed share their
split of the data: the seeds themselves tell.
"""

import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import threadpoolctl

# Distance over which misfits stay alike, as a part of the fitted range of the sizes:
# not at all, or as in a law that bends wrongly once or twice over the range.
_LENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0)
_CHANCES = (0.5, 1 / 8, 1 / 8, 1 / 8, 1 / 8)  # before the residuals are seen
# Standard deviations tried, times that of the residuals: evenly in the logarithm.
_RATIOS = np.geomspace(0.03, 10.0, 50)
# With more points than the first, too many for a matrix of all pairs, misfits are taken
# as unlike; with more than the second, some of them tell how alike misfits are.
MOST_ALIKE, _MOST_LEARNT_FROM = 2000, 300


# The share of the seeds' noise that runs of one seed may have in common, the distances
# over which they may, and the chance that they do before they are seen.
_SHARED = (0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
_SHARED_LENGTHS = (0.25, 1.0, np.inf)
_SHARED_CHANCE = 0.5

_lock = threading.Lock()  # limits of several threads would be lifted in any order


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra by one thread of BLAS.

    OpenBLAS would take all cores for as few as forty points, which then wait busily,
    each for tens of milliseconds, in the way of all that a fit does beside.
    """
    with _lock, _blas().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()  # looks through all that is loaded


class Misfit(NamedTuple):
    """What the misfit of a law may be, case by case.

    Attributes:
        length: over which it stays alike, 0 to 1 of the fitted range [cases].
        sd: standard deviation, in ln of the value [cases].
        chance: of each case, given the residuals [cases].
        distance: of points, 1 over the whole range of one size [points, points];
            [0, 0] where all misfits are taken as unlike.
    """

    length: np.ndarray
    sd: np.ndarray
    chance: np.ndarray
    distance: np.ndarray

    @property
    def overall_sd(self) -> float:
        """Standard deviation over all cases."""
        return float(np.sqrt(np.sum(self.chance * self.sd**2)))

    @one_thread()
    def variance(self, shares: np.ndarray) -> np.ndarray:
        """Of sums of misfits, each taken with its share [sums, points] -> [sums]."""
        total = np.zeros(len(shares))
        for length in np.unique(self.length):
            alike = shares @ _likeness(self.distance, length) if length else shares
            of_length = self.length == length
            variance = np.sum(self.chance[of_length] * self.sd[of_length] ** 2)
            total += variance * np.sum(alike * shares, axis=1)
        return total

    @one_thread()
    def draw(
        self, draws: int, points: int, rng: np.random.Generator
    ) -> np.ndarray | float:
        """Misfits in ln of the value [draws, points]; 0 where there is none."""
        if not self.overall_sd:
            return 0.0
        case = rng.choice(len(self.chance), draws, p=self.chance)
        drawn = rng.standard_normal((draws, points))
        for length in np.unique(self.length[case]):
            if length:
                chosen = self.length[case] == length
                root = np.linalg.cholesky(_likeness(self.distance, length))
                drawn[chosen] = drawn[chosen] @ root.T
        return drawn * self.sd[case][:, None]


def estimate(
    difference: np.ndarray,
    slopes: np.ndarray,
    places: np.ndarray,
    noise: float,
    seed: int,
) -> Misfit:
    """The misfit of a law that was fitted by least squares.

    Args:
        difference: ln(law) - ln(measured) [points].
        slopes: its derivatives by the parameters [points, parameters].
        places: ln of model size, data size and what else the law knows [axes, points].
        noise: variance that the measurements have of their own.
        seed: of the choice among very many points.
    """
    count, num_parameters = slopes.shape
    freedom = max(count - num_parameters, 1)
    total = float(np.sum(difference**2)) / freedom
    if total < 1e-24:  # no more than rounding
        return of_size(0.0)
    if count <= num_parameters or count > MOST_ALIKE:
        return of_size(np.sqrt(max(total - noise, 0.0)))
    distance = _distances(places)
    sds = np.sqrt(total) * _RATIOS
    rng = np.random.default_rng(seed)
    taken = np.sort(rng.permutation(count)[:_MOST_LEARNT_FROM])
    among = distance[np.ix_(taken, taken)]
    score = _score(difference[taken], slopes[taken], among, noise, sds)
    chance = np.exp(score - score.max())
    return Misfit(
        length=np.repeat(_LENGTHS, len(sds)),
        sd=np.tile(sds, len(_LENGTHS)),
        chance=chance / chance.sum(),
        distance=distance,
    )


@one_thread()
def _score(
    difference: np.ndarray,
    slopes: np.ndarray,
    distance: np.ndarray,
    noise: float,
    sds: np.ndarray,
) -> np.ndarray:
    """ln of the restricted likelihood times the prior, length by length [cases]."""
    # A basis of all that no change of the parameters can give.
    norms = np.linalg.norm(slopes, axis=0)
    directions, sizes, _ = np.linalg.svd(
        slopes / np.where(norms > 0, norms, 1.0), full_matrices=True
    )
    free = directions[:, np.sum(sizes > 1e-8) :]
    left = free.T @ difference
    scores = []
    for length, chance in zip(_LENGTHS, _CHANCES, strict=True):
        shares, squares = np.ones(len(left)), left**2
        if length:
            shares, axes = np.linalg.eigh(free.T @ _likeness(distance, length) @ free)
            squares = (axes.T @ left) ** 2
        variance = sds[:, None] ** 2 * np.maximum(shares, 1e-12) + noise
        scores.append(
            np.log(chance) - np.sum(np.log(variance) + squares / variance, axis=1) / 2
        )
    return np.concatenate(scores)


def of_size(sd: float) -> Misfit:
    """One case: misfits of the same size, each on its own."""
    return Misfit(np.zeros(1), np.array([sd]), np.ones(1), np.empty((0, 0)))


@one_thread()
def draw_seeds(
    deviation: np.ndarray, places: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Standard normal noise of points, alike where the seeds' is [draws, points].

    Resampling two to four seeds would draw from as many numbers less one, and from too
    small ones: a normal law of all seeds' deviations has the right variance.

    Args:
        deviation: of each run from its point's mean, over the standard deviation of
            one run; NaN where there is none [points, seeds].
        places: see `estimate`.
        draws: how many.
        rng: of the draws.
    """
    count = len(deviation)
    drawn = rng.standard_normal((draws, count))
    runs = np.sum(np.isfinite(deviation), axis=1)
    known = rng.permutation(np.flatnonzero(runs >= 2))[:_MOST_LEARNT_FROM]
    if count > MOST_ALIKE or not len(known):
        return drawn
    freedom = (runs[known, None] - 1) / runs[known, None]
    deviation = deviation[known] / np.sqrt(freedom)
    distance = _distances(places)

    def covariance(share: float, length: float) -> np.ndarray:
        alike = _likeness(distance, length)
        return share * alike + (1 - share) * np.eye(count)

    cases = [(0.0, 1.0), *itertools.product(_SHARED, _SHARED_LENGTHS)]
    scores = np.zeros(len(cases))
    for case, (share, length) in enumerate(cases):
        among = covariance(share, length)[np.ix_(known, known)]
        for of_seed in deviation.T:
            has = np.isfinite(of_seed)
            root = np.linalg.cholesky(among[np.ix_(has, has)])
            squares = np.sum(np.linalg.solve(root, of_seed[has]) ** 2)
            score = -squares / 2 - np.sum(np.log(np.diagonal(root)))
            scores[case] += score * np.mean(freedom[has]) if np.any(has) else 0.0
    chance = np.exp(scores - scores.max())
    chance[0] *= _SHARED_CHANCE
    chance[1:] *= (1 - _SHARED_CHANCE) / (len(cases) - 1)
    chosen = rng.choice(len(cases), draws, p=chance / chance.sum())
    for case in np.unique(chosen[chosen > 0]):
        root = np.linalg.cholesky(covariance(*cases[case]))
        drawn[chosen == case] = drawn[chosen == case] @ root.T
    return drawn


def _distances(places: np.ndarray) -> np.ndarray:
    """Along all axes together, 1 for the whole range of one [points, points]."""
    distance = np.zeros((places.shape[1], places.shape[1]))
    for sizes in places:
        reach = float(np.ptp(sizes))
        if reach:
            distance += np.abs(sizes[:, None] - sizes[None, :]) / reach
    return distance


def _likeness(distance: np.ndarray, length: float) -> np.ndarray:
    """Correlation of the misfits of points so far apart."""
    if not length:
        return np.eye(len(distance))
    return np.exp(-distance / length) + 1e-9 * np.eye(len(distance))

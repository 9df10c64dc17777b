"""The law of a difference: how far apart two arms are, by size, and how surely.

Where two arms are trained at the same sizes, their difference is known far better than
either law: what runs share of their noise cancels, and so does the form of the law. So
it is modelled by itself,

    ln v_B - ln v_A  =  sum_k h_k(m, n) (a_k + b_k x + c_k y)  +  g(m, n)          (1)

with x, y the decades of model and data size from the middle of the measured ones,
levels a, slopes b and c, and g, what is alike among neighbours: a Gaussian process
whose correlation falls with the decades between two sizes. What stays the same over
scales is not known beforehand, so h is one of these, or the last three of them
together, from the baseline's own law:

    value    1                      the relative difference
    reducible  1 - E / v_A          the relative difference of what is above the floor E
    compute  -d ln v_A / d ln m - d ln v_A / d ln n    a multiplier of both sizes
    floor    1 / v_A                the difference itself
    params   -d ln v_A / d ln m     a multiplier of the model size
    data     -d ln v_A / d ln n     a multiplier of the data

each of mean square 1 over the measured sizes. Every draw takes one case: which h,
scales of levels, slopes and g, and the noise of a pair of runs, by their marginal
likelihood (the evidence: MacKay 1992) on a grid. So an interval holds what each of them
says, and grows with the distance as they part; and a difference that is small against
the noise is drawn towards none.
"""

import dataclasses
import functools
import math

import numpy as np

from scalepred.fitting.discrepancy import one_thread
from scalepred.fitting.inversion import REACH
from scalepred.fitting.pairing import Shared
from scalepred.fitting.predict import FittedLaw

_PARTS = ("value", "reducible", "compute", "floor", "params", "data")
# Which h a kind of difference takes; -1: none. Before anything is measured the chances
# are so, since most of them shrink towards the floor.
KINDS = ("value", "reducible", "compute", "params", "data", "terms")
_TAKES = np.array(
    [(0, -1, -1), (1, -1, -1), (2, -1, -1), (4, -1, -1), (5, -1, -1), (3, 4, 5)]
)
_KIND_CHANCES = (0.25, 0.15, 0.15, 0.125, 0.125, 0.2)
# Standard deviation of the level, in ln of the value: evenly in the logarithm.
_LEVELS = np.geomspace(1e-3, 1.0, 7)
# Of a slope by a decade, and of g, over that of the level.
_TILTS = (0.05, 0.2, 0.8)
_WANDERS = ((0.0, 0), (0.1, 0), (0.3, 0), (0.1, 1), (0.3, 1))  # size, which length
_LENGTHS = (3.0, 0.3)  # decades
_WANDER_CHANCES = (0.6, 0.12, 0.08, 0.12, 0.08)
# Powers of the compute that the noise goes with, and their chances.
_FALLS, _FALL_CHANCES = (-0.2, -0.1, 0.0, 0.1), (0.15, 0.2, 0.5, 0.15)
_NOISES = np.geomspace(0.125, 4.0, 16)  # times a first guess
_LEAST_NOISE = 1e-6
_ROUNDING = 1e-9  # of the variance
_STEP = 0.05  # of ln of a size, for slopes
_MOST_SIZES = 100  # that are learnt from
_MOST_TIMES = 5.0  # that h is at most
_BLOCK = 64  # draws at a time
_FEW = 16  # of which a mean is taken


@dataclasses.dataclass(frozen=True)
class Cases:
    """What (1) may be, each [cases].

    Attributes:
        kind: number of the kind.
        level: standard deviation of a.
        tilt: of b and c, over that of a.
        wander: of g, likewise.
        length: number of the length of g.
        fall: power of the compute that the noise goes with.
        noise: standard deviation of one pair's difference, in the middle.
    """

    kind: np.ndarray
    level: np.ndarray
    tilt: np.ndarray
    wander: np.ndarray
    length: np.ndarray
    fall: np.ndarray
    noise: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, index: np.ndarray | slice) -> "Cases":
        """Some of them."""
        fields = dataclasses.fields(self)
        return Cases(*(getattr(self, field.name)[index] for field in fields))


@dataclasses.dataclass(frozen=True)
class Drift:
    """The law of a difference, learnt from pairs of runs.

    Attributes:
        shared: pairs of runs.
        fitted: the baseline's law.
        cases: of each draw.
        weights: chance of each kind of h.
        norms: root mean square of each h over the measured sizes [parts, 1 + laws].
        seed: of draws.
    """

    shared: Shared
    fitted: FittedLaw
    cases: Cases
    weights: dict[str, float]
    norms: np.ndarray
    seed: int

    @property
    def num_draws(self) -> int:
        return len(self.cases)

    @one_thread()
    def draw(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """ln v_B - ln v_A at places, the median first [1 + draws, places].

        Draw i belongs to draw i, round and round, of the baseline's law.
        """
        field = Field(self, params, data)
        rng = np.random.default_rng(self.seed)
        own = rng.standard_normal((self.num_draws, 9 + 2 * len(self.shared)))
        more = rng.standard_normal((self.num_draws, len(params)))
        found = np.concatenate(
            [
                field.draw(slice(first, first + _BLOCK), own, more)
                for first in range(0, self.num_draws, _BLOCK)
            ]
        )
        return np.concatenate([np.median(found, axis=0)[None], found])

    @one_thread()
    def middle(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """About the mean of the draws at many places, for little [places]."""
        some = dataclasses.replace(
            self,
            cases=self.cases.take(slice(_FEW)),
            fitted=dataclasses.replace(self.fitted, draws=self.fitted.draws[:_FEW]),
            norms=self.norms[:, : 1 + _FEW],
        )
        field = Field(some, params, data)
        told = [field.told(slice(i, i + 1)) for i in range(len(some.cases))]
        return np.mean(told, axis=(0, 1))

    def noise_at(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Standard deviation of one pair's difference, the middle draw's [places]."""
        cases, work = self.cases, _decades(self.shared, params, data).sum(axis=0)
        noise = cases.noise[:, None] * 10 ** (cases.fall[:, None] * work)
        return np.median(noise, axis=0)

    def levels_at(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """h of each draw, as its case has it [draws, 3, places]."""
        every = _levels(self.fitted, params, data) / self.norms[..., None]
        laws = every.shape[1]
        row = np.arange(self.num_draws) % max(laws - 1, 1) + (laws > 1)
        return _take(every, self.cases.kind, row[:, None])


def _take(every: np.ndarray, kinds: np.ndarray, law: np.ndarray | int) -> np.ndarray:
    """The h of some kinds [kinds, 3, places].

    Args:
        every: h of every part by every law [parts, laws, places].
        kinds: numbers [kinds].
        law: of each [kinds, 1], or of all.
    """
    takes = _TAKES[kinds]
    taken = np.clip(every[takes, law], 0.0, _MOST_TIMES)
    count = np.sum(takes >= 0, axis=1)[:, None, None]
    return np.where(takes[..., None] >= 0, taken / np.sqrt(count), 0.0)


class Field:
    """(1) at the measured sizes and at places, for all draws.

    Attributes:
        count: measured sizes.
        runs: pairs of runs of each [sizes].
        level: h of each draw [draws, 3, sizes + places].
        noise: variance of the measured means [draws, sizes].
    """

    def __init__(self, drift: Drift, params: np.ndarray, data: np.ndarray) -> None:
        shared, self.cases = drift.shared, drift.cases
        every = (
            np.concatenate([shared.params, params]),
            np.concatenate([shared.data, data]),
        )
        self.count, self.mean = len(shared), shared.mean
        self.level = drift.levels_at(*every)
        self.sides = _decades(shared, *every)
        self.tilt = self.sides.T @ self.sides
        self.alike = _likeness(every)
        work = self.sides[:, : self.count].sum(axis=0)
        one = self.cases.noise[:, None] * 10 ** (self.cases.fall[:, None] * work)
        self.runs, self.noise = shared.runs, one**2 / shared.runs

    @functools.cached_property
    def _roots(self) -> np.ndarray:
        """Of the correlation of g [lengths, places, places]."""
        return np.linalg.cholesky(self.alike + 1e-9 * np.eye(self.alike.shape[1]))

    def covariance(
        self, rows: slice, level: np.ndarray | None = None, most: int | None = None
    ) -> np.ndarray:
        """Of (1) before anything was measured [draws, sizes + places, most].

        Args:
            rows: which draws.
            level: standard deviation of a in place of theirs [draws].
            most: so many columns; None: all sizes and places, which may be many.
        """
        own, first = self.cases.take(rows), slice(most)
        size = own.level if level is None else level
        grown = 1 + own.tilt[:, None, None] ** 2 * self.tilt[:, first]
        wander = own.wander[:, None, None] ** 2 * self.alike[own.length, :, first]
        shape = np.einsum(
            "dkp,dkq->dpq", self.level[rows], self.level[rows][..., first]
        )
        return size[:, None, None] ** 2 * (shape * grown + wander)

    def draw(self, rows: slice, own: np.ndarray, more: np.ndarray) -> np.ndarray:
        """At the places, given what was measured (Matheron's rule) [draws, places].

        Args:
            rows: which draws.
            own: standard normal numbers [draws, 9 + 2 sizes].
            more: further ones [draws, places].
        """
        cases, count, own = self.cases.take(rows), self.count, own[rows]
        fresh = np.concatenate([own[:, 9 : 9 + count], more[rows]], axis=1)
        wander = np.einsum("dij,dj->di", self._roots[cases.length], fresh)
        slopes = own[:, 3:9].reshape(-1, 3, 2) @ self.sides
        lines = own[:, :3, None] + cases.tilt[:, None, None] * slopes
        line = np.sum(self.level[rows] * lines, axis=1)
        line = line + cases.wander[:, None] * wander
        before = cases.level[:, None] * line
        noise = np.sqrt(self.noise[rows]) * own[:, 9 + count :]
        left = self.mean - before[:, :count] - noise
        covariance = self.covariance(rows, most=count)
        pulled = np.linalg.solve(self.measured(covariance, rows), left[..., None])
        moved = covariance[:, count:] @ pulled
        return before[:, count:] + moved[..., 0]

    def told(self, rows: slice) -> np.ndarray:
        """The mean at the places, given what was measured [draws, places]."""
        covariance = self.covariance(rows, most=self.count)
        mean = np.broadcast_to(self.mean, covariance.shape[:1] + self.mean.shape)
        pulled = np.linalg.solve(self.measured(covariance, rows), mean[..., None])
        return (covariance[:, self.count :] @ pulled)[..., 0]

    def measured(
        self, covariance: np.ndarray, rows: slice, more: float = 0.0
    ) -> np.ndarray:
        """Covariance of the measured means [draws, sizes, sizes].

        Args:
            covariance: see above.
            rows: which draws.
            more: seeds that every size has beyond those measured.
        """
        count = self.count
        noise = self.noise[rows] * (self.runs / (self.runs + more))
        own = covariance[:, :count, :count]
        # Runs may be all but equal: what is below rounding is no noise.
        most = np.max(np.diagonal(own, axis1=1, axis2=2), axis=1, keepdims=True)
        noise = np.maximum(noise, _ROUNDING * most)
        return own + noise[..., None] * np.eye(count)


def learn(shared: Shared, fitted: FittedLaw, draws: int, seed: int) -> Drift:
    """The law of the difference of two arms.

    Args:
        shared: pairs of runs, two sizes or more.
        fitted: law of the baseline, with its draws.
        draws: how many to make.
        seed: of them.
    """
    rng = np.random.default_rng([seed, 1])
    if len(shared) > _MOST_SIZES:
        chosen = np.zeros(len(shared), bool)
        chosen[rng.permutation(len(shared))[:_MOST_SIZES]] = True
        shared = shared.where(chosen)
    levels = _levels(fitted, shared.params, shared.data, shared.epochs)
    norms = np.sqrt(np.mean(levels**2, axis=2))
    alone = _TAKES[:-1, 0]
    kinds = [kind for kind, part in enumerate(alone) if np.all(norms[part] > 1e-6)]
    if len(fitted.law.axes) == 1:  # data or params are what compute is
        kinds = [kind for kind in kinds if kind < 3]
    kinds.append(len(KINDS) - 1)
    norms = np.where(norms > 1e-6, norms, math.inf)
    best = _take(levels / norms[..., None], np.array(kinds), 0)
    cases, score = _weigh(shared, best, kinds)
    chance = np.exp(score - score.max())
    chance /= chance.sum()
    weights = {KINDS[kind]: float(chance[cases.kind == kind].sum()) for kind in kinds}
    chosen = cases.take(rng.choice(len(chance), draws, p=chance))
    return Drift(shared, fitted, chosen, weights, norms, seed)


@one_thread()
def _weigh(
    shared: Shared, levels: np.ndarray, kinds: list[int]
) -> tuple[Cases, np.ndarray]:
    """Every case of the grid, and ln of its evidence times its chance before.

    Args:
        shared: pairs of runs.
        levels: h of each kind by the best fit [kinds, 3, sizes].
        kinds: those to be weighed [kinds].
    """
    sides = _decades(shared, shared.params, shared.data)
    work, tilt = sides.sum(axis=0), sides.T @ sides
    alike = _likeness((shared.params, shared.data))
    guess = _guess_noise(shared, sides)
    columns, scores = [], []
    for kind, level in zip(kinds, levels, strict=True):
        shape = level.T @ level
        for fall, fall_chance in zip(_FALLS, _FALL_CHANCES, strict=True):
            whiten = np.sqrt(shared.runs) / 10 ** (fall * work)
            within = shared.squares / 10 ** (2 * fall * work)
            for tilted in _TILTS:
                for (wander, length), chance in zip(
                    _WANDERS, _WANDER_CHANCES, strict=True
                ):
                    covariance = shape * (1 + tilted**2 * tilt)
                    covariance = covariance + wander**2 * alike[length]
                    covariance = covariance * np.outer(whiten, whiten)
                    score = _score(shared, whiten, within, covariance, guess * _NOISES)
                    before = chance * fall_chance * _KIND_CHANCES[kind]
                    scores.append(score + np.log(before))
                    columns.append((kind, tilted, wander, length, fall))
    kind, tilted, wander, length, fall = np.array(columns).T
    many = len(_LEVELS) * len(_NOISES)
    level, noise = (
        part.ravel() for part in np.meshgrid(_LEVELS, guess * _NOISES, indexing="ij")
    )
    cases = Cases(
        kind=np.repeat(kind.astype(int), many),
        level=np.tile(level, len(columns)),
        tilt=np.repeat(tilted, many),
        wander=np.repeat(wander, many),
        length=np.repeat(length.astype(int), many),
        fall=np.repeat(fall, many),
        noise=np.tile(noise, len(columns)),
    )
    return cases, np.concatenate([score.ravel() for score in scores])


def _score(
    shared: Shared,
    whiten: np.ndarray,
    within: np.ndarray,
    covariance: np.ndarray,
    noises: np.ndarray,
) -> np.ndarray:
    """ln of the evidence of levels and noises, shape by shape [levels, noises].

    Args:
        shared: pairs of runs.
        whiten: what makes the noise of all means alike [sizes].
        within: squares of the runs about their means, likewise alike [sizes].
        covariance: of the means so scaled, for a level of 1 [sizes, sizes].
        noises: standard deviations [noises].
    """
    sizes, axes = np.linalg.eigh(covariance)
    squares = (axes.T @ (whiten * shared.mean)) ** 2
    own = noises[:, None] ** 2
    variance = _LEVELS[:, None, None] ** 2 * np.maximum(sizes, 0.0) + own
    score = -np.sum(np.log(variance) + squares / variance, axis=2) / 2
    freedom = float(np.sum(shared.runs - 1))
    of_runs = -freedom * np.log(noises) - np.sum(within) / own[:, 0] / 2
    # Of the scaling itself: once a mean, and once a run beyond it.
    falls = np.log(np.sqrt(shared.runs) / whiten)
    return score + of_runs + np.sum(np.log(whiten)) - np.sum((shared.runs - 1) * falls)


def _guess_noise(shared: Shared, sides: np.ndarray) -> float:
    """About how much the difference of one pair of runs scatters."""
    freedom = float(np.sum(shared.runs - 1))
    if freedom >= 3:
        return max(math.sqrt(float(np.sum(shared.squares)) / freedom), _LEAST_NOISE)
    lines = np.concatenate([np.ones((1, len(shared))), sides]).T
    rank = int(np.linalg.matrix_rank(lines))
    if rank >= len(shared):
        lines, rank = lines[:, :1], 1
    left = shared.mean - lines @ np.linalg.lstsq(lines, shared.mean, rcond=None)[0]
    total = float(np.sum(shared.runs * left**2)) / max(len(shared) - rank, 1)
    return max(math.sqrt(total), _LEAST_NOISE)


def _decades(shared: Shared, params: np.ndarray, data: np.ndarray) -> np.ndarray:
    """x and y of (1) [2, places]."""
    measured = (shared.params, shared.data)
    return np.stack(
        [
            np.log10(sizes) - np.mean(np.log10(own))
            for sizes, own in zip((params, data), measured, strict=True)
        ]
    )


def _likeness(places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Correlation of g, for each length [lengths, places, places].

    Over the long one it is smooth (Matern with 3/2), so that one odd size does not bend
    its neighbours; over the short one a size may be odd by itself.
    """
    apart = [np.abs(np.subtract.outer(own, own)) for own in map(np.log10, places)]
    far = [math.sqrt(3) * own / _LENGTHS[0] for own in apart]
    smooth = np.prod([(1 + own) * np.exp(-own) for own in far], axis=0)
    return np.stack([smooth, np.exp(-sum(apart) / _LENGTHS[1])])


def _levels(
    fitted: FittedLaw,
    params: np.ndarray,
    data: np.ndarray,
    epochs: np.ndarray | None = None,
) -> np.ndarray:
    """h by each law, best fit first, not scaled [parts, 1 + laws, places]."""
    if "epochs" not in fitted.law.axes:
        epochs = None

    def values(of_params: float = 1.0, of_data: float = 1.0) -> np.ndarray:
        return _log_values(fitted, params * of_params, data * of_data, epochs)

    step = math.exp(_STEP)
    by_params = (values(1 / step) - values(step)) / (2 * _STEP)
    by_data = (values(1, 1 / step) - values(1, step)) / (2 * _STEP)
    far = [np.array([unit * math.exp(REACH)]) for unit in _units(fitted)]
    floor = _log_values(fitted, *far)
    here = values()
    reducible = -np.expm1(np.minimum(floor - here, 0.0))
    slopes = np.maximum(by_params, 0.0), np.maximum(by_data, 0.0)
    # Over a value that all laws have about the same of.
    floor_part = np.exp(float(np.mean(here[0])) - here)
    return np.stack([np.ones_like(here), reducible, sum(slopes), floor_part, *slopes])


def _units(fitted: FittedLaw) -> tuple[float, float]:
    return fitted.params_unit, fitted.data_unit


def _log_values(
    fitted: FittedLaw,
    params: np.ndarray,
    data: np.ndarray,
    epochs: np.ndarray | None = None,
) -> np.ndarray:
    """ln of the law by the best fit and each draw [1 + draws, places]."""
    best = fitted.log_value(params, data, epochs=epochs)[None]
    if not len(fitted.draws):
        return best
    drawn = fitted.log_value(params, data, draws=True, epochs=epochs)
    return np.concatenate([best, drawn])

"""Points apart from a law, judged by a fit that they have not pulled.

A gross error at the end of the range moves the law towards itself and then looks small
beside it. So the law is fitted to the nine tenths of the points that agree best (least
trimmed squares: Rousseeuw and Van Driessen 2006), and the others are let in one after
the other, the likeliest first, until the next does not belong (forward search: Hadi and
Simonoff 1993).
"""

import numpy as np
from scipy import special

from scalepred.fitting import backtest, multistart, predict, solver
from scalepred.fitting.least_squares import LeastSquares
from scalepred.fitting.multistart import Points
from scalepred.table.surface import Surface

# Outliers lie further from the law of the others than so many standard deviations, and
# than so many times the farthest of the others: noise with long tails leaves no gap.
SIGMAS, _GAP = 5.0, 2.0
# Nearer points belong for certain, and are let in together.
_NEAR = 3.0
# Nobody measures better than to this share of the value.
_LEAST_SD = 1e-6
# Fits to so many small parts of the points, each then followed to the points that agree
# with it best: some of the parts hold no outlier.
_PARTS, _ROUNDS, _ITERATIONS = 24, 5, 30
# Spared parameters of a part, and its share of the points.
_MORE_POINTS, _PART_SHARE = 3, 0.25
# The judgement and the fit without those it names, in turns, until they agree.
_TURNS = 4
# A run whose ln value is so much above that of a smaller one may have diverged.
_WORSE = 0.05
# All runs of one size, if so many, are not wrong by accident: there the law is.
_WHOLE_SIZE = 3


def find(result: LeastSquares) -> tuple[np.ndarray, np.ndarray]:
    """Outliers of a law fitted by least squares.

    Returns:
        Which points they are [points], at most a tenth and one; and the law's
        parameters fitted to the others, where there are outliers [parameters].
    """
    law, points, surface = result.law, result.points, result.surface
    nothing = np.zeros(len(surface), bool), result.theta
    if _core_size(len(surface)) < law.num_parameters + 2:
        return nothing
    noise = result.noise.of(points.log_value) ** 2 / surface.num_seeds
    stays = _most_alike(result)
    theta = _fit(result, stays)
    apart = ~stays
    for _ in range(_TURNS):
        fits = law, theta[None], points, points.scale(stays[None])
        (difference,), (slopes,) = backtest.linearise(*fits)
        apart = judge(difference, slopes, points.weight, noise)
        apart &= ~_whole_sizes(surface, apart)
        if not np.any(apart):
            return nothing
        if np.array_equal(apart, ~stays):
            break
        stays = ~apart
        theta = _fit(result, stays)
    return apart, theta


def judge(
    difference: np.ndarray,
    slopes: np.ndarray,
    weight: np.ndarray,
    noise: np.ndarray,
    num_parameters: int | None = None,
) -> np.ndarray:
    """Which points do not belong to the law of the others [points].

    Args:
        difference: ln(law) - ln(measured), of a law that outliers have not pulled
            [points].
        slopes: its derivatives by the parameters, to follow what is let in [points,
            parameters]; without parameters the law stays as it is.
        weight: of the points in a fit.
        noise: variance of ln of the measured means, as far as seeds tell [points].
        num_parameters: that the law has used up; None: those of `slopes`.
    """
    count, parameters = slopes.shape
    used = parameters if num_parameters is None else num_parameters
    inside = np.zeros(count, bool)
    inside[np.argsort(np.abs(difference), kind="stable")[: _core_size(count)]] = True
    noisier = np.maximum(noise - np.median(noise), 0.0)
    apart, first = np.zeros(count, bool), None
    while not np.all(inside):
        # The linear law of the points inside, and how sure it is elsewhere.
        own = np.sqrt(weight[inside])[:, None] * slopes[inside]
        inverse = np.linalg.pinv(own.T @ own, rcond=1e-10, hermitian=True)
        step = inverse @ (own.T @ (np.sqrt(weight) * difference)[inside])
        left = np.abs(difference - slopes @ step)
        freedom = max(int(inside.sum()) - used, 1)
        variance = np.sum(weight[inside] * left[inside] ** 2) / freedom
        variance = max(float(variance), _LEAST_SD**2)
        leverage = np.einsum("pi,ij,pj->p", slopes, inverse, slopes)
        distance = left / np.sqrt(variance * (1 + leverage) + noisier)
        farthest = np.max(left[inside] / np.sqrt(variance + noisier[inside]))
        nearest = np.min(distance[~inside])
        # As many standard deviations of a normal law, whose variance would be known.
        sigmas = -special.ndtri(special.stdtr(freedom, -nearest))
        if sigmas <= SIGMAS:
            first = None
        elif first is None:
            first = ~inside
        if first is not None and nearest > _GAP * farthest:
            apart |= first
        inside |= distance <= max(nearest, _NEAR)
    return apart


def stand_above_smaller(surface: Surface) -> np.ndarray:
    """Points that did far worse than one of no larger model and no more data [points].

    Runs that diverged are such. Where more are so than may be outliers, the values rise
    with a size, and none is returned. All pairs of points are looked at.
    """
    m, n, logs = surface.params, surface.data, np.log(surface.value)
    smaller = (m <= m[:, None]) & (n <= n[:, None])
    if surface.epochs is not None:  # more of them may over-fit
        smaller &= surface.epochs == surface.epochs[:, None]
    above = logs - np.min(np.where(smaller, logs, np.inf), axis=1)  # >= 0: one's own
    far = above > _WORSE
    return far & (far.sum() <= len(far) - _core_size(len(far)))


def _core_size(count: int) -> int:
    """Points that are taken for good: all but a tenth, and one."""
    return count - 1 - count // 10


def _fit(result: LeastSquares, stays: np.ndarray) -> np.ndarray:
    """The law of some of the points, from all starts [parameters]."""
    found = multistart.fit_subsets(
        result.law,
        result.points,
        stays[None],
        residual=result.residual,
        seed=result.seed,
    )
    return found.theta[0]


def _most_alike(result: LeastSquares) -> np.ndarray:
    """The points of the core that one law fits best [points]."""
    law, points, count = result.law, result.points, len(result.surface)
    size = _core_size(count)
    part = max(law.num_parameters + _MORE_POINTS, round(_PART_SHARE * count))
    rng = np.random.default_rng(result.seed)
    chosen = rng.permuted(np.tile(np.arange(count) < part, (_PARTS, 1)), axis=1)
    theta = np.tile(result.theta, (_PARTS, 1))
    theta, apart = _refit(result, points, chosen, theta)
    for _ in range(_ROUNDS):
        theta, apart = _refit(result, points, _nearest(apart, size), theta)
    chosen = _nearest(apart, size)
    trimmed = np.sum(np.where(chosen, apart, 0.0) ** 2, axis=1)
    return chosen[np.argmin(trimmed)]


def _nearest(apart: np.ndarray, size: int) -> np.ndarray:
    """The `size` points nearest to each fit [fits, points]."""
    ranked = np.argsort(apart, axis=1, kind="stable")[:, :size]
    chosen = np.zeros(apart.shape, bool)
    np.put_along_axis(chosen, ranked, True, axis=1)
    return chosen


def _refit(
    result: LeastSquares, points: Points, chosen: np.ndarray, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fits to the chosen points, and how far from them all points are [fits, points].

    Where a fit failed they are infinitely far.
    """
    problem = result.problem()._replace(weight=chosen * points.weight)
    solution = solver.solve(result.law, problem, theta, result.residual, _ITERATIONS)
    places = points.x, points.y, result.scale, points.z
    logs = predict.evaluate(result.law, solution.theta, *places)
    apart = np.abs(logs - points.log_value)
    return solution.theta, np.where(np.isfinite(apart), apart, np.inf)


def _whole_sizes(surface: Surface, apart: np.ndarray) -> np.ndarray:
    """Points of sizes all of whose runs, three or more, are apart [points]."""
    whole = np.zeros(len(apart), bool)
    for sizes in (surface.params, surface.data, surface.epochs):
        if sizes is None:
            continue
        for size in np.unique(sizes[apart]):
            own = sizes == size
            if own.sum() >= _WHOLE_SIZE and np.all(apart[own]):
                whole |= own
    return whole

"""Held-out scores: how well a law predicts points that it was not fitted to.

Three of them, all by refitting to subsets of the points: the paper's 10-fold cross
validation, the paper's array of corners, and inner back-tests that hide the largest
compute of the fit region and so say, before the large run exists, how far an
extrapolation may be off.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from scalepred.fitting import discrepancy as misfit_lib
from scalepred.fitting import multistart, predict, solver
from scalepred.fitting.laws import Law, Scale
from scalepred.table.surface import Surface

_FOLDS = 10
# Sizes on each axis whose corners are refitted: of a table, and of a very large one.
MOST_CORNERS, FEW_CORNERS = 10, 5
# Inner back-tests hide the points above 1 / ratio of the largest compute.
_RATIOS = (3.0, 6.0, 12.0, 25.0, 50.0)
# Hidden points of one back-test err together; they count as this many at most.
_INDEPENDENT = 2.0
# Strength of the belief, before any back-test, that intervals are right.
_PRIOR_WEIGHT = 3.0
# The same where they were narrower than promised: a lucky back-test or two is no reason
# to promise more than the fit does, five that all were right are.
NARROWING_WEIGHT = 10.0
# Shares of fitted points in the errors of others that are held at once.
_MOST_SHARES = 2**22


# Masks [subsets, points] -> relative errors of each subset's fit at every point.
Refit = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Corner:
    """One plot of the paper's array (paper, section 7 and Appendix D).

    Attributes:
        max_params: m_i; points with m <= m_i and n <= n_j are fitted.
        max_data: n_j.
        num_fitted: points fitted.
        num_targets: points predicted: m >= m_i and n >= n_j but the corner itself.
        mean: signed mean of the relative error (predicted / measured - 1); NaN if the
            corner cannot be fitted.
        std: its population standard deviation.
    """

    max_params: float
    max_data: float
    num_fitted: int
    num_targets: int
    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """Relative error of held-out folds (paper, section 6): mean and std, +- over folds.

    Attributes:
        mean: signed mean of the relative error.
        mean_spread: standard deviation of the folds' means.
        std: population standard deviation of the relative error.
        std_spread: standard deviation of the folds' standard deviations.
        num_folds: 0 if there were too few points.
    """

    mean: float
    mean_spread: float
    std: float
    std_spread: float
    num_folds: int


@dataclasses.dataclass(frozen=True)
class InnerTest:
    """One back-test inside the fit region.

    Attributes:
        ratio: points above 1 / ratio of the largest compute were hidden.
        num_fitted: points fitted.
        num_hidden: points predicted.
        error: mean absolute relative error of the hidden points.
        surprise: root mean square of error over its own predicted standard deviation.
    """

    ratio: float
    num_fitted: int
    num_hidden: int
    error: float
    surprise: float


@dataclasses.dataclass(frozen=True)
class BackTest:
    """A fit to the cheap part of the points, at all of them.

    Attributes:
        ratio: points above 1 / ratio of the largest compute were hidden.
        mask: points fitted [points].
        difference: ln(law) - ln(measured) [points].
        sd: its predicted standard deviation [points].
    """

    ratio: float
    mask: np.ndarray
    difference: np.ndarray
    sd: np.ndarray

    def score(self) -> InnerTest:
        """Of the hidden points."""
        hidden = ~self.mask
        difference, sd = self.difference[hidden], self.sd[hidden]
        return InnerTest(
            ratio=self.ratio,
            num_fitted=int(self.mask.sum()),
            num_hidden=int(hidden.sum()),
            error=float(np.mean(np.abs(np.expm1(difference)))),
            surprise=float(np.sqrt(np.mean((difference / sd) ** 2))),
        )


def relative_errors(
    law: Law, theta: np.ndarray, points: multistart.Points
) -> np.ndarray:
    """predicted / measured - 1 at every point [points]."""
    scale = points.scale(np.ones(len(points.x), bool))
    places = points.x, points.y, scale, points.z
    log_value = predict.evaluate(law, theta[None], *places)[0]
    return np.expm1(log_value - points.log_value)


def refit_law(
    law: Law, surface: Surface, residual: solver.Residual, seed: int
) -> Refit:
    """Refits `law` to subsets of the surface by least squares."""
    points = multistart.make_points(surface)

    def refit(masks: np.ndarray) -> np.ndarray:
        fits = multistart.fit_subsets(law, points, masks, residual=residual, seed=seed)
        return np.stack([relative_errors(law, theta, points) for theta in fits.theta])

    return refit


def cross_validate(
    num_points: int, min_points: int, refit: Refit, seed: int = 0
) -> CrossValidation:
    """10-fold cross-validated relative error (paper, section 6)."""
    masks = fold_masks(num_points, seed)
    if np.any(masks.sum(axis=1) < min_points) or num_points < 3:
        nan = math.nan
        return CrossValidation(nan, nan, nan, nan, 0)
    return summarise_folds(masks, refit(masks))


def fold_masks(num_points: int, seed: int) -> np.ndarray:
    """Points left in when each of ten folds is held out [folds, points]."""
    folds = min(_FOLDS, num_points)
    fold = np.random.default_rng(seed).permutation(num_points) % folds
    return fold[None, :] != np.arange(folds)[:, None]


def summarise_folds(masks: np.ndarray, errors: np.ndarray) -> CrossValidation:
    """Scores each point by the fit that did not see it; both [folds, points]."""
    held_out = errors[~masks]
    by_fold = [part[~mask] for mask, part in zip(masks, errors, strict=True)]
    return CrossValidation(
        mean=float(np.mean(held_out)),
        mean_spread=float(np.std([np.mean(part) for part in by_fold])),
        std=float(np.std(held_out)),
        std_spread=float(np.std([np.std(part) for part in by_fold])),
        num_folds=len(masks),
    )


def corner_masks(
    surface: Surface, max_params: float, max_data: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points fitted and points predicted by one corner (paper.md 5.4)."""
    fitted = (surface.params <= max_params) & (surface.data <= max_data)
    beyond = (surface.params >= max_params) & (surface.data >= max_data)
    return fitted, beyond & ~fitted


def _corner_sizes(sizes: np.ndarray, most: int) -> np.ndarray:
    sizes = np.unique(sizes)
    if len(sizes) <= most:
        return sizes
    return sizes[np.linspace(0, len(sizes) - 1, most).round().astype(int)]


def corner_array(
    surface: Surface,
    min_points: int,
    refit: Refit,
    axes: tuple[str, ...] = ("params", "data"),
    most: int = MOST_CORNERS,
) -> list[Corner]:
    """The paper's extrapolation protocol at every corner of the grid.

    Args:
        surface: every measured point.
        min_points: that a corner must hold to be fitted.
        refit: fits subsets and says how wrong they are everywhere.
        axes: along which a corner needs two sizes.
        most: sizes on each axis that are corners; of more some evenly spread ones.

    Returns:
        Corners by rising m, then rising n; those with fewer than two sizes on an axis
        or too few points have a NaN mean.
    """
    found = []
    for max_params in _corner_sizes(surface.params, most):
        for max_data in _corner_sizes(surface.data, most):
            fitted, targets = corner_masks(surface, max_params, max_data)
            if np.any(targets):
                found.append((float(max_params), float(max_data), fitted, targets))

    def is_usable(fitted: np.ndarray) -> bool:
        sizes = [np.unique(getattr(surface, axis)[fitted]) for axis in axes]
        return min(len(size) for size in sizes) >= 2 and fitted.sum() >= min_points

    usable = [fitted for *_, fitted, _ in found if is_usable(fitted)]
    errors = iter(refit(np.stack(usable)) if usable else ())
    corners = []
    for max_params, max_data, fitted, targets in found:
        mean = std = math.nan
        if is_usable(fitted):
            of_targets = next(errors)[targets]
            mean, std = float(np.mean(of_targets)), float(np.std(of_targets))
        corners.append(
            Corner(
                max_params, max_data, int(fitted.sum()), int(targets.sum()), mean, std
            )
        )
    return corners


def inner_masks(
    surface: Surface,
    min_points: int,
    axes: tuple[str, ...] = ("params", "data"),
    along: str = "work",
) -> dict[float, np.ndarray]:
    """Points left when the largest compute is hidden, by the ratio of the hiding.

    Only where at least `min_points` and three sizes on each of the axes are left.

    Args:
        along: what is hidden where it is largest: work, or epochs.
    """
    work = getattr(surface, along)
    masks: dict[float, np.ndarray] = {}
    for ratio in _RATIOS:
        mask = work <= work.max() / ratio
        scales = [len(np.unique(getattr(surface, axis)[mask])) for axis in axes]
        is_new = all(not np.array_equal(mask, other) for other in masks.values())
        if is_new and mask.sum() >= min_points and min(scales) >= 3:
            masks[ratio] = mask
    return masks


def back_tests(
    law: Law, surface: Surface, residual: solver.Residual, seed: int = 0
) -> list[BackTest]:
    """Hides the largest compute of the fit region, at several distances."""
    points = multistart.make_points(surface)
    masks = inner_masks(surface, law.num_parameters + 2, law.axes)
    if not masks:
        return []
    kept = np.stack([*masks.values()])
    fits = multistart.fit_subsets(law, points, kept, residual=residual, seed=seed)
    differences, slopes = linearise(law, fits.theta, points, points.scale(kept))
    spread = predict.estimate_noise(surface.value, surface.seed_values)
    noise = spread.of(points.log_value) ** 2 / surface.num_seeds
    tests = []
    for (ratio, mask), difference, slope in zip(
        masks.items(), differences, slopes, strict=True
    ):
        fitted = law, points.where(mask), difference[mask], slope[mask]
        misfit = find_misfit(*fitted, noise[mask], residual, seed)
        sd = promise(points, slope, mask, noise, misfit)
        tests.append(BackTest(ratio, mask, difference, sd))
    return tests


def learn_growth(tests: list[InnerTest], may_narrow: bool = False) -> float:
    """Factor on predicted deviations that makes the back-tests' errors unsurprising.

    Args:
        tests: inside the fit region.
        may_narrow: the factor may be below 1.
    """
    weights = [min(_INDEPENDENT, test.num_hidden) for test in tests]
    squares = sum(
        weight * test.surprise**2 for weight, test in zip(weights, tests, strict=True)
    )

    def variance(prior: float) -> float:
        return (squares + prior) / (sum(weights) + prior)

    grown = variance(_PRIOR_WEIGHT)
    if grown >= 1:
        return math.sqrt(grown)
    return math.sqrt(variance(NARROWING_WEIGHT)) if may_narrow else 1.0


def linearise(
    law: Law, theta: np.ndarray, points: multistart.Points, scale: Scale
) -> tuple[np.ndarray, np.ndarray]:
    """Fits to first order: theta is [fits, parameters], and one scale or [fits].

    Returns:
        ln(law) - ln(measured) [fits, points] and its slopes [fits, points, parameters].
    """
    zeros = np.zeros(law.num_parameters)
    problem = solver.Problem(
        points.x,
        points.y,
        points.log_value,
        np.ones(len(points.x)),
        prior_mean=zeros,
        prior_precision=zeros,
        scale=scale,
        z=points.z,
    )
    return solver.linearise(law, problem, theta)


def find_misfit(
    law: Law,
    points: multistart.Points,
    difference: np.ndarray,
    slopes: np.ndarray,
    noise: np.ndarray,
    residual: solver.Residual,
    seed: int,
) -> misfit_lib.Misfit:
    """How far the true means lie from a fitted law, beyond the noise of the means.

    Args:
        points: that the law was fitted to.
        difference: ln(law) - ln(measured) [points].
        slopes: its derivatives by the parameters [points, parameters].
        noise: variance of ln of the measured means [points].
    """
    own = float(np.mean(noise))
    if residual.has_kinks:  # outliers count no more here than in the fit
        total = (1.4826 * np.median(np.abs(difference))) ** 2
        return misfit_lib.of_size(np.sqrt(max(total - own, 0.0)))
    root = np.sqrt(points.weight)
    return misfit_lib.estimate(
        root * difference, root[:, None] * slopes, places_of(law, points), own, seed
    )


def places_of(law: Law, points: multistart.Points) -> np.ndarray:
    """ln of all sizes that the law knows of [axes, points]."""
    places = [points.x, points.y]
    if points.z is not None and "epochs" in law.axes:
        places.append(points.z)
    return np.stack(places)


def promise(
    points: multistart.Points,
    slopes: np.ndarray,
    mask: np.ndarray,
    noise: np.ndarray,
    misfit: misfit_lib.Misfit,
) -> np.ndarray:
    """How far a fit to some of the points may be from any, to first order.

    Args:
        slopes: of ln(law) by the parameters [points, parameters].
        mask: points fitted [points].
        noise: variance of ln of the measured means [points].
        misfit: of the points fitted.

    Returns:
        Standard deviation of ln(law) - ln(measured): parameters, misfit and noise
        together, as in the intervals of a prediction [points].
    """
    own = np.sqrt(points.weight[mask])[:, None] * slopes[mask]
    information = own.T @ own
    # Directions the points say nothing of are left to the back-test to reveal.
    inverse = np.linalg.pinv(information, rcond=1e-10, hermitian=True)
    moved = slopes @ inverse
    mean_noise = np.mean(noise[mask])
    if len(own) > misfit_lib.MOST_ALIKE:  # each misfit on its own
        squares = np.sum((moved @ information) * moved, axis=1)
        variance = (misfit.overall_sd**2 + mean_noise) * squares
    else:
        variance = np.empty(len(moved))
        rows = max(1, _MOST_SHARES // len(own))
        for first in range(0, len(moved), rows):
            part = slice(first, first + rows)
            shares = moved[part] @ own.T  # what a fitted point's error moves
            variance[part] = misfit.variance(shares)
            variance[part] += mean_noise * np.sum(shares**2, axis=1)
    variance += misfit.overall_sd**2 + noise
    return np.sqrt(variance) + 1e-12

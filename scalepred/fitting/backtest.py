"""Held-out scores: how well a law predicts points that it was not fitted to.

Three of them, all by refitting to subsets of the points: the paper's 10-fold cross
validation, the paper's array of corners, and inner back-tests that hide the largest
compute of the fit region and so say, before the large run exists, how far an
extrapolation may be off.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting import multistart, solver
from scalepred.fitting.laws import Law, Scale
from scalepred.measurements import Surface

_FOLDS = 10
# Inner back-tests hide the points above 1 / ratio of the largest compute.
_RATIOS = (3.0, 6.0, 12.0, 25.0, 50.0)
# Hidden points of one back-test err together; they count as this many at most.
_INDEPENDENT = 2.0
# Strength of the belief, before any back-test, that intervals are right.
_PRIOR_WEIGHT = 3.0


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
        agree: share of starts that found the optimum.
    """

    max_params: float
    max_data: float
    num_fitted: int
    num_targets: int
    mean: float
    std: float
    agree: float


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


def _log_values(
    law: Law, theta: np.ndarray, points: multistart.Points, scale: Scale
) -> np.ndarray:
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return np.asarray(law.log_value(jnp.asarray(theta), points.x, points.y, scale))


def relative_errors(
    law: Law, theta: np.ndarray, points: multistart.Points
) -> np.ndarray:
    """predicted / measured - 1 at every point [points]."""
    scale = points.scale(np.ones(len(points.x), bool))
    return np.expm1(_log_values(law, theta, points, scale) - points.log_value)


def cross_validate(
    law: Law, surface: Surface, residual: solver.Residual, seed: int = 0
) -> CrossValidation:
    """10-fold cross-validated relative error (paper, section 6)."""
    points = multistart.make_points(surface, law)
    total = len(surface)
    folds = min(_FOLDS, total)
    fold = np.random.default_rng(seed).permutation(total) % folds
    masks = fold[None, :] != np.arange(folds)[:, None]
    if np.any(masks.sum(axis=1) < law.num_parameters) or total < 3:
        nan = float("nan")
        return CrossValidation(nan, nan, nan, nan, 0)
    fitted = multistart.fit_subsets(law, points, masks, residual=residual, seed=seed)
    errors = np.stack([relative_errors(law, theta, points) for theta in fitted.theta])
    held_out = np.array([errors[fold[point], point] for point in range(total)])
    by_fold = [held_out[fold == k] for k in range(folds)]
    return CrossValidation(
        mean=float(np.mean(held_out)),
        mean_spread=float(np.std([np.mean(part) for part in by_fold])),
        std=float(np.std(held_out)),
        std_spread=float(np.std([np.std(part) for part in by_fold])),
        num_folds=folds,
    )


def corner_masks(
    surface: Surface, max_params: float, max_data: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points fitted and points predicted by one corner (paper.md 5.4)."""
    fitted = (surface.params <= max_params) & (surface.data <= max_data)
    beyond = (surface.params >= max_params) & (surface.data >= max_data)
    return fitted, beyond & ~fitted


def corner_array(
    law: Law, surface: Surface, residual: solver.Residual, seed: int = 0
) -> list[Corner]:
    """The paper's extrapolation protocol at every corner of the grid.

    Returns:
        Corners by rising m, then rising n; those with fewer than two sizes on an axis
        or fewer points than parameters have a NaN mean.
    """
    points = multistart.make_points(surface, law)
    corners, masks = [], []
    for max_params in np.unique(surface.params):
        for max_data in np.unique(surface.data):
            fitted, targets = corner_masks(surface, max_params, max_data)
            if not np.any(targets):
                continue
            scales = [
                len(np.unique(sizes[fitted]))
                for sizes in (surface.params, surface.data)
            ]
            usable = min(scales) >= 2 and fitted.sum() >= law.num_parameters
            corners.append((max_params, max_data, fitted, targets, usable))
            if usable:
                masks.append(fitted)
    if not masks:
        return []
    fits = multistart.fit_subsets(
        law, points, np.stack(masks), residual=residual, seed=seed
    )
    results, used = [], 0
    for max_params, max_data, fitted, targets, usable in corners:
        mean = std = agree = float("nan")
        if usable:
            errors = relative_errors(law, fits.theta[used], points)[targets]
            mean, std = float(np.mean(errors)), float(np.std(errors))
            agree = float(fits.agree[used])
            used += 1
        results.append(
            Corner(
                float(max_params),
                float(max_data),
                int(fitted.sum()),
                int(targets.sum()),
                mean,
                std,
                agree,
            )
        )
    return results


def inner_tests(
    law: Law, surface: Surface, residual: solver.Residual, seed: int = 0
) -> list[InnerTest]:
    """Back-tests inside the fit region: hide its largest compute, predict it."""
    points = multistart.make_points(surface, law)
    work = surface.params * surface.data
    ratios, masks = [], []
    for ratio in _RATIOS:
        mask = work <= work.max() / ratio
        if masks and np.array_equal(mask, masks[-1]):
            continue
        scales = [len(np.unique(s[mask])) for s in (surface.params, surface.data)]
        if mask.sum() > law.num_parameters + 1 and min(scales, default=0) >= 3:
            ratios.append(ratio)
            masks.append(mask)
    if not masks:
        return []
    fits = multistart.fit_subsets(
        law, points, np.stack(masks), residual=residual, seed=seed
    )
    tests = []
    for ratio, mask, theta in zip(ratios, masks, fits.theta, strict=True):
        difference, sd = laplace(law, theta, points, mask)
        hidden = ~mask
        surprise = np.sqrt(np.mean((difference[hidden] / sd[hidden]) ** 2))
        error = np.mean(np.abs(np.expm1(difference[hidden])))
        tests.append(
            InnerTest(
                ratio, int(mask.sum()), int(hidden.sum()), float(error), float(surprise)
            )
        )
    return tests


def learn_growth(tests: list[InnerTest]) -> float:
    """Factor on predicted deviations that makes the back-tests' errors unsurprising.

    At least 1: a lucky back-test is no reason to promise more than the fit does.
    """
    weights = [min(_INDEPENDENT, test.num_hidden) for test in tests]
    squares = sum(
        weight * test.surprise**2 for weight, test in zip(weights, tests, strict=True)
    )
    variance = (squares + _PRIOR_WEIGHT) / (sum(weights) + _PRIOR_WEIGHT)
    return float(np.sqrt(max(1.0, variance)))


def jacobian(
    law: Law, theta: np.ndarray, points: multistart.Points, scale: Scale
) -> np.ndarray:
    """Derivative of ln of the law by each inner parameter [points, parameters]."""

    def log_value(theta: jax.Array) -> jax.Array:
        return law.log_value(theta, points.x, points.y, scale)

    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return np.asarray(jax.jacfwd(log_value)(jnp.asarray(theta)))


def laplace(
    law: Law, theta: np.ndarray, points: multistart.Points, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First-order prediction error of a fit, at every point.

    Returns:
        ln(law) - ln(measured) and its standard deviation under the fit [points].
    """
    scale = points.scale(mask)
    slopes = jacobian(law, theta, points, scale)
    difference = _log_values(law, theta, points, scale) - points.log_value
    weight = np.where(mask, points.weight, 0.0)
    freedom = max(mask.sum() - law.num_parameters, 1)
    variance = np.sum(weight * difference**2) / freedom
    information = (slopes * weight[:, None]).T @ slopes
    # Directions the points say nothing of are left to the back-test to reveal.
    covariance = np.linalg.pinv(information, rcond=1e-10, hermitian=True)
    leverage = np.einsum("ij,jk,ik->i", slopes, covariance, slopes)
    return difference, np.sqrt(variance * (1.0 + leverage)) + 1e-12

"""Draws from the posterior of the flexible law, by randomising and then optimising."""

import jax
import numpy as np

from scalepred.fitting import merging, solver
from scalepred.fitting.auto.law import CORE_SIZE, SAME_SIZE
from scalepred.fitting.auto.posterior import KNEE, Estimate
from scalepred.fitting.laws import Law

_DRAW_ITERATIONS = 4  # of a draw, from the estimate: later steps change little
_FAR = 1e3  # sigmas of the residual in which draws are fitted


def draw(
    law: Law, estimate: Estimate, subset: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Parameters that may be the true ones, as far as the points and the prior say.

    The points are moved by their noise and the prior's mean by its own spread, and the
    law is fitted again (randomise, then optimise: Bardsley et al. 2014). Unlike draws
    from `Estimate.covariance` these keep to the bent valley in which parameters make up
    for each other, so that their predictions lie around the estimate's.

    Args:
        subset: whose parameters each draw is of [draws].
        rng: of the moves.

    Returns:
        theta [draws, parameters]; draws that are not finite are left out.
    """
    problem = _weigh(law, estimate)
    residual = solver.Residual("robust", KNEE)
    lanes = jax.tree.map(lambda leaf: np.asarray(leaf)[subset], problem)
    weight, sigma = lanes.weight, lanes.sigma[:, None]
    noise = sigma * rng.standard_normal(weight.shape)
    moved = rng.standard_normal(lanes.prior_mean.shape)
    # Robust weights are in already: far from the knee the residual is a square.
    lanes = lanes._replace(
        log_value=lanes.log_value + noise / np.sqrt(np.maximum(weight, 1e-12)),
        prior_mean=lanes.prior_mean + moved / np.sqrt(lanes.prior_precision),
        weight=weight * _FAR**2,
        sigma=sigma[:, 0] * _FAR,
    )
    start = estimate.theta[subset]
    found = solver.solve(law, lanes, start, residual, _DRAW_ITERATIONS, is_near=True)
    theta = found.theta.copy()
    if levels := np.shape(problem.scale.levels)[1]:
        # An unseen size has no point, so only its spread is known.
        unseen = CORE_SIZE + levels
        spread = np.sqrt(estimate.covariance[subset, unseen, unseen])
        theta[:, unseen] = spread * rng.standard_normal(len(theta))
    return theta[found.status != solver.Status.NOT_FINITE]


def _weigh(law: Law, estimate: Estimate) -> solver.Problem:
    """The problem with what each point counts in draws; of many points, merged."""
    problem = estimate.problem
    above = float(np.max(problem.above))
    residual = solver.Residual("robust", KNEE, above)
    known = solver.information(law, problem, estimate.theta, residual)
    weight = known.weight * estimate.shares[:, None]
    x, y, z = np.asarray(problem.x), np.asarray(problem.y), problem.z
    if x.shape[1] <= merging.MOST_POINTS:
        return problem._replace(weight=weight)
    levels = np.asarray(problem.scale.levels)[0]
    # Sizes with an offset of their own are not merged with others.
    own = [np.abs(x[0] - level) < SAME_SIZE for level in levels]
    apart = np.select(own, list(range(1, 1 + len(own)))) if own else None
    places = [x, y] if z is None else [x, y, np.asarray(z)]
    cell = merging.find_cells(np.stack([sizes[0] for sizes in places]), apart)
    counted = np.maximum(weight, 1e-12)
    total = merging.sum_cells(cell, counted)
    difference, x, y, *z = (
        merging.sum_cells(cell, counted * part) / total
        for part in (known.difference, *places)
    )
    merged = problem._replace(
        x=x,
        y=y,
        z=z[0] if z else None,
        log_value=np.zeros_like(x),
        weight=np.ones_like(x),
    )
    log_law, _ = solver.linearise(law, merged, estimate.theta)
    return merged._replace(log_value=log_law - difference, weight=total)

"""Draws from the posterior of the flexible law, by randomising and then optimising."""

import dataclasses

import jax
import numpy as np

from scalepred.fitting import solver
from scalepred.fitting.auto.law import CORE_SIZE
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
    problem = estimate.problem
    residual = solver.Residual("robust", KNEE)
    asymmetric = dataclasses.replace(residual, above=float(np.max(problem.above)))
    known = solver.information(law, problem, estimate.theta, asymmetric)
    weight = known.weight * estimate.shares[:, None]

    lanes, sigma = problem._replace(weight=weight), np.asarray(problem.sigma)
    lanes = jax.tree.map(lambda leaf: np.asarray(leaf)[subset], lanes)
    weight, sigma = lanes.weight, sigma[subset][:, None]
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

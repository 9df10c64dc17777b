"""How much points count that err together, such as the checkpoints of one run."""

import numpy as np

from scalepred.fitting import solver
from scalepred.fitting.auto.law import SAME_SIZE
from scalepred.fitting.multistart import Points

# Fewer pairs of neighbours than this say nothing of their correlation.
_MIN_NEIGHBOURS = 20
# The same of neighbouring sizes of model: on a grid of a few dozen points a smooth
# misfit of small models, which hardly weigh, would look like points that err together.
_MIN_ACROSS = 100


def find_shares(points: Points, known: solver.Information) -> np.ndarray:
    """How much each point of a lane counts where neighbours err together [lanes].

    Checkpoints of one run are many points and little news: with correlation r between
    neighbours along n, points count as (1 - r) / (1 + r) of independent ones. The
    neighbours are points of one size of model or, where that says more, runs of one
    seed: checkpoints of several runs may lie between each other. Where models of
    neighbouring sizes err together at the same n, points count for less once more.
    """
    everywhere = np.zeros((len(points.x), 1))
    along_data = _find_shares(points.x, points.y, everywhere, None, known)
    data = points.y
    if points.z is not None:  # the same data are those seen as often, too
        places = np.round(np.stack([points.y, points.z], axis=1), 9)
        data = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1) * 1.0
    across = _find_shares(data, points.x, everywhere, None, known, _MIN_ACROSS)
    if points.of_runs is not None and (
        points.of_runs.shape[1] > 1 or points.seeds is not None
    ):
        of_runs = points.of_runs, points.seeds
        along_run = _find_shares(points.x, points.y, *of_runs, known)
        along_data = np.minimum(along_data, along_run)
    return np.maximum(along_data * across, 1e-3)


def _find_shares(
    fixed: np.ndarray,
    along: np.ndarray,
    of_runs: np.ndarray,
    seeds: np.ndarray | None,
    known: solver.Information,
    fewest: int = _MIN_NEIGHBOURS,
) -> np.ndarray:
    """The same of neighbours along one size, where the other is the same [lanes].

    Args:
        fixed: ln of the size that neighbours share [points].
        along: ln of the other [points].
        of_runs: ln of each run over its point's mean, NaN where there is none [points,
            columns].
        seeds: whose each is; None: one a column [points, columns].
        known: weights and differences of the fit.
        fewest: pairs of neighbours that say anything.
    """
    point, column = np.nonzero(np.isfinite(of_runs))
    seed = column if seeds is None else seeds[point, column]
    order = np.lexsort((along[point], fixed[point], seed))
    point, column, seed = point[order], column[order], seed[order]
    shares = np.ones(len(known.difference))
    for lane, difference in enumerate(known.difference):
        used = known.weight[lane, point] > 0
        at, of_seed = point[used], seed[used]
        error = difference[at] - of_runs[at, column[used]]
        # In its own standard deviation: points that hardly count may be far off.
        error = error * np.sqrt(known.weight[lane, at])
        same = np.abs(np.diff(fixed[at])) < SAME_SIZE
        same &= of_seed[1:] == of_seed[:-1]
        if same.sum() < fewest:
            continue
        first, second = error[:-1][same], error[1:][same]
        correlation = np.sum(first * second) / np.sqrt(
            np.sum(first**2) * np.sum(second**2) + 1e-300
        )
        shares[lane] = np.clip((1 - correlation) / (1 + correlation), 1e-3, 1.0)
    return shares

"""How much points count that err together, such as the checkpoints of one run."""

import numpy as np

from scalepred.fitting import solver
from scalepred.fitting.auto.law import SAME_SIZE
from scalepred.fitting.multistart import Points

# Fewer pairs of neighbours than this say nothing of their correlation.
_MIN_NEIGHBOURS = 20


def find_shares(points: Points, known: solver.Information) -> np.ndarray:
    """How much each point of a lane counts where neighbours err together [lanes].

    Checkpoints of one run are many points and little news: with correlation r between
    neighbours along n, points count as (1 - r) / (1 + r) of independent ones. The
    neighbours are points of one size of model or, where that says more, runs of one
    seed: checkpoints of several runs may lie between each other.
    """
    everywhere = np.zeros((len(points.x), 1))
    kinds: list[tuple[np.ndarray, np.ndarray | None]] = [(everywhere, None)]
    if points.of_runs is not None and (
        points.of_runs.shape[1] > 1 or points.seeds is not None
    ):
        kinds.append((points.of_runs, points.seeds))
    shares = np.ones(len(known.difference))
    for of_runs, seeds in kinds:
        point, column = np.nonzero(np.isfinite(of_runs))
        seed = column if seeds is None else seeds[point, column]
        order = np.lexsort((points.y[point], points.x[point], seed))
        point, column, seed = point[order], column[order], seed[order]
        for lane, difference in enumerate(known.difference):
            used = known.weight[lane, point] > 0
            at, of_seed = point[used], seed[used]
            error = difference[at] - of_runs[at, column[used]]
            # In its own standard deviation: points that hardly count may be far off.
            error = error * np.sqrt(known.weight[lane, at])
            same = np.abs(np.diff(points.x[at])) < SAME_SIZE
            same &= of_seed[1:] == of_seed[:-1]
            if same.sum() < _MIN_NEIGHBOURS:
                continue
            first, second = error[:-1][same], error[1:][same]
            correlation = np.sum(first * second) / np.sqrt(
                np.sum(first**2) * np.sum(second**2) + 1e-300
            )
            share = np.clip((1 - correlation) / (1 + correlation), 1e-3, 1.0)
            shares[lane] = min(shares[lane], share)
    return shares

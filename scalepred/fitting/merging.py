"""Many points as few that say the same of a law near its fit, for the draws.

A draw moves every point and fits again, which for a hundred thousand points takes
minutes. Near a fitted law, points of nearly the same sizes are one point at their mean
place, at the mean distance from the law: exact but for how the slopes by the
parameters bend within a cell, a fortieth of the range of each size.
"""

import numpy as np

MOST_POINTS = 4096  # that are not merged
_MOST_CELLS = 1600


def find_cells(places: np.ndarray, apart: np.ndarray | None = None) -> np.ndarray:
    """The cell of each point, 0 to their number less 1 [points].

    Args:
        places: ln of the sizes [axes, points].
        apart: points that differ in this number are never merged [points].
    """
    varying = [sizes for sizes in places if np.ptp(sizes)]
    side = int(_MOST_CELLS ** (1 / max(1, len(varying))) + 1e-9)
    columns = [] if apart is None else [apart]
    for sizes in varying:
        known, index = np.unique(sizes, return_inverse=True)
        if len(known) > side:
            share = (sizes - sizes.min()) / np.ptp(sizes)
            index = np.minimum((share * side).astype(int), side - 1)
        columns.append(index)
    if not columns:
        return np.zeros(places.shape[1], int)
    _, cell = np.unique(np.stack(columns), axis=1, return_inverse=True)
    return cell.reshape(-1)


def sum_cells(cell: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Sums over the points of each cell [rows, cells] of numbers [rows, points]."""
    cells = int(cell.max()) + 1
    return np.stack([np.bincount(cell, row, cells) for row in np.atleast_2d(numbers)])

"""Which points are refitted, where a table has very many.

A law is fitted to all points. Back-tests, folds, corners and the weights of law=auto
take hundreds of fits more, whose errors a few thousand points tell as well.
"""

import numpy as np

from scalepred.table.surface import Surface

REFIT_POINTS = 3000  # unless something else is asked for
# Folds leave each point out once, ten fits of nine tenths, and corners are two dozen
# fits: their mean errors are known from fewer.
FOLD_POINTS = 1000


def choose(surface: Surface, most: int) -> np.ndarray:
    """Mask of about `most` points, all if there are no more or `most` is 0 [points].

    They are drawn at random, always the same ones; the points of the largest sizes and
    of the extreme values are among them, so that they span what all points do.
    """
    count = len(surface)
    if not most or count <= most:
        return np.ones(count, bool)
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(0).permutation(count)[:most]] = True
    for sizes in (surface.params, surface.data, surface.work, surface.value):
        chosen[np.argmax(sizes)] = True
    # A law of many points is told the lowest value but one.
    chosen[np.argpartition(surface.value, 1)[:2]] = True
    return chosen


def choose_for_folds(surface: Surface, refit_points: int) -> np.ndarray:
    """Mask of the points that are cross-validated, and in corners [points]."""
    is_default = refit_points == REFIT_POINTS
    return choose(surface, FOLD_POINTS if is_default else refit_points)


def notes(surface: Surface, most: int) -> tuple[str, ...]:
    """What is said of it: nothing where all points are taken."""
    count = len(surface)
    if not most or count <= most:
        return ()
    folds = FOLD_POINTS if most == REFIT_POINTS else most
    return (
        f"the law is fitted to all {count:,} points; back-tests refit it to a random "
        f"sample of {most:,}, corners and folds to {folds:,} "
        f"(--refit_points={count} takes all)",
    )

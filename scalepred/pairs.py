"""Which runs belong together: of every place in the grid one of each arm.

Runs of a pair share the subset of the data, the order of batches and, where their
shapes are the same, the start, so that what luck adds to both cancels in the
difference.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from scalepred.grid import Cell


class Place(NamedTuple):
    """Where a run stands in the grid, whatever its arm."""

    depth: int
    width: int
    size: int  # rank among the data sizes of this depth and width
    seed: int


def find_places(cells: Sequence[Cell]) -> list[Place]:
    """The place of each cell of a grid; runs that differ in rates share one."""
    sizes: dict[tuple[int, int], set[int]] = defaultdict(set)
    for cell in cells:
        sizes[cell.depth, cell.width].add(cell.dataset_size)
    ranks = {
        model: {size: rank for rank, size in enumerate(sorted(of_model))}
        for model, of_model in sizes.items()
    }
    return [
        Place(
            cell.depth,
            cell.width,
            ranks[cell.depth, cell.width][cell.dataset_size],
            cell.seed,
        )
        for cell in cells
    ]


def pair(cells: Sequence[Cell], baseline: Sequence[Cell]) -> list[Cell]:
    """The cells, each with the random words of the baseline's first at its place.

    The baseline's own cells, where no rates are swept, stay what they are in a study
    without arms, ids and all.

    Args:
        cells: of an arm.
        baseline: the cells of the same grid, or the same targets, of the baseline.
    """
    words: dict[Place, str] = {}
    for place, cell in zip(find_places(baseline), baseline, strict=True):
        words.setdefault(place, "".join(f"{word:08x}" for word in cell.random_words))
    paired = []
    for place, cell in zip(find_places(cells), cells, strict=True):
        own = "".join(f"{word:08x}" for word in cell.random_words)
        is_own = words[place] == own
        paired.append(cell if is_own else dataclasses.replace(cell, pair=words[place]))
    return paired

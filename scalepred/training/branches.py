"""Branches: the runs of many lengths that one trunk gives.

A trunk trains at the full rate. A branch takes its state some way along and cools down,
the rate falling to 0, and is then what a run of its length alone would be (WSD; Hu et
al. 2024, arXiv:2404.06395; Hagele et al. 2024, arXiv:2405.18392). So the trunk is paid
for once, whatever the number of lengths. A plain run is a chain of one.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from scalepred.grid import Cell
from scalepred.training.args import LaneArgs

# Branches of one trunk, the shortest first: what one lane trains, one after the other.
Chain = tuple[Cell, ...]


def find_chains(cells: Iterable[Cell]) -> list[Chain]:
    """The chains of some cells, those of most steps first.

    Args:
        cells: of one program; plain ones stay in their order.
    """
    cells = list(cells)
    if not any(cell.branch for cell in cells):
        return [(cell,) for cell in cells]
    by_trunk: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_trunk[cell.trunk].append(cell)
    chains = [tuple(sorted(of, key=lambda c: c.steps)) for of in by_trunk.values()]
    return sorted(chains, key=count_chain_steps, reverse=True)


def count_own_steps(chain: Chain) -> list[int]:
    """Steps that each branch adds: its part of the trunk, and its cooldown."""
    starts = [0, *(cell.cooldown_start for cell in chain[:-1])]
    return [cell.steps - start for cell, start in zip(chain, starts, strict=True)]


def count_chain_steps(chain: Chain) -> int:
    """Steps of all branches, the trunk's once."""
    return sum(count_own_steps(chain))


def count_steps(cells: Iterable[Cell]) -> int:
    """Steps that these cells take to train, those of trunks once."""
    return sum(map(count_chain_steps, find_chains(cells)))


def list_stretches(chain: Chain) -> list[int]:
    """Steps between places where a lane may have to wait: along trunk and cooldowns."""
    if len(chain) == 1:
        return [chain[0].steps]
    starts = [cell.cooldown_start for cell in chain[:-1]]
    stretches = np.diff([0, *starts]).tolist()
    stretches += [
        cell.steps - start for cell, start in zip(chain, starts, strict=False)
    ]
    return [*stretches, chain[-1].steps - starts[-1]]


def find_stop(chain: Chain, steps_done: int) -> int:
    """Steps after which a lane waits: where its cell cools down, or ends.

    The last of a chain puts nothing aside and goes on to its end.
    """
    cell = chain[0]
    if len(chain) > 1 and steps_done < cell.cooldown_start:
        return cell.cooldown_start
    return cell.steps


def can_go_on(chain: Chain, steps: int) -> bool:
    """Whether a state after so many steps, of the chain's last cell, is of use.

    It is where the steps are the trunk's of all of the chain.
    """
    return len(chain) == 1 or steps <= chain[0].cooldown_start


def trunk_args(args: LaneArgs, cell: Cell) -> LaneArgs:
    """What a lane is given on the way to where a cell cools down.

    The numbers of a run that ends there, at the full rate: steps of the trunk are the
    same, bit for bit, whichever branch comes next.
    """
    stop = max(1, cell.cooldown_start)
    return args._replace(
        steps=np.int32(stop),
        warmup_fraction=np.float32(cell.warmup_fraction * cell.steps / stop),
        cooldown_fraction=np.float32(0),
        average_fraction=np.float32(0),
    )

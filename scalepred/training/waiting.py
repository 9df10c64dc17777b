"""The queue of a pack: which chain a free lane takes next, where some await others."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from scalepred.grid import Cell
from scalepred.training.branches import Chain


class Queue:
    """Chains in their order; one that awaits cells of the queue comes when these are
    over, or early.

    Taken early, when the cells that it awaits have started, it never overtakes them:
    all lanes step together.
    """

    def __init__(
        self,
        chains: Sequence[Chain],
        begun: Collection[Cell],
        awaits: Callable[[Cell], Sequence[Cell]],
    ):
        """Nothing is taken yet.

        Args:
            chains: what is to be trained, first things first.
            begun: last cells of chains that have steps behind them; they go first.
            awaits: cells that must be over before a cell starts.
        """
        self._chains = sorted(chains, key=lambda chain: chain[-1] not in begun)
        self._ready: list[int] = []  # heaps of places in the order
        self._early: list[int] = []
        self._taken: set[int] = set()
        self._followers: dict[str, list[int]] = defaultdict(list)  # by awaited cell
        self._not_over: dict[int, int] = {}  # cells awaited, by place
        self._not_started: dict[int, int] = {}
        there = {cell.cell_id for chain in chains for cell in chain}
        for place, chain in enumerate(self._chains):
            awaited = {one.cell_id for cell in chain for one in awaits(cell)} & there
            for cell_id in awaited:
                self._followers[cell_id].append(place)
            self._not_over[place] = self._not_started[place] = len(awaited)
            if chain[-1] in begun:  # it may be ahead of them
                self._not_started[place] += 1
            if not awaited:
                self._ready.append(place)

    def take(self, early: bool) -> Chain:
        """The next chain; none, (), where there is none.

        Args:
            early: rather one that awaits cells which have started than none.
        """
        for heap in (self._ready, self._early) if early else (self._ready,):
            while heap:
                place = heapq.heappop(heap)
                if place not in self._taken:
                    self._taken.add(place)
                    chain = self._chains[place]
                    for cell in chain:
                        self._release(cell, self._not_started, self._early)
                    return chain
        return ()

    def end(self, cell: Cell) -> None:
        """Takes note of a cell that is over."""
        self._release(cell, self._not_over, self._ready)
        self._followers.pop(cell.cell_id, None)

    def _release(self, cell: Cell, left: dict[int, int], heap: list[int]) -> None:
        for place in self._followers.get(cell.cell_id, ()):
            left[place] -= 1
            if not left[place]:
                heapq.heappush(heap, place)

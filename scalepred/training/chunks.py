"""The course of a pack: what each lane does in each call of the compiled program.

The number of steps of every cell is known, so the host knows the whole course before
the first step, and never has to wait for a result to go on. A cell that diverges, or is
stopped, ends early: the host learns of it while later chunks run, and plans those to
come without it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from scalepred.grid import Cell
from scalepred.training.branches import Chain, find_chains, find_stop
from scalepred.training.plan import Pack, Plan
from scalepred.training.waiting import Queue

# A cell that may be stopped is looked at so often at least; else it would end first.
_LOOKS_PER_RUN = 10


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one call of the compiled program does.

    Attributes:
        num_steps: optimiser steps of every lane that is not done before.
        chains: what each lane has still to train, the first of it now; nothing where it
            is idle [lanes].
        fresh: lanes whose cell starts now [lanes].
        resumed: lanes whose cell goes on now, having been begun elsewhere [lanes].
        taken_back: lanes whose cell goes on now from the state of the trunk that was
            put aside for it [lanes].
        given_up: lanes whose cell diverged or was stopped, and was taken out before
            the chunk, and the cell.
        steps_done: of each lane's cell, after the chunk [lanes].
        num_steps_of_lanes: optimiser steps each lane does [lanes].
    """

    num_steps: int
    chains: tuple[Chain, ...]
    fresh: tuple[bool, ...]
    resumed: tuple[bool, ...]
    taken_back: tuple[bool, ...]
    given_up: tuple[tuple[int, Cell], ...]
    steps_done: tuple[int, ...]
    num_steps_of_lanes: tuple[int, ...]

    @functools.cached_property
    def cells(self) -> tuple[Cell | None, ...]:
        """The cell of each lane, None where it is idle [lanes]."""
        return tuple(chain[0] if chain else None for chain in self.chains)

    @functools.cached_property
    def in_trunk(self) -> tuple[bool, ...]:
        """Lanes on the way to where their cell cools down, others to follow [lanes]."""
        return tuple(
            len(chain) > 1 and steps <= chain[0].cooldown_start
            for chain, steps in zip(self.chains, self.steps_done, strict=True)
        )

    @property
    def put_aside(self) -> list[int]:
        """Lanes whose state is put aside before the chunk, as they cool down in it."""
        lanes = zip(self.chains, self.steps_before, self.in_trunk, strict=True)
        return [
            lane
            for lane, (chain, before, in_trunk) in enumerate(lanes)
            if len(chain) > 1 and before == chain[0].cooldown_start and not in_trunk
        ]

    @property
    def steps_before(self) -> tuple[int, ...]:
        """Of each lane's cell, before the chunk [lanes]."""
        both = zip(self.steps_done, self.num_steps_of_lanes, strict=True)
        return tuple(done - now for done, now in both)

    @property
    def finished(self) -> list[tuple[int, Cell]]:
        """Lanes whose cell ends in this chunk."""
        lanes = zip(self.cells, self.steps_done, strict=True)
        return [
            (lane, cell)
            for lane, (cell, steps) in enumerate(lanes)
            if cell is not None and steps >= cell.steps
        ]


def make_chunks(
    pack: Pack,
    begun: Mapping[Cell, int] | None = None,
    limit: Callable[[], float] = lambda: math.inf,
    over: Collection[Cell] = (),
    awaits: Callable[[Cell], Sequence[Cell]] = lambda cell: (),
) -> Iterator[Chunk]:
    """The pack's whole course: a lane that is free takes the next of the queue.

    A chunk ends when the first lane is done, within the bounds of the pack; no
    result depends on where it ends.

    Args:
        pack: what to train.
        begun: last cells of chains that were begun before, and the steps done, which
            are the trunk's where others come before; they go first.
        limit: steps that the next chunk may have at most; asked before each.
        over: cells that are known to have diverged or to be stopped; looked at before
            each chunk, so it may grow. They give up their lanes.
        awaits: cells that must be over before a cell starts, or, where an idle lane
            costs as much as a busy one, must have started; it may then be stopped.
    """
    lanes = _Lanes(pack, begun or {}, awaits)
    while True:
        given_up = lanes.give_up(over)
        fresh, resumed, taken_back = lanes.refill()
        left = lanes.count_left()
        if not left and not given_up:
            return
        # The last cells may all have been given up: then nothing is stepped.
        most = min(limit(), lanes.find_limit())
        num_steps = _choose_length(pack, left.values(), most) if left else 0
        steps = [min(left.get(lane, 0), num_steps) for lane in range(pack.lanes)]
        both = zip(lanes.steps_done, steps, strict=True)
        chunk = Chunk(
            num_steps,
            tuple(lanes.chains),
            fresh,
            resumed,
            taken_back,
            given_up,
            tuple(map(sum, both)),
            tuple(steps),
        )
        lanes.advance(chunk)
        yield chunk


class _Lanes:
    """What the lanes hold, as the host knows without asking."""

    def __init__(
        self,
        pack: Pack,
        begun: Mapping[Cell, int],
        awaits: Callable[[Cell], Sequence[Cell]],
    ):
        """All idle; see `make_chunks`."""
        self._pack = pack
        self.chains: list[Chain] = [()] * pack.lanes
        self.steps_done = [0] * pack.lanes
        self._begun = begun
        self._awaits = awaits
        self._queue = Queue(find_chains(pack.queue), begun, awaits)
        self._order = _order_lanes(pack)
        self._aside: dict[int, int] = {}  # steps of the states put aside, by lane
        self._left: set[int] = set()  # lanes whose cell is over since the last chunk

    def give_up(self, over: Collection[Cell]) -> tuple[tuple[int, Cell], ...]:
        """Ends the cells that are known to be over: lanes and cells."""
        if not over:  # hashing all would take a while
            return ()
        given_up = tuple(
            (lane, chain[0])
            for lane, chain in enumerate(self.chains)
            if chain and chain[0] in over
        )
        for lane, _ in given_up:
            self._end(lane)
        return given_up

    def refill(self) -> tuple[tuple[bool, ...], tuple[bool, ...], tuple[bool, ...]]:
        """Gives lanes their next cell: those that start it, resume it, or go on with it
        from the trunk that was put aside.
        """
        lanes = len(self.chains)
        fresh, resumed, taken_back = ([False] * lanes for _ in range(3))
        early = self._pack.lane_axis == "vmap"
        for lane in self._order:
            if not self.chains[lane] and (chain := self._queue.take(early)):
                self.chains[lane] = chain
                self.steps_done[lane] = self._begun.get(chain[-1], 0)
                resumed[lane] = chain[-1] in self._begun
                fresh[lane] = chain[-1] not in self._begun
                self._aside.pop(lane, None)
            elif self.chains[lane] and lane in self._left:
                self.steps_done[lane] = self._aside.get(lane, 0)
                taken_back[lane] = lane in self._aside
                fresh[lane] = lane not in self._aside
        self._left.clear()
        return tuple(fresh), tuple(resumed), tuple(taken_back)

    def count_left(self) -> dict[int, int]:
        """Steps until a lane has to wait, of those that hold a cell."""
        return {
            lane: find_stop(chain, done) - done
            for lane, (chain, done) in enumerate(
                zip(self.chains, self.steps_done, strict=True)
            )
            if chain
        }

    def find_limit(self) -> float:
        """Steps of a chunk after which some cell may have to be stopped."""
        steps = [c[0].steps for c in self.chains if c and self._awaits(c[0])]
        if not steps:
            return math.inf
        return self._pack.fill_block(max(1, min(steps) // _LOOKS_PER_RUN))

    def advance(self, chunk: Chunk) -> None:
        """Takes note of a chunk."""
        self.steps_done = list(chunk.steps_done)
        self._aside |= {lane: chunk.steps_before[lane] for lane in chunk.put_aside}
        for lane, _ in chunk.finished:
            self._end(lane)

    def _end(self, lane: int) -> None:
        self._queue.end(self.chains[lane][0])
        self.chains[lane] = self.chains[lane][1:]
        self._left.add(lane)


def _choose_length(pack: Pack, left: Collection[int], limit: float) -> int:
    """Steps of a chunk whose cells have so many left."""
    num_steps = min(max(min(left), pack.min_chunk_steps), max(left))
    num_steps = min(pack.fill_block(num_steps), pack.max_chunk_steps)
    return max(1, int(min(num_steps, limit)))


def _order_lanes(pack: Pack) -> list[int]:
    """Lanes, one device after the other, so that no device gets all the long cells."""
    per_device = pack.lanes // pack.num_devices
    return sorted(range(pack.lanes), key=lambda lane: (lane % per_device, lane))


def predict_utilization(plan: Plan) -> float:
    """Share of lane-steps that will train a cell; 1 for an empty plan."""
    live = sum(pack.live_lane_steps for pack in plan.packs)
    spent = sum(
        pack.count_lane_steps(chunk.num_steps_of_lanes)
        for pack in plan.packs
        for chunk in make_chunks(pack)
    )
    return live / spent if spent else 1.0

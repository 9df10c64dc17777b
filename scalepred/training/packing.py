"""The plan: which cells share a program, how many lanes it has, who comes first.

Pure Python. The number of steps of every cell is known, so everything that will
happen to a lane is known before the first step.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from scalepred.config import Packing
from scalepred.grid import Cell, ProgramKey

# A chunk is at most this share of the pack's longest run: news comes at least so
# often, and a checkpoint never waits longer.
_CHUNKS_PER_RUN = 20


@dataclasses.dataclass(frozen=True)
class Pack:
    """Cells that one compiled program trains.

    Attributes:
        key: the program, at the widest of the widths.
        widths: true widths of its cells, ascending.
        num_devices: each holds an equal, contiguous part of the lanes.
        lanes: cells side by side, over all devices.
        lane_axis: "vmap" or "map".
        queue: cells to train, longest first.
        min_chunk_steps: a chunk is no shorter, even if a lane idles for the rest.
        max_chunk_steps: a chunk is no longer.
    """

    key: ProgramKey
    widths: tuple[int, ...]
    num_devices: int
    lanes: int
    lane_axis: str
    queue: tuple[Cell, ...]
    min_chunk_steps: int
    max_chunk_steps: int

    @property
    def live_lane_steps(self) -> int:
        """Optimiser steps its cells need."""
        return sum(cell.steps for cell in self.queue)

    def count_lane_steps(self, steps: Sequence[int]) -> int:
        """Lane-steps that pass while the lanes do so many steps each.

        Args:
            steps: optimiser steps of each lane [lanes].
        """
        per_device = self.lanes // self.num_devices
        shares = [
            steps[first : first + per_device]
            for first in range(0, self.lanes, per_device)
        ]
        if self.lane_axis == "vmap":  # an idle lane waits for the longest beside it
            return sum(max(share) * per_device for share in shares)
        # One lane after the other: a device waits for the device with most to do.
        return max(sum(share) for share in shares) * self.num_devices

    def describe(self) -> str:
        """The program as a row names it: with the lanes, as they round differently."""
        return f"{self.key}/{self.lane_axis}{self.lanes}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Packs, longest first; every pending cell stands in exactly one queue."""

    packs: tuple[Pack, ...]
    num_devices: int

    @property
    def num_cells(self) -> int:
        """Cells still to be trained."""
        return sum(len(pack.queue) for pack in self.packs)

    @property
    def lane_utilization(self) -> float:
        """Predicted share of lane-steps that train a cell; 1 for an empty plan."""
        live = sum(pack.live_lane_steps for pack in self.packs)
        spent = sum(
            pack.count_lane_steps(chunk.num_steps_of_lanes)
            for pack in self.packs
            for chunk in make_chunks(pack)
        )
        return live / spent if spent else 1.0


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one call of the compiled program does.

    Attributes:
        num_steps: optimiser steps of every lane that is not done before.
        cells: the cell of each lane, None where it is idle [lanes].
        fresh: lanes whose cell starts now [lanes].
        resumed: lanes whose cell goes on now, having been begun elsewhere [lanes].
        steps_done: of each lane's cell, after the chunk [lanes].
        num_steps_of_lanes: optimiser steps each lane does [lanes].
    """

    num_steps: int
    cells: tuple[Cell | None, ...]
    fresh: tuple[bool, ...]
    resumed: tuple[bool, ...]
    steps_done: tuple[int, ...]
    num_steps_of_lanes: tuple[int, ...]

    @property
    def finished(self) -> list[tuple[int, Cell]]:
        """Lanes whose cell ends in this chunk."""
        lanes = zip(self.cells, self.steps_done, strict=True)
        return [
            (lane, cell)
            for lane, (cell, steps) in enumerate(lanes)
            if cell is not None and steps >= cell.steps
        ]


def plan_packs(
    cells: Sequence[Cell],
    packing: Packing,
    num_devices: int,
    lane_axis: str,
    done: Collection[str] = frozenset(),
    paddable: Collection[ProgramKey] = frozenset(),
) -> Plan:
    """Groups cells by program and chooses lanes and order for each group.

    Lanes are chosen from all cells, done or not: then a run that was stopped goes on
    with the same programs and gives the same rows bit for bit.

    Args:
        cells: all cells of the study; order does not matter.
        packing: the user's wishes.
        num_devices: lanes are a multiple of this.
        lane_axis: "vmap" or "map".
        done: ids of cells that have a row.
        paddable: programs that may be padded into a wider one.
    """
    packs = []
    for (key, widths), members in _group(cells, packing, paddable).items():
        queue = sorted(members, key=lambda cell: (-cell.steps, cell.cell_id))
        longest, shortest = queue[0].steps, queue[-1].steps
        most = packing.chunk_steps or math.ceil(longest / _CHUNKS_PER_RUN)
        packs.append(
            Pack(
                key=key,
                widths=widths,
                num_devices=num_devices,
                lanes=_choose_lanes(queue, packing.lanes, num_devices),
                lane_axis=lane_axis,
                queue=tuple(cell for cell in queue if cell.cell_id not in done),
                min_chunk_steps=max(1, min(shortest // 2, most)),
                max_chunk_steps=most,
            )
        )
    packs = [pack for pack in packs if pack.queue]
    packs.sort(key=lambda pack: (-pack.key.width * pack.live_lane_steps, pack.key))
    return Plan(tuple(packs), num_devices)


def make_chunks(
    pack: Pack,
    begun: Mapping[Cell, int] | None = None,
    limit: Callable[[], float] = lambda: math.inf,
) -> Iterator[Chunk]:
    """The pack's whole course: a lane that is free takes the next of the queue.

    A chunk ends when the first lane is done, within the bounds of the pack; no
    result depends on where it ends.

    Args:
        pack: what to train.
        begun: cells of the queue that were begun before, and their steps; they go
            first.
        limit: steps that the next chunk may have at most; asked before each.
    """
    begun = begun or {}
    cells: list[Cell | None] = [None] * pack.lanes
    steps_done = [0] * pack.lanes
    queue = sorted(pack.queue, key=lambda cell: cell not in begun)
    queue.reverse()

    while True:
        fresh, resumed = [False] * pack.lanes, [False] * pack.lanes
        for lane in _deal(pack):
            if cells[lane] is None and queue:
                cells[lane] = cell = queue.pop()
                steps_done[lane] = begun.get(cell, 0)
                resumed[lane] = cell in begun
                fresh[lane] = cell not in begun
        live = [(lane, cell) for lane, cell in enumerate(cells) if cell is not None]
        if not live:
            return
        left = {lane: cell.steps - steps_done[lane] for lane, cell in live}
        num_steps = max(min(left.values()), pack.min_chunk_steps)
        num_steps = min(num_steps, pack.max_chunk_steps, max(left.values()))
        num_steps = max(1, int(min(num_steps, limit())))
        steps = [min(left.get(lane, 0), num_steps) for lane in range(pack.lanes)]
        steps_done = [sum(both) for both in zip(steps_done, steps, strict=True)]
        chunk = Chunk(
            num_steps,
            tuple(cells),
            tuple(fresh),
            tuple(resumed),
            tuple(steps_done),
            tuple(steps),
        )
        yield chunk
        for lane, _ in chunk.finished:
            cells[lane] = None


def halve_lanes(pack: Pack, done: Collection[str]) -> Pack | None:
    """The pack, less what is done, in half the lanes; None if there is one a device."""
    per_device = pack.lanes // pack.num_devices
    if per_device == 1:
        return None
    return dataclasses.replace(
        pack,
        lanes=per_device // 2 * pack.num_devices,
        queue=tuple(cell for cell in pack.queue if cell.cell_id not in done),
    )


def _group(
    cells: Sequence[Cell], packing: Packing, paddable: Collection[ProgramKey]
) -> dict[tuple[ProgramKey, tuple[int, ...]], list[Cell]]:
    """Cells by program, the program by its key at the widest width and its widths."""
    widths_of = defaultdict(set)
    for key in {cell.program_key for cell in cells} & set(paddable):
        widths_of[key._replace(width=0)].add(key.width)
    buckets = {
        key: _bucket(widths, packing.width_bucket) for key, widths in widths_of.items()
    }
    groups = defaultdict(list)
    for cell in cells:
        key = cell.program_key
        bucket = buckets.get(key._replace(width=0), {})
        widths = bucket.get(cell.width, (cell.width,))
        groups[key._replace(width=widths[-1]), widths].append(cell)
    return groups


def _bucket(widths: Collection[int], factor: float) -> dict[int, tuple[int, ...]]:
    """Of each width, the widths it shares a program with, ascending, from the top."""
    buckets: list[list[int]] = []
    for width in sorted(widths, reverse=True):
        if buckets and width * factor >= buckets[-1][-1]:
            buckets[-1].insert(0, width)
        else:
            buckets.append([width])
    return {width: tuple(bucket) for bucket in buckets for width in bucket}


def _choose_lanes(queue: Sequence[Cell], wanted: int, num_devices: int) -> int:
    """Lanes over all devices.

    More than sum(steps) / max(steps) make nothing shorter: the longest cell takes as
    long as the rest.
    """
    useful = round(sum(cell.steps for cell in queue) / queue[0].steps)
    per_device = math.ceil(min(useful, len(queue)) / num_devices)
    return max(1, min(wanted, per_device)) * num_devices


def _deal(pack: Pack) -> list[int]:
    """Lanes, one device after the other, so that no device gets all the long cells."""
    per_device = pack.lanes // pack.num_devices
    return sorted(range(pack.lanes), key=lambda lane: (lane % per_device, lane))

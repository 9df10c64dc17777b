"""The plan: which cells share a program, how many lanes it has, who comes first.

Pure Python, once the programs are traced. The number of steps of every cell is known,
so everything that will happen to a lane is known before the first step.
"""

import dataclasses
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from scalepred.config import Packing, UserError
from scalepred.grid import Cell, ProgramKey
from scalepred.training.cost import CPU, Machine, ProgramCost, split_batch

# A chunk is at most this share of the pack's longest run, or takes about a second if
# that is more: news comes often, and the host's work, some milliseconds, is nothing.
_CHUNKS_PER_RUN = 20
_CHUNK_SECONDS = 1.0
# A block of steps is done whole, whatever a chunk asks for.
_BLOCK_SECONDS = 0.25
# Runs so short that a chunk of that length holds many are trained by as many more
# lanes, which take turns; each lane still trains so many of them.
_RUNS_A_LANE = 2
# Of streamed data a device has room for so many, as a score takes three at once, each
# up to four times as large.
_LEAST_BATCHES = 12
# With more cells a lane the last round does not matter.
_MANY_A_LANE = 50


class Choice(NamedTuple):
    """What a program may be trained with; no result depends on it beyond rounding."""

    lane_axis: str  # vmap | map
    lanes: int  # over all devices
    convolution: str  # auto, or a form of `models/convolution.py`
    turns: int = 1  # a chunk, each of an equal part of the lanes


@dataclasses.dataclass(frozen=True)
class Pack:
    """Cells that one compiled program trains.

    Attributes:
        key: the program, at the widest of the widths.
        widths: true widths of its cells, ascending.
        num_devices: groups of `data_shards` devices; each group holds an equal,
            contiguous part of the lanes.
        lanes: cells side by side, over all devices.
        lane_axis: "vmap" or "map".
        queue: cells to train, longest first.
        min_chunk_steps: a chunk is no shorter, even if a lane idles for the rest.
        max_chunk_steps: a chunk is no longer.
        step_flops: of an optimiser step of one lane, padding included.
        padding: FLOPs over those at the true widths.
        bytes_per_device: memory for all its lanes.
        convolution: form of its convolutions.
        data_shards: devices that share the batch of a lane.
        stream_rows: examples of the data that a device holds at a time; 0: all.
        turns: with vmap the lanes of a device step together in so many equal parts,
            one after the other.
        block_steps: with vmap steps are done in blocks of so many, whose batches are
            drawn at once; what a chunk does not need of its last block is masked.
        has_convolution: its steps have one.
        seconds: predicted, of all devices together, without compiling.
        compile_seconds: predicted.
        choices: what the autotuner may choose from, the default first.
    """

    key: ProgramKey
    widths: tuple[int, ...]
    num_devices: int
    lanes: int
    lane_axis: str
    queue: tuple[Cell, ...]
    min_chunk_steps: int
    max_chunk_steps: int
    step_flops: float = 0.0
    padding: float = 1.0
    bytes_per_device: float = 0.0
    convolution: str = "auto"
    data_shards: int = 1
    stream_rows: int = 0
    turns: int = 1
    block_steps: int = 1
    has_convolution: bool = False
    seconds: float = 0.0
    compile_seconds: float = 0.0
    choices: tuple[Choice, ...] = ()

    @property
    def live_lane_steps(self) -> int:
        """Optimiser steps its cells need."""
        return sum(cell.steps for cell in self.queue)

    def count_lane_steps(self, steps: Sequence[int]) -> int:
        """Lane-steps that pass while the lanes do so many steps each.

        Args:
            steps: optimiser steps of each lane [lanes].
        """
        size = self.lanes // self.num_devices
        if self.lane_axis == "vmap":
            size //= self.turns
        parts = [steps[first : first + size] for first in range(0, self.lanes, size)]
        if self.lane_axis == "vmap":  # an idle lane waits for the longest beside it
            return sum(self.fill_block(max(part)) * size for part in parts)
        # One lane after the other: a device waits for the device with most to do.
        return max(map(sum, parts)) * self.num_devices

    def fill_block(self, num_steps: int) -> int:
        """So many steps and the rest of their last block."""
        if self.lane_axis == "map":
            return num_steps
        return math.ceil(num_steps / self.block_steps) * self.block_steps

    def describe(self) -> str:
        """The program as a row names it: with the lanes, as they round differently.

        Only those of one turn are counted: the others change no bit.
        """
        form = "" if self.convolution == "auto" else f"/{self.convolution}"
        shards = "" if self.data_shards == 1 else f"/data{self.data_shards}"
        return f"{self.key}{form}/{self.lane_axis}{self.lanes // self.turns}{shards}"

    @property
    def choice(self) -> Choice:
        """What it is trained with."""
        return Choice(self.lane_axis, self.lanes, self.convolution, self.turns)

    def choose(self, choice: Choice) -> "Pack":
        """The same cells, trained with another of the choices."""
        return dataclasses.replace(self, **choice._asdict())

    def explain(self) -> str:
        """A line of the plan."""
        widths = ", ".join(map(str, self.widths))
        return (
            f"{self.describe()}: widths {widths}; {len(self.queue):,} cells, "
            f"{self.live_lane_steps:,} steps, {self.padding:.2f} times the true FLOPs, "
            f"{self.bytes_per_device / 1e6:,.1f} MB a device"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Packs, longest first; every pending cell stands in exactly one queue."""

    packs: tuple[Pack, ...]
    num_devices: int

    @property
    def is_streamed(self) -> bool:
        """Whether devices hold only some rows of the data at a time."""
        return any(pack.stream_rows for pack in self.packs)

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


def plan_packs(
    cells: Sequence[Cell],
    packing: Packing,
    num_devices: int,
    lane_axis: str = "auto",
    done: Collection[str] = frozenset(),
    cost_of: Callable[[ProgramKey], ProgramCost] = lambda key: _UNKNOWN,
    machine: Machine = CPU,
) -> Plan:
    """The packs of least predicted time: compiling, padded work and idle lanes.

    Widths that may be padded are cut into neighbours that share a program; the cut
    and the lanes of each program are the best of all. Both are chosen from all cells,
    done or not: then a run that was stopped goes on with the same programs and gives
    the same rows bit for bit.

    Args:
        cells: all cells of the study; order does not matter.
        packing: the user's wishes.
        num_devices: lanes are a multiple of this.
        lane_axis: "vmap", "map", or "auto": what suits the program on the machine.
        done: ids of cells that have a row.
        cost_of: what a lane of a program costs; by default nothing, and no width
            may be padded.
        machine: each of the devices.

    Raises:
        UserError: one lane of some program does not fit into memory, or its batch
            cannot be split as wished.
    """
    planner = _Planner(packing, num_devices, lane_axis, cost_of, machine)
    by_program: dict[ProgramKey, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_program[cell.program_key].append(cell)
    packs = [
        dataclasses.replace(
            pack, queue=tuple(cell for cell in pack.queue if cell.cell_id not in done)
        )
        for group in _group(by_program, cost_of)
        for pack in planner.cut(group)
    ]
    packs = [pack for pack in packs if pack.queue]
    packs.sort(key=lambda pack: (-pack.key.width * pack.live_lane_steps, pack.key))
    return Plan(tuple(packs), num_devices)


# Cells of one program, ascending by width; all may share one if there are several.
_Group = list[tuple[ProgramKey, list[Cell]]]


def _group(
    by_program: Mapping[ProgramKey, list[Cell]],
    cost_of: Callable[[ProgramKey], ProgramCost],
) -> list[_Group]:
    """Programs that differ in nothing but a width that may be padded."""
    groups: dict[tuple[ProgramKey, int], _Group] = defaultdict(list)
    for key in sorted(by_program):
        own = 0 if cost_of(key).can_be_padded else key.width
        groups[key._replace(width=0), own].append((key, by_program[key]))
    return list(groups.values())


@dataclasses.dataclass(frozen=True)
class _Planner:
    """Cuts a group into packs; see `plan_packs`."""

    packing: Packing
    num_devices: int
    lane_axis: str
    cost_of: Callable[[ProgramKey], ProgramCost]
    machine: Machine

    def cut(self, group: _Group) -> list[Pack]:
        """The packs of least predicted time, among all cuts of the group.

        By dynamic programming: the best cut of the first k widths ends with some
        last pack, before which the cut is the best.
        """
        if self.packing.width_bucket:
            return [self.make_pack(part)[1] for part in self._fixed_cut(group)]
        best: list[tuple[float, list[Pack]]] = [(0.0, [])]
        for end in range(1, len(group) + 1):
            options = []
            for begin in range(end):
                seconds, pack = self.make_pack(group[begin:end])
                options.append((best[begin][0] + seconds, [*best[begin][1], pack]))
            best.append(min(options, key=lambda option: option[0]))
        return best[-1][1]

    def _fixed_cut(self, group: _Group) -> list[_Group]:
        """Widths up to the wished factor below the widest of a pack, from the top."""
        parts: list[_Group] = []
        for item in reversed(group):
            factor = self.packing.width_bucket
            if parts and item[0].width * factor >= parts[-1][-1][0].width:
                parts[-1].insert(0, item)
            else:
                parts.append([item])
        return parts[::-1]

    def make_pack(self, part: _Group) -> tuple[float, Pack]:
        """All cells of the part in one program, and the core-seconds predicted."""
        key = part[-1][0]
        cost = self.cost_of(key)
        cells = [cell for _, members in part for cell in members]
        queue = sorted(cells, key=lambda cell: (-cell.steps, cell.cell_id))
        total = sum(cell.steps for cell in queue)
        longest, shortest = queue[0].steps, queue[-1].steps
        axis = self.lane_axis
        if axis == "auto":
            axis = self.machine.choose_axis(cost)
        shards = self._count_shards(key, cost, axis)
        groups = self.num_devices // shards
        cost = split_batch(cost, shards)
        seconds, lanes = min(
            (self._seconds(cost, queue, total, lanes, axis, groups), lanes)
            for lanes in self._lane_choices(key, cost, total, queue, axis, groups)
        )
        true_flops = sum(
            self.cost_of(key).flops * sum(cell.steps for cell in members)
            for key, members in part
        )
        machine = self.machine
        turns = self._count_turns(cost, queue, lanes, axis, groups)
        step_seconds = turns * machine.seconds(cost, lanes, axis)
        in_a_second = math.ceil(_CHUNK_SECONDS / step_seconds)
        most = min(longest, max(math.ceil(longest / _CHUNKS_PER_RUN), in_a_second))
        most = self.packing.chunk_steps or most
        if machine.stream_rows:
            most = min(most, self._count_batches(key, queue) // lanes)
        most_of_block = int(_BLOCK_SECONDS / step_seconds)
        block_steps = _choose_block(
            queue, max(1, min(machine.block_steps, most_of_block))
        )
        if axis == "vmap" and most > block_steps:  # whole ones
            most -= most % block_steps
        compiling = machine.compile_seconds + machine.width_seconds * (len(part) - 1)
        pack = Pack(
            key=key,
            widths=tuple(key.width for key, _ in part),
            num_devices=groups,
            lanes=turns * lanes * groups,
            lane_axis=axis,
            queue=tuple(queue),
            min_chunk_steps=max(1, min(shortest // 2, most)),
            max_chunk_steps=most,
            step_flops=cost.flops,
            padding=shards * cost.flops * total / true_flops if true_flops else 1.0,
            bytes_per_device=machine.bytes(cost, lanes, axis, turns),
            convolution=self.packing.convolution,
            data_shards=shards,
            stream_rows=machine.stream_rows,
            turns=turns,
            block_steps=block_steps,
            has_convolution=cost.has_convolution,
            seconds=self.num_devices * seconds,
            compile_seconds=compiling,
            choices=self._choices(key, cost, total, queue, axis, lanes, groups),
        )
        return compiling + pack.seconds, pack

    def _count_shards(self, key: ProgramKey, cost: ProgramCost, axis: str) -> int:
        """Devices that share a lane's batch: as wished, or the fewest that hold it."""
        wished = self.packing.data_shards
        possible = [
            shards
            for shards in range(1, self.num_devices + 1)
            if self.num_devices % shards == key.batch_size % shards == 0
            and (cost.can_split_batch or shards == 1)
        ]
        if wished and wished not in possible:
            raise UserError(
                f"packing.data_shards={wished}: batches of {key.batch_size} of family "
                f"{key.family} can be split over {', '.join(map(str, possible))} of "
                f"{self.num_devices} devices; choose one of these, or 0"
            )
        fitting = (
            shards
            for shards in possible
            if self.machine.fits(split_batch(cost, shards), axis)
        )
        return wished or next(fitting, possible[-1])

    def _choices(
        self,
        key: ProgramKey,
        cost: ProgramCost,
        total: int,
        queue: Sequence[Cell],
        axis: str,
        lanes: int,
        groups: int,
    ) -> tuple[Choice, ...]:
        """The default, and what else the user left open and the device may be fast at.

        A CPU: either axis, but no convolution under vmap, and images as patches. An
        accelerator: fewer lanes by factors of four; of convolutions either axis, and
        patches.
        """
        forms = [self.packing.convolution]
        if cost.has_convolution and forms == ["auto"]:
            forms.append("patches")
        axes = {axis: {lanes}}
        machine = self.machine
        if not machine.is_cpu and axis == "vmap" and not self.packing.lanes:
            axes[axis] |= {max(1, lanes // 16), max(1, lanes // 4)}
        # A CPU takes minutes for convolutions side by side; accelerators differ.
        if self.lane_axis == "auto" and cost.has_convolution != machine.is_cpu:
            for other in {"map", "vmap"} - {axis}:
                most = self._lane_choices(key, cost, total, queue, other, groups)[-1]
                axes[other] = {most}

        def choose(axis: str, lanes: int, form: str) -> Choice:
            turns = self._count_turns(cost, queue, lanes, axis, groups)
            return Choice(axis, turns * lanes * groups, form, turns)

        default = choose(axis, lanes, forms[0])
        others = {
            choose(axis, count, form)
            for axis, counts in axes.items()
            for count in counts
            for form in forms
        }
        return (default, *sorted(others - {default}))

    def _count_turns(
        self,
        cost: ProgramCost,
        queue: Sequence[Cell],
        lanes: int,
        axis: str,
        groups: int,
    ) -> int:
        """Turns of so many lanes a device that fill a chunk, where runs are short.

        The host's work is by the chunk, and a chunk is no longer than a run. On a CPU
        only: an accelerator takes more lanes at once.
        """
        machine = self.machine
        if not machine.is_cpu or self.packing.lanes or machine.stream_rows:
            return 1
        run_seconds = queue[0].steps * machine.seconds(cost, lanes, axis)
        most = len(queue) // (_RUNS_A_LANE * lanes * groups)
        turns = max(1, min(int(_CHUNK_SECONDS / run_seconds), most))
        while turns > 1 and not machine.fits(cost, axis, lanes, turns):
            turns -= 1
        return turns

    def _count_batches(self, key: ProgramKey, queue: Sequence[Cell]) -> int:
        """Batches that the streamed rows of a device hold, at least."""
        rows, batch = self.machine.stream_rows, max(cell.batch_size for cell in queue)
        if rows < _LEAST_BATCHES * batch:
            raise UserError(
                f"{key}: data are streamed and a device has room for {rows} examples "
                f"at a time, not for {_LEAST_BATCHES} batches of {batch}; choose a "
                "smaller training.batch_size, or set packing.stream to false"
            )
        return rows // batch

    def _seconds(
        self,
        cost: ProgramCost,
        queue: Sequence[Cell],
        total: int,
        lanes: int,
        axis: str,
        groups: int,
    ) -> float:
        """Until the last cell is done."""
        if axis == "map":
            steps = max(total / groups, queue[0].steps)
            return steps * self.machine.seconds(cost, 1, axis)
        steps = _last_end(queue, total, lanes * groups)
        return steps * self.machine.seconds(cost, lanes, axis)

    def _lane_choices(
        self,
        key: ProgramKey,
        cost: ProgramCost,
        total: int,
        queue: Sequence[Cell],
        axis: str,
        groups: int,
    ) -> list[int]:
        """Lanes a device that fit and may be of use, at least one.

        More than sum(steps) / max(steps) make nothing shorter: the longest cell takes
        as long as the rest.
        """
        useful = min(round(total / queue[0].steps), len(queue))
        most = math.ceil(useful / groups)
        most = min(most, self.packing.lanes or self.machine.most_lanes)
        if self.machine.stream_rows:
            most = min(most, self._count_batches(key, queue))
        memory = self.machine.memory_bytes
        while most > 1 and self.machine.bytes(cost, most, axis) > memory:
            most -= 1
        if not self.machine.fits(cost, axis):
            needed = self.machine.bytes(cost, 1, axis)
            raise UserError(
                f"{key}: one lane takes about {needed / 1e9:.1f} GB, the device has "
                f"{memory / 1e9:.1f}; choose a smaller training.batch_size or leave "
                f"out grid.widths={key.width}"
            )
        most = max(1, most)
        if axis == "map" or self.packing.lanes:
            return [most]
        counts = [1]
        while counts[-1] < most:  # every one, and of many every twentieth or so
            counts.append(min(most, counts[-1] + 1 + counts[-1] // 20))
        return counts


def _last_end(queue: Sequence[Cell], total: int, lanes: int) -> float:
    """Steps until all lanes are done, each taking the next of the queue."""
    if len(queue) > _MANY_A_LANE * lanes:  # ends differ by less than a cell
        return max(total / lanes, queue[0].steps)
    ends = [0] * lanes
    for cell in queue:
        heapq.heapreplace(ends, ends[0] + cell.steps)
    return max(ends)


def _choose_block(queue: Sequence[Cell], most: int) -> int:
    """Steps a block, half of the most at least: those that mask least of the runs."""
    runs = Counter(cell.steps for cell in queue)

    def count_masked(block: int) -> int:
        return sum(-steps % block * count for steps, count in runs.items())

    return min(range(most, most // 2, -1), key=count_masked)


# A program of which nothing is known.
_UNKNOWN = ProgramCost(
    flops=0.0,
    state_bytes=0.0,
    work_bytes=0.0,
    kept_bytes=0.0,
    has_convolution=True,
    can_be_padded=False,
)


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
        num_steps = min(num_steps, max(left.values()))
        num_steps = min(pack.fill_block(num_steps), pack.max_chunk_steps)
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
    together = pack.lanes // (pack.num_devices * pack.turns)
    turns = max(1, pack.turns // 2)
    if pack.turns == 1:
        together //= 2
    if together == 0:
        return None
    return dataclasses.replace(
        pack,
        lanes=turns * together * pack.num_devices,
        turns=turns,
        queue=tuple(cell for cell in pack.queue if cell.cell_id not in done),
    )


def _deal(pack: Pack) -> list[int]:
    """Lanes, one device after the other, so that no device gets all the long cells."""
    per_device = pack.lanes // pack.num_devices
    return sorted(range(pack.lanes), key=lambda lane: (lane % per_device, lane))

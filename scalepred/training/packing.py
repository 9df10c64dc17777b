"""Packs cells into programs: which widths share one, how many lanes it has.

Pure Python, once the programs are traced.
"""

import dataclasses
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import Packing, UserError
from scalepred.grid import Cell, ProgramKey
from scalepred.training.branches import (
    count_chain_steps,
    find_chains,
    list_stretches,
)
from scalepred.training.cost import CPU, Machine, ProgramCost, split_batch
from scalepred.training.plan import Choice, Pack, Plan

# A chunk is at most a twentieth of the pack's longest run, or takes about a second if
# that is longer. So rows come often, and the host's work of some milliseconds a chunk
# does not count.
_CHUNKS_PER_RUN = 20
_CHUNK_SECONDS = 1.0
# A block takes no longer, as it is computed whole even where a chunk needs a part.
_BLOCK_SECONDS = 0.25
# Where runs are much shorter than a second there are more lanes, in groups that step
# one after the other (`Pack.turns`), but each lane trains at least so many runs.
_RUNS_A_LANE = 2
# A device must hold so many training batches of streamed data: scoring reads three
# parts at once, in batches up to four times as large.
_LEAST_BATCHES = 12
# With more cells a lane, lanes end at nearly the same time and need not be simulated.
_MANY_A_LANE = 50


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
        dataclasses.replace(pack, queue=_queue(pack, by_program, done))
        for group in _group(by_program, cost_of)
        for pack in planner.cut(group)
    ]
    packs = [pack for pack in packs if pack.queue]
    packs.sort(key=lambda pack: (-pack.key.width * pack.live_lane_steps, pack.key))
    return Plan(tuple(packs), num_devices)


def _queue(
    pack: Pack, by_program: Mapping[ProgramKey, list[Cell]], done: Collection[str]
) -> tuple[Cell, ...]:
    """The cells of a pack that have no row, the longest first."""
    cells = [
        cell
        for width in pack.widths
        for cell in by_program[pack.key._replace(width=width)]
        if cell.cell_id not in done
    ]
    return tuple(sorted(cells, key=lambda cell: (-cell.steps, cell.cell_id)))


class _Load(NamedTuple):
    """How long some cells are: counted, as many cells have few lengths.

    Attributes:
        lengths: chains of so many steps.
        stretches: stretches of so many steps, which lanes do without having to wait
            for each other.
        largest_batch: of a cell.
    """

    lengths: Counter[int]
    stretches: Counter[int]
    largest_batch: int

    @staticmethod
    def of(cells: Sequence[Cell]) -> "_Load":
        lengths, stretches = Counter[int](), Counter[int]()
        for chain in find_chains(cells):
            lengths[count_chain_steps(chain)] += 1
            stretches.update(steps for steps in list_stretches(chain) if steps)
        return _Load(lengths, stretches, max(cell.batch_size for cell in cells))

    def add(self, other: "_Load") -> "_Load":
        """Both, as no trunk has cells of two programs."""
        return _Load(
            self.lengths + other.lengths,
            self.stretches + other.stretches,
            max(self.largest_batch, other.largest_batch),
        )

    @property
    def total(self) -> int:
        """Steps of all cells."""
        return sum(steps * count for steps, count in self.lengths.items())


class _Member(NamedTuple):
    """A program by itself, of one width."""

    key: ProgramKey
    load: _Load


# Ascending by width; all may share one program if there are several.
_Group = list[_Member]


def _group(
    by_program: Mapping[ProgramKey, list[Cell]],
    cost_of: Callable[[ProgramKey], ProgramCost],
) -> list[_Group]:
    """Programs that differ in nothing but a width that may be padded."""
    groups: dict[tuple[ProgramKey, int], _Group] = defaultdict(list)
    for key in sorted(by_program):
        own = 0 if cost_of(key).can_be_padded else key.width
        load = _Load.of(by_program[key])
        groups[key._replace(width=0), own].append(_Member(key, load))
    return list(groups.values())


@dataclasses.dataclass(frozen=True)
class _Work:
    """What one program has to do."""

    key: ProgramKey
    cost: ProgramCost  # of one lane on one device
    load: _Load
    groups: int  # of devices, each with lanes of its own

    @functools.cached_property
    def longest(self) -> int:
        """Steps of the longest chain."""
        return max(self.load.lengths)

    @functools.cached_property
    def total(self) -> int:
        """Steps of all cells."""
        return self.load.total

    @functools.cached_property
    def num_chains(self) -> int:
        return self.load.lengths.total()


@dataclasses.dataclass(frozen=True)
class _Planner:
    """Cuts a group into packs; see `plan_packs`."""

    packing: Packing
    num_devices: int
    lane_axis: str
    cost_of: Callable[[ProgramKey], ProgramCost]
    machine: Machine

    def cut(self, group: _Group) -> list[Pack]:
        """The packs of least predicted time, among all cuts; their queues are empty.

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
            if parts and item.key.width * factor >= parts[-1][-1].key.width:
                parts[-1].insert(0, item)
            else:
                parts.append([item])
        return parts[::-1]

    def make_pack(self, part: _Group) -> tuple[float, Pack]:
        """The part as one program, its queue left empty, and the core-seconds."""
        key = part[-1].key
        whole = self.cost_of(key)
        machine = self.machine
        axis = self.lane_axis
        if axis == "auto":
            axis = machine.choose_axis(whole)
        shards = self._count_shards(key, whole, axis)
        cost, groups = split_batch(whole, shards), self.num_devices // shards
        load = functools.reduce(_Load.add, (member.load for member in part))
        work = _Work(key, cost, load, groups)
        seconds, lanes = self._choose_lanes(work, axis)
        true_flops = sum(self.cost_of(one.key).flops * one.load.total for one in part)
        padded_flops = shards * cost.flops * work.total
        turns = self._count_turns(work, lanes, axis)
        compiling = machine.compile_seconds + machine.width_seconds * (len(part) - 1)
        pack = Pack(
            key=key,
            widths=tuple(member.key.width for member in part),
            num_devices=groups,
            lanes=turns * lanes * groups,
            lane_axis=axis,
            queue=(),
            **self._choose_lengths(work, lanes, axis, turns),
            step_flops=cost.flops,
            padding=padded_flops / true_flops if true_flops else 1.0,
            bytes_per_device=machine.bytes(cost, lanes, axis, turns),
            convolution=self.packing.convolution,
            data_shards=shards,
            stream_rows=machine.stream_rows,
            turns=turns,
            has_convolution=cost.has_convolution,
            seconds=self.num_devices * seconds,
            compile_seconds=compiling,
            choices=self._choices(work, lanes, axis),
        )
        return compiling + pack.seconds, pack

    def _choose_lengths(
        self, work: _Work, lanes: int, axis: str, turns: int
    ) -> dict[str, int]:
        """Steps of the shortest and the longest chunk, and of a block."""
        machine, stretches = self.machine, work.load.stretches
        longest, shortest = work.longest, min(stretches)
        step_seconds = turns * machine.seconds(work.cost, lanes, axis)
        in_a_second = math.ceil(_CHUNK_SECONDS / step_seconds)
        most = min(longest, max(math.ceil(longest / _CHUNKS_PER_RUN), in_a_second))
        most = self.packing.chunk_steps or most
        if machine.stream_rows:
            most = min(most, self._count_batches(work) // lanes)
        most_of_block = int(_BLOCK_SECONDS / step_seconds)
        block_steps = _choose_block(
            stretches, max(1, min(machine.block_steps, most_of_block))
        )
        if axis == "vmap" and most > block_steps:  # whole blocks
            most -= most % block_steps
        return {
            "min_chunk_steps": max(1, min(shortest // 2, most)),
            "max_chunk_steps": most,
            "block_steps": block_steps,
        }

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

    def _choices(self, work: _Work, lanes: int, axis: str) -> tuple[Choice, ...]:
        """The default, and what else the user left open and the device may be fast at.

        A CPU: either axis, but no convolution under vmap, and images as patches. An
        accelerator: fewer lanes by factors of four; of convolutions either axis, and
        patches.
        """
        cost = work.cost
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
                most = self._lane_choices(work, other)[-1]
                axes[other] = {most}

        def choose(axis: str, lanes: int, form: str) -> Choice:
            turns = self._count_turns(work, lanes, axis)
            return Choice(axis, turns * lanes * work.groups, form, turns)

        default = choose(axis, lanes, forms[0])
        others = {
            choose(axis, count, form)
            for axis, counts in axes.items()
            for count in counts
            for form in forms
        }
        return (default, *sorted(others - {default}))

    def _count_turns(self, work: _Work, lanes: int, axis: str) -> int:
        """Turns of so many lanes a device that fill a chunk, where runs are short.

        The host's work is by the chunk, and a chunk is no longer than a run. On a CPU
        only: an accelerator takes more lanes at once.
        """
        machine, cost = self.machine, work.cost
        if not machine.is_cpu or self.packing.lanes or machine.stream_rows:
            return 1
        run_seconds = work.longest * machine.seconds(cost, lanes, axis)
        most = work.num_chains // (_RUNS_A_LANE * lanes * work.groups)
        turns = max(1, min(int(_CHUNK_SECONDS / run_seconds), most))
        while turns > 1 and not machine.fits(cost, axis, lanes, turns):
            turns -= 1
        return turns

    def _count_batches(self, work: _Work) -> int:
        """Batches that the streamed rows of a device hold, at least."""
        rows, batch = self.machine.stream_rows, work.load.largest_batch
        if rows < _LEAST_BATCHES * batch:
            raise UserError(
                f"{work.key}: data are streamed and a device has room for {rows} "
                f"examples at a time, not for {_LEAST_BATCHES} batches of {batch}; "
                "choose a smaller training.batch_size, or set packing.stream to false"
            )
        return rows // batch

    def _choose_lanes(self, work: _Work, axis: str) -> tuple[float, int]:
        """Seconds until the last cell is done, and the lanes a device that take least.

        What a number of lanes takes at least is known at once; how long lanes then
        wait for the last is simulated only where that could still be the best.
        """
        if axis == "map":
            steps = max(work.total / work.groups, work.longest)
            seconds = steps * self.machine.seconds(work.cost, 1, axis)
            return seconds, self._lane_choices(work, axis)[0]
        options = []
        for lanes in self._lane_choices(work, axis):
            step_seconds = self.machine.seconds(work.cost, lanes, axis)
            least = max(work.total / (lanes * work.groups), work.longest)
            options.append((least * step_seconds, lanes, step_seconds))
        best = math.inf, 0
        for at_least, lanes, step_seconds in sorted(options):
            if (at_least, lanes) > best:
                break
            end = _last_end(work, lanes * work.groups)
            best = min(best, (end * step_seconds, lanes))
        return best

    def _lane_choices(self, work: _Work, axis: str) -> list[int]:
        """Lanes a device that fit and may be of use, at least one.

        More than sum(steps) / max(steps) make nothing shorter: the longest chain takes
        as long as the rest.
        """
        cost = work.cost
        useful = min(round(work.total / work.longest), work.num_chains)
        most = math.ceil(useful / work.groups)
        most = min(most, self.packing.lanes or self.machine.most_lanes)
        if self.machine.stream_rows:
            most = min(most, self._count_batches(work))
        memory = self.machine.memory_bytes
        while most > 1 and self.machine.bytes(cost, most, axis) > memory:
            most -= 1
        if not self.machine.fits(cost, axis):
            needed = self.machine.bytes(cost, 1, axis)
            raise UserError(
                f"{work.key}: one lane takes about {needed / 1e9:.1f} GB, the device "
                f"has {memory / 1e9:.1f}; choose a smaller training.batch_size or "
                f"leave out grid.widths={work.key.width}"
            )
        most = max(1, most)
        if axis == "map" or self.packing.lanes:
            return [most]
        counts = [1]
        while counts[-1] < most:  # steps of 1, later of 5 %
            counts.append(min(most, counts[-1] + 1 + counts[-1] // 20))
        return counts


def _last_end(work: _Work, lanes: int) -> float:
    """Steps until all lanes are done, each taking the next of the queue."""
    if work.num_chains > _MANY_A_LANE * lanes:  # see above
        return max(work.total / lanes, work.longest)
    ends = np.zeros(lanes, np.int64)  # ascending
    for steps, count in sorted(work.load.lengths.items(), reverse=True):
        while count:
            # No lane takes a second cell before all of these have taken one.
            free = int(np.searchsorted(ends, ends[0] + steps, "right"))
            free = min(free, count)
            ends[:free] += steps
            ends.sort(kind="stable")
            count -= free
    return int(ends[-1])


def _choose_block(stretches: Counter[int], most: int) -> int:
    """Steps a block, half of the most at least: those that mask least of the runs."""

    def count_masked(block: int) -> int:
        return sum(-steps % block * count for steps, count in stretches.items())

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

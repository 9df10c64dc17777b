"""The plan of a study: which cells share a program, and how many lanes it has.

`packing.py` makes it, `chunks.py` says what then happens to each lane.
"""

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from scalepred.grid import Cell, ProgramKey
from scalepred.training.branches import count_steps


class Choice(NamedTuple):
    """What a program may be trained with; no result depends on it beyond rounding."""

    lane_axis: str  # vmap | map
    lanes: int  # over all devices
    convolution: str  # auto, or a form of `models/convolution.py`
    turns: int = 1  # equal groups of lanes, stepped one after the other


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
        turns: with vmap a device's lanes are cut into so many equal groups. In a chunk
            each group does all its steps before the next group begins; only the lanes
            of one group step side by side.
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
        """Optimiser steps its cells need, those of trunks once."""
        return count_steps(self.queue)

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

        Only the lanes of one turn are counted, as other turns change no bit.
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

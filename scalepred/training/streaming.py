"""Data larger than a device's memory: each device holds some rows of them at a time.

What a chunk draws is known beforehand. The rows it lacks are read from the mapped
files by grain's threads, while the devices still work on the chunk before, and take
the place of those not used for the longest time. The lanes' programs look up where an
example stands and else do what they do with all data at hand: results are the same
bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.training import sampling
from scalepred.training import score as score_lib
from scalepred.training.devices import mark, put
from scalepred.training.engine import Engine
from scalepred.training.lane import LaneData, LaneState
from scalepred.training.plan import Pack
from scalepred.training.score import Scores
from scalepred.training.slabs import Slabs, read


class Resident:
    """The data of an engine whose devices hold all of them."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def hold_steps(
        self,
        cells: Sequence[Cell | None],
        steps_done: Sequence[int],
        num_steps: Sequence[int],
    ) -> LaneData:
        """The data on the devices, with all that these steps of the lanes draw.

        Args:
            cells: of each lane, None where it is idle [lanes].
            steps_done: of each cell before [lanes].
            num_steps: that follow [lanes].
        """
        return self._engine.data

    def score(
        self, state: LaneState, args: jax.Array, finished: Mapping[int, Cell]
    ) -> Scores:
        """Scores of the finished lanes, rubbish of the others [lanes].

        Args:
            state: of all lanes, on the devices.
            args: of all lanes, on the devices.
            finished: cells by lane.
        """
        marked = mark(finished, len(state.step), self._engine.mesh)
        return self._engine.score_lanes(state, args, marked, self._engine.data)


class Stream(Resident):
    """The data of an engine whose devices hold some rows: it brings what is needed."""

    def __init__(self, pack: Pack, engine: Engine, order_of_seed: Mapping[int, int]):
        super().__init__(engine)
        self._dataset: Dataset = engine.dataset
        self._rows = pack.stream_rows
        self._lanes_here = pack.lanes // pack.num_devices
        self._batch = score_lib.evaluation_batch(pack.key, engine.dataset)
        self._reads_on = engine.models[pack.widths[-1]].restart is not None
        order = np.asarray(engine.data.order)
        self._order = {key: order[row] for key, row in order_of_seed.items()}
        self._shelves = [
            _Shelf(self._rows, len(engine.dataset.labels))
            for _ in range(pack.num_devices)
        ]
        # The order of examples is on the devices from the start and is left out.
        self._data: LaneData = _make_zeros(engine.data._replace(order=None))()
        self._begin_scores = _make_zeros(engine.scores)

    def hold_steps(
        self,
        cells: Sequence[Cell | None],
        steps_done: Sequence[int],
        num_steps: Sequence[int],
    ) -> LaneData:
        wanted: list[list[np.ndarray]] = [[] for _ in self._shelves]
        for lane, (cell, before, count) in enumerate(
            zip(cells, steps_done, num_steps, strict=True)
        ):
            if cell is not None and count:
                examples = self._find_drawn(cell, before, count)
                wanted[lane // self._lanes_here].append(examples)
        return self._hold(wanted)

    def score(
        self, state: LaneState, args: jax.Array, finished: Mapping[int, Cell]
    ) -> Scores:
        """As many lanes and batches at once as there are rows for."""
        engine = self._engine
        trip_rows = len(self._dataset.parts) * self._batch  # one batch of each part
        lanes_at_once = max(1, self._rows // trip_rows)
        lanes_of = [
            [lane for lane in finished if lane // self._lanes_here == group]
            for group in range(len(self._shelves))
        ]
        scores, sums = self._begin_scores()
        for first in range(0, max(map(len, lanes_of)), lanes_at_once):
            wave = [lanes[first : first + lanes_at_once] for lanes in lanes_of]
            together = [lane for lanes in wave for lane in lanes]
            marked = mark(together, len(state.step), engine.mesh)
            trips = max(1, self._rows // (trip_rows * max(map(len, wave))))
            num_batches = max(self._count_batches(finished[lane]) for lane in together)
            for begin in range(0, num_batches, trips):
                data = self._hold(
                    [
                        [
                            self._find_scored(finished[lane], begin, begin + trips)
                            for lane in lanes
                        ]
                        for lanes in wave
                    ]
                )
                span = np.int32(begin), np.int32(begin + trips)
                scores, sums = engine.score_lanes(
                    state, args, marked, data, scores, sums, *span
                )
        return scores

    def _find_drawn(self, cell: Cell, steps_done: int, num_steps: int) -> np.ndarray:
        """Examples that these steps of a cell train on."""
        batch_size = cell.program_key.batch_size
        each = cell.batch_size // batch_size
        drawn = sampling.find_draws(
            None if cell.branch else np.array(cell.random_words, np.uint32),
            steps_done * each,
            num_steps * each,
            cell.dataset_size,
            batch_size,
            self._reads_on,
        )
        return self._order[cell.order_key][drawn]

    def _find_parts(self, cell: Cell) -> list[tuple[int, int]]:
        num_own = min(cell.dataset_size, self._dataset.num_test)
        return score_lib.evaluated_parts(self._dataset, num_own, cell.validation_size)

    def _count_batches(self, cell: Cell) -> int:
        return max(-(-count // self._batch) for _, count in self._find_parts(cell))

    def _find_scored(self, cell: Cell, begin: int, end: int) -> np.ndarray:
        """Examples of a cell's batches from `begin` up to `end`, of all parts."""
        found = []
        for first, count in self._find_parts(cell):
            num_batches = -(-count // self._batch)
            position, _ = score_lib.find_evaluated(
                np.arange(self._batch),
                np.arange(begin, min(end, num_batches))[:, None],
                count,
                self._batch,
                reads_on=self._reads_on,
            )
            found.append(self._order[cell.order_key][first + position.reshape(-1)])
        return np.concatenate(found)

    def _hold(self, wanted: Sequence[Sequence[np.ndarray]]) -> LaneData:
        """The data with at least these examples on each group of devices."""
        # Wait until the rows sent before are there, or a second set of slabs would
        # need memory beside them.
        jax.block_until_ready(self._data)
        moves = [
            shelf.place(np.unique(np.concatenate([np.empty(0, np.int32), *examples])))
            for shelf, examples in zip(self._shelves, wanted, strict=True)
        ]
        slab: Any = self._engine.slab
        local = _local_groups(self._engine.mesh)
        slabs = Slabs(self._dataset, moves, slab, self._rows, local)
        for arrays in read(slabs):
            arrays = put(arrays, self._engine.mesh)
            self._data = self._engine.add_rows(self._data, arrays)
        return self._data._replace(order=self._engine.data.order)


class _Shelf:
    """Which example stands in which row of a group of devices, as the host knows it."""

    def __init__(self, num_rows: int, num_examples: int):
        self._row_of = np.full(num_examples, -1, np.int32)
        self._example_in = np.full(num_rows, -1, np.int32)
        self._last_used = np.zeros(num_rows, np.int64)
        self._now = 0

    def place(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Makes room for what is not there, where what was not used for long stands.

        Args:
            wanted: distinct example numbers, no more than there are rows.

        Returns:
            Examples that are not there, and the rows for them.
        """
        if len(wanted) > len(self._last_used):
            raise ValueError(f"{len(wanted)} examples for {len(self._last_used)} rows")
        self._now += 1
        rows = self._row_of[wanted]
        self._last_used[rows[rows >= 0]] = self._now
        missing = wanted[rows < 0]
        if len(missing) == 0:
            return missing, missing
        oldest = np.argsort(self._last_used, kind="stable")[: len(missing)]
        oldest = oldest.astype(np.int32)
        gone = self._example_in[oldest]
        self._row_of[gone[gone >= 0]] = -1
        self._row_of[missing], self._example_in[oldest] = oldest, missing
        self._last_used[oldest] = self._now
        return missing, oldest


def _make_zeros(shapes: Any) -> Callable[[], Any]:
    """A function that makes arrays of these shapes on the devices."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)

    def make() -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    return jax.jit(make, out_shardings=shardings)


def _local_groups(mesh: Mesh) -> list[int]:
    return [
        group
        for group, devices in enumerate(mesh.devices)
        if any(device.process_index == jax.process_index() for device in devices)
    ]


def open_data(pack: Pack, engine: Engine, order_of_seed: Mapping[int, int]) -> Resident:
    """What gives the pack's programs their data."""
    if pack.stream_rows:
        return Stream(pack, engine, order_of_seed)
    return Resident(engine)

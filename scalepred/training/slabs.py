"""Rows of streamed data on their way to the devices, in slabs of some megabytes."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from scalepred.data.dataset import Dataset
from scalepred.training.device_data import widen
from scalepred.training.devices import LANES
from scalepred.training.lane import LaneData
from scalepred.training.plan import Pack

# Bytes of a slab, or less, so that a device holds at least so many slabs.
_SLAB_BYTES = 4e6
_LEAST_SLABS = 8
_NUM_THREADS = 16


class Slab(NamedTuple):
    """Streamed rows on their way to the devices, as many to each group of devices.

    Numbers out of range, where there are fewer, go nowhere.
    """

    inputs: Any  # [groups * rows, ...]
    labels: Any  # integers [groups * rows, (positions)]
    examples: Any  # their numbers, int32 [groups * rows]
    rows: Any  # where they go, int32 [groups * rows]


def describe_stream(
    pack: Pack, dataset: Dataset, order: Any, mesh: Mesh
) -> tuple[LaneData, Slab]:
    """Shapes of streamed data, but for the order, and of what brings them."""
    sharding = NamedSharding(mesh, LANES)
    examples = [widen(array[:1]) for array in (dataset.inputs, dataset.labels)]

    def describe(rows: int, like: np.ndarray) -> Any:
        shape = (pack.num_devices * rows, *like.shape[1:])
        return jax.ShapeDtypeStruct(shape, like.dtype, sharding=sharding)

    most = int(_SLAB_BYTES / sum(example.nbytes for example in examples))
    in_slab = max(1, min(most, pack.stream_rows // _LEAST_SLABS))
    number = np.zeros(1, np.int32)
    inputs, labels = (describe(pack.stream_rows, example) for example in examples)
    data = LaneData(inputs, labels, order, describe(len(dataset.labels), number))
    return data, Slab(
        *(describe(in_slab, like) for like in (*examples, number, number))
    )


def add_rows(data: LaneData, slab: Slab) -> LaneData:
    """The data with the slab's rows in their places."""
    return LaneData(
        data.inputs.at[slab.rows].set(slab.inputs, mode="drop"),
        data.labels.at[slab.rows].set(slab.labels, mode="drop"),
        None,
        data.row_of.at[slab.examples].set(slab.rows, mode="drop"),
    )


class Slabs:
    """A random-access source for grain: the slabs that carry rows to the devices."""

    def __init__(
        self,
        dataset: Dataset,
        moves: Sequence[tuple[np.ndarray, np.ndarray]],
        shapes: Slab,
        num_rows: int,
        local: Sequence[int],
    ):
        """Reads nothing yet.

        Args:
            dataset: to read from.
            moves: examples and the rows for them, of each group of devices.
            shapes: of a slab.
            num_rows: of a group.
            local: groups with a device of this process; nothing is read for others.
        """
        self._dataset = dataset
        self._moves = moves
        self._shapes = shapes
        self._num_rows = num_rows
        self._local = local
        self._each = len(shapes.rows) // len(moves)

    def __len__(self) -> int:
        return -(-max(len(rows) for _, rows in self._moves) // self._each)

    def __getitem__(self, index: int) -> Slab:
        slab = Slab(*(np.zeros(leaf.shape, leaf.dtype) for leaf in self._shapes))
        slab.examples[:] = len(self._dataset.labels)
        slab.rows[:] = self._num_rows
        for group in self._local:
            part = slice(index * self._each, (index + 1) * self._each)
            examples, rows = (numbers[part] for numbers in self._moves[group])
            to = slice(group * self._each, group * self._each + len(rows))
            slab.inputs[to] = self._dataset.inputs[examples]
            slab.labels[to] = self._dataset.labels[examples]
            slab.examples[to], slab.rows[to] = examples, rows
        return slab


def read(slabs: Slabs) -> Iterator[Slab]:
    """The slabs in order, read ahead by threads."""
    if len(slabs) == 0:
        return iter(())
    import grain  # of the extra `stream`, and slow to import

    threads = min(_NUM_THREADS, len(slabs))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return iter(grain.MapDataset.source(slabs).to_iter_dataset(options))

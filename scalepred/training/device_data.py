"""The dataset on the devices: whole, or some rows at a time, and what that takes."""

import dataclasses
import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import NamedSharding

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.runtime import processes
from scalepred.training import cost
from scalepred.training.devices import EVERYWHERE, make_mesh
from scalepred.training.lane import LaneData
from scalepred.training.plan import Plan

# Data that take a larger share of a device's memory are streamed.
_MOST_RESIDENT = 0.5
# Share of a device's memory for the rows it holds; rows on their way take as much.
_HELD = 0.25

# Sets their order apart from other random numbers of the seed.
_OF_BRANCHES = 1


def place_data(machine: cost.Machine, dataset: Dataset, stream: str) -> cost.Machine:
    """The machine, less the data that stand on it."""
    rows = choose_rows(dataset, machine.memory_bytes, stream)
    left = machine.memory_bytes - count_bytes(dataset, rows)
    return dataclasses.replace(machine, memory_bytes=left, stream_rows=rows)


def choose_rows(dataset: Dataset, memory_bytes: float, wish: str) -> int:
    """Rows that a device holds at a time; 0: all, nothing is streamed.

    Args:
        dataset: what is trained on.
        memory_bytes: of a device.
        wish: `packing.stream`.

    Raises:
        UserError: data must be streamed and grain is not installed.
    """
    size = len(dataset.labels)
    fits = size * row_bytes(dataset) <= _MOST_RESIDENT * memory_bytes
    if wish == "false" or (wish == "auto" and fits):
        return 0
    if importlib.util.find_spec("grain") is None:
        raise UserError(
            f"packing.stream={wish}: dataset {dataset.name} takes "
            f"{size * row_bytes(dataset) / 1e9:.3g} GB and is to be streamed, but "
            "grain is not installed; run `pip install 'scalepred[stream]'`, or set it "
            "to false"
        )
    most = _HELD * memory_bytes / row_bytes(dataset)
    return size if most >= size else max(1, int(most))


def explain(dataset: Dataset, rows: int) -> str:
    """A line of the plan."""
    size = len(dataset.labels)
    return (
        f"data: {size * row_bytes(dataset) / 1e6:,.1f} MB are streamed through grain; "
        f"a device holds {rows:,} of {size:,} examples at a time, and the autotuner is "
        "left out"
    )


def count_bytes(dataset: Dataset, rows: int) -> float:
    """What the data take of a device: all of them, or so many rows at a time."""
    if not rows:
        return len(dataset.labels) * row_bytes(dataset)
    return 2 * rows * row_bytes(dataset) + 4 * len(dataset.labels)


def row_bytes(dataset: Dataset) -> int:
    """Bytes of one example and its labels on a device."""
    return sum(
        math.prod(array.shape[1:]) * widen(np.empty(0, array.dtype)).dtype.itemsize
        for array in (dataset.inputs, dataset.labels)
    )


def put_data(
    plan: Plan, dataset: Dataset, devices: Sequence[Any]
) -> tuple[LaneData, dict[int, int]]:
    """The dataset on every device, and the row of each order, by `Cell.order_key`.

    Where data are streamed only the order: the rest comes with the chunks.
    """
    keys = sorted({cell.order_key for pack in plan.packs for cell in pack.queue})
    data = LaneData(None, None, np.stack([find_order(dataset, key) for key in keys]))
    if not plan.is_streamed:
        inputs, labels = np.asarray(dataset.inputs), dataset.labels
        data = data._replace(inputs=widen(inputs), labels=widen(labels))
    everywhere = NamedSharding(make_mesh(devices), EVERYWHERE)
    order_of_seed = {key: row for row, key in enumerate(keys)}
    return processes.put(data, everywhere), order_of_seed


def find_order(dataset: Dataset, key: int) -> np.ndarray:
    """Examples as a run sees them: train part, then test part, int32 [examples].

    Of branches, which read the train part from the first on, it is shuffled: as a seed
    orders it batches would hold equally many of each class, or neighbours in a text,
    and would not be those of plain runs.

    Args:
        dataset: with the examples.
        key: `Cell.order_key`.
    """
    if key >= 0:
        return dataset.order(key)
    train, test = np.split(dataset.order(~key), [dataset.num_train])
    random = np.random.default_rng([~key, _OF_BRANCHES])
    return np.concatenate([random.permutation(train), test])


def widen(values: np.ndarray) -> np.ndarray:
    """16-bit integers as 32-bit ones, which every compiler can load in vectors.

    LLVM as of jaxlib 0.10 aborts ("Cannot select ... v16i16") where a loop copies
    windows of 16-bit tokens on a CPU without 16-bit broadcasts.
    """
    return values.astype(np.int32) if values.dtype == np.uint16 else values

"""The devices: groups of them hold lanes, the devices of a group share batches."""

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scalepred.runtime import processes
from scalepred.training import cost

# Of arrays whose first axis is lanes, and of those that every device holds.
LANES = PartitionSpec("lane")
EVERYWHERE = PartitionSpec()


def use_all_cores() -> None:
    """Makes every core of a CPU a device; call it before anything asks for devices.

    A step of a small model keeps one core busy at most. Without effect where
    XLA_FLAGS or JAX_NUM_CPU_DEVICES already say, and on other backends.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    jax.config.update("jax_num_cpu_devices", cost.num_cores())


def make_mesh(devices: Sequence[Any], data_shards: int = 1) -> Mesh:
    """Groups of devices along "lane", the devices of a group along "data"."""
    return Mesh(np.array(devices).reshape(-1, data_shards), ("lane", "data"))


def hold_everywhere(leaf: Any, mesh: Mesh) -> Any:
    """A copy on every device as this mesh sees it: no bytes move. Or its shape."""
    sharding = NamedSharding(mesh, EVERYWHERE)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return leaf if leaf.sharding == sharding else jax.device_put(leaf, sharding)


def put(tree: Any, mesh: Mesh) -> Any:
    """Arrays [lanes, ...] on the devices that hold their lanes."""
    return processes.put(tree, NamedSharding(mesh, LANES))


def put_lanes(rows: Sequence[np.ndarray], mesh: Mesh) -> jax.Array:
    """Rows, one a lane, on the devices that hold the lanes."""
    return put(np.stack(rows), mesh)


def mark(lanes: Iterable[int], num_lanes: int, mesh: Mesh) -> jax.Array:
    """Which lanes are meant, bool [lanes], on the devices that hold them."""
    marked = [False] * num_lanes
    for lane in lanes:
        marked[lane] = True
    return put_mask(tuple(marked), mesh)


# The same few come again and again, each put a good part of the host's work of a chunk.
@functools.lru_cache(maxsize=128)
def put_mask(marked: tuple[bool, ...], mesh: Mesh) -> jax.Array:
    """The same, of a flag a lane. It is never given away (donated)."""
    return put(np.array(marked), mesh)

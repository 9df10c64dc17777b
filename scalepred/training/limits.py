"""What a plan asks of the devices, said before anything is trained."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.training import ensemble, packing


class Need(NamedTuple):
    """Of one pack."""

    pack: packing.Pack
    num_params: int  # of its widest model
    flops: float  # of all its runs; NaN where the compiler does not count
    lane_bytes: int  # of one lane: its state and a gradient
    device_bytes: int  # at least: the data, the lanes, and one gradient a lane at work


def estimate_needs(plan: packing.Plan, dataset: Dataset) -> list[Need]:
    """What each pack needs at least; nothing is compiled."""
    data_bytes = _count_data_bytes(plan, dataset)
    needs = []
    for pack in plan.packs:
        models, state = ensemble.shapes_of(pack, dataset)
        gradient_bytes = _count_bytes(state.params)
        state_bytes = _count_bytes(state)
        lanes = pack.lanes // pack.num_devices
        at_work = lanes if pack.lane_axis == "vmap" else 1
        forward = {
            width: model.count_forward_flops(dataset.input_spec)
            for width, model in models.items()
        }
        needs.append(
            Need(
                pack=pack,
                num_params=models[pack.key.width].num_params_total,
                flops=sum(
                    3 * forward[cell.width] * cell.steps * cell.batch_size
                    for cell in pack.queue
                ),
                lane_bytes=state_bytes + gradient_bytes,
                device_bytes=data_bytes
                + lanes * state_bytes
                + at_work * gradient_bytes,
            )
        )
    return needs


def check_fits(
    plan: packing.Plan, dataset: Dataset, devices: Sequence[Any] | None = None
) -> None:
    """Refuses cells of which not even one fits beside the data.

    Fewer lanes are tried where only their number is too much.

    Raises:
        UserError: names the largest such cell and its bytes.
    """
    device = (devices or jax.local_devices())[0]
    room = count_device_bytes(device)
    data_bytes = _count_data_bytes(plan, dataset)
    for pack in plan.packs:
        _, state = ensemble.shapes_of(pack, dataset)
        needed = data_bytes + _count_bytes(state) + _count_bytes(state.params)
        if needed > room:
            cell = pack.queue[0]
            raise UserError(
                f"grid.widths={cell.width}, grid.depths={cell.depth}: one run needs at "
                f"least {show_bytes(needed)}, {data_bytes:,} bytes of them data, and "
                f"{device.device_kind} has {show_bytes(room)}; leave that size out, or "
                "take a larger device"
            )


def count_device_bytes(device: Any) -> float:
    """Memory of a device; of a CPU its share of the machine's, infinite if unknown."""
    stats: Mapping[str, int] = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    if device.platform != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return machine / jax.local_device_count()


def show_bytes(count: float) -> str:
    """12.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.0f} PB"


def _count_data_bytes(plan: packing.Plan, dataset: Dataset) -> int:
    """The dataset lies on every device, with an order of the examples a seed."""
    seeds = {cell.seed for pack in plan.packs for cell in pack.queue}
    order = 4 * len(seeds) * len(dataset.inputs)
    return dataset.inputs.nbytes + dataset.labels.nbytes + order


def _count_bytes(tree: Any) -> int:
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )

"""A plan compiled for machines that are not here: whether it does, and what it takes.

XLA compiles for TPUs and GPUs without one, given its plugin (`pip install libtpu`, or
`jax-cuda12-plugin`). What it finds is what it would find there: programs that it
cannot compile, and the memory they need.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.training.device_data import widen
from scalepred.training.engine import (
    Engine,
    compile_pack,
    does_not_fit,
    is_out_of_memory,
)
from scalepred.training.lane import LaneData
from scalepred.training.plan import Pack, halve_lanes

# Bytes of memory of a device, from data sheets.
_MEMORY = {
    "TPU v4": 32e9,
    "TPU v5 lite": 16e9,
    "TPU v5": 95e9,
    "TPU v6 lite": 32e9,
}
# Without these libtpu asks the network which TPU it runs on, and waits for an answer.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing runs, so several may compile
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


class Machines(NamedTuple):
    """Devices that need not be here."""

    devices: Sequence[Any]
    memory_bytes: float  # of each


class Compiled(NamedTuple):
    """A program as it would run."""

    pack: Pack  # with fewer lanes than planned where they do not fit
    device_bytes: int  # data included
    compile_seconds: float  # here


def find_machines(topology: str) -> Machines:
    """Devices to compile for; call it before anything asks for those that are here.

    Args:
        topology: a TPU slice as libtpu names it (v5e:2x4); or a file that describes a
            GPU, as XLA keeps them (h100_sxm.txtpb), and how many (h100_sxm.txtpb:8).

    Raises:
        UserError: there is no such machine, or no plugin that compiles for it.
    """
    jax.config.update("jax_platforms", "cpu")  # nothing runs; a TPU here stays free
    name, _, count = topology.partition(":")
    is_gpu = name.endswith(".txtpb")
    try:
        if is_gpu:
            config = pathlib.Path(name).read_text()
            found = topologies.get_topology_desc(
                "gpu", "cuda", target_config=config, topology=f"1x1x{int(count or 1)}"
            )
            size = re.search(r"device_memory_size: *(\d+)", config)
            memory = float(size[1]) if size else np.inf
        else:
            for variable, value in _NO_TPU.items():
                os.environ.setdefault(variable, value)
            found = topologies.get_topology_desc(topology, "tpu")
            memory = _MEMORY.get(found.devices[0].device_kind, np.inf)
    except (OSError, ValueError, NotImplementedError, RuntimeError) as error:
        plugin = "jax-cuda12-plugin" if is_gpu else "libtpu"
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"--topology={topology}: {reason}; give a TPU slice "
            "such as v5e:2x4, or a file that describes a GPU and their number such as "
            f"h100_sxm.txtpb:8, and have {plugin} installed"
        ) from None
    return Machines(found.devices, memory)


def compile_to_fit(
    pack: Pack, dataset: Dataset, num_seeds: int, machines: Machines
) -> Compiled:
    """Compiles a pack's programs, with fewer lanes where they do not fit.

    Args:
        pack: as planned for these machines.
        dataset: what it is trained on; an outline will do.
        num_seeds: of the whole plan.
        machines: what to compile for.

    Raises:
        UserError: not even one lane a device fits.
    """
    wanted: Pack | None = pack
    while wanted is not None:
        try:
            engine = compile_for(wanted, dataset, num_seeds, machines)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            needed = engine.count_bytes() or 0
            if needed <= machines.memory_bytes:
                return Compiled(wanted, needed, engine.compile_seconds)
        wanted = halve_lanes(wanted, ())
    raise does_not_fit(pack, machines.devices[0].device_kind)


def compile_for(
    pack: Pack, dataset: Dataset, num_seeds: int, machines: Machines
) -> Engine:
    """The pack's programs, which cannot be run here; arguments of `compile_to_fit`."""
    size = len(dataset.labels)
    inputs, labels = (
        jax.ShapeDtypeStruct(array.shape, widen(np.empty(0, array.dtype)).dtype)
        for array in (dataset.inputs, dataset.labels)
    )
    data = LaneData(inputs, labels, jax.ShapeDtypeStruct((num_seeds, size), np.int32))
    if pack.stream_rows:
        data = data._replace(inputs=None, labels=None)
    with _without_cache():
        return compile_pack(pack, dataset, data, machines.devices)


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """Programs for machines that are not here can be written to it, but not read."""
    name = "jax_enable_compilation_cache"
    before = jax.config.values[name]
    jax.config.update(name, False)
    compilation_cache.reset_cache()  # jax looks at the flag once
    try:
        yield
    finally:
        jax.config.update(name, before)
        compilation_cache.reset_cache()

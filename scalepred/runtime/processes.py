"""Several processes of one job, each with devices of its own; mostly there is one.

All run the same plan and send the same programs in the same order. What could differ
between them, the clock, a signal, a file, is agreed on here.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from scalepred.config import UserError

T = TypeVar("T")

# Of fields in which processes differ, so many are named.
_MOST_NAMED = 5
# A process that says nothing for so long is dead, and its job with it.
_HEARTBEAT_SECONDS = 20
_SHUTDOWN_SECONDS = 30
# Hosts of a pod do not start at the same moment.
_START_SECONDS = 120
# What the first process does alone, such as a fit, surely takes less.
_WORK_SECONDS = 3600


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the job's processes; call it before anything asks for devices.

    Args:
        coordinator: host:port of process 0; None: as JAX finds it, on a TPU pod, under
            Slurm and Open MPI, or in JAX_COORDINATOR_ADDRESS.
        num_processes: of the job; None: as JAX finds it.
        process_id: of this one, from 0; None: as JAX finds it.

    Raises:
        UserError: the others cannot be found.
    """
    # SIGTERM is ours: it must also end what is not training.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed: this process cannot join the others ({error}); give "
            "--coordinator=HOST:PORT, --num_processes and --process_id"
        ) from None


def is_slurm_step() -> bool:
    """Whether srun started several tasks, of which this is one."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def part() -> None:
    """Leaves the others, when all have come so far; who is left alone then ends."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def wait_for_first(what: str) -> None:
    """Waits until the first process has come here, too; the others have no work.

    Not a collective of the devices, which give up on each other within a minute or so.

    Args:
        what: a name that is waited for once.
    """
    if jax.process_count() > 1:
        multihost.get_barrier_sync_fn()(key=what, timeout_ms=1000 * _WORK_SECONDS)


def is_first() -> bool:
    """Whether this process writes tables and reports, and speaks."""
    return jax.process_index() == 0


def same_everywhere(array: np.ndarray) -> np.ndarray:
    """What the first process has."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def all_agree(yes: bool) -> bool:
    """Whether every process says so."""
    if jax.process_count() == 1:
        return yes
    return bool(np.all(multihost_utils.process_allgather(np.array(yes))))


def agree(describe: Callable[[], Mapping[str, Any]]) -> None:
    """Whether all processes are here for the same; all of them call it.

    Args:
        describe: what must be the same, by its name, that JSON can hold; all else
            counts as its text. It is asked only where there are several processes.

    Raises:
        UserError: they differ; names in what, the same in every process.
    """
    if not jax.distributed.is_initialized():
        return
    first, *others = _gather_text(json.dumps(describe(), default=str))
    told = json.loads(first)
    different = [
        (name, told.get(name), other.get(name), process)
        for process, other in enumerate(map(json.loads, others), start=1)
        for name in dict.fromkeys([*told, *other])
        if told.get(name) != other.get(name)
    ]
    if not different:
        return
    named: dict[str, str] = {}
    for name, here, there, process in different:
        values = f"{name} is {here!r} in process 0 and {there!r} in process {process}"
        named.setdefault(name, values)
    shown = [*named.values()][:_MOST_NAMED]
    if len(named) > len(shown):
        shown.append(f"{len(named) - len(shown)} more")
    raise UserError(
        f"--distributed: the processes of this job differ: {'; '.join(shown)}; start "
        "all of them with the same config, code and data"
    )


def together(work: Callable[[], T]) -> T:
    """What `work` gives, once every process has done its own; all of them call it.

    Raises:
        UserError: of this process, or else the first one's of the others that had one.
    """
    mistake, found = None, None
    try:
        found = work()
    except UserError as error:
        mistake = error
    said = _gather_text(str(mistake or ""))
    if mistake:
        raise mistake
    for process, sentence in enumerate(said):
        if sentence:
            raise UserError(f"process {process} of this job: {sentence}")
    return found  # pyright: ignore[reportReturnType]


def _gather_text(text: str) -> list[str]:
    """What every process says, in their order."""
    # Asked first, as the count of processes starts JAX's devices.
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(own), np.int32))
    padded = np.zeros(int(np.max(lengths)) + 1, np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded), np.uint8)
    return [
        row[:length].tobytes().decode()
        for row, length in zip(rows, np.ravel(lengths).tolist(), strict=True)
    ]


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that every process has, on the devices; each puts its own part."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda array: jax.make_array_from_callback(
            array.shape, sharding, lambda index: array[index]
        ),
        tree,
    )


def gather(tree: Any, mesh: Mesh) -> Any:
    """Lanes of all processes for all processes, when the devices get there."""
    if jax.process_count() == 1:
        return tree
    return _copy_everywhere(tree, NamedSharding(mesh, PartitionSpec()))


def _copy_everywhere(tree: Any, sharding: NamedSharding) -> Any:
    return jax.jit(_identity, out_shardings=sharding)(tree)


def _identity(tree: Any) -> Any:
    return tree

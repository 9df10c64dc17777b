"""All packs of a plan, one after the other: what a study calls to train its cells."""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from scalepred.config import Experiment
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.models.model import build_for, is_builtin
from scalepred.runtime import preemption
from scalepred.training import autotune as tuning
from scalepred.training import cost, packing
from scalepred.training.checkpoint import Checkpoints
from scalepred.training.device_data import place_data, put_data
from scalepred.training.engine import Compiler, does_not_fit, is_out_of_memory
from scalepred.training.hopeless import Judge
from scalepred.training.padding import check_padding
from scalepred.training.plan import Pack, Plan, halve_lanes
from scalepred.training.run import PackRun, Progress, Totals
from scalepred.training.trials import time_packs

_UNLIMITED = 1 << 62  # bytes


def plan_cells(
    experiment: Experiment,
    dataset: Dataset,
    cells: Sequence[Cell],
    *,
    done: Collection[str] = frozenset(),
    devices: Sequence[Any] | None = None,
    memory_bytes: float | None = None,
) -> Plan:
    """The plan for these devices.

    Args:
        experiment: gives the user's wishes.
        dataset: what the cells name.
        cells: all cells of the study, also those that have a row: lanes are chosen
            from all, so that a resumed study repeats the same programs.
        done: ids of cells that have a row.
        devices: default: all.
        memory_bytes: of each, for devices that are not here.

    Raises:
        UserError: a cell does not fit, the optimiser cannot be made, or a family of
            one's own cannot be padded though it says so.
    """
    devices = list(devices or jax.devices())
    machine = cost.describe_machine(devices[0], memory_bytes)
    if dataset.is_outline and memory_bytes is None:
        # The plan is for the machine that has the data, whose memory nobody knows.
        machine = dataclasses.replace(machine, memory_bytes=_UNLIMITED)
    else:
        machine = place_data(machine, dataset, experiment.packing.stream)
    plan = packing.plan_packs(
        cells,
        experiment.packing,
        len(devices),
        experiment.packing.lane_axis,
        done,
        cost_of=cost.ProgramCosts(
            dataset, experiment.packing.convolution, devices[0].platform
        ),
        machine=machine,
    )
    for pack in plan.packs:
        family, depth = pack.key.family, pack.key.depth
        if is_builtin(family):
            continue
        *narrow, wide = (
            build_for(dataset, family, width, depth) for width in pack.widths
        )
        for model in narrow:
            _check_claim(family, model, wide, dataset.input_spec)
    return plan


# A family of one's own that says it may be padded is not taken at its word; once, as a
# study is planned more than once.
_check_claim = functools.lru_cache(maxsize=256)(check_padding)


def train(
    plan: Plan,
    dataset: Dataset,
    *,
    devices: Sequence[Any] | None = None,
    checkpoint_dir: epath.PathLike | None = None,
    checkpoint_minutes: float = 0.0,
    autotune: bool = False,
    choices_dir: epath.PathLike | None = None,
    save: Callable[[Cell], bool] = lambda cell: False,
    judge: Judge | None = None,
) -> Generator[Progress, None, None]:
    """Trains every cell of the plan.

    Args:
        plan: from `plan_cells`, for as many devices.
        dataset: what the cells name.
        devices: default: all.
        checkpoint_dir: where unfinished runs are kept, and looked for; absolute.
        checkpoint_minutes: between two checkpoints; 0: none are written or read.
        autotune: times the plan's choices first, where that pays.
        choices_dir: where they are kept beside this machine's cache, so that a study
            goes on elsewhere as it began.
        save: whether the final weights of a cell are wanted; they come with the
            progress.
        judge: which cells are to be stopped on the way; None: none.

    Yields:
        Progress after each chunk in which a cell finished.
    """
    devices = list(devices or jax.devices())
    if len(devices) != plan.num_devices:
        raise ValueError(f"{len(devices)} devices, but planned for {plan.num_devices}")
    if not plan.packs:
        return
    data, order_of_seed = put_data(plan, dataset, devices)
    totals = Totals(num_cells=plan.num_cells)
    checkpoints = None
    if checkpoint_dir is not None and checkpoint_minutes > 0:
        checkpoints = Checkpoints(checkpoint_dir, checkpoint_minutes)

    with contextlib.ExitStack() as at_end:
        if jax.process_count() > 1:  # they stop together, after a chunk
            at_end.enter_context(preemption.deferred())
        if checkpoints:
            at_end.callback(checkpoints.close)
        compiler = Compiler(dataset, data, devices)
        at_end.callback(compiler.close)
        # Several processes would have to agree on what is fastest; streamed data take
        # their time to be read, whatever is chosen.
        if autotune and jax.process_count() == 1 and not plan.is_streamed:
            plan = _tune(plan, compiler, order_of_seed, choices_dir)
        compiler.start(plan.packs)
        for pack in plan.packs:
            yield from _train_pack_that_fits(
                pack, compiler, order_of_seed, totals, checkpoints, save, judge
            )
    if checkpoints:
        checkpoints.remove()


def _tune(
    plan: Plan,
    compiler: Compiler,
    order_of_seed: Mapping[int, int],
    choices_dir: epath.PathLike | None,
) -> Plan:
    """The plan with the fastest choice of each program."""
    folders = (choices_dir, tuning.cache_folder())
    return tuning.tune(
        plan,
        lambda packs: time_packs(packs, compiler, order_of_seed),
        f"{compiler.device_kind}-x{plan.num_devices}",
        [epath.Path(path) for path in folders if path],
    )


def _train_pack_that_fits(
    pack: Pack,
    compiler: Compiler,
    order_of_seed: Mapping[int, int],
    totals: Totals,
    checkpoints: Checkpoints | None,
    save: Callable[[Cell], bool],
    judge: Judge | None,
) -> Iterator[Progress]:
    """Runs the pack, with fewer lanes where memory runs out.

    Raises:
        UserError: not even one lane a device fits.
    """
    done: set[str] = set()
    while True:
        began = time.perf_counter()
        try:
            (compiling,) = compiler.start([pack])
            engine = compiling.result()
            totals.wait_seconds += time.perf_counter() - began
            totals.compile_seconds += engine.compile_seconds
            totals.num_programs += 1
            # Within, SIGTERM ends the run after the chunk in progress, with a
            # checkpoint.
            with preemption.deferred():
                run = PackRun(
                    pack, engine, order_of_seed, totals, checkpoints, save, judge
                )
                for progress in run.train():
                    done |= {row.cell_id for row in progress.rows}
                    yield progress
            return
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = halve_lanes(pack, done)
            if smaller is None or jax.process_count() > 1:
                raise does_not_fit(pack, compiler.device_kind) from error
            print(
                f"warning: {pack.describe()}: out of memory with {pack.lanes} lanes, "
                f"trying {smaller.lanes}",
                file=sys.stderr,
            )
            pack = smaller

"""Many lanes at once: the only file with a lane axis, devices and their sharding.

One compiled function per program does all: it starts the lanes that are fresh, steps
every lane that is not done, and evaluates those that got done. Lanes are refilled
without recompiling and no state ever travels to the host. The course of a pack is
known beforehand, so the next chunk is dispatched before the last one is read and the
devices never wait.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import enum
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scalepred import processes, stopping
from scalepred.config import Experiment, UserError
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell, ProgramKey
from scalepred.measurements import Measurement
from scalepred.models.convolution import traced_as
from scalepred.models.model import Model, build_model
from scalepred.stopping import Stopped
from scalepred.training import autotune as tuning
from scalepred.training import cost, packing
from scalepred.training import lane as lane_lib
from scalepred.training.checkpoint import Checkpoints, Held
from scalepred.training.lane import LaneArgs, LaneData, LaneState, Program, Scores

_LANES = PartitionSpec("lane")
_EVERYWHERE = PartitionSpec()

# LLVM's second and third round take a quarter of the time to compile and make a step
# of little arithmetic no faster, of much a tenth. Only the CPU has the option.
_QUICKLY: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}
_SMALL_STEP_FLOPS = 1e7

# Of one round of the autotuner; a shorter one measures the clock.
_TRIAL_SECONDS = 0.2

# What a step costs beside its arithmetic, in FLOPs of a CPU core: about ten
# microseconds of starting small kernels.
_STEP_OVERHEAD_FLOPS = 1e6

# A machine that is taken away gives half a minute, in which two chunks may have to end
# and a checkpoint be written.
_LONGEST_CHUNK_SECONDS = 8.0
_LONGEST_TRIAL_SECONDS = 0.5
# Of one device, for the first chunk.
_SLOWEST_FLOPS = 1e9

_UNLIMITED = 1 << 62  # bytes

# Programs traced since the process began, by name; tests see recompiles here.
traces: collections.Counter[str] = collections.Counter()


@dataclasses.dataclass(frozen=True)
class Progress:
    """News of a training run: rows that are new, and totals so far.

    Attributes:
        rows: cells that finished since the last news.
        num_done: cells finished by this call of `train`.
        num_cells: cells this call was asked for.
        live_lane_steps: optimiser steps that trained a cell.
        lane_steps: those and the steps of idle lanes.
        compile_seconds: spent on compiling; programs compile side by side, so the
            sum may exceed the time that passed.
        num_programs: programs compiled.
        program: what is being trained.
    """

    rows: list[Measurement]
    num_done: int
    num_cells: int
    live_lane_steps: int
    lane_steps: int
    compile_seconds: float
    num_programs: int
    program: str

    @property
    def lane_utilization(self) -> float:
        """Share of lane-steps that trained a cell."""
        return self.live_lane_steps / self.lane_steps if self.lane_steps else 1.0


def use_all_cores() -> None:
    """Makes every core of a CPU a device; call it before anything asks for devices.

    A step of a small model keeps one core busy at most. Without effect where
    XLA_FLAGS or JAX_NUM_CPU_DEVICES already say, and on other backends.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    jax.config.update("jax_num_cpu_devices", num_cores())


def num_cores() -> int:
    """Cores this process may use; macOS cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plan_cells(
    experiment: Experiment,
    dataset: Dataset,
    cells: Sequence[Cell],
    *,
    done: Collection[str] = frozenset(),
    devices: Sequence[Any] | None = None,
) -> packing.Plan:
    """The plan for these devices.

    Args:
        experiment: gives the user's wishes.
        dataset: what the cells name.
        cells: all cells of the study, also those that have a row: lanes are chosen
            from all, so that a resumed study repeats the same programs.
        done: ids of cells that have a row.
        devices: default: all.
    """
    devices = list(devices or jax.devices())
    return packing.plan_packs(
        cells,
        experiment.packing,
        len(devices),
        experiment.packing.lane_axis,
        done,
        cost_of=cost.ProgramCosts(dataset),
        machine=_describe_machine(devices[0], dataset),
    )


def _describe_machine(device: Any, dataset: Dataset) -> cost.Machine:
    """The device, less the dataset that stands on it.

    Where the data are absent the plan is for another machine, of unknown memory.
    """
    machine = cost.describe_machine(device)
    if dataset.is_outline:
        return dataclasses.replace(machine, memory_bytes=_UNLIMITED)
    taken = dataset.inputs.nbytes + dataset.labels.nbytes
    return dataclasses.replace(machine, memory_bytes=machine.memory_bytes - taken)


def estimate_work(plan: packing.Plan, dataset: Dataset) -> dict[str, float]:
    """Relative time of each planned cell, by id; for the time left, nothing else."""
    cells = [cell for pack in plan.packs for cell in pack.queue]
    keys = {cell.program_key for cell in cells}
    num_params = {k: _build(k, k.width, dataset).num_params_total for k in keys}
    return {
        cell.cell_id: cell.steps
        * (6.0 * num_params[cell.program_key] * cell.batch_size + _STEP_OVERHEAD_FLOPS)
        for cell in cells
    }


def count_params(pack: packing.Pack, dataset: Dataset) -> int:
    """Of the pack's widest model, embeddings included."""
    return _build(pack.key, pack.widths[-1], dataset).num_params_total


class Trial(NamedTuple):
    """A program tried on the devices."""

    device_bytes: int | None  # of one call, as compiled; None where nobody says
    seconds_per_step: float  # of all lanes
    compile_seconds: float


def try_pack(
    pack: packing.Pack, dataset: Dataset, devices: Sequence[Any] | None = None
) -> Trial:
    """Compiles a pack's program and takes some steps; nothing is kept of them."""
    devices = list(devices or jax.devices())
    mesh = Mesh(np.array(devices), ("lane",))
    data, order = _put_data(packing.Plan((pack,), len(devices)), dataset, mesh)
    engine = _compile(pack, dataset, data, mesh)
    cells = [pack.queue[lane % len(pack.queue)] for lane in range(pack.lanes)]
    args = [
        lane_lib.lane_args(cell, pack.widths.index(cell.width), order[cell.seed])
        for cell in cells
    ]
    placed = _put_lanes(jax.tree.map(lambda *leaves: np.stack(leaves), *args), mesh)
    state, seconds, num_steps = engine.start(), 0.0, 1
    most = max(1, min(cell.steps for cell in cells) // 4)
    fresh = np.ones(pack.lanes, bool)
    for num_steps in (1, min(4, most), most):  # the first one warms up
        began = time.perf_counter()
        news = engine.run_chunk(
            state, placed, _put_lanes(fresh, mesh), np.int32(num_steps), data
        )
        state, _ = jax.block_until_ready(news)
        seconds = time.perf_counter() - began
        fresh = np.zeros(pack.lanes, bool)
        if seconds > _LONGEST_TRIAL_SECONDS:
            break
    memory = engine.run_chunk.memory_analysis()
    device_bytes = None
    if memory is not None:
        device_bytes = (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
    return Trial(device_bytes, seconds / num_steps, engine.compile_seconds)


def _build(key: ProgramKey, width: int, dataset: Dataset) -> Model:
    shape, classes = dataset.input_shape, dataset.num_classes
    return build_model(key.family, width, key.depth, shape, classes)


def train(
    plan: packing.Plan,
    dataset: Dataset,
    *,
    devices: Sequence[Any] | None = None,
    checkpoint_dir: epath.PathLike | None = None,
    checkpoint_minutes: float = 0.0,
    autotune: bool = False,
    choices_dir: epath.PathLike | None = None,
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

    Yields:
        Progress after each chunk in which a cell finished.
    """
    devices = list(devices or jax.devices())
    if len(devices) != plan.num_devices:
        raise ValueError(f"{len(devices)} devices, but planned for {plan.num_devices}")
    if not plan.packs:
        return
    mesh = Mesh(np.array(devices), ("lane",))
    data, order_of_seed = _put_data(plan, dataset, mesh)
    if autotune and jax.process_count() == 1:  # several would have to agree
        plan = tuning.tune(
            plan,
            lambda packs: _time_packs(packs, dataset, data, order_of_seed, mesh),
            f"{devices[0].device_kind}-x{len(devices)}",
            [epath.Path(path) for path in (choices_dir, tuning.cache_folder()) if path],
        )
    totals = _Totals(num_cells=plan.num_cells)
    checkpoints = None
    if checkpoint_dir is not None and checkpoint_minutes > 0:
        checkpoints = Checkpoints(checkpoint_dir, checkpoint_minutes)

    with contextlib.ExitStack() as at_end:
        if jax.process_count() > 1:  # they stop together, after a chunk
            at_end.enter_context(stopping.deferred())
        if checkpoints:
            at_end.callback(checkpoints.close)
        # Compiling leaves a core idle and trains nothing: all programs at once.
        pool = concurrent.futures.ThreadPoolExecutor(num_cores())
        at_end.callback(pool.shutdown, wait=False, cancel_futures=True)
        compiling = [
            pool.submit(_compile, pack, dataset, data, mesh) for pack in plan.packs
        ]
        for pack, future in zip(plan.packs, compiling, strict=True):
            yield from _train_pack_that_fits(
                pack, future, dataset, data, order_of_seed, mesh, totals, checkpoints
            )
    if checkpoints:
        checkpoints.remove()


def _time_packs(
    packs: Sequence[packing.Pack],
    dataset: Dataset,
    data: LaneData,
    order_of_seed: Mapping[int, int],
    mesh: Mesh,
) -> list[float]:
    """Seconds of a lane-step of each pack: the least of three rounds, in turn.

    A pack that is out of memory, or takes twice as long as the best, is left out of
    the rounds.
    """
    trials = [_start_trial(pack, dataset, data, order_of_seed, mesh) for pack in packs]
    seconds = [math.inf if trial is None else trial() for trial in trials]
    for _ in range(2):
        for index, trial in enumerate(trials):
            if trial is not None and seconds[index] <= 2 * min(seconds):
                seconds[index] = min(seconds[index], trial())
    return seconds


def _start_trial(
    pack: packing.Pack,
    dataset: Dataset,
    data: LaneData,
    order_of_seed: Mapping[int, int],
    mesh: Mesh,
) -> Callable[[], float] | None:
    """A function that trains the pack's first cells; gives seconds a lane-step."""
    cells = [pack.queue[lane % len(pack.queue)] for lane in range(pack.lanes)]
    args = [
        lane_lib.lane_args(
            cell, pack.widths.index(cell.width), order_of_seed[cell.seed]
        )._replace(steps=np.int32(2**30))
        for cell in cells
    ]
    stacked = _put_lanes(jax.tree.map(lambda *leaves: np.stack(leaves), *args), mesh)

    def run(state: LaneState, num_steps: int, is_fresh: bool) -> LaneState:
        fresh = _put_lanes(np.full(pack.lanes, is_fresh), mesh)
        steps = np.int32(num_steps)
        state, _ = engine.run_chunk(state, stacked, fresh, steps, data)
        return jax.block_until_ready(state)

    try:
        engine = _compile(pack, dataset, data, mesh)
        state = run(engine.start(), 1, True)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        return None
    num_steps = 1

    def trial() -> float:
        nonlocal state, num_steps
        while True:
            began = time.perf_counter()
            state = run(state, num_steps, False)
            passed = time.perf_counter() - began
            if passed >= _TRIAL_SECONDS:
                return passed / (num_steps * pack.lanes)
            num_steps *= 2

    return trial


@dataclasses.dataclass
class _Totals:
    """The numbers of `Progress` as they grow."""

    num_cells: int
    num_done: int = 0
    live_lane_steps: int = 0
    lane_steps: int = 0
    compile_seconds: float = 0.0
    num_programs: int = 0

    def report(self, rows: list[Measurement], program: str) -> Progress:
        return Progress(rows=rows, program=program, **dataclasses.asdict(self))


class _Engine(NamedTuple):
    """A compiled program and what its rows say of it."""

    start: Callable[[], LaneState]  # lanes that are all idle
    shapes: LaneState  # of these, with sharding
    run_chunk: Any  # compiled; LaneState, ... -> LaneState, Scores
    data_unit: str
    units_per_example: int
    models: Mapping[int, Model]  # by true width
    forward_flops: Mapping[int, float]  # of one example, by true width
    compile_seconds: float


def _train_pack_that_fits(
    pack: packing.Pack,
    compiling: concurrent.futures.Future[_Engine],
    dataset: Dataset,
    data: LaneData,
    order_of_seed: Mapping[int, int],
    mesh: Mesh,
    totals: _Totals,
    checkpoints: Checkpoints | None,
) -> Iterator[Progress]:
    """Runs the pack, with fewer lanes where memory runs out.

    Raises:
        UserError: not even one lane a device fits.
    """
    done: set[str] = set()
    wanted = pack
    while True:
        try:
            if pack is wanted:
                engine = compiling.result()
            else:
                engine = _compile(pack, dataset, data, mesh)
            totals.compile_seconds += engine.compile_seconds
            totals.num_programs += 1
            # It stops after the chunk, with a checkpoint.
            with stopping.deferred():
                for progress in _train_pack(
                    pack, engine, data, order_of_seed, mesh, totals, checkpoints
                ):
                    done |= {row.cell_id for row in progress.rows}
                    yield progress
            return
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            smaller = packing.halve_lanes(pack, done)
            if smaller is None or jax.process_count() > 1:
                raise _does_not_fit(pack, mesh) from error
            print(
                f"warning: {pack.describe()}: out of memory with {pack.lanes} lanes, "
                f"trying {smaller.lanes}",
                file=sys.stderr,
            )
            pack = smaller


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _does_not_fit(pack: packing.Pack, mesh: Mesh) -> UserError:
    device = mesh.devices.flat[0].device_kind
    return UserError(
        f"{pack.describe()}: does not fit into the memory of {device}; choose fewer "
        "packing.lanes, a smaller training.batch_size, or leave out "
        f"grid.widths={pack.key.width}; finished runs are kept"
    )


def _train_pack(
    pack: packing.Pack,
    engine: _Engine,
    data: LaneData,
    order_of_seed: Mapping[int, int],
    mesh: Mesh,
    totals: _Totals,
    checkpoints: Checkpoints | None,
) -> Iterator[Progress]:
    """Runs the pack's chunks, one dispatched ahead of the one that is read."""
    args_of = {
        cell: lane_lib.lane_args(
            cell, pack.widths.index(cell.width), order_of_seed[cell.seed]
        )
        for cell in pack.queue
    }
    state = engine.start()
    begun = checkpoints.restore(pack, engine.shapes) if checkpoints else []
    waiting = {run.cell: run for run in begun}
    seconds: dict[Cell, float] = collections.defaultdict(float)
    seconds.update((run.cell, run.seconds) for run in begun)
    agreed = _Notice.NONE
    last_read = time.perf_counter()
    in_flight: collections.deque[tuple[packing.Chunk, tuple[Scores, jax.Array]]]
    in_flight = collections.deque()

    def read() -> Progress | None:
        nonlocal last_read, agreed
        chunk, news = in_flight.popleft()
        scores, notices = jax.device_get(news)  # waits for the chunk
        agreed |= pace.heed(_Notice(int(np.bitwise_or.reduce(notices))))
        now = time.perf_counter()
        steps = chunk.num_steps_of_lanes
        for cell, num_steps in zip(chunk.cells, steps, strict=True):
            if cell is not None:
                seconds[cell] += (now - last_read) * num_steps / sum(steps)
        pace.measure(chunk.num_steps, now - last_read)
        last_read = now
        totals.live_lane_steps += sum(steps)
        totals.lane_steps += pack.count_lane_steps(steps)
        totals.num_done += len(chunk.finished)
        if not chunk.finished:
            return None
        rows = [
            _make_row(
                cell,
                pack,
                engine,
                Scores(*(value[lane] for value in scores)),
                seconds.pop(cell),
                mesh,
            )
            for lane, cell in chunk.finished
        ]
        return totals.report(rows, str(pack.key))

    pace = _Pace(pack, engine)
    course = packing.make_chunks(
        pack, {run.cell: run.steps for run in begun}, lambda: pace.steps
    )
    for chunk in course:
        saved = {
            lane: waiting.pop(cell).state
            for lane, cell in enumerate(chunk.cells)
            if cell is not None and chunk.resumed[lane]
        }
        if saved:
            state = _put_back(state, saved, mesh)
        args = [
            lane_lib.idle_args() if cell is None else args_of[cell]
            for cell in chunk.cells
        ]
        notice = _notice(checkpoints) | pace.wish
        state, scores = engine.run_chunk(
            state,
            _put_lanes(jax.tree.map(lambda *leaves: np.stack(leaves), *args), mesh),
            _put_lanes(np.array(chunk.fresh), mesh),
            np.int32(chunk.num_steps),
            data,
        )
        notices = _put_lanes(np.full(pack.lanes, notice, np.int32), mesh)
        in_flight.append((chunk, processes.gather((scores, notices), mesh)))
        if jax.process_count() == 1:  # nobody to agree with
            agreed |= notice & ~_PACE
        while len(in_flight) > 1:
            if progress := read():
                yield progress
        if not agreed:
            continue
        # Before a checkpoint every row must be written, or it would be lost.
        while in_flight:
            if progress := read():
                yield progress
        if checkpoints:
            held = _unfinished(chunk, seconds)
            checkpoints.save(pack, state, held, list(waiting.values()))
        if _Notice.STOP in agreed:
            if checkpoints:
                checkpoints.finish()
            raise Stopped
        agreed = _Notice.NONE
    while in_flight:
        if progress := read():
            yield progress
    if checkpoints:
        checkpoints.clear(pack)


class _Notice(enum.IntFlag):
    """What a process wants all to do after the chunk."""

    NONE = 0
    SAVE = 1
    STOP = 2
    SHORTER = 4
    LONGER = 8


_PACE = _Notice.SHORTER | _Notice.LONGER


class _Pace:
    """Steps a chunk, so that SIGTERM and checkpoints never wait long for its end.

    Short at first where a step may be slow; all processes double and halve together.
    """

    def __init__(self, pack: packing.Pack, engine: _Engine):
        per_device = pack.lanes // pack.num_devices
        forward = max(engine.forward_flops.values()) * pack.key.batch_size
        step = per_device * (3 * forward + _STEP_OVERHEAD_FLOPS)
        self._longest = pack.max_chunk_steps
        self.steps = max(1.0, _LONGEST_CHUNK_SECONDS * _SLOWEST_FLOPS / step)
        self.wish = _Notice.NONE

    def measure(self, num_steps: int, seconds: float) -> None:
        """Takes note of a chunk that was read; what to wish for follows."""
        self.wish = _Notice.NONE
        if not processes.is_first():  # one clock must do
            return
        if seconds > _LONGEST_CHUNK_SECONDS and num_steps > 1:
            self.wish = _Notice.SHORTER
        elif seconds < _LONGEST_CHUNK_SECONDS / 4 and self.steps < self._longest:
            self.wish = _Notice.LONGER

    def heed(self, notice: _Notice) -> _Notice:
        """Does what was wished for; returns what else there is in the notice."""
        if _Notice.SHORTER in notice:
            self.steps = max(1.0, min(self.steps, self._longest) / 2)
        elif _Notice.LONGER in notice:
            self.steps *= 2
        return notice & ~_PACE


def _notice(checkpoints: Checkpoints | None) -> _Notice:
    notice = _Notice.STOP if stopping.is_requested() else _Notice.NONE
    if checkpoints and processes.is_first() and checkpoints.is_due():
        notice |= _Notice.SAVE
    return notice


def _put_back(state: LaneState, saved: Mapping[int, LaneState], mesh: Mesh) -> Any:
    """Puts runs of a checkpoint into lanes; `saved` has leaves without lane axis."""
    is_saved = np.zeros(state.step.shape, bool)
    is_saved[list(saved)] = True
    shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)

    def fill(leaf: np.ndarray, *rows: np.ndarray) -> np.ndarray:
        leaf[is_saved] = np.stack(rows)
        return leaf

    rows = [saved[lane] for lane in sorted(saved)]
    fresh = _put_lanes(jax.tree.map(fill, shapes, *rows), mesh)
    sharding = NamedSharding(mesh, _LANES)
    return jax.jit(_choose_lanes, out_shardings=sharding)(
        _put_lanes(is_saved, mesh), fresh, state
    )


def _choose_lanes(mask: jax.Array, new: LaneState, old: LaneState) -> LaneState:
    return jax.tree.map(
        lambda a, b: jnp.where(mask.reshape((-1,) + (1,) * (a.ndim - 1)), a, b),
        new,
        old,
    )


def _unfinished(chunk: packing.Chunk, seconds: Mapping[Cell, float]) -> dict[int, Held]:
    lanes = zip(chunk.cells, chunk.steps_done, strict=True)
    return {
        lane: Held(cell, steps, seconds[cell])
        for lane, (cell, steps) in enumerate(lanes)
        if cell is not None and steps < cell.steps
    }


def _compile(
    pack: packing.Pack, dataset: Dataset, data: LaneData, mesh: Mesh
) -> _Engine:
    """Traces and compiles the pack's program, ahead of time and once."""
    began = time.perf_counter()
    key = pack.key
    models = {width: _build(key, width, dataset) for width in pack.widths}
    program = lane_lib.make_program(key, list(models.values()), dataset)
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    lanes_here = pack.lanes // pack.num_devices
    at_once = 1 if is_cpu or pack.lane_axis == "map" else min(8, lanes_here)
    chunk = _make_chunk(program, pack.lane_axis, at_once, pack.describe())
    is_small = pack.step_flops < _SMALL_STEP_FLOPS
    # No lane speaks to another, so there is nothing for check_vma to check.
    sharded_start = jax.shard_map(
        jax.vmap(program.init_lane),
        mesh=mesh,
        in_specs=_LANES,
        out_specs=_LANES,
        check_vma=False,
    )
    sharded_chunk = jax.shard_map(
        chunk,
        mesh=mesh,
        in_specs=(_LANES, _LANES, _LANES, _EVERYWHERE, _EVERYWHERE),
        out_specs=_LANES,
        check_vma=False,
    )
    idle = [lane_lib.idle_args()] * pack.lanes
    args = _put_lanes(jax.tree.map(lambda *leaves: np.stack(leaves), *idle), mesh)
    sharding = NamedSharding(mesh, _LANES)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(sharded_start, args),
    )

    def start() -> LaneState:
        return jax.tree.map(
            lambda leaf: processes.put(np.zeros(leaf.shape, leaf.dtype), sharding),
            shapes,
        )

    with traced_as(pack.convolution):
        lowered = jax.jit(sharded_chunk, donate_argnums=0).lower(
            shapes,
            args,
            _put_lanes(np.zeros(pack.lanes, bool), mesh),
            np.int32(0),
            data,
        )
    run_chunk = lowered.compile(_QUICKLY if is_cpu and is_small else None)
    flops = {
        width: model.count_forward_flops(dataset.input_spec)
        for width, model in models.items()
    }
    seconds = time.perf_counter() - began
    return _Engine(
        start=start,
        shapes=shapes,
        run_chunk=run_chunk,
        data_unit=dataset.unit,
        units_per_example=dataset.units_per_example,
        models=models,
        forward_flops=flops,
        compile_seconds=seconds,
    )


def _make_chunk(
    program: Program, lane_axis: str, at_once: int, name: str
) -> Callable[..., tuple[LaneState, Scores]]:
    """What one device does with its lanes in one call.

    The number of steps is traced: XLA may compile a loop of known length differently,
    and then results would depend on the length of chunks.
    """

    def run_chunk(
        state: LaneState,
        args: LaneArgs,
        fresh: jax.Array,
        num_steps: jax.Array,
        data: LaneData,
    ) -> tuple[LaneState, Scores]:
        traces[name] += 1

        state = _fill_marked(
            fresh, at_once, lambda lane: program.init_lane(_pick(lane, args)), state
        )
        started = state.step
        left = jnp.minimum(jnp.maximum(args.steps - state.step, 0), num_steps)
        if lane_axis == "vmap":
            state = _step_together(program, state, args, left, data)
        else:
            state = _step_in_turn(program, state, args, left, data)
        is_finished = (started < args.steps) & (state.step >= args.steps)
        nothing = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(
                jax.vmap(program.evaluate_lane, (0, 0, None)), state, args, data
            ),
        )
        scores = _fill_marked(
            is_finished,
            at_once,
            lambda lane: program.evaluate_lane(
                _pick(lane, state), _pick(lane, args), data
            ),
            nothing,
        )
        return state, scores

    return run_chunk


def _pick(lane: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[lane], tree)


def _fill_marked(
    mask: jax.Array, at_once: int, function: Callable[[jax.Array], Any], tree: Any
) -> Any:
    """The tree with what the function gives for each marked lane; others cost nothing.

    Args:
        mask: bool [lanes].
        at_once: lanes that the function is called for together.
        function: lane, int32 [] -> tree without the lane axis.
        tree: leaves [lanes, ...].
    """
    marked_first = jnp.argsort(~mask, stable=True)
    count = jnp.sum(mask, dtype=jnp.int32)

    def fill(index: jax.Array, tree: Any) -> Any:
        if at_once == 1:
            lanes = marked_first[index]
            new = function(lanes)
        else:  # the last call repeats the last marked lane
            position = index * at_once + jnp.arange(at_once)
            lanes = marked_first[jnp.minimum(position, count - 1)]
            new = jax.vmap(function)(lanes)
        return jax.tree.map(lambda leaf, part: leaf.at[lanes].set(part), tree, new)

    return jax.lax.fori_loop(0, (count + at_once - 1) // at_once, fill, tree)


def _step_in_turn(
    program: Program, state: LaneState, args: LaneArgs, left: jax.Array, data: LaneData
) -> LaneState:
    """Steps one lane after the other; a lane with no steps left costs nothing."""

    def step_one(lane: jax.Array, state: LaneState) -> LaneState:
        own_args = _pick(lane, args)
        new = jax.lax.fori_loop(
            0,
            left[lane],
            lambda _, state: program.step_lane(state, own_args, data),
            _pick(lane, state),
        )
        # In place: lanes may be many, and the whole would be copied otherwise.
        return jax.tree.map(lambda leaf, part: leaf.at[lane].set(part), state, new)

    return jax.lax.fori_loop(0, len(left), step_one, state)


def _step_together(
    program: Program, state: LaneState, args: LaneArgs, left: jax.Array, data: LaneData
) -> LaneState:
    """Steps all lanes side by side; a lane with no steps left keeps its state."""
    step_lanes = jax.vmap(program.step_lane, (0, 0, None))

    def step(index: jax.Array, state: LaneState) -> LaneState:
        is_live = index < left
        return jax.tree.map(
            lambda new, old: jnp.where(
                is_live.reshape((-1,) + (1,) * (new.ndim - 1)), new, old
            ),
            step_lanes(state, args, data),
            state,
        )

    return jax.lax.fori_loop(0, jnp.max(left), step, state)


def _put_data(
    plan: packing.Plan, dataset: Dataset, mesh: Mesh
) -> tuple[LaneData, dict[int, int]]:
    """The dataset on every device, and the row of each seed's order."""
    seeds = sorted({cell.seed for pack in plan.packs for cell in pack.queue})
    data = LaneData(
        inputs=_widen(dataset.inputs),
        labels=_widen(dataset.labels),
        order=np.stack([dataset.order(seed) for seed in seeds]),
    )
    everywhere = NamedSharding(mesh, _EVERYWHERE)
    order_of_seed = {seed: row for row, seed in enumerate(seeds)}
    return jax.tree.map(
        lambda leaf: processes.put(leaf, everywhere), data
    ), order_of_seed


def _widen(values: np.ndarray) -> np.ndarray:
    """16-bit integers as 32-bit ones, which every compiler can load in vectors.

    LLVM as of jaxlib 0.10 aborts ("Cannot select ... v16i16") where a loop copies
    windows of 16-bit tokens on a CPU without 16-bit broadcasts.
    """
    return values.astype(np.int32) if values.dtype == np.uint16 else values


def _put_lanes(tree: Any, mesh: Mesh) -> Any:
    sharding = NamedSharding(mesh, _LANES)
    return jax.tree.map(lambda leaf: processes.put(leaf, sharding), tree)


def _make_row(
    cell: Cell,
    pack: packing.Pack,
    engine: _Engine,
    scores: Scores,
    seconds: float,
    mesh: Mesh,
) -> Measurement:
    """A finished cell as a row; one that diverged has no value."""
    model = engine.models[cell.width]
    value, train_value, validation_value = (
        (scores.error, scores.train_error, scores.validation_error)
        if cell.metric == "error"
        else (scores.loss, scores.train_loss, scores.validation_loss)
    )
    diverged = bool(scores.diverged)
    examples = cell.steps * cell.batch_size
    return Measurement(
        cell_id=cell.cell_id,
        task=cell.dataset,
        family=cell.family,
        width=cell.width,
        depth=cell.depth,
        params=model.num_params,
        params_total=model.num_params_total,
        data=cell.dataset_size * engine.units_per_example,
        data_unit=engine.data_unit,
        epochs=cell.epochs,
        steps=cell.steps,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        flops=3 * engine.forward_flops[cell.width] * examples,
        metric=cell.metric,
        value=math.nan if diverged else float(value),
        train_value=math.nan if diverged else float(train_value),
        status="diverged" if diverged else "ok",
        seconds=seconds,
        device=mesh.devices.flat[0].device_kind,
        program=pack.describe(),
        validation_value=math.nan if diverged else float(validation_value),
    )

"""Many lanes at once: chunk by chunk the lanes of a pack are filled, stepped, scored.

Lanes are refilled without recompiling and no state ever travels to the host. The
course of a pack is known beforehand, so the next chunk is dispatched before the last
one is read and the devices never wait.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import enum
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scalepred.config import Experiment
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.runtime import preemption, processes
from scalepred.runtime.preemption import Stopped
from scalepred.table.rows import Measurement
from scalepred.training import autotune as tuning
from scalepred.training import cost, packing, streaming
from scalepred.training import engine as engine_lib
from scalepred.training.args import idle_args, lane_args
from scalepred.training.checkpoint import Checkpoints, Held
from scalepred.training.engine import (
    Engine,
    compile_pack,
    does_not_fit,
    is_out_of_memory,
    make_mesh,
    pack_args,
    put,
    put_lanes,
    widen,
)
from scalepred.training.lane import LaneData, LaneState
from scalepred.training.score import Scores

# Of one round of the autotuner; a shorter one measures the clock.
_TRIAL_SECONDS = 0.2
# Of a dry run, for each program; fewer where they take so long together.
TRIAL_ROUNDS = 7
_LONGEST_TRIAL_SECONDS = 4.0

# What a step costs beside its arithmetic, in FLOPs of a CPU core: about ten
# microseconds of starting small kernels.
_STEP_OVERHEAD_FLOPS = 1e6

# A machine that is taken away gives half a minute, in which two chunks may have to end
# and a checkpoint be written.
_LONGEST_CHUNK_SECONDS = 8.0
# Of one device, for the first chunk.
_SLOWEST_FLOPS = 1e9

_UNLIMITED = 1 << 62  # bytes


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
        wait_seconds: in which nothing was trained, as no program was compiled yet.
        num_programs: programs compiled.
        program: what is being trained.
    """

    rows: list[Measurement]
    num_done: int
    num_cells: int
    live_lane_steps: int
    lane_steps: int
    compile_seconds: float
    wait_seconds: float
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
    jax.config.update("jax_num_cpu_devices", cost.num_cores())


def plan_cells(
    experiment: Experiment,
    dataset: Dataset,
    cells: Sequence[Cell],
    *,
    done: Collection[str] = frozenset(),
    devices: Sequence[Any] | None = None,
    memory_bytes: float | None = None,
) -> packing.Plan:
    """The plan for these devices.

    Args:
        experiment: gives the user's wishes.
        dataset: what the cells name.
        cells: all cells of the study, also those that have a row: lanes are chosen
            from all, so that a resumed study repeats the same programs.
        done: ids of cells that have a row.
        devices: default: all.
        memory_bytes: of each, for devices that are not here.
    """
    devices = list(devices or jax.devices())
    machine = cost.describe_machine(devices[0], memory_bytes)
    if dataset.is_outline and memory_bytes is None:
        # The plan is for the machine that has the data, whose memory nobody knows.
        machine = dataclasses.replace(machine, memory_bytes=_UNLIMITED)
    else:
        machine = place_data(machine, dataset, experiment.packing.stream)
    return packing.plan_packs(
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


def place_data(machine: cost.Machine, dataset: Dataset, stream: str) -> cost.Machine:
    """The machine, less the data that stand on it."""
    rows = streaming.choose_rows(dataset, machine.memory_bytes, stream)
    left = machine.memory_bytes - streaming.count_bytes(dataset, rows)
    return dataclasses.replace(machine, memory_bytes=left, stream_rows=rows)


def estimate_work(plan: packing.Plan, dataset: Dataset) -> dict[str, float]:
    """Relative time of each planned cell, by id; for the time left, nothing else."""
    cells = [cell for pack in plan.packs for cell in pack.queue]
    keys = {cell.program_key for cell in cells}
    num_params = {
        k: engine_lib.build(k, k.width, dataset).num_params_total for k in keys
    }
    return {
        cell.cell_id: cell.steps
        * (6.0 * num_params[cell.program_key] * cell.batch_size + _STEP_OVERHEAD_FLOPS)
        for cell in cells
    }


def count_params(pack: packing.Pack, dataset: Dataset) -> int:
    """Of the pack's widest model, embeddings included."""
    return engine_lib.build(pack.key, pack.widths[-1], dataset).num_params_total


class Trial(NamedTuple):
    """A program tried on the devices."""

    device_bytes: int | None  # of one call, as compiled; None where nobody says
    lane_step_seconds: float  # share of one lane's step; NaN: not timed
    compile_seconds: float  # with the others beside it


def try_packs(
    packs: Sequence[packing.Pack],
    dataset: Dataset,
    devices: Sequence[Any] | None = None,
    *,
    num_rounds: int = TRIAL_ROUNDS,
) -> list[Trial]:
    """Compiles packs side by side and lets them step in turn; nothing is kept.

    Of each pack the median round counts: what else the machine does for a moment
    changes one round, and what it does all the time changes the training too.

    Args:
        packs: of one plan.
        dataset: what they are trained on.
        devices: default: all.
        num_rounds: 0: they are only compiled.
    """
    devices = list(devices or jax.devices())
    plan = packing.Plan(tuple(packs), len(devices))
    data, order = put_data(plan, dataset, devices)
    compiler = Compiler(dataset, data, devices)
    try:
        engines = [future.result() for future in compiler.start(packs)]
    finally:
        compiler.close()
    rounds: list[list[float]] = [[] for _ in packs]
    if num_rounds:
        trials = [
            _start_rounds(pack, engine, order)
            for pack, engine in zip(packs, engines, strict=True)
        ]
        began = time.perf_counter()
        for _ in range(num_rounds):
            for trial, seconds in zip(trials, rounds, strict=True):
                seconds.append(trial())
            if time.perf_counter() - began > _LONGEST_TRIAL_SECONDS:
                break
    return [
        Trial(
            engine.count_bytes(),
            statistics.median(seconds) if seconds else math.nan,
            engine.compile_seconds,
        )
        for engine, seconds in zip(engines, rounds, strict=True)
    ]


def _start_rounds(
    pack: packing.Pack, engine: Engine, order_of_seed: Mapping[int, int]
) -> Callable[[], float]:
    """A function that steps for a round, in chunks; gives seconds a lane-step."""
    cells, placed, state = _start_lanes(pack, engine, order_of_seed)
    feed = _open_data(pack, engine, order_of_seed)
    done = 0

    def step(num_steps: int) -> float:
        nonlocal state, done
        began = time.perf_counter()
        drawn = feed.hold_steps(cells, [done] * pack.lanes, [num_steps] * pack.lanes)
        news = engine.step_lanes(state, placed, np.int32(num_steps), drawn)
        state, _ = jax.block_until_ready(news)
        done += num_steps
        return time.perf_counter() - began

    most = max(1, min(pack.max_chunk_steps, cells[0].steps))
    chunk = min(pack.fill_block(1), most)  # a part of a block takes as long
    passed = step(chunk)  # warms up
    while chunk < most and passed < _TRIAL_SECONDS / 2:
        chunk = min(2 * chunk, most)
        passed = step(chunk)

    def trial() -> float:
        seconds, num_steps = 0.0, 0
        while seconds < _TRIAL_SECONDS:
            seconds += step(chunk)
            num_steps += chunk
        return seconds / (num_steps * pack.lanes)

    return trial


def _start_lanes(
    pack: packing.Pack, engine: Engine, order_of_seed: Mapping[int, int]
) -> tuple[list[Cell], jax.Array, LaneState]:
    """Every lane with a cell, the first of the queue, that has no end: for a trial."""
    cells = [pack.queue[lane % len(pack.queue)] for lane in range(pack.lanes)]
    args = [
        lane_args(
            cell, pack.widths.index(cell.width), order_of_seed[cell.seed]
        )._replace(steps=np.int32(2**30))
        for cell in cells
    ]
    placed = put_lanes([pack_args(one) for one in args], engine.mesh)
    everyone = put(np.ones(pack.lanes, bool), engine.mesh)
    return cells, placed, engine.start_lanes(engine.idle(), placed, everyone)


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
    data, order_of_seed = put_data(plan, dataset, devices)
    totals = _Totals(num_cells=plan.num_cells)
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
        # Several would have to agree; and of streamed data reading takes the time.
        if autotune and jax.process_count() == 1 and not plan.is_streamed:
            folders = (choices_dir, tuning.cache_folder())
            plan = tuning.tune(
                plan,
                lambda packs: time_packs(packs, compiler, order_of_seed),
                f"{devices[0].device_kind}-x{len(devices)}",
                [epath.Path(path) for path in folders if path],
            )
        compiler.start(plan.packs)
        for pack in plan.packs:
            yield from _train_pack_that_fits(
                pack, compiler, order_of_seed, totals, checkpoints
            )
    if checkpoints:
        checkpoints.remove()


class Compiler:
    """Compiles packs side by side, as one leaves a core idle and trains nothing.

    What was compiled for a trial is not compiled again.
    """

    def __init__(self, dataset: Dataset, data: LaneData, devices: Sequence[Any]):
        self.device_kind: str = devices[0].device_kind
        self._needs = dataset, data, devices
        self._pool = concurrent.futures.ThreadPoolExecutor(cost.num_cores())
        self._futures: dict[Any, concurrent.futures.Future[Engine]] = {}

    def start(
        self, packs: Sequence[packing.Pack]
    ) -> list[concurrent.futures.Future[Engine]]:
        """An engine to come for each pack."""
        for pack in packs:
            name = pack.key, pack.choice
            if name not in self._futures:
                self._futures[name] = self._pool.submit(
                    compile_pack, pack, *self._needs
                )
        return [self._futures[pack.key, pack.choice] for pack in packs]

    def close(self) -> None:
        """Nobody waits for what is not compiled yet."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def time_packs(
    packs: Sequence[packing.Pack],
    compiler: Compiler,
    order_of_seed: Mapping[int, int],
) -> list[float]:
    """Seconds of a lane-step of each pack: the least of three rounds, in turn.

    A pack that is out of memory, or takes twice as long as the best, is left out of
    the rounds.
    """
    compiling = compiler.start(packs)
    concurrent.futures.wait(compiling)  # it would be in the way of the first trials
    trials = [
        _start_trial(pack, future, order_of_seed)
        for pack, future in zip(packs, compiling, strict=True)
    ]
    seconds = [math.inf if trial is None else trial() for trial in trials]
    for _ in range(2):
        for index, trial in enumerate(trials):
            if trial is not None and seconds[index] <= 2 * min(seconds):
                seconds[index] = min(seconds[index], trial())
    return seconds


def _start_trial(
    pack: packing.Pack,
    compiling: concurrent.futures.Future[Engine],
    order_of_seed: Mapping[int, int],
) -> Callable[[], float] | None:
    """A function that trains the pack's first cells; gives seconds a lane-step."""

    def run(state: LaneState, num_steps: int) -> LaneState:
        steps = np.int32(num_steps)
        state, _ = engine.step_lanes(state, placed, steps, engine.data)
        return jax.block_until_ready(state)

    try:
        engine = compiling.result()
        _, placed, state = _start_lanes(pack, engine, order_of_seed)
        state = run(state, 1)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    num_steps = pack.fill_block(1)

    def trial() -> float:
        nonlocal state, num_steps
        while True:
            began = time.perf_counter()
            state = run(state, num_steps)
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
    wait_seconds: float = 0.0
    num_programs: int = 0

    def report(self, rows: list[Measurement], program: str) -> Progress:
        return Progress(rows=rows, program=program, **dataclasses.asdict(self))


def _train_pack_that_fits(
    pack: packing.Pack,
    compiler: Compiler,
    order_of_seed: Mapping[int, int],
    totals: _Totals,
    checkpoints: Checkpoints | None,
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
            # It stops after the chunk, with a checkpoint.
            with preemption.deferred():
                for progress in _train_pack(
                    pack, engine, order_of_seed, totals, checkpoints
                ):
                    done |= {row.cell_id for row in progress.rows}
                    yield progress
            return
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = packing.halve_lanes(pack, done)
            if smaller is None or jax.process_count() > 1:
                raise does_not_fit(pack, compiler.device_kind) from error
            print(
                f"warning: {pack.describe()}: out of memory with {pack.lanes} lanes, "
                f"trying {smaller.lanes}",
                file=sys.stderr,
            )
            pack = smaller


def _train_pack(
    pack: packing.Pack,
    engine: Engine,
    order_of_seed: Mapping[int, int],
    totals: _Totals,
    checkpoints: Checkpoints | None,
) -> Iterator[Progress]:
    """Runs the pack's chunks, one dispatched ahead of the one that is read."""
    args_of: dict[Cell | None, np.ndarray] = {
        cell: pack_args(
            lane_args(cell, pack.widths.index(cell.width), order_of_seed[cell.seed])
        )
        for cell in pack.queue
    }
    args_of[None] = pack_args(idle_args())
    placed_cells: tuple[Cell | None, ...] = ()  # whose numbers are on the devices
    placed: Any = None
    mesh, state = engine.mesh, engine.idle()
    begun = checkpoints.restore(pack, engine.shapes) if checkpoints else []
    waiting = {run.cell: run for run in begun}
    seconds: dict[Cell, float] = collections.defaultdict(float)
    seconds.update((run.cell, run.seconds) for run in begun)
    agreed = _Notice.NONE
    last_read = time.perf_counter()
    in_flight: collections.deque[tuple[packing.Chunk, Any]] = collections.deque()

    def read() -> Progress | None:
        nonlocal last_read, agreed
        chunk, news = in_flight.popleft()
        _, scores, notices = jax.device_get(news)  # waits for the chunk
        agreed |= pace.heed(_Notice(int(np.bitwise_or.reduce(notices))))
        now = time.perf_counter()
        steps = chunk.num_steps_of_lanes
        num_lane_steps = sum(steps)
        for cell, num_steps in zip(chunk.cells, steps, strict=True):
            if cell is not None:
                seconds[cell] += (now - last_read) * num_steps / num_lane_steps
        pace.measure(chunk.num_steps, now - last_read)
        last_read = now
        totals.live_lane_steps += num_lane_steps
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
            )
            for lane, cell in chunk.finished
        ]
        return totals.report(rows, str(pack.key))

    feed = _open_data(pack, engine, order_of_seed)
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
        notice = _notice(checkpoints) | pace.wish
        if chunk.cells != placed_cells:
            placed_cells = chunk.cells
            placed = put_lanes([args_of[cell] for cell in placed_cells], mesh)
        if any(chunk.fresh):
            state = engine.start_lanes(state, placed, put(np.array(chunk.fresh), mesh))
        num_steps = np.int32(chunk.num_steps)
        drawn = chunk.num_steps_of_lanes
        data = feed.hold_steps(chunk.cells, chunk.steps_before, drawn)
        state, is_done = engine.step_lanes(state, placed, num_steps, data)
        scores = None
        if chunk.finished:
            scores = feed.score(state, placed, dict(chunk.finished))
        notices: Any = np.full(pack.lanes, notice, np.int32)
        if jax.process_count() > 1:
            notices = put(notices, mesh)
        news = processes.gather((is_done, scores, notices), mesh)
        in_flight.append((chunk, news))
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


def _open_data(
    pack: packing.Pack, engine: Engine, order_of_seed: Mapping[int, int]
) -> streaming.Resident:
    """What gives the pack's programs their data."""
    if pack.stream_rows:
        return streaming.Stream(pack, engine, order_of_seed)
    return streaming.Resident(engine)


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

    def __init__(self, pack: packing.Pack, engine: Engine):
        per_device = pack.lanes // pack.num_devices
        forward = max(engine.forward_flops.values()) * pack.key.batch_size
        step = per_device * (3 * forward + _STEP_OVERHEAD_FLOPS)
        self._longest = pack.max_chunk_steps
        # A part of a block computes all of it.
        self._least = min(pack.fill_block(1), self._longest)
        self.steps = max(self._least, _LONGEST_CHUNK_SECONDS * _SLOWEST_FLOPS / step)
        self.wish = _Notice.NONE

    def measure(self, num_steps: int, seconds: float) -> None:
        """Takes note of a chunk that was read; what to wish for follows."""
        self.wish = _Notice.NONE
        if not processes.is_first():  # one clock must do
            return
        if seconds > _LONGEST_CHUNK_SECONDS and num_steps > self._least:
            self.wish = _Notice.SHORTER
        elif seconds < _LONGEST_CHUNK_SECONDS / 4 and self.steps < self._longest:
            self.wish = _Notice.LONGER

    def heed(self, notice: _Notice) -> _Notice:
        """Does what was wished for; returns what else there is in the notice."""
        if _Notice.SHORTER in notice:
            self.steps = max(self._least, min(self.steps, self._longest) / 2)
        elif _Notice.LONGER in notice:
            self.steps *= 2
        return notice & ~_PACE


def _notice(checkpoints: Checkpoints | None) -> _Notice:
    notice = _Notice.STOP if preemption.is_requested() else _Notice.NONE
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
    fresh = put(jax.tree.map(fill, shapes, *rows), mesh)
    return jax.jit(_choose_lanes, out_shardings=state.step.sharding)(
        put(is_saved, mesh), fresh, state
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


def put_data(
    plan: packing.Plan, dataset: Dataset, devices: Sequence[Any]
) -> tuple[LaneData, dict[int, int]]:
    """The dataset on every device, and the row of each seed's order.

    Where data are streamed only the order: the rest comes with the chunks.
    """
    seeds = sorted({cell.seed for pack in plan.packs for cell in pack.queue})
    data = LaneData(None, None, np.stack([dataset.order(seed) for seed in seeds]))
    if not plan.is_streamed:
        inputs, labels = np.asarray(dataset.inputs), dataset.labels
        data = data._replace(inputs=widen(inputs), labels=widen(labels))
    everywhere = NamedSharding(make_mesh(devices), PartitionSpec())
    order_of_seed = {seed: row for row, seed in enumerate(seeds)}
    return processes.put(data, everywhere), order_of_seed


def _make_row(
    cell: Cell,
    pack: packing.Pack,
    engine: Engine,
    scores: Scores,
    seconds: float,
) -> Measurement:
    """A finished cell as a row; one that diverged has no value."""
    model, dataset = engine.models[cell.width], engine.dataset
    diverged = bool(scores.diverged)
    columns = dataset.columns
    values = dict(zip(columns, scores.values.reshape(-1).tolist(), strict=True))
    if diverged:
        values = dict.fromkeys(columns, math.nan)
    own = (cell.metric, f"train_{cell.metric}", f"validation_{cell.metric}")
    value, train_value, validation_value = (values.pop(name) for name in own)
    examples = cell.steps * cell.batch_size
    return Measurement(
        cell_id=cell.cell_id,
        task=cell.dataset,
        family=cell.family,
        width=cell.width,
        depth=cell.depth,
        params=model.num_params,
        params_total=model.num_params_total,
        data=cell.dataset_size * dataset.units_per_example,
        data_unit=dataset.unit,
        epochs=cell.epochs,
        steps=cell.steps,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        flops=3 * engine.forward_flops[cell.width] * examples,
        metric=cell.metric,
        value=value,
        train_value=train_value,
        status="diverged" if diverged else "ok",
        seconds=seconds,
        device=engine.mesh.devices.flat[0].device_kind,
        program=pack.describe(),
        validation_value=validation_value,
        others=values,
    )

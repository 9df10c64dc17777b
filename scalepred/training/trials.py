"""Programs tried on the devices: how long a step takes, how much memory it needs."""

import concurrent.futures
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.training.args import lane_args
from scalepred.training.device_data import put_data
from scalepred.training.devices import put, put_lanes
from scalepred.training.engine import Compiler, Engine, is_out_of_memory
from scalepred.training.lane import LaneState
from scalepred.training.lane_axis import pack_args
from scalepred.training.plan import Pack, Plan
from scalepred.training.streaming import open_data

# Seconds of a round; a shorter one would measure the clock.
_TRIAL_SECONDS = 0.2
# Rounds of each program in a dry run; it ends after so many seconds of all programs.
TRIAL_ROUNDS = 7
_LONGEST_TRIAL_SECONDS = 4.0


class Trial(NamedTuple):
    """A program tried on the devices."""

    device_bytes: int | None  # of one call, as compiled; None where nobody says
    lane_step_seconds: float  # of one step of one lane; NaN: not timed
    compile_seconds: float  # while the others were compiled beside it


def try_packs(
    packs: Sequence[Pack],
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
    plan = Plan(tuple(packs), len(devices))
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
    pack: Pack, engine: Engine, order_of_seed: Mapping[int, int]
) -> Callable[[], float]:
    """A function that steps for a round, in chunks; gives seconds a lane-step."""
    cells, placed, state = _start_lanes(pack, engine, order_of_seed)
    feed = open_data(pack, engine, order_of_seed)
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
    chunk = min(
        pack.fill_block(1), most
    )  # a part of a block takes as long as all of it
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
    pack: Pack, engine: Engine, order_of_seed: Mapping[int, int]
) -> tuple[list[Cell], jax.Array, LaneState]:
    """Every lane with a cell, the first of the queue, that has no end: for a trial."""
    cells = [pack.queue[lane % len(pack.queue)] for lane in range(pack.lanes)]
    args = [
        lane_args(
            cell, pack.widths.index(cell.width), order_of_seed[cell.order_key]
        )._replace(steps=np.int32(2**30))
        for cell in cells
    ]
    placed = put_lanes([pack_args(one) for one in args], engine.mesh)
    everyone = put(np.ones(pack.lanes, bool), engine.mesh)
    return cells, placed, engine.start_lanes(engine.idle(), placed, everyone)


def time_packs(
    packs: Sequence[Pack],
    compiler: Compiler,
    order_of_seed: Mapping[int, int],
) -> list[float]:
    """Seconds of a lane-step of each pack: the least of three rounds, in turn.

    A pack that is out of memory, or takes twice as long as the best, is left out of
    the rounds.
    """
    compiling = compiler.start(packs)
    concurrent.futures.wait(compiling)  # compiling would slow the first trials down
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
    pack: Pack,
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

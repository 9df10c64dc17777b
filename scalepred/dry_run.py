"""What a study would train, and what its targets would take, said before."""

import collections
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from scalepred.data.dataset import Dataset
from scalepred.forecasting.parts import Study
from scalepred.grid import Cell
from scalepred.models.model import build_for
from scalepred.report import format, words
from scalepred.table.rows import Measurement
from scalepred.training import aot, cost, device_data, ensemble, trials, work
from scalepred.training.chunks import predict_utilization
from scalepred.training.plan import Pack, Plan

# Programs with so many times more or fewer FLOPs than any that ran are tried.
_FAR = 4.0


class Pace(NamedTuple):
    """Seconds of a step by its FLOPs: starting it, and the work.

    They are the share that one run has of the time of all that train beside it.
    """

    step_seconds: float
    flop_seconds: float
    num_runs: int = 0  # it was found from; 0: programs were tried

    def seconds(self, flops: float) -> float:
        """Of a step."""
        return self.step_seconds + self.flop_seconds * flops


def fit_pace(
    flops: Sequence[float], seconds: Sequence[float], num_runs: int = 0
) -> Pace:
    """The pace that relative errors are least of, no part of it below zero.

    Args:
        flops: of a step [programs].
        seconds: likewise [programs].
        num_runs: see `Pace`.
    """
    parts = np.array([np.ones(len(flops)), flops], float) / np.asarray(seconds, float)
    alone = parts.sum(axis=1) / np.square(parts).sum(axis=1)
    if len(set(flops)) == 1:  # nobody knows what of it is starting
        return Pace(0.0, float(alone[1]), num_runs)
    scale = parts.max(axis=1)  # FLOPs are large numbers
    both = np.linalg.lstsq((parts / scale[:, None]).T, np.ones(len(flops)))[0] / scale
    if both[0] < 0:
        both = np.array([0.0, alone[1]])
    elif both[1] < 0:
        both = np.array([alone[0], 0.0])
    return Pace(float(both[0]), float(both[1]), num_runs)


def print_plan(study: Study, machines: aot.Machines | None = None) -> Pace | None:
    """What `run` would train, what that takes, and for how long.

    The time follows from the rows, where programs like those to come have some. Else
    the smallest and the largest program are tried. For another machine all are
    compiled and none is tried.

    Args:
        study: its grid is planned, as far as its table has no rows; an outline of the
            data will do.
        machines: to plan for instead of those here.

    Returns:
        How fast steps are here; None if that was not to be found out.

    Raises:
        UserError: a cell cannot fit.
    """
    dataset, cells = study.dataset, study.parts.evidence + study.parts.held_out
    devices = machines.devices if machines else jax.devices()
    plan = ensemble.plan_cells(
        study.experiment,
        dataset,
        cells,
        done=set(study.rows),
        devices=devices,
        memory_bytes=machines and machines.memory_bytes,
    )
    print(
        f"{study.experiment.name}: {len(cells)} cells, {plan.num_cells} to train, "
        f"{len(plan.packs)} programs, lanes busy {predict_utilization(plan):.1%} as "
        f"planned, on {len(devices)} x {devices[0].device_kind}"
    )
    if not plan.packs:
        return None
    if plan.is_streamed:
        print(device_data.explain(dataset, plan.packs[0].stream_rows))
    all_flops = 0.0
    for pack in plan.packs:
        flops = _count_flops(pack) * pack.live_lane_steps / pack.padding
        all_flops += flops
        print(
            f"  {pack.explain()}, up to {_count_params(pack, dataset):,} "
            f"parameters, {format.flops(flops)} FLOPs"
        )
    branches = [cell for pack in plan.packs for cell in pack.queue if cell.branch]
    if branches:
        alone = sum(work.count_flops(cell, dataset) for cell in branches)
        print(words.describe_spent(work.count_spent(branches, dataset), alone))
    if machines:
        _print_compiled(plan, dataset, machines)
        return None
    if dataset.is_outline:
        print("memory, time: not tried, as the data are not here yet")
        return None
    return _print_trial(plan, dataset, study.rows.values(), all_flops)


def print_recipe(study: Study) -> None:
    """What the runs of a study take from `training.recipe`."""
    said, warned = study.describe_recipe()
    for line in [*said, *(f"warning: {sentence}" for sentence in warned)]:
        print(line)


def _print_compiled(plan: Plan, dataset: Dataset, machines: aot.Machines) -> None:
    """What the programs need of another machine, as compiled for it."""
    kind, room = machines.devices[0].device_kind, machines.memory_bytes
    print(f"compiled for {kind}, with {room / 1e6:,.0f} MB each:")
    num_seeds = len({cell.order_key for pack in plan.packs for cell in pack.queue})
    for pack in plan.packs:
        found = aot.compile_to_fit(pack, dataset, num_seeds, machines)
        fewer = f", with {found.pack.lanes} lanes" if found.pack is not pack else ""
        print(
            f"  {found.pack.describe()}: {found.device_bytes / 1e6:,.1f} MB a device, "
            f"data included{fewer}; compiling took {found.compile_seconds:.0f} s here",
            flush=True,
        )
    print("time: not tried, as the machine is not here")


def _print_trial(
    plan: Plan,
    dataset: Dataset,
    rows: Iterable[Measurement],
    all_flops: float,
) -> Pace:
    """What the largest program takes on this machine, and how long all will."""
    device = jax.devices()[0]
    ran = _find_ran(dataset, rows, device.device_kind)
    has_run = _are_like(plan, ran)
    by_flops = sorted(plan.packs, key=_count_flops)
    largest = max(plan.packs, key=lambda pack: pack.bytes_per_device)
    tried = list(dict.fromkeys([largest, by_flops[-1], by_flops[0]]))
    num_rounds = 0 if has_run else trials.TRIAL_ROUNDS
    found = trials.try_packs(tried, dataset, num_rounds=num_rounds)
    used = found[0].device_bytes
    said = f"{used / 1e6:,.1f} MB" if used else "unknown"
    room = cost.describe_machine(device).memory_bytes
    print(
        f"memory: {said} a device for the largest program, as compiled; there are "
        f"{room / 1e6:,.0f} MB for it"
    )
    if has_run:
        pace = _find_pace(ran)
        known = {name: one.seconds for name, one in ran.items()}
        why = f"{pace.num_runs:,} runs took so long"
    else:
        timed = [trial.lane_step_seconds for trial in found]
        flops = [_count_flops(pack) for pack in tried]
        # Of the lanes that idle the others have the share.
        live = [seconds / predict_utilization(plan) for seconds in timed]
        pace = fit_pace(flops, live)
        known = {pack.describe(): one for pack, one in zip(tried, live, strict=True)}
        why = f"tried: {len(tried)} of {len(plan.packs)} programs"
    seconds = sum(
        known.get(pack.describe(), pace.seconds(_count_flops(pack)))
        * _count_steps_of_pack(pack, dataset)
        for pack in plan.packs
    )
    each = [trial.compile_seconds for trial in found]
    compiling = statistics.mean(each) * len(plan.packs)
    # As many at a time as there are cores; those tried were.
    compiling /= min(cost.num_cores(), len(plan.packs))
    print(
        f"time: about {format.duration(max(1, round(seconds)))} of training for "
        f"{format.flops(all_flops)} FLOPs ({why}), and "
        f"{format.duration(max(1, round(max(compiling, *each))))} of compiling where "
        "nothing is cached",
        flush=True,
    )
    return pace


def _count_params(pack: Pack, dataset: Dataset) -> int:
    """Of the pack's widest model, embeddings included."""
    key = pack.key
    return build_for(dataset, key.family, key.width, key.depth).num_params_total


def _count_flops(pack: Pack) -> float:
    """Of an optimiser step of one lane: all shards and micro batches."""
    micro_batches = pack.queue[0].batch_size / pack.key.batch_size
    return pack.step_flops * pack.data_shards * micro_batches


def _count_steps_of_pack(pack: Pack, dataset: Dataset) -> float:
    """Of all its cells with their scores, those of trunks once."""
    shared = sum(cell.steps for cell in pack.queue) - pack.live_lane_steps
    return sum(_count_steps_of_cell(cell, dataset) for cell in pack.queue) - shared


def _count_steps_of_cell(cell: Cell, dataset: Dataset) -> float:
    scored = _count_scored(cell.dataset_size, dataset) + cell.validation_size
    return cell.steps + scored / (3 * cell.batch_size)


def _count_scored(dataset_size: float, dataset: Dataset) -> float:
    """Examples of a run that only go forward, which is a third of training them."""
    return dataset.num_test + min(dataset_size, dataset.num_test)


class _Ran(NamedTuple):
    """What a step of a program took, as its rows say."""

    flops: float  # of its widest model
    seconds: float
    num_runs: int


def _find_ran(
    dataset: Dataset, rows: Iterable[Measurement], device_kind: str
) -> dict[str, _Ran]:
    """By program, of rows from such devices; the median run counts."""
    by_program: dict[str, list[Measurement]] = collections.defaultdict(list)
    for row in rows:
        if row.device == device_kind and row.seconds > 0 and row.flops > 0:
            by_program[row.program].append(row)

    def step_seconds(row: Measurement) -> float:
        size = row.data / dataset.units_per_example
        batch_size = row.epochs * size / row.steps
        scored = _count_scored(size, dataset)
        return row.seconds / (row.steps + scored / (3 * batch_size))

    return {
        name: _Ran(
            max(row.flops / row.steps for row in members),
            statistics.median(map(step_seconds, members)),
            len(members),
        )
        for name, members in by_program.items()
    }


def _find_pace(ran: Mapping[str, _Ran]) -> Pace:
    flops, seconds, counts = zip(*ran.values(), strict=True)
    return fit_pace(flops, seconds, sum(counts))


def _are_like(plan: Plan, ran: Mapping[str, _Ran]) -> bool:
    """Whether every program ran, or some about as small and as large as it."""
    new = [pack for pack in plan.packs if pack.describe() not in ran]
    if not new:
        return True
    known = {one.flops for one in ran.values()}
    if len(known) < 2:
        return False
    flops = list(map(_count_flops, new))
    return min(known) / _FAR <= min(flops) and max(flops) <= _FAR * max(known)


def describe_targets(
    study: Study, price_per_hour: float = 0.0, pace: Pace | None = None
) -> list[str]:
    """What a run of each target takes, a line a size.

    Seconds follow the trend of seconds by FLOPs of the rows, with as many runs side
    by side as there are seeds and devices; a run alone leaves the others idle.

    Args:
        study: whose targets these are; its rows are the evidence.
        price_per_hour: of the machine, in whatever currency; 0: not said.
        pace: as tried, for where no row is from a device like those here.
    """
    dataset, packing = study.dataset, study.experiment.packing
    device = jax.devices()[0]
    ran = _find_ran(dataset, study.rows.values(), device.device_kind)
    pace = _find_pace(ran) if ran else pace
    machine = cost.describe_machine(device)
    if not dataset.is_outline:
        machine = device_data.place_data(machine, dataset, packing.stream)
    costs = cost.ProgramCosts(dataset, packing.convolution, device.platform)
    by_size: dict[tuple[int, int, int], list[Cell]] = collections.defaultdict(list)
    for cell in study.parts.targets:
        by_size[cell.width, cell.depth, cell.dataset_size].append(cell)
    return [
        _describe_target(members, dataset, costs, machine, pace, price_per_hour)
        for members in by_size.values()
    ]


def _describe_target(
    cells: Sequence[Cell],
    dataset: Dataset,
    costs: cost.ProgramCosts,
    machine: cost.Machine,
    pace: Pace | None,
    price_per_hour: float,
) -> str:
    """The line of one size; cells differ in nothing that a run takes."""
    cell = cells[0]
    model = build_for(dataset, cell.family, cell.width, cell.depth)
    forward = model.count_forward_flops(dataset.input_spec) * dataset.task.views
    step_flops = 3 * forward * cell.batch_size
    program = costs(cell.program_key)
    axis = machine.choose_axis(program)
    needed = f"{math.ceil(machine.bytes(program, 1, axis) / 1e6):,} MB"
    fits = "fits"
    if not machine.fits(program, axis):
        fits = f"does not fit into {machine.memory_bytes / 1e6:,.0f} MB"
    units = cell.dataset_size * dataset.units_per_example
    line = (
        f"target: width {cell.width}, depth {cell.depth}, {units:,} {dataset.unit}: "
        f"{model.num_params:,} parameters, {format.flops(step_flops * cell.steps)} "
        f"FLOPs a run, {needed} ({fits})"
    )
    if pace is None:
        return f"{line}, time not known before some run ended here"
    share = pace.seconds(step_flops) * _count_steps_of_cell(cell, dataset)
    num_devices = jax.device_count()
    rounds = -(-len(cells) // num_devices)
    seconds = share * rounds * num_devices / len(cells)
    why = f"{pace.num_runs:,} runs" if pace.num_runs else "programs as tried"
    line += f", about {format.duration(seconds)} a run (by {why})"
    if price_per_hour > 0:
        price = float(f"{seconds / 3600 * price_per_hour:.2g}")
        line += f", {format.count(price)} at {price_per_hour:.2f} an hour"
    return line

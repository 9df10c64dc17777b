"""What a study would train, said before anything is trained."""

from collections.abc import Mapping, Sequence

import jax

from scalepred.config import Experiment
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.measurements import Measurement
from scalepred.report import words
from scalepred.training import cost, ensemble, packing, rehearsal, streaming


def print_plan(
    experiment: Experiment,
    dataset: Dataset,
    cells: Sequence[Cell],
    rows: Mapping[str, Measurement],
    machines: rehearsal.Machines | None = None,
) -> None:
    """What `run` would train, what that takes, and for how long.

    The largest program is compiled and tried; the others are scaled from it. For
    another machine all are compiled and none is tried.

    Raises:
        UserError: a cell cannot fit.
    """
    devices = machines.devices if machines else jax.devices()
    plan = ensemble.plan_cells(
        experiment,
        dataset,
        cells,
        done=set(rows),
        devices=devices,
        memory_bytes=machines and machines.memory_bytes,
    )
    print(
        f"{experiment.name}: {len(cells)} cells, {plan.num_cells} to train, "
        f"{len(plan.packs)} programs, lanes busy {plan.lane_utilization:.1%} as "
        f"planned, on {len(devices)} x {devices[0].device_kind}"
    )
    if not plan.packs:
        return
    if plan.is_streamed:
        print(streaming.explain(dataset, plan.packs[0].stream_rows))
    all_flops = 0.0
    for pack in plan.packs:
        flops = pack.step_flops * pack.live_lane_steps / pack.padding
        all_flops += flops
        print(
            f"  {pack.explain()}, up to {ensemble.count_params(pack, dataset):,} "
            f"parameters, {words.count(flops)} FLOPs"
        )
    if machines:
        _print_rehearsal(plan, dataset, machines)
    elif dataset.is_outline:
        print("memory, time: not tried, as the data are not here yet")
    else:
        _print_trial(plan, dataset, all_flops)


def _print_rehearsal(
    plan: packing.Plan, dataset: Dataset, machines: rehearsal.Machines
) -> None:
    """What the programs need of another machine, as compiled for it."""
    kind, room = machines.devices[0].device_kind, machines.memory_bytes
    print(f"compiled for {kind}, with {room / 1e6:,.0f} MB each:")
    num_seeds = len({cell.seed for pack in plan.packs for cell in pack.queue})
    for pack in plan.packs:
        found = rehearsal.rehearse(pack, dataset, num_seeds, machines)
        fewer = f", with {found.pack.lanes} lanes" if found.pack is not pack else ""
        print(
            f"  {found.pack.describe()}: {found.device_bytes / 1e6:,.1f} MB a device, "
            f"data included{fewer}; compiling took {found.compile_seconds:.0f} s here",
            flush=True,
        )
    print("time: not tried, as the machine is not here")


def _print_trial(plan: packing.Plan, dataset: Dataset, all_flops: float) -> None:
    """What the largest program takes on this machine, and how long all will."""
    largest = max(plan.packs, key=lambda pack: pack.bytes_per_device)
    trial = ensemble.try_pack(largest, dataset)
    used = f"{trial.device_bytes / 1e6:,.1f} MB" if trial.device_bytes else "unknown"
    room = cost.describe_machine(jax.devices()[0]).memory_bytes
    print(
        f"memory: {used} a device for the largest program, as compiled; there are "
        f"{room / 1e6:,.0f} MB for it"
    )
    work = ensemble.estimate_work(plan, dataset)
    first = largest.queue[0]
    pace = work[first.cell_id] / first.steps * largest.lanes / trial.seconds_per_step
    seconds = sum(work.values()) / pace / plan.lane_utilization
    compiling = trial.compile_seconds * len(plan.packs) / cost.num_cores()
    print(
        f"time: about {words.duration(max(1, round(seconds)))} of training for "
        f"{words.count(all_flops)} FLOPs, and "
        f"{words.duration(max(1, round(compiling)))} of compiling where nothing is "
        "cached"
    )

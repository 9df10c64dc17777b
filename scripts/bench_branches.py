"""How fast lanes step where runs branch off trunks, beside as many plain cells.

    python scripts/bench_branches.py [--rounds=9] [--family=mlp] [--widths=16,64]
        [--axes=map,vmap] [--images=65536] [--seeds=0]

Both grids are the same but for `grid.branches`: eight sizes of data, seven halvings,
for one epoch. All programs are compiled beforehand and the grids are trained in turn.
A round is all of the packs from the first chunk to the last score. Other work on the
machine slows rounds down, so what is printed are medians: CPU seconds of the process,
of which those of the main thread are the host's, seconds that passed, and the ratio of
lane-steps per second within a round.

Trunks are fewer than cells. By default there are as many seeds as fill two lanes a
device with either; with fewer (--seeds=2 on two devices) vmapped lanes have fewer
neighbours in the branching grid, and each step costs more for that reason.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from absl import app, flags

_ROUNDS = flags.DEFINE_integer("rounds", 9, "Of both grids.")
_FAMILY = flags.DEFINE_string("family", "mlp", "Of the models.")
_WIDTHS = flags.DEFINE_list("widths", ["16", "64"], "Of the models.")
_IMAGES = flags.DEFINE_integer("images", 65_536, "Of the largest size.")
_AXES = flags.DEFINE_list("axes", ["map", "vmap"], "Of lanes.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Trunks of a model; 0: as many as lanes.")
_LANES = 2  # a device


class Round(NamedTuple):
    """One training of a grid."""

    cells: int
    lanes: int  # of a program
    lane_steps: int  # that trained a cell
    busy: float  # share of lane-steps that did
    chunks: int
    cpu: float  # seconds of all threads
    host: float  # of them, the main thread's
    wall: float  # seconds


def make_dataset():
    """Arrays of the shape of digits; what they say is easy."""
    import numpy as np

    from scalepred.data.dataset import Dataset

    random = np.random.default_rng(0)
    num_train, num_test = _IMAGES.value, 512
    labels = (np.arange(num_train + num_test) % 10).astype(np.int32)
    inputs = random.normal(size=(10, 64))[labels] + 2 * random.normal(
        size=(len(labels), 64)
    )
    inputs = inputs.astype(np.float32)
    return Dataset("bench", inputs, labels, 10, num_train, has_fixed_test=True)


def make_experiment(axis: str, branches: bool):
    """Eight sizes of each model and seed."""
    import jax

    from scalepred import config

    return config.Experiment(
        name="bench",
        dataset="bench",
        family=_FAMILY.value,
        grid=config.Grid(
            widths=tuple(map(int, _WIDTHS.value)),
            data_fractions=tuple(2.0**-k for k in range(8)),
            seeds=_SEEDS.value or _LANES * len(jax.devices()),
            branches=branches,
        ),
        training=config.Training(
            optimizer="adam", learning_rate=1e-3, schedule="wsd", epochs=1, batch_size=8
        ),
        packing=config.Packing(lane_axis=axis, lanes=_LANES, width_bucket=1.0),
    )


def prepare(experiment, dataset) -> Callable[[], Round]:
    """Compiles all; a function that trains all."""
    import jax

    from scalepred import grid
    from scalepred.training.chunks import make_chunks
    from scalepred.training.device_data import put_data
    from scalepred.training.engine import Compiler
    from scalepred.training.ensemble import plan_cells
    from scalepred.training.run import PackRun, Totals

    plan = plan_cells(experiment, dataset, grid.make_cells(experiment, dataset))
    data, order = put_data(plan, dataset, jax.devices())
    compiler = Compiler(dataset, data, jax.devices())
    engines = [future.result() for future in compiler.start(plan.packs)]
    compiler.close()
    num_chunks = sum(len(list(make_chunks(pack))) for pack in plan.packs)

    def train() -> Round:
        totals = Totals(num_cells=plan.num_cells)
        clocks = time.process_time, time.thread_time, time.perf_counter
        began = [clock() for clock in clocks]
        for pack, engine in zip(plan.packs, engines, strict=True):
            for _ in PackRun(pack, engine, order, totals, None).train():
                pass
        took = [clock() - then for clock, then in zip(clocks, began, strict=True)]
        busy = totals.live_lane_steps / totals.lane_steps
        lanes = max(pack.lanes for pack in plan.packs)
        return Round(
            totals.num_done, lanes, totals.live_lane_steps, busy, num_chunks, *took
        )

    return train


def tell(axis: str, name: str, rounds: list[Round]) -> str:
    """A line of the table: medians."""
    first = rounds[0]
    cpu, host, wall = (
        statistics.median(getattr(one, field) for one in rounds)
        for field in ("cpu", "host", "wall")
    )
    return (
        f"| {axis} | {name} | {first.cells} | {first.lanes} | {first.lane_steps:,} "
        f"| {first.busy:.1%} | {first.chunks} | {cpu:.2f} | {host:.2f} | {wall:.2f} "
        f"| {first.lane_steps / cpu:,.0f} | {first.lane_steps / wall:,.0f} |"
    )


def main(argv: list[str]) -> None:
    """Prints a line a grid, and their ratio."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    dataset = make_dataset()
    print(
        "| axis | grid | cells | lanes | lane-steps | busy | chunks | CPU s | host s "
        "| s | lane-steps/CPU s | lane-steps/s |\n" + "| --- " * 12 + "|"
    )
    for axis in _AXES.value:
        trains = {
            name: prepare(make_experiment(axis, name == "branches"), dataset)
            for name in ("plain", "branches")
        }
        rounds: dict[str, list[Round]] = {name: [] for name in trains}
        for _ in range(_ROUNDS.value + 1):
            for name, train in trains.items():
                rounds[name].append(train())
        for name, found in rounds.items():
            del found[0]  # which warms up
            print(tell(axis, name, found), flush=True)
        plain, branches = rounds["plain"], rounds["branches"]
        share = branches[0].lane_steps / plain[0].lane_steps
        pairs = list(zip(plain, branches, strict=True))
        by_cpu, by_wall = (
            statistics.median(share * times(a) / times(b) - 1 for a, b in pairs)
            for times in (lambda one: one.cpu, lambda one: one.wall)
        )
        print(
            f"\n{axis}: {share:.3f} of the steps; lane-steps per CPU second "
            f"{by_cpu:+.1%}, per second {by_wall:+.1%}\n"
        )


if __name__ == "__main__":
    from scalepred.training.devices import use_all_cores

    use_all_cores()
    app.run(main)

"""How fast lanes step where runs branch off trunks, beside as many plain cells.

    python scripts/bench_branches.py [--rounds=5] [--family=mlp] [--widths=16,64]
        [--axes=map,vmap] [--images=65536]

Both grids are the same but for `grid.branches`: eight sizes of data, seven halvings,
for one epoch. All programs are compiled beforehand; the grids are trained in turn, and
the best round of each counts, as other work on the machine only slows a round down. A
round is all of the packs from the first chunk to the last score.
"""

import time
from collections.abc import Callable

from absl import app, flags

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Of both grids.")
_FAMILY = flags.DEFINE_string("family", "mlp", "Of the models.")
_WIDTHS = flags.DEFINE_list("widths", ["16", "64"], "Of the models.")
_IMAGES = flags.DEFINE_integer("images", 65_536, "Of the largest size.")
_AXES = flags.DEFINE_list("axes", ["map", "vmap"], "Of lanes.")


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
    """Eight sizes of two models and two seeds."""
    from scalepred import config

    return config.Experiment(
        name="bench",
        dataset="bench",
        family=_FAMILY.value,
        grid=config.Grid(
            widths=tuple(map(int, _WIDTHS.value)),
            data_fractions=tuple(2.0**-k for k in range(8)),
            seeds=2,
            branches=branches,
        ),
        training=config.Training(
            optimizer="adam", learning_rate=1e-3, schedule="wsd", epochs=1, batch_size=8
        ),
        packing=config.Packing(lane_axis=axis, lanes=2, width_bucket=1.0),
    )


def prepare(experiment, dataset) -> Callable[[], tuple[float, int, int]]:
    """Compiles all; a function that trains all: seconds, lane-steps, rows."""
    import jax

    from scalepred import grid
    from scalepred.training.device_data import put_data
    from scalepred.training.engine import Compiler
    from scalepred.training.ensemble import plan_cells
    from scalepred.training.run import PackRun, Totals

    plan = plan_cells(experiment, dataset, grid.make_cells(experiment, dataset))
    data, order = put_data(plan, dataset, jax.devices())
    compiler = Compiler(dataset, data, jax.devices())
    engines = [future.result() for future in compiler.start(plan.packs)]
    compiler.close()

    def train() -> tuple[float, int, int]:
        totals = Totals(num_cells=plan.num_cells)
        began = time.perf_counter()
        for pack, engine in zip(plan.packs, engines, strict=True):
            for _ in PackRun(pack, engine, order, totals, None).train():
                pass
        seconds = time.perf_counter() - began
        return seconds, totals.live_lane_steps, totals.num_done

    return train


def main(argv: list[str]) -> None:
    """Prints a line a grid, and their ratio."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    dataset = make_dataset()
    print("| lanes | grid | cells | lane-steps | seconds | lane-steps/s |")
    print("| --- " * 6 + "|")
    for axis in _AXES.value:
        grids = {
            name: prepare(make_experiment(axis, name == "branches"), dataset)
            for name in ("plain", "branches")
        }
        rounds = {name: [train()] for name, train in grids.items()}
        for _ in range(_ROUNDS.value):
            for name, train in grids.items():
                rounds[name].append(train())
        rates, all_steps = {}, {}
        for name, found in rounds.items():
            seconds, steps, num_done = min(found[1:])
            rates[name], all_steps[name] = steps / seconds, steps
            print(
                f"| {axis} | {name} | {num_done} | {steps:,} | {seconds:.2f} "
                f"| {rates[name]:,.0f} |"
            )
        share = all_steps["branches"] / all_steps["plain"]
        ratio = rates["branches"] / rates["plain"] - 1
        print(f"\n{axis}: {share:.3f} of the steps, lane-steps/s {ratio:+.1%}\n")


if __name__ == "__main__":
    from scalepred.training.devices import use_all_cores

    use_all_cores()
    app.run(main)

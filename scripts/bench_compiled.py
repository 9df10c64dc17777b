"""What programs take on a machine that is not here, as far as its compiler says.

    python scripts/bench_compiled.py --topology=v5e:2x2 [--families=mlp,conv,decoder]
        [--widths=64] [--lanes=1,16,256] [--precision=fast] [--convolution=patches]

compiles the programs of bench_training.py, each width by itself, for one device of
the machine and prints

- its memory for them, as planned and as compiled, data left out;
- what a step starts there, such as kernels of a GPU, and the loops in it whose rounds
  the compiler cannot count: a GPU asks the host before each;
- for a TPU what its compiler thinks that a step takes, in thousands of cycles a lane.

Lanes are beside each other; one lane is also what lanes after each other take.
"""

import re
from typing import Any

import bench_training
from absl import app, flags, logging

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "What to compile for.")
_LANES = flags.DEFINE_list("lanes", ["1", "16", "256"], "On the device.")
_PRECISION = flags.DEFINE_string("precision", "float32", "Of forward and backward.")
_CONVOLUTION = flags.DEFINE_string("convolution", "auto", "Form of convolutions.")

_STARTS = re.compile(r" (?:fusion|custom-call|convolution|dot|copy|sort|scatter)\(")
# The loop over the steps of a block, within that over blocks.
_STEPS = re.compile(
    r' while\(.*body=%?([\w.-]+).*op_name="jit\(step\)/while/body/while"'
)
_CALLED = re.compile(r"(?:body|condition|calls|to_apply)=%?([\w.-]+)")


def read_step(text: str) -> tuple[int, int, float]:
    """Of one step in a compiled program: starts, uncounted loops, cycles."""
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line and not line[0].isspace():
            name = line.removeprefix("ENTRY ").split(" ")[0].lstrip("%")
            lines = computations[name] = []
        lines.append(line)
    (body,) = _STEPS.findall(text)
    starts, loops, cycles = 0, 0, 0.0
    todo = [(body, 1)]
    while todo:
        name, rounds = todo.pop()
        for line in computations[name]:
            starts += rounds * len(_STARTS.findall(line))
            found = re.search(r'estimated_cycles":"(\d+)"', line)
            cycles += rounds * float(found[1]) if found else 0.0
            if " while(" in line:
                count = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                loops += rounds * (count is None)
                inner = re.search(r"body=%?([\w.-]+)", line)
                assert inner is not None
                todo.append((inner[1], rounds * int(count[1] if count else 1)))
    return starts, loops, cycles


def print_table(name: str) -> None:
    """A row a program and number of lanes."""
    from scalepred import grid
    from scalepred.training import aot, ensemble

    machines = aot.find_machines(_TOPOLOGY.value)
    machines = machines._replace(devices=machines.devices[:1])
    dataset = bench_training.make_dataset(name)
    print(f"\n### {name}, {_PRECISION.value}, {machines.devices[0].device_kind}\n")
    print(
        "| width | lanes | planned | compiled | starts a step | uncounted loops "
        "| kilocycles a lane-step |"
    )
    print("| --- " * 7 + "|", flush=True)
    for lanes in map(int, _LANES.value):
        experiment = bench_training.make_experiment(name)
        experiment.training.precision = _PRECISION.value
        experiment.grid.data_fractions = (1.0,)
        experiment.grid.seeds = lanes  # as long as each other, so that all are of use
        experiment.packing.width_bucket = 1.0
        experiment.packing.convolution = _CONVOLUTION.value
        experiment.packing.lanes = lanes
        experiment.packing.lane_axis = "vmap"
        plan = ensemble.plan_cells(
            experiment,
            dataset,
            grid.make_cells(experiment, dataset),
            devices=machines.devices,
            memory_bytes=machines.memory_bytes,
        )
        for pack in sorted(plan.packs, key=lambda pack: pack.key.width):
            engine = aot.compile_for(pack, dataset, lanes, machines)
            needed = bench_training.without_data(
                engine.count_bytes() or 0, dataset, lanes
            )
            starts, loops, cycles = read_step(engine.step_lanes.as_text())
            told = f"{cycles / 1e3 / pack.lanes:.2f}" if cycles else ""
            print(
                f"| {pack.key.width} | {pack.lanes} "
                f"| {pack.bytes_per_device / 1e6:.1f} MB | {needed / 1e6:.1f} MB "
                f"| {starts} | {loops} | {told} |",
                flush=True,
            )


def main(argv: list[Any]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    for family in bench_training.FAMILIES.value:
        print_table(family)


if __name__ == "__main__":
    app.run(main)

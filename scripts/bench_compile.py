"""What it costs to compile the programs of a study, each from nothing.

    python scripts/bench_compile.py [--programs=resnet26,resnet44,decoder2,decoder8]

prints CPU seconds of all threads of a process, without the cache of programs: of the
plan, which traces what it weighs, and of the three functions, which are traced and
compiled one after the other. They are steadier than the clock, but beside other work
they rise too, and may double where many processes share a core.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any, NamedTuple

import bench_training
from absl import app, flags, logging


class Program(NamedTuple):
    """A program, on examples of `bench_training`."""

    dataset: str
    family: str
    width: int
    depth: int
    batch_size: int
    optimizer: str


PROGRAMS = {
    "resnet8": Program("conv", "wide_resnet", 16, 8, 32, "sgd"),
    "resnet26": Program("conv", "wide_resnet", 16, 26, 32, "sgd"),
    "resnet44": Program("conv", "wide_resnet", 16, 44, 32, "sgd"),
    "narrow_resnet44": Program("conv", "wide_resnet", 4, 44, 32, "sgd"),
    "decoder2": Program("decoder", "transformer", 32, 2, 8, "adam"),
    "decoder8": Program("decoder", "transformer", 32, 8, 8, "adam"),
    # The family of the quickstart, on other text.
    "context_mlp": Program("decoder", "context_mlp", 32, 1, 2, "adam"),
}
_PROGRAMS = flags.DEFINE_list("programs", list(PROGRAMS), "Which.")
flags.register_validator("programs", lambda given: set(given) <= set(PROGRAMS))
_ONE = flags.DEFINE_enum("one", None, list(PROGRAMS), "Internal: in this process.")


def measure(name: str) -> dict[str, float]:
    """CPU seconds of the plan and of compiling."""
    import jax

    from scalepred import config, grid
    from scalepred.training import device_data, engine, ensemble

    program = PROGRAMS[name]
    dataset = bench_training.make_dataset(program.dataset)
    experiment = config.Experiment(
        name=name,
        family=program.family,
        metric="loss",
        grid=config.Grid(widths=(program.width,), depths=(program.depth,), seeds=2),
        training=config.Training(
            optimizer=program.optimizer, batch_size=program.batch_size, epochs=50
        ),
    )
    devices = jax.devices()  # starting the backend is no part of it
    began = time.process_time()
    cells = grid.make_cells(experiment, dataset)
    plan = ensemble.plan_cells(experiment, dataset, cells)
    planned = time.process_time()
    data, _ = device_data.put_data(plan, dataset, devices)
    for pack in plan.packs:
        engine.compile_pack(pack, dataset, data, devices)
    done = time.process_time()
    return {"plan": planned - began, "compile": done - planned}


def print_table() -> None:
    """A row a program, each measured in a process of its own."""
    print("| program | plan, CPU seconds | compile, CPU seconds |")
    print("| --- " * 3 + "|", flush=True)
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    for name in _PROGRAMS.value:
        command = [sys.executable, __file__, f"--one={name}"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {found['plan']:.1f} | {found['compile']:.1f} |", flush=True)


def main(argv: list[Any]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    if _ONE.value:
        print(json.dumps(measure(_ONE.value)))
    else:
        print_table()


if __name__ == "__main__":
    app.run(main)

"""What a fit with its page takes, by how large the table is.

    .venv/bin/python scripts/bench_tables.py [--rows=243,1250,2500,5000,20000,100000]
        [--rounds=3]

Runs `scalepred-fit` on tables drawn from Chinchilla's law with 0.5 % noise: up to 5,000
rows each a size of its own, then checkpoints of 40 models with five seeds. Prints the
median over rounds of CPU seconds (user and system, of the command and of what draws
beside it), which do not depend on what else runs, of wall seconds, and the memory of
the largest process. A first run compiles and is not counted.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np
from absl import app, flags

_ROWS = flags.DEFINE_list(
    "rows", ["243", "1250", "2500", "5000", "20000", "100000"], "rows of the tables"
)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "runs of each that are counted")

_MODELS, _SEEDS, _SCATTERED = 40, 5, 5000


class Took(NamedTuple):
    """What one run took: seconds, and the largest process in bytes."""

    cpu: float
    wall: float
    memory: int


def write_table(path: pathlib.Path, rows: int) -> int:
    """Draws a table; returns how many points it has."""
    rng = np.random.default_rng(rows)
    if rows <= _SCATTERED:
        m, n = 10 ** rng.uniform(7, 9, rows), 10 ** rng.uniform(8, 10, rows)
        seed, points = np.zeros(rows), rows
    else:
        sizes = np.geomspace(1e7, 1e9, _MODELS)
        steps = np.geomspace(1e8, 1e10, rows // _MODELS // _SEEDS)
        grid = np.meshgrid(sizes, steps, np.arange(_SEEDS), indexing="ij")
        m, n, seed = (axis.ravel() for axis in grid)
        points = len(m) // _SEEDS
    loss = 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28
    loss *= np.exp(0.005 * rng.standard_normal(len(m)))
    table = np.stack([m.round(), n.round(), loss, seed], axis=1)
    header = "params,data,loss,seed"
    np.savetxt(path, table, "%.8g", delimiter=",", header=header, comments="")
    return points


def run(table: pathlib.Path, workdir: pathlib.Path) -> Took:
    """Fits a table and writes its page.

    Raises:
        SystemExit: the command failed; what it printed is shown.
    """
    command = [
        sys.executable, "-m", "scalepred.commands.fit", str(table),
        f"--workdir={workdir}", "--target=params=1e10,data=1e11",
    ]  # fmt: skip
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with status {process.returncode}")
    wall = time.perf_counter() - began
    return Took(used.ru_utime + used.ru_stime, wall, 1024 * used.ru_maxrss)


def main(argv: list[str]) -> None:
    del argv
    print("| rows | points | CPU s | ms a point | wall s | memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for rows in map(int, _ROWS.value):
            table = pathlib.Path(folder) / f"{rows}.csv"
            points = write_table(table, rows)
            took = [
                run(table, pathlib.Path(folder) / f"{rows}-{number}")
                for number in range(1 + _ROUNDS.value)
            ][1:]
            cpu, wall, memory = (
                statistics.median(one) for one in zip(*took, strict=True)
            )
            print(
                f"| {rows:,} | {points:,} | {cpu:.1f} | {1e3 * cpu / points:.1f} | "
                f"{wall:.1f} | {memory / 2**30:.2f} GiB |",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)

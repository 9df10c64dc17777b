"""What 1,000, 10,000 and 100,000 cells take, from the grid to the page.

    .venv/bin/python scripts/bench_growth.py [--cells=1000,10000,100000]
        [--stages=plan,resume_done]

Each stage of each size has a process of its own. Printed are CPU seconds (all threads,
and the process that draws), which do not depend on what else runs, without starting
Python and importing; the largest memory of the process; and the exponent of the
growth from size to size: 1 is linear. Widths, data sizes and seeds all grow. Cells are
runs of small MLPs on handwritten digits, of one epoch. Rows are drawn from a law, so
that only the stage `train` trains: every cell, and the seconds are those of the thread
that plans, sends chunks and writes rows.
"""

import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from etils import epath

_CELLS = flags.DEFINE_list("cells", ["1000", "10000", "100000"], "Sizes of grids.")
_STAGES = flags.DEFINE_list("stages", [], "Which to measure; none named: all.")
_ONE = flags.DEFINE_string("one", "", "FOLDER:STAGE:CELLS, for the script itself.")

# Widths, data sizes and seeds of a grid of so many cells.
_SHAPES = {1000: (10, 20, 5), 10_000: (20, 50, 10), 100_000: (40, 100, 25)}
_ROWS_A_PART = 20  # that finish in one chunk


def make_experiment(cells: int):
    """A study of so many cells.

    Raises:
        SystemExit: no grid of so many is known.
    """
    from scalepred import config

    if cells not in _SHAPES:
        sys.exit(f"--cells={cells}: choose of {', '.join(map(str, _SHAPES))}")
    widths, sizes, seeds = _SHAPES[cells]
    return config.Experiment(
        name="growth",
        dataset="digits",
        family="mlp",
        metric="error",
        grid=config.Grid(
            widths=tuple(range(4, 4 + 2 * widths, 2)),
            depths=(1,),
            data_fractions=tuple(np.linspace(0.05, 1.0, sizes).tolist()),
            seeds=seeds,
        ),
        training=config.Training(learning_rate=0.03, epochs=1.0, batch_size=32),
        packing=config.Packing(autotune=False),
        fit=config.Fitting(max_params_ratio=2.0, max_data_ratio=2.0),
    )


def draw_rows(study, share: float = 1.0) -> list:
    """Rows of the first share of all cells, their errors from a law with noise."""
    from scalepred.table.rows import Measurement
    from scalepred.training.work import build, count_flops

    cells = [*study.parts.evidence, *study.parts.held_out]
    rng = np.random.default_rng(0)
    rows = []
    for cell in cells[: math.ceil(share * len(cells))]:
        model = build(cell, study.dataset)
        m, n = model.num_params, cell.dataset_size
        error = 0.02 + m**-0.6 + n**-0.5
        rows.append(
            Measurement(
                cell.cell_id, study.dataset.name, cell.family, cell.width, cell.depth,
                m, model.num_params_total, n, study.dataset.unit, cell.epochs,
                cell.steps, cell.seed, cell.learning_rate,
                count_flops(cell, study.dataset), "error",
                error * math.exp(0.03 * rng.standard_normal()), error, "ok", 0.1, "cpu",
                str(cell.program_key), others={"loss": 3 * error, "train_loss": error},
            )
        )  # fmt: skip
    return rows


class _Stages:
    """A method a stage: prepares, and gives what is timed."""

    def __init__(self, folder: str, cells: int):
        from scalepred.forecasting import parts

        self.folder, self.experiment = epath.Path(folder), make_experiment(cells)
        self.prepare = lambda path: parts.prepare(self.experiment, self.folder / path)

    def _open(self, path: str):
        from scalepred.fill import open_table

        return open_table(self.prepare(path))

    def _write(self, path: str, share: float) -> Callable[[], object]:
        study = self._open(path)
        rows, table = draw_rows(study, share), study.table
        assert table is not None

        def write() -> None:
            for first in range(0, len(rows), _ROWS_A_PART):
                table.append(rows[first : first + _ROWS_A_PART])
            table.merge()

        return write

    def grid(self) -> Callable[[], object]:
        """Cells, their ids, and which are evidence."""
        self.prepare("none")  # what is imported on the way
        return lambda: [
            cell.cell_id for part in self.prepare("none").parts for cell in part
        ]

    def plan(self) -> Callable[[], object]:
        """The plan, and the whole course of its lanes."""
        from scalepred.training import chunks, ensemble

        study = self.prepare("none")
        cells = [*study.parts.evidence, *study.parts.held_out]
        return lambda: chunks.predict_utilization(
            ensemble.plan_cells(self.experiment, study.dataset, cells)
        )

    def write_rows(self) -> Callable[[], object]:
        """Rows as runs finish, and the view of them all."""
        return self._write("done", 1.0)

    def write_half(self) -> Callable[[], object]:
        return self._write("half", 0.5)

    def open_table(self) -> Callable[[], object]:
        from scalepred.table.rows import Table

        return lambda: Table(self.folder / "done" / "measurements.csv").merge()

    def _resume(self, path: str) -> Callable[[], object]:
        from scalepred.training import ensemble

        def resume() -> object:
            study = self._open(path)
            cells = [*study.parts.evidence, *study.parts.held_out]
            done = {cell.cell_id for cell in cells if cell.cell_id in study.rows}
            return ensemble.plan_cells(self.experiment, study.dataset, cells, done=done)

        return resume

    def resume_done(self) -> Callable[[], object]:
        """Grid, table and plan of a study that is done."""
        return self._resume("done")

    def resume_half(self) -> Callable[[], object]:
        return self._resume("half")

    def train(self) -> Callable[[], object]:
        from scalepred.fill import train

        study = self._open("trained")
        return lambda: train(study, [*study.parts.evidence, *study.parts.held_out])

    def surface(self) -> Callable[[], object]:
        from scalepred.forecasting.evidence import make_surface

        study = self._open("done")
        return lambda: make_surface(study, study.parts.evidence + study.parts.held_out)

    def fit(self) -> Callable[[], object]:
        from scalepred.forecasting.evidence import fit_evidence

        study = self._open("done")
        return lambda: fit_evidence(study)

    def page(self) -> Callable[[], object]:
        """What is written after the fit: scores, corners, figures, the page."""
        from scalepred import study as studies
        from scalepred.forecasting.evidence import fit_evidence

        study = self._open("done")
        fit = fit_evidence(study)
        return lambda: studies.report(study, fit, None, ("fit", "report"), ())


_NAMES = {
    "grid": "cells of the grid",
    "plan": "plan, course of the lanes",
    "write_rows": "rows and their view",
    "write_half": "half of the rows",
    "open_table": "open the table",
    "resume_done": "resume, all done",
    "resume_half": "resume, half done",
    "train": "train: the host's thread",
    "surface": "points of the rows",
    "fit": "fit",
    "page": "scores, figures, page",
}


def measure_one(folder: str, stage: str, cells: int) -> dict[str, float]:
    """Seconds and bytes of one stage, in this process."""
    from scalepred.runtime import command

    command.cache_programs()
    timed = getattr(_Stages(folder, cells), stage)()
    clock = time.thread_time if stage == "train" else time.process_time
    began, children = clock(), os.times().children_user
    timed()
    took = clock() - began + os.times().children_user - children
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": took, "bytes": 1024.0 * peak}


def measure(folder: str, stage: str, cells: int) -> dict[str, float]:
    """The same in a process of its own.

    Raises:
        SystemExit: it failed; what it printed is shown.
    """
    command = [sys.executable, __file__, f"--one={folder}:{stage}:{cells}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    del argv
    if _ONE.value:
        folder, stage, cells = _ONE.value.rsplit(":", 2)
        print(json.dumps(measure_one(folder, stage, int(cells))))
        return
    sizes = [int(cells) for cells in _CELLS.value]
    print(
        "| stage | " + " | ".join(f"{size:,} cells" for size in sizes) + " | growth |"
    )
    print("| --- " * (len(sizes) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for stage, name in _NAMES.items():
            wanted = not _STAGES.value or stage in _STAGES.value
            if not wanted and stage not in ("write_rows", "write_half"):
                continue
            took = [
                measure(str(pathlib.Path(folder) / str(size)), stage, size)
                for size in sizes
            ]
            if wanted:
                print(f"| {name} | {_describe(sizes, took)} |", flush=True)


def _describe(sizes: list[int], took: list[dict[str, float]]) -> str:
    cells = [f"{one['seconds']:.2f} s, {one['bytes'] / 1e9:.2f} GB" for one in took]
    growth = [
        math.log(took[i]["seconds"] / took[i - 1]["seconds"])
        / math.log(sizes[i] / sizes[i - 1])
        for i in range(1, len(sizes))
    ]
    return " | ".join([*cells, ", ".join(f"{one:.2f}" for one in growth)])


if __name__ == "__main__":
    app.run(main)

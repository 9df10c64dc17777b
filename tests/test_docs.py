"""The examples of docs/, run as they stand, from outside the package."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from scalepred import grid
from scalepred.table.rows import Measurement, Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = dict(
    re.findall(
        r"<!-- file: (\w+\.py) -->\n```python\n(.*?)```",
        (ROOT / "docs" / "tasks.md").read_text(),
        re.DOTALL,
    )
)


@pytest.fixture(params=FILES)
def study(request, tmp_path) -> tuple[pathlib.Path, pathlib.Path]:
    """A file of the page in a folder of its own, and a workdir."""
    path = tmp_path / request.param
    path.write_text(FILES[request.param])
    return path, tmp_path / "work"


def scalepred(path: pathlib.Path, workdir: pathlib.Path, *flags: str) -> str:
    command = [sys.executable, "-m", "scalepred", f"--config={path}"]
    done = subprocess.run(
        [*command, f"--workdir={workdir}", *flags],
        cwd=path.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_rows(workdir: pathlib.Path) -> dict[str, Measurement]:
    return Table(workdir / "measurements.csv").rows


def test_the_page_has_files():
    assert [*FILES] == ["diabetes.py", "autoencoder.py"]


def test_it_trains_fits_and_learns(study, monkeypatch):
    path, workdir = study
    out = scalepred(path, workdir)
    assert "  trust    " in out
    monkeypatch.syspath_prepend(path.parent)
    module = __import__(path.stem)
    experiment, dataset = module.get_config(), module.load()
    rows = read_rows(workdir)
    assert len(rows) == len(grid.make_cells(experiment, dataset))
    assert {row.status for row in rows.values()} == {"ok"}
    loss = dataset.task.loss
    widest = max(row.width for row in rows.values())
    largest = [
        row
        for row in rows.values()
        if row.data == dataset.num_train and row.width == widest
    ]
    guess = dataset.random_guess(loss)
    assert np.mean([row.read(loss) for row in largest]) < 0.7 * guess


def test_packed_is_alone(study, monkeypatch):
    """The run in the midst of the grid is the run of a grid of its own."""
    path, workdir = study
    scalepred(path, workdir, "--stages=train")
    alone = ["--config.grid.widths=(4,)", "--config.packing.lanes=1",
             "--config.packing.width_bucket=1.0"]  # fmt: skip
    scalepred(path, workdir.parent / "alone", "--stages=train", *alone)
    packed, exact = read_rows(workdir), read_rows(workdir.parent / "alone")
    assert len(exact) > 5
    for name, row in exact.items():
        for column in ("", "train"):
            metric = next(iter(row.others))  # mae, squares
            found = packed[name].read(metric, column)
            assert found == pytest.approx(row.read(metric, column), rel=1e-4)

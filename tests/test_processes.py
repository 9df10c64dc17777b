"""Two processes with two devices each train what one process with four does."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from scalepred.table.rows import Table
from scalepred.training import curves
from scripts import soak

ROOT = pathlib.Path(__file__).resolve().parents[1]

STUDY = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="pair",
        metric="loss",
        grid=config.Grid(widths=(8,), data_fractions=(1 / 64, 1 / 16), seeds=4,
                         learning_rates=(0.05, 1e38)),
        training=config.Training(steps={steps}),
        packing=config.Packing(lanes=2, chunk_steps={steps} // 4,
                               checkpoint_minutes=1e-4),
    )
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start(
    config, workdir, devices: int, *arguments: str, stages: str = "train"
) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable, "-m", "scalepred", f"--config={config}",
            f"--workdir={workdir}", f"--stages={stages}", *arguments,
        ],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def start_pair(config, workdir, stages: str = "train") -> list[subprocess.Popen]:
    port = free_port()
    return [
        start(
            config, workdir, 2, "--distributed", f"--coordinator=localhost:{port}",
            "--num_processes=2", f"--process_id={index}", stages=stages,
        )
        for index in range(2)
    ]  # fmt: skip


def wait_for_rows(workdir, processes) -> None:
    while not list((workdir / "rows").glob("*.csv")):
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, ended[0].communicate()[0]
        time.sleep(0.02)


def finish(process) -> None:
    output, _ = process.communicate()
    assert process.returncode == 0, output


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "pair.py"
    path.write_text(STUDY.format(steps=600))
    return path


@pytest.mark.parametrize(
    "victim",
    [pytest.param(1, id="worker"), pytest.param(0, id="first", marks=pytest.mark.slow)],
)
def test_one_process_dies_the_other_ends_and_one_device_finishes(
    config, tmp_path, victim
):
    workdir = tmp_path / "work"
    pair = start_pair(config, workdir)
    wait_for_rows(workdir, pair)
    pair[victim].kill()
    other = pair[1 - victim]
    output, _ = other.communicate(timeout=60)
    assert other.returncode not in (0, 2)
    # Ours, or that of JAX's coordinator, which ends the process itself.
    said = ("another process of this job failed", "another task died")
    assert any(sentence in output for sentence in said), output
    pair[victim].communicate()

    half = Table(workdir / "measurements.csv").rows
    assert 0 < len(half) < 16
    finish(start(config, workdir, 1))
    rows = Table(workdir / "measurements.csv").rows
    assert len(rows) == 16
    # A row written is never changed.
    assert {name: rows[name] for name in half} == half

    if victim == 1:  # once is enough
        return
    finish(start(config, tmp_path / "one", 1))
    for name, row in Table(tmp_path / "one" / "measurements.csv").rows.items():
        assert rows[name].value == pytest.approx(row.value, rel=1e-4, nan_ok=True)


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(config, tmp_path):
    one, pair = tmp_path / "one", tmp_path / "pair"
    finish(start(config, one, 4))
    killed = start_pair(config, pair)
    wait_for_rows(pair, killed)
    killed[0].kill()
    for process in killed:
        process.communicate(timeout=60)
    for process in start_pair(config, pair):
        finish(process)
    assert soak.read_table(pair) == soak.read_table(one)
    # Half of the runs diverge and give up their lanes; all processes agree on when.
    found, expected = curves.read(pair), curves.read(one)
    assert len(found) == len(expected) == 16
    for cell_id, curve in expected.items():
        np.testing.assert_array_equal(found[cell_id].losses, curve.losses)


TARGETS = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="pair",
        grid=config.Grid(widths=(4, 8, 16), data_fractions=(1 / 64, 1 / 16, 1 / 4),
                         seeds=2, learning_rates=(1e-5, 0.0123456789)),
        training=config.Training(steps=60),
        fit=config.Fitting(resamples=50),
        targets=config.Targets(widths=(32,), seeds=4),
    )
"""


@pytest.mark.slow
def test_two_processes_train_the_targets_after_the_firsts_forecast(tmp_path):
    """Only the first has the table, whose best rate both must train with."""
    config, workdir = tmp_path / "targets.py", tmp_path / "work"
    config.write_text(TARGETS)
    stages = "train,fit,forecast,verify"
    for process in start_pair(config, workdir, stages):
        finish(process)
    rows = Table(workdir / "measurements.csv").rows.values()
    trained = [row.learning_rate for row in rows if row.width == 32]
    assert trained == [0.0123456789] * 4
    assert len(rows) == 3 * 3 * 2 * 2 + 4
    assert len(list((workdir / "forecasts").glob("*.json"))) == 1
    assert (workdir / "verification.csv").read_text().count("\n") == 2

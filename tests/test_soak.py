"""Processes that are killed, and disks that are full, lose nothing.

The long form, a real study at many random moments, is scripts/soak.py.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from etils import epath

from scalepred import study
from scalepred.config import UserError
from scalepred.table.rows import Table
from scalepred.training import curves
from scripts import soak
from tests.test_forecast import STUDY as FORECAST_STUDY
from tests.test_study import small_study

STUDY = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="small",
        grid=config.Grid(widths=(4, 8), data_fractions=(1 / 64, 1 / 16), seeds=6),
        training=config.Training(learning_rate=0.05, steps=60),
        packing=config.Packing(lanes=1, checkpoint_minutes=1e-6),
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "study.py"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def expected(config, tmp_path_factory):
    """The table of a run that nothing disturbs."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    process = soak.start(config, workdir, "--stages=train")
    process.join()
    assert process.exitcode == 0, read_log(workdir)
    table = soak.read_table(workdir)
    assert len(table) == 1 + 24
    return table


def run(config, workdir, *arguments, **kill) -> int | None:
    process = soak.start(config, workdir, "--stages=train", *arguments, **kill)
    process.join()
    return process.exitcode


def read_log(workdir) -> str:
    return pathlib.Path(f"{workdir}.log").read_text()


def test_killed_in_every_stage_of_training(config, expected, tmp_path):
    workdir = tmp_path / "work"
    kill, stop = signal.SIGKILL, signal.SIGTERM
    assert run(config, workdir, stage="curve write", number=kill) == -kill
    assert run(config, workdir, stage="row write", number=kill) == -kill
    assert run(config, workdir, stage="checkpoint write", number=kill) == -kill
    assert run(config, workdir, stage="chunk", number=stop) == 128 + stop
    assert "stopped by SIGTERM; rows written so far are kept" in read_log(workdir)
    assert run(config, workdir) == 0
    assert soak.read_table(workdir) == expected
    assert set(curves.read(workdir)) == set(Table(workdir / "measurements.csv").rows)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up(config, expected, small_disk):
    workdir = small_disk / "work"
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(bytes((room.f_bavail - 9) * room.f_frsize))
    arguments = ("--config.packing.checkpoint_minutes=0",)
    log = str(small_disk.parent / "work.log")
    process = soak.start(config, workdir, "--stages=train", *arguments, log=log)
    process.join()
    said = pathlib.Path(log).read_text().splitlines()
    assert process.exitcode == 1, said
    assert "No space left on device" in said[-1]
    assert "rows written so far are kept" in said[-1]
    kept = set(Table(workdir / "measurements.csv").rows)
    assert 0 < len(kept) < 24

    # A disk that nobody may write to is told before anything is trained.
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=r"cannot be used .*Read-only"):
        study.run(small_study(), epath.Path(workdir.with_name("other")))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)

    filler.unlink()
    process = soak.start(config, workdir, "--stages=train", log=log)
    process.join()
    assert process.exitcode == 0
    assert soak.read_table(workdir) == expected


def test_every_stage_is_a_place_in_the_code():
    """What a stage is put in front of may be renamed; in a process of its own."""
    code = "from scripts import soak; [put(print) for put in soak.STAGES.values()]"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pathlib.Path(soak.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_killed_while_forecasting_and_verifying(tmp_path):
    """There is one forecast, whenever it was killed, and it is scored."""
    config = tmp_path / "targets.py"
    config.write_text(FORECAST_STUDY)

    def live(workdir, stage=None) -> int | None:
        process = soak.start(config, workdir, "--verify", stage=stage)
        process.join()
        return process.exitcode

    undisturbed = tmp_path / "undisturbed"
    assert live(undisturbed) == 0, read_log(undisturbed)
    said = soak.read_said(undisturbed)
    assert len(said) == 1
    kill = -signal.SIGKILL
    trained = tmp_path / "trained"  # the evidence, which all of them share
    assert live(trained, "forecast") == kill
    for stage in (
        "forecast",
        "forecast's fit write",
        "forecast write",
        "verify",
        "score",
    ):
        workdir = tmp_path / stage.replace(" ", "_")
        shutil.copytree(trained, workdir)
        assert [live(workdir, stage), live(workdir)] == [kill, 0], stage
        assert soak.read_said(workdir) == said
        assert soak.read_table(workdir) == soak.read_table(undisturbed)
        scores = [path / "verification.csv" for path in (workdir, undisturbed)]
        # All but the digest, which says when it was sealed, too.
        rows = [path.read_text().rpartition(",")[0] for path in scores]
        assert rows[0] == rows[1]

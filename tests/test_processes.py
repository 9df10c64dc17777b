"""Two processes with two devices each train what one process with four does."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from scalepred.config import UserError
from scalepred.runtime import processes
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

HOPELESS = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="pair",
        grid=config.Grid(widths=(8,), data_fractions=(0.5, 1.0), seeds=4,
                         learning_rates=(0.001, 0.01, 0.1, 1.0)),
        training=config.Training(epochs=4, batch_size=8),
        packing=config.Packing(lanes=2, stop_hopeless=True, checkpoint_minutes=1e-4),
    )
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start(
    config, workdir, devices: int, *arguments: str, stages: str = "train", **env: str
) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable, "-m", "scalepred", f"--config={config}",
            f"--workdir={workdir}", f"--stages={stages}", *arguments,
        ],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **env},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def start_pair(
    config,
    workdir,
    stages: str = "train",
    only_second: Sequence[str] = (),
    data: Sequence[str] = ("", ""),
) -> list[subprocess.Popen]:
    """Two processes; `data` is what each finds in the environment's PAIR_DATA."""
    port = free_port()
    return [
        start(
            config, workdir, 2, "--distributed", f"--coordinator=localhost:{port}",
            "--num_processes=2", f"--process_id={index}", *arguments, stages=stages,
            PAIR_DATA=data[index],
        )
        for index, arguments in enumerate(((), only_second))
    ]  # fmt: skip


def wait_for_rows(workdir, pair) -> None:
    while not list((workdir / "rows").glob("*.csv")):
        ended = [process for process in pair if process.poll() is not None]
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


def kill_one(config, workdir, victim: int) -> None:
    """Starts a pair and kills one of it, while half of the runs have rows."""
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
    assert 0 < len(Table(workdir / "measurements.csv").rows) < 16


def finish_alone(config, workdir) -> None:
    """Finishes on one device what a pair has begun."""
    half = Table(workdir / "measurements.csv").rows
    finish(start(config, workdir, 1))
    rows = Table(workdir / "measurements.csv").rows
    assert len(rows) == 16
    # A row written is never changed.
    assert {name: rows[name] for name in half} == half


def test_a_process_dies_the_first_ends_and_one_device_finishes(config, tmp_path):
    kill_one(config, tmp_path / "work", victim=1)
    finish_alone(config, tmp_path / "work")


@pytest.mark.slow
def test_the_first_dies_and_a_pair_or_one_device_gives_the_table_of_one(
    config, tmp_path
):
    one, pair, alone = (tmp_path / name for name in ("one", "pair", "alone"))
    finish(start(config, one, 4))
    kill_one(config, pair, victim=0)
    shutil.copytree(pair, alone)
    finish_alone(config, alone)
    rows = Table(alone / "measurements.csv").rows
    for name, row in Table(one / "measurements.csv").rows.items():
        assert rows[name].value == pytest.approx(row.value, rel=1e-4, nan_ok=True)

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
def test_two_processes_stop_the_hopeless_runs_that_one_does(tmp_path):
    """Also when they are killed on the way: references come from the first's table."""
    path = tmp_path / "pair.py"
    path.write_text(HOPELESS)
    one, pair = tmp_path / "one", tmp_path / "pair"
    finish(start(path, one, 4))
    killed = start_pair(path, pair)
    wait_for_rows(pair, killed)
    killed[0].kill()
    for process in killed:
        process.communicate(timeout=60)
    for process in start_pair(path, pair):
        finish(process)
    expected = Table(one / "measurements.csv").rows
    rows = Table(pair / "measurements.csv").rows
    assert {name: row.status for name, row in rows.items()} == {
        name: row.status for name, row in expected.items()
    }
    stopped = [row for row in rows.values() if row.status == "stopped"]
    assert 5 < len(stopped) < len(rows)
    for row in stopped:
        assert row.steps == expected[row.cell_id].steps
        assert row.others == pytest.approx(
            expected[row.cell_id].others, rel=1e-4, nan_ok=True
        )


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


ARMS = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="arms",
        metric="loss",
        grid=config.Grid(widths=(4, 8), data_fractions=(1 / 64, 1 / 32, 1 / 16)),
        training=config.Training(steps=20, learning_rate=0.05),
        fit=config.Fitting(resamples=20),
        targets=config.Targets(widths=(16,), data_fractions=(0.25,)),
        arms={"plain": {}, "lost": {"training.learning_rate": 1e30},
              "faster": {"training.learning_rate": 0.1}},
    )
"""


@pytest.mark.slow
def test_two_processes_train_arms_and_their_targets(tmp_path):
    """Also where only the first knows that an arm cannot be fitted."""
    (tmp_path / "arms.py").write_text(ARMS)
    workdir = tmp_path / "work"
    stages = "train,fit,forecast,verify,report"
    for process in start_pair(tmp_path / "arms.py", workdir, stages=stages):
        finish(process)
    for name, number in (("plain", 7), ("faster", 7), ("lost", 6)):
        assert len(Table(workdir / name / "measurements.csv").rows) == number
    assert "What was said before" in (workdir / "report.html").read_text()


def end_in_mistakes(pair: Sequence[subprocess.Popen]) -> list[str]:
    """The last line that each prints before it ends with status 2."""
    outputs = [process.communicate(timeout=120)[0] for process in pair]
    assert [process.returncode for process in pair] == [2, 2], outputs
    assert not any("Traceback" in output for output in outputs), outputs
    lines = [output.strip().splitlines() for output in outputs]
    return [next(x for x in ls if x.startswith("scalepred: ")) for ls in lines]


def test_different_configs_are_told_in_every_process(config, tmp_path):
    workdir = tmp_path / "work"
    flags = ("--config.training.learning_rate=0.001", "--config.grid.seeds=3")
    first, second = end_in_mistakes(start_pair(config, workdir, only_second=flags))
    assert first == second
    assert "training.learning_rate is 0.1 in process 0 and 0.001 in process 1" in first
    assert "grid.seeds is 4 in process 0 and 3 in process 1" in first
    assert not workdir.exists()


OWN_DATA = """
import os
import numpy as np
from scalepred.config import UserError
from scalepred.data.dataset import Dataset

def load():
    given = os.environ["PAIR_DATA"]
    if not given:
        raise UserError("dataset=pair_data: is not on this machine")
    labels = np.arange(600) % 3
    inputs = np.eye(3, dtype=np.float32)[labels] + float(given)
    return Dataset("mine", inputs, labels, 3, num_train=400, has_fixed_test=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (("1", "2"), "the digest of what the data hold (dataset) is '"),
        (("1", ""), "dataset=pair_data: is not on this machine"),
        (("", "1"), "process 0 of this job: dataset=pair_data: is not on this machine"),
    ],
)
def test_different_data_are_told_in_every_process(config, tmp_path, data, said):
    (tmp_path / "pair_data.py").write_text(OWN_DATA)
    source = config.read_text().replace('"pair",', '"pair", dataset="pair_data",')
    config.write_text(source)
    told = end_in_mistakes(start_pair(config, tmp_path / "work", data=data))
    assert said in told[1]
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_mistake_that_only_the_first_sees_ends_all(config, tmp_path):
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "config.json").write_text('{"kind": "measurements"}')
    first, second = end_in_mistakes(start_pair(config, workdir))
    assert "belongs to a study of another kind" in first
    assert second == first.replace("scalepred: ", "scalepred: process 0 of this job: ")


@pytest.fixture
def several(monkeypatch):
    """As if this were a process of several; gives a list for what the others say."""
    others: list[str] = []
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(processes, "_gather_text", lambda text: [text, *others])
    return others


def test_who_agrees_goes_on(several):
    several += ['{"rate": 0.1, "widths": [4, 8]}'] * 3
    processes.agree(lambda: {"rate": 0.1, "widths": (4, 8)})
    several.append('{"rate": 0.1, "widths": [4, 8, 16]}')
    with pytest.raises(UserError, match=r"widths is \[4, 8\] .* in process 4;"):
        processes.agree(lambda: {"rate": 0.1, "widths": (4, 8)})


def test_what_only_one_of_them_knows_differs(several):
    several.append('{"rate": 0.1, "new": 1}')
    with pytest.raises(UserError, match="new is None in process 0 and 1 in process 1"):
        processes.agree(lambda: {"rate": 0.1})


def test_of_many_differences_some_are_named_each_once(several):
    record = {f"field{index}": index for index in range(9)}
    several += [f'{{"field0": {value}}}' for value in (0, 5)]
    with pytest.raises(UserError, match=r"field1 .* field5 .* 4 more; start"):
        processes.agree(lambda: record)


def test_numbers_that_differ_in_the_last_bit_differ(several):
    several.append('{"rate": 0.30000000000000004}')
    processes.agree(lambda: {"rate": 0.1 + 0.2})
    with pytest.raises(UserError, match=r"rate is 0\.3 in"):
        processes.agree(lambda: {"rate": 0.3})


def test_a_mistake_of_another_is_told(several):
    several += ["", "widths=0: too small"]
    with pytest.raises(UserError, match="process 2 of this job: widths=0: too small"):
        processes.together(lambda: 1)
    several.clear()
    assert processes.together(lambda: 1) == 1


def test_alone_nobody_is_asked():
    processes.agree(lambda: pytest.fail("asked"))
    assert processes.together(lambda: 5) == 5
    with pytest.raises(UserError, match=r"^own$"):
        processes.together(lambda: (_ for _ in ()).throw(UserError("own")))

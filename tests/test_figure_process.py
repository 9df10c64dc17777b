"""Signals to the processes that draw: no traceback, whoever gets them and when."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from scalepred.report import plot_data
from scalepred.report.figure_process import FigureProcess
from scalepred.runtime.preemption import ProcessLost
from tests.example_results import grid
from tests.test_commands import write_points

if not pathlib.Path("/proc/self/task").exists():
    pytest.skip("no /proc: processes cannot be found", allow_module_level=True)

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def find_children(pid: int) -> list[int]:
    """Processes that a process started, those that they started, and so on."""
    found = [pid]
    for one in found:
        for listed in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, listed.read_text().split())
    return found[1:]


def wait_for_artists(process: FigureProcess) -> list[int]:
    deadline = time.monotonic() + 60
    while not (artists := find_children(process._process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return artists


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("when", ["at once", "drawing"])
def test_the_process_that_draws_leaves_signals_to_the_command(number, when, capfd):
    process = FigureProcess()
    if when == "drawing":
        process.start(plot_data.make_plot_data(grid()))
        wait_for_artists(process)
    process._process.send_signal(number)
    process.start(plot_data.make_plot_data(grid()))
    assert set(process.finish()) == {"predicted", "surface", "curves"}
    assert capfd.readouterr() == ("", "")


def test_an_artist_that_is_ended_is_told_without_a_traceback(capfd):
    process = FigureProcess()
    process.start(plot_data.make_plot_data(grid()))
    for artist in wait_for_artists(process):
        os.kill(artist, signal.SIGKILL)  # it may not listen to another one yet
    with pytest.raises(ProcessLost, match="the figures could not be drawn"):
        process.finish()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("when", ["sent", "asked"])
def test_a_command_that_ends_leaves_no_traceback(capfd, when):
    process = FigureProcess()
    process.start(plot_data.make_plot_data(grid()))
    if when == "asked":
        process._line.send(None)
    wait_for_artists(process)
    process.close()
    assert process._process.returncode == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("when", ["importing", "drawing"])
def test_a_fit_that_is_ended_with_all_its_processes(tmp_path, number, when):
    """Whoever sends it to all of a job; what is being imported has no sentence yet."""
    points = write_points(tmp_path / "points.csv")
    # What is ignored here, as in jobs in the background, would be ignored there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = subprocess.Popen(
        [sys.executable, "-m", "scalepred.commands.fit", points, "--resamples=20",
         f"--workdir={tmp_path / 'work'}", "--law=rosenfeld"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    # One that imports matplotlib, then one for each figure as well.
    wanted = 1 if when == "importing" else 2
    while len(processes := find_children(command.pid)) < wanted:
        assert command.poll() is None
        time.sleep(0.01)
    for pid in (*processes, command.pid):
        with contextlib.suppress(ProcessLookupError):  # an artist that is done
            os.kill(pid, number)
    said = command.communicate(timeout=60)[1]
    assert "Traceback" not in said
    if when == "drawing":
        assert command.returncode == (130 if number == signal.SIGINT else 143)
        # On a busy machine it has said before what it was doing.
        lines = said.strip().splitlines()
        assert lines[-1].startswith("scalepred-fit: "), said
        assert sum(line.startswith("scalepred-fit: ") for line in lines) == 1
        assert "Error" not in said
    else:
        assert command.returncode == -number

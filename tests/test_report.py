"""The figures of a report, for ordinary and for odd results."""

import dataclasses
import functools
import pathlib
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from example_results import ODD, grid

from scalepred.report import figures, plot_data
from scalepred.report.figure_process import FigureProcess
from scalepred.report.plot_data import FigureFiles
from scalepred.report.results import Results


def _make_plot_data(results: Results) -> plot_data.PlotData:
    return plot_data.add_corners(plot_data.make_plot_data(results), results)


@functools.cache
def _draw(kind: str) -> dict[str, FigureFiles]:
    seen = _make_plot_data(ODD[kind]())
    return {name: figures.draw(seen, name) for name in seen.figures}


def test_a_figure_process_draws_the_same_figures():
    process = FigureProcess()
    process.start(plot_data.make_plot_data(grid()))
    process.start(_make_plot_data(grid()))  # with the corners

    drawn = process.finish()

    assert list(drawn) == ["predicted", "surface", "curves", "corners"]
    assert drawn == _draw("grid")
    for drawing in drawn.values():
        assert drawing.png.startswith(b"\x89PNG\r")
        assert drawing.svg.startswith(b"<?xml")


def test_what_cannot_be_drawn_is_said(capfd):
    seen = plot_data.make_plot_data(grid())
    process = FigureProcess()
    process.start(dataclasses.replace(seen, by_data=None))  # pyright: ignore

    with pytest.raises(RuntimeError, match="could not be drawn"):
        process.finish()
    assert "AttributeError" in capfd.readouterr().err


def test_a_figure_process_that_is_gone_is_said():
    process = FigureProcess()
    process._process.kill()
    process._process.wait()
    process.start(plot_data.make_plot_data(grid()))

    with pytest.raises(RuntimeError, match="could not be drawn"):
        process.finish()


def test_a_figure_process_killed_while_it_draws_is_said():
    process = FigureProcess()
    process.start(plot_data.make_plot_data(grid()))
    pid = process._process.pid
    listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        process.close()
        pytest.skip("no /proc: whether it draws cannot be told")
    deadline = time.monotonic() + 60
    while not (artists := listed.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process._process.kill()

    with pytest.raises(RuntimeError, match="could not be drawn"):
        process.finish()
    while any(_is_running(artist) for artist in artists):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(process: str) -> bool:
    try:
        after_name = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return after_name[2].split()[0] != "Z"  # ended, though nobody has asked


def test_a_figure_process_ends_with_who_started_it():
    process = FigureProcess()
    process.close()
    assert process._process.returncode == 0


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import scalepred.report.figures", "jax"),
        ("import scalepred.analysis", "matplotlib"),
        (
            f"import pickle; pickle.loads({pickle.dumps(FigureFiles(b'', b''))})",
            "matplotlib",
        ),
        ("import scalepred.commands.fit", "numpy"),
    ],
)
def test_neither_side_waits_for_what_it_does_not_need(code, module):
    code = f"import sys; {code}; print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_few_lines_for_many_sizes():
    sizes = np.geomspace(1, 1e6, 150)
    chosen = plot_data.choose_sizes(sizes)
    assert 5 <= len(chosen) <= 8
    np.testing.assert_array_equal(plot_data.choose_sizes(sizes[:5]), sizes[:5])


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.05, 0.4), (2.0, 2.1), (1e2, 1e9), (0.9, 0.9001), (1, 1e30), (3, 3)],
)
def test_ticks_are_few_and_within(low, high):
    ticks = figures._log_ticks(low, high, at_most=7)
    assert len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)

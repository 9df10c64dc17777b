"""The words, figures and page of a report, for ordinary and for odd results."""

import dataclasses
import functools
import html.parser
import pathlib
import pickle
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from example_results import ODD, grid

from scalepred.fitting.health import Warn
from scalepred.report import figures, format, plot_data, words
from scalepred.report.figure_process import FigureProcess
from scalepred.report.page import page
from scalepred.report.plot_data import FigureFiles
from scalepred.report.results import Results


def _make_plot_data(results: Results) -> plot_data.PlotData:
    return plot_data.add_corners(plot_data.make_plot_data(results), results)


@functools.cache
def _draw(kind: str) -> dict[str, FigureFiles]:
    seen = _make_plot_data(ODD[kind]())
    return {name: figures.draw(seen, name) for name in seen.figures}


class _Checker(html.parser.HTMLParser):
    """Tags are closed in order; nothing is loaded, nothing runs."""

    VOID = frozenset(("meta", "img", "br", "hr"))

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert (value or "").startswith("data:image/svg+xml;base64,")
            if tag == "img" and name == "alt":
                assert value
        if tag == "th":
            assert dict(attrs)["scope"] in ("row", "col")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _write_page(results: Results, kind: str, folder) -> tuple[str, _Checker]:
    path = epath.Path(folder) / "report.html"
    svg = {name: drawing.svg for name, drawing in _draw(kind).items()}
    page.write_page(path, results, svg)
    text = path.read_text()
    checker = _Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return text, checker


@pytest.mark.parametrize("kind", ODD)
def test_page_of_any_results_is_whole_and_alone(kind, tmp_path):
    any_results = ODD[kind]()
    text, checker = _write_page(any_results, kind, tmp_path)

    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert not re.search(r"https?://|@import|url\(", text)
    assert checker.tags.count("img") in (3, 4)
    for name in any_results.fit.parameters:
        assert format.printable(name) in checker.text
    for warning in any_results.fit.warnings:
        assert format.printable(warning.code) in checker.text
        assert format.printable(format.sentence(warning.sentence)) in checker.text
    for answer in any_results.answers:
        told = words.describe_answer(answer, any_results.surface)
        assert format.printable(format.sentence(told)) in checker.text
    for note in any_results.surface.notes:
        assert format.printable(note) in checker.text


def test_page_tells_every_part(tmp_path):
    warned = dataclasses.replace(
        grid().fit, extra_warnings=(Warn("few_points", "rests on little"),)
    )
    results = dataclasses.replace(grid(), fit=warned)

    _, checker = _write_page(results, "grid", tmp_path)

    for heading in (
        "Warnings",
        "Answers",
        "Predicted against measured",
        "The surface",
        "Along each size",
        "Extrapolation from every corner",
        "The law",
        "How far to trust it",
        "The largest predictions",
        "What was run",
    ):
        assert heading in checker.text
    assert results.fit.law.formula in checker.text
    for score in results.scores:
        assert score.name in checker.text
    for name, version in results.versions.items():
        assert f"{name} {version}" in checker.text
    for test in results.fit.inner_tests:
        assert f"1/{test.ratio:g} of the compute" in checker.text
    assert (
        format.sentence(f"compute: {words.describe_compute(results)}") in checker.text
    )


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

"""The words, figures and page of a report, for ordinary and for odd results."""

import dataclasses
import functools
import html.parser
import math
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
from scalepred.report import figures, format, plot_data
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
        told = format.describe_answer(answer, any_results.surface)
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
        format.sentence(f"compute: {format.describe_compute(results)}") in checker.text
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


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4100, "4,100"),
        (4132.7, "4,130"),
        (999_999, "999,999"),
        (999_999.5, "1e6"),
        (1.234e9, "1.23e9"),
        (0.0123, "0.0123"),
        (1.5e-7, "1.5e-7"),
        (0, "0"),
        (math.inf, "out of reach"),
        (math.nan, "n/a"),
    ],
)
def test_counts(number, text):
    assert format.count(number) == text


def test_values_and_percentages():
    assert format.measured(0.0421, "error") == "4.21%"
    assert format.measured(0.02, "error") == "2.00%"
    assert format.measured(2.1, "loss") == "2.100 nats"
    assert format.wanted(0.05, "error") == "5%"
    assert format.percent(-0.0449) == "-4.5%"
    assert format.percent(-1e-9) == "0.0%"
    assert format.percent(12.34) == "1,234%"
    assert format.percent(math.nan) == "n/a"
    assert format.duration(3725) == "1 h 2 min"
    assert format.duration(59.9) == "1 min 0 s"


def test_answers_say_numbers_and_limits():
    data, budget, unreachable, params, cheapest = (
        format.describe_answer(answer, grid().surface) for answer in grid().answers
    )
    needed = grid().answers[0]
    assert data.startswith("an error of 10% with 50,000 parameters takes ")
    assert f"{format.count(needed.value)} examples" in data
    assert format.count(needed.lower) in data
    assert format.count(needed.upper) in data
    assert budget.startswith("with 1e12 FLOPs the error is least, ")
    assert "out of reach" in unreachable
    assert "with 10,000 examples takes " in params
    assert "FLOPs" in cheapest


def test_compute_counts_all_seeds_and_one_target():
    told = format.describe_compute(grid())
    fitted = [row for row in grid().predictions if row.region == "fit"]
    total = 2 * sum(row.compute for row in fitted)
    assert f"{format.count(total)} FLOPs in all ({2 * len(fitted)} runs" in told
    target = 6e11
    assert f"largest target costs {format.count(target)} once" in told
    assert f"{format.ratio(target, total)} times the whole fit region" in told

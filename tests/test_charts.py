"""The pictures of the page: where things stand, what is said, how large they are."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from scalepred.report.page.chart import Axis, Chart, Key, choose_ticks, extent


def _axis(low: float, high: float, is_log: bool = True, title: str = "x") -> Axis:
    return Axis(low, high, title, lambda number: f"{number:.5g}", "data", is_log)


def _texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ET.fromstring(svg).iter("text")]


@pytest.mark.parametrize(
    ("low", "high", "is_log"),
    [
        (1e17, 3e26, True),
        (1.9, 3.6, True),
        (0.03, 0.9, True),
        (2.001, 2.009, True),
        (1e-5, 5.0, True),
        (-0.3, 0.4, False),
        (7.0, 8.5, True),
    ],
)
def test_ticks_are_round_within_and_apart(low, high, is_log):
    axis = _axis(low, high, is_log)
    for length, is_upward in ((548.0, False), (276.0, True)):
        ticks = choose_ticks(axis, length, is_upward)
        assert 2 <= len(ticks) <= 8
        assert all(low <= tick <= high for tick in ticks)
        places = axis.share(np.array(ticks)) * length
        assert np.all(np.diff(places) > 20)
        assert all(float(f"{tick:.4g}") == tick for tick in ticks)


def test_a_place_is_where_the_scale_for_scripts_says():
    chart = Chart("test", _axis(1e2, 1e6), _axis(0.0, 4.0, is_log=False))
    chart.marks(np.array([1e4]), np.array([1.0]), "square", "fit full", size=5.0)
    root = ET.fromstring(chart.draw("One run reaches 1."))
    places = []
    for name, number in (("x", 1e4), ("y", 1.0)):
        low, high, first, last, kind = root.attrib[f"data-{name}"].split()
        low, high, number = map(float, (low, high, number))
        share = (number - low) / (high - low)
        if kind == "log":
            share = np.log(number / low) / np.log(high / low)
        places.append(float(first) + share * (float(last) - float(first)))
    mark = next(e for e in root.iter("path") if e.get("class") == "fit full")
    corner = re.match(r"M([\d.]+) ([\d.]+)h9", mark.attrib["d"])
    assert corner is not None
    assert [float(c) + 4.5 for c in corner.groups()] == pytest.approx(places, abs=0.06)


def test_lines_are_cut_at_the_ends_and_gaps_stay():
    chart = Chart("test", _axis(1.0, 100.0), _axis(1.0, 10.0))
    x = np.geomspace(1, 100, 30)
    chart.line(x, 0.1 * x, "fit line")
    chart.line(x, np.where(x > 10, np.nan, 2.0), "out line")
    chart.line(x, np.full(30, 20.0), "tgt line")
    root = ET.fromstring(chart.draw("A line rises to 10."))
    drawn = {e.get("class"): e.attrib["d"] for e in root.iter("path")}
    places = np.array(re.findall(r"[\d.]+", drawn["fit line"]), float).reshape(-1, 2)
    assert places[0] == pytest.approx([chart.at_x(10.0), chart.bottom], abs=2.0)
    assert places[-1] == pytest.approx([chart.right, chart.top], abs=2.0)
    places = np.array(re.findall(r"[\d.]+", drawn["out line"]), float).reshape(-1, 2)
    assert places[:, 0].max() <= chart.at_x(10.0)
    assert "tgt line" not in drawn


def test_dots_are_the_same_places_in_few_bytes():
    rng = np.random.default_rng(0)
    x, y = np.exp(rng.uniform(0, 4, 5000)), np.exp(rng.uniform(0, 4, 5000))
    chart = Chart("test", _axis(1.0, np.exp(4.0)), _axis(1.0, np.exp(4.0)))
    chart.dots(x, y, "circle", "fit", region="fit")
    root = ET.fromstring(chart.draw("5,000 runs."))
    dots = next(e for e in root.iter("path") if e.get("data-region") == "fit")
    assert dots.attrib["class"] == "fit dots round"
    assert len(dots.attrib["d"]) < 40_000
    steps = np.array(re.findall(r"-?\d+", dots.attrib["d"]), int).reshape(-1, 2)
    there = np.stack([chart.at_x(x), chart.at_y(y)], axis=1).round().astype(int)
    assert {tuple(p) for p in np.cumsum(steps, axis=0)} == {tuple(p) for p in there}


def test_text_from_files_is_escaped():
    nasty = '<script>alert("1")</script>'
    keys = [Key("star", "tgt full", nasty, series=nasty)]
    chart = Chart("test", _axis(1, 2, title=nasty), _axis(1, 2), keys)
    chart.marks(np.array([1.5]), np.array([1.5]), "star", "tgt full", series=nasty)
    chart.star(1.5, 1.5, 1.2, 1.7, nasty, target=nasty)
    svg = chart.draw(nasty)
    assert "<script" not in svg
    assert nasty in _texts(svg)
    assert ET.fromstring(svg).get("aria-label") == nasty


def test_extent_holds_every_number_that_is_one():
    low, high = extent(np.array([3.0, np.nan, np.inf, -1.0]), 7.0)
    assert 2.5 < low < 3
    assert 7 < high < 8
    low, high = extent(np.array([5.0]))
    assert low < 5 < high

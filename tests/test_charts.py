"""The pictures of the page: where things stand, what is said, how large they are."""

import functools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from example_results import NASTY, ODD, TARGET, grid, make_results, make_surface

import scalepred
from scalepred.forecasting.forecast import Asked
from scalepred.report.frontier import trace_frontier
from scalepred.report.page import size_charts, trust_charts
from scalepred.report.page.axis import Axis, choose_ticks, extent
from scalepred.report.page.chart import WIDTH, Chart, Key
from scalepred.report.page.frontier_chart import value_against_compute
from scalepred.report.page.surface_chart import surface
from scalepred.report.results import Results


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
    mark = next(e for e in root.iter("path") if e.get("class") == "fit ends")
    assert mark.attrib["stroke-width"] == "9"
    place = re.match(r"M([\d.]+) ([\d.]+)h", mark.attrib["d"])
    assert place is not None
    assert [float(unit) for unit in place.groups()] == pytest.approx(places, abs=0.06)


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


def _draw_all(results: Results) -> dict[str, str]:
    frontier = trace_frontier(results)
    return {
        "compute": value_against_compute(results, frontier),
        "agreement": trust_charts.predicted_against_measured(results),
        "distance": trust_charts.error_by_distance(results),
        "surface": surface(results, frontier),
        "curves-data": size_charts.curves_along_data(results),
        "curves-params": size_charts.curves_along_params(results),
        "repeats": size_charts.repeats(results),
    }


@functools.cache
def _drawn(kind: str) -> dict[str, str]:
    return _draw_all(ODD[kind]())


@functools.cache
def _curve() -> Results:
    """A study of one model size, asked about a data size that is far out."""
    data = np.geomspace(100, 1e5, 8)
    about = make_surface(np.full(8, 1e4), data)
    in_fit = about.data < 2e4
    fit = scalepred.fit(about.where(in_fit), "power", resamples=20)
    asked = Asked("", "plain", 1e4, 1e7, None, 6e11)
    return make_results("Curve", about, in_fit, fit, [], targets=[asked])


def _place(root: ET.Element, name: str, number: float) -> float:
    """Where a script would set a number."""
    low, high, first, last, kind = root.attrib[f"data-{name}"].split()
    share = np.log(number / float(low)) / np.log(float(high) / float(low))
    assert kind == "log"
    return float(first) + share * (float(last) - float(first))


@pytest.mark.parametrize("kind", sorted(ODD))
def test_pictures_of_any_results_are_whole_and_tell_what_is_seen(kind):
    drawn = _drawn(kind)
    assert not drawn["repeats"]
    for name, svg in drawn.items():
        if not svg:
            continue
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("data-chart") == name
        assert root[-1].get("class") == "marker"
        said = root.attrib["aria-label"]
        assert re.search(r"\d", said)
        assert said.endswith(".")
        assert not re.search(r"\b(nan|inf|never)\b|e\+", " ".join(_texts(svg)) + said)
        # Colours are the page's, and no style stands in the way of its policy.
        assert not re.search(r'style="|(fill|stroke)="#', svg)
        numbers = re.findall(r'[dxy12]="([^"]*)"', svg)
        assert "nan" not in " ".join(numbers)
    if kind == "nasty":
        assert "<script" not in "".join(drawn.values())
        assert NASTY[:10] in "".join(_texts(drawn["surface"]))


@pytest.mark.parametrize("kind", ["grid", "many_sizes"])
def test_no_text_leaves_a_picture_where_it_is_largest(kind):
    for svg in _drawn(kind).values():
        if not svg:
            continue
        root = ET.fromstring(svg)
        inherited = {
            text: group.get("text-anchor", "") for group in root for text in group
        }
        for text in root.iter("text"):
            if "x" not in text.attrib or text.get("x") == "16":
                continue  # of a legend
            width = 10.0 * len("".join(text.itertext()))
            anchor = text.get("text-anchor") or inherited.get(text, "")
            share = {"end": 1.0, "middle": 0.5}.get(anchor, 0.0)
            left = float(text.attrib["x"]) - share * width
            assert left > -1
            assert left + width < WIDTH + 1


def test_every_run_has_its_mark():
    rows = grid().predictions
    root = ET.fromstring(_drawn("grid")["compute"])
    for region in ("fit", "held_out"):
        marks = next(e for e in root.iter("path") if e.get("data-region") == region)
        count = sum(row.region == region for row in rows)
        assert marks.attrib["d"].count("M") == count
    first = next(row for row in rows if row.region == "held_out")
    places = [_place(root, "x", first.compute), _place(root, "y", first.measured)]
    squares = next(e for e in root.iter("path") if e.get("data-region") == "held_out")
    place = re.match(r"M([\d.]+) ([\d.]+)h", squares.attrib["d"])
    assert place is not None
    assert [float(unit) for unit in place.groups()] == pytest.approx(places, abs=0.06)


def test_every_target_is_drawn_in_every_picture_that_has_a_place_for_it():
    asked = [TARGET, Asked("", "plain", 3e5, 1e4, None, 1.8e10)]
    results = make_results(
        "Two", grid().surface, np.asarray(grid().surface.params < 2e4),
        grid().fit, [], targets=asked,
    )  # fmt: skip
    drawn = _draw_all(results)
    for name in ("compute", "distance", "surface", "curves-data", "curves-params"):
        root = ET.fromstring(drawn[name])
        stars = [e for e in root.iter("g") if "data-target" in e.attrib]
        assert [e.get("data-target") for e in stars] == ["0", "1"]
        assert all("parameters" in (e.findtext("title") or "") for e in stars)
    root = ET.fromstring(drawn["surface"])
    star = next(e for e in root.iter("path") if e.get("class") == "tgt full rim")
    tip = re.match(r"M([\d.]+)", star.attrib["d"])
    assert tip is not None
    assert float(tip[1]) == pytest.approx(_place(root, "x", TARGET.data), abs=0.1)


def test_one_axis_has_no_picture_of_another_and_reaches_its_target():
    drawn = _draw_all(_curve())
    assert not drawn["surface"]
    assert not drawn["curves-params"]
    for name in ("compute", "curves-data"):
        root = ET.fromstring(drawn[name])
        assert root.get("data-x-shows") == "data"
        assert float(root.attrib["data-x"].split()[1]) > 1e7
        assert "data size n (examples)" in _texts(drawn[name])
        assert sum("data-target" in e.attrib for e in root.iter("g")) == 1


def test_sizes_that_rise_together_have_no_picture_of_each():
    ladder = make_surface(np.geomspace(1e3, 1e6, 10), np.geomspace(2e4, 2e7, 10))
    fit = scalepred.fit(ladder, "rosenfeld", resamples=0, starts=16)
    drawn = _draw_all(make_results("Ladder", ladder, np.ones(10, bool), fit, []))
    assert [name for name, svg in drawn.items() if svg] == list(drawn)[:3]
    assert "best split" not in _texts(drawn["compute"])


def test_the_end_of_what_was_fitted_and_of_what_was_checked_is_told():
    texts = _texts(_drawn("grid")["compute"])
    assert {"fitted up to here", "checked up to here"} <= set(texts)
    texts = _texts(_drawn("few_points")["compute"])
    assert "fitted up to here" in texts
    assert "checked up to here" not in texts
    # The target of the grid lies far beyond what was checked.
    assert "nothing checked beyond" in _texts(_drawn("grid")["distance"])
    assert "where nothing was checked" in _drawn("grid")["distance"]


def test_contours_of_the_law_pass_where_the_law_has_their_value():
    svg, fit = _drawn("grid")["surface"], grid().fit
    root = ET.fromstring(svg)
    solid = [e for e in root.iter("path") if e.get("class") == "plain thin"]
    axes = {name: root.attrib[f"data-{name}"].split() for name in "xy"}

    def number(name: str, place: np.ndarray) -> np.ndarray:
        low, high, first, last = map(float, axes[name][:4])
        return low * (high / low) ** ((place - first) / (last - first))

    values = []
    for line in solid:
        places = np.array(re.findall(r"-?[\d.]+", line.attrib["d"]), float)
        n, m = number("x", places[::2]), number("y", places[1::2])
        if len(n) < 5:
            continue  # of the legend
        value = fit.predict(m, n).value
        assert np.ptp(np.log(value)) < 0.03
        values.append(float(np.mean(value)))
    assert len(values) >= 4


def test_thousands_of_points_take_little_room():
    rng = np.random.default_rng(3)
    params, data = np.exp(rng.uniform(5, 15, 5000)), np.exp(rng.uniform(4, 14, 5000))
    many = make_surface(params, data, 1, metric="loss", random_guess=None)
    in_fit = many.work <= many.work.max() / 300
    results = make_results("Many", many, in_fit, grid().fit, [], targets=[TARGET])
    drawn = _draw_all(results)
    assert all(drawn[name] for name in drawn if name != "repeats")
    assert sum(map(len, drawn.values())) < 150_000
    assert sum(svg.count("<") for svg in drawn.values()) < 1_500

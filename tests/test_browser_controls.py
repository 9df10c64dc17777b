"""Pages in a browser: what reacts, and what it says."""

import re

import example_results
import numpy as np
import pytest
from on_page import answer, move

pytest.importorskip("playwright", reason="no playwright: pip install playwright")
pytest_plugins = ("browser",)


def test_sliders_fields_and_fragment_say_the_same(show):
    page = show("grid")
    page.fill("#params-number", "20k")
    page.press("#params-number", "Enter")
    page.fill("#data-number", "3,000")
    page.press("#data-number", "Enter")
    said = answer(page)
    assert said.startswith("20,000 parameters and 3,000 examples should reach an error")
    assert float(page.input_value("#params")) == pytest.approx(np.log10(2e4), abs=0.01)
    hash_before = page.evaluate("location.hash")
    # A link to a section is no state.
    page.evaluate("location.hash = '#trust'")
    assert answer(page) == said
    page.evaluate(f"location.hash = '{hash_before}'")
    assert answer(page) == said
    page.fill("#data-number", "many")
    page.press("#data-number", "Enter")
    assert "1.4T" in page.eval_on_selector("#data-number", "e => e.validationMessage")
    assert answer(page) == said


def test_a_wanted_value_is_answered_with_data_and_the_cheapest_way(show, made):
    results, _ = made("grid")
    page = show("grid")
    page.fill("#params-number", "50000")
    page.press("#params-number", "Enter")
    page.check("#wanted")
    page.fill("#value-number", "10%")
    page.press("#value-number", "Enter")
    needed = results.fit.data_needed(0.1, 5e4).value
    said = answer(page)
    match = re.search(r"with 50,000 parameters takes ([\d,]+) examples", said)
    assert match is not None
    assert float(match[1].replace(",", "")) == pytest.approx(needed, rel=0.01)
    assert "cheapest way takes" in said
    page.reload()
    assert page.is_checked("#wanted")
    assert answer(page) == said


def test_the_chosen_run_moves_in_every_picture(show):
    page = show("grid")
    drawn = "all => all.map((path) => path.getAttribute('d'))"
    before = page.eval_on_selector_all(".marker path", drawn)
    assert len(before) == page.locator("svg[data-chart]").count()
    move(page, "#params", 4.0)
    move(page, "#data", 3.2)
    after = page.eval_on_selector_all(".marker path", drawn)
    assert all(one != other for one, other in zip(before, after, strict=True))
    compute = page.eval_on_selector(
        "[data-chart=compute] .marker path", "p => p.getAttribute('d')"
    )
    assert re.fullmatch(r"M\S+ \S+V\S+M.*z", compute)  # a bar and a diamond


def test_a_run_is_told_by_pointer_and_by_keys(show, made):
    results, _ = made("grid")
    page = show("grid")
    page.focus("[data-chart=compute]")
    page.keyboard.press("Home")
    said = page.inner_text("#tip")
    least = min(results.predictions, key=lambda row: row.compute)
    assert "Measured" in said
    assert "Off by" in said
    assert "Fitted, 2 runs" in said
    assert said.startswith(f"{least.params:,.0f} parameters and {least.data:,.0f}")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip") != said
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")

    circle = page.locator("[data-chart=compute] [r='8']")
    page.keyboard.press("Home")
    box = circle.bounding_box()
    assert box is not None
    page.keyboard.press("Escape")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.inner_text("#tip") == said
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(5, 5)
    assert page.inner_text("#tip") == said  # pinned


def test_the_legend_hides_and_shows(show):
    page = show("grid")
    marks = "svg [data-region=held_out]:not(.key)"
    shown = page.locator(marks).count()
    assert shown > 1
    page.uncheck("[data-toggle='region:held_out']")
    assert page.locator(f"{marks}:visible").count() == 0
    page.locator("[data-chart=compute] .key[data-region=held_out]").click()
    assert page.is_checked("[data-toggle='region:held_out']")
    assert page.locator(f"{marks}[display=inline]").count() == shown


CHART = "[data-chart=compute]"
# Of the marks of held-out runs, on the page: [x, y] of each in pixels.
_MARKS = """
(svg) => {
  const path = svg.querySelector(".plot [data-region=held_out]").getAttribute("d");
  const places = [...path.matchAll(/M([\\d.-]+) ([\\d.-]+)/g)];
  return places.map((place) => place.slice(1).map(Number));
}
"""


def ticks(page) -> list[str]:
    """Words at the axes, from left to right and upwards."""
    return page.locator(f"{CHART} .ticks text").all_text_contents()


def drag(page, start, end) -> None:
    """Over the main chart, from one place to another in its own units."""
    box = page.locator(CHART).bounding_box()
    places = [(box["x"] + x / 640 * box["width"], box["y"] + y / 640 * box["width"])
              for x, y in (start, end)]  # fmt: skip
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=3)
    page.mouse.up()


def check_places(page, made, name: str, is_log: bool) -> None:
    """Held-out runs stand where they should, as the axes were drawn at first."""
    results, _ = made(name)
    rows = [row for row in results.predictions if row.region == "held_out"]
    runs = np.array([(row.compute, row.measured) for row in rows])
    svg = page.locator(CHART)
    found = []
    for k, axis in enumerate("xy"):
        low, high, first, last, _ = (svg.get_attribute(f"data-{axis}") or "").split()
        form = np.log if is_log or axis == "x" else np.asarray
        ends = form(np.array([float(low), float(high)]))
        share = (form(runs[:, k]) - ends[0]) / (ends[1] - ends[0])
        found.append(float(first) + share * (float(last) - float(first)))
    across, down = np.array(page.eval_on_selector(CHART, _MARKS)).T
    for read, expected in (
        (across, found[0]),
        (down, found[1]),
        (across - down, found[0] - found[1]),
    ):
        np.testing.assert_allclose(np.sort(read), np.sort(expected), atol=0.11)


@pytest.mark.parametrize("name", ["grid", "many_points"])
def test_a_linear_value_axis_moves_everything_and_back(show, made, name):
    page = show(name)
    drawn = "all => all.map((path) => path.getAttribute('d'))"
    before = page.eval_on_selector_all(f"{CHART} .plot path", drawn)
    said = ticks(page)
    page.check("#linear")
    assert ticks(page) != said
    check_places(page, made, name, is_log=False)
    # The line of the law goes through the same numbers as on a logarithmic axis.
    after = page.eval_on_selector_all(f"{CHART} .plot path", drawn)
    assert [len(path.split()) for path in after if path.count("M") == 1] == [
        len(path.split()) for path in before if path.count("M") == 1
    ]
    assert page.eval_on_selector(f"{CHART} .marker path", "p => p.getAttribute('d')")
    page.uncheck("#linear")
    check_places(page, made, name, is_log=True)


def test_a_drag_shows_a_part_and_a_double_click_all_of_it(show, made):
    page = show("grid")
    whole = np.array(page.eval_on_selector(CHART, _MARKS))
    # About the run in the middle, whatever it is.
    middle = whole[np.argsort(whole[:, 0])[len(whole) // 2]]
    drag(page, middle - np.array([60, 40]), middle + np.array([60, 40]))
    page.mouse.move(5, 5)
    assert page.is_hidden("#tip")  # a drag is no click
    marks = np.array(page.eval_on_selector(CHART, _MARKS))
    assert 1 <= len(marks) < len(whole)
    left, right, bottom, top = 66, 614, 328, 52  # of the axes
    centre = [(left + right) / 2, (top + bottom) / 2]
    near = marks[np.argmin(np.hypot(*(marks - centre).T))]
    np.testing.assert_allclose(near, centre, atol=6)
    assert len(ticks(page)) >= 4
    assert all(re.fullmatch(r"[\d.,]+%|[\d.e]+", text) for text in ticks(page))

    # Keys go among the runs that are shown.
    page.focus(CHART)
    page.keyboard.press("Home")
    ring = page.get_attribute(f"{CHART} [r='8']", "cx")
    assert left <= float(ring or 0) <= right
    page.locator(CHART).dblclick(position={"x": 300, "y": 40})
    page.keyboard.press("Escape")
    check_places(page, made, "grid", is_log=True)


def test_the_chart_is_zoomed_by_keys_and_buttons_too(show):
    page = show("grid")
    said = ticks(page)
    page.focus(CHART)
    page.keyboard.press("+")
    closer = ticks(page)
    assert closer != said
    page.keyboard.press("-")
    page.keyboard.press("+")
    assert ticks(page) == closer
    page.click("#whole")
    page.click("#closer")
    assert ticks(page) == closer
    for _ in range(30):
        page.click("#closer")
    assert len(set(ticks(page))) >= 2  # no closer than numbers can be told apart
    page.focus(CHART)
    page.keyboard.press("0")
    drawn = page.eval_on_selector(f"{CHART} .marker path", "p => p.getAttribute('d')")
    page.reload()
    again = page.eval_on_selector(f"{CHART} .marker path", "p => p.getAttribute('d')")
    assert drawn == again


@pytest.mark.parametrize("name", ["grid", "repeated", "many_points"])
def test_the_table_of_points_is_that_of_python_and_can_be_sorted(show, name):
    without = show(name, java_script_enabled=False)
    rows = "all => all.map((row) => [...row.cells].map((cell) => cell.textContent))"
    expected = without.locator("#points-table tbody tr").all()
    expected = [row.locator("th, td").all_text_contents() for row in expected]
    page = show(name)
    read = page.eval_on_selector_all("#points-table tbody tr", rows)
    assert read == expected

    page.click("#points-table thead th:nth-child(1) button")
    sizes = page.eval_on_selector_all("#points-table tbody tr", rows)
    assert page.get_attribute("#points-table thead th", "aria-sort") == "ascending"
    small = [float(row[0].replace(",", "")) for row in sizes if row[0][-1].isdigit()]
    assert small == sorted(small)
    page.fill("input[type=search]", "held out")
    read = page.eval_on_selector_all("#points-table tbody tr", rows)
    assert read
    assert all("held out" in row for row in read)


def test_tables_are_copied_as_tab_separated_values(show, made):
    results, _ = made("grid")
    page = show("grid", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#points .copy").click()
    page.wait_for_function(
        "document.querySelector('#points .copy').textContent != 'Copy'"
    )
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(lines) == 1 + len(results.predictions)
    assert {line.count("\t") for line in lines} == {7}


@pytest.mark.parametrize("name", [*example_results.ODD, "free_data"])
def test_odd_results_have_controls_that_work(show, name):
    page = show(name)  # what fails is said on the console
    for slider in page.locator("#controls [type=range]:visible").all():
        slider.focus()
        page.keyboard.press("ArrowUp")
    assert re.search(r"\d", answer(page))
    page.click("#wanted")
    assert re.search(r"takes (more than )?[\d.]", answer(page))
    page.focus("[data-chart=compute]")
    page.keyboard.press("ArrowRight")
    assert "Predicted" in page.inner_text("#tip")
    assert not re.search(r"NaN|undefined|Infinity", page.inner_text("body"))

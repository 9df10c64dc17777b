"""Pages in a browser: what a reader sees, can reach and can print, on all kinds.

Chromium opens the files offline. Numbers that depend on how fast a machine is are not
held; sizes and counts are.
"""

import base64
import hashlib
import re
from typing import TYPE_CHECKING

import example_results
import numpy as np
import pytest
import studies
from etils import epath
from on_page import EVERY, PHONE, answer, move

from scalepred.report import words
from scalepred.report.beside import beside
from scalepred.report.page import families

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright", reason="no playwright: pip install playwright")
pytest_plugins = ("browser",)


@pytest.mark.parametrize("name", EVERY)
def test_a_page_is_small_and_asks_for_nothing(look, made, name):
    page = look(name)
    assert page.evaluate("document.querySelectorAll('*').length") <= 4000
    most = 500_000 if name == "many_points" else 150_000
    assert made(name)[1].stat().st_size <= most


@pytest.mark.parametrize("name", EVERY)
def test_without_scripts_a_page_is_complete(show, name):
    page = show(name, java_script_enabled=False)
    assert page.locator("h1").is_visible()
    assert page.locator("[data-card]").count() == 3
    texts = [svg.locator("text").count() for svg in page.locator("svg").all()]
    assert max(texts) > 10
    for table in page.locator("table:not(details table)").all():
        assert table.is_visible()
    for control in page.locator("input, button").all():
        assert not control.is_visible()


@pytest.mark.parametrize("name", ["rising", *EVERY])
def test_cards_stand_above_the_fold_and_the_chart_begins_there(look, name):
    page = look(name)
    cards = ["h1", "[data-card=trust]", "[data-card=need]", "[data-card=worth]"]
    for selector in cards:
        box = page.locator(selector).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 450
    box = page.locator("#ask svg").first.bounding_box()
    assert box is not None
    assert box["y"] < 450
    assert box["y"] + box["height"] < 940


@pytest.mark.parametrize("name", EVERY)
def test_the_trust_card_says_one_of_four_things(look, name):
    page = look(name)
    headline = page.inner_text("[data-card=trust] strong")
    assert re.match("Yes|With care|No|Unchecked", headline)
    verdict = page.get_attribute("[data-card=trust]", "data-verdict")
    assert verdict in ("yes", "care", "no", "unchecked")


def test_values_that_rise_are_not_trusted_and_look_so(look):
    page = look("rising")
    assert page.inner_text("[data-card=trust] strong").startswith("No")
    assert page.get_attribute("[data-card=trust]", "data-verdict") == "no"
    color = "element => getComputedStyle(element).color"
    refused = page.eval_on_selector("[data-card=trust] strong", color)
    assert refused != page.eval_on_selector("h1", color)


def test_what_stops_a_fit_is_one_line_above_the_cards_and_told_below(show):
    page = show("rising")
    line = page.locator(".alarm")
    assert re.match(
        r"(One|\d) warnings? stops? this fit \(.*back test", line.inner_text()
    )
    boxes = [one.bounding_box() for one in (line, page.locator(".cards"))]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["height"] < 40
    assert boxes[0]["y"] < boxes[1]["y"]
    page.click(".alarm a")
    first = page.locator("#warnings .warnings").first
    assert first.get_attribute("data-severity") == "stops"
    assert "What to do:" in first.inner_text()
    assert show("grid").locator(".alarm").count() == 0


@pytest.mark.parametrize("name", EVERY)
def test_answers_stand_beside_what_was_measured(look, made, name):
    results, _ = made(name)
    page = look(name)
    known = [one for one in results.answers if beside(results, one)]
    assert page.locator("[data-measured]").count() == len(known)
    if name == "grid":
        assert known


@pytest.mark.parametrize(
    "name", ["grid", pytest.param("chinchilla", marks=pytest.mark.slow)]
)
def test_the_best_split_is_said_in_the_words_of_the_terminal(show, made, name):
    results, path = made(name)
    asked = next(a for a in results.answers if a.question == "best_for_budget")
    budget = float(np.log10(asked.asked["budget"]))
    page = show(name)
    move(page, "#budget", budget)
    page.click("#best")

    said = answer(page)
    budget = float(f"{asked.asked['budget']:.3g}")
    expected = words.describe_answer(
        results.fit.best_for_budget(budget), results.surface
    )
    numbers = re.findall(r"\d[\d.,e]*", expected)
    assert [number for number in numbers if number not in said] == []
    assert "C=" in page.evaluate("location.hash")
    page.reload()
    assert answer(page) == said
    other = show(name)
    other.goto(path.as_uri() + page.evaluate("location.hash"))
    assert answer(other) == said


@pytest.mark.parametrize("name", EVERY)
def test_code_of_the_page_gives_the_predictions(look, made, name):
    results, _ = made(name)
    names: dict = {}
    exec(look(name).text_content("#law-code"), names)
    rows = results.predictions[:200]
    sizes = [
        np.array([getattr(row, size) for row in rows]) for size in ("params", "data")
    ]
    if "epochs" in results.fit.law.axes:
        sizes.append(np.array([row.epochs for row in rows]))
    predicted = [row.predicted for row in rows]
    np.testing.assert_allclose(names["value"](*sizes), predicted, rtol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_headings_pictures_and_tables_are_told_to_who_cannot_see_them(look, name):
    page = look(name)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    for svg in page.locator("svg").all():
        assert svg.get_attribute("role") == "img"
        label = svg.get_attribute("aria-label") or ""
        assert re.search(r"\d", label)
        caption = svg.locator("xpath=ancestor::figure//figcaption")
        assert label != (caption.first.text_content() if caption.count() else "")
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    for control in page.locator("input").all():
        assert page.evaluate(
            "e => e.labels.length > 0 || e.hasAttribute('aria-label')",
            control.element_handle(),
        )


def test_the_keyboard_reaches_everything_and_shows_where_it_is(show):
    page = show("grid")
    reached, hidden = set(), []
    for _ in range(120):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "(() => { const e = document.activeElement, style = getComputedStyle(e);"
            " const part = e.closest('nav, table, pre, svg, .scroll, section');"
            " return [e.id || (part || e).tagName,"
            " style.outlineStyle, parseFloat(style.outlineWidth)]; })()"
        )
        if where[0] == "BODY":
            break
        reached.add(where[0])
        if where[1] == "none" or not where[2]:
            hidden.append(where[0])
    assert hidden == []
    assert {"NAV", "budget", "budget-number", "params", "data", "best"} <= reached
    assert {"svg", "TABLE"} <= reached


@pytest.mark.parametrize("name", EVERY)
def test_a_phone_shows_all_of_it(show, name):
    page = show(name, size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for svg in page.locator("svg").all():
        if svg.is_visible():
            box, parent = svg.bounding_box(), svg.locator("xpath=..").bounding_box()
            assert box is not None
            assert parent is not None
            assert box["width"] <= parent["width"] + 1
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map((text) =>"
        " parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"
    )
    assert smallest >= 10


_LUMINANCE = """
(text) => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const x = part / 255;
      return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let back = text.ownerSVGElement, color;
  do {
    color = getComputedStyle(back).backgroundColor;
    back = back.parentElement;
  } while (/, 0\\)$|transparent/.test(color) && back);
  return [light(color), light(getComputedStyle(text).fill)];
}
"""


@pytest.mark.parametrize("name", ["grid", "repeated"])
def test_in_the_dark_pictures_are_dark_and_can_be_read(show, name):
    page = show(name, color_scheme="dark")
    for svg in page.locator("svg").all():
        back, ink = svg.locator("text").first.evaluate(_LUMINANCE)
        assert back < 0.2
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) >= 4.5


@pytest.mark.parametrize("name", EVERY)
def test_text_is_written_as_people_write_it(show, made, name):
    results, _ = made(name)
    page = show(name)
    text = page.inner_text("body")
    assert re.findall(r".*(?:\de[+]\d|-0%|\binf\b|\bnan\b|params=).*", text) == []
    if results.surface.data_unit == "tokens":
        assert "examples" not in text
    assert not page.title().startswith("measurements")
    page.click("#wanted")
    assert (
        re.findall(r".*(?:\de[+]\d|\binf\b|nan|Infinity|undefined).*", answer(page))
        == []
    )


@pytest.mark.parametrize("name", EVERY)
def test_links_lead_somewhere(look, made, name):
    page = look(name)
    targets = page.eval_on_selector_all(
        "a[href]", "all => all.map((a) => a.getAttribute('href'))"
    )
    for target in targets:
        if target.startswith("#"):
            assert page.locator(f"[id='{target[1:]}']").count() == 1
        else:
            assert (made(name)[1].parent / target).exists()
    ids = page.eval_on_selector_all("[id]", "all => all.map((element) => element.id)")
    assert len(ids) == len(set(ids))


def test_one_script_runs_and_text_from_a_file_does_not(look, made):
    page = look("nasty")  # a dialog would fail it
    assert page.locator("h1").inner_text().startswith(example_results.NASTY[:10])
    scripts = page.locator("script:not([type])")
    assert scripts.count() == 1
    assert scripts.get_attribute("src") is None
    digest = hashlib.sha256((scripts.text_content() or "").encode()).digest()
    policy = page.get_attribute("meta[http-equiv]", "content") or ""
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy


def test_one_axis_draws_no_world_that_is_not_there(show):
    page = show("one_axis")
    assert page.locator("[data-chart=surface], [data-chart=curves-params]").count() == 0
    assert "examples (90% interval" in words_of_need(page)
    for svg in page.locator("[data-x-shows=data]").all():
        high = float((svg.get_attribute("data-x") or "").split()[1])
        assert high >= 1e6  # the target
    assert page.locator("#params, #budget").count() == 0
    move(page, "#data", 6.0)
    assert "1M examples should reach an error of" in answer(page)


def words_of_need(page: "Page") -> str:
    page.click("#wanted")
    said = answer(page)
    page.click("#wanted")
    return said


@pytest.mark.parametrize("name", ["grid", "repeated"])
def test_every_target_is_drawn(look, made, name):
    results, _ = made(name)
    page = look(name)
    count = len(words.targets(results))
    for chart in ("compute", "surface"):
        assert page.locator(f"[data-chart={chart}] [data-target]").count() == count


def test_two_families_are_drawn_compared_and_hidden(show, tmp_path):
    path = tmp_path / "report.html"
    for name in ("plain", "gated"):
        (tmp_path / name).mkdir()
    links = {name: f"{name}/report.html" for name in ("plain", "gated")}
    families.write_page(epath.Path(path), studies.families(), links)
    page = show("families", path=path)

    chart = "[data-chart=families]"
    names = page.eval_on_selector_all(
        f"{chart} [data-series]:not(.key)",
        "all => all.map((one) => one.dataset.series)",
    )
    assert set(names) == {"plain", "gated"}
    assert page.get_by_text("difference at 1e20 FLOPs").count() > 0
    shown = f"{chart} [data-series]:not(.key):visible"
    both = page.locator(shown).count()
    page.uncheck("[data-toggle='series:gated']")
    assert 0 < page.locator(shown).count() < both
    page.locator(f"{chart} .key[data-series=gated]").click()
    assert page.locator(shown).count() == both

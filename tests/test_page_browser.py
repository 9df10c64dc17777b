"""The page as a browser shows it: wide, narrow, dark, printed, without scripts."""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from etils import epath
from example_results import NASTY, grid, nasty

from scalepred.report.page import page

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

# Relative luminance of a colour as the browser tells it (WCAG 2).
LUMINANCE = """(color) => {
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = color.match(/[\\d.]+/g).map((c) => linear(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    page.write_page(epath.Path(path), grid())
    return path


def show(browser: Any, path: pathlib.Path, **about: Any) -> Any:
    """The page open in a window; whatever it asks for or complains of is an error."""
    context = browser.new_context(
        **{"viewport": {"width": 1400, "height": 900}} | about
    )
    window = context.new_page()
    window.said = []
    window.on("console", lambda message: window.said.append(message.text))
    window.on("pageerror", lambda error: window.said.append(str(error)))
    window.on("dialog", lambda dialog: window.said.append(dialog.message))
    window.on("request", lambda request: window.said.append(request.url))
    window.goto(path.as_uri())
    assert window.said == [path.as_uri()]
    return window


def test_the_first_screen_holds_the_verdict_and_the_chart(browser, written):
    window = show(browser, written)
    for place in ("h1", "[data-card=trust]", "[data-card=need]", "[data-card=worth]"):
        box = window.locator(place).bounding_box()
        assert box["y"] + box["height"] < 450, place
    chart = window.locator("#ask svg").first.bounding_box()
    assert chart["y"] < 450
    assert chart["y"] + chart["height"] < 900
    assert window.locator("#controls").is_visible()
    assert window.evaluate("document.querySelectorAll('*').length") < 4000


def test_the_verdict_has_a_word_and_a_colour(browser, written):
    window = show(browser, written)
    word = window.locator("[data-card=trust] strong").inner_text()
    assert re.match("Yes|With care|No|Unchecked", word)
    colours = window.evaluate(
        """() => ['yes', 'care', 'no', 'unchecked'].map((verdict) => {
          const card = document.querySelector('[data-card=trust]');
          card.dataset.verdict = verdict;
          return getComputedStyle(card.querySelector('strong')).color;
        })"""
    )
    assert len({*colours}) == 4


def test_without_scripts_all_is_there(browser, written):
    window = show(browser, written, java_script_enabled=False)
    assert window.locator("h1").count() == 1
    assert window.locator("[data-card]").count() == 3
    assert window.locator("#ask svg text").count() > 10
    for table in window.locator("section > .scroll table").all():
        assert table.is_visible()
    assert not window.locator("#controls").is_visible()
    assert not window.locator("input").first.is_visible()
    assert window.locator("#points-table tbody tr").count() > 20


def test_a_phone_scrolls_down_only(browser, written):
    window = show(browser, written, viewport={"width": 400, "height": 800})
    assert window.evaluate("document.documentElement.scrollWidth") == 400
    sizes = window.evaluate(
        """() => [...document.querySelectorAll('svg')].map((svg) => {
          const scale = svg.getScreenCTM().a;
          const sizes = [...svg.querySelectorAll('text')].map(
            (text) => parseFloat(getComputedStyle(text).fontSize) * scale);
          const wide = svg.getBoundingClientRect().width;
          return [wide - svg.parentElement.clientWidth, Math.min(...sizes)];
        })"""
    )
    assert sizes
    for too_wide, smallest in sizes:
        assert too_wide <= 0
        assert smallest >= 10


def test_dark_pictures_are_dark(browser, written):
    window = show(browser, written, color_scheme="dark")
    text, back = window.evaluate(
        f"""() => {{
          const luminance = {LUMINANCE};
          const text = document.querySelector('svg text');
          return [getComputedStyle(text).fill,
                  getComputedStyle(document.body).backgroundColor].map(luminance);
        }}"""
    )
    assert back < 0.2
    assert (text + 0.05) / (back + 0.05) >= 4.5


def test_keys_reach_everything_and_show_where_they_are(browser, written):
    window = show(browser, written)
    reached, hidden = set(), []
    for _ in range(150):
        window.keyboard.press("Tab")
        place, outline = window.evaluate(
            """() => {
              const at = document.activeElement;
              const style = getComputedStyle(at);
              const group = at.closest('nav, [data-card], form, .scroll, svg') || at;
              return [group.tagName + (group.id || group.getAttribute('class')),
                      style.outlineStyle + ' ' + style.outlineWidth];
            }"""
        )
        reached.add(str(place))
        if outline.startswith("none") or outline.endswith(" 0px"):
            hidden.append(place)
    said = " ".join(reached)
    for part in ("NAV", "card", "FORM", "scroll", "svg"):
        assert part in said
    assert {*hidden} <= {"BODYnull"}


def test_pictures_tell_what_is_seen(browser, written):
    window = show(browser, written)
    for svg in window.locator("figure svg").all():
        assert svg.get_attribute("role") == "img"
        label = svg.get_attribute("aria-label")
        assert re.search(r"\d", label)
        caption = svg.locator("xpath=ancestor::figure").locator("figcaption")
        assert label != caption.inner_text()


def test_paper_cuts_nothing(browser, written):
    # A4 less its margins is 688 pixels wide.
    window = show(browser, written, viewport={"width": 688, "height": 1000})
    window.emulate_media(media="print")
    assert window.evaluate("document.documentElement.scrollWidth") == 688
    ends = window.evaluate(
        """() => [...document.querySelectorAll('tr')].map(
          (row) => row.lastElementChild.getBoundingClientRect()).map(
          (box) => [box.right, box.height])"""
    )
    assert max(right for right, _ in ends) <= 688.5
    assert min(height for _, height in ends) > 0  # folded ones are open
    assert not window.locator("#controls").is_visible()


def test_text_of_a_file_runs_nothing(browser, tmp_path):
    title = "</script><script>alert(1)</script>"
    path = tmp_path / "report.html"
    page.write_page(epath.Path(path), dataclasses.replace(nasty(), title=title))
    window = show(browser, path)
    assert title in window.locator("h1").inner_text()
    assert window.said == [path.as_uri()]
    assert NASTY.split("<")[1].split(">")[0] in window.locator("body").inner_text()

"""Pages in a browser: what a reader sees, can reach and can do, on pages of all kinds.

Chromium opens the files offline. Numbers that depend on how fast a machine is are not
held; sizes and counts are.
"""

import base64
import hashlib
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import browser
import example_results
import numpy as np
import pytest
import studies
from etils import epath

from scalepred.report import machine, words
from scalepred.report.beside import beside
from scalepred.report.page import families
from scalepred.report.page import page as pages
from scalepred.report.results import Results, write_results

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
)

# Pages that every check is made on, and those that take longer.
SHORT = ("grid", "one_axis")
LONG = ("repeated", "many_points", "offsets", "chinchilla", "clip", "isoflop")
EVERY = [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]
_PUBLISHED = {
    "chinchilla": ("chinchilla_epoch", {}),
    "clip": ("laion_clip_best", {"task": "imagenet1k_zeroshot"}),
    "isoflop": ("marin_isoflop", {"task": "comma"}),
}
_WIDE, _PHONE = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
# Of A4 at 96 dots an inch, without the margins of 14 mm.
_PAPER = 688


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    program = browser.find_chromium()
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )


@pytest.fixture(scope="session")
def made(request, tmp_path_factory) -> Callable[[str], tuple[Results, pathlib.Path]]:
    """Results and page by name, each made once."""
    known: dict[str, tuple[Results, pathlib.Path]] = {}

    def make(name: str) -> tuple[Results, pathlib.Path]:
        if name not in known:
            results = _results(name, request)
            folder = tmp_path_factory.mktemp(name)
            # Odd results may be such that no file could hold them.
            if name not in example_results.ODD or name == "grid":
                write_results(epath.Path(folder), results)
                machine.write_answers(epath.Path(folder / "answers.json"), results)
            (folder / "figures").mkdir()
            pages.write_page(epath.Path(folder / "report.html"), results)
            known[name] = results, folder / "report.html"
        return known[name]

    return make


def _results(name: str, request: pytest.FixtureRequest) -> Results:
    if name in _PUBLISHED:
        file, about = _PUBLISHED[name]
        folder = request.getfixturevalue("shared_data") / "measured"
        return studies.published(folder / f"{file}.csv", **about)
    made = getattr(studies, name, None) or getattr(example_results, name)
    return made()


@pytest.fixture
def show(chromium, made) -> Iterator[Callable[..., "Page"]]:
    """Opens a page; what is said on the console or asked of a network fails a test."""
    contexts, said = [], []

    def open_page(name: str, size=_WIDE, path: pathlib.Path | None = None, **about):
        path = path or made(name)[1]
        context = chromium.new_context(viewport=size, offline=True, **about)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda one: one.url == path.as_uri() or said.append(one.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def move(page: "Page", slider: str, value: float) -> None:
    page.eval_on_selector(
        slider,
        "(element, value) => { element.value = value;"
        " element.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def answer(page: "Page") -> str:
    return page.inner_text("[role=status]")


@pytest.mark.parametrize("name", EVERY)
def test_a_page_is_small_and_asks_for_nothing(show, made, name):
    page = show(name)
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


@pytest.mark.parametrize("name", EVERY)
def test_cards_stand_above_the_fold_and_the_chart_begins_there(show, name):
    page = show(name)
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
def test_the_trust_card_says_one_of_four_things(show, name):
    page = show(name)
    headline = page.inner_text("[data-card=trust] strong")
    assert re.match("Yes|With care|No|Unchecked", headline)
    verdict = page.get_attribute("[data-card=trust]", "data-verdict")
    assert verdict in ("yes", "care", "no", "unchecked")


def test_values_that_rise_are_not_trusted_and_look_so(show):
    page = show("rising")
    assert page.inner_text("[data-card=trust] strong").startswith("No")
    assert page.get_attribute("[data-card=trust]", "data-verdict") == "no"
    color = "element => getComputedStyle(element).color"
    refused = page.eval_on_selector("[data-card=trust] strong", color)
    assert refused != page.eval_on_selector("h1", color)


@pytest.mark.parametrize("name", EVERY)
def test_answers_stand_beside_what_was_measured(show, made, name):
    results, _ = made(name)
    page = show(name)
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
def test_code_of_the_page_gives_the_predictions(show, made, name):
    results, _ = made(name)
    names: dict = {}
    exec(show(name).text_content("#law-code"), names)
    rows = results.predictions[:200]
    sizes = [
        np.array([getattr(row, size) for row in rows]) for size in ("params", "data")
    ]
    if "epochs" in results.fit.law.axes:
        sizes.append(np.array([row.epochs for row in rows]))
    predicted = [row.predicted for row in rows]
    np.testing.assert_allclose(names["value"](*sizes), predicted, rtol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_headings_pictures_and_tables_are_told_to_who_cannot_see_them(show, name):
    page = show(name)
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
    page = show(name, size=_PHONE)
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
def test_print_cuts_nothing(show, name):
    page = show(name, size={"width": _PAPER, "height": 1000})
    page.emulate_media(media="print")
    for table in page.locator("table").all():
        box = table.bounding_box()
        if box is not None:
            assert box["x"] + box["width"] <= _PAPER + 1
    cut = page.evaluate(
        "[...document.querySelectorAll('th, td')].filter("
        "(cell) => cell.scrollWidth > cell.clientWidth + 1).map((c) => c.textContent)"
    )
    assert cut == []


@pytest.mark.parametrize("name", EVERY)
def test_a_printed_page_holds_every_column_and_the_last_row(show, name, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    page = show(name)
    path = tmp_path / "report.pdf"
    page.pdf(path=path, format="A4")
    text = subprocess.run(
        ["pdftotext", path, "-"], capture_output=True, text=True, check=True
    ).stdout
    found = set(text.split())
    headers = page.locator("table:not(details table) thead th:last-child")
    cells = page.locator("#points-table tbody tr:last-child > *")
    for element in [*headers.all(), *cells.all()]:
        # A wrapped header stands in several lines, with those of others between.
        assert set(element.inner_text().split()) <= found
    shares = _inked_rows(path)
    assert min(shares[:-1]) > 0.1
    assert shares[-1] > 0


def _inked_rows(path: pathlib.Path) -> list[float]:
    """Of every sheet of a PDF, the share of its height that is not blank."""
    prefix = path.with_suffix("")
    subprocess.run(["pdftoppm", "-gray", "-r", "30", path, prefix], check=True)
    shares = []
    for sheet in sorted(path.parent.glob("*.pgm")):
        _, size, _, pixels = sheet.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        rows = np.frombuffer(pixels, np.uint8).reshape(height, width)
        shares.append(float(np.mean(rows.min(axis=1) < 200)))
    return shares


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
def test_links_lead_somewhere(show, made, name):
    page = show(name)
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


def test_one_script_runs_and_text_from_a_file_does_not(show, made):
    page = show("nasty")  # a dialog would fail it
    assert page.locator("h1").inner_text().startswith(example_results.NASTY[:10])
    scripts = page.locator("script:not([type])")
    assert scripts.count() == 1
    assert scripts.get_attribute("src") is None
    digest = hashlib.sha256((scripts.text_content() or "").encode()).digest()
    policy = page.get_attribute("meta[http-equiv]", "content") or ""
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy


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
def test_every_target_is_drawn(show, made, name):
    results, _ = made(name)
    page = show(name)
    count = len(words.targets(results))
    for chart in ("compute", "surface"):
        assert page.locator(f"[data-chart={chart}] [data-target]").count() == count


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

"""Pages as they are printed: nothing cut, nothing blank, nothing missing."""

import pathlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from on_page import EVERY
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright", reason="no playwright: pip install playwright")
pytest_plugins = ("browser",)

# Of A4 at 96 dots an inch, without the margins of 14 mm.
_PAPER = 688


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
def test_a_printed_page_holds_every_column_and_the_last_row(look, name, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    page = look(name)
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
    assert 3 <= len(shares) <= 12
    assert min(shares[:-1]) > 0.1
    assert shares[-1] > 0
    for caption in page.locator("figcaption").all():
        assert set(caption.inner_text().split()) <= found
    # A sheet on which rows of the table go on begins with its header.
    laid_out = subprocess.run(
        ["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True
    ).stdout
    sheets = [
        sheet
        for sheet in laid_out.split("\f")
        if re.search(r" (held out|fitted) +\d[\d.]*%? +\d", sheet)
    ]
    assert sheets
    for sheet in sheets:
        assert re.search(r" run .* measured +predicted .* off by", sheet), sheet


def test_a_printed_chart_has_the_runs_that_were_held_out(look, tmp_path):
    """Marks without length have no square ends in a PDF."""
    page = look("grid")
    with_runs = _count_orange(page, tmp_path / "with.pdf")
    page.evaluate(
        "document.querySelectorAll('path[data-region=held_out]')"
        ".forEach((path) => path.remove())"
    )
    only_legend = _count_orange(page, tmp_path / "without.pdf")
    assert with_runs > 2 * only_legend > 0


@pytest.mark.parametrize("name", EVERY)
def test_controls_are_not_printed_and_what_is_folded_is(show, name):
    page = show(name)
    seen = (
        "(visible) => [...document.querySelectorAll('details:not([open]) pre')]"
        ".every((one) => one.checkVisibility({contentVisibilityAuto: true}) == visible)"
    )
    assert page.evaluate(seen, False)
    page.emulate_media(media="print")
    page.wait_for_function(seen, arg=True)
    for control in page.locator("input, form, nav").all():
        assert not control.is_visible()


def _count_orange(page: "Page", path: pathlib.Path) -> int:
    """Pixels of a printed page in the colour of what was held out."""
    if shutil.which("pdftoppm") is None:
        pytest.skip("no pdftoppm: apt-get install poppler-utils")
    page.pdf(path=path, format="A4", print_background=True)
    subprocess.run(
        ["pdftoppm", "-r", "80", "-l", "1", path, path.with_suffix("")], check=True
    )
    (sheet,) = path.parent.glob(f"{path.stem}*.ppm")
    pixels = np.asarray(Image.open(sheet), int)
    orange = np.abs(pixels - [213, 94, 0]).max(axis=2) < 40
    return int(orange.sum())


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

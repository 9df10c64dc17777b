"""A browser for tests, and pages of all kinds to open in it.

Chromium is found, or Debian's is installed where that is allowed. A test module that
names this one in `pytest_plugins` has its fixtures.
"""

import functools
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import example_results
import pytest
import studies
from etils import epath
from on_page import WIDE

from scalepred.report import machine
from scalepred.report.page import page as pages
from scalepred.report.results import Results, write_results

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

_PUBLISHED = {
    "chinchilla": ("chinchilla_epoch", {}),
    "clip": ("laion_clip_best", {"task": "imagenet1k_zeroshot"}),
    "isoflop": ("marin_isoflop", {"task": "comma"}),
}

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WAIT = 300  # seconds, for an installation


@functools.cache
def find_chromium() -> str:
    """The program; skips where there is none and it cannot be installed."""
    found = _look()
    if found is None and hasattr(os, "getuid") and os.getuid() == 0:
        _install()
        found = _look()
    if found is None:
        pytest.skip("no chromium: apt-get install chromium, or run the tests as root")
    return found


def _look() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _install() -> None:
    """By apt-get, once a session; where that fails the tests are skipped."""
    if shutil.which("apt-get") is None:
        return
    about = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"],
    ):
        try:
            subprocess.run(
                command, env=about, capture_output=True, timeout=_WAIT, check=False
            )
        except subprocess.TimeoutExpired:
            return


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    from playwright import sync_api

    program = find_chromium()
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


def _open(browser: "Browser", path: pathlib.Path, said: list[str], **about) -> "Page":
    """A page in a context of its own; what it says or asks for is added to `said`."""

    def note(request: "Request") -> None:
        if request.url != path.as_uri():
            said.append(request.url)

    page = browser.new_context(offline=True, **about).new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", note)
    page.goto(path.as_uri())
    return page


@pytest.fixture(scope="session")
def look(chromium, made) -> Callable[[str], "Page"]:
    """The wide page of a name, opened once for all tests that change nothing on it."""
    said: list[str] = []

    @functools.cache
    def open_once(name: str) -> "Page":
        return _open(chromium, made(name)[1], said, viewport=WIDE)

    def find(name: str) -> "Page":
        page = open_once(name)
        assert said == []
        return page

    return find


@pytest.fixture
def show(chromium, made) -> Iterator[Callable[..., "Page"]]:
    """Opens a page; what is said on the console or asked of a network fails a test."""
    pages: list[Page] = []
    said: list[str] = []

    def open_page(name: str, size=WIDE, path: pathlib.Path | None = None, **about):
        path = path or made(name)[1]
        pages.append(_open(chromium, path, said, viewport=size, **about))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
    assert said == []

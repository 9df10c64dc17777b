"""The site builds strictly, links lead somewhere, and flags that pages name exist."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import scalepred

ROOT = pathlib.Path(__file__).resolve().parents[1]
ALONE = ("README.md", "BUILD.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in ALONE), *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def name_of(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: pathlib.Path) -> Iterator[str]:
    """Targets of links and pictures, without those inside code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page.read_text()))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: pathlib.Path) -> set[str]:
    """Ids that headings of a page get, as GitHub and mkdocs write them."""
    text = _FENCED.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{link}: there is no such file"
        if page.is_relative_to(ROOT / "docs"):
            assert path.is_relative_to(ROOT / "docs"), f"{link}: not on the site"
        if anchor:
            assert anchor in anchors(path), f"{link}: there is no such heading"


def flags_of_commands() -> set[str]:
    from scalepred.commands import coordinates, curves, fit, recipe, train, transfer

    known: set[str] = {"help", "version"}
    for module in (fit, train, curves, recipe, coordinates, transfer):
        known |= set(getattr(module, "FLAGS", ()))
    for script in (ROOT / "scripts").rglob("*"):
        if script.is_file():
            text = script.read_text(errors="ignore")
            known |= set(re.findall(r"--([a-z][\w-]*)", text))
            known |= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text))
    return known


def fields_of(kind: object, names: list[str]) -> bool:
    """Whether dotted names lead through dataclasses of the config."""
    for name in names:
        if not hasattr(kind, name):
            return False
        kind = getattr(kind, name)
    return True


# Of other programs: pip, uv, pytest, srun.
FOREIGN = {
    "user", "editable", "universal", "python-version", "fork-strategy", "extra",
    "generate-hashes", "only-binary", "output-file", "upgrade", "constraint", "check",
    "all", "flag", "nodes", "gpus-per-node", "time",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_that_pages_name_exist(page):
    known, config = flags_of_commands(), scalepred.Experiment()
    for flag in re.findall(r"(?<![\w-])--([a-zA-Z][\w.-]*)", page.read_text()):
        name = flag.rstrip(".-")
        if name.startswith("config."):
            assert fields_of(config, name.split(".")[1:]), f"--{flag}"
        elif not name.startswith(("xla_", "fit_max_")) or name in known:
            assert name in known | FOREIGN, f"--{flag}"


def test_page_of_tables_has_every_flag():
    from scalepred.commands import fit

    page = (ROOT / "docs" / "tables.md").read_text()
    assert not [flag for flag in fit.FLAGS if f"`--{flag}" not in page]


def test_api_page_has_everything_that_is_public():
    page = (ROOT / "docs" / "api.md").read_text()
    shown = [line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)$", page, re.M)]
    assert sorted(shown) == sorted(scalepred.__all__)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation


def test_no_path_of_a_machine_is_shown():
    for page in [*PAGES, *(ROOT / "docs" / "notebooks").glob("*.ipynb")]:
        found = re.findall(r"(?<![\w.])/(?:home|root|tmp|Users)/\S+", page.read_text())
        assert set(found) <= {"/tmp/soak"}, page


GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.html"))


@pytest.mark.parametrize("page", GALLERY, ids=lambda page: page.stem)
def test_pages_of_the_gallery_are_small_and_whole(page):
    text = page.read_text()
    assert len(text.encode()) <= 150_000
    assert f"gallery/{page.name}" in (ROOT / "docs" / "gallery.md").read_text()
    for link in re.findall(r'<a href="([^"]*)"', text):
        assert link.startswith("#"), f"{link} is not beside the page"
        assert f'id="{link[1:]}"' in text
    assert not re.search(r"(?:src|href)=[\"']?https?:", text)


def test_the_gallery_has_a_script_that_says_how(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "make_gallery"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    wrong = [*command, f"--data={tmp_path}", "--only=nothing"]
    done = subprocess.run(wrong, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no such page: nothing" in done.stderr


def test_pages_beside_the_documents_link_to_what_is_there():
    for page in (ROOT / "docs").rglob("*.html"):
        for link in re.findall(r'<a href="([^"#]+)', page.read_text()):
            is_there = re.match("https?:", link) or (page.parent / link).exists()
            assert is_there, f"{page.name}: {link}"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """The site, built; skipped where its packages are not installed."""
    for module in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: ./scripts/setup.sh --docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_site_builds_strictly_and_whole(site):
    pages = {path.parent.name for path in site.rglob("index.html")}
    assert {"tables", "reading", "laws", "api", "gallery", "quickstart"} <= pages
    api = (site / "api" / "index.html").read_text()
    for name in scalepred.__all__:
        assert f".{name}" in api, name


@pytest.mark.slow
def test_site_asks_nobody_for_anything(site):
    """No style, script or picture from elsewhere in any page."""
    outside = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?https?://|<link[^>]+stylesheet[^>]+https?://"
    )
    for page in site.rglob("*.html"):
        assert not outside.search(page.read_text()), page


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(site):
    """Of notebooks and docstrings too, which mkdocs does not look at."""
    dead = set()
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue  # its links begin at the root of a server
        for link in re.findall(r"<a[^>]*?href=\"?([^\"\s>]+)", page.read_text()):
            file = link.partition("#")[0]
            if not file or re.match(r"https?:|mailto:|data:", link):
                continue
            path = page.parent / file
            if not (path / "index.html" if path.is_dir() else path).exists():
                dead.add((str(page.relative_to(site)), link))
    assert not dead

"""Runs the commands and snippets of README.md and docs/, and writes what they print.

    python scripts/run_pages.py                        # says which outputs differ
    python scripts/run_pages.py --refresh              # writes them into the pages
    python scripts/run_pages.py --refresh README.md docs/notebooks/quickstart.ipynb

In a page `<!-- file: NAME -->` before a block puts it into a file, `<!-- run -->`
before a block of sh or python runs it, and `<!-- output -->` before a block of text
is what the block before it printed. All of a page run in one folder, in order.
Notebooks are executed cell by cell. The tests of pages use the same functions.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/index.md",
    "docs/python.md",
    "docs/notebooks/quickstart.ipynb",
    "docs/notebooks/three_laws.ipynb",
    "docs/notebooks/is_it_worth_it.ipynb",
)

_BLOCK = re.compile(
    r"<!-- (?P<what>run|output|file: (?P<name>[\w.]+)) -->\n"
    r"```(?P<language>\w*)\n(?P<text>.*?)```",
    re.DOTALL,
)
_MODULES = {"scalepred": "scalepred", "scalepred-fit": "scalepred.commands.fit"}
# A number and what may stand in one: digits after a point, thousands, a power.
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e\+?-?\d+)?")


class Block(NamedTuple):
    """A marked block of a page.

    Attributes:
        what: run, output or file.
        name: of the file, else empty.
        language: sh, python, text, csv.
        text: what stands in it, with its last line's end.
        span: where the text stands in the page.
    """

    what: str
    name: str
    language: str
    text: str
    span: tuple[int, int]


def read_blocks(page: str) -> list[Block]:
    """The marked blocks of a page, in order."""
    return [
        Block(
            found["what"].partition(":")[0],
            found["name"] or "",
            found["language"],
            found["text"],
            found.span("text"),
        )
        for found in _BLOCK.finditer(page)
    ]


def run(block: Block, folder: pathlib.Path) -> str:
    """What a block prints on stdout when it is run in a folder.

    Raises:
        RuntimeError: it did not end with 0.
    """
    script = block.text
    command = [sys.executable, "-c", script]
    if block.language == "sh":
        # The package of this checkout, whatever is installed.
        calls = "\n".join(
            f'{name}() {{ "{sys.executable}" -m {module} "$@"; }}'
            for name, module in _MODULES.items()
        )
        command = ["bash", "-euc", f"{calls}\n{script}"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Variables under which pages run: this checkout, a narrow terminal, no colours."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": paths, "COLUMNS": "88", "NO_COLOR": "1"}


def play(page: str, folder: pathlib.Path) -> list[tuple[Block, str]]:
    """Writes the files of a page and runs its blocks in a folder.

    Returns:
        The output blocks, each with what was printed in its place.
    """
    printed, said = "", []
    for block in read_blocks(page):
        if block.what == "file":
            (folder / block.name).write_text(block.text)
        elif block.what == "run":
            printed = run(block, folder)
        else:
            said.append((block, printed))
    return said


def agree(written: str, printed: str, tolerance: float = 0.05) -> bool:
    """Whether two outputs have the same words, and numbers that are near.

    Args:
        tolerance: on numbers, relative: other machines round otherwise.
    """
    if _NUMBER.sub("#", written).split() != _NUMBER.sub("#", printed).split():
        return False
    pairs = zip(_NUMBER.findall(written), _NUMBER.findall(printed), strict=True)
    return all(_is_near(one, other, tolerance) for one, other in pairs)


def _is_near(one: str, other: str, tolerance: float) -> bool:
    a, b = (float(number.replace(",", "")) for number in (one, other))
    decimals = len(one.partition("e")[0].partition(".")[2])
    last_digit = 1.01 * 10.0**-decimals if decimals else 0.0
    return abs(a - b) <= max(tolerance * max(a, b), last_digit)


def refresh(page: str, folder: pathlib.Path) -> str:
    """The page with every output as it is printed now."""
    for block, printed in reversed(play(page, folder)):
        start, end = block.span
        page = page[:start] + printed.rstrip() + "\n" + page[end:]
    return page


def execute(notebook: pathlib.Path, folder: pathlib.Path) -> Any:
    """A notebook run from top to bottom in a folder, with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(notebook, as_version=4)
    os.environ.update(_environment())
    client = NotebookClient(
        book,
        timeout=300,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # the times of day
        if cell.cell_type == "code":  # progress, whose lines differ each time
            said = [one for one in cell.outputs if one.get("name") != "stderr"]
            cell.outputs = said
    book.metadata["language_info"] = {"name": "python"}
    return book


def make_page(path: pathlib.Path) -> str:
    """A page or a notebook with every output as it is now."""
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".ipynb":
            import nbformat

            return nbformat.writes(execute(path, pathlib.Path(folder))) + "\n"
        return refresh(path.read_text(), pathlib.Path(folder))


def main(arguments: list[str]) -> int:
    is_writing = "--refresh" in arguments
    names = [name for name in arguments if name != "--refresh"] or PAGES
    if any(name.startswith("-") for name in names):
        print(__doc__)
        return 2
    differ = False
    for name in names:
        fresh = make_page(ROOT / name)
        if fresh != (ROOT / name).read_text():
            differ = True
            print(f"{name}: {'written anew' if is_writing else 'differs'}")
            if is_writing:
                (ROOT / name).write_text(fresh)
    return 1 if differ and not is_writing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

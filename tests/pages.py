"""Every fenced block of README and docs/, as a reader sees them.

The dated notes of docs/log/ are left out: they say what was run on their day.
"""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = [
    ROOT / "README.md",
    ROOT / "BUILD.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "results").rglob("*.md")),
]
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
_SHELL = ("", "sh", "bash")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: its path in the repository.
        mark: what the comment before it says: run, output, file: NAME, or nothing.
        language: after the fence; "" holds commands.
        text: what stands in it.
    """

    page: str
    mark: str
    language: str
    text: str


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [
        Block(page, found["mark"] or "", found["language"], found["text"])
        for found in _FENCE.finditer((ROOT / page).read_text())
    ]


def read_commands(page: str, is_marked: bool = False) -> list[str]:
    """Commands of a page, in order, each on one line and without its comment.

    Args:
        is_marked: those before whose block `run` stands, or the others.
    """
    told = "".join(
        block.text
        for block in read_blocks(page)
        if block.language in _SHELL and (block.mark == "run") == is_marked
    )
    lines = (
        line.split(" #")[0].split() for line in told.replace("\\\n", " ").split("\n")
    )
    return [" ".join(words) for words in lines if words]


def read_python(page: str) -> list[str]:
    """Snippets of a page that no mark makes run."""
    blocks = read_blocks(page)
    return [b.text for b in blocks if b.language == "python" and not b.mark]

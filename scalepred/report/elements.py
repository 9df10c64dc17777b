"""Pieces of HTML for the page; every text in them is escaped."""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

from scalepred.report import format

# In a cell of which nothing is known.
NOTHING = "\N{EN DASH}"


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        id: what links name it by.
        title: its heading.
        body: HTML; a section without one is left out.
    """

    id: str
    title: str
    body: str

    def __str__(self) -> str:
        if not self.body:
            return ""
        title = f'<h2 id="{self.id}-title">{escape(self.title)}</h2>'
        return (
            f'<section id="{self.id}" aria-labelledby="{self.id}-title">\n{title}\n'
            f"{self.body}</section>\n"
        )


class Cell(NamedTuple):
    """A cell of a table that a script or a test looks for.

    Attributes:
        text: what it says.
        mark: its attribute, such as data-measured.
    """

    text: str
    mark: str


def escape(text: str) -> str:
    """Text that may come from a file anyone wrote, as it may stand in a page."""
    return html.escape(format.printable(text))


def paragraph(text: str) -> str:
    """A sentence by itself."""
    return f"<p>{escape(format.sentence(text))}</p>\n" if text else ""


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    items = (escape(format.sentence(text)) for text in sentences)
    return "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"


def heading(text: str) -> str:
    """Of a part of a section."""
    return f"<h3>{escape(text)}</h3>\n"


def folded(summary: str, body: str) -> str:
    """What is shown when asked for."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n{body}</details>\n"


def code(text: str, id: str) -> str:
    """Code under a button that copies it; the button waits for the script."""
    lines = "\n".join(map(escape, text.splitlines()))
    return (
        f'<button type="button" class="copy live" data-copy="{id}" hidden>Copy'
        "</button>\n"
        f'<pre id="{id}" tabindex="0"><code>{lines}</code></pre>\n'
    )


def figure(svg: str, caption: str, below: str = "") -> str:
    """A picture over what it shows; nothing where there is no picture.

    Args:
        svg: the picture.
        caption: what it shows, in words.
        below: HTML that stands between both.
    """
    if not svg:
        return ""
    told = escape(format.sentence(caption))
    return f"<figure>\n{svg}\n{below}<figcaption>{told}</figcaption>\n</figure>\n"


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    text_columns: Sequence[int] = (),
    id: str = "",
) -> str:
    """A table with its caption.

    Args:
        caption: what the table shows.
        header: of each column.
        rows: cells; the first of a row is its header.
        text_columns: columns of words, set from the left; numbers are set from the
            right.
        id: of the table, for the script.
    """
    # The region that scrolls has a name, but not the whole caption once more.
    label = escape(re.split(r"[;:.,(]", caption)[0])
    caption = escape(format.sentence(caption))
    head = "".join(
        _cell("th", name, i in text_columns, "col") for i, name in enumerate(header)
    )
    body = "".join(
        "<tr>"
        + "".join(
            _cell("td" if i else "th", cell, i in text_columns, "" if i else "row")
            for i, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    name = f' id="{id}"' if id else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n'
        f"<table{name}>\n<caption>{caption}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _cell(tag: str, cell: str | Cell, is_text: bool, scope: str) -> str:
    text, mark = cell if isinstance(cell, Cell) else (cell, "")
    scope = f' scope="{scope}"' if scope else ""
    left = ' class="text"' if is_text else ""
    return f"<{tag}{scope}{left}{' ' + mark if mark else ''}>{escape(text)}</{tag}>"

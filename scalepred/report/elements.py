"""Pieces of HTML for the page and for notebooks; every text in them is escaped."""

import html
from collections.abc import Sequence

from scalepred.report import format


def escape(text: str) -> str:
    """Text that may come from a file anyone wrote, as it may stand in a page."""
    return html.escape(format.printable(text))


def paragraph(text: str) -> str:
    """A sentence by itself."""
    return f"<p>{escape(format.sentence(text))}</p>\n"


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    items = (escape(format.sentence(text)) for text in sentences)
    return "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: Sequence[int] = (),
) -> str:
    """A table under its caption.

    Args:
        caption: what the table shows; it also names the table to who cannot see it.
        header: of each column.
        rows: cells; the first of a row is its header.
        text_columns: columns of words, set from the left; numbers are set from the
            right.
    """

    def element(tag: str, text: str, column: int, scope: str = "") -> str:
        scope = f' scope="{scope}"' if scope else ""
        left = ' class="text"' if column in text_columns else ""
        return f"<{tag}{scope}{left}>{escape(text)}</{tag}>"

    head = "".join(element("th", name, i, "col") for i, name in enumerate(header))
    body = "".join(
        "<tr>"
        + element("th", row[0], 0, "row")
        + "".join(element("td", text, i) for i, text in enumerate(row[1:], start=1))
        + "</tr>\n"
        for row in rows
    )
    # The caption stands outside, so that it does not scroll away with a wide table.
    caption = escape(caption)
    return (
        f'<p class="faint">{caption}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )

"""Tables as CSV, of any dialect: comma, semicolon, tab, bar; UTF-8 or UTF-16."""

import csv
import io
import re

from scalepred.config import UserError
from scalepred.table.readers import chart
from scalepred.table.readers.raw import Raw, Row

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SPACES = " "
# Letters that numbers have.
_LETTERS = re.compile(r"(?<=[\d.])e(?=[+-]?\d)|\bnan\b|\binf\b", re.I)
# Lines of a title, a comment or settings may come before the header.
_MOST_LINES_BEFORE = 30


def parse(path: object, text: str) -> Raw:
    """A CSV; the line with the most usual number of cells is its header.

    Args:
        path: for errors.
        text: of the whole file.

    Raises:
        UserError: names the line and what is wrong with it.
    """
    lines = text.splitlines()
    said, skipped = "", 0
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].strip()) == 5:
        said, skipped = lines[0].strip()[4], 1
    elif lines and lines[0].lower() == "sep=\t":
        said, skipped = "\t", 1
    delimiter = said or _find_delimiter(lines[skipped:])
    if delimiter == _SPACES:
        lines = [" ".join(line.lstrip("#").split()) for line in lines]
    start = skipped + _find_header(lines[skipped:], delimiter)
    body = "\n".join(lines[start:])
    if delimiter == "|":
        body = "\n".join(_strip_bars(line) for line in lines[start:])
    header, rows = _read_rows(path, body, delimiter, start)
    header, rows = chart.keep_one_run(path, header, rows)
    if not rows:
        raise UserError(f"{path}: a header but no rows; add at least one point")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UserError(f"{path}: column {twice!r} stands twice; keep one")
    plain = delimiter == "," and start == 0
    name = {**_DELIMITERS, _SPACES: "spaces"}.get(delimiter, delimiter)
    kind = "" if plain else f"CSV separated by {name}"
    if start > skipped:
        kind += f", its header in line {start + 1}"
    return Raw(rows, kind, comma=delimiter == ",")


def _read_rows(
    path: object, body: str, delimiter: str, start: int
) -> tuple[list[str], list[tuple[int, Row]]]:
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)
    read: list[tuple[int, list[str]]] = []
    header: list[str] = []
    try:
        for cells in reader:
            number = start + reader.line_num
            if not header:
                header = [name.strip().lstrip("#").strip() for name in cells]
                continue
            if not any(cell.strip() for cell in cells) or _is_rule(cells):
                continue
            if not cells[0].lstrip().startswith("#"):
                read.append((number, [cell.strip() for cell in cells]))
    except csv.Error as error:
        line = start + reader.line_num
        raise UserError(f"{path}, line {line}: not a CSV ({error})") from None
    is_longer = all(len(cells) == len(header) + 1 for _, cells in read)
    # An index without a name, unless rows just end with a delimiter.
    if is_longer and any(cells[-1] for _, cells in read) and "" not in header:
        header = ["", *header]
    rows: list[tuple[int, Row]] = []
    for number, cells in read:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells for {len(header)} "
                "columns; correct that line"
            )
        rows.append((number, dict(zip(header, cells, strict=True))))
    while header and not header[-1] and all(not row.get("") for _, row in rows):
        header = header[:-1]
    return header, rows


def _find_delimiter(lines: list[str]) -> str:
    """The one that stands in most lines; of several the one that parts them alike."""
    some = [line for line in lines[:200] if line.strip() and not line.startswith("#")]
    some = some or lines[:200]

    def judge(delimiter: str) -> tuple[float, int]:
        counts = [_count(line, delimiter) for line in some]
        usual = max(set(counts), key=counts.count, default=0)
        alike = sum(count == usual for count in counts) if usual else 0
        return alike / max(1, len(counts)), usual

    # A comma within a number parts lines alike, too: where the header has another
    # mark and no comma, that one counts.
    header = next((line for line in some if not _is_number_line(line)), "")
    marks = [d for d in _DELIMITERS if _count(header, d)]
    if not marks:
        words = {len(line.lstrip("#").split()) for line in lines[:200] if line.strip()}
        return _SPACES if len(words) == 1 and max(words) > 1 else ","
    return max(marks, key=judge)


def _is_number_line(line: str) -> bool:
    """Whether it has no letters but those of numbers, as in 1e+07."""
    return not any(char.isalpha() for char in _LETTERS.sub("", line))


def _count(line: str, delimiter: str) -> int:
    """How often it stands outside quotes."""
    return sum(part.count(delimiter) for part in line.split('"')[::2])


def _find_header(lines: list[str], delimiter: str) -> int:
    """Lines before the header: comments, titles and empty ones."""
    counts = [
        _count(_strip_bars(line) if delimiter == "|" else line, delimiter)
        for line in lines
        if line.strip() and not line.startswith("#")
    ]
    usual = max(set(counts), key=counts.count, default=0)
    comment = -1
    for place, line in enumerate(lines[:_MOST_LINES_BEFORE]):
        own = _strip_bars(line) if delimiter == "|" else line
        is_wide = _count(own, delimiter) >= max(usual - 1, min(usual, 1))
        if line.startswith("#"):
            comment = place if is_wide and usual else comment
            continue
        if line.strip() and is_wide:
            # A header behind a comment sign, as numpy writes it.
            return comment if comment >= 0 and _is_number_line(line) else place
    return 0


def _strip_bars(line: str) -> str:
    line = line.strip()
    return line[1:-1] if line.startswith("|") and line.endswith("|") else line


def _is_rule(cells: list[str]) -> bool:
    """The line under the header of a table in Markdown."""
    return all(set(cell.strip()) <= set("-:=") and cell.strip() for cell in cells)

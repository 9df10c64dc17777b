"""report.html: one file that needs nothing else, for people who were not there.

It is complete without its script and better with it. All text goes through
`elements.escape`: tasks, units and devices come from files that anyone may have
written. The page asks for nothing from anywhere, which its policy enforces.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources

from etils import epath

from scalepred.report import elements, verdict
from scalepred.report.elements import Section
from scalepred.report.page import cards, glossary
from scalepred.report.page import error_chart as charts
from scalepred.report.page.answers import answers
from scalepred.report.page.ask import controls, data_block
from scalepred.report.page.header import header, title
from scalepred.report.page.law import law
from scalepred.report.page.next_runs import next_runs
from scalepred.report.page.points import points
from scalepred.report.page.provenance import provenance
from scalepred.report.page.trust import trust
from scalepred.report.page.warnings import warnings
from scalepred.report.results import Results
from scalepred.runtime.files import write_whole


def write_page(
    path: epath.Path, results: Results, extra: Sequence[Section] = ()
) -> None:
    """Writes the report as one HTML file.

    Args:
        path: the file.
        results: all that is told.
        extra: sections of those who compare several fits; they follow the law.
    """
    write_whole(path, make_page(results, extra))


def make_page(results: Results, extra: Sequence[Section] = ()) -> str:
    """The page as text; see `write_page`."""
    told, three = warnings(results), verdict.cards(results)
    sections = [
        _ask(results),
        answers(results),
        trust(results),
        _sizes(results),
        next_runs(results),
        law(results),
        *extra,
        points(results),
        provenance(results),
    ]
    # A refusal is explained before anything else is said.
    if three[0].verdict != "no":
        sections.insert(1, told)
        told = Section("", "", "")
    everything = [one for one in (told, *sections, glossary.glossary()) if one.body]
    main = f"{told}{cards.write_cards(three)}{''.join(map(str, sections))}"
    return _document(
        results,
        header(results, everything)
        + f"<main>\n{glossary.link_words(main)}{glossary.glossary()}</main>\n",
    )


def _ask(results: Results) -> Section:
    """Chart A with the controls beside it."""
    chart = elements.figure(
        charts.value_against_compute(results, None),
        f"the {results.surface.metric.replace('_', ' ')} of every run against its "
        "training compute; line: the least that each budget can buy, band: its 90% "
        "interval; dashed: where the fitted and the checked runs end",
    )
    return Section(
        "ask", "Ask the law", f'<div class="row">\n{chart}{controls(results)}</div>\n'
    )


def _sizes(results: Results) -> Section:
    """The law over both sizes, and along each."""
    pictures = (
        elements.figure(charts.surface(results), "the law over both sizes")
        + elements.figure(charts.curves(results), "the law along each size")
        + elements.figure(charts.repeats(results), "the law along passes over the data")
    )
    return Section("sizes", "Both sizes", pictures)


def _document(results: Results, body: str) -> str:
    """Head, body, data and the script that reads them."""
    read = resources.files(__package__).joinpath
    style = read("page.css").read_text("utf-8")
    script = read("page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # Nothing in the data can end the element that they stand in.
    data = json.dumps(data_block(results), separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{elements.escape(title(results))}</title>
<style>
{style}</style>
</head>
<body>
{body}<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""

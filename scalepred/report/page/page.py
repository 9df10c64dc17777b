"""report.html: one file that needs nothing else, for people who were not there.

It is complete without its script and better with it. All text goes through
`elements.escape`: tasks, units and devices come from files that anyone may have
written. The page asks for nothing from anywhere, which its policy enforces.
"""

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

from etils import epath

from scalepred.metrics import find_noun
from scalepred.report import elements, format, verdict
from scalepred.report.elements import Section
from scalepred.report.frontier import Frontier, trace_frontier
from scalepred.report.page import cards, chart, glossary
from scalepred.report.page.answers import answers
from scalepred.report.page.ask import controls, data_block, script, view
from scalepred.report.page.frontier_chart import value_against_compute
from scalepred.report.page.header import header, title
from scalepred.report.page.law import law
from scalepred.report.page.law_table import LawTable, make_law_table
from scalepred.report.page.next_runs import next_runs
from scalepred.report.page.points import points
from scalepred.report.page.provenance import provenance
from scalepred.report.page.size_charts import (
    curves_along_data,
    curves_along_params,
    repeats,
)
from scalepred.report.page.surface_chart import surface
from scalepred.report.page.trust import trust
from scalepred.report.page.warnings import alarm, warnings
from scalepred.report.results import Results
from scalepred.runtime.files import write_whole


def write_page(path: epath.Path, results: Results) -> None:
    """Writes the report as one HTML file.

    Args:
        path: the file.
        results: all that is told.
    """
    write_whole(path, make_page(results))


def make_page(results: Results) -> str:
    """The page as text; see `write_page`."""
    frontier, table = trace_frontier(results), make_law_table(results)
    three = verdict.cards(results)
    sections = [
        _ask(results, frontier, table),
        warnings(results),
        answers(results),
        trust(results),
        _sizes(results, frontier),
        next_runs(results),
        law(results),
        points(results),
        provenance(results),
    ]
    words = glossary.glossary()
    # A refusal is explained before anything else is said.
    first = alarm(results) if three[0].verdict == "no" else ""
    main = f"{first}{cards.write_cards(three)}{''.join(map(str, sections))}"
    body = header(results, [*sections, words])
    body += f"<main>\n{glossary.link_words(main)}{words}</main>\n"
    return document(title(results), body, data_block(results, table))


def _ask(
    results: Results, frontier: Frontier | None, table: LawTable | None
) -> Section:
    """All runs against compute, with the controls beside them."""
    metric = find_noun(results.surface.metric)
    picture = elements.figure(
        value_against_compute(results, frontier),
        f"the {metric} of every run; line and band: what the law expects"
        f"{' of the best split' if frontier else ''}, and its 90% interval; dashed: "
        "where the fitted and the checked runs end",
        view(),
    )
    body = f'<div class="row">\n{picture}{controls(results, table)}</div>\n'
    return Section("ask", "Ask the law", body)


def _sizes(results: Results, frontier: Frontier | None) -> Section:
    """The law over both sizes, and along each."""
    unit = format.unit(results.surface)
    pictures = [
        (
            surface(results, frontier),
            f"the law over {unit} (across) and parameters (upwards)",
        ),
        (curves_along_data(results), f"the law along {unit} at some model sizes"),
        (
            curves_along_params(results),
            f"the law along parameters at some amounts of {unit}",
        ),
        (repeats(results), f"repeated data: the law along passes over the {unit}"),
    ]
    shown = "".join(elements.figure(*one) for one in pictures)
    is_both = len(results.fit.law.axes) > 1
    return Section(
        "sizes",
        "Both sizes" if is_both else "Along the size",
        f'<div class="pair">\n{shown}</div>\n' if shown else "",
    )


def document(name: str, body: str, block: dict[str, Any]) -> str:
    """Head, body, data and the script that reads them."""
    style = (resources.files("scalepred.report.page") / "page.css").read_text("utf-8")
    # Its comments and lines are for who reads the source.
    style = re.sub(r"/\*.*?\*/|\s+", " ", style + chart.STYLE, flags=re.DOTALL)
    style = re.sub(r" ?([{};,]) ?", r"\1", style).replace(": ", ":")
    program = script()
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # Nothing in the data can end the element that they stand in.
    data = json.dumps(block, separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{elements.escape(name)}</title>
<style>{style}</style>
</head>
<body>
{body}<script type="application/json" id="block">{data}</script>
<script>{program}</script>
</body>
</html>
"""

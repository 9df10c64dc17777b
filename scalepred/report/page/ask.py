"""Ask the law: the controls of the page, and the data that its script reads.

Everything here is hidden until the script shows it: without scripts the page is
complete and these would do nothing.
"""

import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from scalepred.metrics import find_noun, find_unit, is_bounded
from scalepred.report import format, words
from scalepred.report.elements import escape
from scalepred.report.page import packed
from scalepred.report.page.law_table import Axis, LawTable
from scalepred.report.page.points import in_order
from scalepred.report.results import Results

_REGIONS = {"fit": "fitted", "held_out": "held out", "target": "targets"}
_SCRIPTS = ("law.js", "runs.js", "zoom.js", "page.js")
_TEN = math.log(10.0)


def script() -> str:
    """The one script of the page."""
    read = resources.files("scalepred.report.page").joinpath
    return squeeze("".join(read(name).read_text("utf-8") for name in _SCRIPTS))


def squeeze(text: str) -> str:
    """A script without comments on lines of their own, and with few spaces and lines.

    Statements end with semicolons, and no text goes over lines.
    """
    text = re.sub(r"^\s*(//.*|/\*(?s:.*?)\*/)\n", "", text, flags=re.MULTILINE)
    lines = re.findall(r"^\s*(\S.*\n)", text, flags=re.MULTILINE)
    return "".join(map(_squeeze_line, lines))


def _squeeze_line(line: str) -> str:
    """A line of the script without spaces that say nothing.

    Text stays as it is, and so does a line in which it is not plain where text ends: an
    expression or a comment begins in it (a stroke that divides has a space on both
    sides), or a sign is escaped that could end it.
    """
    if re.search(r"(?<![\w)\]] )/|/(?! )|\\[\"`]", line) or line.count("`") > 2:
        return line
    parts = re.split(r'("[^"]*"|`[^`]*`)', line)
    for i in range(0, len(parts), 2):
        plain = re.sub(r" ?([=<>{}(),;:?&|*/]) ?", r"\1", parts[i])
        # Not between two signs, which would become one.
        parts[i] = re.sub(r"(?<![+-]) ([+-]) (?![+-])", r"\1", plain)
    whole = "".join(parts)
    return re.sub(r"(?<=[{};,(])\n$", "", whole)


def view() -> str:
    """What changes the axes of the main chart where there is no mouse; as HTML."""
    return (
        '<p class="bar live" hidden><label><input type="checkbox" id="linear"> '
        "Linear value axis</label>\n"
        '<button type="button" id="closer">Zoom in</button>\n'
        '<button type="button" id="whole">Show all</button>\n'
        '<span class="faint">or drag over a part of it; keys: +, − and 0</span></p>\n'
    )


def controls(results: Results, table: LawTable | None) -> str:
    """Sliders, number fields, what they say, and which runs are shown; as HTML.

    Args:
        results: of a study.
        table: of its law; None: only the choice of runs is left.
    """
    asked = "" if table is None else _sliders(results, table)
    return (
        f'<form id="controls" class="controls live" hidden>\n{asked}{_choice(results)}'
        '</form>\n<div id="tip" class="tip" aria-live="polite" hidden></div>\n'
    )


def _sliders(results: Results, table: LawTable) -> str:
    unit = format.unit(results.surface)
    names = {
        "params": ("Parameters", ""),
        "data": ("Data", unit),
        "epochs": ("Epochs", ""),
    }
    if unit == "FLOPs":
        names["data"] = ("Compute", unit)
    rows = [_slider(axis, *names[axis.name]) for axis in table.axes]
    best = ""
    if table.budget_range is not None:
        rows.insert(0, _slider(table.budget_range, "Budget", "FLOPs"))
    if table.best is not None:
        best = '<button type="button" id="best">Best split for this budget</button>\n'
    told = _offsets_note(table)
    return (
        "".join(rows)
        + best
        + '<label class="switch"><input type="checkbox" id="wanted"> Ask for a value '
        f"instead</label>\n{_value_slider(results, table)}"
        f'<div id="answer" role="status" aria-live="polite"></div>\n{told}'
    )


def _slider(axis: Axis, label: str, unit: str) -> str:
    """A slider over the logarithm of a number, with a field to type it."""
    low, high = axis.low / _TEN, axis.high / _TEN
    low, high, step = math.ceil(100 * low) / 100, math.floor(100 * high) / 100, 0.01
    if axis.name == "epochs":
        low, high, step = 1, round(math.exp(axis.high)), 0.5
    return _row(axis.name, label, unit, f'min="{low}" max="{high}" step="{step}"')


def _row(name: str, label: str, unit: str, ends: str, more: str = "") -> str:
    told = escape(f"{label}, {unit}" if unit else label)
    return (
        f'<div class="slider" id="{name}-row"{more}><label for="{name}">{escape(label)}'
        f'</label>\n<input type="text" id="{name}-number" aria-label="{told}" size="9" '
        f'autocomplete="off" spellcheck="false"> <span>{escape(unit)}</span>\n'
        f'<input type="range" id="{name}" {ends}></div>\n'
    )


def _value_slider(results: Results, table: LawTable) -> str:
    """From the least value in the table to the largest that was measured."""
    surface = results.surface
    low = math.ceil(1000 * float(table.value.min()) / _TEN + 1) / 1000
    high = math.floor(1000 * math.log10(float(surface.value.max()))) / 1000
    label = find_noun(surface.metric)
    unit = "" if is_bounded(surface.metric) else find_unit(surface.metric)
    ends = f'min="{low}" max="{max(high, low + 0.001)}" step="0.001"'
    return _row("value", label[:1].upper() + label[1:], unit, ends, " hidden")


def _offsets_note(table: LawTable) -> str:
    if not table.is_of_new_sizes:
        return ""
    return (
        '<p class="faint">This is for a model size that is not in the table: each '
        "fitted size has a small offset of its own, which is left out here.</p>\n"
    )


def _choice(results: Results) -> str:
    """Which runs the charts show."""
    found = {row.region for row in results.predictions}
    names = {f"region:{key}": name for key, name in _REGIONS.items() if key in found}
    return f'<fieldset class="shown">{show_boxes(names)}</fieldset>\n'


def show_boxes(names: Mapping[str, str]) -> str:
    """A box for each kind of mark that the charts can show; as HTML.

    Args:
        names: of the kinds, each by "region:" or "series:" and what the marks have.
    """
    boxes = "".join(
        f'<label><input type="checkbox" data-toggle="{escape(key)}" checked> '
        f"{escape(name)}</label>\n"
        for key, name in names.items()
    )
    return f"<legend>Show</legend>\n{boxes}"


def data_block(results: Results, table: LawTable | None) -> dict[str, Any]:
    """What the script reads, for JSON without NaN.

    Args:
        results: of a study.
        table: of its law, if there is one.
    """
    metric = results.surface.metric
    return {
        "metric": {
            "thing": format.thing(results.surface),
            "bounded": is_bounded(metric),
            "unit": "" if is_bounded(metric) else find_unit(metric),
        },
        "untold": [
            name
            for name in ("params", "data")
            if not format.is_told(name, results.surface)
        ],
        "dataUnit": format.printable(format.unit(results.surface)),
        "law": table and table.record(),
        "start": table and _start(results, table),
        "reach": _reach(results, table),
        "points": _points(results),
    }


def _start(results: Results, table: LawTable) -> dict[str, float | None]:
    """Sizes first shown: the largest target, else the best split that was asked for."""
    targets = words.targets(results)
    row = max(targets, key=lambda row: row.compute, default=words.largest_run(results))
    sizes = {"params": row.params, "data": row.data}
    asked = [a for a in results.answers if a.question == "best_for_budget"]
    if not targets and asked and table.best is not None:
        sizes = {name: asked[0].details[name][0] for name in sizes}
    epochs = 1.0 if math.isnan(row.epochs) else row.epochs
    return {**sizes, **table.fixed, "epochs": table.fixed.get("epochs", epochs)}


def _reach(results: Results, table: LawTable | None) -> dict[str, Any]:
    """The largest fitted and checked run, in compute or in the law's only size."""
    own = [axis.name for axis in table.axes if axis.name != "epochs"] if table else []
    of = own[0] if len(own) == 1 else "compute"

    fitted = [row for row in results.predictions if row.region == "fit"]
    return {
        "of": of,
        "fitted": max(getattr(row, of) for row in fitted),
        "checked": max((getattr(row, of) for row in results.checks), default=None),
        "compute": max(row.compute for row in fitted),
    }


def _points(results: Results) -> dict[str, Any]:
    """Runs and targets by column, packed, in the order of the table of all points."""
    # The points of the surface stand first, then what nobody ran.
    runs = results.surface.num_seeds.tolist()
    seeds = dict(zip(map(id, results.predictions), runs, strict=False))
    rows = in_order(results)
    names = ["params", "data", "compute", "measured", "predicted"]
    names += ["epochs"] if results.surface.epochs is not None else []
    column = {
        name: np.array([getattr(row, name) for row in rows])
        for name in (*names, "lower", "upper")
    }
    logs = [np.log(column[name]) for name in ("predicted", "lower", "upper")]
    return {
        **{name: packed.floats(column[name]) for name in names},
        "ends": packed.ends(*logs),
        "regions": list(_REGIONS),
        "region": "".join(str([*_REGIONS].index(row.region)) for row in rows),
        "seeds": [seeds.get(id(row), 0) for row in rows],
    }

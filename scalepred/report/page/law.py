"""The law: its formula, what its numbers mean, and code that gives them."""

import math
import re

import numpy as np

from scalepred.fitting.fit import Fit
from scalepred.fitting.laws import Law
from scalepred.metrics import find_noun
from scalepred.report import elements, format
from scalepred.report.elements import Section
from scalepred.report.law_code import find_parts, python_code
from scalepred.report.results import Results

_GREEK = {
    "alpha": "\N{GREEK SMALL LETTER ALPHA}",
    "beta": "\N{GREEK SMALL LETTER BETA}",
    "eta": "\N{GREEK SMALL LETTER ETA}",
}
_FRACTIONS = "fractions of the largest fitted m and n"
# What the formula calls some parameters.
_SYMBOLS = {"bend": "h", "hardness": "k"}


def law(results: Results) -> Section:
    """Formula, parameters, members, offsets and code."""
    fit, surface = results.fit, results.surface
    shown = fit.law.parts[0] if fit.law.parts else fit.law
    metric = elements.escape(find_noun(surface.metric))
    formula = _typeset(shown.formula) if shown.formula else "no formula given"
    body = (
        f'<p class="formula">{metric} = {formula}</p>\n'
        + elements.paragraph(_names(results))
        + elements.paragraph(f"source: {shown.source or 'a law of your own'}")
        + _parameters(results, shown)
        + _members(fit)
        + _offsets(fit)
        + elements.heading("As code")
        + elements.paragraph(
            "this gives the numbers of the page to twelve digits, with NumPy alone; "
            "fit.json holds the same numbers for other languages"
        )
        + elements.folded("Python", elements.code(python_code(fit), "law-code"))
    )
    return Section("law", "The law", body)


def _names(results: Results) -> str:
    surface, fitted = results.surface, results.fit.fitted
    unit = format.unit(surface)
    said = f"here m is the number of parameters and n that of {unit}"
    if unit == "FLOPs":
        said = "here n is compute in FLOPs"
    largest = format.sizes(fitted.params_unit, fitted.data_unit, surface)
    return f"{said}; the largest fitted sizes, M and N, are {largest}"


def _typeset(formula: str) -> str:
    """A formula of plain text with raised exponents and Greek letters."""
    text = elements.escape(formula)
    text = re.sub(r"\^(\([^()]*\)|-?[\w']+)", r"<sup>\1</sup>", text)
    text = re.sub(r"(?<=\b[A-Zde])_(\w+)", r"<sub>\1</sub>", text)
    for name, letter in _GREEK.items():
        text = re.sub(rf"\b{name}\b", letter, text)
    return text.replace("-", "−").replace("sqrt", "√")


def _parameters(results: Results, shown: Law) -> str:
    """Value and interval in the units of the formula, and for whole counts."""
    fit, metric = results.fit, results.surface.metric
    raw = _in_counts(fit, shown)
    rows = []
    for name, one in fit.parameters.items():
        known = [name, _symbol(name, shown.formula), format.number(one.value)]
        ends = format.span(one.lower, one.upper, format.number)
        known += [ends or ("as given" if one.lower == one.upper else elements.NOTHING)]
        if raw:
            known += [format.number(raw.get(name, one.value))]
        rows.append([*known, format.describe_parameter(name, metric)])
    header = ["parameter", "in the formula", "value", "90% interval"]
    caption = "m and n are whole counts"
    if shown.unit == _FRACTIONS:
        caption = "value and interval: m and n as fractions of M and N"
    if raw:
        header.append("for m, n as counts")
    return elements.table(
        f"parameters; {caption}",
        [*header, "meaning"],
        rows,
        text_columns=(0, 1, len(header)),
    )


def _symbol(name: str, formula: str) -> str:
    """What the formula calls a parameter, if something else than its name."""
    sizes = {"model_exponent": "mN", "data_exponent": "nD"}
    for size in sizes.get(name, "") + ("s" if "exponent" in name else ""):
        found = re.search(rf"\b{size}'?\^-(alpha|beta)", formula)
        if found:
            return _GREEK[found[1]]
    if name == "random_guess":
        return "U" if "U z" in formula else "e0" if "e0" in formula else ""
    symbol = _SYMBOLS.get(name, name)
    is_there = re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", formula)
    return _GREEK.get(symbol, symbol) if is_there else ""


def _in_counts(fit: Fit, shown: Law) -> dict[str, float]:
    """Parameters of a law of fractions as they are when m and n are counts."""
    found = {name: one.value for name, one in fit.parameters.items()}
    if shown.unit != _FRACTIONS:
        return {}
    with np.errstate(over="ignore", under="ignore"):
        of_model = fit.fitted.params_unit ** found.get("model_exponent", 0.0)
        of_data = fit.fitted.data_unit ** found.get("data_exponent", 0.0)
    if shown.name == "flexible":
        factors = {"A": of_model, "B": of_data}
    elif shown.name.startswith("rosenfeld"):
        factors = {"b": of_model / of_data, "c": 1 / of_data, "eta": 1 / of_data}
    else:
        return {}
    return {name: found[name] * by for name, by in factors.items() if name in found}


def _members(fit: Fit) -> str:
    """What law=auto weighed."""
    if not fit.members:
        return ""
    ratios = list(
        dict.fromkeys(ratio for one in fit.members for ratio, _ in one.errors)
    )
    rows = []
    for one in sorted(fit.members, key=lambda one: -one.weight):
        errors = dict(one.errors)
        told = (errors.get(ratio, math.nan) for ratio in ratios)
        weight = format.whole_percent(one.weight)
        rows.append([one.name, weight, *map(format.percent, told)])
    caption = (
        "the prediction is the weighted geometric mean of these members (law=auto), "
        "not the formula alone; the parameters above are those of the heaviest one. "
        "Weights come from back-tests: the typical error above 1/3, 1/6, ... of the "
        "fitted compute, hidden"
    )
    header = ["member", "weight", *(f"above 1/{ratio:g}" for ratio in ratios)]
    return elements.heading("Members") + elements.table(caption, header, rows)


def _offsets(fit: Fit) -> str:
    """What is known of exact model sizes beside their number of parameters."""
    parts = [part for part in find_parts(fit.fitted) if "own" in part.numbers]
    if not parts:
        return ""
    heaviest = max(parts, key=lambda part: part.weight)
    sizes, offsets, steeper = heaviest.numbers["own"]
    rows = [
        [
            format.count(size * fit.fitted.params_unit),
            _change(offset),
            _change(steep),
        ]
        for size, offset, steep in zip(sizes, offsets, steeper, strict=False)
    ]
    rows.append(["any other size", _change(offsets[-1]), _change(steeper[-1])])
    return elements.heading("Offsets of model sizes") + elements.table(
        "sizes of model that were trained on several amounts of data have an offset of "
        "their own, for what parameters do not count, such as depth; a new size has "
        "none, and a wider interval. Given for the heaviest member; the code has all",
        ["parameters", "what m and n can lower changes by", "exponent of n changes by"],
        rows,
    )


def _change(log_factor: float) -> str:
    share = math.expm1(log_factor)
    if abs(share) < 5e-5:
        return format.percent(0.0)
    return ("+" if share > 0 else "") + format.percent(share)

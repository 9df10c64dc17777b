"""The top of the page: what was studied, when, by which command, and what follows."""

from collections.abc import Sequence

import numpy as np

from scalepred.metrics import find_noun
from scalepred.report import elements, format
from scalepred.report.elements import Section
from scalepred.report.results import Results

# Beside the page, in the same folder.
_FILES = ("predictions.csv", "fit.json", "answers.json", "figures/")


def title(results: Results) -> str:
    """Of the page."""
    metric = find_noun(results.surface.metric)
    return f"{results.title or 'Scaling study'}: how the {metric} scales"


def header(results: Results, sections: Sequence[Section]) -> str:
    """Title, facts, files, and links to the sections that there are."""
    version = results.versions.get("scalepred", "")
    about = [results.provenance.date, f"scalepred {version}" if version else ""]
    parts = [elements.escape(text) for text in about if text]
    parts += [f'<a href="{name}">{name}</a>' for name in _FILES]
    links = "".join(
        f'<a href="#{one.id}">{elements.escape(one.title)}</a>\n'
        for one in sections
        if one.body
    )
    return (
        f"<header>\n<h1>{elements.escape(title(results))}</h1>\n"
        f'<p class="facts">{elements.escape(_facts(results))}</p>\n'
        f'<div class="facts">{" · ".join(parts)}{_command(results)}</div>\n'
        f'<nav aria-label="Sections">{links}</nav>\n</header>\n'
    )


def _command(results: Results) -> str:
    if not results.provenance.command:
        return ""
    code = elements.code(results.provenance.command, "command")
    return elements.folded("The command", code)


def _facts(results: Results) -> str:
    """243 runs, 57M to 16B parameters, ...: what there is, fitted and held out."""
    surface = results.surface
    runs, points = int(surface.num_seeds.sum()), len(surface)
    counted = f"{points:,} sizes ({runs:,} runs)" if runs > points else f"{runs:,} runs"
    if points == 1:
        counted = counted.replace("sizes", "size").replace("1 runs", "1 run")
    facts = [counted]
    if format.unit(surface) != "FLOPs" and format.is_told("params", surface):
        facts.append(f"{_range(surface.params)} parameters")
    facts.append(f"{_range(surface.data)} {format.unit(surface)}")
    if surface.epochs is not None:
        facts.append(f"{_range(surface.epochs)} passes over them")
    fitted = [row.compute for row in results.predictions if row.region == "fit"]
    left = points - len(fitted)
    said = f"law fitted on all {points:,}; nothing was held out"
    if left:
        up_to = format.flops(max(fitted))
        said = (
            f"law fitted on {len(fitted):,} of them, up to {up_to} FLOPs, and checked "
            f"on the other {f'{left:,}' if left > 1 else 'one'}"
        )
    return format.sentence(f"{', '.join(facts)}; {said}")


def _range(sizes: np.ndarray) -> str:
    low, high = format.count(float(sizes.min())), format.count(float(sizes.max()))
    return low if low == high else f"{low} to {high}"

"""A fit in words: one screen of a terminal, or one table of a notebook."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from scalepred.report import elements, format

if TYPE_CHECKING:
    from scalepred.fitting.fit import Fit

PARAMETER_COLUMNS = ("parameter", "value", "lower (90%)", "upper (90%)")

_WIDTH = 80
# What is longer stands on the page, and in `Fit.warnings`.
_MAX_WARNINGS = 4
_MAX_PARAMETERS = 12


def text(fit: Fit) -> str:
    """The fit on one screen, at most 80 columns wide."""
    return "\n".join(_lines(fit))


def html(fit: Fit) -> str:
    """The fit for a notebook: its parameters in a table, the rest in a list."""
    caption = f"{_title(fit)}; m and n in {fit.law.unit}"
    said = [f"{fit.surface.metric} = {fit.law.formula or 'no formula given'}"]
    said += [f"{label}: {text}" for label, text in (*_trust(fit), *_warnings(fit))]
    table = elements.table(
        format.sentence(caption), PARAMETER_COLUMNS, parameter_rows(fit)
    )
    return table + elements.bullets(said)


def describe_fit(fit: Fit) -> str:
    """Law, points and cross-validation."""
    text = f"{fit.law.name} law through {_count_points(fit)}"
    checked = fit.cross_validation
    if not checked.num_folds:
        return text + "; too few points to cross-validate"
    score = format.mean_and_std(checked.mean, checked.std)
    return (
        f"{text}; relative error in {checked.num_folds}-fold cross-validation {score}"
    )


def parameter_rows(fit: Fit) -> list[list[str]]:
    """The published parameters with their 90 % intervals, in `PARAMETER_COLUMNS`."""
    return [
        [
            name,
            format.number(estimate.value),
            format.number(estimate.lower),
            format.number(estimate.upper),
        ]
        for name, estimate in fit.parameters.items()
    ]


def describe_scatter(fit: Fit) -> str:
    """How far points lie from the law, and runs from each other."""
    noise = fit.fitted.noise
    repeated = "no point was measured twice, so run-to-run noise is not known"
    if noise.sd:
        repeated = f"run-to-run noise {format.percent(noise.sd)} of the value"
    return f"misfit of the law {format.percent(fit.fitted.misfit)}; {repeated}"


def describe_draws(fit: Fit) -> str:
    """What the intervals come from."""
    fitted = fit.fitted
    if not len(fitted.draws):
        return "without resamples there are no intervals"
    intervals = f"intervals are from {len(fitted.draws):,} resamples"
    if fitted.growth > 1:
        grown = format.ratio(fitted.growth, 1.0)
        is_gradual = math.isfinite(fitted.reach)
        intervals += ", widened " + ("up to " if is_gradual else "")
        intervals += f"{grown} times for what the back-tests missed"
        if is_gradual:
            intervals += ", the farther from the fit region the more"
    return intervals


def describe_back_tests(fit: Fit) -> str:
    """How well the largest compute of the fit region was predicted from the rest."""
    if not fit.inner_tests:
        return "too few points for back-tests inside the fit region"
    first, *rest = (
        f"{format.percent(test.error)} (all above 1/{test.ratio:g}"
        for test in fit.inner_tests
    )
    errors = ", ".join([f"{first} of the compute)", *(f"{one})" for one in rest)])
    return f"mean relative error of what was hidden: {errors}"


def _count_points(fit: Fit) -> str:
    runs = int(np.sum(fit.surface.num_seeds))
    said = f"{len(fit.surface)} points"
    return f"{said} ({runs:,} runs)" if runs > len(fit.surface) else said


def _title(fit: Fit) -> str:
    law = "flexible law (law=auto)" if fit.called == "auto" else f"{fit.law.name} law"
    task = f" of {fit.surface.task}" if fit.surface.task else ""
    return f"{law}, {fit.surface.metric}{task}: {_count_points(fit)}"


def _lines(fit: Fit) -> Iterator[str]:
    yield from _wrap("", _title(fit))
    if fit.law.formula:
        yield from _wrap("", f"{fit.surface.metric} = {fit.law.formula}")
    yield from _wrap("", f"m and n in {fit.law.unit}")
    rows = [list(PARAMETER_COLUMNS), *parameter_rows(fit)]
    for row in rows[: _MAX_PARAMETERS + 1]:
        yield _shorten(f"  {row[0]:<20}" + "".join(f"{cell:>14}" for cell in row[1:]))
    if len(rows) > _MAX_PARAMETERS + 1:
        yield f"  and {len(rows) - _MAX_PARAMETERS - 1} more in fit.parameters"
    for label, sentence in (*_trust(fit), *_warnings(fit)):
        yield from _wrap(label, sentence)


def _trust(fit: Fit) -> list[tuple[str, str]]:
    """How far to trust it: a label and a sentence each."""
    checked = fit.cross_validation
    folds = "too few points"
    if checked.num_folds:
        score = format.mean_and_std(checked.mean, checked.std)
        folds = f"relative error {score} over {checked.num_folds} folds"
    return [
        ("fit", describe_scatter(fit)),
        ("cross-validation", folds),
        ("back-tests", describe_back_tests(fit)),
        ("intervals", describe_draws(fit)),
    ]


def _warnings(fit: Fit) -> list[tuple[str, str]]:
    if not fit.warnings:
        return [("warnings", "none")]
    said = [("warning", f"[{w.code}] {w.sentence}") for w in fit.warnings]
    if len(said) > _MAX_WARNINGS:
        more = f"{len(said) - _MAX_WARNINGS} more in fit.warnings"
        said = [*said[:_MAX_WARNINGS], ("warning", more)]
    return said


def _wrap(label: str, sentence: str) -> list[str]:
    """A sentence after its label, over as many lines as it takes."""
    first = f"{label + ':':<18}" if label else ""
    rest = " " * (len(first) or 4)
    said = format.printable(sentence)
    return textwrap.wrap(said, _WIDTH, initial_indent=first, subsequent_indent=rest)


def _shorten(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."

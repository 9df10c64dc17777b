"""A fit in words: one screen of text, a table for a notebook, a frame of points."""

import html
import textwrap
from typing import Any

import numpy as np

from scalepred.config import UserError
from scalepred.table.numbers import write_value

_COLUMNS = 79
_MOST_WARNINGS = 5


def summarise(fit: Any) -> str:
    """What the terminal shows of a fit, at most 79 columns wide.

    Args:
        fit: any `fit.Fit`; what takes refitting is computed.
    """
    lines = _wrap(_title(fit))
    if fit.law.formula:
        lines += _wrap(f"{fit.surface.metric} = {fit.law.formula}")
    lines += [f"m and n in {fit.law.unit}", ""]
    rows = [
        (
            name,
            write_value(one.value),
            f"({write_value(one.lower)} to {write_value(one.upper)})",
        )
        for name, one in fit.parameters.items()
    ]
    name_width = max((len(name) for name, *_ in rows), default=0)
    lines += [
        f"  {name:<{name_width}}  {value:>9}  {ends}" for name, value, ends in rows
    ]
    lines += ["", *_tell_trust(fit)]
    warnings = [one.sentence for one in sorted(fit.warnings, key=lambda w: w.rank)]
    for sentence in warnings[:_MOST_WARNINGS]:
        lines += _wrap(f"warning: {sentence}")
    if len(warnings) > _MOST_WARNINGS:
        lines.append(f"and {len(warnings) - _MOST_WARNINGS} more in fit.warnings")
    return "\n".join(lines)


def as_html(fit: Any) -> str:
    """The same for a notebook: a table of parameters between two paragraphs."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{write_value(one.value)}</td>"
        f"<td>{write_value(one.lower)} to {write_value(one.upper)}</td></tr>"
        for name, one in fit.parameters.items()
    )
    notes = [*_tell_trust(fit), *(f"warning: {w.sentence}" for w in fit.warnings)]
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        f"<p>{html.escape(_title(fit))}</p><table><tr><th>parameter</th><th>value</th>"
        f"<th>90% interval</th></tr>{rows}</table><ul>{said}</ul>"
    )


def to_frame(fit: Any) -> Any:
    """See `fit.Fit.to_frame`."""
    try:
        import pandas  # pyright: ignore[reportMissingImports] - not ours
    except ImportError:
        raise UserError(
            "to_frame: pandas is not installed; pip install pandas, or take the arrays "
            "of fit.surface and fit.predict"
        ) from None
    surface = fit.surface
    epochs = surface.epochs if "epochs" in fit.law.axes else None
    said = fit.predict(surface.params, surface.data, surface.num_seeds, epochs)
    columns = {
        "params": surface.params,
        "data": surface.data,
        "value": surface.value,
        "weight": surface.weight,
        "predicted": said.value,
        "lower": said.lower,
        "upper": said.upper,
    }
    if surface.epochs is not None:
        columns["epochs"] = surface.epochs
    return pandas.DataFrame(columns)


def _title(fit: Any) -> str:
    surface = fit.surface
    runs = int(np.sum(surface.num_seeds))
    of = f" of {surface.task}" if surface.task else ""
    law = fit.law.name if fit.called in ("", fit.law.name) else fit.called
    return (
        f"{law} law through {len(surface)} points ({runs} runs){of}, {surface.metric}"
    )


def _tell_trust(fit: Any) -> list[str]:
    """How well the law did on points held out from it, and what intervals come from."""
    lines = []
    folds = fit.cross_validation
    if folds.num_folds:
        lines.append(
            f"{folds.num_folds}-fold cross-validation: relative error "
            f"{folds.mean:+.1%} ± {folds.std:.1%} (mean ± std)"
        )
    for test in fit.inner_tests:
        lines.append(
            f"back-test: {test.num_hidden} points from 1/{test.ratio:g} of the "
            f"compute, off by {test.error:.1%} in the mean"
        )
    draws = len(fit.fitted.draws)
    said = f"intervals: 90%, from {draws} resamples"
    if fit.fitted.growth > 1:
        said += f", widened {fit.fitted.growth:.2g} times for what back-tests missed"
    lines.append(said if draws else "no resamples: there are no intervals")
    if fit.inner_tests or folds.num_folds:
        return lines
    return [*lines, "no point could be held out: nothing says how far to trust it"]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _COLUMNS, subsequent_indent="  ")

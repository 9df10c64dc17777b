"""What makes the fit less than it seems: how much each matters, and what to do."""

from collections.abc import Sequence

from scalepred.fitting.warn import SEVERITIES, Warn
from scalepred.report import elements, format
from scalepred.report.elements import Section
from scalepred.report.results import Results

# How much each matters for what was asked.
_TITLES = {
    "stops": "Stops: settle this before you rely on the answers",
    "weakens": "Weakens: the answers may be off by more than they say",
    "note": "Note: little changes in the answers",
}


def warnings(results: Results) -> Section:
    """The warnings of the fit, the gravest first."""
    found = results.fit.warnings
    body = "".join(_write_group(severity, found) for severity in SEVERITIES)
    if not found:
        body = elements.paragraph("no warnings about this fit")
    return Section("warnings", "Warnings", body)


def alarm(results: Results) -> str:
    """One line that leads to the warnings which stop a fit; nothing without them."""
    found = [one.code for one in results.fit.warnings if one.severity == "stops"]
    if not found:
        return ""
    counted = "One warning stops" if len(found) == 1 else f"{len(found)} warnings stop"
    codes = ", ".join(sorted({code.replace("_", " ") for code in found}))
    return (
        f'<p class="warnings alarm" data-severity="stops"><strong>{counted} this fit'
        f"</strong> ({elements.escape(codes)}): "
        '<a href="#warnings">what is wrong, and what to do</a></p>\n'
    )


def _write_group(severity: str, found: Sequence[Warn]) -> str:
    group = sorted(
        (one for one in found if one.severity == severity), key=lambda one: one.rank
    )
    if not group:
        return ""
    items = "".join(
        f"<li>{elements.escape(format.sentence(one.sentence))}"
        f"{_advise(one.advice)}"
        f' <code class="faint">{elements.escape(one.code)}</code></li>\n'
        for one in group
    )
    return (
        f'<div class="warnings" data-severity="{severity}">\n'
        f"{elements.heading(_TITLES[severity])}<ul>\n{items}</ul>\n</div>\n"
    )


def _advise(advice: str) -> str:
    if not advice:
        return ""
    return f" <strong>What to do:</strong> {elements.escape(format.sentence(advice))}"

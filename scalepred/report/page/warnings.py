"""What makes the fit less than it seems: how much each matters, and what to do."""

from scalepred.report import elements, format
from scalepred.report.elements import Section
from scalepred.report.results import Results

# The gravest first, and how much each matters for what was asked.
_SEVERITIES = {
    "stops": "Stops: do not rely on the answers until this is settled",
    "weakens": "Weakens: the answers may be off by more than they say",
    "note": "Note: little changes in the answers",
}


def warnings(results: Results) -> Section:
    """All warnings of the fit."""
    found = results.fit.warnings
    body = "".join(
        _write_group(severity, title, [one for one in found if _of(one) == severity])
        for severity, title in _SEVERITIES.items()
    )
    return Section(
        "warnings", "Warnings", body or elements.paragraph("no warnings about this fit")
    )


def _write_group(severity: str, title: str, group: list) -> str:
    if not group:
        return ""
    items = "".join(
        f"<li>{elements.escape(format.sentence(one.sentence))}"
        f"{_advise(getattr(one, 'advice', ''))}"
        f' <code class="faint">{elements.escape(one.code)}</code></li>\n'
        for one in group
    )
    return (
        f'<div class="warnings" data-severity="{severity}">\n'
        f"{elements.heading(title)}<ul>\n{items}</ul>\n</div>\n"
    )


def _of(warning) -> str:
    return getattr(warning, "severity", "weakens")


def _advise(advice: str) -> str:
    if not advice:
        return ""
    return f" <strong>What to do:</strong> {elements.escape(format.sentence(advice))}"

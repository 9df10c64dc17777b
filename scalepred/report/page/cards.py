"""The verdict: three questions, each answered in a card."""

from scalepred.report import elements, format
from scalepred.report.results import Results
from scalepred.report.verdict import Card, cards

# Beside colour and word, for whoever sees neither.
_ICONS = {"yes": "✓", "care": "!", "no": "✕", "unchecked": "?"}


def write_cards(results: Results) -> str:
    """The three of them, in a row."""
    return f'<div class="cards">\n{"".join(map(_write, cards(results)))}</div>\n'


def is_refused(results: Results) -> bool:
    """Whether the verdict is No: then the warnings come first."""
    return any(card.verdict == "no" for card in cards(results))


def _write(card: Card) -> str:
    icon, verdict = _ICONS.get(card.verdict, ""), ""
    if icon:
        verdict = f' data-verdict="{card.verdict}"'
        icon = f'<span class="icon" aria-hidden="true">{icon}</span> '
    said = "".join(elements.paragraph(sentence) for sentence in card.sentences)
    badge = card.badge and elements.escape(card.badge)
    badge = f'<p class="badge">{badge}</p>\n' if badge else ""
    return (
        f'<section class="card" data-card="{card.name}"{verdict}>\n'
        f"<h2>{elements.escape(card.question)}</h2>\n"
        f'<p class="verdict">{icon}<strong>{elements.escape(card.headline)}</strong>'
        f"</p>\n{said}{badge}</section>\n"
    )

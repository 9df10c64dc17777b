"""The verdict: three questions, each answered in a card."""

from collections.abc import Sequence

from scalepred.report import elements, format
from scalepred.report.verdict.card import Card

# Beside colour and word, for whoever sees neither.
_ICONS = {"yes": "✓", "care": "!", "no": "✕", "unchecked": "?"}


def write_cards(three: Sequence[Card]) -> str:
    """The three of them, in a row."""
    return f'<div class="cards">\n{"".join(map(_write, three))}</div>\n'


def _write(card: Card) -> str:
    icon, verdict = _ICONS.get(card.verdict, ""), ""
    if icon:
        verdict = f' data-verdict="{card.verdict}"'
        icon = f'<span class="icon" aria-hidden="true">{icon}</span> '
    said = " ".join(map(format.sentence, card.sentences))
    badge = card.badge and elements.escape(card.badge)
    badge = f'<p class="badge">{badge}</p>\n' if badge else ""
    return (
        f'<section class="card" data-card="{card.name}"{verdict}>\n'
        f"<h2>{elements.escape(card.question)}</h2>\n"
        f'<p class="verdict">{icon}<strong>{elements.escape(card.headline)}</strong>'
        f"</p>\n<p>{elements.escape(said)}</p>\n{badge}</section>\n"
    )

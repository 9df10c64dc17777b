"""What the words mean, and links to that from where each is first used."""

import re

from scalepred.report import elements
from scalepred.report.elements import Section

# In the order of the alphabet; the text of a link is the word as it stands there.
_WORDS = {
    "90% interval": "The range that a new measurement falls into nine times in ten, if "
    "the law goes on as it began.",
    "back-test": "The largest fitted runs are hidden, the law is fitted to the rest, "
    "and predicts them: how far it is off says how far to trust it.",
    "best split": "The parameters and the data that together reach the least value for "
    "a budget of compute.",
    "bias": "The mean of the errors with their signs; above 0 the law predicts values "
    "that are too high.",
    "checked": "Runs that the law never saw were predicted and compared up to there.",
    "compute": "Floating-point operations of training one run, in FLOPs.",
    "cross-validation": "Each tenth of the fitted points is predicted from the others; "
    "it says nothing of larger runs.",
    "exponent": "How fast a value falls with size: with 0.5, four times the size halve "
    "what can still be lowered.",
    "FLOPs": "Floating-point operations, the usual measure of compute; 1e21 is 1 with "
    "21 zeros.",
    "floor": "The value that no amount of parameters and data gets below, by this law.",
    "held out": "Measured, but kept from the law, to check its predictions.",
    "law": "A formula that gives the value from the number of parameters and the "
    "amount of data.",
    "resample": "The law fitted once more to data shaken as much as noise and misfit "
    "say; many of them give the intervals.",
    "target": "A size that was asked about and is not measured yet.",
    "typical error": "The mean of |predicted / measured − 1|.",
}
_SKIPPED = re.compile(
    r"<(a|button|details|caption|code|figcaption|form|h1|h2|h3|nav|script|strong|summary|svg|table)\b"
    r".*?</\1>|<[^>]*>",
    re.DOTALL,
)


def glossary() -> Section:
    """Fifteen words."""
    items = "".join(
        f'<dt id="{_name(word)}">{elements.escape(word)}</dt>'
        f"<dd>{elements.escape(meaning)}</dd>\n"
        for word, meaning in _WORDS.items()
    )
    return Section("glossary", "Glossary", f"<dl>\n{items}</dl>\n")


def link_words(body: str) -> str:
    """Links the first use of each word in running text.

    Args:
        body: HTML of all other sections.
    """
    for word in _WORDS:
        body = _link(body, word)
    return body


def _link(body: str, word: str) -> str:
    pattern = re.compile(rf"(?<![\w-]){re.escape(word)}s?(?![\w-])")
    place = 0
    while place < len(body):
        skipped = _SKIPPED.search(body, place)
        end = skipped.start() if skipped else len(body)
        found = pattern.search(body, place, end)
        if found:
            link = f'<a class="term" href="#{_name(word)}">{found[0]}</a>'
            return body[: found.start()] + link + body[found.end() :]
        place = skipped.end() if skipped else end
    return body


def _name(word: str) -> str:
    return "word-" + re.sub(r"\W+", "-", word.lower())

"""What a verdict is: a question, and its answer in a few words."""

from typing import NamedTuple


class Card(NamedTuple):
    """One question that every reader has, and its answer.

    Attributes:
        name: trust, need or worth.
        question: in words.
        verdict: yes, care, no or unchecked; "" where the answer is a number.
        headline: the answer in a few words.
        sentences: what it rests on, the most important first.
        badge: what must not be missed, such as how far beyond the checks; or "".
    """

    name: str
    question: str
    verdict: str
    headline: str
    sentences: tuple[str, ...]
    badge: str = ""

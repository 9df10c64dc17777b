"""The three cards of a report: can I trust it, what does it take, is it worth going on.

A verdict follows from fixed thresholds, which stand at the top of each file, so that
two people who look at the same runs read the same word. docs/reading.md explains them
to readers.
"""

import functools

from scalepred.report.results import Results
from scalepred.report.verdict.card import Card
from scalepred.report.verdict.need import need_card
from scalepred.report.verdict.trust import trust_card
from scalepred.report.verdict.worth import worth_card

__all__ = ["Card", "cards"]

_NO_ADVICE = "Do not decide by this: the fit cannot be trusted"
_NOT_KNOWN = "This fit cannot say"


@functools.lru_cache(maxsize=1)  # The page, the terminal and the JSON ask in turn.
def cards(results: Results) -> tuple[Card, Card, Card]:
    """Trust, need and worth, in this order."""
    trust, need, worth = trust_card(results), need_card(results), worth_card(results)
    if trust.verdict == "no":
        # What a fit says that cannot be trusted is shown, and is no advice.
        need = need._replace(badge=_NO_ADVICE)
        worth = worth._replace(verdict="", headline=_NOT_KNOWN, badge=_NO_ADVICE)
    return trust, need, worth

"""What pairs of runs say of two arms, in sentences: see `compare_words`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scalepred.report import compare_words as words
from scalepred.report import format

if TYPE_CHECKING:
    from scalepred.fitting.comparison import Comparison, Outcome, Pair
    from scalepred.fitting.differences import Difference
    from scalepred.fitting.pairing import Scale
    from scalepred.fitting.predict import Estimate

# A difference that must be as large to be seen, or such a multiplier, is none to name.
_HUGE, _MANY_TIMES = 0.9, 1e3
# A form of the difference that is less likely than this is not named.
_CLEARLY = 0.5
_FORMS = {
    "value": "as the same relative difference everywhere",
    "reducible": "as the same relative difference of what is above the floor",
    "compute": "as the same multiplier of model and data size everywhere",
    "data": "as the same multiplier of the data everywhere",
    "params": "as the same multiplier of the model size everywhere",
    "terms": "as changes of several terms of the law at once",
}


def sentences(pair: Pair, comparison: Comparison) -> list[str]:
    """What only pairs of runs tell; nothing where two laws were compared."""
    decided = describe_decision(pair, comparison)
    return [*([decided] if decided else []), *describe_evidence(pair, comparison)]


def describe_evidence(pair: Pair, comparison: Comparison) -> list[str]:
    """What was measured, and which form the difference has."""
    if not pair.scales:
        return []
    form = describe_form(pair)
    return [describe_measured(pair, comparison), *([form] if form else [])]


def farthest(pair: Pair) -> Difference:
    """Where it is asked whether the order holds: the last target, else budget."""
    return (*pair.places, *pair.targets)[-1]


def describe_order(pair: Pair, comparison: Comparison) -> str:
    """How likely the order of the verdict holds farthest from the runs."""
    far, verdict = farthest(pair), pair.headline.verdict
    if verdict == "none" or far is pair.headline or math.isnan(far.better):
        return ""
    first, second = words.names(pair)
    ahead = second if verdict == "second" else first
    likely = far.better if verdict == "second" else 1 - far.better
    return (
        f"at {words.describe_place(far, comparison)} {ahead} stays better with "
        f"probability {words.likely(likely)}"
    )


def describe_measured(pair: Pair, comparison: Comparison) -> str:
    """The paired differences at the smallest and the largest size."""
    small, large = pair.scales[0], pair.scales[-1]
    _, second = words.names(pair)
    return (
        f"measured in pairs, {second} is {_say_measured(small)} at "
        f"{words.size(comparison, small.compute)} and {_say_measured(large)} at "
        f"{words.size(comparison, large.compute)}"
    )


def _say_measured(scale: Scale) -> str:
    relative = scale.relative
    ends = words.span(relative, words.say_difference)
    return f"{words.say_difference(relative.value)} (90% interval {ends})"


def describe_decision(pair: Pair, comparison: Comparison) -> str:
    """What these runs could have seen, or what would decide between the two.

    Of the headline where it is not decided, else of the farthest place that is not.
    """
    open_ones = [
        place
        for place in (*pair.places, *pair.targets)
        if place.verdict == "none" and place.power is not None
    ]
    if not open_ones:
        return ""
    place = open_ones[0] if pair.headline.verdict == "none" else open_ones[-1]
    said = [_say_seen(place, comparison), *_say_more(place, comparison)]
    return "; ".join(said)


def _say_seen(place: Difference, comparison: Comparison) -> str:
    at, power = words.describe_place(place, comparison), place.power
    assert power is not None
    if power.smallest > _HUGE:
        return f"at {at}, so far from the runs, no difference would have been sure"
    seen = f"a difference of {format.percent(power.smallest)}"
    if power.multiplier < _MANY_TIMES:
        seen += f" (a multiplier of {words.times(power.multiplier)})"
    return f"at {at} these runs would have seen {seen} with probability 80%"


def _say_more(place: Difference, comparison: Comparison) -> list[str]:
    power = place.power
    assert power is not None
    where = {"params": power.params, "data": power.data}
    at = words.describe_sizes(where, comparison)
    most = f"one more seed tells most at {at}"
    if math.isinf(power.more_seeds):
        return ["a thousand more seeds would not decide it", most]
    count = int(power.more_seeds)
    if not count:  # by the split of the first it is decided, by their own it is not
        return [most]
    seeds = "one more seed" if count == 1 else f"{count:,} more seeds"
    return [f"{seeds} of every size would decide it, if it is as estimated", most]


def describe_form(pair: Pair) -> str:
    """Which form the difference has, where one is more likely than all others."""
    if not pair.weights:
        return ""
    form, chance = max(pair.weights.items(), key=lambda item: item[1])
    if chance < _CLEARLY:
        return ""
    return f"the difference goes best {_FORMS[form]} (chance {words.likely(chance)})"


def find_reversal(pair: Pair, comparison: Comparison) -> Outcome | None:
    """Where the group that the fits say is better was measured to be worse."""
    verdict = pair.headline.verdict
    for outcome in comparison.outcomes:
        if (outcome.first, outcome.second) != (pair.first, pair.second):
            continue
        lower, upper = outcome.measured.lower, outcome.measured.upper
        if (verdict == "second" and lower > 0) or (verdict == "first" and upper < 0):
            return outcome
    return None


def describe_verdict(pair: Pair, comparison: Comparison) -> str:
    """B is better than A: it needs 1.4 times less compute (1.2 to 1.6) at 1e20."""
    text = _say_verdict(pair, comparison)
    outcome = find_reversal(pair, comparison)
    if outcome is None:
        return text
    measured = outcome.measured.value
    worse = "worse" if measured > 0 else "better"
    second, amount = words.names(pair)[1], format.percent(abs(measured))
    return f"{text}, but {second} is {amount} {worse} at {outcome.at}, measured since"


def _say_verdict(pair: Pair, comparison: Comparison) -> str:
    text, place = words.headline(pair), pair.headline
    multiplier = place.multiplier
    if place.verdict == "none" or multiplier is None or math.isnan(multiplier.value):
        return text
    at = words.describe_place(place, comparison)
    # "it" is the one that is better.
    who = "it" if place.verdict == "second" else words.names(pair)[1]
    needs = _needs(multiplier, words.axis_name(comparison))
    return f"{text}: {who} {needs} at {at}"


def _needs(multiplier: Estimate, axis: str) -> str:
    if multiplier.value == 0:
        return "never gets there"
    ends = words.span(multiplier, words.say_times)
    return f"needs {words.say_times(multiplier.value)} {axis} ({ends})"

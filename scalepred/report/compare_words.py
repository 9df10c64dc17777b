"""The sentences of a comparison: the page, the terminal and `repr` say the same.

As in `words`, sentences start small and have no full stop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scalepred.metrics import find_noun
from scalepred.report import format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalepred.fitting.comparison import Comparison, Group, Pair
    from scalepred.fitting.differences import Difference, Needed
    from scalepred.fitting.predict import Estimate

# A crossing less likely than this is not worth a sentence of its own.
_HARDLY = 0.05
# Noise that correlates less is hardly shared.
_LITTLE = 0.2
_AS_MUCH = "times as much"


def metric_name(comparison: Comparison) -> str:
    """For titles and headers: Loss, Top1 error."""
    return format.printable(find_noun(comparison.metric)).capitalize()


def axis_name(comparison: Comparison) -> str:
    """What the groups have the same of."""
    names = {"compute": "compute", "params": "model size"}
    if comparison.unit == "FLOPs":
        return "compute"
    return names.get(comparison.axis, "data")


def size(comparison: Comparison, number: float) -> str:
    """A size of the axis with its unit."""
    form = format.flops if comparison.unit == "FLOPs" else format.count
    return f"{form(number)} {format.printable(comparison.unit)}"


def describe_group(group: Group, comparison: Comparison) -> str:
    """Name, runs, points and the range that was fitted."""
    form = format.flops if comparison.unit == "FLOPs" else format.count
    low, high = float(group.sizes.min()), float(group.sizes.max())
    return (
        f"{format.printable(group.name)}: {group.runs:,} runs of "
        f"{len(group.fit.surface):,} sizes, {form(low)} to "
        f"{size(comparison, high)}, law {group.fit.law.name}"
    )


def headline(pair: Pair) -> str:
    """The verdict in a few words; a name in front keeps its small letter."""
    first, second = names(pair)
    verdict = pair.headline.verdict
    if verdict == "none":
        return f"No difference between {second} and {first} that these runs could see"
    better, worse = (second, first) if verdict == "second" else (first, second)
    return f"{better} is better than {worse}"


def describe_place(difference: Difference, comparison: Comparison) -> str:
    """Where two groups are compared: 1e21 FLOPs; 70B parameters and 1.4T tokens."""
    if "budget" in difference.at:
        return size(comparison, difference.at["budget"])
    return describe_sizes(difference.at, comparison)


def describe_sizes(at: Mapping[str, float], comparison: Comparison) -> str:
    """70B parameters and 1.4T tokens, as far as they are told."""
    parts = []
    if "params" in at:
        parts.append(f"{format.count(at['params'])} parameters")
    if "data" in at:
        parts.append(f"{format.count(at['data'])} {comparison.data_unit}")
    place = format.printable(" and ".join(parts))
    return place + format.passes(at.get("epochs"))


def describe_difference(
    difference: Difference, pair: Pair, comparison: Comparison
) -> str:
    """By how much the second is lower or higher, and how likely it is lower."""
    first, second = names(pair)
    relative = difference.relative
    what = find_noun(comparison.metric)
    text = (
        f"at {describe_place(difference, comparison)} the {what} of {second} is "
        f"{say_difference(relative.value)} than that of {first}"
    )
    if math.isnan(relative.lower):
        return text + " (no interval without resamples)"
    return (
        f"{text} (90% interval {span(relative, say_difference)}); {second} is better "
        f"with probability {chance(difference)}"
    )


def span(estimate: Estimate, say: Callable[[float], str]) -> str:
    """2% to 5% lower, but 2% lower to 1% higher; 1.1 to 1.3 times as much."""
    low, high = say(estimate.lower), say(estimate.upper)
    if estimate.upper < 0 or (low.endswith(_AS_MUCH) and high.endswith(_AS_MUCH)):
        low, high = high, low
    number, _, rest = low.partition(" ")
    return f"{number if high.endswith(rest) else low} to {high}"


def say_difference(relative: float) -> str:
    """3.2% lower, 3.2% higher."""
    how = "lower" if relative < 0 else "higher"
    return f"{format.percent(abs(relative))} {how}"


def chance(of: Difference | Needed) -> str:
    """A probability, never quite 0 or 1: there are only so many draws."""
    return "n/a" if math.isnan(of.better) else likely(of.better)


def likely(share: float) -> str:
    """A probability, never quite 0 or 1."""
    if share > 0.99:
        return "above 99%"
    return "below 1%" if share < 0.01 else format.whole_percent(share)


def describe_multiplier(
    difference: Difference, pair: Pair, comparison: Comparison
) -> str:
    """How much less compute the second needs; nothing where it is not known."""
    found = difference.multiplier
    if found is None or math.isnan(found.value):
        return ""
    first, second = names(pair)
    if found.value == 0:
        return f"what {first} has there is never reached by {second}"
    ends = ""
    if not math.isnan(found.lower):
        ends = f" (90% interval {span(found, say_times)})"
    return (
        f"for what {first} reaches with {describe_place(difference, comparison)} "
        f"{second} needs {say_times(found.value)} {axis_name(comparison)}{ends}"
    )


def say_times(number: float) -> str:
    """1.8 times less, 2.5 times as much, any amount less, perhaps never."""
    if number == 0:
        return format.PERHAPS_NEVER
    if math.isinf(number):
        return "any amount less"
    text = times(max(number, 1 / number))
    if text == "1":
        return "as much"
    return f"{text} {'times less' if number >= 1 else _AS_MUCH}"


def multiplier_cell(found: Estimate | None) -> str:
    """1.8 (1.2 to 2.9): for a table, how many times less the second needs."""
    if found is None or math.isnan(found.value):
        return format.UNKNOWN
    if math.isnan(found.lower):
        return times(found.value)
    return f"{times(found.value)} ({times(found.lower)} to {times(found.upper)})"


def difference_cell(difference: Difference) -> str:
    """-3.2% (-5.2% to -1.1%), for a table."""
    return relative_cell(difference.relative)


def relative_cell(relative: Estimate) -> str:
    """-3.2% (-5.2% to -1.1%), for a table."""
    text = format.percent(relative.value)
    ends = format.span(relative.lower, relative.upper, format.percent)
    return f"{text} ({ends})" if ends else text


def times(number: float) -> str:
    """How many times: 1.04, 1.4, 12; any number where infinite."""
    if number == 0:
        return "0"
    if math.isinf(number):
        return "any number"
    # Near 1 two digits would hide a difference.
    near = 0.5 < number < 2
    return format.number(number, 3) if near else format.ratio(number, 1.0)


def describe_needed(needed: Needed, pair: Pair, comparison: Comparison) -> str:
    """What each needs to reach a value."""
    first, second = names(pair)
    value = format.wanted(needed.value, comparison.metric)
    form = format.flops if comparison.unit == "FLOPs" else format.count
    unit = format.printable(comparison.unit)

    def say(estimate: Estimate) -> str:
        if math.isinf(estimate.value):
            return f"{format.PERHAPS_NEVER} gets there"
        ends = format.interval(estimate.lower, estimate.upper, form)
        return f"takes {form(estimate.value)} {unit}{ends}"

    return (
        f"for {value} {first} {say(needed.first)}, {second} {say(needed.second)}; "
        f"{second} needs less with probability {chance(needed)}"
    )


def describe_crossing(pair: Pair, comparison: Comparison) -> str:
    """Where the one that wins in the end begins to."""
    crossing = pair.crossing
    first, second = names(pair)
    ahead = second if crossing.ahead == "second" else first
    low, high = size(comparison, crossing.low), size(comparison, crossing.high)
    between = f"between {low} and {high}"
    if crossing.chance < _HARDLY:
        return f"they do not cross {between}"
    sure = ""
    if not math.isnan(crossing.chance):
        sure = f"; they cross {between} with probability {likely(crossing.chance)}"
    if crossing.size.value == 0:
        return f"by the best fit {ahead} is ahead all along{sure}"
    form = format.flops if comparison.unit == "FLOPs" else format.count

    def end(number: float) -> str:
        if number == 0:
            return f"below {form(crossing.low)}"
        return f"beyond {form(crossing.high)}" if math.isinf(number) else form(number)

    lower, upper = crossing.size.lower, crossing.size.upper
    ends = ""
    if not math.isnan(lower):
        ends = f" (90% interval {end(lower)} to {end(upper)})"
    start = size(comparison, crossing.size.value)
    return f"from {start} on {ahead} is ahead{ends}{sure}"


def describe_pairing(pair: Pair) -> str:
    """What was made of runs at the same sizes; nothing where there are too few."""
    pairing = pair.pairing
    if pairing.why_not:
        return ""
    if pairing.by == "size":
        return (
            f"{pairing.runs:,} pairs of runs have the same sizes: their differences "
            "are compared, and not two laws"
        )
    text = f"{pairing.runs:,} pairs of runs share seed and sizes"
    if math.isnan(pairing.alike):
        return f"{text}: what they share of their noise cancels"
    found = f"(correlation {format.number(pairing.alike, 2)})"
    if pairing.alike < _LITTLE:
        return f"{text}, but their noise has little in common {found}"
    return f"{text}; what they share of their noise cancels {found}"


def names(pair: Pair) -> tuple[str, str]:
    """Of the two groups, the baseline first."""
    return format.printable(pair.first), format.printable(pair.second)

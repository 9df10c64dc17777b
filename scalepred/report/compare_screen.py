"""A comparison on one screen, for the terminal and `repr`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepred.report import arms_words, format
from scalepred.report import compare_words as words

if TYPE_CHECKING:
    from scalepred.fitting.comparison import Comparison, Pair


def describe(comparison: Comparison) -> list[str]:
    """The whole comparison, line by line, on one screen for a few groups."""
    first = format.printable(comparison.groups[0].name)
    lines = [
        f"{words.metric_name(comparison)} of {len(comparison.groups)} groups at equal "
        f"{words.axis_name(comparison)}, against {first}"
    ]
    lines += [
        f"  {words.describe_group(group, comparison)}" for group in comparison.groups
    ]
    lines += [format.sentence(outcome.sentence) for outcome in comparison.outcomes]
    for pair in comparison.pairs:
        lines.append(f"{arms_words.describe_verdict(pair, comparison)}.")
        lines += [f"  {format.sentence(text)}" for text in sentences(pair, comparison)]
    lines += [f"note: {format.printable(note)}" for note in comparison.notes]
    return lines


def sentences(pair: Pair, comparison: Comparison) -> list[str]:
    """What the verdict rests on, the most important first."""
    places = [*pair.places, *pair.targets]
    said = [words.describe_difference(place, pair, comparison) for place in places]
    for place, target in ((0, places[0]), (len(places), arms_words.farthest(pair))):
        multiplier = words.describe_multiplier(target, pair, comparison)
        if multiplier and (place == 0 or target is not places[0]):
            said.insert(place + 1, multiplier)
    said.append(arms_words.describe_order(pair, comparison))
    said += arms_words.sentences(pair, comparison)
    said += [words.describe_needed(needed, pair, comparison) for needed in pair.needed]
    said.append(words.describe_crossing(pair, comparison))
    said.append(words.describe_pairing(pair))
    return [text for text in said if text]

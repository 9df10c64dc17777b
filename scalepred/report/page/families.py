"""The page of a comparison: which group is better, by how much, and where.

A file of its own beside those of the groups, which it links. Its script hides groups.
"""

from collections.abc import Mapping, Sequence

from etils import epath

from scalepred.fitting.comparison import Comparison, Group, Pair
from scalepred.fitting.differences import Difference
from scalepred.fitting.predict import Estimate
from scalepred.report import arms_words, elements, format
from scalepred.report import compare_words as words
from scalepred.report.elements import Section
from scalepred.report.page import ask
from scalepred.report.page import families_charts as charts
from scalepred.report.page.cards import write_cards
from scalepred.report.page.page import document
from scalepred.report.verdict.card import Card
from scalepred.runtime.files import write_whole

# What the colours of cards say of the group that is held against the baseline.
_VERDICTS = {"second": "yes", "first": "care", "none": "unchecked"}
_MOST_CARDS = 12
_MOST_SCALES = 40  # of a pair that are listed, the largest
# What the script of a page reads; here it has no law to ask and no run to point at.
_BLOCK = {"law": None, "points": None}
_NAMED = 3  # groups in a title


def write_page(
    path: epath.Path, found: Comparison, links: Mapping[str, str], title: str = ""
) -> None:
    """Writes the page as one HTML file.

    Args:
        path: the file.
        found: what is told.
        links: page of each group, by its name.
        title: of the page; "": metric and groups.
    """
    write_whole(path, make_page(found, links, title))


def make_page(found: Comparison, links: Mapping[str, str], title: str = "") -> str:
    """The page as text; see `write_page`."""
    title = title or _title(found)
    sections = [
        _outcomes(found),
        _curves(found),
        _multipliers(found),
        _differences(found),
        _measured(found),
        _side_by_side(found),
        _crossings(found),
        _groups(found, links),
        _how(found),
    ]
    sections = [section for section in sections if section.body]
    nav = "".join(
        f'<a href="#{section.id}">{elements.escape(section.title)}</a>\n'
        for section in sections
    )
    facts = (
        f"{len(found.groups)} groups, {sum(g.runs for g in found.groups):,} fitted "
        f"runs, compared at equal {words.axis_name(found)}; all against "
        f"{found.groups[0].name}."
    )
    return document(
        title,
        f"<header>\n<h1>{elements.escape(title)}</h1>\n"
        f'<p class="facts">{elements.escape(facts)} '
        '<a href="comparison.json">comparison.json</a></p>\n'
        f'<nav aria-label="Sections">{nav}</nav>\n</header>\n'
        f"<main>\n{_cards(found)}{''.join(map(str, sections))}</main>\n",
        _BLOCK,
    )


def _title(found: Comparison) -> str:
    names = [group.name for group in found.groups]
    said = " and ".join(names) if len(names) == 2 else ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        said += f" and {len(names) - _NAMED} more"
    return f"{words.metric_name(found)} of {said}"


def _cards(found: Comparison) -> str:
    """One card a pair, the best first."""
    cards = [_card(pair, found) for pair in found.pairs[:_MOST_CARDS]]
    return write_cards(cards)


def _card(pair: Pair, found: Comparison) -> Card:
    place = pair.headline
    is_reversed = arms_words.find_reversal(pair, found) is not None
    verdict = "care" if is_reversed else _VERDICTS[place.verdict]
    said = [words.describe_difference(place, pair, found)]
    if place.verdict == "none":
        said.append(words.describe_multiplier(place, pair, found))
    said += [
        arms_words.describe_order(pair, found),
        arms_words.describe_decision(pair, found),
        words.describe_crossing(pair, found),
    ]
    return Card(
        name="pair",
        question=f"Is {pair.second} better than {pair.first}?",
        verdict=verdict,
        headline=arms_words.describe_verdict(pair, found),
        sentences=tuple(text for text in said if text),
    )


def _outcomes(found: Comparison) -> Section:
    """Orders that were sealed before, beside what was measured since."""
    told = [outcome.sentence for outcome in found.outcomes]
    body = elements.bullets(told) if told else ""
    return Section("outcomes", "What was said before", body)


def _curves(found: Comparison) -> Section:
    """Frontiers on the same axes, and their difference."""
    along = "the least that each budget can buy"
    if found.axis != "compute":
        along = f"the law along {words.axis_name(found)}"
    names = {f"series:{name}": text for name, text in charts.names(found).items()}
    pictures = elements.figure(
        charts.overlay(found),
        f"lines: {along}; bands: 90% intervals; marks: fitted runs",
        f'<fieldset class="shown live" hidden>{ask.show_boxes(names)}</fieldset>\n',
    ) + elements.figure(
        charts.differences(found),
        f"difference from {found.groups[0].name}, with 90% intervals; below zero a "
        "group is better",
    )
    return Section("curves", "Side by side", f'<div class="pair">\n{pictures}</div>\n')


def _multipliers(found: Comparison) -> Section:
    """How many times less each group needs, along the compared sizes."""
    first, axis = found.groups[0].name, words.axis_name(found)
    note = f"times less {axis} for the value that {first} has there, with 90% intervals"
    if any(pair.scales for pair in found.pairs):
        note += "; marks: measured pairs of runs, by the slope of the law there"
    picture = elements.figure(charts.multipliers(found), note)
    said = [
        f"{pair.second} and {pair.first}: {text}"
        for pair in found.pairs
        for text in arms_words.describe_evidence(pair, found)
    ]
    beside = f"<div>\n{_list(said)}</div>\n" if said else ""
    body = f'<div class="pair">\n{picture}{beside}</div>\n'
    return Section("multiplier", f"Times less {axis}", body)


def _measured(found: Comparison) -> Section:
    """The paired differences of each size."""
    rows = []
    for pair in found.pairs:
        for scale in pair.scales[-_MOST_SCALES:]:
            at = {"params": scale.params, "data": scale.data}
            rows.append(
                [
                    words.describe_sizes(at, found),
                    pair.second,
                    words.size(found, scale.compute),
                    f"{scale.runs:,}",
                    words.relative_cell(scale.relative),
                    words.multiplier_cell(scale.multiplier),
                ]
            )
    if not rows:
        return Section("measured", "Measured pairs", "")
    name = words.axis_name(found)
    table = elements.table(
        f"measured differences from {found.groups[0].name} at shared sizes, with 90% "
        "intervals of Student's t",
        ["at", "group", name, "pairs of runs", "difference", f"times less {name}"],
        rows,
        text_columns=(0, 1),
    )
    summary = f"{len(rows)} measured differences, size by size"
    return Section("measured", "Measured pairs", elements.folded(summary, table))


def _differences(found: Comparison) -> Section:
    """Every difference from the baseline, with what it rests on."""
    first, name = found.groups[0].name, words.axis_name(found)
    rows = []
    for pair in found.pairs:
        for difference in (*pair.places, *pair.targets):
            rows.append(_difference_row(pair, difference, found))
    table = elements.table(
        f"differences from {first}, with 90% intervals; below zero the other is better",
        ["at", "group", first, "group's value", "difference", "group better with "
         "probability", f"times less {name}"],
        rows,
        text_columns=(0, 1),
    )  # fmt: skip
    note = (
        f"Times less {name}: how many times less of it the group needs for the value "
        f"that {first} has there; below 1 it needs more."
    )
    return Section("differences", "Differences", table + elements.paragraph(note))


def _difference_row(pair: Pair, difference: Difference, found: Comparison) -> list[str]:
    metric = found.metric
    return [
        f"difference at {words.describe_place(difference, found)}",
        pair.second,
        format.measured(difference.first.value, metric),
        format.measured(difference.second.value, metric),
        words.difference_cell(difference),
        words.chance(difference),
        words.multiplier_cell(difference.multiplier),
    ]


def _side_by_side(found: Comparison) -> Section:
    """What every group says at each place, and needs for each value."""
    pairs = {pair.second: pair for pair in found.pairs}
    names = [group.name for group in found.groups]
    first = found.pairs[0]
    rows = []
    for i, place in enumerate(first.places):
        at = f"value at {words.describe_place(place, found)}"
        values = [first.places[i].first]
        values += [pairs[name].places[i].second for name in names[1:]]
        rows.append([at, *(_value(one, found) for one in values)])
    for i, target in enumerate(first.targets):
        at = f"value at {words.describe_place(target, found)}"
        values = [first.targets[i].first]
        values += [pairs[name].targets[i].second for name in names[1:]]
        rows.append([at, *(_value(one, found) for one in values)])
    for i, needed in enumerate(first.needed):
        wanted = format.wanted(needed.value, found.metric)
        values = [needed.first, *(pairs[name].needed[i].second for name in names[1:])]
        unit = found.unit
        rows.append([f"{unit} for {wanted}", *(_amount(one, found) for one in values)])
    caption = "what each group's law says, with 90% intervals for a mean over many runs"
    return Section(
        "answers", "Answers", elements.table(caption, ["question", *names], rows, (0,))
    )


def _value(estimate: Estimate, found: Comparison) -> str:
    text = format.measured(estimate.value, found.metric)
    ends = format.ends(estimate.lower, estimate.upper, found.metric)
    return f"{text} ({ends})" if ends else text


def _amount(estimate: Estimate, found: Comparison) -> str:
    form = format.flops if found.unit == "FLOPs" else format.count
    ends = format.span(estimate.lower, estimate.upper, form)
    return f"{form(estimate.value)} ({ends})" if ends else form(estimate.value)


def _crossings(found: Comparison) -> Section:
    said = [
        f"{pair.second} and {pair.first}: {words.describe_crossing(pair, found)}"
        for pair in found.pairs
    ]
    return Section("crossing", "Where they cross", _list(said))


def _list(sentences: Sequence[str]) -> str:
    """As `elements.bullets`; a name in front keeps its small letter."""
    items = (elements.escape(text.removesuffix(".")) for text in sentences)
    return "<ul>\n" + "".join(f"<li>{item}.</li>\n" for item in items) + "</ul>\n"


def _groups(found: Comparison, links: Mapping[str, str]) -> Section:
    """Each group's own numbers, and its own page."""
    items = []
    for group in found.groups:
        text = elements.escape(words.describe_group(group, found))
        link = elements.escape(links.get(group.name, ""))
        page = f'; <a href="{link}">its own report</a>' if link else ""
        items.append(f"<li>{text}{page}.</li>\n")
    listed = f"<ul>\n{''.join(items)}</ul>\n"
    return Section("groups", "The groups", listed + _parameters(found.groups))


def _parameters(groups: Sequence[Group]) -> str:
    """The parameters of laws that all groups have."""
    known = [set(group.fit.parameters) for group in groups]
    names = [name for name in groups[0].fit.parameters if all(name in k for k in known)]
    if not names or len({group.fit.law.name for group in groups}) > 1:
        return ""
    rows = [
        [name.replace("_", " "), *(_parameter(group, name) for group in groups)]
        for name in names
    ]
    return elements.table(
        "parameters of the laws, with 90% intervals; sizes in units of each group's "
        "largest",
        ["parameter", *(group.name for group in groups)],
        rows,
    )


def _parameter(group: Group, name: str) -> str:
    own = group.fit.parameters[name]
    text = format.number(own.value, 3)
    ends = format.span(own.lower, own.upper, lambda end: format.number(end, 3))
    return f"{text} ({ends})" if ends else text


def _how(found: Comparison) -> Section:
    """What the intervals rest on, and what else is to be known."""
    said = [
        f"{pair.second} and {pair.first}: {text}"
        for pair in found.pairs
        if (text := words.describe_pairing(pair))
    ]
    if said:
        said.append(
            "Where runs have the same sizes the difference itself has a law, learnt "
            "from them; the group's law is the baseline's times that"
        )
    said += map(format.sentence, found.notes)
    said.append(
        "A group is called better, or worse, where the 90% interval of the difference "
        "leaves out zero at the first of the places: with probability 95% or more"
    )
    said.append(
        "Every interval holds the truth with probability 90% by itself, so about one "
        "in ten comparisons of equals may show a difference"
    )
    return Section("how", "How it was compared", _list(said))

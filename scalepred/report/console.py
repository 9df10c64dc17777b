"""What the terminal shows at the end: answers first, one line each, then the rest."""

import math
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from scalepred.fitting.answers import Answer
from scalepred.report import format, words
from scalepred.report.beside import beside
from scalepred.report.results import Results
from scalepred.report.verdict import Card, cards
from scalepred.runtime import steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepred.fitting.design.cells import NextCell
    from scalepred.fitting.fit import Fit
    from scalepred.forecasting.forecast import Verified
    from scalepred.forecasting.gate import Verdict
    from scalepred.table.surface import Surface

# More targets than this stand in predictions.csv only.
_MAX_TARGETS = 12
# More warnings than this are only counted, unless all is asked for.
_MAX_WARNINGS = 3
# Answers stand under each other behind their names.
_INDENT, _NAME = 2, 9
_NARROWEST = 60
# So many choices made in reading a table are told.
_MAX_NOTES = 2

_NAMES = {
    "data_needed": "data",
    "params_needed": "size",
    "cheapest_for_target": "cheapest",
    "best_for_budget": "budget",
    "budget_suffices": "chance",
}


def print_answers(
    results: Results,
    file: TextIO | None = None,
    *,
    verbose: bool = False,
    report: str = "",
) -> None:
    """Prints what a person decides with: trust, answers, warnings.

    Args:
        results: all that was found.
        file: where to; None: standard output. Wrapped where it is a terminal.
        verbose: prints notes, weights, costs and compute, too.
        report: path of the page; "": there is none.
    """
    out = file or sys.stdout
    steps.end()
    print_line(words.describe_title(results), out)
    lines = [*_answer_lines(results), *_warning_lines(results, verbose)]
    if verbose:
        lines += _detail_lines(results)
    for name, text in lines:
        print_line(text, out, name)
    where = f"Report: {report}" if report else "No page was written"
    print_line(
        where + ("" if verbose else "   (--verbose prints notes and weights)"), out
    )


def _answer_lines(results: Results) -> Iterator[tuple[str, str]]:
    """(name, text) of what was asked, in the order in which people ask."""
    trust, need, worth = cards(results)
    yield "trust", _say_card(trust)
    if results.verified:
        yield "forecast", words.headline(results)
    rows = words.targets(results)
    for row in rows[:_MAX_TARGETS]:
        yield "target", words.describe_target(row, results)
    if len(rows) > _MAX_TARGETS:
        yield "target", f"{len(rows) - _MAX_TARGETS} more in predictions.csv"
    for answer in results.answers:
        if answer.question == "budget_suffices" and math.isfinite(answer.value):
            continue  # the last card says it
        text = words.describe_answer(answer, results.surface)
        seen = beside(results, answer)
        if seen is not None:
            text += f"; measured: {seen.sentence}"
        yield _NAMES.get(answer.question, "answer"), text
    if not results.answers and not rows:
        yield "more", f"{need.question} {'; '.join([need.headline, *need.sentences])}"
    yield "worth", _say_card(worth)
    yield from (("table", note) for note in _table_notes(results.surface))


def _table_notes(surface: "Surface") -> list[str]:
    """What the table was taken for: what changes the numbers most comes first."""
    first = (surface.conversion.note if surface.conversion else "",)
    grave = [n for n in surface.notes if "left out" in n or n.startswith("--")]
    notes = [*dict.fromkeys((*first, *grave, *surface.notes))]
    notes = [_without_asides(note) for note in notes if note]
    if len(notes) > _MAX_NOTES:
        more = len(notes) - _MAX_NOTES
        notes[_MAX_NOTES - 1] += f" ({more} more: --verbose or the page)"
    return notes[:_MAX_NOTES]


def _say_card(card: Card) -> str:
    """Headline and reasons of a card after each other."""
    # The headline of what is unchecked says the first one already.
    first = 1 if card.verdict == "unchecked" else 0
    text = "; ".join([card.headline, *card.sentences[first : first + 2]])
    if card.name == "trust":
        text = _without_asides(text)
    return f"{text}. {card.badge}" if card.badge else text


def _without_asides(text: str) -> str:
    """Without what stands in brackets: the page and --verbose have it."""
    return re.sub(r" \([^()]*\)", "", text)


def _warning_lines(results: Results, verbose: bool) -> Iterator[tuple[str, str]]:
    """The weightiest warnings, and how many more there are."""
    found = sorted(results.fit.warnings, key=lambda one: one.rank)
    shown = found if verbose else found[:_MAX_WARNINGS]
    for one in shown:
        name = "note" if one.severity == "note" else "warning"
        if verbose:
            yield name, f"{one.sentence}; {one.advice} [{one.code}, {one.severity}]"
        else:
            yield name, _without_asides(one.sentence)
    if len(found) > len(shown):
        yield "", f"{len(found) - len(shown)} more: --verbose or the page"


def _detail_lines(results: Results) -> Iterator[tuple[str, str]]:
    """All else that a run has to say."""
    yield "fit", words.describe_fit(results)
    yield "held out", words.describe_held_out(results)
    yield "cost", words.describe_cost(results)
    yield "compute", words.describe_compute(results)
    for note in dict.fromkeys((*results.surface.notes, *results.fit.notes)):
        yield "note", note


def print_verified(scores: "Sequence[Verified]", metric: str, unit: str) -> None:
    """Prints what was said and what was measured, the largest first."""
    for one in sorted(scores, key=lambda one: -one.compute):
        print_line(words.describe_verified(one, metric, unit))


def print_scores(scores: "Sequence[Verified]", metric: str, unit: str) -> None:
    """Prints each target that was measured: error, interval and log score."""
    insides = {
        "50": "inside the 50% interval",
        "90": "inside the 90% interval",
        "none": "outside the 90% interval",
        "unknown": "its interval is not known",
    }
    for one in sorted(scores, key=lambda one: -one.compute):
        print_line(
            f"{words.describe_verified(one, metric, unit)}: relative error "
            f"{format.percent(one.relative_error)}, {insides[one.inside]}, log score "
            f"{format.number(one.log_score, 3)}"
        )


def print_saved(
    fit: "Fit", answers: "Sequence[Answer]", said: "Sequence[dict[str, Any]]"
) -> None:
    """Prints what a saved fit answers."""
    for target in said:
        print_line(words.describe_said(target, fit.surface), name="target")
    for answer in answers:
        text = words.describe_answer(answer, fit.surface)
        print_line(text, name=_NAMES.get(answer.question, "answer"))


def print_plan(cells: "Sequence[NextCell]", unit: str, cost: str) -> None:
    """Prints the runs to do next, what each costs and what it is worth."""
    if not cells:
        print_line("nothing that the budget buys would help", name="plan")
    for cell in cells:
        print_line(words.describe_cell(cell, unit, cost), name="plan")


def print_verdicts(verdicts: "Sequence[Verdict]") -> None:
    """Prints which gates are passed."""
    for gate, chance, passed in verdicts:
        says = "passed" if passed else "NOT passed"
        known = "not known" if math.isnan(chance) else f"{chance:.3f}"
        print_line(f"{gate.text}: {says}, probability {known}", name="gate")


def print_line(text: str, file: TextIO | None = None, name: str | None = None) -> None:
    """One line, or several where a terminal is too narrow for it.

    Args:
        text: without line breaks.
        file: where to; None: standard output.
        name: stands before it, in a column of its own; None: there is none.
    """
    out = file or sys.stdout
    steps.end()
    text = format.printable(text)
    first = after = ""
    if name is not None:
        first = " " * _INDENT + f"{name:<{_NAME}}"
        after = " " * len(first)
    if steps.is_terminal(out):
        width = max(steps.find_width(out), _NARROWEST)
        text = textwrap.fill(
            text,
            width,
            initial_indent=first,
            subsequent_indent=after or "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    else:
        text = first + text
    print(steps.writable(text.rstrip(), out), file=out, flush=True)

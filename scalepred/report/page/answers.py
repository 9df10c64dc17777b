"""Every question asked, with its answer beside what was measured."""

import math

from scalepred.fitting.answers import Answer
from scalepred.report import elements, format, words
from scalepred.report.beside import beside
from scalepred.report.elements import Cell, Section
from scalepred.report.results import PredictionRow, Results
from scalepred.report.verdict.trust import largest_fitted

_HEADER = (
    "question",
    "answer",
    "90% interval",
    "measured, if it was",
    "how far beyond the checked runs",
)


def answers(results: Results) -> Section:
    """A table of questions, and the sentences that the terminal prints."""
    rows = [_answer_row(results, answer) for answer in results.answers]
    rows += [_target_row(results, row) for row in words.targets(results)]
    said = [words.describe_answer(one, results.surface) for one in results.answers]
    said += [words.describe_target(row, results) for row in words.targets(results)]
    said.append("compute: " + words.describe_compute(results))
    sentences = elements.folded("The same in sentences", elements.bullets(said))
    if not rows:
        asked = elements.paragraph(
            "nothing was asked of the law; --target, --target_value and --budget ask it"
        )
    else:
        asked = elements.table(
            "what was asked of the law, and what it says",
            _HEADER,
            rows,
            text_columns=range(5),
            id="answers-table",
        )
    return Section("answers", "Every question asked", asked + sentences)


def _target_row(results: Results, row: PredictionRow) -> list[str | Cell]:
    surface = results.surface
    place = format.sizes(row.params, row.data, surface) + format.passes(row.epochs)
    known = "" if math.isnan(row.measured) else format.measured(
        row.measured, surface.metric
    )  # fmt: skip
    return [
        f"What will {place} reach?",
        format.measured(row.predicted, surface.metric),
        format.ends(row.lower, row.upper, surface.metric) or elements.NOTHING,
        _measured(known),
        _how_far(results, row.compute),
    ]


def _answer_row(results: Results, answer: Answer) -> list[str | Cell]:
    question, said, ends = _split(results, answer)
    runs_say = beside(results, answer)
    return [
        question,
        said,
        ends or elements.NOTHING,
        _measured(runs_say.sentence if runs_say else ""),
        _how_far(results, _compute(results, answer)),
    ]


def _measured(text: str) -> str | Cell:
    return Cell(text, "data-measured") if text else elements.NOTHING


def _split(results: Results, answer: Answer) -> tuple[str, str, str]:
    """Question, answer and interval, each by itself."""
    surface, asked = results.surface, answer.asked
    passes = format.passes(asked.get("epochs"))
    unit, metric = format.unit(surface), surface.metric
    goal = format.wanted(asked["value"], metric) if "value" in asked else ""
    budget = format.flops(asked["budget"]) if "budget" in asked else ""
    if answer.question in ("data_needed", "params_needed"):
        needed = unit if answer.question == "data_needed" else "parameters"
        return (
            f"How many {needed} for {goal}{format.given(asked, surface)}{passes}?",
            _amount(answer, needed, format.count),
            format.span(answer.lower, answer.upper),
        )
    if answer.question == "best_for_budget":
        return (
            f"What can {budget} FLOPs reach{passes}?",
            f"{format.measured(answer.value, metric)}, with {_place(results, answer)}",
            format.ends(answer.lower, answer.upper, metric),
        )
    if answer.question == "budget_suffices":
        share = format.whole_percent(answer.value)
        return (
            f"Do {budget} FLOPs suffice for {goal}{passes}?",
            f"with probability {share}, spent on {_place(results, answer)}",
            "",
        )
    if answer.question == "cheapest_for_target":
        said = _amount(answer, "FLOPs", format.flops)
        if math.isfinite(answer.value):
            said += f", with {_place(results, answer)}"
        return (
            f"What is the cheapest way to {goal}{passes}?",
            said,
            format.span(answer.lower, answer.upper, format.flops),
        )
    return answer.question.replace("_", " "), words.describe_answer(answer, surface), ""


def _amount(answer: Answer, unit: str, form) -> str:
    if math.isfinite(answer.value):
        return f"{form(answer.value)} {unit}"
    if math.isfinite(answer.lower):
        return f"perhaps never; at least {form(answer.lower)} {unit}"
    return "never (below the floor)"


def _place(results: Results, answer: Answer) -> str:
    params, data = (answer.details[name][0] for name in ("params", "data"))
    return format.sizes(params, data, results.surface)


def _compute(results: Results, answer: Answer) -> float:
    """FLOPs of the run that the answer speaks of; NaN where it speaks of none."""
    asked, fit = answer.asked, results.fit
    if "budget" in asked:
        return asked["budget"]
    if answer.question == "cheapest_for_target":
        return answer.value
    params, data = asked.get("params", answer.value), asked.get("data", answer.value)
    if not math.isfinite(params * data):
        return math.nan
    epochs = fit.epochs_at(asked.get("epochs")) or 1.0
    return float(fit.cost.flops(params, data * epochs))


def _how_far(results: Results, compute: float) -> str:
    if not math.isfinite(compute):
        return elements.NOTHING
    fitted = largest_fitted(results)
    checked = max((row.compute for row in results.checks), default=0.0)
    if compute <= fitted * 1.001:
        return "inside the fitted runs"
    times = f"{format.ratio(compute, fitted)} times the largest fitted run"
    if checked <= fitted:
        return f"{times}; nothing was checked"
    if compute <= checked * 1.001:
        return f"{times}; inside the checked runs"
    return f"{times}; checked to {format.ratio(checked, fitted)} times"

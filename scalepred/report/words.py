"""What was found, in sentences: the page, the terminal and the JSON say the same.

Sentences start small and have no full stop, so that they can follow a label; `format`
writes their numbers, and `format.sentence` makes whole ones of them.

An answer of `fitting.answers` is a number; what it means is said here. A finite one
"takes 740 images". One that is infinite at its best and at its lower end is "never
reached": the wanted value lies below the floor of the law. Where only one of the two
is infinite, it is "perhaps never" reached.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scalepred.config import MOST_EPOCHS
from scalepred.metrics import find_noun
from scalepred.report import format
from scalepred.table import stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepred.fitting.answers import Answer
    from scalepred.fitting.design.cells import NextCell
    from scalepred.fitting.design.rounds import Round
    from scalepred.fitting.fit import Fit
    from scalepred.forecasting.forecast import Verified
    from scalepred.report.results import PredictionRow, Results, Score
    from scalepred.table.surface import Surface

# What marks a number of a law that its points do not follow.
NO_FORECAST = "if the law held, which the points do not show"

_COST_QUESTIONS = ("best_for_budget", "budget_suffices", "cheapest_for_target")


def has_intervals(results: Results) -> bool:
    """Whether there were resamples to draw an interval from."""
    return len(results.fit.fitted.draws) > 0


def targets(results: Results) -> list[PredictionRow]:
    """The sizes asked for, and those of the grid that nobody measured yet."""
    return [row for row in results.predictions if row.region == "target"]


def largest_run(results: Results) -> PredictionRow:
    """The measured point or target that takes the most compute."""
    return max(results.predictions, key=lambda row: row.compute)


def held_out(results: Results) -> Score:
    """The score over all points that the law did not see."""
    return next(score for score in results.scores if score.name == "held out")


def describe_title(results: Results) -> str:
    """What the study is of, its runs, and what was fitted and held out."""
    surface, title = results.surface, results.title
    if title == surface.task:
        metric = find_noun(surface.metric)
        title = f"{metric[:1].upper()}{metric[1:]} of {title}"
    points, runs = len(surface), int(np.sum(surface.num_seeds))
    counted = f"{points:,} sizes in {runs:,} runs" if runs > points else f"{runs} runs"
    if points == 1:
        counted = counted.replace("1 sizes", "1 size").replace("1 runs", "1 run")
    fitted = sum(row.region == "fit" for row in results.predictions)
    if fitted == points:
        return f"{title}: {counted}, all fitted, none held out"
    return f"{title}: {counted}, {fitted:,} fitted, {points - fitted:,} held out"


def describe_fit(results: Results) -> str:
    """Law, points and cross-validation."""
    fit = results.fit
    runs = int(np.sum(fit.surface.num_seeds))
    text = f"{fit.law.name} law through {len(fit.surface)} points"
    if runs > len(fit.surface):
        text += f" ({runs:,} runs)"
    checked = fit.cross_validation
    if not checked.num_folds:
        return text + "; too few points to cross-validate"
    score = format.mean_and_std(checked.mean, checked.std)
    return (
        f"{text}; relative error in {checked.num_folds}-fold cross-validation {score}"
    )


def describe_held_out(results: Results) -> str:
    """How well the points that the law did not see were predicted."""
    score = held_out(results)
    if not score.num_points:
        return "no point was held out, so no prediction was checked by a larger run"
    plural = "s" if score.num_points > 1 else ""
    text = (
        f"{score.num_points} point{plural} predicted with relative error "
        f"{format.mean_and_std(score.mean, score.std)} (mean ± std)"
    )
    if has_intervals(results):
        share = format.whole_percent(score.coverage)
        text += f"; the 90% intervals hold {share} of them"
    return text


def describe_answer(answer: Answer, surface: Surface) -> str:
    """One question and its answer, with numbers."""
    say = _SAYINGS.get(answer.question)
    if say is not None:
        return say(answer, surface)
    question = answer.question.replace("_", " ")
    ends = format.interval(answer.lower, answer.upper)
    return f"{question}: {format.count(answer.value)} {answer.unit}{ends}; {answer.why}"


def _say_size_needed(answer: Answer, surface: Surface) -> str:
    """Data or parameters with which a value is reached, the other size given."""
    asked = answer.asked
    for_data = answer.question == "data_needed"
    counted = format.unit(surface) if for_data else "parameters"
    given = format.given(asked, surface) + format.passes(asked.get("epochs"))
    goal = _goal(answer, surface)
    if not math.isfinite(answer.value):
        return _say_never(answer, surface, f"{goal}{given}", f" {counted}")
    if answer.value < 1:
        return f"{goal}{given} takes less than one of {counted}: any will do"
    amount = f"{format.count(answer.value)} {counted}"
    return f"{goal}{given} takes {amount}{format.interval(answer.lower, answer.upper)}"


def _say_cheapest(answer: Answer, surface: Surface) -> str:
    """The least compute that reaches a value, and its split."""
    goal = _goal(answer, surface)
    if not math.isfinite(answer.value):
        goal += format.passes(answer.asked.get("epochs"))
        return _say_never(answer, surface, goal, " FLOPs", format.flops)
    ends = format.interval(answer.lower, answer.upper, format.flops)
    return (
        f"{goal} takes at least {format.flops(answer.value)} FLOPs{ends}, with "
        f"{_split(answer, surface)}{format.passes(answer.asked.get('epochs'))}"
    )


def _say_best(answer: Answer, surface: Surface) -> str:
    """The split of a budget, and what it reaches."""
    metric = surface.metric
    ends = format.ends(answer.lower, answer.upper, metric)
    text = (
        f"{format.flops(answer.asked['budget'])} FLOPs reach {format.thing(surface)} "
        f"of {format.measured(answer.value, metric)}"
        + (f" (90% interval {ends})" if ends else "")
        + f" at best, with {_split(answer, surface)}"
        + format.passes(answer.asked.get("epochs"))
    )
    if not answer.reachable:
        text += "; the law knows no optimum: one of the two should grow without end"
    elif answer.details["data"][0] >= answer.asked.get("max_data", math.inf):
        text += "; that is all there is"
    return text


def _say_suffices(answer: Answer, surface: Surface) -> str:
    """How likely a budget reaches a value."""
    params, data = (answer.details[name][0] for name in ("params", "data"))
    likely = "with a probability that is not known without resamples"
    if not math.isnan(answer.value):
        likely = f"with probability {format.whole_percent(answer.value)}"
    return (
        f"{format.flops(answer.asked['budget'])} FLOPs reach {_goal(answer, surface)} "
        f"{likely}, best spent on {format.sizes(params, data, surface)}"
        f"{format.passes(answer.asked.get('epochs'))}"
    )


def _say_never(
    answer: Answer,
    surface: Surface,
    goal: str,
    counted: str,
    form: Callable[[float], str] = format.count,
) -> str:
    """What the best fit never reaches; some draws may."""
    if math.isfinite(answer.lower):
        text = f"{goal} is {format.PERHAPS_NEVER} reached, and takes at least "
        text += f"{form(answer.lower)}{counted}"
    else:
        text = f"{goal} is {format.NEVER} reached (below the floor)"
    if "floor" not in answer.details:
        return text
    floor, lower, upper = answer.details["floor"]
    ends = format.ends(lower, upper, surface.metric)
    text += f": the law ends at {format.measured(floor, surface.metric)}"
    return text + (f" (90% interval {ends})" if ends else "")


_SAYINGS = {
    "data_needed": _say_size_needed,
    "params_needed": _say_size_needed,
    "cheapest_for_target": _say_cheapest,
    "best_for_budget": _say_best,
    "budget_suffices": _say_suffices,
}


def _goal(answer: Answer, surface: Surface) -> str:
    """An error of 5%."""
    value = format.wanted(answer.asked["value"], surface.metric)
    return f"{format.thing(surface)} of {value}"


def _split(answer: Answer, surface: Surface) -> str:
    """Model and data of an answer, each with its interval."""
    parts = []
    for name, counted in (("params", "parameters"), ("data", format.unit(surface))):
        value, lower, upper = answer.details[name]
        ends = format.span(lower, upper)
        parts.append(
            f"{format.count(value)} {counted}" + (f" ({ends})" if ends else "")
        )
    return " and ".join(parts)


def describe_target(row: PredictionRow, results: Results) -> str:
    """One size, what the law expects there, and what was measured if it was."""
    surface = results.surface
    ends = format.ends(row.lower, row.upper, surface.metric)
    place = format.sizes(row.params, row.data, surface) + format.passes(row.epochs)
    text = (
        f"{place} should reach {format.thing(surface)} of "
        f"{format.measured(row.predicted, surface.metric)}"
    ) + (f" (90% interval {ends})" if ends else "")
    if results.fit.not_scaling is not None:
        text += f", {NO_FORECAST}"
    text += describe_offset(results.fit, row.params, row.data, row.epochs)
    if math.isnan(row.measured):
        return text
    return f"{text}; measured {format.measured(row.measured, surface.metric)}"


def describe_offset(fit: Fit, params: float, data: float, epochs: float | None) -> str:
    """That a size of model has an offset of its own, or lies beside one; or ""."""
    known = epochs is not None and math.isfinite(epochs)
    found = fit.offset_at(params, data, epochs if known else None)
    if found is None:
        return ""
    change = format.percent(found.share)
    change = change if found.share < 0 else f"+{change}"
    if found.is_own:
        return (
            f"; this size of model was fitted, and has an offset of its own: {change}"
        )
    return (
        f"; a new size of model, without the offset ({change}) of the fitted "
        f"{format.count(found.size)} parameters"
    )


def headline(results: Results) -> str:
    """What was said of the largest size that was not trained yet, and how it did."""
    surface = results.surface
    if results.verified:
        return describe_verified(
            # With a fixed number of steps data cost nothing.
            max(results.verified, key=lambda one: (one.compute, one.params * one.data)),
            surface.metric,
            format.unit(surface),
        )
    if results.forecast is None or not results.forecast.targets:
        return ""
    # A size that can be trained here says more than one that is only asked about.
    largest = max(
        results.forecast.targets,
        key=lambda one: (
            one["kind"] != "plain",
            one["flops"],
            one["params"] * one["data"],
        ),
    )
    return describe_said(largest, surface)


def describe_said(target: dict[str, Any], surface: Surface) -> str:
    """Predicted 3.9% (3.5% to 4.4%) for ..., from 1/57 of its compute."""
    ends = target["mean_over_seeds"]
    lower, upper = (
        math.nan if ends[name] is None else float(ends[name])
        for name in ("lower", "upper")
    )
    return _predicted(
        target["value"],
        lower,
        upper,
        format.sizes(target["params"], target["data"], surface),
        target["compute_multiple"],
        surface.metric,
    )


def describe_verified(one: Verified, metric: str, data_unit: str) -> str:
    """Predicted 3.9% (3.5% to 4.4%) for ..., from 1/57 of its compute; measured 4%."""
    text = _predicted(
        one.predicted,
        one.lower,
        one.upper,
        f"{format.count(one.params)} parameters and {format.count(one.data)} "
        f"{data_unit}",
        one.compute_multiple,
        metric,
    )
    if math.isnan(one.measured):
        return f"{text}; its run failed"
    runs = f", the mean of {one.num_seeds} runs" if one.num_seeds > 1 else ""
    text += f"; measured {format.measured(one.measured, metric)}{runs}"
    return text if one.is_before else f"{text}, before this was said"


def _predicted(
    value: float, lower: float, upper: float, place: str, multiple: float, metric: str
) -> str:
    ends = format.ends(lower, upper, metric)
    share = f"1/{format.ratio(multiple, 1)} of"
    if multiple < 1:
        share = f"{format.ratio(1, multiple)} times"
    return (
        f"Predicted {format.measured(value, metric)}{f' ({ends})' if ends else ''} for "
        f"{place}, from {share} its compute"
    )


def describe_round(one: Round[Any], cost: str, metric: str, data_unit: str) -> str:
    """Where the loop stands, and what it trains next for how much."""
    spent = describe_price(one.spent, cost)
    text = f"round {one.number}: {one.num_points} points, {spent}"
    if math.isfinite(one.value):
        text += (
            f", the largest target {format.measured(one.value, metric)} ± "
            f"{format.percent(one.half_width)}"
        )
    if one.stop:
        return f"{text}; stopped: {one.stop}"
    runs = [describe_cell(cell, data_unit, cost) for cell in one.cells]
    return f"{text}; next {'; '.join(runs)}"


def describe_cell(cell: NextCell, data_unit: str, cost: str) -> str:
    """A run to do next, what it costs and what it is worth."""
    text = (
        f"{format.count(cell.params)} parameters on {format.count(cell.data)} "
        f"{data_unit} for {describe_price(cell.cost, cost)}"
    )
    if math.isnan(cell.after):
        return text
    before, after = format.percent(cell.before), format.percent(cell.after)
    return f"{text} (± {before} to ± {after})"


def describe_price(amount: float, cost: str) -> str:
    """An amount of what a budget is counted in: flops | 6mn | mn | seconds | price."""
    if cost == "seconds":
        return format.duration(amount)
    if cost == "price":
        return f"{format.count(amount)} paid"
    names = {"flops": "FLOPs", "6mn": "FLOPs (6mn)", "mn": "m n"}
    return f"{format.flops(amount)} {names[cost]}"


def describe_compute(results: Results) -> str:
    """What the fit region cost beside the largest run that was predicted.

    The fit region is counted whole, with all its seeds; the largest run is one run.
    """
    runs = int(np.sum(results.fit.surface.num_seeds))
    fitted = max(row.compute for row in results.predictions if row.region == "fit")
    largest = largest_run(results)
    text = (
        f"the fit region cost {format.flops(results.fit_flops)} FLOPs in all "
        f"({runs:,} runs, the largest {format.flops(fitted)})"
    )
    if largest.region == "fit":
        return f"{text}; it holds the largest run, so nothing larger was predicted"
    what = "held-out run" if largest.region == "held_out" else "target"
    return (
        f"{text}; the largest {what} costs {format.flops(largest.compute)} once: "
        f"{format.ratio(largest.compute, results.fit_flops)} times the whole fit "
        f"region, {format.ratio(largest.compute, fitted)} times its largest run"
    )


def describe_spent(spent: float, alone: float) -> str:
    """What branches of trunks take, beside what their runs would take alone."""
    return (
        f"branches share their trunks: {format.flops(spent)} FLOPs in all; trained "
        f"separately the runs take {format.flops(alone)}"
    )


def describe_stopped(num_stopped: int, num_runs: int, saved: float) -> str:
    """Runs that were stopped, and the share of all FLOPs that their rest would take."""
    said = stopped.describe(num_stopped, num_runs)
    return f"{said}; their rest would have been {format.percent(saved)} of all FLOPs"


def describe_never_stopped(num_runs: int, num_all: int) -> str:
    """Runs of which the training loss does not say which rate is the best."""
    if num_runs == num_all:
        return (
            f"packing.stop_hopeless: none of the {num_all:,} runs is stopped, as each "
            f"sees its data more than {MOST_EPOCHS} times"
        )
    return (
        f"packing.stop_hopeless: {num_runs:,} of {num_all:,} runs are never stopped: "
        f"they see their data more than {MOST_EPOCHS} times"
    )


def describe_cost(results: Results) -> str:
    """What a run costs by its sizes, how well that fits, and how far it is used."""
    reading = results.fit.cost_reading
    if not reading.num_points:
        return f"{reading.cost}, as the table has no FLOPs"
    plural = "s" if reading.num_points > 1 else ""
    text = (
        f"{reading.cost}, fitted to {reading.num_points:,} point{plural} within "
        f"{format.percent(reading.scatter)}"
    )
    most, params, seen = largest_cost(results)
    if not most > reading.largest:
        return f"{text}; used for no larger run"
    low, high = reading.spread(params, seen)
    times = format.ratio(most, reading.largest)
    text += f"; used at up to {times} times the largest of them"
    if high < 1.005 and low > 0.995:
        return f"{text}, where they leave it open by less than 1%"
    return f"{text}, where they leave open {low:.2f} to {high:.2f} times that cost"


def largest_cost(results: Results) -> tuple[float, float, float]:
    """FLOPs, model size and data seen of the dearest run that the cost is used for."""
    fit = results.fit
    used = [(row.params, row.data, row.epochs) for row in targets(results)] + [
        (
            *(one.details[name][0] for name in ("params", "data")),
            one.asked.get("epochs"),
        )
        for one in results.answers
        if one.question in _COST_QUESTIONS and one.reachable
    ]
    places = []
    for params, data, epochs in used:
        known = epochs is not None and math.isfinite(epochs)
        seen = data * (fit.epochs_at(epochs if known else None) or 1.0)
        places.append((float(fit.cost.flops(params, seen)), params, seen))
    return max(places, default=(0.0, math.nan, math.nan))

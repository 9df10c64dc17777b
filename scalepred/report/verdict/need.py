"""What does it take? The data, the model or the value that was asked for."""

import math

from scalepred.fitting.answers import Answer
from scalepred.metrics import find_noun
from scalepred.report import format
from scalepred.report.beside import beside
from scalepred.report.results import PredictionRow, Results
from scalepred.report.verdict.card import Card
from scalepred.report.verdict.trust import farthest, largest_fitted
from scalepred.report.verdict.worth import mean_at


def need_card(results: Results) -> Card:
    for name in ("data_needed", "params_needed"):
        for answer in results.answers:
            if answer.question == name:
                return _size_needed(results, answer)
    target = farthest(results)
    if target is not None and target.region == "target":
        return _target(results, target)
    return _doubled(results)


def _size_needed(results: Results, answer: Answer) -> Card:
    surface, for_data = results.surface, answer.question == "data_needed"
    unit = format.unit(surface) if for_data else "parameters"
    given = format.given(answer.asked, surface)
    goal = format.wanted(answer.asked["value"], surface.metric)
    question = f"How many {unit} for {format.thing(surface)} of {goal}{given}?"
    sentences = []
    if math.isfinite(answer.value):
        headline = f"About {format.count(float(f'{answer.value:.2g}'))} {unit}"
    elif math.isfinite(answer.lower):
        headline = f"Perhaps no number; at least {format.count(answer.lower)} {unit}"
    else:
        headline = "No number suffices: it lies below the floor"
    if not math.isnan(answer.lower) and math.isfinite(answer.lower):
        sentences.append(f"90% interval: {format.span(answer.lower, answer.upper)}")
    seen = beside(results, answer)
    if seen is not None:
        sentences.append(
            f"measured: {seen.sentence}" + _compare(answer.value, seen.value)
        )
    cheapest = [a for a in results.answers if a.question == "cheapest_for_target"]
    if cheapest and cheapest[0].reachable:
        params, data = (cheapest[0].details[size][0] for size in ("params", "data"))
        sentences.append(
            f"the cheapest way: {format.sizes(params, data, surface)}, "
            f"{format.flops(cheapest[0].value)} FLOPs"
        )
    return Card("need", question, "", headline, tuple(sentences))


def _compare(told: float, measured: float) -> str:
    """How the law's answer compares with the runs' own."""
    if not (math.isfinite(told) and math.isfinite(measured)):
        return ""
    times = told / measured
    if 0.9 < times < 1.1:
        return "; the law agrees"
    if times > 2 or times < 0.5:
        how = "many" if times > 1 else "few"
        return (
            f"; the law says {format.ratio(max(times, 1 / times), 1)} times too {how}"
        )
    how = "more" if times > 1 else "fewer"
    return f"; the law says {format.percent(abs(times - 1))} {how}"


def _target(results: Results, row: PredictionRow) -> Card:
    surface = results.surface
    place = format.sizes(row.params, row.data, surface) + format.passes(row.epochs)
    question = f"What {find_noun(surface.metric)} will {place} reach?"
    headline = f"About {format.measured(row.predicted, surface.metric)}"
    sentences = []
    if span := format.ends(row.lower, row.upper, surface.metric):
        sentences.append(f"90% interval for one run: {span}")
    if math.isfinite(row.measured):
        sentences.append(f"measured: {format.measured(row.measured, surface.metric)}")
    distance = row.compute / largest_fitted(results)
    sentences.append(
        f"it takes {format.flops(row.compute)} FLOPs, {format.ratio(distance, 1)} "
        "times the largest fitted run"
    )
    return Card("need", question, "", headline, tuple(sentences))


def _doubled(results: Results) -> Card:
    """Nothing was asked: what twice the data would bring."""
    surface, axes = results.surface, results.fit.law.axes
    axis = "data" if "data" in axes else "params"
    place = {"params": float(surface.params.max()), "data": float(surface.data.max())}
    unit = format.unit(surface) if axis == "data" else "parameters"
    now = mean_at(results, **place)
    then = mean_at(results, **{**place, axis: 2 * place[axis]})
    question = f"How much do twice as many {unit} help?"
    lower = 1 - then[0] / now[0]
    headline = (
        f"From {format.measured(now[0], surface.metric)} to "
        f"{format.measured(then[0], surface.metric)}"
    )
    sentences = [
        f"{format.percent(lower)} less than the largest sizes reach, "
        f"{format.sizes(place['params'], place['data'], surface)}",
        "ask for a value with --target_value, for a size with --target",
    ]
    return Card("need", question, "", headline, tuple(sentences))

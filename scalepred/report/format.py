"""Results in sentences and numbers for people: the page and the terminal say the same.

Sentences start small and have no full stop. Text that comes from files (task, unit,
device) stands in them as it is: the page escapes it, the terminal and the page take
out what is not `printable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from scalepred.metrics import find_unit, is_bounded

if TYPE_CHECKING:  # what draws figures takes its words from here and needs no jax
    from scalepred.fitting.answers import Answer
    from scalepred.fitting.design.cells import NextCell
    from scalepred.fitting.design.rounds import Round
    from scalepred.forecasting.forecast import Verified
    from scalepred.report.results import PredictionRow, Results, Score
    from scalepred.table.surface import Surface

OUT_OF_REACH = "out of reach"
UNKNOWN = "n/a"


def printable(text: str) -> str:
    """Without control characters: what a CSV says must not steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def count(number: float) -> str:
    """A size or a count: 4,100, 1.23e9, "out of reach" if infinite.

    Whole numbers below a million are exact, everything else has three digits.
    """
    if math.isnan(number):
        return UNKNOWN
    if math.isinf(number):
        return OUT_OF_REACH
    is_whole = float(number).is_integer() and abs(number) < 1e6
    rounded = number if is_whole else float(f"{number:.3g}")
    if 1e-3 <= abs(rounded) < 1e6 or rounded == 0:
        return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"
    return _scientific(f"{rounded:.2e}")


def _scientific(text: str) -> str:
    """1.20e+09 as 1.2e9."""
    mantissa, exponent = text.split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(share: float) -> str:
    """A relative error or a share: -4.5%, 130%."""
    if not math.isfinite(share):
        return UNKNOWN
    if abs(share) >= 1000:
        return count(100 * share) + "%"
    if abs(share) >= 1:
        return f"{100 * share:,.0f}%"
    return f"{round(100 * share, 1) + 0.0:.1f}%"  # + 0.0: never -0.0


def whole_percent(share: float) -> str:
    """A share of points: 91%."""
    return UNKNOWN if math.isnan(share) else f"{share:.0%}"


def number(value: float) -> str:
    """A parameter, four digits."""
    text = UNKNOWN if math.isnan(value) else f"{value:.4g}"
    return _scientific(text) if "e" in text else text


def mean_and_std(mean: float, std: float) -> str:
    """-4.5% ± 4.7%."""
    if math.isnan(mean):
        return UNKNOWN
    return f"{percent(mean)} ± {percent(std)}"


def measured(value: float, metric: str, with_unit: bool = True) -> str:
    """An error as a percentage with three digits, others with four, a loss in nats."""
    if not math.isfinite(value):
        return OUT_OF_REACH if math.isinf(value) else UNKNOWN
    if is_bounded(metric):
        return f"{100 * value:#.3g}".removesuffix(".") + "%"
    return f"{value:#.4g}".removesuffix(".") + _unit_after(metric, with_unit)


def wanted(value: float, metric: str, with_unit: bool = True) -> str:
    """A round error or loss, without zeros at its end: 5%, 2.1 nats."""
    if is_bounded(metric):
        return f"{100 * value:.3g}%"
    return f"{value:.4g}" + _unit_after(metric, with_unit)


def _unit_after(metric: str, with_unit: bool) -> str:
    unit = find_unit(metric)
    return f" {unit}" if with_unit and unit else ""


def duration(seconds: float) -> str:
    """1 h 5 min, 2 min 10 s, 8.3 s."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.01 else "0 s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole} s" if minutes else f"{whole} s"


def interval(lower: float, upper: float, form: Callable[[float], str]) -> str:
    """A space and (90% interval 3,200 to 5,600); nothing where there is none."""
    if math.isnan(lower) or math.isnan(upper) or lower == upper:
        return ""
    return f" (90% interval {form(lower)} to {form(upper)})"


def metric_label(metric: str) -> str:
    """For an axis or a caption."""
    unit = find_unit(metric)
    name = metric.replace("_", " ")
    return name if is_bounded(metric) or not unit else f"{name} ({unit})"


# What the published parameters of the built-in laws mean; {unit}: of the metric.
_MEANINGS = {
    "data_exponent": "power of n; no unit",
    "model_exponent": "power of m; no unit",
    "random_guess": "e0, the value of a model that has learnt nothing; {unit}",
    "irreducible": "the value that no m and n get below; {unit}",
    "b": "weight of the model term beside the data term; no unit",
    "c": "weight of the floor beside the data term; no unit",
    "eta": "where the law bends towards e0; no unit",
    "E": "the value that no m and n get below; {unit}",
    "A": "size of the model term; {unit} times m to its exponent",
    "B": "size of the data term; {unit} times n to its exponent",
    "R_D*": "repeats of the data after which more are worth little; passes",
    "R_N*": "excess of m over what n can use after which more is worth little; times",
}


def describe_parameter(name: str, metric: str) -> str:
    """Meaning and unit, or nothing for the parameter of a law of one's own."""
    return _MEANINGS.get(name, "").format(unit=find_unit(metric) or "no unit")


def thing(surface: Surface) -> str:
    """The metric's noun with its article."""
    metric = surface.metric.replace("_", " ")
    return f"an {metric}" if metric[0] in "aeiou" else f"a {metric}"


def unit(surface: Surface) -> str:
    """What n counts."""
    return surface.data_unit


def sizes(params: float, data: float, surface: Surface) -> str:
    """1.2e6 parameters and 4,100 examples; along compute 5e21 FLOPs."""
    if unit(surface) == "FLOPs":
        return f"{count(data)} FLOPs"
    return f"{count(params)} parameters and {count(data)} {unit(surface)}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def has_intervals(results: Results) -> bool:
    """Whether there were resamples to draw an interval from."""
    return len(results.fit.fitted.draws) > 0


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
    score = mean_and_std(checked.mean, checked.std)
    return (
        f"{text}; relative error in {checked.num_folds}-fold cross-validation {score}"
    )


def held_out(results: Results) -> Score:
    """The score over all points that the law did not see."""
    return next(score for score in results.scores if score.name == "held out")


def describe_held_out(results: Results) -> str:
    """How well the points that the law did not see were predicted."""
    score = held_out(results)
    if not score.num_points:
        return "no point was held out, so no prediction was checked by a larger run"
    plural = "s" if score.num_points > 1 else ""
    text = (
        f"{score.num_points} point{plural} predicted with relative error "
        f"{mean_and_std(score.mean, score.std)} (mean ± std)"
    )
    if has_intervals(results):
        text += f"; the 90% intervals hold {whole_percent(score.coverage)} of them"
    return text


def describe_answer(answer: Answer, surface: Surface) -> str:
    """One question and its answer, with numbers."""

    def say(number: float) -> str:
        return measured(number, surface.metric, with_unit=False)

    asked, details = answer.asked, answer.details
    found = interval(answer.lower, answer.upper, count)
    if answer.question == "budget_suffices":
        goal = wanted(asked["value"], surface.metric)
        place = sizes(details["params"][0], details["data"][0], surface)
        return (
            f"{count(asked['budget'])} FLOPs reach {thing(surface)} of {goal} with "
            f"probability {whole_percent(answer.value)}, best spent on {place}"
            f"{passes(asked.get('epochs'))}"
        )
    if answer.question == "best_for_budget":
        error = measured(answer.value, surface.metric)
        error += interval(answer.lower, answer.upper, say)
        text = (
            f"with {count(asked['budget'])} FLOPs the {surface.metric} is least, "
            f"{error}, at {_split(details, surface)}{passes(asked.get('epochs'))}"
        )
        if not answer.reachable:
            text += "; the law knows no optimum: one of the two should grow without end"
        return text
    if not answer.reachable:
        return answer.why
    goal = wanted(asked.get("value", math.nan), surface.metric)
    if answer.question in ("data_needed", "params_needed"):
        for_data = answer.question == "data_needed"
        counted, given = "parameters", f"{count(asked.get('data', 0))} {unit(surface)}"
        if for_data:
            counted, given = unit(surface), f"{count(asked['params'])} parameters"
        return (
            f"{thing(surface)} of {goal} with {given} takes "
            f"{count(answer.value)} {counted}{found}{passes(asked.get('epochs'))}"
        )
    if answer.question == "cheapest_for_target":
        return (
            f"{thing(surface)} of {goal} takes at least "
            f"{count(answer.value)} FLOPs{found}, at {_split(details, surface)}"
            f"{passes(asked.get('epochs'))}"
        )
    question = answer.question.replace("_", " ")
    amount = f"{count(answer.value)} {answer.unit}{found}"
    return f"{question}: {amount}; {answer.why}"


def passes(epochs: float | None) -> str:
    """How often the data are seen, after a comma; nothing where it is not known."""
    if epochs is None or math.isnan(epochs):
        return ""
    return ", data seen " + ("once" if epochs == 1 else f"{count(epochs)} times")


def _split(details: dict[str, tuple[float, float, float]], surface: Surface) -> str:
    """Model and data of an answer, each with its interval."""
    parts = []
    for name, counted in (("params", "parameters"), ("data", unit(surface))):
        value, lower, upper = details[name]
        ends = interval(lower, upper, count).replace("90% interval ", "")
        parts.append(f"{count(value)} {counted}{ends}")
    return " and ".join(parts)


def describe_target(row: PredictionRow, results: Results) -> str:
    """One size, what the law expects there, and what was measured if it was."""
    surface = results.surface

    def say(number: float) -> str:
        return measured(number, surface.metric, with_unit=False)

    place = sizes(row.params, row.data, surface) + passes(row.epochs)
    text = (
        f"{place} should reach {thing(surface)} of "
        f"{measured(row.predicted, surface.metric)}"
        f"{interval(row.lower, row.upper, say)}"
    )
    if math.isnan(row.measured):
        return text
    return f"{text}; measured {measured(row.measured, surface.metric)}"


def headline(results: Results) -> str:
    """What was said of the largest size that was not trained yet, and how it did."""
    surface = results.surface
    if results.verified:
        return describe_verified(
            # With a fixed number of steps data cost nothing.
            max(results.verified, key=lambda one: (one.compute, one.params * one.data)),
            surface.metric,
            unit(surface),
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
        sizes(target["params"], target["data"], surface),
        target["compute_multiple"],
        surface.metric,
    )


def describe_verified(one: Verified, metric: str, data_unit: str) -> str:
    """Predicted 3.9% (3.5% to 4.4%) for ..., from 1/57 of its compute; measured 4%."""
    text = _predicted(
        one.predicted,
        one.lower,
        one.upper,
        f"{count(one.params)} parameters and {count(one.data)} {data_unit}",
        one.compute_multiple,
        metric,
    )
    if math.isnan(one.measured):
        return f"{text}; its run failed"
    runs = f", the mean of {one.num_seeds} runs" if one.num_seeds > 1 else ""
    text += f"; measured {measured(one.measured, metric)}{runs}"
    return text if one.is_before else f"{text}, before this was said"


def _predicted(
    value: float, lower: float, upper: float, place: str, multiple: float, metric: str
) -> str:
    def say(number: float) -> str:
        return measured(number, metric, with_unit=False)

    ends = interval(lower, upper, say).replace("90% interval ", "")
    share = f"1/{ratio(multiple, 1)} of" if multiple >= 1 else f"{ratio(1, multiple)}"
    times = "" if multiple >= 1 else " times"
    return (
        f"Predicted {measured(value, metric)}{ends} for {place}, from {share}{times} "
        "its compute"
    )


_COST_QUESTIONS = ("best_for_budget", "budget_suffices", "cheapest_for_target")

# What a budget is counted in, by the name of its cost.
_COST_UNITS = {
    "flops": "FLOPs", "6mn": "FLOPs (6mn)", "mn": "m n", "seconds": "s", "price": "paid"
}  # fmt: skip


def describe_round(one: Round[Any], cost: str, metric: str, data_unit: str) -> str:
    """Where the loop stands, and what it trains next for how much."""
    unit_name = _COST_UNITS[cost]
    text = (
        f"round {one.number}: {one.num_points} points, {count(one.spent)} {unit_name}"
    )
    if math.isfinite(one.value):
        text += (
            f", the largest target {measured(one.value, metric)} ± "
            f"{percent(one.half_width)}"
        )
    if one.stop:
        return f"{text}; stopped: {one.stop}"
    runs = [describe_cell(cell, data_unit, cost) for cell in one.cells]
    return f"{text}; next {'; '.join(runs)}"


def describe_cell(cell: NextCell, data_unit: str, cost: str) -> str:
    """A run to do next, what it costs and what it is worth."""
    text = (
        f"{count(cell.params)} parameters on {count(cell.data)} {data_unit} for "
        f"{count(cell.cost)} {_COST_UNITS[cost]}"
    )
    if math.isnan(cell.after):
        return text
    return f"{text} (± {percent(cell.before)} to ± {percent(cell.after)})"


def targets(results: Results) -> list[PredictionRow]:
    """The sizes asked for, and those of the grid that nobody measured yet."""
    return [row for row in results.predictions if row.region == "target"]


def largest_run(results: Results) -> PredictionRow:
    """The measured point or target that takes the most compute."""
    return max(results.predictions, key=lambda row: row.compute)


def describe_compute(results: Results) -> str:
    """What the fit region cost beside the largest run that was predicted.

    The fit region is counted whole, with all its seeds; the largest run is one run.
    """
    runs = int(np.sum(results.fit.surface.num_seeds))
    fitted = max(row.compute for row in results.predictions if row.region == "fit")
    largest = largest_run(results)
    text = (
        f"the fit region cost {count(results.fit_flops)} FLOPs in all ({runs:,} runs, "
        f"the largest {count(fitted)})"
    )
    if largest.region == "fit":
        return f"{text}; it holds the largest run, so nothing larger was predicted"
    what = "held-out run" if largest.region == "held_out" else "target"
    return (
        f"{text}; the largest {what} costs {count(largest.compute)} once: "
        f"{ratio(largest.compute, results.fit_flops)} times the whole fit region, "
        f"{ratio(largest.compute, fitted)} times its largest run"
    )


def describe_cost(results: Results) -> str:
    """What a run costs by its sizes, how well that fits, and how far it is used."""
    reading = results.fit.cost_reading
    if not reading.num_points:
        return f"{reading.cost}, as the table has no FLOPs"
    plural = "s" if reading.num_points > 1 else ""
    text = (
        f"{reading.cost}, fitted to {reading.num_points:,} point{plural} within "
        f"{percent(reading.scatter)}"
    )
    flops, params, seen = largest_cost(results)
    if not flops > reading.largest:
        return f"{text}; used for no larger run"
    low, high = reading.spread(params, seen)
    text += f"; used at up to {ratio(flops, reading.largest)} times the largest of them"
    if high < 1.005 and low > 0.995:
        return f"{text}, where they leave it open by less than 1%"
    return f"{text}, where they leave open {low:.2f} to {high:.2f} times that cost"


def largest_cost(results: Results) -> tuple[float, float, float]:
    """FLOPs, model size and data seen of the dearest run that the cost is used for."""
    fit = results.fit
    used = [
        (row.params, row.data, row.epochs)
        for row in results.predictions
        if row.region == "target"
    ] + [
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


def ratio(numerator: float, denominator: float) -> str:
    """How many times: 0.31, 3.9, 52, 1,200; two digits."""
    return count(float(f"{numerator / denominator:.2g}"))

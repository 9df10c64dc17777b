"""Is it worth going on? What more compute, data or parameters would bring."""

import math
from collections.abc import Callable
from typing import NamedTuple

from scalepred.fitting.estimate import knows_split
from scalepred.report import format
from scalepred.report.results import Results
from scalepred.report.verdict.card import Card
from scalepred.report.verdict.trust import farthest

# What ten times the compute takes off the value: off an error, and off a loss, most of
# which is its floor.
_TIMES = 10.0
_MUCH = {True: 0.10, False: 0.03}
_LITTLE = {True: 0.02, False: 0.005}
_WORTH_A_WORD = 0.02  # of the value
_ONE_SIDED = 3.0  # one size is worth so many times the other: only it is named
_NO_END = 1e15  # times the largest sizes: where the law ends
# Probabilities in words, from the surest down.
_CHANCES = ((0.9, "Very likely", "yes"), (0.7, "Likely", "yes"), (0.3, "Open", "care"),
            (0.1, "Unlikely", "no"), (0.0, "Very unlikely", "no"))  # fmt: skip


def worth_card(results: Results) -> Card:
    question = "Is it worth going on?"
    here = _here(results)
    suffices = [one for one in results.answers if one.question == "budget_suffices"]
    gain = 1 - here.then / here.now
    bounded = results.surface.highest < math.inf
    if gain >= _MUCH[bounded]:
        verdict, headline = "yes", "Yes, the law is far from its floor"
    elif gain >= _LITTLE[bounded]:
        verdict, headline = "care", "Somewhat: gains are getting small"
    else:
        verdict, headline = "no", "Little more to gain"
    sentences = list(here.sentences)
    if suffices and math.isfinite(suffices[0].value):
        one = suffices[0]
        _, word, verdict = next(c for c in _CHANCES if one.value >= c[0])
        goal = format.wanted(one.asked["value"], results.surface.metric)
        headline = (
            f"{word}: {format.flops(one.asked['budget'])} FLOPs reach {goal} with "
            f"probability {format.whole_percent(one.value)}"
        )
    return Card("worth", question, verdict, headline, tuple(sentences))


class _Here(NamedTuple):
    """Where a reader stands, and what more would bring.

    Attributes:
        now: value there.
        then: with ten times the compute.
        sentences: in words.
    """

    now: float
    then: float
    sentences: tuple[str, ...]


def _here(results: Results) -> _Here:
    """At the budget asked for, or the largest target, else at the largest run."""
    fit, surface = results.fit, results.surface
    params, data, budget = _place(results)
    sizes, say = {"params": params, "data": data}, _say_of(results)
    here = mean_at(results, **sizes)
    sentences = [f"at {format.sizes(params, data, surface)}: {say(*here)}"]
    now = here[0]
    if knows_split(fit.law.axes, fit.surface):
        max_data = data if fit.cost.data_power == 0 else math.inf
        now, then = (
            fit.best_for_budget(times * budget, max_data).value
            for times in (1.0, _TIMES)
        )
        if now < (1 - _WORTH_A_WORD) * here[0]:
            sentences.append(f"the best split of the same compute: {say(now)}")
        what = "ten times the compute, split best"
    else:
        axis = "data" if "data" in fit.law.axes else "params"
        then = mean_at(results, **{**sizes, axis: _TIMES * sizes[axis]})[0]
        unit = format.unit(surface) if axis == "data" else "parameters"
        what = f"ten times the {unit}"
    sentences.append(f"{what}: {say(then)} ({format.percent(then / now - 1)})")
    if more := _which_size(results, params, data, here[0]):
        sentences.append(more)
    end = {
        axis: size * (_NO_END if axis in fit.law.axes else 1.0)
        for axis, size in sizes.items()
    }
    sentences.append(f"the floor is {say(*mean_at(results, **end))}")
    return _Here(now, then, tuple(sentences))


def _place(results: Results) -> tuple[float, float, float]:
    """Model size, data size and FLOPs of what the reader has in mind."""
    for answer in results.answers:
        if answer.question == "best_for_budget" and answer.reachable:
            params, data = (answer.details[size][0] for size in ("params", "data"))
            return params, data, answer.asked["budget"]
    row = farthest(results) or max(
        results.predictions, key=lambda row: (row.compute, row.params * row.data)
    )
    return row.params, row.data, row.compute


def _say_of(results: Results) -> Callable[..., str]:
    metric = results.surface.metric

    def say(value: float, lower: float = math.nan, upper: float = math.nan) -> str:
        text = format.measured(value, metric)
        span = format.ends(lower, upper, metric)
        return f"{text} ({span})" if span else text

    return say


def mean_at(results: Results, params: float, data: float) -> tuple[float, float, float]:
    """Expected value at some sizes, with its 90 % interval."""
    said = results.fit.predict(params, data)
    return float(said.value), float(said.mean_lower), float(said.mean_upper)


def _which_size(results: Results, params: float, data: float, now: float) -> str:
    """Whether more data or larger models are the better half of going on."""
    if not {"params", "data"} <= set(results.fit.law.axes):
        return ""
    if not knows_split(results.fit.law.axes, results.fit.surface):
        return ""
    by_params = 1 - mean_at(results, 2 * params, data)[0] / now
    by_data = 1 - mean_at(results, params, 2 * data)[0] / now
    unit = format.unit(results.surface)
    both = (
        f"twice the {unit}: {format.percent(-by_data)}, twice the parameters: "
        f"{format.percent(-by_params)}"
    )
    if by_data > _ONE_SIDED * by_params:
        return f"{both}: more {unit}, not more parameters"
    if by_params > _ONE_SIDED * by_data:
        return f"{both}: more parameters, not more {unit}"
    return f"{both}: grow both"

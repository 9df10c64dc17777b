"""What was measured about a question, to stand beside the law's answer to it."""

import math
from typing import NamedTuple

import numpy as np

from scalepred.fitting.answers import SAME_SIZE, Answer
from scalepred.report import format
from scalepred.report.results import Results


class Beside(NamedTuple):
    """What the runs themselves say of a question.

    Attributes:
        value: the same quantity as the answer's; infinite: no run reached what was
            asked for.
        sentence: with the runs that it comes from.
    """

    value: float
    sentence: str


def beside(results: Results, answer: Answer) -> Beside | None:
    """The runs' own answer; None where no runs speak of the question.

    Between two runs that lie about what was asked for, ln of the value is taken to be
    a straight line in ln of the size.
    """
    if answer.question in ("data_needed", "params_needed"):
        return _size_needed(results, answer)
    if answer.question == "cheapest_for_target":
        return _cheapest(results, answer.asked["value"])
    if answer.question == "best_for_budget":
        return _best(results, answer.asked["budget"])
    return None


def _size_needed(results: Results, answer: Answer) -> Beside | None:
    surface, wanted = results.surface, answer.asked["value"]
    for_data = answer.question == "data_needed"
    given = answer.asked["params" if for_data else "data"]
    other, size = surface.params, surface.data
    if not for_data:
        other, size = size, other
    near = np.abs(np.log(other / given)) <= SAME_SIZE
    if surface.epochs is not None:
        near &= surface.epochs == answer.asked.get("epochs", 1.0)
    order = np.argsort(size[near], kind="stable")
    size, value = size[near][order], surface.value[near][order]
    if len(size) < 2:
        return None
    unit = format.unit(surface) if for_data else "parameters"

    def say(i: int) -> str:
        told = format.measured(float(value[i]), surface.metric, with_unit=False)
        return f"{format.count(float(size[i]))} ({told})"

    reached = value <= wanted
    if not np.any(reached):
        return Beside(math.inf, f"no run reached it, up to {say(-1)} {unit}")
    first = int(np.argmax(reached))
    if not first:
        return Beside(
            float(size[0]), f"reached with the fewest that were tried, {say(0)} {unit}"
        )
    steps = np.log(value[[first - 1, first]])
    share = (math.log(wanted) - steps[0]) / (steps[1] - steps[0])
    between = float(size[first - 1] * (size[first] / size[first - 1]) ** share)
    return Beside(
        between,
        f"between {say(first - 1)} and {say(first)}, so about "
        f"{format.count(float(f'{between:.3g}'))} {unit}",
    )


def _cheapest(results: Results, wanted: float) -> Beside | None:
    """The cheapest run that reached a value."""
    rows = [row for row in results.predictions if row.region != "target"]
    good = [row for row in rows if row.measured <= wanted]
    if not good:
        return None
    row = min(good, key=lambda row: row.compute)
    place = format.sizes(row.params, row.data, results.surface)
    reached = format.measured(row.measured, results.surface.metric)
    return Beside(
        row.compute,
        f"the cheapest run that reached it took {format.flops(row.compute)} FLOPs "
        f"({place}: {reached})",
    )


def _best(results: Results, budget: float) -> Beside | None:
    """The best run for a budget, where some run took about as much."""
    rows = [row for row in results.predictions if row.region != "target"]
    within = [row for row in rows if row.compute <= budget * (1 + SAME_SIZE)]
    if not within or max(row.compute for row in rows) < budget / 2:
        return None
    row = min(within, key=lambda row: row.measured)
    place = format.sizes(row.params, row.data, results.surface)
    reached = format.measured(row.measured, results.surface.metric)
    return Beside(row.measured, f"the best run for as much reached {reached} ({place})")

"""Sentences of answers, targets and costs: what stands in them, and what it means."""

import dataclasses
import math

import pytest
from example_results import grid

from scalepred.report import format, words


def test_answers_say_numbers_and_limits():
    data, budget, unreachable, params, cheapest = (
        words.describe_answer(answer, grid().surface) for answer in grid().answers
    )
    needed = grid().answers[0]
    assert data.startswith("an error of 10% with 50,000 parameters takes ")
    assert f"{format.count(needed.value)} examples" in data
    assert format.interval(needed.lower, needed.upper) in data
    assert budget.startswith("1e12 FLOPs reach an error of ")
    assert unreachable.startswith(
        "an error of 0.01% with 50,000 parameters is never reached (below the floor): "
        "the law ends at "
    )
    assert "with 10,000 examples takes " in params
    assert cheapest.startswith("an error of 10% takes at least ")
    assert "FLOPs" in cheapest


def test_an_answer_without_end_is_never_or_perhaps_never():
    surface, found = grid().surface, grid().answers[2]
    perhaps = dataclasses.replace(
        found, lower=6.4e11, details={"floor": (0.036, 0.005, 0.056)}
    )
    assert words.describe_answer(perhaps, surface) == (
        "an error of 0.01% with 50,000 parameters is perhaps never reached, and takes "
        "at least 640B examples: the law ends at 3.60% (90% interval 0.500% to 5.60%)"
    )


def test_the_floor_of_an_answer_is_the_end_of_the_law():
    fit = grid().fit
    answer = fit.data_needed(1e-4, 5e4)
    floor, lower, upper = answer.details["floor"]
    assert floor == pytest.approx(float(fit.predict(5e4, 1e30).value), rel=1e-6)
    assert 1e-4 < lower < floor < upper
    # At the floor one draw's answer is finite where another's is not.
    barely = fit.data_needed(floor, 5e4)
    assert math.isfinite(barely.lower)
    assert not math.isfinite(barely.upper)


def test_compute_counts_all_seeds_and_one_target():
    told = words.describe_compute(grid())
    fitted = [row for row in grid().predictions if row.region == "fit"]
    total = 2 * sum(row.compute for row in fitted)
    assert f"{format.flops(total)} FLOPs in all ({2 * len(fitted)} runs" in told
    target = 6e11
    assert f"largest target costs {format.flops(target)} once" in told
    assert f"{format.ratio(target, total)} times the whole fit region" in told

"""The frontier of budgets: against the answers, and against every other split."""

import dataclasses
import functools

import numpy as np
import pytest
from example_results import TARGET, grid, make_results, make_surface, without_draws

import scalepred
from scalepred.report.frontier import Frontier, split_budgets, trace_frontier
from scalepred.report.results import Results


@functools.cache
def _frontier() -> Frontier:
    found = trace_frontier(grid())
    assert found is not None
    return found


def _check_against_answers(results: Results, frontier: Frontier, max_data: float):
    for index in (0, len(frontier.budget) // 3, -1):
        budget = float(frontier.budget[index])
        answer = results.fit.best_for_budget(budget, max_data)
        assert frontier.value[index] == pytest.approx(answer.value, rel=1e-5)
        for name in ("params", "data"):
            said = answer.details[name][0]
            assert getattr(frontier, name)[index] == pytest.approx(said, rel=0.01)


def test_it_agrees_with_the_answers_about_single_budgets():
    _check_against_answers(grid(), _frontier(), np.inf)


@pytest.mark.slow
def test_it_agrees_with_the_answers_of_a_weighted_mean():
    fit = scalepred.fit(grid().fit.surface, "auto", resamples=20)
    results = dataclasses.replace(grid(), fit=fit)
    found = trace_frontier(results)
    assert found is not None
    _check_against_answers(results, found, np.inf)


def test_no_other_split_of_a_budget_is_better():
    frontier, fit = _frontier(), grid().fit
    np.testing.assert_allclose(
        fit.cost.flops(frontier.params, frontier.data), frontier.budget, rtol=1e-9
    )
    for factor in (0.2, 0.9, 1.1, 5.0):
        other = fit.predict(frontier.params * factor, frontier.data / factor)
        assert np.all(other.value > frontier.value)


def test_it_reaches_from_below_the_smallest_run_to_beyond_all_that_was_asked():
    compute = [row.compute for row in grid().predictions]
    budget = _frontier().budget
    assert budget[0] < min(compute)
    # Of the grid a budget of 1e12 was asked, more than its target takes.
    assert max(*compute, 1e12) < budget[-1] < 10 * max(*compute, 1e12)
    assert np.all(np.diff(_frontier().value) < 0)
    assert np.all(np.diff(np.log(_frontier().params)) > 0)


def test_its_interval_is_that_of_a_run_of_this_split():
    frontier = _frontier()
    said = grid().fit.predict(frontier.params, frontier.data)
    np.testing.assert_array_equal(frontier.lower, said.lower)
    np.testing.assert_array_equal(frontier.upper, said.upper)
    found = trace_frontier(without_draws())
    assert found is not None
    assert np.all(np.isnan(found.lower))


def test_data_that_cost_nothing_are_all_used():
    params, data = np.meshgrid(np.geomspace(200, 5e4, 6), np.geomspace(100, 3e3, 5))
    surface = make_surface(params.ravel(), data.ravel())
    surface = dataclasses.replace(surface, compute=1e3 * surface.params)
    fit = scalepred.fit(surface, "rosenfeld", resamples=0, starts=16)
    assert fit.cost.data_power == 0
    results = make_results("Steps", surface, np.ones(len(surface), bool), fit, [])
    found = trace_frontier(results)
    assert found is not None
    assert np.all(found.data == surface.data.max())
    _check_against_answers(results, found, float(surface.data.max()))


def test_there_is_none_where_no_split_can_be_told():
    data = np.geomspace(100, 1e5, 8)
    surface = make_surface(np.full(8, 1e4), data)
    curve = scalepred.fit(surface, "power", resamples=0)
    results = make_results("Curve", surface, np.ones(8, bool), curve, [])
    assert trace_frontier(results) is None
    ladder = make_surface(np.geomspace(100, 1e5, 8), 20 * data)
    fit = scalepred.fit(ladder, "rosenfeld", resamples=0, starts=16)
    results = make_results(
        "Ladder", ladder, np.ones(8, bool), fit, [], targets=[TARGET]
    )
    assert trace_frontier(results) is None


def test_budgets_without_an_optimum_are_left_out():
    # So large a budget that the best sizes lie beyond all that are looked at.
    budget = np.array([1e9, 1e60])
    found = split_budgets(grid().fit, budget, np.inf)
    assert found is not None
    assert found.budget.tolist() == [1e9]

"""The law as a table for a page: what it covers, what it holds, how long it is."""

import base64
import json
import math

import numpy as np
import pytest
from example_results import grid, make_results, make_surface, without_draws
from studies import STUDIES, free_data, offsets, one_axis, repeated

import scalepred
from scalepred.report.page import packed
from scalepred.report.page.law_table import Axis, LawTable, make_law_table
from scalepred.report.results import Results


def table_of(results: Results) -> LawTable:
    table = make_law_table(results)
    assert table is not None
    return table


@pytest.mark.parametrize("name", STUDIES)
def test_a_table_covers_all_runs_targets_and_questions_and_two_decades_more(name):
    results = STUDIES[name]()
    table = table_of(results)

    sizes = [axis for axis in table.axes if axis.name != "epochs"]
    far = 0
    for axis in sizes:
        known = [getattr(row, axis.name) for row in results.predictions]
        known += [a.asked[axis.name] for a in results.answers if axis.name in a.asked]
        assert math.exp(axis.low) < min(known)
        far += axis.high - math.log(max(known))
    assert far > math.log(99)
    if table.budgets:
        budgets = [row.compute for row in results.predictions]
        budgets += [a.asked["budget"] for a in results.answers if "budget" in a.asked]
        assert math.exp(table.budgets.low) < min(budgets)
        assert math.exp(table.budgets.high) > 99 * max(budgets)


@pytest.mark.parametrize("name", STUDIES)
def test_a_table_is_short_json_of_numbers(name):
    record = table_of(STUDIES[name]()).record()

    text = json.dumps(record, allow_nan=False)
    assert len(text) < 25_000
    assert "Infinity" not in text


def test_nodes_stand_at_the_target_and_at_the_budget_that_were_asked_about():
    results = grid()
    table, target = table_of(results), results.predictions[-1]
    places = [
        int(np.argmin(np.abs(axis.nodes - math.log(getattr(target, axis.name)))))
        for axis in table.axes
    ]
    at = tuple(places)
    assert table.lower is not None
    assert table.upper is not None
    for part, expected in (
        (table.value, target.predicted),
        (table.lower, target.lower),
        (table.upper, target.upper),
    ):
        assert math.exp(part[at]) == pytest.approx(expected, rel=1e-6)

    assert table.budgets is not None
    assert table.best is not None
    answer = results.answers[1]
    at = int(np.argmin(np.abs(table.budgets.nodes - math.log(1e12))))
    for part, (value, lower, upper) in zip(
        table.best[:, :, 0, at],
        [(answer.value, answer.lower, answer.upper), *answer.details.values()],
        strict=True,
    ):
        np.testing.assert_allclose(np.exp(part), (value, lower, upper), rtol=1e-6)


@pytest.mark.parametrize("name", ["grid", "offsets", "repeated"])
def test_between_the_budgets_that_were_solved_for_ends_are_near_the_solved_ones(name):
    results = STUDIES[name]()
    table = table_of(results)
    assert table.budgets is not None
    assert table.best is not None
    epochs = 1.0 if table.best.shape[2] > 1 else None
    for node in (2, 13, 31):  # every fourth is solved for
        budget = math.exp(table.budgets.nodes[node])
        answer = results.fit.best_for_budget(budget, epochs=epochs)
        said = [(answer.value, answer.lower, answer.upper), *answer.details.values()]
        off = np.abs(table.best[:, :, 0, node] - np.log(said[:3]))
        assert off[:, 0].max() < 1e-6
        assert off.max() < 0.06  # of ends that lie factors apart


def test_a_table_says_what_a_new_size_gets_where_fitted_sizes_have_offsets():
    results = offsets()
    fitted = results.fit.fitted
    own = fitted.params_unit * np.exp(fitted.scale.levels[0])
    at_own, beside = (
        float(results.fit.predict(own * f, 1e4).value) for f in (1, 1.001)
    )
    assert abs(at_own / beside - 1) > 1e-3  # there is something to leave out

    table = table_of(results)
    assert table.is_of_new_sizes
    params, data = (axis.nodes for axis in table.axes)
    new = results.fit.predict(np.exp(params + 1e-4)[:, None], np.exp(data))
    np.testing.assert_allclose(np.exp(table.value), new.value, rtol=1e-3)
    assert not table_of(grid()).is_of_new_sizes


def test_no_node_is_a_fitted_size(monkeypatch):
    """Even where equal steps would hit one, as they do from powers of ten."""
    results = offsets()
    levels = results.fit.fitted.scale.levels
    asked = []
    predict = type(results.fit).predict

    def listen(self, params, *args, **about):
        asked.append(np.asarray(params))
        return predict(self, params, *args, **about)

    monkeypatch.setattr(type(results.fit), "predict", listen)
    monkeypatch.setattr("scalepred.report.page.law_table._axis", _through_powers_of_ten)
    table_of(results)
    sizes = np.log(asked[0].ravel() / results.fit.fitted.params_unit)
    apart = np.abs(sizes[:, None] - levels[np.isfinite(levels)])
    assert 1e-7 < apart.min() < 1e-5


def _through_powers_of_ten(name, ends, at, count, stride=1):
    return Axis(
        name, math.log(1e2), math.log(1e2) + (count - 1) * math.log(10) / 4, count
    )


def test_without_resamples_there_are_values_and_no_ends():
    table = table_of(without_draws())
    assert table.lower is None
    assert table.upper is None
    record = table.record()
    assert record["ends"] is None
    assert record["best"] is not None
    json.dumps(record, allow_nan=False)


def test_what_cannot_be_told_is_left_out():
    curve = table_of(one_axis())
    assert [axis.name for axis in curve.axes] == ["data"]
    assert curve.fixed == {"params": 5e4}
    assert curve.log_cost is None
    assert curve.budget_range is None

    sizes = np.geomspace(1e3, 1e5, 8)
    ladder = make_surface(sizes, 20 * sizes, 1)
    fit = scalepred.fit(ladder, "chinchilla", resamples=0, starts=8)
    together = table_of(make_results("Ladder", ladder, np.ones(8, bool), fit, []))
    assert together.best is None
    assert together.budget_range is not None

    free = table_of(free_data())
    assert free.best is None
    assert free.log_cost is None


def test_with_epochs_the_table_has_them_as_an_axis():
    results = repeated()
    table = table_of(results)
    assert [axis.name for axis in table.axes] == ["params", "data", "epochs"]
    assert table.value.shape == tuple(axis.count for axis in table.axes)
    m, n = (math.exp(axis.nodes[5]) for axis in table.axes[:2])
    said = results.fit.predict(m, n, epochs=np.exp(table.axes[2].nodes))
    np.testing.assert_allclose(np.exp(table.value[5, 5]), said.value, rtol=1e-9)
    # More passes over the same data help, and cost.
    assert np.all(np.diff(said.value) < 0)


def test_packed_numbers_are_what_they_were():
    numbers = np.array([[1.5, -2.25], [math.nan, 1e30]])
    read = np.frombuffer(base64.b64decode(packed.floats(numbers)), "<f4")
    np.testing.assert_array_equal(read, numbers.astype("f4").ravel())


def test_packed_ends_are_shares_of_the_farthest_and_an_endless_one_is_the_farthest():
    value = np.zeros(3)
    ends = packed.ends(value, np.array([-0.1, -0.2, 0.0]), np.array([0.0, 0.4, np.inf]))
    assert ends is not None
    assert ends["most"] == pytest.approx(math.log(1e4))
    lower, upper = (
        np.frombuffer(base64.b64decode(ends[end]), "<u2") / 65535 * ends["most"]
        for end in ("lower", "upper")
    )
    np.testing.assert_allclose(lower, [0.1, 0.2, 0.0], atol=1e-4)
    np.testing.assert_allclose(upper, [0.0, 0.4, math.log(1e4)], atol=1e-4)
    assert packed.ends(value, np.full(3, np.nan), np.full(3, np.nan)) is None

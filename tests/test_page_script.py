"""The page's functions of plain values, run by node and held against Python."""

import math

import node
import numpy as np
import pytest
from example_results import grid, make_results
from studies import STUDIES, offsets, one_axis, repeated

import scalepred
from scalepred.report import format, words
from scalepred.report.page import ask
from scalepred.report.page.law_table import LawTable, make_law_table
from scalepred.report.results import Results
from scalepred.table import numbers

PLACES = 200


def table_of(results: Results) -> LawTable:
    table = make_law_table(results)
    assert table is not None
    return table


def draw_places(table: LawTable) -> list[dict[str, float]]:
    """Random sizes within a table; sizes that the law knows nothing of are fixed."""
    rng = np.random.default_rng(0)
    drawn = {
        axis.name: np.exp(rng.uniform(axis.low, axis.high, PLACES)).tolist()
        for axis in table.axes
    }
    drawn |= {name: [size] * PLACES for name, size in table.fixed.items()}
    return [
        dict(zip(drawn, place, strict=True))
        for place in zip(*drawn.values(), strict=True)
    ]


def predict(results: Results, places: list[dict[str, float]]):
    sizes = {name: np.array([one[name] for one in places]) for name in places[0]}
    epochs = sizes.get("epochs") if "epochs" in results.fit.law.axes else None
    return results.fit.predict(sizes["params"], sizes["data"], epochs=epochs)


def check_law(results: Results, near_ends: float) -> None:
    """JavaScript's law is Python's, within 0.2% of values and `near_ends` of 95% ends.

    An end is a quantile of draws, which has a kink wherever two draws cross: of few
    draws it cannot be read between nodes as closely as the value.
    """
    table = table_of(results)
    places = draw_places(table)
    said = node.run(
        "given.places.map((place) => new page.Law(given.table).at(place))",
        {"table": table.record(), "places": places},
    )
    expected = predict(results, places)
    for name, most in (("value", 0.002), ("lower", near_ends), ("upper", near_ends)):
        read = np.array([float(one[name]) for one in said])
        off = np.abs(read / getattr(expected, name) - 1)
        assert np.quantile(off, 1.0 if name == "value" else 0.95) < most, name


@pytest.mark.parametrize("name", STUDIES)
def test_the_law_is_that_of_predict_at_random_places(name):
    check_law(STUDIES[name](), near_ends=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "about"),
    [("chinchilla_epoch", {}), ("laion_clip_best", {"task": "imagenet1k_zeroshot"})],
)
def test_the_law_is_that_of_predict_on_published_points(shared_data, file, about):
    path = shared_data / "measured" / f"{file}.csv"
    surface = scalepred.Surface.from_csv(path, **about)
    in_fit = surface.work < surface.work.max() / 50
    # With as many draws as pages have: of few an end moves more where two cross.
    fit = scalepred.fit(surface.where(in_fit))
    results = make_results("Published", surface, in_fit, fit, [])
    check_law(results, near_ends=0.005)
    # Far out upper ends are four times the lower ones.
    check_best(results, near_ends=0.015)


def check_best(results: Results, near_ends: float) -> None:
    """JavaScript's best split is Python's: 0.1% in value, 5% in sizes."""
    table = table_of(results)
    assert table.budgets is not None
    rng = np.random.default_rng(1)
    budgets = np.exp(rng.uniform(table.budgets.low, table.budgets.high, 25)).tolist()
    epochs = 3.0 if "epochs" in results.fit.law.axes else None
    said = node.run(
        "given.budgets.map((c) => new page.Law(given.table).best(c, given.sizes))",
        {"table": table.record(), "budgets": budgets, "sizes": {"epochs": epochs}},
    )
    for budget, read in zip(budgets, said, strict=True):
        answer = results.fit.best_for_budget(budget, epochs=epochs)
        assert read["value"][0] == pytest.approx(answer.value, rel=1e-3)
        assert read["params"][0] == pytest.approx(answer.details["params"][0], rel=0.05)
        assert read["data"][0] == pytest.approx(answer.details["data"][0], rel=0.05)
        assert read["value"][1:] == pytest.approx(
            [answer.lower, answer.upper], rel=near_ends
        )


@pytest.mark.parametrize("name", ["grid", "offsets", "repeated"])
def test_the_best_split_is_that_of_best_for_budget(name):
    check_best(STUDIES[name](), near_ends=0.05)


@pytest.mark.parametrize("make", [grid, repeated])
def test_flops_are_those_of_the_cost_and_data_are_what_they_buy(make):
    results = make()
    table = table_of(results)
    places = draw_places(table)
    said = node.run(
        "given.places.map((place) => {"
        " const law = new page.Law(given.table), budget = law.flops(place);"
        " return [budget, law.dataFor(budget, { ...place, data: 1 })]; })",
        {"table": table.record(), "places": places},
    )
    for place, (budget, data) in zip(places, said, strict=True):
        seen = place["data"] * place.get("epochs", 1.0)
        expected = float(results.fit.cost.flops(place["params"], seen))
        assert budget == pytest.approx(expected, rel=1e-3)
        assert data == pytest.approx(place["data"], rel=2e-3)


def test_data_needed_for_a_value_are_those_that_python_says():
    results = grid()
    table = table_of(results)
    values = [0.2, 0.1, 0.05]
    said = node.run(
        "given.values.map((value) => {"
        " const law = new page.Law(given.table);"
        " const data = law.needed(value, { params: 5e4 })[0];"
        " return [data, law.cheapest(value, {})[0]]; })",
        {"table": table.record(), "values": values},
    )
    for value, (data, budget) in zip(values, said, strict=True):
        needed = results.fit.data_needed(value, 5e4).value
        cheapest = results.fit.cheapest_for_target(value).value
        assert data == pytest.approx(needed, rel=2e-3)
        assert budget == pytest.approx(cheapest, rel=2e-3)


def test_a_value_below_the_floor_takes_more_than_the_table_has():
    text = say("sayNeeded(given.block, law, 1e-4, { params: 5e4 }).join(' ')", grid())
    assert "an error of 0.0100% with 50,000 parameters takes more than" in text
    assert "never" not in text


def say(expression: str, results: Results, **more) -> str:
    block = ask.data_block(results, table_of(results))
    start = "const law = new page.Law(given.block.law); return page."
    return node.run(f"(() => {{ {start}{expression}; }})()", {"block": block, **more})


@pytest.mark.parametrize("make", [grid, offsets, repeated])
def test_a_budget_is_answered_in_the_words_of_the_terminal(make):
    results = make()
    answer = next(a for a in results.answers if a.question == "best_for_budget")
    sizes = "{ epochs: given.epochs }"
    said = say(
        f"sayBest(given.block, law, given.budget, {sizes})",
        results,
        budget=answer.asked["budget"],
        epochs=answer.asked.get("epochs"),
    )
    assert said == words.describe_answer(answer, results.surface) + "."


@pytest.mark.parametrize("make", [grid, offsets, repeated, one_axis])
def test_a_target_is_told_in_the_words_of_the_terminal(make):
    results = make()
    row = words.targets(results)[0]
    said = say("sayValue(given.block, law, given.block.start)", results)
    assert said.startswith(words.describe_target(row, results))


def test_a_run_is_told_how_far_it_lies_beyond_fitted_and_checked_runs():
    results = grid()
    fitted, checked = (
        max(row.compute for row in results.predictions if row.region == region)
        for region in ("fit", "held_out")
    )
    expression = "sayDistance(given.block, law, given.sizes)"
    small = say(expression, results, sizes={"params": 1e3, "data": 1e3})
    assert small == "No larger in compute than the largest fitted run."
    far = say(expression, results, sizes={"params": 1e6, "data": 1e5})
    times = format.ratio(float(results.fit.cost.flops(1e6, 1e5)), fitted)
    assert far == (
        f"{times} times the largest fitted run in compute; predictions were checked "
        f"only up to {format.ratio(checked, fitted)} times."
    )
    curve = say(expression, one_axis(), sizes={"params": 5e4, "data": 1e6})
    assert "times the largest fitted run in data; " in curve


SIZES = [
    0.0, 0.5, 1.0, 2.5, 12.25, 99.95, 100.0, 999.5, 1000.0, 85002.0, 999_999.0, 1e6,
    1.125e6, 1.135e6, 57_216_000.0, 999.5e6, 1.005e9, 1.4e12, 5.6e12, 9.995e14, 1e15,
    3e21, 1e-3, 9.9e-4, 1.5e-7, -4.5, -0.0, math.inf, math.nan,
]  # fmt: skip


@pytest.mark.parametrize("name", ["count", "flops", "percent"])
def test_numbers_are_written_as_python_writes_them(name):
    rng = np.random.default_rng(0)
    given = SIZES + np.exp(rng.uniform(-8, 60, 500)).tolist()
    given += rng.integers(1, 2_000_000, 200).astype(float).tolist()
    given += (-np.exp(rng.uniform(-9, 9, 50))).tolist()
    if name == "percent":
        given = [
            one / 100 for one in given if abs(one) < 1e13 or not math.isfinite(one)
        ]
    said = node.run(
        f"given.map((x) => page.{name}(Number(x)))", [say_json(x) for x in given]
    )
    assert said == [getattr(format, name)(number) for number in given]


def say_json(number: float) -> str:
    return {"inf": "Infinity", "nan": "NaN"}.get(repr(number), repr(number))


@pytest.mark.parametrize("metric", ["error", "loss", "bits", "reward"])
def test_values_and_intervals_are_written_as_python_writes_them(metric):
    rng = np.random.default_rng(0)
    values = np.exp(rng.uniform(-10, 0 if metric == "error" else 8, 300))
    low, high = values * np.exp(-rng.uniform(0, 0.1, 300)), values * 1.02
    about = {
        "unit": format.find_unit(metric) if metric != "error" else "",
        "bounded": metric == "error",
    }
    said = node.run(
        "given.rows.map(([x, a, b]) => [page.measured(x, given.metric),"
        " page.ends(a, b, given.metric), page.span(a, b, page.count)])",
        {"rows": np.stack([values, low, high], 1).tolist(), "metric": about},
    )
    assert said == [
        [format.measured(x, metric), format.ends(a, b, metric), format.span(a, b)]
        for x, a, b in zip(values, low, high, strict=True)
    ]


def test_times_are_written_as_python_writes_them():
    drawn = np.exp(np.random.default_rng(0).uniform(-3, 25, 300))
    times = [*drawn.tolist(), 1.25, 54.5]
    said = node.run("given.map(page.ratio)", times)
    assert said == [format.ratio(number, 1.0) for number in times]


@pytest.mark.parametrize(
    "text",
    [
        *("1e21", "70B", "1.4T", "5%", "85,002", "1,234,567.5", "3.2B tokens", " 7 M "),
        *("12", "1_000", "2.5e-3", "10 thousand", "1.5 trillion", "+4", "250k params"),
        *("5.", "1E6"),
    ],
)
def test_numbers_are_read_as_python_reads_them(text):
    assert node.run("page.parse(given)", text) == pytest.approx(numbers.parse(text))


@pytest.mark.parametrize(
    "text", ["", "abc", "1e", "12 apples", "1,23", "--3", "1.2.3", "B"]
)
def test_what_is_no_number_is_none(text):
    assert node.run("page.parse(given)", text) == "NaN"


def test_spaces_are_left_out_of_the_script_where_they_say_nothing():
    told = """
      /** Not a word. */
      function say(x, y) {
        const text = `${x} and (${y})`; const other = "a = b, c"; // why
        const half = (x + y) / 2;
        const isOne = /^a (b|c) /.test(text);
        const sign = "a \\" / b" + "\\u2212 / ";
        return x < y
          ? [x, -y, x - y + -x]
          : { text, other };
      }
    """
    assert ask.squeeze(told).splitlines() == [
        'function say(x,y){const text = `${x} and (${y})`; const other = "a = b, c"; '
        "// why",
        "const half=(x+y)/2;const isOne = /^a (b|c) /.test(text);",
        'const sign = "a \\" / b" + "\\u2212 / ";',
        "return x<y",
        "?[x,-y,x-y + -x]",
        ":{text,other};}",
    ]


def test_the_script_of_the_page_says_nothing_to_readers_and_ends_no_element():
    text = ask.script()
    assert "/**" not in text
    assert "</script" not in text
    assert "innerHTML" not in text
    assert "eval(" not in text
    assert len(text) < 34_000
    assert text.startswith('"use strict"')

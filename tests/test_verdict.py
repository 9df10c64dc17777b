"""The three cards: the word that each kind of study gets, and what was measured."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from example_results import ODD, grid, make_results, make_surface

import scalepred
from scalepred.fitting.warn import Warn
from scalepred.report import verdict
from scalepred.report.beside import beside
from scalepred.report.results import Results
from scalepred.report.verdict.card import Card
from scalepred.report.verdict.trust import share_that_falls


def _card(results: Results, name: str) -> Card:
    return next(card for card in verdict.cards(results) if card.name == name)


def _with_rows(results: Results, change) -> Results:
    """The results with other held-out predictions."""
    rows = [
        change(row) if row.region == "held_out" else row for row in results.predictions
    ]
    return dataclasses.replace(results, predictions=rows)


def _off_by(factor: float, width: float = 1.5):
    def change(row):
        predicted = row.measured * factor
        return dataclasses.replace(
            row,
            predicted=predicted,
            lower=predicted / width,
            upper=predicted * width,
            relative_error=factor - 1,
        )

    return change


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "nasty"])
def test_every_study_gets_three_cards(kind):
    found = verdict.cards(ODD[kind]())
    assert [card.name for card in found] == ["trust", "need", "worth"]
    for card in found:
        assert card.question.endswith("?")
        assert card.headline
        assert card.sentences
        for text in (card.question, card.headline, *card.sentences, card.badge):
            assert "nan" not in text
            assert "inf" not in text
            assert "e+" not in text
    assert found[0].verdict in ("yes", "care", "no", "unchecked")


def test_trust_is_by_what_was_held_out():
    assert _card(grid(), "trust").verdict == "yes"
    assert _card(grid(), "trust").headline.startswith("Yes, up to 17 times")
    said = " ".join(_card(_with_rows(grid(), _off_by(1.02)), "trust").sentences)
    assert "15 sizes it never saw: typically 2.0% off" in said
    assert "always too high" in said
    assert "15 of 15" in said

    narrow = _card(_with_rows(grid(), _off_by(1.02, width=1.01)), "trust")
    assert narrow.verdict == "no"
    assert "0 of 15" in " ".join(narrow.sentences)
    for factor, word in ((1.8, "care"), (4.0, "no")):
        wrong = _card(_with_rows(grid(), _off_by(factor, width=4.0)), "trust")
        assert wrong.verdict == word
        assert "typical error" in " ".join(wrong.sentences)


def test_half_of_the_intervals_is_no_and_most_of_them_is_care():
    def miss(number: int) -> str:
        seen = iter(range(15))

        def change(row):
            width = 1.01 if next(seen) < number else 1.5
            return _off_by(1.02, width)(row)

        return _card(_with_rows(grid(), change), "trust").verdict

    assert miss(3) == "yes"  # 80 % are inside
    assert miss(4) == "care"
    assert miss(8) == "no"


def test_nothing_held_out_is_unchecked_and_says_how_to_check():
    card = _card(ODD["few_points"](), "trust")
    assert card.verdict == "unchecked"
    assert "--fit_max_compute_ratio" in " ".join(card.sentences)
    failed = Warn("back_test_failed", "it missed")
    warned = dataclasses.replace(
        ODD["few_points"](),
        fit=dataclasses.replace(ODD["few_points"]().fit, extra_warnings=(failed,)),
    )
    assert _card(warned, "trust").verdict == "no"


def test_a_target_that_was_trained_is_a_check():
    rows = [
        dataclasses.replace(
            row, measured=row.predicted * 1.01, relative_error=1 / 1.01 - 1
        )
        if row.region == "target"
        else row
        for row in grid().predictions
        if row.region != "held_out"
    ]
    made = dataclasses.replace(grid(), predictions=rows, answers=[])
    card = _card(made, "trust")
    assert card.verdict == "yes"
    assert card.headline == "Yes, up to 11,000 times the largest fitted run"
    assert card.sentences[0] == "1 size it never saw: 1.0% off"
    assert card.badge == ""


@functools.cache
def _curve(kind: str) -> Results:
    """A learning curve that falls, rises, or falls and rises."""
    data = np.geomspace(1e3, 1e6, 12)
    along = np.linspace(0, 1, 12)
    value = {
        "falls": 0.1 + 0.5 * (data / 1e3) ** -0.4,
        "rises": 0.1 + 0.5 * along,
        "bends": 0.2 + 0.6 * np.abs(along - 0.45),
    }[kind]
    surface = scalepred.Surface.from_arrays(
        np.full(12, 1e5), data, value, task="curve", data_unit="images"
    )
    fit = scalepred.fit(surface, "power", resamples=30)
    answers = [] if kind == "rises" else [fit.data_needed(0.3, 1e5)]
    return make_results("curve", surface, np.ones(12, bool), fit, answers)


def test_values_that_do_not_fall_with_size_are_no():
    assert share_that_falls(_curve("falls")) == 1
    assert share_that_falls(_curve("rises")) == 0
    assert _card(_curve("falls"), "trust").verdict == "unchecked"
    for kind in ("rises", "bends"):
        card = _card(_curve(kind), "trust")
        assert card.verdict == "no"
        assert card.headline.startswith("No: ")


def test_what_cannot_be_trusted_is_no_advice():
    _, need, worth = verdict.cards(_curve("rises"))
    for card in (need, worth):
        assert card.verdict == ""
        assert "cannot be trusted" in card.badge
    assert worth.headline == "This fit cannot say"


def test_a_question_far_beyond_the_checks_is_told():
    assert "18,000 times" in _card(grid(), "trust").badge
    near = [row for row in grid().predictions if row.region != "target"]
    near = dataclasses.replace(grid(), predictions=near, answers=[])
    assert _card(near, "trust").badge == ""


def test_need_answers_what_was_asked_first():
    assert "error of 10%" in _card(grid(), "need").question
    about_target = dataclasses.replace(grid(), answers=[])
    assert "1M parameters" in _card(about_target, "need").question
    nothing = [row for row in grid().predictions if row.region != "target"]
    nothing = dataclasses.replace(about_target, predictions=nothing)
    assert "twice as many" in _card(nothing, "need").question


def test_worth_follows_what_ten_times_the_compute_brings():
    def worth(floor: float) -> str:
        params, data = np.meshgrid(np.geomspace(1e3, 1e6, 5), np.geomspace(1e3, 1e6, 5))
        m, n = params.ravel(), data.ravel()
        value = floor + 1.0 * m**-0.4 + 2.0 * n**-0.4
        surface = scalepred.Surface.from_arrays(m, n, value, metric="loss")
        fit = scalepred.fit(surface, "chinchilla", resamples=0)
        made = make_results("w", surface, np.ones(25, bool), fit, [])
        return _card(made, "worth").verdict

    assert worth(0.001) == "yes"
    assert worth(0.5) == "care"
    assert worth(5.0) == "no"


def test_the_runs_own_answer_stands_beside():
    """Between two runs on a straight line in logarithms, by hand."""
    answer = _curve("falls").answers[0]
    seen = beside(_curve("falls"), answer)
    assert seen is not None
    data, value = _curve("falls").surface.data, _curve("falls").surface.value
    i = int(np.argmax(value <= 0.3))
    share = math.log(value[i - 1] / 0.3) / math.log(value[i - 1] / value[i])
    assert seen.value == pytest.approx(data[i - 1] * (data[i] / data[i - 1]) ** share)
    assert seen.value == pytest.approx(answer.value, rel=0.1)
    assert "images" in seen.sentence

    unreached = dataclasses.replace(answer, asked={**answer.asked, "value": 0.01})
    seen = beside(_curve("falls"), unreached)
    assert seen is not None
    assert seen.value == math.inf
    elsewhere = dataclasses.replace(answer, asked={**answer.asked, "params": 3e5})
    assert beside(_curve("falls"), elsewhere) is None


def test_budgets_stand_beside_runs_that_cost_as_much():
    fit = grid().fit
    rows = [row for row in grid().predictions if row.region != "target"]
    largest = max(row.compute for row in rows)
    seen = beside(grid(), fit.best_for_budget(largest))
    assert seen is not None
    assert seen.value == min(row.measured for row in rows)
    assert beside(grid(), fit.best_for_budget(10 * largest)) is None
    cheapest = beside(grid(), fit.cheapest_for_target(0.1))
    assert cheapest is not None
    reached = [row.compute for row in rows if row.measured <= 0.1]
    assert cheapest.value == min(reached)


def test_a_surface_of_one_size_a_point_is_no_reason_to_doubt():
    surface = make_surface(np.array([1e3] * 5), np.array([1e3] * 5))
    made = dataclasses.replace(grid(), surface=surface)
    assert share_that_falls(made) == 1

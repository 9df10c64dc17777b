"""Answers against closed forms of the paper (paper.md 6.1) and against the law."""

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalepred
from scalepred.config import UserError
from scalepred.fitting import answers, backtest
from scalepred.fitting.cost import Cost
from scalepred.fitting.laws import Scale, chinchilla, rosenfeld
from scalepred.fitting.predict import FittedLaw, Noise
from tests import published


def make_fitted(row: published.Row, draws: int = 0, spread: float = 0.0) -> FittedLaw:
    """The published law itself, sizes in fractions of the baseline."""
    theta = np.log([1 / row.eta, row.alpha, row.b / row.eta, row.beta, row.c / row.eta])
    rng = np.random.default_rng(0)
    return FittedLaw(
        law=rosenfeld,
        theta=theta,
        draws=theta + spread * rng.standard_normal((draws, 5)),
        scale=Scale(np.log(row.guess), 0.0, 0.0),
        params_unit=1.0,
        data_unit=1.0,
        misfit=0.0,
        growth=1.0,
        noise=Noise(0.0, 0.0, 1.0),
        seed=0,
    )


IMAGENET = published.BY_NAME["ImageNet"]


def inner(row: published.Row, value: float) -> float:
    """t at which the envelope has `value`: the exact inverse of Eq. 5."""
    ratio = value / row.guess
    return row.eta * ratio / math.sqrt(1 - ratio**2)


def test_worked_numbers_of_imagenet():
    """Target error .25 and .30, to all digits given in paper.md 6.1."""
    assert inner(IMAGENET, 0.25) == pytest.approx(4.7828, abs=5e-5)
    assert inner(IMAGENET, 0.30) == pytest.approx(5.8256, abs=5e-5)
    fitted = make_fitted(IMAGENET)
    for value, least_params, least_data, data in (
        (0.25, 0.501, 0.828, 3.40),
        (0.30, 0.175, 0.352, 0.616),
    ):
        without_limit = answers.params_needed(fitted, value, 1e30)
        assert without_limit.value == pytest.approx(least_params, abs=5e-4)
        without_limit = answers.data_needed(fitted, value, 1e30, "fractions")
        assert without_limit.value == pytest.approx(least_data, abs=5e-4)
        at_baseline = answers.data_needed(fitted, value, 1.0, "fractions")
        assert at_baseline.value == pytest.approx(data, rel=2e-3)
        assert at_baseline.reachable


# paper.md 6.1: m*, n*, work saved to, exponents of m and n in compute.
OPTIMA = {
    "ImageNet": (0.665, 1.376, 0.915, 0.552, 0.448),
    "CIFAR100": (0.0503, 2.84, 0.143, 0.582, 0.418),
    "WikiText-103": (0.225, 2.13, 0.479, 0.569, 0.431),
    "CIFAR10": (0.0136, 3.11, 0.0423, 0.551, 0.449),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_cheapest_split_of_the_paper(name):
    row = published.BY_NAME[name]
    fitted = make_fitted(row)
    params, data, work, params_power, data_power = OPTIMA[name]
    value = float(published.envelope(row, 1.0, 1.0))
    cheapest = answers.cheapest_for_target(fitted, value, Cost(1.0), "fractions")
    assert cheapest.value == pytest.approx(work, rel=6e-3)
    assert cheapest.details["params"][0] == pytest.approx(params, rel=6e-3)
    assert cheapest.details["data"][0] == pytest.approx(data, rel=6e-3)

    # The same split from the budget's side, and the closed-form condition.
    best = answers.best_for_budget(fitted, cheapest.value, Cost(1.0), "fractions")
    m, n = best.details["params"][0], best.details["data"][0]
    assert best.value == pytest.approx(value, rel=1e-9)
    assert m * n == pytest.approx(cheapest.value, rel=1e-9)
    ratio = row.b * row.beta / row.alpha * n**row.alpha / m**row.beta
    assert ratio == pytest.approx(1.0, rel=1e-6)
    assert m == pytest.approx(cheapest.details["params"][0], rel=1e-6)

    more = answers.best_for_budget(fitted, 100 * cheapest.value, Cost(1.0), "fractions")
    growth = math.log(more.details["params"][0] / m) / math.log(100)
    assert growth == pytest.approx(params_power, abs=6e-4)
    assert 1 - growth == pytest.approx(data_power, abs=6e-4)


@settings(max_examples=25)
@given(
    value=st.floats(0.06, 0.85),
    size=st.floats(-4, 4),
    name=st.sampled_from(["CIFAR10", "CIFAR100", "UCF101"]),
)
def test_inverse_gives_back_the_value(value, size, name):
    fitted = make_fitted(published.BY_NAME[name])
    other = math.exp(size)
    for ask, place in (
        (lambda: answers.data_needed(fitted, value, other, "x"), (other, None)),
        (lambda: answers.params_needed(fitted, value, other), (None, other)),
    ):
        answer = ask()
        if not answer.reachable:
            assert answer.value == math.inf
            params, data = (math.e**60 if p is None else p for p in place)
            assert math.exp(fitted.log_value(params, data)) > value
            assert "out of reach" in answer.why
            continue
        params, data = (answer.value if p is None else p for p in place)
        assert math.exp(fitted.log_value(params, data)) == pytest.approx(
            value, rel=1e-9
        )


def test_budget_beats_every_other_split():
    fitted = make_fitted(published.BY_NAME["WikiText-103"])
    best = answers.best_for_budget(fitted, 3.0, Cost(1.0), "tokens")
    params = np.geomspace(1e-4, 1e4, 2001)
    on_line = np.exp(fitted.log_value(params, 3.0 / params))
    assert best.value <= on_line.min() * (1 + 1e-12)
    assert best.value == pytest.approx(on_line.min(), rel=1e-5)


def test_chinchilla_optimum_in_closed_form():
    e, a, alpha, b, beta = 1.69, 406.4, 0.34, 410.7, 0.28
    fitted = FittedLaw(
        chinchilla, np.log([e, a, alpha, b, beta]), np.empty((0, 5)),
        Scale(0.0, 0.0, 0.0), 1.0, 1.0, 0.0, 1.0, Noise(0.0, 0.0, 1.0), 0,
    )  # fmt: skip
    budget = 5.76e23
    best = answers.best_for_budget(fitted, budget, Cost(6.0), "tokens")
    factor = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    assert best.details["params"][0] == pytest.approx(
        factor * (budget / 6) ** (beta / (alpha + beta)), rel=1e-8
    )
    assert best.details["data"][0] == pytest.approx(
        (budget / 6) ** (alpha / (alpha + beta)) / factor, rel=1e-8
    )


def test_intervals_grow_beyond_the_reach_of_the_fit():
    plain = make_fitted(published.BY_NAME["CIFAR100"], draws=200, spread=0.02)
    everywhere = dataclasses.replace(plain, growth=3.0)
    beyond = dataclasses.replace(everywhere, reach=math.log(0.02))
    middle = float(np.median(backtest._RATIOS))
    params = np.array([0.001, 0.1, 0.1 * middle**0.5, 0.1 * middle, 500.0])
    one, three, grown = (
        np.log(fitted.predict(params, 0.2).mean_lower) - fitted.log_value(params, 0.2)
        for fitted in (plain, everywhere, beyond)
    )
    np.testing.assert_allclose(three, 3 * one)
    np.testing.assert_allclose(grown, np.array([1, 1, 2, 3, 3]) * one)


def test_intervals_are_not_narrowed_where_no_back_test_went():
    plain = make_fitted(published.BY_NAME["CIFAR100"], draws=200, spread=0.02)
    tested = math.log(40.0)
    known = dataclasses.replace(plain, reach=math.log(0.02), tested=tested)
    params = 0.1 * np.exp(tested * np.array([-1.0, 0.5, 1.0, 1.5, 3.0]))
    as_drawn = np.log(plain.predict(params, 0.2).mean_lower) - plain.log_value(
        params, 0.2
    )
    for growth, at_half, far in ((0.5, 0.5, 1.25), (1.0, 1.0, 1.25), (3.0, 3.0, 3.75)):
        fitted = dataclasses.replace(known, growth=growth)
        lower = np.log(fitted.predict(params, 0.2).mean_lower)
        times = (lower - fitted.log_value(params, 0.2)) / as_drawn
        full = min(1.0, tested / 2 / math.log(12.0))  # of what back-tests say, at half
        np.testing.assert_allclose(times[0], 1.0)
        np.testing.assert_allclose(times[1], 1 + (at_half - 1) * full)
        np.testing.assert_allclose(times[2], (growth + far) / 2)
        np.testing.assert_allclose(times[3:], far)


ENDS = "lower", "upper"


def test_half_of_the_draws_lie_in_the_inner_interval():
    fitted = make_fitted(published.BY_NAME["CIFAR100"], draws=400, spread=0.05)
    fitted = dataclasses.replace(fitted, noise=Noise(0.05, 0.0, 0.3), misfit=0.02)
    params, data = np.array([0.1, 1.0, 30.0]), np.array([0.2, 5.0, 5.0])
    said = fitted.predict(params, data)
    alone = fitted.predict(params[1], data[1])
    np.testing.assert_array_equal([field[1] for field in said], alone)
    for seeds, kind in ((1, ""), (math.inf, "mean_")):
        for level, share in (("", 0.9), ("_50", 0.5)):
            low, high = (getattr(said, f"{kind}{end}{level}") for end in ENDS)
            below = fitted.probability(np.stack([low, high]), params, data, seeds)
            np.testing.assert_allclose(below[1] - below[0], share, atol=0.005)
            assert np.all(low < said.value)
            assert np.all(said.value < high)


def test_probability_of_a_normal_noise_in_closed_form():
    fitted = make_fitted(IMAGENET, draws=20_000)  # all draws are the best fit
    fitted = dataclasses.replace(fitted, noise=Noise(0.02, 0.0, 0.3))
    center = float(fitted.log_value(0.5, 0.5))
    for seeds in (1, 4):
        value = np.exp(center + 0.02 / math.sqrt(seeds) * np.array([-1.0, 0.0, 2.0]))
        found = fitted.probability(value, 0.5, 0.5, seeds)
        np.testing.assert_allclose(found, [0.1587, 0.5, 0.9772], atol=0.012)
    # Of the true mean, and of several sizes and values at once.
    exact = math.exp(center) * np.array([[0.999], [1.001]])
    found = fitted.probability(exact, np.array([0.5, 0.5, 50.0]), 0.5, math.inf)
    np.testing.assert_array_equal(found, [[0, 0, 1], [1, 1, 1]])
    silent = make_fitted(IMAGENET).probability(np.ones(2), 1.0, 1.0)
    assert silent.shape == (2,)
    assert np.all(np.isnan(silent))


def test_whether_a_budget_suffices_is_asked_at_the_split_one_would_train():
    fitted = make_fitted(published.BY_NAME["CIFAR100"], draws=400, spread=0.05)
    fitted = dataclasses.replace(fitted, noise=Noise(0.1, 0.0, 0.3))
    best = answers.best_for_budget(fitted, 0.5, Cost(1.0), "images")
    found = [
        answers.budget_suffices(fitted, ratio * best.value, 0.5, Cost(1.0), "images")
        for ratio in (0.8, 0.97, 1.03, 1.2)
    ]
    chances = [one.value for one in found]
    assert chances == sorted(chances)
    assert chances[0] < 0.1 < chances[1] < 0.5 < chances[2] < 0.9 < chances[3]
    assert [one.reachable for one in found] == [False, False, True, True]
    for one, chance in zip(found, chances, strict=True):
        assert one.lower == one.upper == chance
        m, n = one.details["params"][0], one.details["data"][0]
        assert m == best.details["params"][0]
        assert n == best.details["data"][0]
        assert chance == fitted.probability(one.asked["value"], m, n, math.inf)
        # One run's noise leaves less certain what is likely or unlikely on average.
        assert abs(one.details["one_run"][0] - 0.5) <= abs(chance - 0.5)
        assert f"with probability {chance:.2f}" in one.why
        assert f"{100 * one.asked['value']:.4g}% or less" in one.why
    unknown = answers.budget_suffices(make_fitted(IMAGENET), 0.3, 0.5, Cost(1.0), "x")
    assert math.isnan(unknown.value)
    assert "not known" in unknown.why
    with pytest.raises(UserError, match="value=0"):
        answers.budget_suffices(fitted, 0.0, 0.5, Cost(1.0), "images")


def test_unreachable_is_an_answer():
    row = published.BY_NAME["CIFAR100"]  # ends at 0.1009
    fitted = make_fitted(row, draws=200, spread=0.02)
    for answer in (
        answers.data_needed(fitted, 0.05, 1.0, "images"),
        answers.params_needed(fitted, 0.05, 1.0),
        answers.cheapest_for_target(fitted, 0.05, Cost(1.0), "images"),
    ):
        assert not answer.reachable
        assert answer.value == answer.upper == math.inf
        assert "out of reach" in answer.why
    # Between: some draws reach it and some do not.
    limit = math.exp(fitted.log_value(1.0, 1e30))
    answer = answers.data_needed(fitted, limit * 1.005, 1.0, "images")
    assert answer.reachable
    assert answer.lower < answer.value < answer.upper == math.inf
    assert "pessimistic" in answer.why


def test_intervals_hold_the_answer_and_grow_with_the_spread():
    row = published.BY_NAME["ImageNet"]
    widths = []
    for spread in (0.01, 0.05):
        fitted = make_fitted(row, draws=400, spread=spread)
        answer = answers.data_needed(fitted, 0.3, 1.0, "images")
        assert answer.lower < answer.value < answer.upper
        widths.append(math.log(answer.upper / answer.lower))
        best = answers.best_for_budget(fitted, 1.0, Cost(1.0), "images")
        assert best.lower < best.value < best.upper
        low, high = best.details["params"][1:]
        assert low < best.details["params"][0] < high
    assert widths[1] > 3 * widths[0]


def test_bad_questions():
    fitted = make_fitted(IMAGENET)
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="must be a positive number"):
            answers.data_needed(fitted, bad, 1.0, "images")
        with pytest.raises(UserError, match="must be a positive number"):
            answers.best_for_budget(fitted, bad, Cost(1.0), "images")


def fit_with_compute(compute) -> scalepred.Fit:
    m, n, value = published.grid(IMAGENET)
    surface = scalepred.Surface.from_arrays(
        m, n, value, random_guess=0.999, compute=compute(m, n)
    )
    return scalepred.fit(surface, "rosenfeld", resamples=0)


def test_cost_is_read_from_the_table():
    found = fit_with_compute(lambda m, n: 12.0 * m * n)
    assert found.cost == pytest.approx(Cost(12.0))
    best = found.best_for_budget(12.0)
    assert best.details["params"][0] * best.details["data"][0] == pytest.approx(1.0)


def test_a_fixed_number_of_steps_makes_data_free():
    found = fit_with_compute(lambda m, n: 12.0 * m)
    assert found.cost == pytest.approx(Cost(12.0, 1.0, 0.0))
    best = found.best_for_budget(6.0, max_data=1.5)
    assert best.details["params"][0] == pytest.approx(0.5)
    assert best.details["data"][0] == pytest.approx(1.5)
    assert "data cost no FLOPs" in best.why
    with pytest.raises(UserError, match="max_data: needed"):
        found.best_for_budget(6.0)
    with pytest.raises(UserError, match="max_data: needed"):
        found.budget_suffices(0.3, 6.0)
    assert found.budget_suffices(0.9, 6.0, max_data=1.5).details["data"][0] == 1.5
    cheapest = found.cheapest_for_target(0.3, max_data=1.5)
    assert cheapest.value == pytest.approx(
        12 * found.params_needed(0.3, data=1.5).value, rel=1e-9
    )


def test_data_may_run_out():
    fitted = make_fitted(IMAGENET)
    free = answers.best_for_budget(fitted, 4.0, Cost(1.0), "images")
    assert free.details["data"][0] > 1.5
    capped = answers.best_for_budget(fitted, 4.0, Cost(1.0), "images", max_data=1.5)
    assert capped.details["data"][0] == pytest.approx(1.5)
    assert capped.details["params"][0] == pytest.approx(4.0 / 1.5)
    assert capped.value > free.value
    assert "there are no more" in capped.why


@settings(max_examples=10)
@given(p=st.floats(0.5, 2.0), q=st.floats(0.5, 2.0), budget=st.floats(0.1, 100.0))
def test_other_powers_of_cost_beat_every_other_split_too(p, q, budget):
    fitted = make_fitted(published.BY_NAME["CIFAR100"])
    best = answers.best_for_budget(fitted, budget, Cost(1.0, p, q), "images")
    params = np.geomspace(1e-5, 1e5, 2001)
    data = (budget / params**p) ** (1 / q)
    on_line = np.exp(fitted.log_value(params, data))
    assert best.value <= on_line.min() * (1 + 1e-12)


def test_one_axis_laws_answer_for_their_axis_only():
    n = np.array([10.0, 20, 40, 80, 160, 320])
    surface = scalepred.Surface.from_arrays(np.full(6, 7.0), n, 0.1 + n**-0.5)
    found = scalepred.fit(surface, "power", resamples=0)
    assert found.data_needed(0.15, 7.0).value == pytest.approx(400.0, rel=1e-4)
    for ask in (
        lambda: found.params_needed(0.15, 100.0),
        lambda: found.best_for_budget(100.0),
        lambda: found.cheapest_for_target(0.15),
        lambda: found.budget_suffices(0.15, 100.0),
    ):
        with pytest.raises(UserError, match="knows nothing of params"):
            ask()


def test_an_answer_is_written_as_people_write_numbers():
    fitted = make_fitted(IMAGENET)
    answers_of_all = [
        answers.data_needed(fitted, 0.4, 2.5e7, "images"),
        answers.data_needed(fitted, 1e-6, 2.5e7, "images"),
        answers.best_for_budget(fitted, 5.75e19, Cost(6.0), "images", "error"),
        answers.budget_suffices(fitted, 0.4, 5.75e19, Cost(6.0), "images"),
        answers.cheapest_for_target(fitted, 0.4, Cost(6.0), "images"),
    ]
    for answer in answers_of_all:
        text = repr(answer) + answer.why
        assert not re.search(r"e\+|\binf\b|nan|(?<!e)-\d", text), text
    assert repr(answers_of_all[0]).startswith(
        "Answer(data_needed(value=0.4, params=25M):\n"
    )
    assert "with 25M parameters, however many data" in answers_of_all[1].why
    assert "budget=5.75e19" in repr(answers_of_all[2])

"""What a run costs by its sizes, read from tables whose costs are known."""

import csv
import io
import itertools
import json
import pathlib
import warnings

import numpy as np
import pytest
import scipy.optimize
from etils import epath
from example_results import make_results
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

import scalepred
from scalepred.config import UserError
from scalepred.fitting import answers
from scalepred.fitting.cost import Cost, Growth
from scalepred.fitting.cost_reading import read_cost
from scalepred.fitting.laws import Scale, chinchilla
from scalepred.fitting.predict import FittedLaw, Noise
from scalepred.report import console, format, results
from scalepred.report import words as say
from scalepred.table.surface import Surface

PARAMS, DATA = (1e7, 3e7, 1e8, 3e8, 1e9), (2e8, 6e8, 2e9, 6e9, 2e10)
M, N = np.array(list(itertools.product(PARAMS, DATA))).T
LARGE = np.geomspace(1e9, 1e13, 20)


def width(m):
    """Of a decoder 64 times as wide as deep, of 12 width^2 parameters a layer."""
    return (64 * m / 12) ** (1 / 3)


def embedded(words):
    """Small models are mostly embeddings, which m leaves out."""
    return lambda m, n: 6 * (m + words * width(m)) * n


def attending(m, n):
    """Over 4096 positions."""
    return 6 * (m + 4096 * width(m) ** 2 / 64) * n


def total(m, n):
    """FLOPs leave embeddings out, which m counts."""
    own = np.geomspace(1e4, 1e14, 400_001)
    log_own = np.interp(np.log(m), np.log(own + 50304 * width(own)), np.log(own))
    return 6 * np.exp(log_own) * n


def law(m, n):
    return 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28


FITTED = FittedLaw(
    chinchilla, np.log([1.69, 406.4, 0.34, 410.7, 0.28]), np.empty((0, 5)),
    Scale(0.0, 0.0, 0.0), 1.0, 1.0, 0.0, 1.0, Noise(0.0, 0.0, 1.0), 0,
)  # fmt: skip


def surface_of(cost, m=M, n=N, digits=6, noise=0.0, seed=0):
    """Loss by the law above; FLOPs are rounded, as tables have them."""
    shift = noise * np.random.default_rng(seed).standard_normal(len(m))
    flops = [float(f"{one:.{digits}g}") for one in cost(m, n) * np.exp(shift)]
    return Surface.from_arrays(m, n, law(m, n), metric="loss", compute=flops)


def best(cost, budget):
    """Model, data and loss under a true cost, by search."""

    def data(m):
        def excess(log_n):
            return np.log(cost(m, np.exp(log_n)) / budget)

        found = scipy.optimize.root_scalar(excess, bracket=(0.0, 60.0), xtol=1e-12)
        return np.exp(found.root)

    found = scipy.optimize.minimize_scalar(
        lambda x: law(np.exp(x), data(np.exp(x))),
        bounds=(np.log(1e8), np.log(1e13)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    m = np.exp(found.x)
    return m, data(m), found.fun


KNOWN = {
    "50,304 words": embedded(50304),
    "128,256 words": embedded(128_256),
    "attention": attending,
    "multiply-adds": lambda m, n: embedded(50304)(m, n) / 3,
    "total parameters": total,
    "a falling share is active": lambda m, n: 6 * m * (m / 1e7) ** -0.15 * n,
    "the same, all active in the largest": lambda m, n: 6 * m * (m / 1e9) ** -0.15 * n,
    "small data are repeated": lambda m, n: 6 * m * n * (1 + (1e9 / n) ** 0.5),
    "a start-up cost": lambda m, n: embedded(50304)(m, n + 1e9),
    "plain": lambda m, n: 6 * m * n,
    "a dear datum": lambda m, n: 3e5 * m * n,
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("budget", [1e21, 1e24, 1e26])
def test_the_best_split_under_a_cost_that_is_read(name, budget):
    cost = KNOWN[name]
    budget *= cost(1e9, 1e12) / 6e21
    reading = read_cost(surface_of(cost))
    assert reading.cost.flops(M, N) == pytest.approx(cost(M, N), rel=1e-5)
    assert reading.scatter < 1e-5
    found = answers.best_for_budget(FITTED, budget, reading.cost, "tokens", "loss")
    m, n, value = best(cost, budget)
    assert found.details["params"][0] == pytest.approx(m, rel=2e-3)
    assert found.details["data"][0] == pytest.approx(n, rel=2e-3)
    assert found.value == pytest.approx(value, rel=1e-5)
    spent = reading.cost.flops(found.details["params"][0], found.details["data"][0])
    assert spent == pytest.approx(budget, rel=1e-9)
    back = answers.cheapest_for_target(FITTED, found.value, reading.cost, "tokens")
    assert back.value == pytest.approx(budget, rel=1e-6)
    assert back.details["params"][0] == pytest.approx(m, rel=5e-3)


def test_numbers_of_a_table_that_counts_embeddings():
    fit = scalepred.fit(surface_of(embedded(50304)), "chinchilla", resamples=0)
    for budget, *right in (
        (1e24, 4.148e10, 3.988e12, 1.9114),
        (1e22, 5.25e9, 3.08e11, None),
    ):
        found = fit.best_for_budget(budget)
        assert found.details["params"][0] == pytest.approx(right[0], rel=2e-3)
        assert found.details["data"][0] == pytest.approx(right[1], rel=2e-3)
        if right[2]:
            assert found.value == pytest.approx(right[2], abs=1e-4)
    assert float(fit.cost.flops(2e11, 4e12)) == pytest.approx(4.81e24, rel=1e-3)
    assert str(fit.cost) == "6 (m + 8.79e4 m^0.333) n FLOPs"


def test_terms_of_two_kinds_are_met_within_some_per_cent():
    def both(m, n):
        return embedded(50304)(m, n) + attending(m, n) - 6 * m * n

    reading = read_cost(surface_of(both))
    ratio = reading.cost.flops(LARGE, 1e12) / both(LARGE, 1e12)
    assert np.all((ratio > 0.99) & (ratio < 1.09))


def test_a_narrow_table_is_not_read_below_the_floor():
    m, n = np.array(list(itertools.product(
        (1e8, 2e8, 4e8, 8e8, 1.6e9), (2e9, 4e9, 8e9, 1.6e10, 3.2e10)
    ))).T  # fmt: skip
    cost = embedded(50304)
    for digits in (2, 3, 6):
        reading = read_cost(surface_of(cost, m, n, digits))
        ratio = reading.cost.flops(LARGE, 1e12) / cost(LARGE, 1e12)
        assert np.all((ratio > 0.98) & (ratio < 1.06))


@pytest.mark.parametrize("name", ["50,304 words", "attention", "plain"])
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_noise_errs_on_the_dear_side(name, noise):
    """And what is left open holds the truth."""
    cost = KNOWN[name]
    ratios, holds = [], []
    for seed in range(10):
        reading = read_cost(surface_of(cost, noise=noise, seed=seed))
        ratio = float(reading.cost.flops(1e11, 1e12)) / cost(1e11, 1e12)
        assert 1 - 4 * noise < ratio < 1 + 8 * noise
        ratios.append(ratio)
        assert reading.scatter == pytest.approx(noise, rel=0.5)
        low, high = (end * ratio for end in reading.spread(1e11, 1e12))
        holds.append(low - 0.5 * noise <= 1 <= high + 0.5 * noise)
    assert np.mean(holds) >= 0.8
    assert np.mean(ratios) > 1 - noise / 4


@settings(max_examples=60, deadline=None)
@given(
    share=st.floats(0.01, 20.0),
    power=st.floats(0.0, 0.95),
    noise=st.sampled_from([0.0, 0.003, 0.03]),
    num_params=st.integers(2, 6),
    num_data=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_dense_cost_keeps_its_floor_and_rises_with_both_sizes(
    share, power, noise, num_params, num_data, seed
):
    """What is counted beside 6 m n is share times that at m = 1e8."""
    m, n = np.array(list(itertools.product(
        np.geomspace(1e7, 1e9, num_params), np.geomspace(2e8, 2e10, num_data)
    ))).T  # fmt: skip

    def cost(m, n):
        return 6 * m * n * (1 + share * (m / 1e8) ** (power - 1))

    floor = 6.0 * np.exp(-4 * noise)
    reading = read_cost(surface_of(cost, m, n, 5, noise, seed))
    sizes, data = np.geomspace(1e6, 1e14, 50)[:, None], np.geomspace(1e7, 1e15, 40)
    for one in reading[:2]:
        flops = one.flops(sizes, data)
        assert np.all(np.diff(flops, axis=0) > 0)
        assert np.all(np.diff(flops, axis=1) > 0)
    beyond = reading.cost.flops(LARGE, 1e12)
    # A pure power is ruled out by all but the least bent.
    if share * 0.1 ** (1 - power) < 5 and power < 0.8 and num_params > 3:
        assert np.all(beyond >= floor * LARGE * 1e12 * 0.98)
    low, high = reading.spread(1e11, 1e12)
    assert 0 < low <= 1 <= high


def test_tables_without_flops_cost_6mn():
    surface = Surface.from_arrays(M, N, law(M, N), metric="loss")
    reading = read_cost(surface)
    assert reading.cost == reading.cheapest == reading.dearest == Cost(6.0)
    assert reading.num_points == 0
    assert reading.spread(1e11, 1e12) == (1, 1)
    some = np.where(np.arange(25) == 7, 12 * M * N, np.nan)
    reading = read_cost(
        Surface.from_arrays(M, N, law(M, N), metric="loss", compute=some)
    )
    assert reading.cost == pytest.approx(Cost(12.0))
    assert reading.num_points == 1


@pytest.mark.parametrize("words", [0, 50304])
def test_a_fixed_number_of_steps_makes_data_free(words):
    cost = embedded(words)
    for noise in (0.0, 0.02):
        found = read_cost(surface_of(lambda m, n: cost(m, 1e9) + 0 * n, noise=noise))
        assert found.cost.data_power == 0
        assert found.cost.flops(1e11, 1.0) == found.cost.flops(1e11, 1e15)
        assert found.cost.flops(1e11, 1.0) == pytest.approx(cost(1e11, 1e9), rel=0.1)


def test_steps_are_fixed_on_points_without_a_grid_too():
    rng = np.random.default_rng(0)
    m, n = np.exp(rng.uniform([[16], [19]], [[20], [23]], (2, 40)))
    found = read_cost(surface_of(lambda m, n: 6e9 * m, m, n))
    assert found.cost == pytest.approx(Cost(6e9, 1.0, 0.0), rel=1e-4)
    found = read_cost(surface_of(embedded(50304), m, n))
    right = embedded(50304)(1e11, 1e12)
    assert found.cost.flops(1e11, 1e12) == pytest.approx(right, rel=0.01)


def test_a_ladder_whose_sizes_rise_together():
    m = np.geomspace(1e7, 1e9, 7)
    for n in (20 * m, 3e4 * m**0.5):
        found = read_cost(surface_of(embedded(50304), m, n))
        ratio = found.cost.flops(LARGE, 1e12) / embedded(50304)(LARGE, 1e12)
        assert ratio == pytest.approx(np.ones(20), rel=0.01)


def test_two_models_leave_a_large_one_open():
    m, n = np.array(list(itertools.product((1e8, 1e9), DATA))).T
    cost = embedded(50304)
    found = read_cost(surface_of(cost, m, n))
    assert found.cost.flops(m, n) == pytest.approx(cost(m, n), rel=1e-3)
    low, high = found.spread(1e11, 1e12)
    ratio = float(found.cost.flops(1e11, 1e12)) / cost(1e11, 1e12)
    assert 1 <= ratio < 1.1
    assert ratio * low <= 1 + 1e-3
    assert high == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("kind", [-1, 0, 1])
@settings(max_examples=30, deadline=None)
@given(power=st.floats(0.3, 2.0), bend=st.floats(-30, 30), own=st.floats(0.02, 0.95))
def test_growth_has_its_inverse_and_slope(kind, power, bend, own):
    growth = Growth(power, bend, own, kind)
    x = np.linspace(-60, 60, 4001)
    assert growth.inverse(growth.at(x)) == pytest.approx(x, abs=1e-9)
    slope = np.gradient(growth.at(x), x)
    own_slope = np.broadcast_to(growth.slope(x), x.shape)
    np.testing.assert_allclose(slope[1:-1], own_slope[1:-1], rtol=0.02)
    units = Cost(3.0, power, 1.0, np.exp(bend), kind * own)
    scaled = units.in_units(1e3, 10.0)
    assert scaled.flops(7.0, 2.0) == pytest.approx(units.flops(7e3, 20.0), rel=1e-9)


@pytest.mark.parametrize("row", [0, 12, 24])
def test_a_wrong_row_is_told_and_moves_nothing(row):
    times = np.where(np.arange(25) == row, 10.0, 1.0)
    surface = surface_of(lambda m, n: embedded(50304)(m, n) * times)
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    right = embedded(50304)(LARGE, 1e12)
    assert fit.cost.flops(LARGE, 1e12) == pytest.approx(right, rel=1e-3)
    told = [one.sentence for one in fit.warnings if one.code == "cost_unexplained"]
    assert len(told) == 1
    assert "1 of 25 points" in told[0]
    fit = scalepred.fit(surface_of(embedded(50304)), "chinchilla", resamples=0)
    assert "cost_unexplained" not in [one.code for one in fit.warnings]


@pytest.mark.parametrize(
    "flops", [lambda m, n: 1e18 + 0 * m, lambda m, n: 6e18 / m * n]
)
def test_flops_that_do_not_follow_from_the_sizes_are_told(flops):
    fit = scalepred.fit(surface_of(flops), "chinchilla", resamples=0)
    assert fit.cost_reading.num_apart > 5
    assert "cost_unexplained" in [one.code for one in fit.warnings]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    noise=st.sampled_from([0.0, 0.1, 3.0, 60.0]),
    powers=st.tuples(st.floats(-1, 3), st.floats(-1, 3)),
)
@example(seed=34, count=34, noise=0.0, powers=(0.0, 0.0))
def test_whatever_the_flops_are_a_cost_is_finite_and_rises(seed, count, noise, powers):
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.uniform(0, 60, (2, 2)))
    m, n = np.exp(rng.uniform(ends[:, :1], ends[:, 1:], (2, count)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            surface = surface_of(
                lambda m, n: m ** powers[0] * n ** powers[1], m, n, 6, noise
            )
        except UserError:  # beyond what can be reckoned with
            reject()
        reading = read_cost(surface)
    assert np.all(np.isfinite([one for cost in reading[:3] for one in cost]))
    sizes = [np.geomspace(one.min() / 10, one.max() * 1e4, 30) for one in (m, n)]
    flops = np.log(np.minimum(reading.cost.flops(sizes[0][:, None], sizes[1]), 1e308))
    assert np.all(np.isfinite(flops))
    # Far below a bend, where a head costs all, it may rise by less than is stored.
    of_params, of_data = np.diff(flops, axis=0), np.diff(flops, axis=1)
    assert np.all(of_params >= -1e-12)
    assert np.all(of_data >= -1e-12)
    beyond = (sizes[0][:-1, None] >= m.max()) & (flops[1:] < np.log(1e308))
    assert np.all(of_params[beyond] > 0)


@pytest.mark.parametrize("bend", [0.0, 0.5, -0.5])
@pytest.mark.parametrize("data_power", [0.0, 1.0])
def test_a_size_out_of_reach_costs_without_end(bend, data_power):
    cost = Cost(6.0, 1.0, data_power, 1e4 if bend else 0.0, bend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flops = cost.flops(np.array([1e6, np.inf]), 1e9)
    assert np.isfinite(flops[0])
    assert flops[1] == np.inf


def test_the_terminal_and_the_file_say_what_a_run_costs(tmp_path):
    surface = surface_of(embedded(50304), noise=0.02)
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    found = make_results(
        "", surface, np.ones(25, bool), fit, [fit.best_for_budget(1e24)]
    )
    file = io.StringIO()
    console.print_answers(found, file, verbose=True)
    lines = file.getvalue().splitlines()
    (line,) = [one for one in lines if one.startswith("  cost     ")]
    times = 1e24 / fit.cost_reading.largest
    low, high = fit.cost_reading.spread(
        *(fit.best_for_budget(1e24).details[name][0] for name in ("params", "data"))
    )
    assert line == (
        f"  cost     {fit.cost}, fitted to 25 points within "
        f"{100 * fit.cost_reading.scatter:.1f}%; used at up to "
        f"{format.ratio(times, 1)} times the largest of them, where they "
        f"leave open {low:.2f} to {high:.2f} times that cost"
    )
    results.write_results(epath.Path(tmp_path), found)
    record = json.loads((tmp_path / "fit.json").read_text())["cost"]
    assert record["formula"] == str(fit.cost)
    assert Cost(**{name: record[name] for name in Cost._fields}) == fit.cost
    assert record["scatter"] == pytest.approx(fit.cost_reading.scatter)
    assert record["largest_flops"] == surface.compute.max()


def test_a_cost_that_is_not_measured_is_told():
    surface = Surface.from_arrays(M, N, law(M, N), metric="loss")
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    found = make_results("", surface, np.ones(25, bool), fit, [])
    assert say.describe_cost(found) == "6 m n FLOPs, as the table has no FLOPs"


FORECASTS = pathlib.Path(__file__).parent.parent / "docs" / "results" / "forecasts"


@pytest.mark.parametrize(
    ("study", "within"),
    [("books", 0.01), ("cifar10", 0.01), ("decoder", 0.15), ("mnist", 0.01),
     ("ptb", 0.01), ("python", 0.01), ("stdlib", 0.01), ("wikitext2", 0.01)],
)  # fmt: skip
def test_our_own_tables(study, within):
    """Small runs say what the largest, thirty times as dear, costs."""
    with (FORECASTS / study / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    m, n, flops = (
        np.array([float(row[name]) for row in rows])
        for name in ("params", "data", "flops")
    )
    small, largest = flops <= flops.max() / 30, np.argmax(flops)
    surface = surface_of(lambda m, n: flops[small], m[small], n[small], digits=17)
    reading = read_cost(surface)
    said = reading.cost.flops(m[largest], n[largest]) / flops[largest]
    assert 0.998 < said < 1 + within
    assert reading.scatter < 0.01


def test_data_that_are_seen_more_than_once():
    cost = KNOWN["small data are repeated"]
    read = read_cost(surface_of(cost)).cost.in_units(1.0, 4.0)
    assert read.flops(1e9, 1e9) == pytest.approx(cost(1e9, 4e9), rel=1e-5)

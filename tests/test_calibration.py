"""Intervals and probabilities hold what they promise on grids with known truth."""

import importlib.util
import math
import pathlib
import types

import numpy as np
import pytest

import scalepred
from scalepred.table.surface import Surface
from tests import published

_SCRIPT = pathlib.Path(__file__).parent.parent / "scripts" / "bench_calibration.py"


@pytest.fixture(scope="module")
def bench() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("bench_calibration", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_seeds(bench, seeds: int, count: int) -> list[int]:
    """The first grids with so many seeds."""
    numbers = (
        number
        for number in range(10 * count)
        if bench.draw_grid(0, number).surface.num_seeds[0] == seeds
    )
    return [next(numbers) for _ in range(count)]


def _coverage(bench, found, what: str, level: int = 90) -> float:
    held = [one for of_grid in found for one in of_grid if one.what.startswith(what)]
    return bench.share_held(held, level)


def test_grids_are_of_published_laws_and_depend_on_their_number_alone(bench):
    grids = [bench.draw_grid(0, number) for number in range(36)]
    for number, grid in enumerate(grids):
        again = bench.draw_grid(0, number).surface
        np.testing.assert_array_equal(grid.surface.seed_values, again.seed_values)
        truth = grid.truth.log_value(again.params, again.data)
        error = np.log(again.value) - truth
        spread = grid.noise / np.sqrt(again.num_seeds)
        assert np.sqrt(np.mean((error / spread) ** 2)) < 1.8
        assert 16 <= len(again) <= 49
    assert {grid.law for grid in grids} == {"rosenfeld", "chinchilla"}
    assert len({float(grid.truth.theta[1]) for grid in grids}) == 12
    assert {int(grid.surface.num_seeds[0]) for grid in grids} == {1, 3}
    # Rosenfeld's worked number at the baseline: paper.md 5.2.
    assert math.exp(grids[1].truth.log_value(1e7, 1e6)) == pytest.approx(
        0.2792, rel=1e-3
    )


def test_scores_by_hand(bench):
    inside = bench.Held("x", 1.0, (0.5, 1.5), (1.1, 1.2))
    outside = bench.Held("x", 2.0, (0.5, 1.5), (1.1, 2.2))
    open_end = bench.Held("x", 2.0, (0.5, math.inf), (math.nan, math.nan))
    assert bench.share_held([inside, outside]) == 0.5
    assert bench.share_held([inside, outside], 50) == 0.5
    assert math.isnan(bench.share_held([inside, open_end], 50))
    assert bench.interval_score(inside) == 1.0
    assert bench.interval_score(outside) == 10.0  # 1 + 20 / 2, at most 10
    assert bench.interval_score(open_end) == 10.0
    said = [
        bench.Said("x", 0.2, False),
        bench.Said("x", 0.2, True),
        bench.Said("x", 1.0, True),
    ]
    assert bench.brier_score(said) == pytest.approx((0.04 + 0.64) / 3)
    rows = bench.reliability(said)
    assert rows[1] == (2, pytest.approx(0.2), 0.5)
    assert rows[-1] == (1, 1.0, 1.0)
    assert sum(count for count, *_ in rows) == 3


def test_a_few_grids_are_examined(bench):
    """The short form; grids of one law and size, whose programs are compiled once."""
    numbers = [
        number
        for number in _of_seeds(bench, 3, 40)
        if len(bench.draw_grid(0, number).surface) == 28 and number % 2 == 0
    ]
    found, said = bench.examine_all(0, numbers[:6], "true", 200)
    for what in ("run", "mean"):
        assert _coverage(bench, found, what) >= 0.6
        assert _coverage(bench, found, what, 50) < _coverage(bench, found, what)
    assert bench.brier_score(said) < 0.2
    assert {one.what for one in said} == {
        "run <= value",
        "mean <= value",
        "budget suffices",
    }
    again, _ = bench.examine_all(0, numbers[1:2], "true", 200)
    assert again == found[1:2]


def test_intervals_of_two_seeds_hold_what_they_promise():
    """Half of the noise's variance is all that two seeds resampled would show."""
    row = published.BY_NAME["CIFAR100"]
    m, n = (
        np.repeat(sizes.reshape(-1), 2)
        for sizes in np.meshgrid(2.0 ** -np.arange(5), 2.0 ** -np.arange(5))
    )
    far = np.sqrt([4.0, 16.0, 64.0, 256.0])
    truth = np.log(published.envelope(row, far, far))
    runs, means = [], []
    for number in range(40):
        rng = np.random.default_rng(number)
        value = published.envelope(row, m, n) * np.exp(0.02 * rng.standard_normal(50))
        surface = Surface.from_arrays(
            m, n, value, random_guess=row.guess, seed=np.tile([0, 1], 25)
        )
        fit = scalepred.fit(surface, "rosenfeld", resamples=200, starts=16)
        said = fit.predict(far, far)
        run = np.exp(truth + 0.02 * rng.standard_normal(4))
        runs.append((said.lower <= run) & (run <= said.upper))
        mean = np.exp(truth)
        means.append((said.mean_lower <= mean) & (mean <= said.mean_upper))
    # 0.88 and 0.82 while it was so.
    assert 0.86 <= np.mean(runs) <= 0.98
    assert 0.86 <= np.mean(means) <= 0.98


@pytest.mark.slow
def test_intervals_of_three_seeds_hold_what_they_promise(bench):
    """With seeds resampled from themselves they held 73 to 79 % of these."""
    found, said = bench.examine_all(0, _of_seeds(bench, 3, 100), "true", 200)
    for what in ("run", "mean", "data needed", "params needed", "best for budget"):
        assert 0.84 <= _coverage(bench, found, what) <= 0.98, what
    for what in ("run", "mean"):
        assert 0.4 <= _coverage(bench, found, what, 50) <= 0.62, what
    assert bench.brier_score(said) < 0.15
    for count, chance, share in bench.reliability(said):
        assert count > 50
        assert abs(share - chance) < 0.15


@pytest.mark.slow
def test_intervals_of_single_runs_and_of_auto(bench):
    found, _ = bench.examine_all(0, _of_seeds(bench, 1, 40), "true", 200)
    assert 0.86 <= _coverage(bench, found, "run") <= 0.99
    # Without repeats noise cannot be told from misfit, and counts as both.
    assert _coverage(bench, found, "mean") >= 0.9
    found, _ = bench.examine_all(0, range(20), "auto", 200)
    assert _coverage(bench, found, "run at 4x") >= 0.85
    for distance in (16, 64, 256, 1024):
        assert _coverage(bench, found, f"run at {distance}x") >= 0.8
    # 0.83 and 0.79 while back-tests vouched for distances that they never went.
    assert _coverage(bench, found, "run") >= 0.85
    assert _coverage(bench, found, "mean") >= 0.83

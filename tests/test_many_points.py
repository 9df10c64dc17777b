"""Tables of very many points: memory goes with their number, and answers stay."""

import tracemalloc
from collections.abc import Callable

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import scalepred
from scalepred.fitting import backtest, merging, multistart, sample, solver
from scalepred.fitting import discrepancy as misfit_lib
from scalepred.fitting.auto.fit import Auto, has_checkpoints
from scalepred.fitting.fit import Fit
from scalepred.fitting.least_squares import LeastSquares
from scalepred.report.plot_data import MAX_LINES, NEARNESS, choose_sizes
from scalepred.table.surface import Surface


def scattered(points: int, seeds: str = "") -> Surface:
    """Chinchilla's sum at sizes of no grid, with 1 % noise.

    Args:
        points: how many.
        seeds: "" of none | "own": each run has a seed of its own | "runs": twenty
            checkpoints of one size of model are of one seed.
    """
    rng = np.random.default_rng(0)
    m, n = 10 ** rng.uniform(5, 9, points), 10 ** rng.uniform(6, 10, points)
    of_run = np.arange(points)
    if seeds == "runs":
        of_run //= 20
        m = m[of_run]
    value = 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28
    value *= np.exp(0.01 * rng.standard_normal(points))
    return Surface.from_arrays(
        m, n, value, metric="loss", seed=of_run + 7 if seeds else None
    )


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that numpy and Python held at most, beyond those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fit(
    surface: Surface, law: str, resamples: int = 40, refit_points: int = 300
) -> Fit:
    return scalepred.fit(
        surface, law, resamples=resamples, starts=8, refit_points=refit_points
    )


def _choose_by_pairs(values: np.ndarray) -> np.ndarray:
    """`choose_sizes` by the distance of every size from every point."""
    sizes = np.unique(values)
    if len(sizes) <= MAX_LINES:
        return sizes
    logs = np.log(sizes)
    gap = (logs[-1] - logs[0]) / (MAX_LINES + 1)
    near = np.abs(logs[:, None] - np.log(values)) <= np.log(NEARNESS)
    chosen: list[int] = []
    for index in np.argsort(-near.sum(axis=1), kind="stable"):
        if all(abs(logs[index] - logs[other]) >= gap for other in chosen):
            chosen.append(int(index))
    return np.sort(sizes[chosen[:MAX_LINES]])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=80))
@example([round(1000 * 1.1**i) for i in range(40)])  # all at the limit of another
@example([7] * 20 + list(range(100, 130)))
def test_sizes_of_lines_are_those_that_all_pairs_give(sizes: list[int]) -> None:
    values = np.array(sizes, float)
    np.testing.assert_array_equal(choose_sizes(values), _choose_by_pairs(values))


def test_sizes_at_the_limit_of_many_others() -> None:
    for base in (1.1, 1.1**0.5, 1.1 ** (1 / 3)):
        values = 1e6 * base ** np.arange(60.0)
        np.testing.assert_array_equal(choose_sizes(values), _choose_by_pairs(values))


def test_what_looks_at_neighbours_holds_no_matrix_of_points_by_points() -> None:
    surface = scattered(20_000)
    assert peak_of(lambda: choose_sizes(surface.params)) < 200 * 20_000
    points = multistart.make_points(surface)
    mask = surface.work <= surface.work.max() / 3
    slopes = np.stack([np.ones(20_000), points.x, points.y], axis=1)
    promise = (points, slopes, mask, np.full(20_000, 1e-4), misfit_lib.of_size(0.01))
    assert peak_of(lambda: backtest.promise(*promise)) < 500 * 20_000


@pytest.mark.parametrize("seeds", ["own", "runs"])
def test_runs_of_many_seeds_make_no_table_of_points_by_seeds(seeds: str) -> None:
    surface = scattered(20_000, seeds)
    assert surface.seed_values.shape == (20_000, 1)
    assert peak_of(lambda: scattered(20_000, seeds)) < 2000 * 20_000
    assert has_checkpoints(surface) == (seeds == "runs")


@pytest.mark.parametrize("seeds", ["own", "runs"])
def test_many_seeds_say_what_their_table_would(seeds: str, monkeypatch) -> None:
    whole = scattered(200, seeds)
    assert whole.seeds is None
    monkeypatch.setattr("scalepred.table.points._FEW_POINTS", 0)
    monkeypatch.setattr("scalepred.table.points._MOST_CELLS", 0)
    narrow = scattered(200, seeds)
    assert narrow.seeds is not None
    assert narrow.seed_values.shape == (200, 1)
    one, other = fit(whole, "auto"), fit(narrow, "auto")
    assert isinstance(one.estimate, Auto)
    assert isinstance(other.estimate, Auto)
    np.testing.assert_allclose(
        one.estimate.estimate.shares, other.estimate.estimate.shares, rtol=1e-9
    )
    np.testing.assert_allclose(one.fitted.draws, other.fitted.draws, rtol=1e-9)
    part = narrow.where(narrow.params > np.median(narrow.params))
    assert part.seeds is not None
    assert part.seeds.shape == part.seed_values.shape


def test_promises_of_many_points_are_those_of_each() -> None:
    surface = scattered(400)
    points = multistart.make_points(surface)
    mask = surface.work <= surface.work.max() / 3
    slopes = np.stack([np.ones(400), points.x, points.y, points.x**2], axis=1)
    given = (points, slopes, mask, np.full(400, 1e-4), misfit_lib.of_size(0.01))
    each = backtest.promise(*given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(misfit_lib, "MOST_ALIKE", 10)
        np.testing.assert_allclose(backtest.promise(*given), each, rtol=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backtest, "_MOST_SHARES", 1000)
        np.testing.assert_allclose(backtest.promise(*given), each, rtol=1e-12)


def test_points_in_chunks_are_solved_as_together(monkeypatch) -> None:
    surface = scattered(2500)
    found = []
    for chunk in (512, 10**6):
        monkeypatch.setattr(
            "scalepred.fitting.solver.derivatives._POINTS_OF_CHUNK", chunk
        )
        jax.clear_caches()
        found.append(fit(surface, "chinchilla", resamples=0).fitted.theta)
    jax.clear_caches()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)


@pytest.mark.parametrize("residual", ["relative", "log"])
def test_merged_points_move_the_law_as_they_all_do(residual: str, monkeypatch) -> None:
    surface = scattered(3000)
    how = solver.Residual(residual)
    draws = []
    for most in (4096, 100):
        monkeypatch.setattr(merging, "MOST_POINTS", most)
        found = scalepred.fit(
            surface, "chinchilla", residual=how, resamples=30, starts=8
        )
        assert isinstance(found.estimate, LeastSquares)
        draws.append(found.fitted.draws)
    # The moves are the same, so each draw is compared with itself.
    apart = np.sqrt(np.mean((draws[0] - draws[1]) ** 2, axis=0))
    assert np.all(apart < 0.1 * draws[0].std(axis=0))
    np.testing.assert_allclose(draws[0].std(axis=0), draws[1].std(axis=0), rtol=0.05)


def test_merged_points_leave_draws_of_auto_as_wide(monkeypatch) -> None:
    surface = scattered(1500)
    said = []
    for most in (4096, 100):
        monkeypatch.setattr(merging, "MOST_POINTS", most)
        found = fit(surface, "auto", resamples=300)
        said.append(found.predict(1e11, 1e12))
    widths = [float(one.mean_upper - one.mean_lower) for one in said]
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    assert said[0].value == said[1].value


def test_merged_cells_keep_sums_and_what_must_stay_apart() -> None:
    rng = np.random.default_rng(0)
    places, apart = rng.normal(size=(2, 5000)), rng.integers(0, 3, 5000)
    cell = merging.find_cells(places, apart)
    weight = rng.uniform(size=(1, 5000))
    assert merging.sum_cells(cell, weight).sum() == pytest.approx(weight.sum())
    for one in range(int(cell.max()) + 1):
        assert len(np.unique(apart[cell == one])) == 1
        reach = np.ptp(places[:, cell == one], axis=1) / np.ptp(places, axis=1)
        assert np.all(reach < 1 / 39)
    line = np.stack([np.zeros(5000), places[0]])
    assert int(merging.find_cells(line).max()) <= 1600
    grid = np.stack([rng.integers(0, 20, 5000), rng.integers(0, 20, 5000)]) / 7
    cell = merging.find_cells(grid)
    assert int(cell.max()) == 399
    assert all(np.ptp(grid[:, cell == one]) == np.ptp(grid[:, cell == one][:, 0])
               for one in range(400))  # fmt: skip


def test_a_sample_spans_what_all_points_do() -> None:
    surface = scattered(5000)
    chosen = sample.choose(surface, 200)
    assert 200 <= chosen.sum() <= 206
    some = surface.where(chosen)
    for name in ("params", "data", "work", "value"):
        assert getattr(some, name).max() == getattr(surface, name).max()
    np.testing.assert_array_equal(np.sort(some.value)[:2], np.sort(surface.value)[:2])
    assert np.all(sample.choose(surface, 5000))
    assert np.all(sample.choose(surface, 0))
    np.testing.assert_array_equal(chosen, sample.choose(surface, 200))


@pytest.mark.parametrize("law", ["auto", "chinchilla"])
def test_a_sample_is_refitted_and_said(law: str) -> None:
    surface = scattered(900)
    some, every = fit(surface, law), fit(surface, law, refit_points=0)
    assert any("random sample of 300" in note for note in some.notes)
    assert not any("random sample" in note for note in every.notes)
    assert some.inner_tests[0].num_fitted + some.inner_tests[0].num_hidden < 310
    assert every.inner_tests[0].num_fitted + every.inner_tests[0].num_hidden == 900
    # The law itself is of all points.
    assert len(some.surface) == 900
    corner = some.corners(surface)[0]
    assert corner.num_fitted + corner.num_targets < 310
    if law == "chinchilla":
        np.testing.assert_array_equal(some.fitted.theta, every.fitted.theta)
    expected = [one.predict(1e10, 1e11).value for one in (some, every)]
    assert expected[0] == pytest.approx(expected[1], rel=0.01)


def test_a_saved_fit_keeps_how_many_are_refitted(tmp_path) -> None:
    surface = scattered(900)
    found = fit(surface, "chinchilla", resamples=0)
    found.save(tmp_path / "fit.npz")
    again = scalepred.load(tmp_path / "fit.npz")
    assert again.corners(surface) == found.corners(surface)


def _ask_everything(surface: Surface, law: str) -> None:
    found = fit(surface, law, resamples=200)
    found.predict(surface.params, surface.data)
    assert found.warnings is not None
    assert found.cross_validation.num_folds == 10
    assert found.corners(surface)


@pytest.mark.parametrize("law", ["chinchilla"])
def test_memory_of_a_fit_goes_with_the_points(law: str) -> None:
    assert peak_of(lambda: _ask_everything(scattered(5000), law)) < 20_000 * 5000


@pytest.mark.slow
@pytest.mark.parametrize(
    "law", ["auto", "chinchilla", "rosenfeld_fitted_guess", "kaplan"]
)
@pytest.mark.parametrize("seeds", ["", "own", "runs"])
def test_memory_of_any_fit_goes_with_the_points(law: str, seeds: str) -> None:
    """All pairs of 20,000 points would be 3.2 GB.

    Blocks of draws take up to 0.6 GB, as many at 5,000 points.
    """
    assert peak_of(lambda: _ask_everything(scattered(20_000, seeds), law)) < 8e8

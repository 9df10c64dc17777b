"""How far a law is from the truth: found again from residuals, and carried on."""

import numpy as np
import pytest
import threadpoolctl

import scalepred
from scalepred.fitting import discrepancy
from scalepred.table.surface import Surface

_PARAMS, _DATA = (
    sizes.reshape(-1)
    for sizes in np.meshgrid(
        np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 6), indexing="ij"
    )
)
_PLACES = np.log(np.stack([_PARAMS, _DATA]))
_X, _Y = _PLACES


def _smooth(length: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers of variance 1 that stay alike over `length` of the range [points]."""
    reach = sum(np.abs(v[:, None] - v[None, :]) / np.ptp(v) for v in (_X, _Y))
    alike = np.exp(-reach / length) if length else np.eye(len(_X))
    return np.linalg.cholesky(alike + 1e-9 * np.eye(len(_X))) @ rng.normal(size=36)


def _law_of(length: float, sd: float, rng: np.random.Generator) -> Surface:
    """Two noisy runs at every point of a law that is off by a smooth misfit."""
    truth = 1.7 + 400 / _PARAMS**0.34 + 4000 / _DATA**0.36
    means = truth * np.exp(sd * _smooth(length, rng))
    runs = means[:, None] * np.exp(0.003 * rng.normal(size=(36, 2)))
    return Surface.from_arrays(
        np.repeat(_PARAMS, 2),
        np.repeat(_DATA, 2),
        runs.reshape(-1),
        metric="loss",
        seed=np.tile([0, 1], 36),
    )


def _estimate(difference: np.ndarray, noise: float = 0.0) -> discrepancy.Misfit:
    """As for a law of a level and two slopes."""
    slopes = np.stack([np.ones(36), _X, _Y], axis=1)
    fitted = slopes @ np.linalg.lstsq(slopes, difference)[0]
    return discrepancy.estimate(difference - fitted, slopes, _PLACES, noise, seed=0)


def _chance_of_smooth(found: discrepancy.Misfit) -> float:
    return float(np.sum(found.chance[found.length > 0]))


def test_unlike_misfits_are_found_so():
    rng = np.random.default_rng(0)
    found = [_estimate(0.01 * rng.normal(size=36)) for _ in range(20)]
    assert np.mean([one.overall_sd for one in found]) == pytest.approx(0.01, rel=0.2)
    assert np.mean([_chance_of_smooth(one) for one in found]) < 0.4
    for one in found:
        assert one.chance.sum() == pytest.approx(1)


def test_smooth_misfits_are_found_so_although_the_parameters_follow_them():
    rng = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(20):
        difference = 0.01 * _smooth(0.5, rng)
        slopes = np.stack([np.ones(36), _X, _Y], axis=1)
        left = difference - slopes @ np.linalg.lstsq(slopes, difference)[0]
        plain.append(np.sqrt(np.sum(left**2) / 33))
        found.append(_estimate(difference))
    assert np.mean([_chance_of_smooth(one) for one in found]) > 0.9
    # What is left shows two thirds of it; the estimate gives it back.
    assert np.mean(plain) < 0.0075
    assert np.mean([one.overall_sd for one in found]) == pytest.approx(0.01, rel=0.25)


def test_noise_is_no_misfit():
    rng = np.random.default_rng(0)
    found = [_estimate(0.01 * rng.normal(size=36), noise=1e-4) for _ in range(20)]
    assert np.mean([one.overall_sd for one in found]) < 0.005


def test_draws_are_what_the_cases_say():
    rng = np.random.default_rng(0)
    found = _estimate(0.01 * _smooth(0.5, rng))
    drawn = found.draw(4000, 36, np.random.default_rng(1))
    assert isinstance(drawn, np.ndarray)
    assert np.std(drawn) == pytest.approx(found.overall_sd, rel=0.1)
    near, far = (np.corrcoef(drawn[:, 0], drawn[:, k])[0, 1] for k in (1, 35))
    assert near > 0.4
    assert abs(far) < 0.3
    again = found.draw(4000, 36, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize("count", [3, 4, 2500])
def test_too_few_points_and_too_many(count):
    """Fewer than parameters, one more, and more than pairs are looked at."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, count))
    slopes = np.stack([np.ones(count), x, y], axis=1)
    found = discrepancy.estimate(
        rng.normal(size=count), slopes, np.stack([x, y]), 0.0, seed=0
    )
    assert np.isfinite(found.overall_sd)
    assert found.overall_sd > 0
    drawn = found.draw(5, count, rng)
    assert isinstance(drawn, np.ndarray)
    assert drawn.shape == (5, count)
    assert np.all(np.isfinite(drawn))


def test_an_exact_law_has_no_misfit():
    slopes = np.stack([np.ones(36), _X, _Y], axis=1)
    found = discrepancy.estimate(np.full(36, 1e-15), slopes, _PLACES, 0.0, seed=0)
    assert found.overall_sd == 0
    assert found.draw(10, 36, np.random.default_rng(0)) == 0


@pytest.mark.parametrize(
    ("length", "problems"),
    [pytest.param(0.25, 8, marks=pytest.mark.short)]
    + [pytest.param(a, 40, marks=pytest.mark.slow) for a in (0.0, 0.25, 0.5)],
)
def test_parameters_of_a_law_that_is_a_little_wrong_are_covered(length, problems):
    """Misfits drawn anew at every point cover 91, 67 and 52 % at these lengths."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(problems):
        surface = _law_of(length, 0.01, rng)
        found = scalepred.fit(surface, "chinchilla", resamples=300).parameters
        for name, truth in (("E", 1.7), ("model_exponent", 0.34)):
            inside.append(found[name].lower <= truth <= found[name].upper)
    # 90 % nominal; 40 problems, so three standard errors are 0.14.
    assert np.mean(inside) >= 0.75


def test_the_variance_of_sums_is_that_of_draws():
    rng = np.random.default_rng(0)
    found = _estimate(0.01 * _smooth(0.5, rng))
    shares = rng.normal(size=(5, 36))
    drawn = found.draw(20000, 36, np.random.default_rng(1)) @ shares.T
    np.testing.assert_allclose(found.variance(shares), np.var(drawn, axis=0), rtol=0.1)
    alone = discrepancy.of_size(0.01)
    np.testing.assert_allclose(
        alone.variance(shares), 1e-4 * np.sum(shares**2, axis=1), rtol=1e-12
    )


def _correlation(drawn: np.ndarray) -> float:
    """Mean between points."""
    between = np.corrcoef(drawn.T)
    return float(np.mean(between[~np.eye(len(between), dtype=bool)]))


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_noise_of_seeds_is_drawn_as_alike_as_it_was_found(seeds, shared):
    rng = np.random.default_rng(0)
    correlations, spreads = [], []
    for _ in range(6):
        runs = np.sqrt(1 - shared) * rng.normal(size=(36, seeds))
        runs += np.sqrt(shared) * rng.normal(size=seeds)
        deviation = runs - runs.mean(axis=1, keepdims=True)
        if seeds == 8:  # some have fewer runs
            deviation[rng.random((36, seeds)) < 0.3] = np.nan
        drawn = discrepancy.draw_seeds(deviation, _PLACES, 2000, rng)
        spreads.append(drawn.std())
        correlations.append(_correlation(drawn))
    np.testing.assert_allclose(spreads, 1.0, atol=0.05)
    if shared:
        assert np.mean(correlations) > 0.25  # one contrast of seeds says little
    else:
        assert np.mean(correlations) < 0.12


def test_noise_of_points_with_one_run_each_is_drawn_apart():
    rng = np.random.default_rng(0)
    drawn = discrepancy.draw_seeds(np.zeros((36, 1)), _PLACES, 4000, rng)
    assert abs(_correlation(drawn)) < 0.02


@pytest.mark.parametrize("name", ["svd", "eigh", "cholesky"])
def test_linear_algebra_is_of_one_thread(monkeypatch, name):
    """OpenBLAS's others would wait busily in the way of what comes next."""

    def count_threads():
        pools = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]

    counts, calls, function = [], [], getattr(np.linalg, name)

    def watched(*args, **kwargs):
        calls.append(name)
        counts.extend(count_threads())
        return function(*args, **kwargs)

    rng = np.random.default_rng(0)
    difference = 0.01 * _smooth(0.5, rng)
    monkeypatch.setattr(np.linalg, name, watched)
    before = count_threads()
    _estimate(difference).draw(100, 36, rng)

    assert calls
    assert set(counts) <= {1}  # none where BLAS is another's
    assert count_threads() == before

"""law=auto along one size: curves averaged."""

import dataclasses

import numpy as np
import pytest

import scalepred
from scalepred.fitting import backtest, predict
from scalepred.fitting.auto import curves as auto_curves
from scalepred.fitting.auto import fit as auto_fit
from scalepred.fitting.auto import mean as auto_mean
from scalepred.fitting.auto import weights as auto_weights
from scalepred.fitting.laws import Scale, one_axis
from scalepred.table.surface import Surface

SIZES = 1000.0 * 2.0 ** np.arange(14)


def make_curve(axis="data", count=14, noise=0.002):
    rng = np.random.default_rng(0)
    value = 0.1 + 0.5 * (SIZES / 1000 + 3) ** -0.4
    value = value * np.exp(noise * rng.standard_normal(len(SIZES)))
    other = np.full(len(SIZES), 7e6)
    params, data = (SIZES, other) if axis == "params" else (other, SIZES)
    surface = Surface.from_arrays(params, data, value, metric="error")
    return surface.where(np.arange(len(SIZES)) < count)


def test_the_law_is_a_geometric_mean():
    parts = one_axis.m4, one_axis.bnsl
    law = auto_mean.make_law(parts)
    scale = Scale(0.0, np.log(0.1), np.log(0.8))
    rng = np.random.default_rng(0)
    thetas = [part.start(rng.uniform(size=(1, 6)), scale) for part in parts]
    y = -np.linspace(0, 5, 9)
    each = [
        predict.evaluate(part, theta, 0 * y, y, scale)[0]
        for part, theta in zip(parts, thetas, strict=True)
    ]
    for weight in (0.0, 0.3, 1.0):
        weights = np.array([[weight, 1 - weight]])
        theta = np.concatenate([*thetas, weights], axis=1)
        found = predict.evaluate(law, theta, 0 * y, y, scale)[0]
        expected = weight * each[0] + (1 - weight) * each[1]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_mean_of_one_law_is_evaluated_by_its_parts():
    law = auto_mean.make_law((one_axis.m4,) * 3)
    other = dataclasses.replace(law, parts=())  # as a whole
    scale = Scale(0.0, np.log(0.1), np.log(0.8))
    rng = np.random.default_rng(0)
    thetas = one_axis.m4.start(rng.uniform(size=(15, 6)), scale).reshape(5, -1)
    weights = rng.dirichlet(np.ones(3), 5)
    weights[0], weights[1] = [0, 1, 0], [0.5, 0, 0.5]
    theta = np.concatenate([thetas, weights], axis=1)
    y = -np.linspace(0, 5, 9)
    whole = predict.evaluate(other, theta, 0 * y, y, scale)
    found = predict.evaluate(law, theta, 0 * y, y, scale)
    np.testing.assert_allclose(found, whole, rtol=1e-12)
    theta[1, one_axis.m4.num_parameters] = np.nan  # what has no weight may have failed
    np.testing.assert_array_equal(predict.evaluate(law, theta, 0 * y, y, scale), found)


def test_a_back_test_of_a_mean_promises_what_its_parts_do_and_their_distance():
    mask = np.array([True, False])

    def back_tests(difference, sd, *ratios):
        both = np.full(2, difference), np.full(2, sd)
        return [backtest.BackTest(ratio, mask, *both) for ratio in ratios]

    tests = [back_tests(0.1, 0.03, 2.0, 5.0), back_tests(-0.1, 0.03, 5.0)]
    (alike,) = auto_mean.back_tests(np.array([0.5, 0.5]), [tests[0][1:], tests[0]])
    np.testing.assert_allclose((alike.difference, alike.sd), [[0.1] * 2, [0.03] * 2])
    (found,) = auto_mean.back_tests(np.array([0.75, 0.25]), tests)
    assert found.ratio == 5.0
    np.testing.assert_allclose(found.difference, 0.05)
    np.testing.assert_allclose(found.sd, np.sqrt(0.03**2 + 0.75 * 0.25 * 0.2**2))


@pytest.mark.parametrize("axis", ["params", "data"])
def test_a_prediction_is_the_mean_of_the_parts(axis):
    whole = make_curve(axis)
    fit = scalepred.fit(make_curve(axis, 10), resamples=200)
    found = fit.estimate
    assert isinstance(found, auto_curves.Average)
    assert [part.law.axes for part in found.parts] == [(axis,)] * 3
    assert found.weights.sum() == pytest.approx(1.0)
    assert sum(member.weight for member in fit.members) == pytest.approx(1.0)
    names = [f"law=auto: {form}" for form in ("curve", "m4", "bnsl")]
    assert all(any(note.startswith(name) for note in fit.notes) for name in names)
    logs = [part.fitted.log_value(whole.params, whole.data) for part in found.parts]
    said = fit.predict(whole.params, whole.data)
    np.testing.assert_allclose(np.log(said.value), found.weights @ np.stack(logs))
    # Each draw is one of a part, and the parts' disagreement widens intervals.
    chosen = found.fitted.draws[:, -3:]
    assert np.all(np.sort(chosen, axis=1) == [0, 0, 1])
    np.testing.assert_allclose(chosen.mean(axis=0), found.weights, atol=0.12)
    assert np.all((said.lower < whole.value) & (whole.value < said.upper))
    assert fit.inner_tests
    # Weights go as the density of what all parts' back-tests hid, by hand.
    hidden = [{one.ratio: one for one in part.back_tests} for part in found.parts]
    shared = set.intersection(*(set(own) for own in hidden))
    scores = []
    for own in hidden:
        tests = [own[ratio] for ratio in shared]
        sds = [t.sd[~t.mask] for t in tests]
        missed = [np.abs(t.difference[~t.mask]) for t in tests]
        freedom = auto_weights._FREEDOM
        squares = [
            np.pi / 2 * np.mean(one / sd) ** 2
            for one, sd in zip(missed, sds, strict=True)
        ]
        scores.append(sum(
            -np.mean(np.log(sd)) - (freedom + 1) / 2 * np.log1p(z / freedom)
            for sd, z in zip(sds, squares, strict=True)
        ))  # fmt: skip
    expected = np.exp(auto_weights.TEMPER * (np.array(scores) - max(scores)))
    np.testing.assert_allclose(found.weights, expected / expected.sum(), rtol=1e-6)
    assert np.all(np.abs(np.expm1(found.differences)) < 0.02)


def test_forms_with_more_parameters_than_points_allow_are_left_out():
    fit = scalepred.fit(make_curve(count=7), resamples=50)
    assert [member.name for member in fit.members][-1] == "m4"
    fit = scalepred.fit(make_curve(count=6), resamples=50)
    assert not isinstance(fit.estimate, auto_curves.Average)
    assert fit.law.name == "flexible"


def make_grid(metric: str, is_rosenfeld: bool = False) -> Surface:
    """25 points of a law without noise, which the first member's prior is wrong for."""
    sizes = 10.0 ** np.array([0, 0.5, 1, 1.5, 2])
    m, n = (axis.reshape(-1) for axis in np.meshgrid(sizes, sizes))
    value = 0.1 + 0.3 * m**-0.35 + 0.4 * n**-0.3
    if is_rosenfeld:
        value = value / np.hypot(1, value)
    if metric == "loss":
        value = 1.6 + 4 * value
    return Surface.from_arrays(m * 1e7, n * 2e8, value, metric=metric)


SURFACES = {
    "loss": make_grid("loss"),
    "error": make_grid("error"),
    "error that saturates": make_grid("error", is_rosenfeld=True),
    "curve along data": make_curve("data"),
    "curve along params": make_curve("params", count=9, noise=0.02),
}


@pytest.mark.parametrize("name", SURFACES)
def test_what_is_scored_is_what_predicts(name):
    """A refit to all points says what the fit says, so folds score that law."""
    surface = SURFACES[name]
    fit = scalepred.fit(surface, resamples=20)
    found = fit.estimate
    assert isinstance(found, auto_fit.Auto)
    _, refit = found.refit(surface)
    everything = np.ones((1, len(surface)), bool)
    said = fit.predict(surface.params, surface.data).value
    np.testing.assert_allclose(
        refit(everything)[0], said / surface.value - 1, atol=1e-9
    )
    masks = backtest.fold_masks(len(surface), found.seed)
    expected = backtest.summarise_folds(masks, refit(masks))
    assert fit.cross_validation == expected
    assert fit.corners(surface)


def test_cross_validation_is_not_the_first_members():
    """Whose prior is wrong here, and which weighs next to nothing."""
    surface = make_grid("loss")
    fit = scalepred.fit(surface, resamples=20)
    found = fit.estimate
    assert isinstance(found, auto_fit.Auto)
    assert fit.members[0].weight < 0.05
    only_first = dataclasses.replace(
        found,
        scores=tuple(
            dataclasses.replace(score, weight=float(i == 0))
            for i, score in enumerate(fit.members)
        ),
    )
    assert fit.cross_validation.std < 0.8 * only_first.cross_validation.std


def test_a_curve_is_scored_at_corners_of_a_table_of_both_sizes():
    """Fitted where only data vary, it is the same law at the corners of all points."""
    m, n = (
        axis.reshape(-1) for axis in np.meshgrid([1e6, 4e6], 1e6 * 2.0 ** np.arange(9))
    )
    value = 1.7 + 300 * m**-0.4 + 900 * n**-0.45
    surface = Surface.from_arrays(m, n, value, metric="loss")
    is_small = surface.params < 2e6
    fit = scalepred.fit(surface.where(is_small), resamples=20)
    _, refit = fit.estimate.refit(surface)
    said = fit.predict(surface.params, surface.data).value
    errors = refit(is_small[None])[0]
    np.testing.assert_allclose(errors, said / surface.value - 1, atol=1e-6)


def test_a_mean_leaves_out_what_failed():
    logs = np.array([[0.0, np.nan, np.nan], [1.0, 1.0, np.nan]])
    found = auto_mean.average(np.array([0.25, 0.75]), logs)
    np.testing.assert_array_equal(found, [0.75, 1.0, np.nan])


@pytest.mark.parametrize("seed", range(4))
def test_a_curve_of_eight_points_has_no_cliff_beyond_the_last(seed):
    n = 100 * 2.0 ** np.arange(8)
    noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(8))
    surface = Surface.from_arrays(np.full(8, 1e3), n, 0.02 + 3 * n**-0.35 * noise)
    fit = scalepred.fit(surface, resamples=0)
    assert "bnsl" not in str(fit.members)
    for times in (1.5, 2.0):
        truth = 0.02 + 3 * (times * n[-1]) ** -0.35
        assert fit.predict(1e3, times * n[-1]).value == pytest.approx(truth, rel=0.12)

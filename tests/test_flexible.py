"""law=auto: its corners are the usual laws, and it predicts what it did not see."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalepred
from scalepred.fitting import backtest, predict
from scalepred.fitting.auto import draws as auto_draws
from scalepred.fitting.auto import fit as auto_fit
from scalepred.fitting.auto import law as auto_law
from scalepred.fitting.auto import priors as auto_priors
from scalepred.fitting.auto import weights as auto_weights
from scalepred.fitting.auto.weights import weigh
from scalepred.fitting.backtest import BackTest
from scalepred.fitting.laws import Scale
from scalepred.fitting.region import fit_region
from scalepred.fitting.scores import coverage
from scalepred.table.surface import Surface
from tests import published

CORE = len(auto_law.CORE)


def value_of(law, theta, x, y, scale):
    with jax.enable_x64(True):
        return np.exp(np.asarray(law.log_value(jnp.asarray(theta), x, y, scale)))


def test_rosenfeld_and_chinchilla_are_corners():
    x, y = -np.linspace(0, 6, 13), -np.linspace(0, 5, 13)[::-1]
    # e = U z / (1 + z^h)^(1/h), z = (E + s t) / U, with s = 0.3 and E = s / 2.
    scale = Scale(np.log(0.9), np.log(0.3), 0.0)
    t = 0.4 * np.exp(-0.5 * x) + 0.2 * np.exp(-0.3 * y)
    theta = np.array([np.log(0.4), np.log(0.5), np.log(0.2), np.log(0.3), 0, 0, 0, 0])
    theta[auto_law.CORE.index("bend")] = np.log(2.0)
    theta[auto_law.CORE.index("top")] = -40.0  # the level is the given one
    z = (0.15 + 0.3 * t) / 0.9
    law = auto_law.make_law(0, is_loss=False)
    np.testing.assert_allclose(
        value_of(law, theta, x, y, scale), 0.9 * z / np.sqrt(1 + z**2), rtol=1e-12
    )
    theta[auto_law.CORE.index("top")] = 40.0  # a plateau far above everything
    theta[auto_law.CORE.index("bend")] = 0.0
    law = auto_law.make_law(0, is_loss=True)
    np.testing.assert_allclose(
        value_of(law, theta, x, y, scale), 0.15 + 0.3 * t, rtol=1e-12
    )


def test_hardness_makes_the_scarcer_size_decide():
    scale = Scale(0.0, 0.0, 0.0)
    theta = np.array([0.0, np.log(0.5), 0.0, np.log(0.5), -40.0, 40.0, 0.0, np.log(50)])
    law = auto_law.make_law(0, is_loss=True)
    x, y = np.array([-4.0, -1.0]), np.array([-1.0, -3.0])
    np.testing.assert_allclose(
        value_of(law, theta, x, y, scale), np.exp([2.0, 1.5]), rtol=1e-6
    )


def test_offsets_belong_to_their_model_size_only():
    law = auto_law.make_law(4, is_loss=True)
    levels = np.array([-3.0, -1.0, 0.0, np.inf])
    scale = Scale(0.0, 0.0, 0.0, levels)
    theta = np.zeros(law.num_parameters)
    x = np.array([-3.0, -2.0, -1.0, 0.0])
    plain = value_of(law, theta, x, 0.0, scale)
    theta[CORE + 1] = 0.3  # of x = -1
    np.testing.assert_array_equal(
        value_of(law, theta, x, 0.0, scale) != plain, [False, False, True, False]
    )
    theta[CORE + 1], theta[CORE + 4] = 0.0, 0.3  # of sizes never seen
    np.testing.assert_array_equal(
        value_of(law, theta, x, 0.0, scale) != plain, [False, True, False, False]
    )


def test_levels_need_several_data_sizes():
    x = np.repeat([-3.0, -2.0, -1.0, 0.0], [2, 2, 1, 3])
    everything = np.ones(8, bool)
    np.testing.assert_array_equal(
        auto_law.find_levels(x, everything), [-3.0, -2.0, 0.0]
    )
    assert len(auto_law.find_levels(x, x > -2.5)) == 0  # only two are left
    many = np.repeat(np.arange(30.0), 2)
    assert len(auto_law.find_levels(many, np.ones(60, bool))) == 0


def study(row_name: str, rng=None, noise=0.0) -> Surface:
    row = published.BY_NAME[row_name]
    m, n, value = published.grid(row)
    if rng is not None:
        value = value * np.exp(noise * rng.standard_normal(len(value)))
    if row.is_text:
        return Surface.from_arrays(m, n, value, metric="loss")
    return Surface.from_arrays(m, n, np.minimum(value, 1.0), random_guess=row.guess)


@pytest.mark.parametrize("name", ["ImageNet", "CIFAR100", "WikiText-103"])
def test_predicts_beyond_a_corner_of_the_published_grids(name):
    surface = study(name, np.random.default_rng(0), 0.01)
    in_fit = fit_region(
        surface, max_params=surface.params.max() / 16, max_data=surface.data.max() / 4
    )
    fit = scalepred.fit(surface.where(in_fit))
    rest = surface.where(~in_fit)
    said = fit.predict(rest.params, rest.data)
    assert np.mean(np.abs(said.value / rest.value - 1)) < 0.06
    assert coverage(rest.value, said.lower, said.upper) > 0.75
    assert sum(member.weight for member in fit.members) == pytest.approx(1.0)
    assert len(fit.members[0].errors) == len(fit.inner_tests) > 0
    assert any("law=auto: flexible weighs" in note for note in fit.notes)
    assert fit.cross_validation.num_folds == 10


@settings(max_examples=6)
@given(m_unit=st.floats(1e-3, 1e12), n_unit=st.floats(1e-3, 1e12), seed=st.integers(0))
def test_units_and_order_do_not_matter(m_unit, n_unit, seed):
    one = study("CIFAR100", np.random.default_rng(1), 0.02)
    order = np.random.default_rng(seed).permutation(len(one))
    two = Surface.from_arrays(
        one.params[order] * m_unit,
        one.data[order] * n_unit,
        one.value[order],
        random_guess=0.99,
    )
    first, second = (scalepred.fit(s, resamples=0) for s in (one, two))
    np.testing.assert_allclose(
        second.predict(100 * m_unit, 10 * n_unit).value,
        first.predict(100, 10).value,
        rtol=1e-6,
    )


def test_few_points_are_said_to_rest_on_priors():
    surface = study("CIFAR100")
    few = surface.where((surface.params > 0.9) & (surface.data > 0.2))
    fit = scalepred.fit(few)
    sentences = {warning.code: warning.sentence for warning in fit.warnings}
    assert "rest on priors" in sentences["few_points"]
    assert "no_back_test" in sentences
    said = fit.predict(1e3, 10.0)
    assert said.lower < said.value < said.upper


def test_loss_with_a_known_guess_stays_below_it():
    surface = study("WikiText-103")
    known = Surface.from_arrays(
        surface.params, surface.data, surface.value, metric="loss", random_guess=6.6
    )
    fit = scalepred.fit(known, resamples=0)
    assert fit.predict(1e-9, 1e-9).value == pytest.approx(6.6, rel=1e-3)
    assert fit.parameters["random_guess"].value == pytest.approx(6.6)


def test_level_of_an_error_is_fitted_only_where_nobody_gave_it():
    """A choice between two: 50 % at first, then steeply better."""
    m, n = (a.reshape(-1) for a in np.meshgrid(*[4.0 ** np.arange(7)] * 2))
    t = 0.01 + 3 * m**-0.5 + 6 * n**-0.5
    value = 0.5 * t / np.sqrt(1 + t**2)
    value *= np.exp(0.005 * np.random.default_rng(0).standard_normal(len(m)))
    surface = Surface.from_arrays(m, n, value)
    fitted = surface.params * surface.data <= surface.work.max() / 16
    part, rest = surface.where(fitted), surface.where(~fitted)

    def error(fit):
        said = fit.predict(rest.params, rest.data).value
        return float(np.mean(np.abs(said / rest.value - 1)))

    found = scalepred.fit(part, resamples=0)
    by_name = {member.name: member for member in found.members}
    assert by_name["level below 1"].weight > 0.7
    assert found.parameters["random_guess"].value == pytest.approx(0.5, rel=0.08)
    assert any("fitted by one member" in note for note in found.notes)
    for guess in (0.5, 1.0):
        told = scalepred.fit(dataclasses.replace(part, random_guess=guess), resamples=0)
        assert "level below 1" not in {member.name for member in told.members}
        assert told.parameters["random_guess"].value == pytest.approx(guess, rel=1e-12)
        assert (error(told) > 5 * error(found)) == (guess == 1.0)


def test_members_that_failed_have_no_weight():
    prior = np.array([member.weight for member in auto_priors.MEMBERS])
    mask = np.array([True, True, False])

    def back_test(error):
        difference = np.array([0.0, 0.0, np.log1p(error)])
        return [BackTest(3.0, mask, difference, np.full(3, 0.01))]

    good, worse, broken = map(back_test, (0.02, 0.04, np.nan))
    prior, usable = prior[:6], np.array([True, True, False, True, True, True])
    weights = weigh(prior, [broken, good, good, worse, good, worse], usable)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] == weights[2] == 0.0
    assert weights[1] == weights[4] > 3 * weights[3] > 0.0
    untested: list[list[BackTest]] = [[] for _ in prior]
    for tests in (untested, [good, *untested[1:]]):  # one alone says nothing
        weights = weigh(prior, tests, usable)
        assert weights[2] == 0.0
        assert weights[0] == pytest.approx(0.3 / 0.7)


def test_one_back_test_decides_little_and_several_alike_much():
    mask = np.array([True, False, False, False])

    def tests(error: float, sd: float, count: int) -> list[BackTest]:
        difference = np.array([0.0, error, error, error])
        return [
            BackTest(ratio, mask, difference, np.full(4, sd))
            for ratio in (3.0, 6.0, 12.0, 25.0, 50.0)[:count]
        ]

    def odds(count: int, first: tuple[float, float], second: tuple[float, float]):
        both = [tests(*first, count), tests(*second, count)]
        weights = weigh(np.full(2, 0.5), both, np.ones(2, bool))
        return weights[0] / weights[1]

    # Of two that promise alike: a third smaller an error is luck once, news five times.
    assert 1.0 < odds(1, (0.02, 0.02), (0.03, 0.02)) < 2.5
    assert odds(5, (0.02, 0.02), (0.03, 0.02)) == pytest.approx(
        odds(1, (0.02, 0.02), (0.03, 0.02)) ** 5
    )
    # As wrong, but one knew it.
    assert odds(1, (0.04, 0.04), (0.04, 0.01)) > 2
    # As right, but one promised less.
    assert odds(1, (0.005, 0.005), (0.005, 0.05)) > 2
    # One point far off does not decide alone.
    assert odds(1, (0.0, 0.01), (10.0, 0.01)) < 1e13


def test_a_prediction_is_the_mean_of_the_members():
    surface = study("CIFAR100", np.random.default_rng(0), 0.01)
    part = surface.where(fit_region(surface, max_compute=surface.work.max() / 10))
    found = scalepred.fit(part, resamples=200).estimate
    assert isinstance(found, auto_fit.Auto)
    x = np.log(surface.params / found.points.params_unit)
    y = np.log(surface.data / found.points.data_unit)
    values = predict.evaluate(found.law, found.estimate.theta, x, y, found.scale)
    said = found.fitted.log_value(surface.params, surface.data)
    np.testing.assert_allclose(said, found.shares @ values, rtol=1e-12)
    of_fitted = found.fitted.log_value(part.params, part.data)
    np.testing.assert_allclose(found.differences, of_fitted - np.log(part.value))
    # Parameters, and their intervals, are of members, not of the mean.
    parameters = found.fitted.parameters()
    published = found.publish(found.theta[None])
    for name, (value,) in published.items():
        assert parameters[name].value == pytest.approx(value)
    assert parameters["data_exponent"].lower < published["data_exponent"][0]
    draws = found.fitted.draws
    assert np.all(draws[:, -len(found.shares) :] == np.eye(1, len(found.shares)))
    assert len(np.unique(draws[:, 0])) > 150


def test_what_failed_does_not_spoil_the_mean():
    good = scalepred.fit(study("CIFAR100"), resamples=50).estimate
    assert isinstance(good, auto_fit.Auto)
    theta = good.estimate.theta.copy()
    theta[-1] = np.nan
    spoilt = [dataclasses.replace(test, difference=np.full(49, np.nan))
              for test in good.tests[-1]]  # fmt: skip
    bad = dataclasses.replace(
        good,
        estimate=good.estimate._replace(theta=theta),
        tests=[*good.tests[:-1], spoilt],
        scores=(*good.scores[:-1], dataclasses.replace(good.scores[-1], weight=0.0)),
    )
    assert np.all(np.isfinite(bad.differences))
    assert np.all(np.isfinite(bad.fitted.draws))
    assert np.isfinite(bad.fitted.log_value(1e9, 1e9))
    assert bad.inner_tests
    assert all(np.isfinite(test.error) for test in bad.inner_tests)


def test_draws_where_points_say_much_are_as_wide_as_to_first_order():
    found = scalepred.fit(study("ImageNet", np.random.default_rng(0), 0.003)).estimate
    assert isinstance(found, auto_fit.Auto)
    rows = np.full(2000, found.best)
    draws = auto_draws.draw(found.law, found.estimate, rows, np.random.default_rng(0))
    points = found.points
    values = predict.evaluate(found.law, draws, points.x, points.y, found.scale)
    theta = found.theta[None]
    slopes = backtest.linearise(found.law, theta, points, found.scale)[1][0]
    covariance = found.estimate.covariance[found.best]
    sd = np.sqrt(np.einsum("ij,jk,ik->i", slopes, covariance, slopes))
    np.testing.assert_allclose(np.std(values, axis=0), sd, rtol=0.25)
    own = predict.evaluate(found.law, theta, points.x, points.y, found.scale)[0]
    middle = np.median(values, axis=0) - own
    assert np.all(np.abs(middle) < 0.25 * sd)


def test_draws_lie_around_the_estimate_where_points_say_little():
    """Draws from a normal approximation lie above it by more than their spread."""
    surface = study("CIFAR100", np.random.default_rng(0), 0.01)
    part = surface.where(fit_region(surface, max_compute=surface.work.max() / 50))
    fitted = scalepred.fit(part).fitted
    value = fitted.log_value(surface.params, surface.data)
    draws = fitted.log_value(surface.params, surface.data, draws=True)
    low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0) - value
    assert np.mean(np.abs(middle)) < 0.2 * np.mean(high - low)
    assert np.mean((low < 0) & (high > 0)) > 0.9


@pytest.mark.parametrize("persistence", [0.0, 0.95])
def test_checkpoints_of_a_run_count_for_less_though_other_runs_lie_between(persistence):
    """Where runs are named, what goes on along a run is told from what does not."""
    rng = np.random.default_rng(0)
    params, data, value, run = [], [], [], []
    for number, size in enumerate(np.repeat(np.geomspace(1e6, 1e8, 4), 4)):
        error = 0.04 * rng.standard_normal()
        # Every run has its checkpoints at places of its own.
        for place in np.geomspace(1e8, 1e10, 24) * 1.05 ** (number % 4):
            fresh = 0.04 * rng.standard_normal() * np.sqrt(1 - persistence**2)
            error = persistence * error + fresh
            mean = 0.1 + 20 * size**-0.4 + 200 * place**-0.35
            params.append(size)
            data.append(place)
            value.append(mean * np.exp(error))
            run.append(number)
    shares, widths = [], []
    for names in (None, run):
        fit = scalepred.fit(Surface.from_arrays(params, data, value, seed=names))
        assert isinstance(fit.estimate, auto_fit.Auto)
        shares.append(fit.estimate.estimate.shares[fit.estimate.best])
        said = fit.predict(1e9, 1e11)
        widths.append(np.log(said.mean_upper / said.mean_lower))
    if persistence:
        assert shares[1] < 0.5 * shares[0]
        assert widths[1] > 1.3 * widths[0]
    else:
        assert min(shares) > 0.7
        assert widths[1] == pytest.approx(widths[0], rel=0.25)


def test_checkpoints_before_the_end_of_a_schedule_count_for_less():
    """They lie up to a tenth above what a run that ends there has."""
    rng = np.random.default_rng(0)
    rows = []
    for size in 10.0 ** np.arange(6, 9.1, 0.5):
        for end in 10.0 ** np.arange(8, 10.1, 0.5):
            run = len({row[3] for row in rows})
            for share in np.linspace(0.2, 1.0, 9):
                ended = 0.1 + 20 * size**-0.35 + 150 * (share * end) ** -0.35
                error = ended * (1.1 - 0.1 * share**2)
                error *= np.exp(0.003 * rng.standard_normal())
                rows.append((size, share * end, error, run))
    size, data, value, run = np.array(rows).T
    target = 1e9, 1e11
    truth = 0.1 + 20 * target[0] ** -0.35 + 150 * target[1] ** -0.35
    error, notes = [], []
    for named in (False, True):
        surface = Surface.from_arrays(size, data, value, seed=run if named else None)
        assert auto_fit.has_checkpoints(surface) == named
        fit = scalepred.fit(surface, resamples=0)
        notes.append([note for note in fit.notes if "checkpoints" in note])
        error.append(float(fit.predict(*target).value) / truth - 1)
    assert [len(own) for own in notes] == [0, 1]
    assert abs(error[1]) < 0.8 * abs(error[0])


def test_runs_of_a_grid_are_no_checkpoints():
    m, n = (a.reshape(-1) for a in np.meshgrid([1e3, 1e4, 1e5], [1e3, 1e4, 1e5]))
    value = 0.1 + m**-0.3 + n**-0.3
    for seed in (None, np.zeros(9, int), np.arange(9)):
        surface = Surface.from_arrays(m, n, value, seed=seed, metric="loss")
        assert not auto_fit.has_checkpoints(surface)


def test_answers_work_for_the_flexible_law():
    fit = scalepred.fit(study("ImageNet", np.random.default_rng(0), 0.01))
    answer = fit.data_needed(0.3, params=1.0)
    reached = float(fit.predict(1.0, answer.value).value)
    assert reached == pytest.approx(0.3, rel=1e-6)
    assert answer.lower < answer.value < answer.upper
    best = fit.best_for_budget(60.0)
    assert best.reachable


def test_beats_plain_laws_on_real_language_models(shared_data):
    """240 Chinchilla runs, fitted on a fiftieth of the compute."""
    with (shared_data / "measured" / "chinchilla_epoch.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["value"]))[:-5]
    surface = Surface.from_arrays(
        *([float(row[name]) for row in rows] for name in ("params", "data", "value")),
        metric="loss",
    )
    work = surface.params * surface.data
    in_fit = fit_region(surface, max_compute=work.max() / 50)
    rest = surface.where(~in_fit)
    errors = {}
    for law in ("auto", "rosenfeld", "chinchilla"):
        fit = scalepred.fit(surface.where(in_fit), law)
        said = fit.predict(rest.params, rest.data)
        errors[law] = np.mean(np.abs(said.value / rest.value - 1))
        if law == "auto":
            assert coverage(rest.value, said.lower, said.upper) > 0.85
    assert errors["auto"] < 0.01
    assert errors["auto"] < 0.7 * min(errors["rosenfeld"], errors["chinchilla"])


@pytest.mark.parametrize("axis", ["params", "data"])
@pytest.mark.parametrize("metric", ["error", "loss"])
def test_one_size_that_varies_makes_a_curve(axis, metric):
    """Where one size is constant auto fits a curve along the other, and says so."""
    sizes = 1000.0 * 2.0 ** np.arange(12)
    value = 0.05 + 0.4 * (sizes / 1000) ** -0.4 + (metric == "loss")
    both = {"params": np.full(12, 7e6), "data": np.full(12, 7e6), axis: sizes}
    surface = Surface.from_arrays(
        both["params"], both["data"], value, metric=metric, random_guess=None
    )
    part = surface.where(np.arange(12) < 8)
    found = scalepred.fit(part)
    assert found.law.axes == (axis,)
    assert any(f"only {axis} varies" in note for note in found.notes)
    exponent = "model_exponent" if axis == "params" else "data_exponent"
    other = "data_exponent" if axis == "params" else "model_exponent"
    assert 0.3 < found.parameters[exponent].value < 0.5
    assert other not in found.parameters
    said = found.predict(surface.params, surface.data)
    # Sixteen times beyond; a point of noise is expected of curves, and there is none.
    np.testing.assert_allclose(said.value, value, rtol=0.04)
    assert coverage(value, said.lower, said.upper) >= 0.8
    assert np.isfinite(found.cross_validation.std)
    assert found.corners(surface)


def test_hidden_points_are_one_observation_of_their_mean_size():
    mask = np.array([True, *[False] * 4])

    def weights(*errors: list[float]) -> np.ndarray:
        tests = [
            [BackTest(3.0, mask, np.array([0.0, *own]), np.full(5, 0.02))]
            for own in errors
        ]
        return weigh(np.full(len(errors), 1.0), tests, np.ones(len(errors), bool))

    # Signs, order and how a mean size is made up of its points say nothing.
    same = weights([0.03] * 4, [-0.03, 0.03, -0.03, 0.03], [0.06, 0.0, -0.06, 0.0])
    np.testing.assert_allclose(same, 1 / 3)
    # Student's t with 3 degrees of freedom, to the power of what a back-test counts.
    one, two = (0.01, 0.04)
    z = np.array([one, two]) / 0.02 * np.sqrt(np.pi / 2)
    density = (1 + z**2 / 3) ** -2.0
    found = weights([one] * 4, [two] * 4)
    expected = (density[0] / density[1]) ** auto_weights.TEMPER
    assert found[0] / found[1] == pytest.approx(expected, rel=1e-12)

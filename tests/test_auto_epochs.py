"""Epochs as a third size of law=auto: from tables to predictions, answers and files."""

import dataclasses
import functools
import typing

import numpy as np
import pytest

import scalepred
from scalepred.fitting import merging, predict
from scalepred.fitting.auto import priors
from scalepred.fitting.auto.fit import Auto
from scalepred.fitting.auto.law import CORE_SIZE, make_law
from scalepred.fitting.laws import Scale
from scalepred.report import law_code
from scalepred.table.surface import Surface
from tests.test_repeated_data import FORMULA, TRUTH, simulate

EPOCHS = np.array([1.0, 4.0, 40.0])
FAR = 1e10, 1e10  # four and twelve times what was measured


@functools.cache
def fitted() -> scalepred.Fit:
    return scalepred.fit(simulate(), "auto", resamples=200)


def holds(said: scalepred.Prediction, truth: np.ndarray) -> bool:
    return bool(np.all((said.lower < truth) & (truth < said.upper)))


def test_what_repeats_are_worth_is_found():
    fit = fitted()
    assert fit.law.axes == ("params", "data", "epochs")
    far, truth = fit.predict(*FAR, epochs=EPOCHS), FORMULA(TRUTH, *FAR, EPOCHS)
    np.testing.assert_allclose(far.value, truth, rtol=0.02)
    assert holds(far, truth)
    for name in ("R_D*", "R_N*"):
        found = fit.parameters[name]
        assert found.lower < TRUTH[name] < found.upper
    assert any("epochs are a third size" in note for note in fit.notes)
    assert fit.predict(*FAR).value == far.value[0]  # seen once, where nothing is said


def test_runs_of_few_epochs_say_what_many_do():
    surface = simulate()
    assert surface.epochs is not None
    fit = scalepred.fit(surface.where(surface.epochs <= 4), "auto", resamples=100)
    assert holds(fit.predict(*FAR, epochs=EPOCHS), FORMULA(TRUTH, *FAR, EPOCHS))


def test_without_repeats_the_published_worth_is_taken_with_a_wide_interval():
    fit = scalepred.fit(simulate(epochs=(1,)), "auto", resamples=200)
    assert fit.parameters["R_D*"].value == pytest.approx(15.4)
    far = fit.predict(*FAR, epochs=EPOCHS)
    assert holds(far, FORMULA(TRUTH, *FAR, EPOCHS))
    width = (far.upper - far.lower) / far.value
    known = fitted().predict(*FAR, epochs=EPOCHS)
    assert width[2] > 1.5 * (known.upper - known.lower)[2] / known.value[2]
    codes = {warning.code: warning.sentence for warning in fit.warnings}
    assert "rests on what other studies found" in codes["few_epochs"]
    assert "confounded_epochs" not in codes


def test_back_tests_hide_epochs_and_compute():
    found = typing.cast(Auto, fitted().estimate)
    assert found.inner_tests
    most = simulate().epochs.max()  # pyright: ignore[reportOptionalMemberAccess]
    for tests in found.epoch_tests:
        assert len(tests) == 4  # 64 is hidden; 16, too; 4; 2
        for test in tests:
            epochs = found.surface.epochs
            np.testing.assert_array_equal(test.mask, epochs <= most / test.ratio)
    plain = scalepred.fit(once(), "auto", resamples=0).estimate
    assert not typing.cast(Auto, plain).epoch_tests[0]


def once() -> Surface:
    return dataclasses.replace(simulate(epochs=(1,)), epochs=None)


@pytest.mark.parametrize("levels", [0, 4])
def test_data_seen_once_by_models_in_no_excess_are_data(levels):
    """The law with epochs is the one without, where nothing is repeated."""
    rng = np.random.default_rng(levels)
    plain, repeated = (
        make_law(levels, True, axes)
        for axes in (("params", "data"), ("params", "data", "epochs"))
    )
    theta = 0.3 * rng.standard_normal(plain.num_parameters)
    scale = Scale(0.0, 0.0, 1.0, np.arange(levels, dtype=float))
    x, y = rng.uniform(-5, 0, (2, 20))
    never_in_excess = np.append(theta, [np.log(15.4), 40.0])

    def say(law, theta, y, times=None) -> np.ndarray:
        z = None if times is None else np.full(20, np.log(times))
        return predict.evaluate(law, theta[None], x, y, scale, z)[0]

    same = say(repeated, never_in_excess, y, 1.0)
    np.testing.assert_allclose(same, say(plain, theta, y), rtol=1e-9)
    # Any repeat is worth something, and never as much as new data.
    more = say(repeated, never_in_excess, y, 5.0)
    new = say(plain, theta, y + np.log(5.0))
    assert np.all((new < more) & (more < same))
    assert plain.num_parameters - CORE_SIZE == (2 * (levels + 1) if levels else 0)


def test_published_worth_is_the_prior_of_every_member():
    settings = priors.for_repeats(priors.LOSS)
    for member in priors.MEMBERS:
        mean, sd = member.prior(settings, True)
        np.testing.assert_allclose(np.exp(mean[CORE_SIZE:]), [15.4, 5.3])
        np.testing.assert_allclose(sd[CORE_SIZE:], 1.6)


@pytest.mark.parametrize("epochs", [None, 8.0])
def test_answers_are_for_the_epochs_asked_for(epochs):
    fit, seen = fitted(), epochs or 1.0
    data = fit.data_needed(2.6, 1e9, epochs)
    model = fit.params_needed(2.6, 1e10, epochs)
    for place in ((1e9, data.value), (model.value, 1e10)):
        assert fit.predict(*place, epochs=seen).value == pytest.approx(2.6, rel=1e-6)
    best = fit.best_for_budget(1e20, epochs=epochs)
    m = best.details["params"][0] * np.geomspace(0.2, 5, 81)
    values = fit.predict(m, 1e20 / (6 * m * seen), epochs=seen).value
    assert best.value == pytest.approx(values.min(), rel=1e-4)
    assert fit.next_cells(1e21, FAR, epochs=epochs)


def test_code_and_file_say_what_the_fit_says(tmp_path):
    m, n = (
        np.geomspace(1e7, 1e11, 5)[:, None, None],
        np.geomspace(1e8, 1e10, 4)[:, None],
    )
    said = fitted().predict(m, n, epochs=EPOCHS)
    names: dict = {}
    exec(law_code.python_code(fitted()), names)
    np.testing.assert_allclose(names["value"](m, n, EPOCHS), said.value, rtol=1e-9)
    fitted().save(tmp_path / "fit.npz")
    again = scalepred.load(tmp_path / "fit.npz").predict(m, n, epochs=EPOCHS)
    for one, other in zip(said, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_many_points_are_merged_with_their_epochs(monkeypatch):
    monkeypatch.setattr(merging, "MOST_POINTS", 10)
    merged = scalepred.fit(simulate(), "auto", resamples=200)
    one, other = (f.predict(*FAR, epochs=EPOCHS) for f in (fitted(), merged))
    np.testing.assert_array_equal(one.value, other.value)
    width = [(said.upper - said.lower) / said.value for said in (one, other)]
    np.testing.assert_allclose(width[0], width[1], rtol=0.3)


def write(path, surface: Surface, **columns) -> None:
    columns = {
        "params": surface.params, "data": surface.data, "loss": surface.value,
        "epochs": surface.epochs, **columns,
    }  # fmt: skip
    columns = {
        name: numbers for name, numbers in columns.items() if numbers is not None
    }
    lines = zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True)
    rows = "\n".join(",".join(str(cell) for cell in line) for line in lines)
    path.write_text(",".join(columns) + "\n" + rows + "\n")


def test_epochs_are_read_where_they_are_a_third_size(tmp_path):
    surface, path = simulate(), tmp_path / "points.csv"
    assert surface.epochs is not None

    def read(**columns) -> Surface:
        write(path, surface, **columns)
        return Surface.from_csv(path, data_counts="if_told")

    np.testing.assert_array_equal(read().epochs, surface.epochs)
    m, n, size = surface.params, surface.data, len(surface)
    distinct = surface.value * (1 + 1e-4 * np.arange(size))  # no two runs are the same
    for part, columns in {
        "": {"epochs": np.full(size, 4.0)},
        "they follow from parameters and data": {"epochs": 7e10 / n},  # as many steps
        "from parameters and data": {"epochs": 20 * m / n * 1e4},
        "a run has 0.5": {"epochs": np.where(m > 1e9, surface.epochs, 0.5)},
        "unique data must vary": {"unique_data": np.full(size, n.min())}
        | {"data": surface.seen, "epochs": surface.seen / n.min()},
        "must be a positive": {"epochs": np.where(m > 1e9, surface.epochs, -1.0)},
    }.items():
        found = read(loss=distinct, **columns)
        assert found.epochs is None, part
        told = [note for note in found.notes if "epochs are left out" in note]
        assert len(told) == (1 if part else 0), part
        assert part in "".join(told)


def test_a_table_without_repeats_gives_the_same_bits(tmp_path):
    """A column of ones changes nothing, and no file knows of epochs."""
    surface, path, fits = simulate(epochs=(1,)), tmp_path / "points.csv", []
    for epochs in (surface.epochs, None):
        write(path, surface, epochs=epochs)
        read = Surface.from_csv(path, data_counts="if_told")
        fits.append(scalepred.fit(read, "auto", resamples=50))
    one, other = (fit.fitted for fit in fits)
    assert one.theta.tobytes() == other.theta.tobytes()
    assert one.draws.tobytes() == other.draws.tobytes()
    assert fits[0].law.axes == ("params", "data")
    assert "R_D*" not in fits[0].parameters


@pytest.mark.slow
def test_published_repeats_are_predicted_better(shared_data):
    """Than by data_constrained, and than by law=auto that takes them for new data."""
    path = shared_data / "measured" / "datablations_repeat.csv"
    surface = Surface.from_csv(path, data_counts="auto")
    assert surface.epochs is not None
    in_fit = surface.work <= surface.work.max() / 50
    out = surface.where(~in_fit & (surface.epochs > 1.5))
    part = surface.where(in_fit)
    plain = Surface.from_arrays(part.params, part.seen, part.value, metric="loss")

    def error(table: Surface, law: str, data: np.ndarray, epochs=None) -> float:
        fit = scalepred.fit(table, law, resamples=0)
        said = fit.predict(out.params, data, epochs=epochs).value
        return float(np.mean(np.abs(said / out.value - 1)))

    found = error(part, "auto", out.data, out.epochs)
    assert found < 0.9 * error(part, "data_constrained", out.data, out.epochs)
    assert found < 0.9 * error(plain, "auto", out.seen)

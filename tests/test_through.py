"""A task's error through the loss: sizes -> loss -> error (case of a known truth)."""

import dataclasses
import functools
import json
import subprocess
import sys

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError
from scalepred.fitting import law_record
from scalepred.fitting.link import LINKS, Numbers, fit_link, log_error
from scalepred.fitting.through import share_points
from scalepred.fitting.two_stage import find_inner
from scalepred.table.losses import read_losses
from scalepred.table.surface import Surface

_AT = 1e10, 2e11  # where the truth is an accuracy of 0.8426


def _loss(m, n):
    return 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28


def _error(loss):
    return 1 - (0.25 + 0.65 / (1 + np.exp(5 * (loss - 2.6))))


def _table(noise: float = 0.0) -> tuple[Surface, Surface]:
    """Errors and losses on a 5 x 5 grid, which shows little more than chance."""
    m, n = (
        a.ravel()
        for a in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(2e8, 2e10, 5))
    )
    rng = np.random.default_rng(0)
    loss = _loss(m, n)
    scatter = noise * rng.standard_normal((2, len(m)))
    error = np.minimum(_error(loss) * np.exp(3 * scatter[1]), 1.0)
    return (
        Surface.from_arrays(m, n, error, metric="error"),
        Surface.from_arrays(m, n, loss * np.exp(scatter[0]), metric="loss"),
    )


@functools.cache
def _fit(noise: float = 0.0, is_through: bool = False):
    errors, losses = _table(noise)
    return scalepred.fit(
        errors, "chinchilla", resamples=200, losses=losses, is_through=is_through
    )


def test_the_known_truth_is_met_through_the_loss(shared_data):
    path = shared_data.parent / "cases" / "27-two-stage-accuracy" / "points.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    errors = Surface.from_csv(path, metric="accuracy")
    losses = read_losses(path, errors, "auto", {})
    assert losses is not None
    fit = scalepred.fit(errors, "chinchilla", resamples=200, losses=losses)
    said = fit.predict(*_AT)
    assert 1 - said.value == pytest.approx(0.8426, abs=1e-3)
    assert said.lower < 1 - 0.8426 < said.upper
    assert said.upper - said.lower < 0.02


def test_back_tests_choose_the_road_and_say_so():
    fit = _fit()
    assert fit.law.name == "two_stage"
    assert fit.notes[0].startswith("--through=loss was chosen: back-tests are off by")
    truth = _error(_loss(*_AT))
    assert fit.predict(*_AT).value == pytest.approx(truth, rel=0.01)
    assert fit.parameters["middle_loss"].value == pytest.approx(2.6, abs=0.01)
    assert fit.parameters["ceiling"].value == pytest.approx(0.75, rel=0.01)


def test_noise_of_both_stages_is_in_the_interval():
    clean, noisy = _fit().predict(*_AT), _fit(0.01, True).predict(*_AT)
    truth = _error(_loss(*_AT))
    assert noisy.mean_lower < truth < noisy.mean_upper
    widths = [np.log(one.mean_upper / one.mean_lower) for one in (clean, noisy)]
    assert widths[1] > 3 * widths[0]


def test_an_error_that_is_a_law_of_the_sizes_goes_directly():
    errors, losses = _table()
    direct = dataclasses.replace(errors, value=0.1 + 0.2 * (losses.value - 1.69))
    direct = Surface.from_arrays(
        direct.params, direct.data, direct.value, metric="error"
    )
    # Losses that have nothing to do with it.
    shuffled = np.random.default_rng(0).permutation(losses.value)
    odd = Surface.from_arrays(losses.params, losses.data, shuffled, metric="loss")
    fit = scalepred.fit(direct, "chinchilla", resamples=0, losses=odd)
    assert fit.law.name == "chinchilla"
    assert fit.notes[0].startswith("--through=none was chosen")


def test_the_best_split_is_that_of_the_loss():
    """The link only rises, so that it cannot move the optimum, flat as it may be."""
    _, losses = _table()
    loss = scalepred.fit(losses, "chinchilla", resamples=0)
    for budget in (1e16, 1e21, 1e26):
        split = _fit().best_for_budget(budget).details
        alone = loss.best_for_budget(budget).details
        for size in ("params", "data"):
            assert split[size][0] == pytest.approx(alone[size][0], rel=0.02)


def test_a_saved_fit_says_the_same(tmp_path):
    fit = _fit()
    fit.save(tmp_path / "fit.npz")
    again = scalepred.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(again.predict(*_AT), fit.predict(*_AT))
    assert again.not_scaling is None
    inner = find_inner(fit.law)
    assert inner is not None
    assert inner.name == "chinchilla"
    assert law_record.build(law_record.describe(fit.law, "chinchilla")) == fit.law


def test_the_order_of_rows_does_not_matter():
    errors, losses = _table()
    order = np.random.default_rng(2).permutation(len(errors))
    shuffled = [
        Surface.from_arrays(
            one.params[order], one.data[order], one.value[order], metric=one.metric
        )
        for one in (errors, losses)
    ]
    fit = scalepred.fit(shuffled[0], "chinchilla", resamples=200, losses=shuffled[1])
    np.testing.assert_allclose(fit.predict(*_AT), _fit().predict(*_AT), rtol=1e-9)


@pytest.mark.parametrize("name", LINKS)
def test_a_link_finds_its_own_numbers(name):
    weights = np.array([float(name == one) for one in LINKS])
    floor, ceiling, steepness = np.log([0.2, 0.8, 3.0])
    numbers = Numbers(floor, ceiling, steepness, 2.5)
    loss = np.linspace(1.5, 4.0, 40)
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(40))
    error = np.exp(np.asarray(log_error(weights, numbers, np.log(loss)))) * noise
    found = fit_link(loss, error, draws=300)
    assert found.name == name
    np.testing.assert_allclose(np.exp(found.theta[-4:-1]), [0.2, 0.8, 3.0], rtol=0.1)
    assert found.theta[-1] == pytest.approx(2.5, abs=0.05)
    assert found.sd == pytest.approx(0.005, rel=0.4)
    lower, upper = np.quantile(found.draws[:, -1], [0.005, 0.995])
    assert lower < 2.5 < upper


def test_a_known_guess_is_the_ceiling():
    loss = np.linspace(2.7, 4.0, 20)
    link = fit_link(loss, _error(loss), random_guess=0.75)
    assert np.exp(link.theta[-3]) == pytest.approx(0.75, rel=0.01)


def test_points_that_have_only_one_of_the_two_are_left_out():
    errors, losses = _table()
    some = losses.where(np.arange(len(losses)) % 3 > 0)
    shared = share_points(errors, some)
    assert shared is not None
    np.testing.assert_array_equal(shared[0].params, some.params)
    np.testing.assert_array_equal(shared[1].value, some.value)
    with pytest.raises(UserError, match=r"--through=none"):
        scalepred.fit(errors, "chinchilla", losses=losses.where(losses.params < 2e7))


def test_the_column_of_losses_is_found_or_named(tmp_path):
    errors, losses = _table()
    columns = errors.params, errors.data, 1 - errors.value, losses.value
    rows = [",".join(f"{x:.6g}" for x in row) for row in zip(*columns, strict=True)]
    path = tmp_path / "points.csv"
    path.write_text("\n".join(["params,data,accuracy,c4 loss", *rows]))
    surface = Surface.from_csv(path, metric="accuracy")
    found = read_losses(path, surface, "auto", {})
    assert found is not None
    np.testing.assert_allclose(found.value, losses.value, rtol=1e-5)
    assert read_losses(path, surface, "none", {}) is None
    named = read_losses(path, surface, "c4 loss", {})
    assert named is not None
    with pytest.raises(UserError, match=r"--through=ppl: .* no such column of losses"):
        read_losses(path, surface, "ppl", {})


def test_the_command_says_which_road_it_took(tmp_path):
    errors, losses = _table()
    columns = errors.params, errors.data, 1 - errors.value, losses.value
    rows = [",".join(f"{x:.8g}" for x in row) for row in zip(*columns, strict=True)]
    table = tmp_path / "points.csv"
    table.write_text("\n".join(["params,data,accuracy,loss", *rows]))
    arguments = [
        sys.executable, "-m", "scalepred.commands.fit", str(table),
        f"--workdir={tmp_path / 'out'}",
        "--law=chinchilla",
        "--metric=accuracy", "--resamples=30", "--target=params=1e10,data=2e11",
        "--json",
    ]  # fmt: skip
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "--through=loss was chosen" in printed.stderr
    said = json.loads(printed.stdout)
    truth = float(_error(_loss(*_AT)))
    assert said["targets"][0]["value"] == pytest.approx(truth, rel=0.02)
    assert "Gadre" in (tmp_path / "out" / "report.html").read_text()

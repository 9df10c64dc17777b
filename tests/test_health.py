"""Warnings about a fit: each appears where it should and nowhere else."""

import csv
import pathlib
import re

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError
from scalepred.fitting import solver
from scalepred.fitting.warn import SEVERITIES, Warn
from scalepred.table import numbers
from scalepred.table.surface import Surface

HUBER = solver.Residual("huber", 1e-3)


def epoch(shared_data, outliers: int) -> Surface:
    """Epoch's points in order of loss, the five largest left out or not."""
    with (shared_data / "measured" / "chinchilla_epoch.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["value"]))
    rows = rows[: len(rows) - 5 + outliers]
    names = "params", "data", "value"
    columns = ([float(row[name]) for row in rows] for name in names)
    return Surface.from_arrays(*columns, metric="loss")


def grid(noise: float = 0.002, **changed: float) -> Surface:
    """Chinchilla's form with a little noise; `changed` multiplies single points."""
    m, n = (
        s.reshape(-1) for s in np.meshgrid(4.0 ** np.arange(6), 4.0 ** np.arange(6))
    )
    value = 1.7 + 2.0 * m**-0.35 + 3.0 * n**-0.3
    value = value * np.exp(noise * np.random.default_rng(0).standard_normal(36))
    for point, factor in changed.items():
        value[int(point.removeprefix("p"))] *= factor
    return Surface.from_arrays(m * 1e6, n * 1e8, value, metric="loss")


def sentences(surface: Surface, **options) -> dict[str, str]:
    fit = scalepred.fit(surface, "chinchilla", resamples=0, **options)
    return {warning.code: warning.sentence for warning in fit.warnings}


def test_a_clean_grid_has_no_outliers():
    assert not {"outliers", "influential_point"} & sentences(grid()).keys()


def test_outliers_are_named_with_what_they_do():
    found = sentences(grid(p35=1.2), residual=HUBER)
    assert "the point at 1.02B parameters and 102B examples lies" in found["outliers"]
    assert "the model exponent would be" in found["outliers"]


def test_a_point_that_leads_is_named():
    """The only one of the smallest model decides on its exponent."""
    surface = grid(noise=0.0, p0=1.06)
    keep = (surface.params > 2e6) | (surface.data < 2e8)
    found = sentences(surface.where(keep))
    assert "outliers" in found or "influential_point" in found
    assert "would be" in found.get("influential_point", found.get("outliers", ""))


def test_epochs_five_outliers_are_reported(shared_data):
    """They move the data exponent from .367 to .453 even under Huber."""
    clean, spoilt = (
        scalepred.fit(epoch(shared_data, n), "chinchilla", residual=HUBER, resamples=0)
        for n in (0, 5)
    )
    assert clean.parameters["data_exponent"].value == pytest.approx(0.3672, abs=2e-4)
    assert spoilt.parameters["data_exponent"].value == pytest.approx(0.453, abs=1e-3)
    said = {w.code: w.sentence for w in spoilt.warnings}["outliers"]
    assert "the data exponent would be 0.35" in said
    assert "instead of 0.453" in said
    # The five, and three runs beside them.
    fewest = np.sort(spoilt.surface.data)[:5]
    for size in spoilt.surface.params[np.isin(spoilt.surface.data, fewest)]:
        assert f"{numbers.write(float(size))} parameters" in said
    assert said.startswith("8 points")


@pytest.mark.parametrize(("law", "most"), [("chinchilla", 8), ("auto", 5)])
def test_epochs_five_outliers_are_named_by_default(shared_data, law, most):
    surface = epoch(shared_data, 5)
    fit = scalepred.fit(surface, law, resamples=0)
    said = {w.code: w.sentence for w in fit.warnings}["outliers"]
    fewest = np.sort(surface.data)[:5]
    for size in surface.params[np.isin(surface.data, fewest)]:
        assert f"{numbers.write(float(size))} parameters" in said
    assert said.startswith(f"{most} points")


def test_least_absolute_deviations_are_epochs_estimate(shared_data):
    """Besiroglu et al. publish (482.0, 2085, .3478, .3658); see their notebook."""
    found = scalepred.fit(
        epoch(shared_data, 0),
        "chinchilla",
        residual=solver.Residual("huber", 1e-6),
        resamples=0,
    ).parameters
    assert found["A"].value == pytest.approx(482.0, rel=1e-3)
    assert found["B"].value == pytest.approx(2085, rel=1e-3)
    assert found["model_exponent"].value == pytest.approx(0.3478, abs=1e-4)
    assert found["data_exponent"].value == pytest.approx(0.3658, abs=1e-4)


def test_exponents_that_nothing_determines_are_flat():
    """All sizes so large that the floor alone is seen."""
    surface = grid(noise=0.05)
    surface = surface.where((surface.params > 6e7) & (surface.data > 6e9))
    fit = scalepred.fit(surface, "chinchilla", resamples=200)
    codes = {warning.code for warning in fit.warnings}
    assert "flat_optimum" in codes
    clean = scalepred.fit(grid(), "chinchilla", resamples=200)
    assert "flat_optimum" not in {warning.code for warning in clean.warnings}


def noisy_seeds(quiet: float, loud: float) -> Surface:
    """Four seeds a cell; the smallest sizes are noisier."""
    rng = np.random.default_rng(3)
    m, n = (
        s.reshape(-1) for s in np.meshgrid(4.0 ** np.arange(6), 4.0 ** np.arange(6))
    )
    value = 1.0 + 2.0 * m**-0.4 + 3.0 * n**-0.4
    sd = np.where(m < 4, loud, quiet)
    runs = value[:, None] * (1 + sd[:, None] * rng.standard_normal((36, 4)))
    return Surface.from_arrays(
        np.repeat(m, 4), np.repeat(n, 4), runs.reshape(-1), metric="loss"
    )


def test_weights_by_noise_follow_the_noise():
    surface = noisy_seeds(quiet=0.002, loud=0.05)
    fit = scalepred.fit(surface, "chinchilla", weights="noise", resamples=0)
    weight = fit.surface.weight
    assert weight[fit.surface.params < 4].mean() < 0.7 * weight.mean()
    assert any("seed noise" in note for note in fit.notes)
    with pytest.raises(UserError, match="no point has two seeds"):
        scalepred.fit(grid(), "chinchilla", weights="noise")
    with pytest.raises(UserError, match="must be given or noise"):
        scalepred.fit(surface, "chinchilla", weights="loud")


def test_one_sided_residual_ignores_badly_tuned_runs():
    """Runs above the law pull it up less than when both sides count alike."""
    rng = np.random.default_rng(1)
    bad = {f"p{point}": 1.1 for point in rng.choice(36, 8, replace=False)}
    truth, surface = grid(noise=0.0), grid(noise=0.0, **bad)

    def error(above: float) -> float:
        residual = solver.Residual("log", above=above)
        fit = scalepred.fit(surface, "chinchilla", residual=residual, resamples=0)
        said = fit.predict(truth.params, truth.data).value
        return float(np.mean(np.abs(said / truth.value - 1)))

    assert error(0.05) < 0.5 * error(1.0)


def test_every_warning_has_a_weight_and_something_to_do():
    """Every code that the sources give; the heaviest come first."""
    root = pathlib.Path(scalepred.__file__).parent
    text = "".join(path.read_text() for path in root.rglob("*.py"))
    codes = set(re.findall(r"(?:\badd|\bWarn)\(\s*\"([a-z_]+)\"", text))
    assert {"few_points", "low_coverage", "outliers", "same_epochs"} <= codes
    found = [Warn(code, "") for code in codes]
    assert all(one.advice for one in found)
    found.sort(key=lambda one: one.rank)
    weights = [SEVERITIES.index(one.severity) for one in found]
    assert weights == sorted(weights)
    assert set(weights) == {0, 1, 2}
    of_own = Warn("made_up", "")
    assert (of_own.severity, of_own.advice) == ("weakens", "")

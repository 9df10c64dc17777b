"""Targets of a sweep: their rates by the law, and what these cost in the forecast."""

import dataclasses
import math

import numpy as np
import pytest
from etils import epath
from test_forecast import make_experiment, read_forecasts

from scalepred import config, study, validation
from scalepred.config import UserError
from scalepred.forecasting.tuning import Tuning

RATES = (0.01, 0.03, 0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Evidence of nine sizes at three rates, and a forecast of two targets."""
    workdir = tmp_path_factory.mktemp("rates") / "work"
    study.run(_experiment(), epath.Path(workdir), ("train", "fit", "forecast"))
    return workdir


def _experiment(**changes) -> config.Experiment:
    experiment = make_experiment()
    experiment.grid = dataclasses.replace(
        experiment.grid, learning_rates=RATES, seeds=1
    )
    experiment.targets = config.Targets(widths=(32, 64), **changes)
    return experiment


def _told(workdir, **changes) -> list[dict]:
    """What the forecast of this study keeps of the rates of its targets."""
    stages = ("fit", "forecast")
    found = study.run(_experiment(**changes), epath.Path(workdir), stages).forecast
    assert found is not None
    own = [target for target in found.targets if target["kind"] == "target"]
    return [target["rates"]["learning_rate"] for target in own]


def test_targets_follow_the_law_of_the_best_rates(trained):
    (said,) = read_forecasts(trained)
    rates = [target["rates"]["learning_rate"] for target in said.targets[:2]]
    assert len({one["setting"] for one in rates}) == 2  # each size its own
    for one in rates:
        assert one["lower"] < one["setting"] < one["upper"]
        assert one["largest"] in RATES
        assert 0 <= one["regret"] <= one["regret_upper"]
    log = (trained / "log.txt").read_text()
    assert "by the law of the best ones" in log
    assert "the best at the largest evidence, would cost" in log


def test_or_keep_that_of_the_largest_evidence_or_what_is_given(trained):
    for one in _told(trained, rates_from="largest"):
        assert one["setting"] == one["largest"]
    for one in _told(trained, learning_rate=0.2):
        assert one["setting"] == 0.2
    with pytest.raises(UserError, match=r"targets\.rates_from='best': must be one of"):
        validation.validate(_experiment(rates_from="best"))


def test_where_no_law_can_be_fitted_it_is_said(tmp_path):
    experiment = _experiment()
    experiment.grid.learning_rates = (0.03, 0.1)
    stages = ("train", "fit", "forecast")
    found = study.run(experiment, epath.Path(tmp_path), stages)
    assert found.forecast is not None
    log = (tmp_path / "log.txt").read_text()
    assert "as no law of it can be fitted (learning_rate: the table has 9 sizes" in log


def test_what_the_rates_cost_widens_a_forecast_upwards():
    ends = {"lower": 1.9, "upper": 2.2, "lower_50": 1.95, "upper_50": 2.05}
    plain = {"value": 2.0, **ends, "mean_over_seeds": ends}
    # No more than the evidence has: nothing changes.
    free = Tuning({}, np.full(10, -0.01)).add(plain, math.inf)
    for name, end in ends.items():
        assert free[name] == pytest.approx(end)
    assert free["value"] == 2.0
    regret = np.linspace(0.0, 0.4, 101)
    costly = Tuning({}, regret).add(plain, math.inf)
    assert costly["value"] == pytest.approx(2.0 * math.exp(0.2))
    assert costly["lower"] == pytest.approx(1.9 * math.exp(0.2))
    gap = math.hypot(math.log(1.1), 0.38 - 0.2)
    assert costly["upper"] == pytest.approx(2.0 * math.exp(0.2 + gap))
    assert costly["mean_over_seeds"]["upper"] == costly["upper"]
    assert Tuning({}, regret).add(plain, 2.3)["upper"] == 2.3

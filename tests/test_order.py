"""An order that was said beforehand, held against what was measured; gates of arms."""

import json
import math

import numpy as np
import pytest

from scalepred.config import UserError
from scalepred.fitting.order import score_order
from scalepred.forecasting import gate
from tests.test_commands import assert_refused, run_fit
from tests.test_comparison_command import _fit_alone, _write_csv

pytestmark = pytest.mark.usefixtures("undrawn")


def _said(
    value=-0.05, lower=-0.06, upper=-0.04, better=0.99, noise: float | None = 0.01
):
    """A place of a comparison's record."""
    relative = {"value": value, "lower": lower, "upper": upper}
    return {"at": {}, "relative": relative, "better": better, "noise": noise}


@pytest.mark.parametrize(
    ("times", "outcome"), [(0.95, "confirmed"), (1.05, "refuted"), (1.0, "undecided")]
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_an_order_is_confirmed_refuted_or_left_open(times, outcome, seeds) -> None:
    first = np.array([2.0, 2.1, 1.9])[:seeds]
    score = score_order(_said(), first, times * first)
    assert score.outcome == outcome
    assert score.predicted == "second"
    assert score.probability == 0.99
    assert score.measured.value == pytest.approx(times - 1)
    assert score.is_inside == (times == 0.95)


def test_the_baseline_may_be_the_better_one() -> None:
    said = _said(0.05, 0.04, 0.06, better=0.02)
    score = score_order(said, [2.0], [2.1])
    assert (score.predicted, score.outcome) == ("first", "confirmed")
    assert score.probability == 0.98
    assert score_order(said, [2.0], [1.9]).outcome == "refuted"


def test_where_no_order_was_said_none_comes_true() -> None:
    score = score_order(_said(-0.01, -0.03, 0.01, better=0.8), [2.0], [1.8])
    assert (score.predicted, score.outcome) == ("none", "undecided")
    assert score.is_inside is False


def test_the_interval_is_that_of_student_where_no_noise_was_known() -> None:
    first, second = np.array([2.0, 2.1, 1.9, 2.05]), np.array([1.9, 2.0, 1.85, 1.9])
    from scipy import stats

    logs = np.log(second) - np.log(first)
    low, high = stats.t.interval(0.9, 3, logs.mean(), stats.sem(logs))
    score = score_order(_said(noise=None), first, second)
    assert score.measured.lower == pytest.approx(math.expm1(low))
    assert score.measured.upper == pytest.approx(math.expm1(high))


def test_one_pair_without_known_noise_decides_nothing() -> None:
    score = score_order(_said(noise=None), [2.0], [1.0])
    assert score.outcome == "undecided"
    assert score.is_inside is None


def test_values_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UserError, match="1 values of the first arm and 2"):
        score_order(_said(), [2.0], [1.9, 1.8])
    with pytest.raises(UserError, match="above 0"):
        score_order(_said(), [2.0], [0.0])


def test_a_gate_of_arms_is_read() -> None:
    text = "arm=my b better than a at params=70B,data=1.4T probability=0.9"
    found = gate.parse_arm_gate(text)
    assert (found.arm, found.than) == ("my b", "a")
    assert (found.params, found.data, found.probability) == (7e10, 1.4e12, 0.9)
    assert math.isnan(found.budget)
    at_budget = gate.parse_arm_gate("arm=b better than a at budget=1e21,probability=.8")
    assert at_budget.budget == 1e21
    assert gate.is_of_arms(text)
    assert not gate.is_of_arms("value<=2,budget=1e21,probability=0.8")


@pytest.mark.parametrize(
    "text",
    [
        "arm=b better than a",
        "arm=b better than a at params=1e9",
        "arm=b better than a at params=1e9 probability=1.2",
        "arm=b better than a at budget=1e21,params=1e9 probability=0.9",
        "arm=b better than a at size=1e9 probability=0.9",
        "arm=b worse than a at params=1e9,data=1e9 probability=0.9",
        "arm=b better than a at params=x,data=1e9 probability=0.9",
    ],
)
def test_other_gates_of_arms_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="must look like arm=B better than A"):
        gate.parse_arm_gate(text)


def test_gates_of_arms_end_the_command_with_their_status(
    tmp_path, capsys, monkeypatch
) -> None:
    from scalepred import comparing

    monkeypatch.setattr(comparing.analysis, "fit_table", _fit_alone)
    table = tmp_path / "runs.csv"
    _write_csv(table)
    own = [f"--measurements={table}", "--by=family", f"--workdir={tmp_path / 'out'}"]
    at = "params=1e10,data=2e11 probability=0.9"
    passes, fails = (
        f"arm=cnn better than mlp at {at}",
        f"arm=mlp better than cnn at {at}",
    )
    status, out, _ = run_fit(
        capsys,
        *own,
        "--law=chinchilla",
        f"--gate={passes}",
        f"--gate={fails}",
        "--json",
    )
    assert status == 3
    first, second = json.loads(out)["gates"]
    assert first["passed"]
    assert first["reached_with"] > 0.9
    assert not second["passed"]
    gates = f"--gate=arm=cnn better than x at {at}"
    assert_refused(run_fit(capsys, *own, gates), "there is no 'x' (there: mlp, cnn")
    alone = [f"--measurements={table}", f"--workdir={tmp_path / 'one'}"]
    assert_refused(run_fit(capsys, *alone, f"--gate={passes}"), "asks two groups")
    assert not (tmp_path / "one").exists()

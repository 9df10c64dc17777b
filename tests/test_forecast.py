"""What is said before a target is trained: sealed, scored, and asked by scripts."""

import csv
import dataclasses
import json
import math
import pathlib
import shutil

import numpy as np
import pytest
import scipy.stats
from etils import epath

import scalepred
from scalepred import config, grid, study
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.forecasting import forecast
from scalepred.forecasting import gate as gate_lib
from scalepred.forecasting.evidence import weigh_evidence
from scalepred.report import format, words
from scalepred.table.rows import Table
from tests.test_commands import assert_refused, run_fit

pytestmark = pytest.mark.usefixtures("undrawn")

EVIDENCE = ("train", "fit", "forecast")
STUDY = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="small",
        grid=config.Grid(widths=(4, 8, 16), data_fractions=(1/64, 1/16, 1/4), seeds=2),
        training=config.Training(learning_rate=0.05, steps=60),
        fit=config.Fitting(resamples=100),
        targets=config.Targets(widths=(64,), seeds=2, params=(1e6,), data=(1e5,)),
        questions=config.Questions(target_value=0.2, budget=1e8),
    )
"""


def make_experiment() -> config.Experiment:
    found: dict = {}
    exec(STUDY, found)
    return found["get_config"]()


def read_forecasts(workdir) -> list[forecast.Forecast]:
    found, notes = forecast.read_all(epath.Path(workdir) / "forecasts")
    assert not notes
    return found


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A workdir with evidence and forecast; whoever changes it copies it."""
    workdir = tmp_path_factory.mktemp("told") / "work"
    outcome = study.run(make_experiment(), epath.Path(workdir), EVIDENCE)
    assert outcome.forecast is not None
    return workdir


@pytest.fixture(scope="module")
def verified(told, tmp_path_factory):
    """The same, then verified."""
    workdir = copy(told, tmp_path_factory.mktemp("verified"))
    study.run(make_experiment(), epath.Path(workdir), ("verify",))
    return workdir


def copy(workdir: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(workdir, to / "work"))


def test_a_forecast_is_made_of_evidence_alone(told):
    rows = Table(told / "measurements.csv").rows
    assert len(rows) == 3 * 3 * 2
    assert {row.width for row in rows.values()} == {4, 8, 16}
    (said,) = read_forecasts(told)
    evidence = said.record["evidence"]
    assert evidence["num_runs"] == len(rows)
    assert evidence["runs"] == sorted(rows)
    assert evidence["rows"] == weigh_evidence([*rows.values()]).rows
    flops = sum(row.flops for row in rows.values())
    assert evidence["flops"] == pytest.approx(flops)
    cell, plain = said.targets
    assert (cell["kind"], plain["kind"]) == ("target", "plain")
    assert cell["compute_multiple"] == pytest.approx(cell["flops"] / flops)
    for target in said.targets:
        for ends in (target, target["mean_over_seeds"]):
            inner = ends["lower_50"], ends["upper_50"]
            assert ends["lower"] < inner[0] < inner[1] < ends["upper"]
        assert 0 <= target["probability"] <= 1
        assert target["num_measured"] == 0
    # A mean over seeds is surer than one of them.
    mean = cell["mean_over_seeds"]
    assert mean["upper"] / mean["lower"] < cell["upper"] / cell["lower"]


def test_the_saved_fit_beside_a_forecast_says_the_same(told):
    (said,) = read_forecasts(told)
    fit = scalepred.load(told / "forecasts" / said.record["fit"]["file"])
    for target in said.targets:
        found = fit.predict(target["params"], target["data"])
        assert float(found.value) == target["value"]
        assert float(found.lower) == target["lower"]
        assert float(found.upper_50) == target["upper_50"]


def test_targets_are_trained_after_and_scored(verified):
    (said,) = read_forecasts(verified)
    lines = (verified / "log.txt").read_text().splitlines()
    sealed = next(i for i, line in enumerate(lines) if said.digest in line)
    trained = next(i for i, line in enumerate(lines) if "2 of 2 cells" in line)
    assert sealed < trained
    (row,) = csv.DictReader((verified / "verification.csv").open())
    assert list(row) == [
        "params", "data", "compute", "predicted", "lower", "upper", "lower_50",
        "upper_50", "measured", "num_seeds", "relative_error", "forecast",
    ]  # fmt: skip
    rows = Table(verified / "measurements.csv").rows.values()
    values = [row.value for row in rows if row.width == 64]
    assert len(values) == int(row["num_seeds"]) == 2
    assert float(row["measured"]) == pytest.approx(np.mean(values))
    error = float(row["predicted"]) / float(row["measured"]) - 1
    assert float(row["relative_error"]) == pytest.approx(error)
    assert row["forecast"] == said.digest
    mean = said.targets[0]["mean_over_seeds"]
    assert float(row["lower"]) == mean["lower"]
    assert float(row["upper_50"]) == mean["upper_50"]


def test_what_was_said_stands_whatever_comes_after(verified, tmp_path):
    workdir = copy(verified, tmp_path)
    before = snapshot(workdir / "forecasts")
    outcome = study.run(make_experiment(), epath.Path(workdir), study.STAGES)
    assert snapshot(workdir / "forecasts") == before
    assert outcome.results is not None
    first = words.headline(outcome.results)
    assert "; measured" in first
    assert "the mean of 2 runs" in first
    measured = format.measured(outcome.verified[0].measured, "error")
    assert measured in first
    assert measured in (workdir / "report.html").read_text()
    rows = list(csv.DictReader((workdir / "predictions.csv").open()))
    kinds = [row["region"] for row in rows]
    assert kinds.count("fit") == 9
    assert kinds.count("target") == 2
    assert float(rows[9]["measured"]) == outcome.verified[0].measured
    assert rows[10]["measured"] == ""


def test_more_evidence_is_a_second_forecast_and_the_first_is_scored(verified, tmp_path):
    workdir = epath.Path(copy(verified, tmp_path))
    before = snapshot(pathlib.Path(workdir) / "forecasts")
    more = make_experiment()
    more.grid = dataclasses.replace(more.grid, seeds=3)
    outcome = study.run(more, workdir, EVIDENCE)
    said = read_forecasts(workdir)
    assert len(said) == 2
    after = snapshot(pathlib.Path(workdir) / "forecasts")
    assert {name: after[name] for name in before} == before
    # The target was measured by then, so the second one is no forecast of it.
    assert [one.targets[0]["num_measured"] for one in said] == [0, 2]
    assert outcome.verified[0].forecast == said[0].digest
    assert outcome.verified[0].is_before


def test_a_changed_forecast_does_not_count(told, tmp_path, capsys):
    workdir = copy(told, tmp_path)
    (path,) = (workdir / "forecasts").glob("*.json")
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for place in random.integers(0, len(content), 20):
        content[place] ^= 1 << random.integers(8)
        path.write_bytes(bytes(content))
        with pytest.raises(UserError, match="does not count"):
            forecast.read(path)
    with pytest.raises(UserError, match="no forecast says anything of width 64"):
        study.run(make_experiment(), epath.Path(workdir), ("verify",))
    assert len(Table(workdir / "measurements.csv").rows) == 18
    # Said again it is another file, and the changed one is told.
    study.run(make_experiment(), epath.Path(workdir), EVIDENCE)
    assert "does not count" in capsys.readouterr().err
    assert len([*(workdir / "forecasts").glob("*.json")]) == 2


def test_the_rest_of_a_grid_is_trained_after_its_forecast(tmp_path):
    experiment = make_experiment()
    experiment.targets = config.Targets(widths=(64,))
    experiment.fit = dataclasses.replace(experiment.fit, max_params_ratio=2.0)
    outcome = study.run(experiment, epath.Path(tmp_path), ("train", "fit", "forecast"))
    table = Table(tmp_path / "measurements.csv")
    assert {row.width for row in table.rows.values()} == {4, 8}
    assert outcome.forecast
    assert [one["kind"] for one in outcome.forecast.targets] == ["target"] + [
        "held_out"
    ] * 3
    # By default the grid is completed, and no target trained.
    outcome = study.run(experiment, epath.Path(tmp_path))
    table = Table(tmp_path / "measurements.csv")
    assert {row.width for row in table.rows.values()} == {4, 8, 16}
    assert len(outcome.verified) == 3
    assert len(read_forecasts(tmp_path)) == 1
    assert outcome.results
    held_out = next(s for s in outcome.results.scores if s.name == "held out")
    assert held_out.num_points == 3


def test_rates_of_targets_come_from_the_evidence(tmp_path):
    experiment = make_experiment()
    experiment.grid = dataclasses.replace(
        experiment.grid, learning_rates=(1e-5, 0.05), seeds=1
    )
    experiment.targets = config.Targets(widths=(32,))
    study.run(experiment, epath.Path(tmp_path), ("train", "fit", "forecast", "verify"))
    rows = Table(tmp_path / "measurements.csv").rows.values()
    target = [row for row in rows if row.width == 32]
    assert [row.learning_rate for row in target] == [0.05]
    dataset = load_dataset("digits")
    pinned = dataclasses.replace(experiment.targets, learning_rate=0.2)
    experiment.targets = pinned
    (cell,) = grid.make_target_cells(experiment, dataset, (0.05, 0.0))
    assert cell.learning_rate == 0.2
    assert cell.validation_size > 0


@pytest.mark.parametrize(
    ("changes", "stages", "says"),
    [
        ({"widths": (16,), "data_fractions": (1 / 4,)}, EVIDENCE, "inside the fit"),
        ({"params": (1e3,), "data": (20.0,)}, EVIDENCE, "inside the fit region"),
        ({"params": (1e6,)}, EVIDENCE, "must be equally long"),
        ({"widths": (0,)}, EVIDENCE, r"targets\.widths=\(0,\)"),
        ({"seeds": 0}, EVIDENCE, r"targets\.seeds=0"),
        ({"data_fractions": (2.0,)}, EVIDENCE, r"targets\.data_fractions"),
        ({"params": (1e6,), "data": (1e5,), "epochs": (2.0,)}, EVIDENCE, "epochs"),
        ({}, ("verify",), "nothing to verify"),
        ({"widths": (64,)}, ("train", "forecast"), "add fit"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path, changes, stages, says):
    experiment = make_experiment()
    experiment.targets = config.Targets(**changes)
    workdir = tmp_path / "work"
    with pytest.raises(UserError, match=says):
        study.run(experiment, epath.Path(workdir), stages)
    assert not workdir.exists()


def test_verify_wants_the_evidence_first(tmp_path):
    with pytest.raises(UserError, match="0 of the 18 runs that are fitted are there"):
        study.run(make_experiment(), epath.Path(tmp_path), ("verify",))


def target_of(**changes) -> dict:
    ends = {"lower": 0.9, "upper": 1.2, "lower_50": 0.96, "upper_50": 1.08}
    about = {
        "name": "", "kind": "plain", "params": 1e6, "data": 1e5, "epochs": None,
        "flops": 6e11, "num_seeds": 4, "num_measured": 0, "value": 1.0,
        "mean_over_seeds": {**ends, "upper": 1.1}, "probability": None,
        "compute_multiple": 60.0,
    }  # fmt: skip
    return {**about, **ends, **changes}


SAID = forecast.Forecast("0" * 16, {"targets": [target_of()], "metric": "loss"})


@pytest.mark.parametrize(
    ("values", "inside"),
    [([1.0], "50"), ([1.15], "90"), ([1.15, 1.15], "none"), ([0.8], "none")],
)
def test_scores_say_which_interval_holds(values, inside):
    found = forecast.score(SAID, target_of(), values)
    assert found.inside == inside
    assert found.num_seeds == len(values)
    assert found.relative_error == pytest.approx(1 / np.mean(values) - 1)


def test_log_score_is_a_density():
    """Of a symmetric interval that of a normal; always one of mass 1."""
    even = target_of(lower=math.exp(-0.2), upper=math.exp(0.2))
    sd = 0.2 / scipy.stats.norm.ppf(0.95)
    for place in (-0.3, 0.0, 0.1):
        found = forecast.score(SAID, even, [math.exp(place)])
        assert found.log_score == pytest.approx(scipy.stats.norm.logpdf(place, 0, sd))
    places = np.linspace(-2, 2, 4001)
    densities = [
        math.exp(forecast.score(SAID, target_of(), [math.exp(z)]).log_score)
        for z in places
    ]
    assert np.trapezoid(densities, places) == pytest.approx(1, rel=1e-6)
    assert math.isnan(forecast.score(SAID, target_of(), []).log_score)
    assert math.isnan(forecast.score(SAID, target_of(upper="inf"), [1.0]).log_score)


def test_a_gate_is_read_or_refused():
    gate = gate_lib.parse_gate("value<=0.05,params=1e9,data=2e10,probability=0.8")
    assert (gate.value, gate.params, gate.data, gate.probability) == (
        0.05, 1e9, 2e10, 0.8,
    )  # fmt: skip
    gate = gate_lib.parse_gate("value<=2, budget=1e21, probability=0.5, epochs=4")
    assert (gate.budget, gate.epochs) == (1e21, 4)
    for text in (
        "", "value<=0.05", "value=0.05,params=1e9,data=2e10,probability=0.8",
        "value<=0.05,params=1e9,probability=0.8",
        "value<=0.05,params=1e9,data=2e10,probability=1",
        "value<=0.05,params=1e9,data=2e10,probability=800%",
        "value<=-1,params=1e9,data=2e10,probability=0.8",
        "value<=nan,params=1e9,data=2e10,probability=0.8",
        "value<=0.05,params=1e9,data=2e10,probability=0.8,params=2",
        "value<=0.05,params=1e9,budget=1e9,probability=0.8",
        "value<=0.05,budget=1e9,probability=0.8,epochs=0.5",
    ):  # fmt: skip
        with pytest.raises(UserError, match="must look like"):
            gate_lib.parse_gate(text)


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        ("value<=0.8,params=1e4,data=1280,probability=0.5", 0),
        ("value<=0.8,budget=1e9,probability=0.5", 0),
        ("value<=0.0001,params=1e4,data=1280,probability=0.5", 3),
    ],
)
def test_gates_and_json_of_a_saved_fit(told, capsys, gate, status):
    workdir = copy_of_fit(told)
    before = snapshot(workdir)
    ended, out, err = run_fit(
        capsys,
        f"--workdir={workdir}",
        f"--gate={gate}",
        "--json",
        "--target=params=1e7,data=1e6",
    )
    assert ended == status
    record = json.loads(out)
    assert record["gates"][0]["passed"] == (status == 0)
    assert record["targets"][0]["params"] == 1e7
    assert record["answers"] == []
    assert ("passed" if not status else "NOT passed") in err
    assert snapshot(workdir) == before


def copy_of_fit(told: pathlib.Path) -> pathlib.Path:
    folder = told.parent / "only_fit"
    if not folder.exists():
        folder.mkdir()
        (folder / "fit.npz").write_bytes((told / "fit.npz").read_bytes())
    return folder


def test_a_saved_fit_is_asked_as_it_is(told, tmp_path, capsys):
    workdir = copy_of_fit(told)
    for arguments, says in (
        ((f"--workdir={workdir}",), "--measurements: missing"),
        ((f"--workdir={workdir}", "--budget=1e9", "--law=auto"), "--law=auto: the fit"),
        ((f"--workdir={tmp_path}", "--budget=1e9"), "keeps no fit"),
        ((f"--workdir={workdir}", "--gate=value<=1"), "--gate=value<=1: must look"),
        (
            (f"--workdir={workdir}", "--target=params=1e3,data=20"),
            "lies inside the fit region",
        ),
        (
            (f"--workdir={workdir}", "--target=params=1e7,data=1e6,epochs=3"),
            "knows nothing of epochs",
        ),
    ):
        assert_refused(run_fit(capsys, *arguments), says)


TABLE = """params,data,value,seed
{rows}"""


def write_table(path: pathlib.Path) -> pathlib.Path:
    m, n = (
        s.reshape(-1)
        for s in np.meshgrid(10.0 ** np.arange(5, 9), 10.0 ** np.arange(6, 10))
    )
    loss = 1.7 + 300 * m**-0.4 + 900 * n**-0.45
    rows = zip(m, n, loss, strict=True)
    path.write_text(TABLE.format(rows="".join(f"{a},{b},{c},0\n" for a, b, c in rows)))
    return path


def test_a_table_from_outside_is_forecast_and_scored_later(tmp_path, capsys):
    table = write_table(tmp_path / "points.csv")
    workdir = tmp_path / "work"
    status, out, err = run_fit(
        capsys, f"--measurements={table}", f"--workdir={workdir}",
        "--law=chinchilla", "--target=params=1e9,data=2e10", "--target_value=1.9",
        "--resamples=50", "--data_unit=tokens", "--json",
    )  # fmt: skip
    assert status == 0, err
    record, kept = json.loads(out), json.loads((workdir / "answers.json").read_text())
    assert record["answers"] == kept["answers"]
    assert record["verdict"] == kept["verdict"]
    assert [card["name"] for card in kept["verdict"]] == ["trust", "need", "worth"]
    for answer in kept["answers"]:
        assert answer["sentence"].endswith(".")
        # As the terminal says, which --json sends to stderr.
        assert answer["sentence"][1:-1] in " ".join(err.split())
    assert "20B tokens should reach a loss" in err
    assert "examples" not in err
    (path,) = (workdir / "forecasts").glob("*.json")
    said = forecast.read(path)
    assert said.targets[0]["value"] == pytest.approx(
        1.7 + 300e0 * 1e9**-0.4 + 900 * 2e10**-0.45, rel=1e-4
    )
    assert said.targets[0]["probability"] == 1.0
    assert said.record["evidence"]["num_runs"] == 16
    new = tmp_path / "new.csv"
    new.write_text("params,data,value\n1e9,2e10,1.8\n1e3,1e3,5\n")
    status, out, err = run_fit(capsys, f"--score={path}", f"--measurements={new}")
    assert status == 0, err
    assert "relative error" in out
    assert "log score" in out
    new.write_text("params,data,value\n1e9,3e10,1.8\n")
    found = run_fit(capsys, f"--score={path}", f"--measurements={new}")
    assert_refused(found, "none of the 1 points has the sizes of a target")
    found = run_fit(capsys, f"--score={path}")
    assert_refused(found, "--score: needs --measurements")
    found = run_fit(capsys, f"--score={new}", f"--measurements={new}")
    assert_refused(found, "does not count")


def test_another_studys_workdir_is_refused_before_fitting(
    tmp_path, monkeypatch, capsys
):
    table = write_table(tmp_path / "points.csv")
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "config.json").write_text('{"kind": "experiment", "runs": {}}')
    monkeypatch.setattr("scalepred.fitting.fit.fit", None)  # would be called
    for arguments, says in (
        (("--law=chinchilla",), "belongs to a study of another kind"),
        (
            ("--law=m4", "--gate=value<=1,budget=1e9,probability=0.5"),
            "knows nothing of params",
        ),
        (("--target=params=1e5,data=1e6",), "lies inside the fit region"),
    ):
        found = run_fit(
            capsys, f"--measurements={table}", f"--workdir={workdir}",
            *arguments,
        )  # fmt: skip
        assert_refused(found, says)

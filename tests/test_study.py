"""The whole path on a small grid, and the contract of the files it leaves."""

import csv
import dataclasses
import itertools
import json
import math
import pathlib
import re
import runpy

import numpy as np
import pytest
from etils import epath

from scalepred import config, study, validation
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.forecasting.parts import split_cells
from scalepred.report import words
from scalepred.runtime.workdir import prepare_workdir
from scalepred.table.rows import Measurement, Table
from scalepred.training import work

# The evidence and what is held out, but no report.
ALL_RUNS = ("train", "fit", "forecast", "verify")
ROOT = pathlib.Path(__file__).resolve().parents[1]


def small_study(**changes) -> config.Experiment:
    """48 short runs on the digits."""
    experiment = config.Experiment(
        name="small",
        grid=config.Grid(
            widths=(4, 8, 16), data_fractions=(1 / 64, 1 / 16, 1 / 4, 1.0), seeds=2
        ),
        training=config.Training(learning_rate=0.05, steps=60),
        fit=config.Fitting(max_data_ratio=4.0, resamples=100),
        questions=config.Questions(target_value=0.2, budget=1e7),
    )
    return dataclasses.replace(experiment, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Workdir of the small study, done once."""
    workdir = epath.Path(tmp_path_factory.mktemp("study") / "work")
    study.run(small_study(), workdir)
    return workdir


def read_csv(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def read_rows(workdir) -> dict[str, Measurement]:
    """Rows without what differs between runs of the same cell."""
    rows = Table(workdir / "measurements.csv").rows
    return {
        name: dataclasses.replace(row, seconds=0.0, device="")
        for name, row in rows.items()
    }


def test_every_file_of_the_contract(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "config.json", "measurements.csv", "fit.json", "predictions.csv",
        "answers.json", "report.html", "figures", "log.txt",
    }  # fmt: skip
    assert not any(name.endswith(".tmp") for name in names)


def test_table_has_a_row_a_cell(finished):
    rows = read_csv(finished / "measurements.csv")
    assert len(rows) == 3 * 4 * 2
    assert all(row["status"] == "ok" for row in rows)
    for row in rows:
        assert 0 < float(row["value"]) < 0.95
        assert float(row["flops"]) > 6 * int(row["params"]) * 60 * 32 * 0.9
        assert row["task"] == "digits"


def test_predictions_are_the_contract(finished):
    rows = read_csv(finished / "predictions.csv")
    assert list(rows[0]) == [
        "params", "data", "compute", "region", "measured", "predicted", "lower",
        "upper", "relative_error",
    ]  # fmt: skip
    assert [row["region"] for row in rows].count("fit") == 9
    assert [row["region"] for row in rows].count("held_out") == 3
    for row in rows:
        measured, predicted = float(row["measured"]), float(row["predicted"])
        assert float(row["lower"]) < predicted < float(row["upper"])
        assert float(row["relative_error"]) == pytest.approx(predicted / measured - 1)
        held_out = float(row["data"]) > 1280 / 4
        assert (row["region"] == "held_out") == held_out


def test_fit_says_all_that_the_contract_asks(finished):
    record = json.loads((finished / "fit.json").read_text())
    assert record["law"] == "rosenfeld"
    assert set(record) >= {
        "parameters", "units", "num_points", "objective", "starts", "starts_agree",
        "bounds_hit", "condition_number", "cross_validation", "inner_back_tests",
        "warnings", "versions",
    }  # fmt: skip
    assert record["num_points"] == 9
    exponent = record["parameters"]["data_exponent"]
    assert exponent["lower"] <= exponent["value"] <= exponent["upper"]
    assert {score["name"]: score["num_points"] for score in record["scores"]} == {
        "fit region": 9,
        "held out": 3,
        "held out, both sizes at or beyond the fit region": 1,
    }


def test_answers_say_all_that_the_contract_asks(finished):
    answers = json.loads((finished / "answers.json").read_text())["answers"]
    by_question = {answer["question"]: answer for answer in answers}
    assert set(by_question) == {
        "data_needed", "params_needed", "cheapest_for_target", "best_for_budget",
        "budget_suffices",
    }  # fmt: skip
    for answer in answers:
        assert {"asked", "value", "lower", "upper", "unit", "reachable", "why"} <= set(
            answer
        )
        assert answer["why"]
    assert by_question["data_needed"]["unit"] == "images"
    assert by_question["best_for_budget"]["unit"] == "error"


def test_a_second_run_trains_nothing_and_says_the_same(finished, capsys):
    before = (finished / "measurements.csv").read_bytes()
    fit = (finished / "fit.json").read_text()
    study.run(small_study(), finished)
    assert "nothing to train" in capsys.readouterr().out
    assert (finished / "measurements.csv").read_bytes() == before
    assert (finished / "fit.json").read_text() == fit


def test_a_wider_grid_trains_only_what_is_new(finished, tmp_path):
    workdir = epath.Path(tmp_path / "work")
    workdir.mkdir()
    old = (finished / "measurements.csv").read_text()
    for name in ("config.json", "measurements.csv"):
        (workdir / name).write_text((finished / name).read_text())
    wider = small_study()
    wider.grid = dataclasses.replace(wider.grid, seeds=3)
    study.run(wider, workdir, ALL_RUNS)
    new = (workdir / "measurements.csv").read_text()
    assert set(old.splitlines()) < set(new.splitlines())
    assert len(new.splitlines()) == 1 + 3 * 4 * 3

    # And a narrower one leaves the others out of its fit, saying so.
    study.run(small_study(), workdir, stages=("fit",))
    record = json.loads((workdir / "fit.json").read_text())
    assert any(
        "12 rows of the table are not in this grid" in n for n in record["notes"]
    )


def test_a_lost_row_is_trained_again_to_the_same_numbers(finished, tmp_path):
    workdir = epath.Path(tmp_path / "work")
    workdir.mkdir()
    (workdir / "config.json").write_text((finished / "config.json").read_text())
    text = (finished / "measurements.csv").read_text()
    # As a kill leaves it: some rows missing, the last one torn.
    kept = text.splitlines(keepends=True)[:15]
    (workdir / "measurements.csv").write_text("".join(kept)[:-7])
    study.run(small_study(), workdir, ALL_RUNS)
    assert read_rows(workdir) == read_rows(finished)


def test_another_config_is_refused_and_loses_nothing(finished):
    before = {path.name: path.read_bytes() for path in finished.glob("*.*")}
    other = small_study()
    other.training = dataclasses.replace(other.training, learning_rate=0.5)
    with pytest.raises(UserError, match=r"training\.learning_rate=0\.05"):
        study.run(other, finished)
    with pytest.raises(UserError, match="name='small'"):
        study.run(small_study(name="another"), finished)
    record = {"runs": {"measurements": "x.csv"}, "settings": {}}
    with pytest.raises(UserError, match="another kind"):
        prepare_workdir(finished, record, "measurements")
    assert {path.name: path.read_bytes() for path in finished.glob("*.*")} == before


def test_diverged_cells_are_rows_and_are_left_out(tmp_path):
    workdir = epath.Path(tmp_path / "work")
    wild = small_study()
    wild.training = dataclasses.replace(wild.training, learning_rate=1e30)
    with pytest.raises(UserError, match="no run with status ok"):
        study.run(wild, workdir)
    rows = read_csv(workdir / "measurements.csv")
    assert len(rows) == 18  # what is held out is not paid for
    assert all(row["status"] == "diverged" and row["value"] == "" for row in rows)


def test_dry_run_touches_nothing(tmp_path, capsys):
    workdir = epath.Path(tmp_path / "work")
    study.run(small_study(), workdir, dry_run=True)
    out = capsys.readouterr().out
    assert "24 cells, 24 to train, 1 programs" in out
    assert "up to 1,482 parameters, " in out
    assert "memory: " in out
    assert "time: about" in out
    assert not workdir.exists()


def test_dry_run_leaves_even_a_torn_row_alone(finished, tmp_path, capsys):
    workdir = epath.Path(tmp_path / "work")
    workdir.mkdir()
    torn = (finished / "measurements.csv").read_text()[:-7]
    (workdir / "measurements.csv").write_text(torn)
    study.run(small_study(), workdir, dry_run=True)
    assert "24 cells, 1 to train" in capsys.readouterr().out
    assert (workdir / "measurements.csv").read_text() == torn


def test_a_report_needs_a_fit(tmp_path):
    workdir = epath.Path(tmp_path / "work")
    with pytest.raises(UserError, match="add fit"):
        study.run(small_study(), workdir, stages=("train", "report"))
    assert not workdir.exists()


def test_checkpoints_in_a_relative_workdir(finished, tmp_path, monkeypatch):
    """Orbax wants absolute paths; people do not."""
    monkeypatch.chdir(tmp_path)
    often = small_study()
    often.packing = dataclasses.replace(often.packing, checkpoint_minutes=1e-6)
    study.run(often, epath.Path("work"), ALL_RUNS)
    assert read_rows(epath.Path("work")) == read_rows(finished)


def test_damaged_config_is_told(tmp_path):
    workdir = epath.Path(tmp_path / "work")
    workdir.mkdir()
    (workdir / "config.json").write_text("{half")
    with pytest.raises(UserError, match="cannot be used"):
        study.run(small_study(), workdir)


def test_loss_is_fitted_like_error(tmp_path):
    workdir = epath.Path(tmp_path / "work")
    study.run(small_study(metric="loss"), workdir, stages=("train", "fit"))
    rows = read_csv(workdir / "predictions.csv")
    assert all(float(row["predicted"]) < math.log(10) for row in rows)


def load_experiment(name: str) -> config.Experiment:
    path = ROOT / "experiments" / f"{name}.py"
    return runpy.run_path(str(path))["get_config"]()


def test_digits_have_the_size_they_say():
    experiment = load_experiment("digits_mlp")
    validation.validate(experiment)
    widths = experiment.grid.widths
    assert len(widths) >= 7
    assert all(b == 2 * a for a, b in itertools.pairwise(widths))
    params = [w * w + 76 * w + 10 for w in widths]
    assert max(params) / min(params) >= 100
    fractions = sorted(experiment.grid.data_fractions)
    assert len(fractions) >= 7
    assert all(b == 2 * a for a, b in itertools.pairwise(fractions))
    assert experiment.grid.seeds >= 8


@pytest.mark.slow
def test_digits_predict_the_held_out_points(tmp_path):
    workdir = epath.Path(tmp_path / "work")
    stages = ("train", "fit", "forecast", "verify")
    study.run(load_experiment("digits_mlp"), workdir, stages)
    record = json.loads((workdir / "fit.json").read_text())
    scores = {score["name"]: score for score in record["scores"]}
    held_out = scores["held out"]
    assert held_out["num_points"] == 29
    assert abs(held_out["mean"]) <= 0.08
    assert held_out["std"] <= 0.15
    assert 0.80 <= held_out["coverage"] <= 0.98
    value = np.array(
        [float(r["measured"]) for r in read_csv(workdir / "predictions.csv")]
    )
    assert value.min() < 0.06 < 0.45 < value.max()


def test_the_quickstarts_evidence_is_fifty_times_cheaper_than_its_target():
    """Counted before anything is trained, all seeds of the evidence against one run."""
    experiment = load_experiment("forecast_python")
    dataset = load_dataset(experiment.dataset)
    parts = split_cells(experiment, dataset)
    evidence = sum(work.count_flops(cell, dataset) for cell in parts.evidence)
    assert {cell.width for cell in parts.targets} == {512}
    assert not parts.held_out
    for cell in parts.targets:
        assert work.count_flops(cell, dataset) >= 50 * evidence


@pytest.mark.slow
def test_the_quickstart_says_it_before_it_is_trained(tmp_path):
    experiment = load_experiment("forecast_python")
    workdir = epath.Path(tmp_path / "work")
    study.run(experiment, workdir, ("train", "fit", "forecast"))
    widths = {row.width for row in Table(workdir / "measurements.csv").rows.values()}
    assert widths == set(experiment.grid.widths)
    (path,) = (tmp_path / "work" / "forecasts").glob("*.json")
    said, sealed = path.read_bytes(), path.stat().st_mtime_ns
    outcome = study.run(experiment, workdir, study.STAGES)
    assert outcome.results is not None
    first = words.headline(outcome.results)
    assert re.match(
        r"Predicted 1\.\d+ nats .* from 1/5\d of its compute; measured", first
    )
    assert path.read_bytes() == said
    assert path.stat().st_mtime_ns == sealed
    record = json.loads(said)
    rows = Table(workdir / "measurements.csv").rows
    new = set(rows) - set(record["evidence"]["runs"])
    assert {rows[name].width for name in new} == {512}
    (verified,) = outcome.verified
    assert verified.compute_multiple >= 50
    assert verified.upper / verified.lower <= 1.5
    assert verified.inside != "none" or abs(verified.relative_error) <= 0.1


def test_the_metric_is_chosen_at_the_fit(tmp_path, capsys):
    """Nothing is trained again for another metric, and each gives its own fit."""
    experiment = small_study()
    workdir = epath.Path(tmp_path / "both")
    study.run(experiment, workdir, stages=("train", "fit"))
    rows = Table(workdir / "measurements.csv").rows
    assert all({"loss", "train_loss"} <= row.others.keys() for row in rows.values())
    by_error = json.loads((workdir / "fit.json").read_text())
    capsys.readouterr()
    experiment.metric = "loss"
    study.run(experiment, workdir, stages=("train", "fit"))
    assert "nothing to train" in capsys.readouterr().out
    assert Table(workdir / "measurements.csv").rows == rows
    by_loss = json.loads((workdir / "fit.json").read_text())
    assert (by_error["metric"], by_loss["metric"]) == ("error", "loss")
    assert by_error["parameters"] != by_loss["parameters"]

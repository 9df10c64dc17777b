"""The loop as a command trains: what it chooses, how it ends, how it goes on."""

import csv
import dataclasses
import itertools
import math
import pathlib
import shutil

import pytest
from etils import epath

from scalepred import config, study
from scalepred.config import UserError
from scalepred.forecasting import loop
from scalepred.forecasting.loop import Goal
from scalepred.table.rows import Table
from tests.test_commands import assert_refused, run_fit
from tests.test_forecast import read_forecasts, write_table

pytestmark = pytest.mark.usefixtures("undrawn")

BUDGET = 1.5e8


def make_experiment(**targets) -> config.Experiment:
    return config.Experiment(
        name="loop",
        metric="loss",
        grid=config.Grid(
            widths=(4, 8, 16), data_fractions=(1 / 64, 1 / 32, 1 / 16, 1 / 8), seeds=1
        ),
        training=config.Training(learning_rate=0.05, steps=60),
        fit=config.Fitting(law="auto", resamples=100),
        targets=config.Targets(**(targets or {"widths": (64,)})),
    )


def read_rounds(workdir) -> list[dict[str, str]]:
    return list(csv.DictReader((pathlib.Path(workdir) / "rounds.csv").open()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A loop that spends its budget, then forecasts."""
    workdir = tmp_path_factory.mktemp("loop") / "work"
    stages = ("train", "fit", "forecast")
    goal = Goal(0.0, BUDGET)
    study.run(make_experiment(), epath.Path(workdir), stages, goal=goal)
    return workdir


def test_it_trains_what_the_rounds_say_and_no_more(finished):
    rounds = read_rounds(finished)
    rows = Table(finished / "measurements.csv").rows.values()
    chosen = [
        tuple(map(int, cell.split()[:2]))
        for one in rounds
        for cell in one["cells"].split(";")
        if cell
    ]
    assert sorted(chosen) == sorted((row.params, row.data) for row in rows)
    assert len(set(chosen)) == len(chosen)
    flops = sum(row.flops for row in rows)
    assert flops <= BUDGET
    assert float(rounds[-1]["spent"]) == pytest.approx(flops)
    assert rounds[-1]["stop"] in ("budget spent", "nothing affordable helps")
    assert all(not one["stop"] for one in rounds[:-1])
    # What a round costs is known before it is trained.
    for one, after in itertools.pairwise(rounds):
        assert float(one["spent"]) + float(one["cost"]) == pytest.approx(
            float(after["spent"])
        )
    (said,) = read_forecasts(finished)
    assert said.record["evidence"]["num_runs"] == len(rows)


def test_the_same_again_trains_nothing_and_says_nothing_new(finished, capsys):
    before = {
        path.name: path.read_bytes()
        for path in finished.iterdir()
        if path.suffix == ".csv"
    }
    goal = Goal(0.0, BUDGET)
    stages = ("train", "fit", "forecast")
    study.run(make_experiment(), epath.Path(finished), stages, goal=goal)
    after = {name: (finished / name).read_bytes() for name in before}
    assert after == before
    assert len(read_forecasts(finished)) == 1


@pytest.mark.parametrize("num_rounds", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_stopped_in_a_round_it_goes_on_with_the_same_choices(
    finished, tmp_path, monkeypatch, num_rounds
):
    """Killed after the round was written down and before it was trained."""
    workdir = epath.Path(tmp_path / "work")
    calls = 0
    trained = study.train

    def train(*args):
        nonlocal calls
        calls += 1
        if calls > num_rounds:
            raise KeyboardInterrupt
        return trained(*args)

    monkeypatch.setattr(study, "train", train)
    goal = Goal(0.0, BUDGET)
    with pytest.raises(KeyboardInterrupt):
        study.run(make_experiment(), workdir, ("train",), goal=goal)
    monkeypatch.setattr(study, "train", trained)
    found = list(study.rounds(make_experiment(), workdir, goal))
    assert found[-1].stop
    ids = [set(Table(path / "measurements.csv").rows) for path in (workdir, finished)]
    assert ids[0] == ids[1]
    values = [
        {
            row.cell_id: row.value
            for row in Table(path / "measurements.csv").rows.values()
        }
        for path in (workdir, finished)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", None])
def test_rounds_that_the_loop_did_not_write_are_told(finished, tmp_path, text):
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "work"))
    path = workdir / "rounds.csv"
    damaged = path.read_text().rstrip("\n") + "330 x\n"
    path.write_text(text or damaged)
    with pytest.raises(UserError, match="not what the loop writes; move it away"):
        list(study.rounds(make_experiment(), epath.Path(workdir), Goal(0.0, BUDGET)))


def test_a_grid_that_became_narrower_goes_on(finished, tmp_path):
    """Its last round may ask for cells that are gone."""
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "work"))
    lines = (workdir / "rounds.csv").read_text().splitlines()
    (workdir / "rounds.csv").write_text("\n".join(lines[:2]) + "\n")
    narrow = make_experiment()
    narrow.grid.data_fractions = (1 / 32, 1 / 16, 1 / 8)
    found = list(study.rounds(narrow, epath.Path(workdir), Goal(0.0, BUDGET)))
    assert found[-1].stop


def test_it_stops_when_it_is_sure_enough(tmp_path):
    goal = Goal(10.0, 1e9)  # of anything
    found = list(study.rounds(make_experiment(), epath.Path(tmp_path), goal))
    assert found[-1].stop == "reached"
    assert found[-1].half_width <= 10.0
    assert found[-1].num_points < 12


@pytest.mark.parametrize(
    "cost",
    [
        pytest.param(
            cost, marks=[] if cost in ("flops", "seconds") else pytest.mark.slow
        )
        for cost in loop.COSTS
    ],
)
def test_every_cost_is_kept_within(tmp_path, cost):
    """What is spent is what the rows say, and within the budget."""
    budget = {"flops": 8e7, "6mn": 6e7, "mn": 1e7}.get(cost, 60.0)
    goal = Goal(0.0, budget, cost, 3600.0)
    workdir = epath.Path(tmp_path)
    study.run(make_experiment(), workdir, ("train",), goal=goal)
    rows = Table(workdir / "measurements.csv").rows.values()
    spent = {
        "flops": sum(row.flops for row in rows),
        "6mn": sum(6 * row.params * row.data * row.epochs for row in rows),
        "mn": sum(row.params * row.data * row.epochs for row in rows),
        "seconds": sum(row.seconds for row in rows),
        "price": sum(row.seconds for row in rows),
    }[cost]
    assert len(rows) >= 5
    assert spent <= budget
    last = read_rounds(workdir)[-1]
    assert float(last["spent"]) == pytest.approx(spent)


@pytest.mark.parametrize(
    ("goal", "changes", "says"),
    [
        (Goal(0.1, 0.0), {}, "--budget=0: must be a positive"),
        (Goal(0.1, math.inf), {}, "--budget=inf"),
        (Goal(-0.1, 1e9), {}, "--until_width=-0.1: must be"),
        (Goal(math.nan, 1e9), {}, "--until_width=nan"),
        (Goal(0.1, 1e9, "euros"), {}, "--cost=euros: must be one of"),
        (Goal(0.1, 1e9, "price"), {}, "--price_per_hour=0"),
        (Goal(0.1, 1e9), {"targets": config.Targets()}, "there is no target"),
        (Goal(0.1, 1e9), {"fit": config.Fitting(max_data_ratio=2.0)}, "chooses the"),
        (Goal(0.1, 1e9), {"fit": config.Fitting(resamples=0)}, "without draws"),
        (Goal(0.1, 1e3), {}, "too few for a fit"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path, goal, changes, says):
    experiment = dataclasses.replace(make_experiment(), **changes)
    with pytest.raises(UserError, match=says):
        study.run(experiment, epath.Path(tmp_path / "work"), goal=goal)
    assert not Table(tmp_path / "work" / "measurements.csv").rows


def test_a_plan_for_a_table_from_outside(tmp_path, capsys):
    table = write_table(tmp_path / "points.csv")
    workdir = tmp_path / "work"
    asked = ("--target=params=1e9,data=2e10", "--budget=1e18")
    status, out, err = run_fit(
        capsys, f"--measurements={table}", f"--workdir={workdir}", *asked, "--plan",
        "--law=chinchilla", "--resamples=50",
    )  # fmt: skip
    assert status == 0, err
    plan = [line for line in out.splitlines() if line.startswith("  plan ")]
    assert plan
    # The saved fit plans the same.
    status, again, err = run_fit(capsys, f"--workdir={workdir}", *asked, "--plan")
    assert status == 0, err
    assert [line for line in again.splitlines() if line.startswith("  plan ")] == plan
    for arguments, says in (
        (("--plan",), "--measurements: missing"),
        (("--plan", "--budget=1e18"), "--plan: needs one --target"),
        (("--plan", *asked, "--cost=hours"), "--cost=hours: must be one of"),
        ((*asked, "--cost=mn"), "--cost: of no use without --plan"),
    ):
        found = run_fit(capsys, f"--workdir={workdir}", *arguments)
        assert_refused(found, says if "missing" not in says else "--plan: needs one")

"""Arms: what they may change, which runs are paired, and the whole path of a study."""

import csv
import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from etils import epath
from test_commands import assert_refused, run_train

import scalepred
from scalepred import config, grid, study
from scalepred.arms import make, order
from scalepred.arms import run as arms
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.forecasting import gate as gates
from scalepred.forecasting import loop
from scalepred.table.rows import Table
from scalepred.training import ensemble

pytestmark = pytest.mark.usefixtures("undrawn")

ARMS = {
    "plain": {},
    # Far above every norm, so that nothing but the code that runs is different.
    "clipped": {"training.clip_norm": 1e6},
    "faster": {"training.learning_rate": 0.1},
}


def small_study(**changes) -> config.Experiment:
    """Three arms of 18 short runs on the digits, and one target."""
    experiment = config.Experiment(
        name="small",
        metric="loss",
        grid=config.Grid(
            widths=(4, 8, 16), data_fractions=(1 / 64, 1 / 16, 1 / 4), seeds=2
        ),
        training=config.Training(learning_rate=0.05, steps=60),
        fit=config.Fitting(resamples=100),
        targets=config.Targets(widths=(32,), data_fractions=(0.5,), seeds=2),
        arms=ARMS,
    )
    return dataclasses.replace(experiment, **changes)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return epath.Path(tmp_path_factory.mktemp("arms") / "work")


@pytest.fixture(scope="module")
def outcome(workdir):
    """The small study, done once, its target too."""
    return arms.run(small_study(), workdir, [*study.STAGES])


def values_of(workdir, arm: str) -> dict[tuple, float]:
    """Values of an arm by width, data and seed."""
    rows = Table(workdir / arm / "measurements.csv").rows.values()
    return {(row.width, row.data, row.seed): row.read("loss") for row in rows}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"only": {}}, "name two or more"),
        ({"a": {}, "b/c": {}}, "is no name of an arm"),
        ({"a": {}, "rows": {}}, "is no name of an arm"),
        ({"a": {}, "report.html": {}}, "is no name of an arm"),
        ({"a": {}, "A": {}}, "must differ in more than case"),
        ({"a": {}, "b": {"grid.widths": (4,)}}, "nothing that an arm may change"),
        ({"a": {}, "b": {"training.speed": 2}}, "nothing that an arm may change"),
        ({"a": {}, "b": {"metric": "error"}}, "nothing that an arm may change"),
        ({"a": {}, "b": {"training.nesterov": "yes"}}, "must be a bool"),
        ({"a": {}, "b": {"training.steps": 2.5}}, "must be a int"),
        ({"a": {}, "b": {"training.momentum": 1.5}}, "arms.b: training.momentum=1.5"),
        ({"a": {}, "b": {"grid.learning_rates": (0.1, 0.2)}}, "only b sweeps rates"),
    ],
)
def test_an_arm_that_cannot_be_is_told(changed, said):
    with pytest.raises(UserError, match=said):
        make.make_experiments(small_study(arms=changed))


def test_an_arm_is_the_study_with_its_changes():
    made = make.make_experiments(small_study())
    assert list(made) == list(ARMS)
    assert made["faster"].training.learning_rate == 0.1
    assert made["plain"] == small_study(arms={})
    assert made["clipped"].grid == made["plain"].grid
    assert made["clipped"].grid is not made["plain"].grid


def test_arms_of_the_command_line():
    found = make.parse([
        "plain:",
        "muon: training.optimizer=muon; training.learning_rate=0.02",
        "swept:grid.learning_rates=(0.1, 0.2);training.nesterov=True",
    ])  # fmt: skip
    assert found == {
        "plain": {},
        "muon": {"training.optimizer": "muon", "training.learning_rate": 0.02},
        "swept": {"grid.learning_rates": (0.1, 0.2), "training.nesterov": True},
    }


@pytest.mark.parametrize("text", ["muon", "a: training.steps", "a: x=1; y"])
def test_an_arm_of_the_command_line_that_cannot_be_read(text):
    with pytest.raises(UserError, match="write NAME: field=value"):
        make.parse([text])
    with pytest.raises(UserError, match="each name once"):
        make.parse(["a:", "a:"])


def prepared(experiment) -> dict[str, list[grid.Cell]]:
    """The cells of each arm; touches nothing."""
    found = arms._prepare(experiment, epath.Path("nowhere"))
    return {
        arm.arm: [*arm.parts.evidence, *arm.parts.held_out, *arm.parts.targets]
        for arm in found
    }


def test_the_baseline_is_the_plain_study():
    plain = small_study(arms={})
    dataset = load_dataset("digits")
    cells = prepared(small_study())["plain"]
    own = grid.make_cells(plain, dataset) + grid.make_target_cells(plain, dataset)
    assert [cell.cell_id for cell in cells] == [cell.cell_id for cell in own]


def test_runs_of_a_place_share_their_random_numbers_and_nothing_else():
    cells = prepared(small_study())
    for first, second, third in zip(*cells.values(), strict=True):
        assert first.random_words == second.random_words == third.random_words
        assert len({first.cell_id, second.cell_id, third.cell_id}) == 3
    assert len({cell.random_words for cell in cells["plain"]}) == len(cells["plain"])


def test_runs_of_a_sweep_are_paired_whatever_their_rate():
    swept = small_study(
        arms={
            "a": {"grid.learning_rates": (0.05, 0.1)},
            "b": {"grid.learning_rates": (0.02, 0.04, 0.08)},
        }
    )
    cells = prepared(swept)
    words = {
        name: {
            (cell.width, cell.dataset_size, cell.seed): cell.random_words
            for cell in own
        }
        for name, own in cells.items()
    }
    assert words["a"] == words["b"]
    for own in cells.values():
        assert len({cell.random_words for cell in own}) == len(words["a"])


def test_arms_that_differ_in_numbers_share_programs():
    cells = prepared(small_study())
    experiment, dataset = small_study(), load_dataset("digits")

    def count(*names: str) -> int:
        all_cells = [cell for name in names for cell in cells[name]]
        return len(ensemble.plan_cells(experiment, dataset, all_cells).packs)

    assert count("plain", "faster") == count("plain")
    assert count("plain", "clipped") == 2 * count("plain")


def test_every_arm_has_a_folder_that_is_a_study(outcome, workdir):
    for name in ARMS:
        folder = workdir / name
        assert (folder / "report.html").exists()
        rows = list(csv.DictReader((folder / "measurements.csv").read_text().split()))
        assert len(rows) == 18 + 2
        assert len(outcome.arms[name].table) == 20
        assert json.loads((folder / "config.json").read_text())["kind"] == "experiment"
    assert [group.name for group in outcome.comparison.groups] == list(ARMS)
    page = (workdir / "report.html").read_text()
    assert "What was said before" in page
    assert 'href="faster/report.html"' in page
    assert not (workdir / "measurements.csv").exists()
    assert not (workdir / "checkpoints").exists()


def test_a_change_of_no_effect_gives_the_same_values(outcome, workdir):
    """Start, subset and order of batches are the same, or they would differ."""
    plain, clipped = values_of(workdir, "plain"), values_of(workdir, "clipped")
    assert plain.keys() == clipped.keys()
    for place, value in plain.items():
        assert clipped[place] == pytest.approx(value, rel=1e-4)
    by_seed = [plain[4, 80, seed] for seed in (0, 1)]
    assert abs(math.log(by_seed[0] / by_seed[1])) > 1e-2


def test_an_arm_trained_by_itself_gives_the_same_rows(outcome, workdir):
    cells = prepared(small_study())["faster"][:6]
    experiment, dataset = small_study(), load_dataset("digits")
    plan = ensemble.plan_cells(experiment, dataset, cells)
    found = Table(workdir / "faster" / "measurements.csv").rows
    for news in ensemble.train(plan, dataset):
        for row in news.rows:
            assert row.value == pytest.approx(found[row.cell_id].value, rel=1e-4)


def test_what_was_trained_is_not_trained_again(outcome, workdir, capsys):
    before = (workdir / "faster" / "measurements.csv").read_bytes()
    sealed = sorted(path.name for path in (workdir / "forecasts").iterdir())
    again = arms.run(small_study(), workdir, [*study.STAGES])
    assert "nothing to train" in capsys.readouterr().out
    assert (workdir / "faster" / "measurements.csv").read_bytes() == before
    assert sorted(path.name for path in (workdir / "forecasts").iterdir()) == sealed
    assert [one.outcome for one in again.order] == [o.outcome for o in outcome.order]


def test_the_order_is_sealed_before_and_scored_after(outcome, workdir):
    (record,) = order.read(workdir)
    assert all(one["runs"] == 0 for one in record["num_measured"])
    assert {one.second for one in outcome.order} == {"clipped", "faster"}
    for one in outcome.order:
        first, second = values_of(workdir, one.first), values_of(workdir, one.second)
        steps = [
            math.log(second[place] / first[place]) for place in first if place[0] == 32
        ]
        assert one.num_pairs == len(steps) == 2
        assert one.score.measured.value == pytest.approx(math.expm1(np.mean(steps)))
        assert one.outcome in ("confirmed", "refuted", "undecided")
        assert "sealed before" in one.sentence
        assert one.describe()["outcome"] == one.outcome


def test_a_record_that_was_changed_does_not_count(outcome, workdir, capsys):
    (path,) = [*(workdir / "forecasts").iterdir()]
    old = path.read_text()
    path.write_text(old.replace('"better"', '"bitter"', 1))
    try:
        assert order.read(workdir) == []
        assert "changed since it was sealed" in capsys.readouterr().err
    finally:
        path.write_text(old)


def test_runs_of_a_size_that_were_there_are_no_test():
    relative = {"value": -0.1, "lower": -0.2, "upper": -0.05}
    said = {"at": {}, "relative": relative, "better": 0.99, "noise": 0.01}
    runs = [{0: 1.0, 1: 1.1, 5: 9.0}, {0: 0.9, 1: 1.0, 7: 0.1}]
    about = ("a", "b"), (1e3, 1e4, "images"), said, runs
    before, after = (order._score(*about, was_there) for was_there in (False, True))
    assert before is not None
    assert after is not None
    assert before.num_pairs == 2  # those that share their seed
    assert before.outcome == "confirmed"
    assert after.outcome == "hindsight"
    assert "no test" in after.sentence
    assert "at 1,000 parameters and 10,000 images:" in after.sentence
    assert order._score(*about[:3], [{0: 1.0}, {1: 1.0}], False) is None


def test_arms_that_sweep_rates_have_paired_targets(tmp_path):
    """Each with the rate of its own, and yet one start and one order of batches."""
    swept = small_study(
        grid=config.Grid(
            widths=(4, 8), data_fractions=(1 / 64, 1 / 16, 1 / 4), seeds=1
        ),
        training=config.Training(learning_rate=0.05, steps=30),
        targets=config.Targets(widths=(16,), data_fractions=(0.5,), seeds=1),
        arms={
            "a": {"grid.learning_rates": (0.05, 0.1)},
            "b": {"grid.learning_rates": (0.02, 0.2), "training.clip_norm": 1.0},
        },
    )
    folder = epath.Path(tmp_path / "work")
    found = arms.run(swept, folder, [*study.STAGES])
    (one,) = found.order
    assert one.num_pairs == 1
    assert not one.was_there
    for name, outcome in found.arms.items():
        assert len(outcome.table) == 12 + 1
        assert (folder / name / "envelope.csv").exists()
    again = arms.run(swept, folder, [*study.STAGES])
    assert [len(other.table) for other in again.arms.values()] == [13, 13]


def tiny_study(**changes) -> config.Experiment:
    """Two arms of six short runs."""
    experiment = small_study(
        grid=config.Grid(widths=(4, 8), data_fractions=(1 / 64, 1 / 16, 1 / 4)),
        training=config.Training(learning_rate=0.05, steps=20),
        targets=config.Targets(),
        arms={"plain": {}, "faster": {"training.learning_rate": 0.1}},
    )
    return dataclasses.replace(experiment, **changes)


def test_an_arm_that_diverges_costs_the_others_nothing(tmp_path, capsys):
    lost = {"plain": {}, "lost": {"training.learning_rate": 1e30}}
    folder = epath.Path(tmp_path / "work")
    found = arms.run(tiny_study(arms=lost), folder)
    assert "arm lost is left out: " in capsys.readouterr().err
    assert list(found.arms) == ["plain"]
    assert found.comparison is None
    assert (folder / "plain" / "report.html").exists()
    rows = Table(folder / "lost" / "measurements.csv").rows.values()
    assert {row.status for row in rows} == {"diverged"}
    both = {"a": {"training.learning_rate": 1e31}, "b": lost["lost"]}
    with pytest.raises(UserError):
        arms.run(tiny_study(arms=both), epath.Path(tmp_path / "none"))


def test_arms_that_cannot_be_compared_have_their_reports(tmp_path, capsys):
    """On a ladder sizes rise together, and no split of a budget can be told."""
    ladder = tiny_study(
        grid=config.Grid(widths=(4, 6, 8, 12, 16), data_per_param=(0.5,)),
        fit=config.Fitting(law="auto", resamples=20),
    )
    folder = epath.Path(tmp_path / "work")
    found = arms.run(ladder, folder)
    assert "the arms are not compared: " in capsys.readouterr().err
    assert found.comparison is None
    for name in found.arms:
        assert (folder / name / "report.html").exists()
    text = "arm=faster better than plain at budget=1e7 probability=0.9"
    gate = gates.parse_arm_gate(text)
    with pytest.raises(UserError, match="rise together"):
        arms.run(ladder, folder, gates=[gate])


def test_the_loop_is_refused(tmp_path):
    goal = loop.Goal(0.1, 1e9, "flops", 0.0)
    with pytest.raises(UserError, match="of a study without arms"):
        list(study.rounds(small_study(), epath.Path(tmp_path / "work"), goal))
    with pytest.raises(UserError, match="of a study without arms"):
        scalepred.run(small_study(), tmp_path / "w", until_width=0.1, budget=1e9)


def test_an_arm_equal_to_another_is_trained_once(tmp_path):
    twice = small_study(
        arms={"one": {}, "same": {"training.learning_rate": 0.05}},
        grid=config.Grid(widths=(4, 8), data_fractions=(1 / 64, 1 / 16), seeds=1),
        targets=config.Targets(),
    )
    found = arms.run(twice, epath.Path(tmp_path / "work"), ["train"])
    one, same = (found.arms[name].table for name in ("one", "same"))
    assert one == same
    assert len(one) == 4


def test_an_arm_added_later_leaves_the_others_alone(tmp_path, capsys):
    few = small_study(
        arms={"plain": {}, "faster": {"training.learning_rate": 0.1}},
        grid=config.Grid(widths=(4, 8), data_fractions=(1 / 64, 1 / 16), seeds=1),
        targets=config.Targets(),
    )
    folder = epath.Path(tmp_path / "work")
    arms.run(few, folder, ["train"])
    before = (folder / "faster" / "measurements.csv").read_bytes()
    more = dataclasses.replace(
        few, arms={**few.arms, "slow": {"training.learning_rate": 0.02}}
    )
    found = arms.run(more, folder, ["train"])
    assert (folder / "faster" / "measurements.csv").read_bytes() == before
    assert len(found.arms["slow"].table) == 4


def test_a_plain_study_becomes_the_baseline(tmp_path, capsys):
    """Runs that were paid for count: its workdir is moved in."""
    few = small_study(
        arms={},
        grid=config.Grid(widths=(4, 8), data_fractions=(1 / 64, 1 / 16), seeds=1),
        targets=config.Targets(),
    )
    plain = epath.Path(tmp_path / "work" / "plain")
    study.run(few, plain, ["train"])
    before = (plain / "measurements.csv").read_bytes()
    with_arms = dataclasses.replace(
        few, arms={"plain": {}, "faster": {"training.learning_rate": 0.1}}
    )
    arms.run(with_arms, epath.Path(tmp_path / "work"), ["train"])
    assert (plain / "measurements.csv").read_bytes() == before


def test_another_study_in_the_workdir_is_refused(workdir, outcome):
    with pytest.raises(UserError, match="holds runs with name='small'"):
        arms.run(small_study(name="other"), workdir)
    with pytest.raises(UserError, match="study of another kind"):
        study.run(small_study(arms={}), workdir)


def test_the_command_compares_arms(monkeypatch, capsys, tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(
        "from scalepred import config\n"
        "def get_config():\n"
        "    return config.Experiment(\n"
        "        name='tiny', metric='loss',\n"
        "        grid=config.Grid(widths=(4, 8), data_fractions=(1/64, 1/32, 1/16)),\n"
        "        training=config.Training(learning_rate=0.05, steps=20),\n"
        "    )\n"
    )
    arguments = [
        f"--config={path}", f"--workdir={tmp_path / 'work'}", "--arm=plain:",
        "--arm=nesterov: training.nesterov=True",
    ]  # fmt: skip
    status, out, _ = run_train(monkeypatch, capsys, *arguments, "--dry_run")
    assert status == 0
    assert "12 cells, 12 to train" in out
    wrong = ("--until_width=0.1", "--budget=1e9")
    refused = run_train(monkeypatch, capsys, *arguments, *wrong)
    assert_refused(refused, "of a study without arms")
    assert not (tmp_path / "work").exists()
    root = pathlib.Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "scalepred.commands.train", *arguments]
    gate = "--gate=arm=nesterov better than plain at budget=1e7 probability=0.999"
    gated = subprocess.run(
        [*command, gate, "--json"], capture_output=True, text=True, cwd=root
    )
    assert gated.returncode in (0, 3), gated.stderr
    said = json.loads(gated.stdout)
    assert said["comparison"]["pairs"][0]["second"] == "nesterov"
    assert said["gates"][0]["passed"] == (gated.returncode == 0)
    assert (tmp_path / "work" / "report.html").exists()

"""What is said of a study before it trains: from rows where there are some."""

import dataclasses
import math
import re

import jax
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st
from test_study import small_study

from scalepred import config, dry_run, grid
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset
from scalepred.dry_run import Pace, describe_targets, fit_pace, print_plan
from scalepred.forecasting.parts import Parts, Study
from scalepred.grid import Cell
from scalepred.models.model import build_model
from scalepred.table.rows import Measurement, Table
from scalepred.training import cost, ensemble, trials
from scalepred.training.chunks import predict_utilization

DIGITS = load_dataset("digits")
KIND = jax.devices()[0].device_kind
# Of the rows that are made up here.
PACE = Pace(1e-3, 1e-9)


def _cells(experiment: config.Experiment) -> list[Cell]:
    return grid.make_cells(experiment, DIGITS)


def _step_flops(cell: Cell, dataset: Dataset = DIGITS) -> float:
    model = build_model(
        cell.family, cell.width, cell.depth, dataset.input_shape, dataset.num_classes
    )
    return 3 * model.count_forward_flops(dataset.input_spec) * cell.batch_size


def _make_row(cell: Cell, **changes) -> Measurement:
    """A run at `PACE`, in a program of its width alone."""
    flops = _step_flops(cell)
    # Scoring goes forward only: a third of the work.
    scored = DIGITS.num_test + min(cell.dataset_size, DIGITS.num_test)
    num_steps = cell.steps + scored / 3 / cell.batch_size
    row = Measurement(
        cell_id=cell.cell_id,
        task="digits",
        family=cell.family,
        width=cell.width,
        depth=cell.depth,
        params=1,
        params_total=1,
        data=cell.dataset_size,
        data_unit="images",
        epochs=cell.epochs,
        steps=cell.steps,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        flops=flops * cell.steps,
        metric="error",
        value=0.5,
        train_value=0.5,
        status="ok",
        seconds=PACE.seconds(flops) * num_steps,
        device=KIND,
        program=f"{cell.program_key}/map2",
    )
    return dataclasses.replace(row, **changes)


def _rows(cells, **changes) -> dict[str, Measurement]:
    return {cell.cell_id: _make_row(cell, **changes) for cell in cells}


def _seconds(text: str) -> float:
    """What `words.duration` says."""
    units = {"h": 3600, "min": 60, "s": 1}
    found = re.findall(r"([\d.,]+) (h|min|s)\b", text)
    return sum(float(n.replace(",", "")) * units[unit] for n, unit in found)


def _said_of_time(out: str) -> tuple[float, str]:
    """Seconds of training, and what they were found from."""
    found = re.search(
        r"^time: about (.*) of training for \S+ FLOPs \((.*)\), and", out, re.M
    )
    assert found, out
    return _seconds(found[1]), found[2]


@given(
    step=st.floats(1e-6, 1e-1),
    flop=st.floats(1e-14, 1e-9),
    flops=st.lists(
        st.floats(1e4, 1e13), min_size=2, max_size=6, unique_by=lambda x: int(x / 1e4)
    ),
)
def test_a_pace_is_found_again(step, flop, flops):
    true = Pace(step, flop)
    found = fit_pace(flops, [true.seconds(x) for x in flops])
    for x in flops:
        assert found.seconds(x) == pytest.approx(true.seconds(x), rel=1e-3)


@given(
    flops=st.lists(st.floats(1e4, 1e13), min_size=1, max_size=6),
    seconds=st.lists(st.floats(1e-6, 1e3), min_size=6, max_size=6),
)
def test_a_pace_is_never_negative(flops, seconds):
    pace = fit_pace(flops, seconds[: len(flops)])
    assert pace.step_seconds >= 0
    assert pace.flop_seconds >= 0
    assert pace.seconds(max(flops)) > 0


def test_of_one_program_the_work_is_what_scales():
    assert fit_pace([1e6], [0.5]).seconds(2e6) == pytest.approx(1.0)


def _study(experiment, targets=(), rows=None) -> Study:
    """A study with these rows in its table, none of them on disk."""
    parts = Parts(_cells(experiment), [], [*targets])
    table = Table("nowhere/measurements.csv")
    table.rows.update(rows or {})
    return Study(experiment, DIGITS, parts, epath.Path("nowhere"), table)


def _plan_seconds(experiment, rows, capsys) -> tuple[float, str]:
    print_plan(_study(experiment, rows=rows))
    return _said_of_time(capsys.readouterr().out)


def test_time_follows_from_the_rows(capsys, monkeypatch):
    """Nothing is timed; another width, between those that ran, is interpolated."""
    tried = []

    def compile_only(packs, dataset, num_rounds):
        tried.append(num_rounds)
        return [trials.Trial(100, math.nan, 2.0) for _ in packs]

    monkeypatch.setattr(trials, "try_packs", compile_only)
    experiment = small_study(packing=config.Packing(width_bucket=1.0))
    cells = _cells(experiment)
    rows = _rows(cell for cell in cells if cell.width != 8)
    seconds, why = _plan_seconds(experiment, rows, capsys)
    left = [cell for cell in cells if cell.width == 8]
    assert why == f"{len(rows)} runs took so long"
    assert tried == [0]
    assert seconds == pytest.approx(
        sum(_make_row(cell).seconds for cell in left), rel=0.03, abs=0.6
    )


@pytest.mark.parametrize(
    "rows",
    [
        {},
        _rows(_cells(small_study())[:1]),  # one size says nothing of others
        _rows(_cells(small_study()), device="another"),
    ],
)
def test_without_rows_like_them_programs_are_tried(rows, capsys, monkeypatch):
    """The smallest and the largest; those between follow."""
    tried = []

    def try_packs(packs, dataset, num_rounds):
        tried.extend(pack.key.width for pack in packs)
        assert num_rounds > 0
        return [trials.Trial(100, PACE.seconds(pack.step_flops), 2.0) for pack in packs]

    monkeypatch.setattr(trials, "try_packs", try_packs)
    experiment = small_study(
        grid=config.Grid(widths=(4, 8, 16, 300), seeds=2),
        packing=config.Packing(width_bucket=1.0, lanes=2),
    )
    cells = _cells(experiment)
    seconds, why = _plan_seconds(experiment, rows, capsys)
    assert sorted(set(tried)) == [4, 300]
    assert why == "tried: 2 of 4 programs"
    left = [cell for cell in cells if cell.cell_id not in rows]
    plan = ensemble.plan_cells(experiment, DIGITS, cells, done=set(rows))
    expected = sum(_make_row(cell).seconds for cell in left) / predict_utilization(plan)
    assert seconds == pytest.approx(expected, rel=0.03, abs=0.6)


def test_what_ran_itself_needs_no_neighbours():
    experiment = small_study(packing=config.Packing(width_bucket=1.0))
    cells = _cells(experiment)
    plan = ensemble.plan_cells(experiment, DIGITS, cells)
    ran = {
        pack.describe(): dry_run._Ran(pack.step_flops, 1.0, 1) for pack in plan.packs
    }
    assert dry_run._are_like(plan, ran)
    del ran[plan.packs[0].describe()]
    assert dry_run._are_like(plan, ran)  # within the range, or close to it
    far = dataclasses.replace(plan.packs[0], step_flops=1e12)
    assert not dry_run._are_like(dataclasses.replace(plan, packs=(far,)), ran)


def test_scoring_counts_where_runs_are_short(capsys, monkeypatch):
    """A run of one step is scored on a thousand images all the same."""
    monkeypatch.setattr(
        trials,
        "try_packs",
        lambda packs, dataset, num_rounds: [
            trials.Trial(None, 1.0, 0.0) for _ in packs
        ],
    )
    experiment = small_study(
        grid=config.Grid(widths=(4,), data_fractions=(1.0,), seeds=2),
        training=config.Training(steps=1, batch_size=32),
    )
    seconds, _ = _plan_seconds(experiment, {}, capsys)
    assert seconds == pytest.approx(2 * (1 + 2 * 517 / 96), abs=1)


def test_packs_are_compiled_and_timed_in_turn():
    experiment = small_study(packing=config.Packing(width_bucket=1.0))
    plan = ensemble.plan_cells(experiment, DIGITS, _cells(experiment))
    packs = list(plan.packs[:2])
    for trial in trials.try_packs(packs, DIGITS, num_rounds=3):
        assert 0 < trial.lane_step_seconds < 1
        assert trial.compile_seconds > 0
        assert trial.device_bytes is None or trial.device_bytes > 0
    for trial in trials.try_packs(packs[:1], DIGITS, num_rounds=0):
        assert math.isnan(trial.lane_step_seconds)
        assert trial.compile_seconds > 0


def test_flops_of_a_plan_are_those_of_its_runs(capsys, monkeypatch):
    """Also where steps go by micro batches."""
    monkeypatch.setattr(
        trials,
        "try_packs",
        lambda packs, dataset, num_rounds: [
            trials.Trial(None, 1.0, 0.0) for _ in packs
        ],
    )
    for micro in (0, 8):
        experiment = small_study(
            training=config.Training(steps=60, batch_size=32, micro_batch_size=micro)
        )
        cells = _cells(experiment)
        print_plan(_study(experiment))
        out = capsys.readouterr().out
        (said,) = re.findall(r"of training for (\S+) FLOPs", out)
        expected = sum(_step_flops(cell) * cell.steps for cell in cells)
        assert float(said) == pytest.approx(expected, rel=0.005)


TARGETS = re.compile(
    r"target: width (?P<width>\d+), depth (?P<depth>\d+), (?P<data>[\d,]+) images: "
    r"(?P<params>[\d,]+) parameters, (?P<flops>\S+) FLOPs a run, (?P<mb>[\d,]+) MB "
    r"\((?P<fits>[^)]*)\)(?P<rest>.*)"
)


def _targets(width: int = 64, seeds: int = 1) -> list[Cell]:
    """Two sizes beyond the small study's grid."""
    first = _cells(small_study())[-1]
    return [
        dataclasses.replace(first, width=width, steps=steps, seed=seed)
        for width, steps in ((width, 200), (2 * width, 300))
        for seed in range(seeds)
    ]


def _describe(targets, rows, **settings) -> list[re.Match[str]]:
    lines = describe_targets(_study(small_study(), targets, rows), **settings)
    found = [TARGETS.fullmatch(line) for line in lines]
    assert all(found), lines
    return [one for one in found if one]


def test_a_target_is_a_line_a_size():
    targets = _targets(seeds=3)
    rows = _rows(_cells(small_study()))
    found = _describe(targets, rows)
    assert [int(one["width"]) for one in found] == [64, 128]
    for one, cell in zip(found, targets[::3], strict=True):
        model = build_model("mlp", cell.width, 2, (64,), 10)
        assert int(one["params"].replace(",", "")) == model.num_params
        assert int(one["data"].replace(",", "")) == cell.dataset_size
        expected = _step_flops(cell) * cell.steps
        assert float(one["flops"].replace(",", "")) == pytest.approx(expected, 0.01)
        assert one["fits"] == "fits"
        assert f"(by {len(rows)} runs)" in one["rest"]
        assert " at " not in one["rest"]  # no price was given


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_seconds_and_price_of_a_target(seeds):
    """Extrapolated; devices that have no run beside it wait for those that have."""
    targets = _targets(width=512, seeds=seeds)
    found = _describe(targets, _rows(_cells(small_study())), price_per_hour=0.4)
    num_devices = jax.device_count()
    rounds = math.ceil(seeds / num_devices)
    for one, cell in zip(found, targets[::seeds], strict=True):
        share = _make_row(cell).seconds
        expected = share * rounds * num_devices / seeds
        said = re.match(r", about (.*) a run", one["rest"])
        assert said
        assert _seconds(said[1]) == pytest.approx(expected, rel=0.1, abs=0.5)
        price = re.search(r"\), (\S+) at 0\.40 an hour$", one["rest"])
        assert price
        assert float(price[1]) == pytest.approx(expected / 3600 * 0.4, rel=0.1)


def test_a_target_that_does_not_fit(monkeypatch):
    machine = dataclasses.replace(cost.CPU, memory_bytes=2e7)
    monkeypatch.setattr(cost, "describe_machine", lambda *_: machine)
    small, large = _describe(_targets(width=512), {}, pace=PACE)
    assert small["fits"] == "fits"
    assert re.fullmatch(r"does not fit into \d+ MB", large["fits"])
    assert int(large["mb"].replace(",", "")) >= 20


def test_the_time_of_a_target_without_rows():
    (unknown, _) = _describe(_targets(), {})
    assert unknown["rest"] == ", time not known before some run ended here"
    (tried, _) = _describe(_targets(), {}, pace=PACE)
    assert tried["rest"].endswith(" a run (by programs as tried)")
    others = _rows(_cells(small_study()), device="another")
    assert _describe(_targets(), others)[0]["rest"] == unknown["rest"]

"""Runs that cannot matter are stopped, the same ones on every way through a study."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from etils import epath
from test_measurements import make_row

from scalepred import config, grid, study, sweep, validation
from scalepred.config import UserError
from scalepred.data import digits
from scalepred.fitting.recipe.reading import read_sweeps
from scalepred.runtime import preemption
from scalepred.runtime.preemption import Stopped
from scalepred.table import stopped
from scalepred.table.rows import FORECAST_COLUMNS, STOPPED, Table
from scalepred.table.surface import Surface
from scalepred.training import curves, ensemble, hopeless
from scalepred.training.branches import find_chains
from scalepred.training.curves import Curve
from scalepred.training.hopeless import Judge, find_references
from scalepred.training.outlook import MOMENTS, find_end, forecast_end
from scalepred.training.waiting import Queue

DATASET = digits.load()
RATES = (0.001, 0.01, 0.1, 1.0)


def _experiment(asked: bool = True, **packing) -> config.Experiment:
    settings = {"lanes": 4, "lane_axis": "map", "autotune": False, **packing}
    return config.Experiment(
        name="hopeless",
        grid=config.Grid(
            widths=(4, 8),
            data_fractions=(0.25, 0.5, 1.0),
            seeds=2,
            learning_rates=RATES,
        ),
        training=config.Training(epochs=4, batch_size=8),
        packing=config.Packing(stop_hopeless=asked, **settings),
        fit=config.Fitting(resamples=0),
    )


def _cells(**changes):
    return grid.make_cells(_experiment(**changes), DATASET)


def _train(judge: Judge | None, done=(), **options):
    experiment = _experiment(**options)
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells, done=done)
    return ensemble.train(plan, DATASET, judge=judge)


def _collect(all_news):
    rows, found = {}, {}
    for news in all_news:
        rows |= {row.cell_id: row for row in news.rows}
        found |= news.curves
    return rows, found


def _judge() -> Judge:
    return Judge(find_references(_cells()))


def _results(rows):
    """All that is said of runs but what depends on the machine."""
    drop = {"seconds": 0.0, "device": "", "program": "", "others": {}}
    return {
        name: str(dataclasses.replace(row, **drop)) + str(sorted(row.others.items()))
        for name, row in rows.items()
    }


@pytest.fixture(scope="module")
def whole():
    """Rows and curves of the sweep when nothing is stopped."""
    return _collect(_train(None))


@pytest.fixture(scope="module")
def ended():
    """Likewise, of what is left when hopeless runs are stopped."""
    return _collect(_train(_judge()))


# --- the forecast


def _make_curve(steps: int, law, noise: float = 0.0, seed: int = 0) -> Curve:
    """The curve of a run whose loss after t of its steps is law(t / steps)."""
    marks = curves.choose_marks(steps)
    random = np.random.default_rng(seed)
    losses = law((np.arange(steps) + 0.5) / steps)
    losses = losses * np.exp(noise * random.standard_normal(steps))
    means = [losses[a:b].mean() for a, b in itertools.pairwise(marks) if b > a]
    return Curve(marks[1:][np.diff(marks) > 0], np.array(means, np.float32))


def _anneal(floor: float, drop: float):
    """A power law, and what the schedule's decay takes at the end."""
    return lambda t: floor + 0.3 * t**-0.4 + drop * (1 + np.cos(math.pi * t)) / 2


def test_the_interval_covers_ends_of_known_curves():
    covered = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        reference = _make_curve(2000, _anneal(0.5, 0.2), 0.1, seed)
        law = _anneal(*random.uniform((0.3, 0.1), (1.5, 0.3)))
        own = _make_curve(2000, law, 0.1, seed + 1000)
        end = find_end(own)
        for part in MOMENTS:
            seen = hopeless.cut(own, int(part * 2000))
            found = forecast_end(seen, 2000, part, [reference], 1.0)
            assert found is not None
            assert 0 <= found.low <= found.value <= found.high
            assert found.steps <= part * 2000
            # Nothing beyond the moment is looked at.
            assert found == forecast_end(own, 2000, part, [reference], 1.0)
            covered.append(found.low <= end <= found.high)
    assert np.mean(covered) > 0.95


def test_a_high_rate_that_the_decay_will_free_is_not_hopeless():
    """Behind for most of the run, ahead at its end."""
    reference = _make_curve(2000, _anneal(0.5, 0.1), 0.05)
    own = _make_curve(2000, _anneal(0.45, 0.3), 0.05, 1)
    assert find_end(own) < find_end(reference)
    at_half = own.losses[own.steps > 1000][0], reference.losses[own.steps > 1000][0]
    assert at_half[0] > at_half[1]
    for part in MOMENTS:
        found = forecast_end(own, 2000, part, [reference], 3.0)
        assert found is not None
        assert found.low < find_end(reference)


def test_a_low_rate_that_crawls_is_hopeless_early():
    reference = _make_curve(2000, _anneal(0.5, 0.1), 0.05)
    own = _make_curve(2000, lambda t: 2.3 - 0.2 * t, 0.02, 1)
    found = forecast_end(own, 2000, MOMENTS[0], [reference], 0.03)
    assert found is not None
    assert found.low > find_end(reference)


def test_curves_that_say_nothing_have_no_forecast():
    good = _make_curve(2000, _anneal(0.5, 0.1))
    for bad in (math.nan, 0.0, -1.0):
        spoilt = Curve(good.steps, np.where(good.steps > 400, bad, good.losses))
        assert forecast_end(spoilt, 2000, 0.5, [good], 1.0) is None
        assert forecast_end(good, 2000, 0.5, [good, spoilt], 1.0) is None
    short = _make_curve(4, _anneal(0.5, 0.1))
    assert forecast_end(short, 4, 0.5, [short], 1.0) is None


# --- who is compared with whom


def test_the_middle_rate_is_the_reference_at_every_size():
    cells = _cells()
    references = find_references(cells)
    assert len(references) == len(cells) * 3 // 4
    for cell in cells:
        others = references.get(cell.cell_id, ())
        assert bool(others) == (cell.learning_rate != 0.01)
        for other in others:
            assert other.learning_rate == 0.01
            assert (other.width, other.dataset_size) == (cell.width, cell.dataset_size)
        assert len({other.seed for other in others}) in (0, 2)


def test_weight_decays_are_never_compared():
    experiment = _experiment()
    experiment.grid.weight_decays = (0.0, 0.1)
    cells = {cell.cell_id: cell for cell in grid.make_cells(experiment, DATASET)}
    for name, others in find_references(cells.values()).items():
        assert {one.weight_decay for one in others} == {cells[name].weight_decay}


def test_runs_that_read_their_data_often_and_single_rates_have_no_reference():
    cells = [dataclasses.replace(cell, steps=cell.steps * 2) for cell in _cells()]
    assert find_references(cells) == {}
    assert find_references([c for c in _cells() if c.learning_rate == 0.1]) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: setattr(e.grid, "learning_rates", (0.1,)), "a sweep is needed"),
        (lambda e: setattr(e.training, "epochs", 20), "more than 4 times"),
        (lambda e: setattr(e.grid, "branches", True), "a trunk serves all"),
    ],
)
def test_where_nothing_can_be_stopped_it_is_said_beforehand(change, said):
    experiment = _experiment()
    validation.validate(experiment)
    change(experiment)
    with pytest.raises(UserError, match=f"packing.stop_hopeless=True: .*{said}"):
        validation.validate(experiment)


# --- the queue


def test_a_run_waits_for_its_references_and_none_is_lost():
    cells, awaits = _cells(), _judge().get_references
    queue = Queue(find_chains(cells), (), awaits)
    seen, over, lanes = [], set(), []
    while len(seen) < len(cells):
        while chain := queue.take(early=False):
            (cell,) = chain
            assert {one.cell_id for one in awaits(cell)} <= over
            seen.append(cell)
            lanes.append(cell)
        over.add(lanes[0].cell_id)
        queue.end(lanes.pop(0))
    assert len(set(seen)) == len(cells)


def test_where_lanes_would_be_idle_runs_start_after_their_references():
    cells, awaits = _cells(), _judge().get_references
    begun = {cells[0]}  # at 0.001, a reference's follower: it may be ahead of it
    queue = Queue(find_chains(cells), begun, awaits)
    seen = []
    while chain := queue.take(early=True):
        assert set(awaits(chain[0])) <= set(seen)
        seen.append(chain[0])
    assert {*cells} - {*seen} == begun
    for cell in awaits(cells[0]):
        queue.end(cell)
    assert queue.take(early=False) == (cells[0],)


# --- training


def test_those_that_end_are_bitwise_the_same(whole, ended):
    rows, found = ended
    assert rows.keys() == whole[0].keys()
    count = sum(row.status == STOPPED for row in rows.values())
    assert len(rows) / 4 < count < len(rows) * 3 / 4
    kept = {name: row for name, row in rows.items() if row.status != STOPPED}
    assert _results(kept) == _results({name: whole[0][name] for name in kept})
    for name in kept:
        np.testing.assert_array_equal(found[name].losses, whole[1][name].losses)


def test_a_stopped_row_has_its_forecast_and_no_value(whole, ended):
    for name, row in ended[0].items():
        if row.status != STOPPED:
            assert not {*FORECAST_COLUMNS} & {*row.others}
            continue
        none = row.value, row.validation_value, row.train_value, row.others["loss"]
        assert np.isnan(none).all()
        value, low, high = (row.others[column] for column in FORECAST_COLUMNS)
        assert low <= value <= high
        # The end that it would have come to.
        assert low <= find_end(whole[1][name]) <= high
        entire = whole[0][name]
        assert 0.2 < row.steps / entire.steps <= 0.75
        assert row.flops / entire.flops == pytest.approx(row.steps / entire.steps)
        curve = ended[1][name]
        assert curve.steps[-1] == row.steps
        np.testing.assert_array_equal(
            curve.losses, whole[1][name].losses[: len(curve.losses)]
        )


@pytest.mark.parametrize("metric", ["error", "loss"])
def test_the_best_of_every_size_stays(whole, ended, metric):
    before, after = (
        sweep.choose(_cells(), rows, metric)[1] for rows in (whole[0], ended[0])
    )
    assert after == before  # the warnings of edges, too


@pytest.mark.parametrize(
    "options",
    [{"lanes": 48}, {"lanes": 12, "chunk_steps": 3}],
    ids=["all at once", "short chunks"],
)
def test_the_same_are_stopped_whatever_the_lanes(ended, options):
    assert _results(_collect(_train(_judge(), **options))[0]) == _results(ended[0])


@pytest.mark.parametrize("lanes", [4, 32])
def test_side_by_side_the_same_are_stopped_whatever_the_chunks(lanes):
    """Where lanes would be idle runs start before their references are over."""
    options = {"lanes": lanes, "lane_axis": "vmap"}
    first, second = (
        _collect(_train(_judge(), chunk_steps=steps, **options))[0] for steps in (0, 5)
    )
    assert any(row.status == STOPPED for row in first.values())
    assert _results(first) == _results(second)


def _make_study(tmp_path, experiment):
    return study.run(experiment, epath.Path(tmp_path), stages=("train", "fit"))


@pytest.mark.parametrize("count", [2, 5])
def test_a_study_that_is_killed_stops_the_same(ended, tmp_path, monkeypatch, count):
    experiment = _experiment(checkpoint_minutes=1e3)
    train = ensemble.train

    def stop_soon(*args, **kwargs):
        for number, news in enumerate(train(*args, **kwargs), start=1):
            yield news
            if number == count:
                monkeypatch.setattr(preemption, "_requested", True)

    with monkeypatch.context() as patched:
        patched.setattr(ensemble, "train", stop_soon)
        with pytest.raises(Stopped):
            _make_study(tmp_path, experiment)
    monkeypatch.setattr(preemption, "_requested", False)
    rows = Table(tmp_path / "measurements.csv").rows
    assert 0 < len(rows) < len(ended[0])
    _make_study(tmp_path, experiment)
    rows = Table(tmp_path / "measurements.csv").rows
    assert _results(rows) == _results(ended[0])
    assert curves.read(tmp_path).keys() == rows.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study that stopped some of its runs."""
    folder = tmp_path_factory.mktemp("hopeless")
    outcome = _make_study(folder, _experiment())
    assert outcome.fit is not None
    return folder


def test_no_fit_counts_what_was_stopped(folder, ended):
    count = sum(row.status == STOPPED for row in ended[0].values())
    said = stopped.describe(count, len(ended[0]))
    assert said.startswith(f"{count} of 48 runs were stopped on the way")
    assert said in (folder / "fit.json").read_text()
    # A table from outside is told in the same words.
    surface = Surface.from_csv(folder / "measurements.csv")
    assert any(note.startswith(said) for note in surface.notes)
    assert not surface.left_out.sentence
    kept = stopped.leave_out(
        list(ended[0].values()),
        lambda row: row.status,
        lambda row: (row.width, row.data, row.learning_rate),
    )[0]
    (law,) = read_sweeps(folder)
    assert len(law.value) == len(kept)
    assert np.isfinite(law.value).all()  # nor taken for runs that diverged
    assert any(note.startswith(said) for note in law.notes)


def test_asked_no_more_what_was_stopped_is_trained_to_its_end(folder, whole, tmp_path):
    for name in ("measurements.csv", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for name in ("rows", "curves"):
        (tmp_path / name).mkdir()
        for path in (folder / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    _make_study(tmp_path, _experiment(asked=False))
    assert _results(Table(tmp_path / "measurements.csv").rows) == _results(whole[0])
    for name, curve in curves.read(tmp_path).items():
        np.testing.assert_array_equal(curve.losses, whole[1][name].losses)


def test_the_end_of_a_run_counts_whichever_part_is_read_first(tmp_path):
    """A study that is killed before its parts are merged has both rows."""
    ok = make_row("a" * 12)
    other = dataclasses.replace(ok, status=STOPPED, value=math.nan)
    for order in ((ok, other), (other, ok)):
        where = tmp_path / order[0].status
        for row in order:
            Table(where / "measurements.csv").append([row])
        assert Table(where / "measurements.csv").rows["a" * 12].status == "ok"


def test_a_seed_that_was_stopped_takes_the_others_with_it():
    runs = [("ok", 1), (STOPPED, 1), ("ok", 2), ("diverged", 2)]
    kept, said = stopped.leave_out(runs, lambda run: run[0], lambda run: run[1])
    assert kept == [("ok", 2), ("diverged", 2)]
    assert said == (
        "1 of 4 runs was stopped on the way, where a rate could not be the best at its "
        "size; no fit counts them, nor 1 of other seeds at those rates"
    )
    none = stopped.leave_out(runs[2:], lambda run: run[0], lambda run: run[1])
    assert none == (runs[2:], "")

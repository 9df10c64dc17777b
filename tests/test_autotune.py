"""The autotuner: the default unless another is clearly faster, timed once a machine."""

import dataclasses
import json
import math

import jax
import pytest
from etils import epath

from scalepred import config, grid
from scalepred.data.loading import load_dataset
from scalepred.runtime.files import digest
from scalepred.training import autotune, ensemble, trials
from scalepred.training.plan import Choice, Plan

DATASET = load_dataset("digits")


def _plan(**wishes) -> Plan:
    experiment = config.Experiment(
        name="x",
        metric="loss",
        grid=config.Grid(widths=(4, 8), depths=(1,), data_fractions=(1 / 16,), seeds=4),
        training=config.Training(steps=30),
        packing=config.Packing(width_bucket=1.0, **wishes),
    )
    cells = grid.make_cells(experiment, DATASET)
    return ensemble.plan_cells(experiment, DATASET, cells)


def _long(plan: Plan) -> Plan:
    """The plan as if its training took an hour."""
    packs = tuple(dataclasses.replace(pack, seconds=3600.0) for pack in plan.packs)
    return dataclasses.replace(plan, packs=packs)


def _clock(factor: float):
    """A measurement in which every second choice takes so many times as long."""
    asked = []

    def measure(packs):
        asked.append([(pack.lane_axis, pack.lanes) for pack in packs])
        return [1.0, *[factor] * (len(packs) - 1)]

    return measure, asked


def test_the_default_stands_unless_another_is_a_tenth_faster(tmp_path):
    plan = _long(_plan())
    for factor, is_changed in ((2.0, False), (0.95, False), (0.5, True)):
        measure, _ = _clock(factor)
        folder = epath.Path(tmp_path) / str(factor)
        tuned = autotune.tune(plan, measure, "device", [folder])
        for before, after in zip(plan.packs, tuned.packs, strict=True):
            assert (after.lane_axis != before.lane_axis) == is_changed
            assert after.queue == before.queue
            assert after.choices == before.choices


def test_a_program_is_timed_once(tmp_path):
    measure, asked = _clock(0.5)
    plan = _long(_plan())
    first = autotune.tune(plan, measure, "device", [epath.Path(tmp_path)])
    assert autotune.tune(plan, measure, "device", [epath.Path(tmp_path)]) == first
    assert len(asked) == len(plan.packs) == 2
    autotune.tune(plan, measure, "another device", [epath.Path(tmp_path)])
    assert len(asked) == 4
    # A torn file, or a choice that is none any more, is timed again.
    paths = sorted(tmp_path.glob("*_device_*"))
    assert len(paths) == 2
    record = json.loads(paths[0].read_text())
    assert set(record) == {"choice", "seconds_a_lane_step", "digest"}
    gone = {"choice": ["map", 999, "auto"]}
    paths[0].write_text("{")
    paths[1].write_text(json.dumps({**gone, "digest": digest(gone)}))
    assert autotune.tune(plan, measure, "device", [epath.Path(tmp_path)]) == first
    assert len(asked) == 6
    # So is one that says another possible choice than was written.
    pack = min(plan.packs, key=lambda pack: pack.key.width)  # first in the alphabet
    chosen, other = list(pack.choices[1]), list(pack.choices[0])
    assert record["choice"] == chosen
    assert "width4" in paths[0].name
    paths[0].write_text(json.dumps({**record, "choice": other}))
    assert autotune.tune(plan, measure, "device", [epath.Path(tmp_path)]) == first
    assert len(asked) == 7


def test_a_folder_that_cannot_be_written_is_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    measure, _ = _clock(0.5)
    plan = _long(_plan())
    tuned = autotune.tune(plan, measure, "device", [epath.Path(tmp_path / "file")])
    assert tuned.packs[0].lane_axis != plan.packs[0].lane_axis


def test_short_training_and_pinned_choices_are_not_timed(tmp_path):
    measure, asked = _clock(0.5)
    assert autotune.tune(_plan(), measure, "device", [epath.Path(tmp_path)]) == _plan()
    pinned = _long(_plan(lane_axis="map", lanes=3, convolution="native"))
    assert all(len(pack.choices) == 1 for pack in pinned.packs)
    assert autotune.tune(pinned, measure, "device", [epath.Path(tmp_path)]) == pinned
    assert not asked


def test_every_choice_trains_the_same(tmp_path, monkeypatch):
    """The real timing, on the device at hand; the values agree to rounding."""
    monkeypatch.setattr(trials, "_TRIAL_SECONDS", 0.002)
    monkeypatch.setattr(autotune, "cache_folder", lambda: tmp_path)
    plan = _long(_plan())
    plan = dataclasses.replace(plan, packs=plan.packs[:1])
    (pack,) = plan.packs
    devices = jax.devices()
    news = list(ensemble.train(plan, DATASET, devices=devices, autotune=True))
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())
    assert Choice(*found["choice"]) in pack.choices
    seconds = found["seconds_a_lane_step"].values()
    assert len(seconds) == len(pack.choices) == 2
    assert all(0 < value < math.inf for value in seconds)
    rows = {row.cell_id: row.value for each in news for row in each.rows}
    for choice in pack.choices:
        other = dataclasses.replace(plan, packs=(pack.choose(choice),))
        for progress in ensemble.train(other, DATASET, devices=devices):
            for row in progress.rows:
                assert row.value == pytest.approx(rows[row.cell_id], rel=1e-3)


def test_a_study_goes_on_elsewhere_as_it_began(tmp_path):
    """The workdir keeps what was found too: another machine may time otherwise."""
    plan = _long(_plan())
    workdir, here, there = (epath.Path(tmp_path) / name for name in ("w", "a", "b"))
    measure, _ = _clock(0.5)
    first = autotune.tune(plan, measure, "device", [workdir, here])
    otherwise, asked = _clock(2.0)
    assert autotune.tune(plan, otherwise, "device", [workdir, there]) == first
    assert not asked
    # And what one study found serves the next.
    assert autotune.tune(plan, otherwise, "device", [there]) == first

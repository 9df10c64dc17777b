"""Loss curves: the same whatever is trained beside, kept whole, and exported."""

import csv
import dataclasses
import functools
import itertools
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepred import config, grid
from scalepred.commands import curves as curves_main
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.report import tensorboard
from scalepred.runtime import command
from scalepred.table.rows import Measurement, Table
from scalepred.training import curves, ensemble, packing
from scalepred.training.curves import Curve, Curves

DATASET = load_dataset("digits")
DEVICES = jax.devices()


@given(st.integers(1, 10**7))
def test_points_are_steps_from_the_first_to_the_last(steps):
    marks = curves.choose_marks(steps)
    assert len(marks) == curves.NUM_POINTS + 1
    points = marks[: 1 + min(steps, curves.NUM_POINTS)]
    assert (np.diff(points) > 0).all()
    assert points[0] == 0
    assert points[-1] == marks[-1] == steps
    # Spaced evenly on a logarithmic axis, as far as steps are whole.
    gaps = np.diff(points)
    assert (np.diff(gaps) >= -1).all()


def _record(losses, diverged_at=None) -> Curve:
    """The curve of a run with these losses."""
    steps = len(losses)
    marks = jnp.asarray(curves.choose_marks(steps))

    @jax.jit
    def run(losses):
        def step(index, sums):
            diverged = False if diverged_at is None else index >= diverged_at
            return curves.add_loss(
                sums, marks, index, losses[index], jnp.bool_(diverged)
            )

        return jax.lax.fori_loop(0, steps, step, curves.start())

    sums = np.asarray(run(jnp.asarray(losses, jnp.float32)))
    return curves.finish(curves.choose_marks(steps), sums)


@pytest.mark.parametrize("steps", [1, 7, 48, 1000])
def test_points_are_means_since_the_point_before(steps):
    losses = np.random.default_rng(0).uniform(1, 2, steps)
    curve = _record(losses)
    assert curve.steps[-1] == steps
    ends = itertools.pairwise([0, *curve.steps])
    expected = [losses[begin:end].mean() for begin, end in ends]
    np.testing.assert_allclose(curve.losses, expected, rtol=1e-6)


def test_a_run_that_diverged_has_no_loss_from_there_on():
    """Also where it was stopped soon after, so that later sums are zero."""
    whole = _record(np.full(1000, 2.0))
    curve = _record(np.full(1000, 2.0), diverged_at=100)
    before = whole.steps <= 100
    np.testing.assert_array_equal(curve.losses[before], 2)
    assert np.isnan(curve.losses[~before]).all()
    marks = curves.choose_marks(1000)
    sums = np.where(marks[1:] <= 100, 2.0 * np.diff(marks), 0).astype(np.float32)
    sums[before.sum()] = np.nan
    np.testing.assert_array_equal(curves.finish(marks, sums).losses, curve.losses)


def _curve(value: float) -> Curve:
    return Curve(np.array([1, 2], np.int32), np.array([value, np.nan], np.float32))


def test_files_are_merged_and_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(curves, "_MOST_FILES", 3)
    assert curves.read(tmp_path) == {}
    writer = Curves(tmp_path)
    writer.append({})
    assert not (tmp_path / "curves").exists()
    for value in range(7):
        writer.append({f"c{value}": _curve(value)})
    folder = tmp_path / "curves"
    assert len(list(folder.iterdir())) == 3  # 3 + 3 + 1 runs
    before = curves.read(tmp_path)
    # Killed between the new file and the removal of the old ones.
    Curves(tmp_path).append({"c0": _curve(0), "c1": _curve(1)})
    writer.merge()
    (path,) = folder.iterdir()
    after = curves.read(tmp_path)
    assert sorted(before) == sorted(after) == [f"c{value}" for value in range(7)]
    for value in range(7):
        for left, right in zip(after[f"c{value}"], _curve(value), strict=True):
            np.testing.assert_array_equal(left, right)
    Curves(tmp_path).append({"d": _curve(9)})
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    assert list(curves.read(tmp_path)) == ["d"]
    assert "damaged" in capsys.readouterr().err


def _experiment(**packing_wishes) -> config.Experiment:
    return config.Experiment(
        name="x",
        grid=config.Grid(
            widths=(6,), depths=(1,), data_fractions=(1 / 64, 1 / 16), seeds=3
        ),
        training=config.Training(learning_rate=0.1, epochs=20, batch_size=16),
        packing=config.Packing(width_bucket=1.0, **packing_wishes),
    )


def _train(cells, lane_axis="vmap", lanes=4, chunk_steps=0):
    wishes = config.Packing(lanes=lanes, chunk_steps=chunk_steps)
    plan = packing.plan_packs(cells, wishes, len(DEVICES), lane_axis)
    plan = dataclasses.replace(
        plan,
        packs=tuple(
            dataclasses.replace(pack, lanes=lanes * pack.num_devices)
            for pack in plan.packs
        ),
    )
    found: dict[str, Curve] = {}
    for news in ensemble.train(plan, DATASET, devices=DEVICES):
        assert set(news.curves) == {row.cell_id for row in news.rows}
        found.update(news.curves)
    return found


def test_curves_do_not_depend_on_what_is_trained_beside():
    cells = grid.make_cells(_experiment(), DATASET)
    others = [dataclasses.replace(c, seed=c.seed + 9, steps=90) for c in cells[:4]]
    expected = _train(cells)
    found = _train(others + cells[::-1], chunk_steps=7)
    for cell in cells:
        curve = expected[cell.cell_id]
        assert curve.steps[-1] == cell.steps
        assert curve.losses[-1] < curve.losses[0] < 4
        for left, right in zip(curve, found[cell.cell_id], strict=True):
            np.testing.assert_array_equal(left, right)
    by_turns = _train(cells, "map", lanes=3)
    for cell in cells:
        np.testing.assert_allclose(
            by_turns[cell.cell_id].losses, expected[cell.cell_id].losses, rtol=1e-3
        )


def test_a_run_that_was_stopped_keeps_its_whole_curve(tmp_path):
    experiment = _experiment(lanes=2, chunk_steps=4)
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells)
    expected: dict[str, Curve] = {}
    for news in ensemble.train(plan, DATASET):
        expected.update(news.curves)
    train = functools.partial(
        ensemble.train, checkpoint_dir=tmp_path, checkpoint_minutes=1e-9
    )
    stopped = train(plan, DATASET)
    found = dict(next(stopped).curves)
    stopped.close()
    plan = ensemble.plan_cells(experiment, DATASET, cells, done=set(found))
    last = None
    for last in train(plan, DATASET):
        found.update(last.curves)
    assert last is not None
    planned = sum(cell.steps for pack in plan.packs for cell in pack.queue)
    assert last.live_lane_steps < planned  # some were half done
    for cell_id, curve in expected.items():
        np.testing.assert_array_equal(found[cell_id].losses, curve.losses)


def _row(cell_id: str) -> Measurement:
    return Measurement(
        cell_id=cell_id, task="digits", family="mlp", width=4, depth=1, params=10,
        params_total=10, data=20, data_unit="images", epochs=1.0, steps=2, seed=3,
        learning_rate=0.1, flops=1.0, metric="error", value=0.5, train_value=0.5,
        status="ok", seconds=10.0, device="cpu", program="p",
    )  # fmt: skip


def _export(*arguments: str) -> int:
    curves_main.FLAGS.unparse_flags()
    return command.status_of(
        "curves",
        curves_main._USAGE,
        curves_main.FLAGS,
        curves_main._main,
        lambda argv: None,
        ["curves", *arguments],
    )


def test_curves_are_exported(tmp_path, capsys):
    workdir, out = tmp_path / "work", tmp_path / "out"
    Curves(workdir).append({"a1": _curve(0.25), "half done": _curve(1)})
    Table(workdir / "measurements.csv").append([_row("a1")])
    assert _export(f"--workdir={workdir}", f"--out={out}") == 0
    assert "1 loss curves" in capsys.readouterr().out
    (path,) = out.iterdir()
    assert path.name == "width4-depth1-data20-seed3-a1.csv"
    header, first, second = csv.reader(path.read_text().splitlines())
    assert header == ["Wall time", "Step", "Value"]
    assert (first, second) == (["5.0", "1", "0.25"], ["10.0", "2", "nan"])
    status = _export(f"--workdir={workdir}", f"--out={out}", "--format=tensorboard")
    assert status == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    (events,) = folder.iterdir()
    assert ".tfevents." in events.name
    records = _read_records(events.read_bytes())
    assert len(records) == 3
    assert b"brain.Event:2" in records[0]
    assert struct.pack("<d", 5.0) in records[1]
    assert b"train/loss" in records[1]
    assert struct.pack("<f", 0.25) in records[1]


def test_there_must_be_curves_and_a_folder(tmp_path, capsys):
    assert _export(f"--workdir={tmp_path}", f"--out={tmp_path}/o") == 2
    assert "has no loss curves" in capsys.readouterr().err
    assert _export(f"--workdir={tmp_path}") == 2
    assert "--out: missing" in capsys.readouterr().err
    with pytest.raises(UserError):
        curves_main.export(curves_main.epath.Path(tmp_path), tmp_path, "csv")


def _read_records(content: bytes) -> list[bytes]:
    """As TensorBoard reads them, checksums and all."""
    records = []
    while content:
        length = content[:8]
        (size,) = struct.unpack("<Q", length)
        record = content[12 : 12 + size]
        assert content[8:12] == tensorboard._checksum(length)
        assert content[12 + size : 16 + size] == tensorboard._checksum(record)
        records.append(record)
        content = content[16 + size :]
    return records


def test_the_checksum_is_that_of_the_standard():
    """CRC-32C of the digits 1 to 9 is E3069283 (RFC 3720 and others), then masked."""
    crc = 0xE3069283
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert tensorboard._checksum(b"123456789") == struct.pack("<I", masked)

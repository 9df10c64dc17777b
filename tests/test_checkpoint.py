"""Kill and resume: the rows are those of a run that was never stopped."""

import dataclasses
import errno
import shutil
from collections.abc import Collection

import jax
import numpy as np
import pytest

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.runtime import preemption
from scalepred.runtime.preemption import Stopped
from scalepred.training import chunks, engine, ensemble, pace
from scalepred.training.checkpoint import Checkpoints, Held
from scalepred.training.plan import Pack

DATASET = load_dataset("digits")


def _experiment(lane_axis: str) -> config.Experiment:
    return config.Experiment(
        name="x",
        metric="loss",
        grid=config.Grid(
            widths=(3,), depths=(1,), data_fractions=(1 / 64, 1 / 32), seeds=3
        ),
        training=config.Training(
            optimizer="adam", learning_rate=0.01, epochs=40, batch_size=16
        ),
        packing=config.Packing(
            lanes=2, lane_axis=lane_axis, chunk_steps=5, checkpoint_minutes=1e-9
        ),
    )


@pytest.fixture(scope="module", params=["vmap", "map"])
def experiment(request) -> config.Experiment:
    return _experiment(request.param)


@pytest.fixture(scope="module")
def expected(experiment):
    """Of each run, when nothing stops it."""
    return _values(row for news in _train(experiment, None) for row in news.rows)


@pytest.fixture(scope="module")
def plain() -> config.Experiment:
    """For what has nothing to do with how lanes step."""
    return _experiment("map")


@pytest.fixture(scope="module")
def expected_plain(plain):
    return _values(row for news in _train(plain, None) for row in news.rows)


def _train(experiment, directory, done: Collection[str] = (), devices=None):
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells, done=done, devices=devices)
    return ensemble.train(
        plan,
        DATASET,
        devices=devices,
        checkpoint_dir=directory,
        checkpoint_minutes=experiment.packing.checkpoint_minutes,
    )


def _values(rows):
    return {row.cell_id: (row.value, row.train_value, row.status) for row in rows}


def test_resumed_rows_are_bitwise_the_same(experiment, expected, tmp_path):

    # Stopped after the first rows, when other runs are half done.
    news = _train(experiment, tmp_path / "checkpoints")
    first = next(news).rows
    steps_before = sum(row.steps for row in first)
    news.close()
    assert any((tmp_path / "checkpoints").iterdir())

    rest, last = [], None
    resumed = _train(
        experiment, tmp_path / "checkpoints", done={row.cell_id for row in first}
    )
    for last in resumed:
        rest += last.rows
    assert _values([*first, *rest]) == expected
    assert not {row.cell_id for row in first} & {row.cell_id for row in rest}
    # Half-done runs went on and did not begin again.
    cells = grid.make_cells(experiment, DATASET)
    assert last is not None
    assert last.live_lane_steps < sum(cell.steps for cell in cells) - steps_before
    assert all(row.seconds > 0 for row in rest)
    # What is done leaves nothing behind.
    assert not (tmp_path / "checkpoints").exists()


def _stop_at(news, count: int, monkeypatch) -> list:
    """Rows until SIGTERM, which comes during the count-th news."""
    rows = []

    def run() -> None:
        for index, progress in enumerate(news, start=1):
            rows.extend(progress.rows)
            if index == count:
                signalled.setattr(preemption, "_requested", True)

    with monkeypatch.context() as signalled, pytest.raises(Stopped):
        run()
    return rows


def test_sigterm_repeats_no_step(experiment, expected, tmp_path, monkeypatch):
    experiment = _with(experiment, checkpoint_minutes=1e3)  # none but for the signal
    dispatched = []
    run_chunks = chunks.make_chunks

    def make_chunks(*args):
        for chunk in run_chunks(*args):
            dispatched.append(chunk)
            yield chunk

    monkeypatch.setattr(chunks, "make_chunks", make_chunks)
    first = _stop_at(_train(experiment, tmp_path), 2, monkeypatch)
    assert len(first) < len(expected)
    rest = [
        row
        for news in _train(experiment, tmp_path, done={row.cell_id for row in first})
        for row in news.rows
    ]
    assert _values([*first, *rest]) == expected
    steps = sum(sum(chunk.num_steps_of_lanes) for chunk in dispatched)
    assert steps == sum(cell.steps for cell in grid.make_cells(experiment, DATASET))


def test_runs_go_on_with_fewer_devices_and_lanes(
    experiment, expected, tmp_path, monkeypatch
):
    often = _with(experiment, checkpoint_minutes=1e3)
    first = _stop_at(_train(often, tmp_path), 1, monkeypatch)
    done = {row.cell_id for row in first}
    # One lane takes the unfinished runs one after the other, and stops once more,
    # when some of them have not had a lane again.
    alone = _with(often, lanes=1)
    second = _stop_at(
        _train(alone, tmp_path, done, devices=jax.devices()[:1]), 1, monkeypatch
    )
    done |= {row.cell_id for row in second}
    last, rest = None, []
    for last in _train(often, tmp_path, done):
        rest += last.rows
    got = _values([*first, *second, *rest])
    assert got.keys() == expected.keys()
    for cell_id, (value, train_value, status) in expected.items():
        assert got[cell_id][:2] == pytest.approx((value, train_value), rel=1e-4)
        assert got[cell_id][2] == status
    cells = grid.make_cells(experiment, DATASET)
    done_steps = sum(cell.steps for cell in cells if cell.cell_id in done)
    assert last is not None
    assert last.live_lane_steps < sum(cell.steps for cell in cells) - done_steps


def _with(experiment, **changes):
    packing = dataclasses.replace(experiment.packing, **changes)
    return dataclasses.replace(experiment, packing=packing)


@pytest.fixture
def pack(plain) -> Pack:
    cells = grid.make_cells(plain, DATASET)
    return ensemble.plan_cells(plain, DATASET, cells).packs[0]


def _state(value: float):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("lane",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("lane"))
    state = {
        "x": np.arange(8, dtype=np.float32).reshape(4, 2) + value,
        "n": np.arange(4, dtype=np.int32),
    }
    return jax.device_put(state, sharding)


def _save(checkpoints, pack, value: float, steps: int):
    held = {lane: Held(pack.queue[lane], steps, 0.5) for lane in range(4)}
    checkpoints.save(pack, _state(value), held)
    checkpoints.finish()


def test_checkpoints_of_something_else_are_left_alone(plain, pack, tmp_path):
    checkpoints = Checkpoints(tmp_path, 1)
    assert checkpoints.restore(pack, _state(0)) == []  # there is none
    _save(checkpoints, pack, 0.0, 3)
    found = checkpoints.restore(pack, _state(0))
    assert [run[:3] for run in found] == [(cell, 3, 0.5) for cell in pack.queue[:4]]
    np.testing.assert_array_equal(found[1].state["x"], [2, 3])
    # Runs that have a row by now, or other programs, are no reason to load it.
    done = {cell.cell_id for cell in pack.queue[:4]}
    cells = grid.make_cells(plain, DATASET)
    rest = ensemble.plan_cells(plain, DATASET, cells, done=done).packs[0]
    assert checkpoints.restore(rest, _state(0)) == []
    other = dataclasses.replace(pack, key=pack.key._replace(width=4), widths=(4,))
    assert checkpoints.restore(other, _state(0)) == []
    # And another program's do not drive it out.
    _save(checkpoints, other, 0.0, 5)
    checkpoints.clear(other)
    assert [run.steps for run in checkpoints.restore(pack, _state(0))] == [3] * 4
    # The newest wins, and few are kept.
    for steps in (4, 5, 6):
        _save(checkpoints, pack, 1.0, steps)
    assert [run.steps for run in checkpoints.restore(pack, _state(0))] == [6] * 4
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 2
    assert not checkpoints.is_due()
    checkpoints.close()


@pytest.mark.parametrize("how", ["emptied", "truncated", "flipped"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(pack, tmp_path, capfd, how):
    """Whatever file of it is damaged, and wherever."""
    good = tmp_path / "good"
    checkpoints = Checkpoints(good, 1)
    _save(checkpoints, pack, 0.0, 3)
    _save(checkpoints, pack, 1.0, 6)
    checkpoints.close()
    (folder,) = good.iterdir()
    names = sorted(
        path.relative_to(good) for path in (folder / "1").rglob("*") if path.is_file()
    )
    assert len(names) > 5
    rng = np.random.default_rng(0)
    skipped = 0
    for index, name in enumerate(names):
        bad = tmp_path / f"bad{index}"
        shutil.copytree(good, bad)
        content = bytearray((bad / name).read_bytes())
        at = int(rng.integers(max(len(content), 1)))
        if not content:
            (bad / name).unlink()
        elif how == "emptied":
            (bad / name).write_bytes(b"")
        elif how == "truncated":
            (bad / name).write_bytes(content[:at])
        else:
            content[at] ^= 1 << int(rng.integers(8))
            (bad / name).write_bytes(content)
        capfd.readouterr()
        checkpoints = Checkpoints(bad, 1)
        found = checkpoints.restore(pack, _state(0))
        checkpoints.close()
        value = {6: 1.0, 3: 0.0}[found[0].steps]
        for lane, run in enumerate(found):
            assert run.steps == found[0].steps
            expected = np.arange(2) + 2 * lane + value
            np.testing.assert_array_equal(run.state["x"], expected)
            assert run.state["n"] == lane
        if found[0].steps == 3:
            skipped += 1
            said = capfd.readouterr().err
            assert "damaged" in said or name.name == "commit_success.txt", name
    assert skipped >= 3


def test_all_checkpoints_damaged(pack, tmp_path, capfd):
    checkpoints = Checkpoints(tmp_path, 1)
    _save(checkpoints, pack, 0.0, 3)
    checkpoints.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    checkpoints = Checkpoints(tmp_path, 1)
    assert checkpoints.restore(pack, _state(0)) == []
    _save(checkpoints, pack, 0.0, 4)
    assert [run.steps for run in checkpoints.restore(pack, _state(0))] == [4] * 4
    checkpoints.close()


def test_a_checkpoint_that_cannot_be_written_costs_no_row(
    plain, expected_plain, tmp_path, capfd, monkeypatch
):

    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Checkpoints, "_open", no_space)
    rows = [r for p in _train(plain, tmp_path / "c") for r in p.rows]
    assert _values(rows) == expected_plain
    assert "could not be written" in capfd.readouterr().err


def test_a_disk_that_is_full_for_a_while_costs_no_row(
    plain, expected_plain, tmp_path, capfd, monkeypatch
):
    """What orbax raises once it raises again when it is closed."""
    from orbax.checkpoint._src.handlers import base_pytree_checkpoint_handler as inner

    handler, calls = inner.BasePyTreeCheckpointHandler, []
    really_write = handler._write_metadata_after_commits

    async def write(self, *args, **kwargs):
        calls.append(args)
        if len(calls) in (1, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        return await really_write(self, *args, **kwargs)

    monkeypatch.setattr(handler, "_write_metadata_after_commits", write)
    rows = [r for p in _train(plain, tmp_path / "c") for r in p.rows]
    assert len(calls) > 3
    assert _values(rows) == expected_plain
    said = capfd.readouterr().err
    assert "could not be written" in said
    assert "Traceback" not in said


def test_out_of_memory_takes_fewer_lanes(plain, expected_plain, capfd, monkeypatch):
    really_compile, tried = engine.compile_pack, set()
    room = 2

    def compile_pack(pack, *args):
        tried.add(pack.lanes)
        if pack.lanes > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return really_compile(pack, *args)

    monkeypatch.setattr(engine, "compile_pack", compile_pack)
    rows = [r for p in _train(plain, None) for r in p.rows]
    assert tried == {4, 2}
    assert "out of memory with 4 lanes, trying 2" in capfd.readouterr().err
    got = _values(rows)
    assert len(rows) == len(got)
    for cell_id, (value, *_) in expected_plain.items():
        assert got[cell_id][0] == pytest.approx(value, rel=1e-4)
    room = 1
    with pytest.raises(UserError, match=r"width3.*does not fit into the memory"):
        list(_train(plain, None))


def test_out_of_memory_halfway_keeps_what_is_done(plain, tmp_path, monkeypatch):
    """A row that was handed out is not trained again."""
    calls = 0
    make_request = pace.make_request

    def request(checkpoints):
        nonlocal calls
        calls += 1
        if calls == 12:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return make_request(checkpoints)

    monkeypatch.setattr(pace, "make_request", request)
    rows = [r for p in _train(plain, tmp_path) for r in p.rows]
    assert len(rows) == len(_values(rows)) == 6
    assert len({row.program for row in rows}) == 2

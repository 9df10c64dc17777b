"""Kill and resume: the rows are those of a run that was never stopped."""

from collections.abc import Collection

import jax
import numpy as np
import pytest
from compiling import compile_once  # noqa: F401

from scalepred import config, grid
from scalepred.data.dataset import load_dataset
from scalepred.training import ensemble
from scalepred.training.checkpoint import Checkpoints

DATASET = load_dataset("digits")


@pytest.fixture(scope="module", params=["vmap", "map"])
def experiment(request) -> config.Experiment:
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
            lanes=2, lane_axis=request.param, chunk_steps=5, checkpoint_minutes=1e-9
        ),
    )


def _train(experiment, directory, done: Collection[str] = ()):
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells, done=done)
    return ensemble.train(
        plan,
        DATASET,
        checkpoint_dir=directory,
        checkpoint_minutes=experiment.packing.checkpoint_minutes,
    )


def _values(rows):
    return {row.cell_id: (row.value, row.train_value, row.status) for row in rows}


def test_resumed_rows_are_bitwise_the_same(experiment, tmp_path):
    expected = _values(r for p in _train(experiment, None) for r in p.rows)

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
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    assert checkpoints._checkpointer.latest is None
    checkpoints.close()


def test_a_checkpoint_of_something_else_is_left_alone(experiment, tmp_path):
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells)
    pack = plan.packs[0]
    state = {"x": jax.numpy.arange(4.0)}
    checkpoints = Checkpoints(tmp_path, 1)
    assert checkpoints.restore(pack, state) is None  # there is none
    held = {1: ensemble.Held(pack.queue[0], 3, 0.5)}
    checkpoints.save(pack, state, held)

    found = checkpoints.restore(pack, jax.tree.map(np.zeros_like, state))
    assert found is not None
    assert found[1] == held
    np.testing.assert_array_equal(found[0]["x"], state["x"])
    # Runs that have a row by now, or other programs, are no reason to load it.
    done = {pack.queue[0].cell_id}
    plan = ensemble.plan_cells(experiment, DATASET, cells, done=done)
    assert checkpoints.restore(plan.packs[0], state) is None
    experiment.grid.widths = (4,)
    cells = grid.make_cells(experiment, DATASET)
    other = ensemble.plan_cells(experiment, DATASET, cells).packs[0]
    experiment.grid.widths = (3,)
    assert checkpoints.restore(other, state) is None

    # The newest wins, and only it is kept.
    held = {0: ensemble.Held(pack.queue[1], 4, 0.5)}
    checkpoints.save(pack, state, held)
    found = checkpoints.restore(pack, state)
    assert found is not None
    assert found[1] == held
    assert len(checkpoints._checkpointer.checkpoints) == 1
    assert not checkpoints.is_due()
    checkpoints.close()

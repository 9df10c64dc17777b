"""Kill and resume: the rows are those of a run that was never stopped."""

from collections.abc import Collection

import pytest
from compiling import compile_once  # noqa: F401

from scalepred import config, grid
from scalepred.data.dataset import load_dataset
from scalepred.training import ensemble

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
    assert not (tmp_path / "checkpoints").exists()

"""Zero padding is a fixed point: a padded model trains as the narrow one does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compile_once  # noqa: F401

from scalepred import config, grid
from scalepred.data import digits
from scalepred.grid import Cell
from scalepred.models.model import build_model
from scalepred.training import ensemble, lane, padding

NUM_STEPS = 30
WIDTHS = (3, 8)
FAMILIES = ("mlp",)  # those that say they can be padded
DATASET = digits.load()
OPTIMIZERS = {
    "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
}


def _cell(family: str, width: int, **changes) -> Cell:
    cell = Cell(
        dataset="digits",
        family=family,
        metric="loss",
        width=width,
        depth=2,
        dataset_size=40,
        seed=0,
        steps=NUM_STEPS,
        batch_size=16,
        optimizer="sgd",
        learning_rate=0.05,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        schedule="cosine",
        warmup_fraction=0.1,
    )
    return dataclasses.replace(cell, **changes)


def _train(cell: Cell, models, index: int):
    """State and scores in float64, from the start that float32 gives."""
    program = lane.make_program(cell.program_key, models, DATASET)
    args = lane.lane_args(cell, model=index, order=0)
    data = lane.LaneData(
        inputs=jnp.asarray(DATASET.inputs, jnp.float64),
        labels=jnp.asarray(DATASET.labels),
        order=jnp.asarray(DATASET.order(cell.seed)[None]),
    )

    @jax.jit
    def train(args):
        state = jax.tree.map(
            lambda leaf: (
                leaf.astype(jnp.float64)
                if jnp.issubdtype(leaf.dtype, jnp.floating)
                else leaf
            ),
            program.init_lane(args),
        )
        state = jax.lax.fori_loop(
            0, cell.steps, lambda _, s: program.step_lane(s, args, data), state
        )
        return state, program.evaluate_lane(state, args, data)

    return train(args)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_padded_model_trains_as_the_narrow_one(family, optimizer):
    models = [build_model(family, w, 2, DATASET.input_shape, 10) for w in WIDTHS]
    assert models[0].can_be_padded
    cell = _cell(family, WIDTHS[0], **OPTIMIZERS[optimizer])
    with jax.enable_x64(True):
        narrow, expected = _train(cell, models[:1], 0)
        padded, found = _train(cell, models, 0)
        assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-12)
        assert float(found.train_loss) == pytest.approx(
            float(expected.train_loss), rel=1e-12
        )
        assert float(found.error) == float(expected.error)
        for tree in ("params", "opt_state"):
            again = padding.pad_tree(getattr(narrow, tree), getattr(padded, tree))
            jax.tree.map(_check_padding, getattr(padded, tree), again)


def _check_padding(padded, expected):
    padded, expected = np.asarray(padded), np.asarray(expected)
    np.testing.assert_allclose(padded, expected, rtol=1e-9, atol=1e-14)
    # Where the narrow model has nothing there is exactly nothing.
    assert np.all(padded[expected == 0] == 0)


def test_pad_tree():
    tree = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scalar": jnp.ones(())}
    wide = {"kernel": np.zeros((4, 5)), "bias": np.zeros(5), "scalar": np.zeros(())}
    padded = padding.pad_tree(tree, wide)
    assert jax.tree.map(jnp.shape, padded) == jax.tree.map(np.shape, wide)
    assert float(padded["kernel"].sum()) == 6
    assert float(padded["kernel"][:2, :3].sum()) == 6
    same = padding.pad_tree(tree, tree)
    jax.tree.map(np.testing.assert_array_equal, same, tree)


def test_widths_that_share_a_program_give_the_rows_of_their_own():
    experiment = config.Experiment(
        name="x",
        metric="loss",
        grid=config.Grid(widths=WIDTHS, depths=(1,), data_fractions=(1 / 32,), seeds=2),
        training=config.Training(learning_rate=0.05, epochs=12, batch_size=16),
    )
    cells = grid.make_cells(experiment, DATASET)
    rows = []
    for factor in (1.0, 4.0):
        experiment.packing.width_bucket = factor
        plan = ensemble.plan_cells(experiment, DATASET, cells)
        assert len(plan.packs) == (2 if factor == 1 else 1)
        news = [row for news in ensemble.train(plan, DATASET) for row in news.rows]
        rows.append({row.cell_id: row for row in news})
    for cell_id, row in rows[0].items():
        shared = rows[1][cell_id]
        assert (row.params, row.width, row.flops) == (
            shared.params,
            shared.width,
            shared.flops,
        )
        assert shared.value == pytest.approx(row.value, rel=1e-4)

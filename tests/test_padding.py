"""Padding, and programs that several widths share; test_families.py has the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred import config, grid
from scalepred.data import digits
from scalepred.training import ensemble, padding

WIDTHS = (3, 8)
DATASET = digits.load()


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

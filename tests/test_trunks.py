"""Which cells share a trunk, and in which order they read the data."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from scalepred import grid, pairs
from scalepred.training import branches, curves, sampling
from scalepred.training.device_data import find_order
from tests.test_branches import DATASET, make_experiment


def test_ids_and_words():
    """Plain cells are what they were; branches of a trunk start alike."""
    experiment = make_experiment()
    cells = grid.make_cells(experiment, DATASET)
    experiment.grid.branches = False
    plain = grid.make_cells(experiment, DATASET)
    assert len({cell.cell_id for cell in cells + plain}) == 2 * len(cells)
    assert len({cell.random_words for cell in plain}) == len(plain)
    assert len({cell.random_words for cell in cells}) == 4
    for cell, other in zip(cells, plain, strict=True):
        same = dataclasses.replace(cell, branch=False)
        assert (same.cell_id, same.random_words) == (other.cell_id, other.random_words)


def test_rates_and_arms_have_trunks_of_their_own():
    experiment = make_experiment()
    experiment.grid.learning_rates = (0.01, 0.03)
    cells = grid.make_cells(experiment, DATASET)
    assert len(branches.find_chains(cells)) == 8
    other = make_experiment({"nesterov": True, "optimizer": "sgd"})
    other.grid.learning_rates = (0.01, 0.03)
    paired = pairs.pair(grid.make_cells(other, DATASET), cells)
    assert len(branches.find_chains(paired)) == 8
    words = {cell.random_words for cell in cells if cell.learning_rate == 0.01}
    assert {cell.random_words for cell in paired} == words


def test_arms_that_differ_in_their_warmup_alone_have_trunks_of_their_own():
    """They share every random number, and yet not a step."""
    cells = grid.make_cells(make_experiment(), DATASET)
    warmer = grid.make_cells(make_experiment({"warmup_steps": 5}), DATASET)
    assert {cell.random_words for cell in warmer} == {c.random_words for c in cells}
    assert len(branches.find_chains(cells)) == 4
    assert len(branches.find_chains([*cells, *warmer])) == 8


@pytest.mark.parametrize(("size", "batch_size"), [(80, 4), (21, 4), (3, 4)])
def test_a_branch_reads_on_in_the_order_it_has(size, batch_size):
    """On the device and, for data that are streamed, on the host."""
    cursor, drawn = sampling.start(), []
    for _ in range(-(-size // batch_size)):
        batch, cursor = sampling.draw_batch(None, cursor, jnp.uint32(size), batch_size)
        drawn += batch.tolist()
    assert drawn[:size] == list(range(size))
    assert drawn[size:] == [number % size for number in range(len(drawn) - size)]
    found = sampling.find_draws(None, 2, 3, size, batch_size, consecutive=False)
    expected = (np.arange(2 * batch_size, 5 * batch_size)) % size
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("steps", [2, 9, 300, 40_000_000])
def test_points_of_a_trunk_are_shared(steps):
    starts = [steps // 3, steps // 2, steps - 1]
    found = [curves.choose_branch_marks(steps, start) for start in starts]
    for marks, start in zip(found, starts, strict=True):
        assert len(marks) == curves.NUM_POINTS + 1
        assert (marks[0], marks[-1]) == (0, steps)
        assert (np.diff(marks) >= 0).all()
        assert start in marks
    short, _, long = found
    shared = short[short < starts[0]]
    np.testing.assert_array_equal(shared, long[: len(shared)])


def test_the_order_of_branches_is_shuffled():
    """Nested subsets as they come; the test part stays the test part."""
    own, shuffled = find_order(DATASET, 3), find_order(DATASET, ~3)
    num_train = DATASET.num_train
    np.testing.assert_array_equal(own, DATASET.order(3))
    np.testing.assert_array_equal(own[num_train:], shuffled[num_train:])
    np.testing.assert_array_equal(np.sort(own), np.sort(shuffled))
    assert (shuffled[:num_train] != own[:num_train]).mean() > 0.9

    def count_equal(order: np.ndarray) -> float:
        """Share of tens of examples that hold every class."""
        tens = DATASET.labels[order[: num_train // 10 * 10]].reshape(-1, 10)
        return float(np.mean([len(set(ten)) == 10 for ten in tens.tolist()]))

    assert count_equal(shuffled) < 0.05 < 0.5 < count_equal(own)
    np.testing.assert_array_equal(shuffled, find_order(DATASET, ~3))

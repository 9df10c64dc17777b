"""Cells: stable ids, program keys, and randomness that depends on the cell alone."""

import dataclasses

import pytest

from scalepred import config, grid
from scalepred.data import digits


@pytest.fixture(scope="module")
def dataset():
    return digits.load()


def _experiment(**changes) -> config.Experiment:
    experiment = config.Experiment(
        name="x", training=config.Training(epochs=2, batch_size=16)
    )
    for path, value in changes.items():
        section, field = path.split("__")
        setattr(getattr(experiment, section), field, value)
    return experiment


def _other(value):
    if isinstance(value, tuple):
        return (*value, 0.5)
    # Words of random numbers are hex digits.
    return value + "abad1deaabad1dea" if isinstance(value, str) else value + 1


def test_order_and_sizes(dataset):
    cells = grid.make_cells(_experiment(grid__seeds=2), dataset)
    assert len(cells) == 3 * 3 * 2
    assert [cell.seed for cell in cells[:4]] == [0, 1, 0, 1]
    assert [cell.dataset_size for cell in cells[:6:2]] == [320, 640, 1280]
    assert [cell.width for cell in cells[::6]] == [8, 16, 32]


def test_epochs_are_rounded_up_to_whole_steps(dataset):
    cell = grid.make_cells(_experiment(grid__data_fractions=(1 / 64,)), dataset)[0]
    assert (cell.dataset_size, cell.steps) == (20, 3)
    assert cell.epochs == pytest.approx(2.4)


def test_steps_are_the_same_at_every_size(dataset):
    experiment = _experiment(training__epochs=0.0, training__steps=7)
    assert {cell.steps for cell in grid.make_cells(experiment, dataset)} == {7}


def test_ids_are_distinct_and_stay_when_the_grid_grows(dataset):
    small = grid.make_cells(_experiment(), dataset)
    large = grid.make_cells(
        _experiment(grid__seeds=3, grid__widths=(4, 8, 16, 32)), dataset
    )
    ids = [cell.cell_id for cell in large]
    assert len(set(ids)) == len(ids)
    assert {cell.cell_id for cell in small} < set(ids)


def test_golden_id(dataset):
    """A changed id would train again what stands in everybody's tables."""
    cell = grid.make_cells(_experiment(), dataset)[0]
    assert cell.cell_id == "730534937fbd"


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(grid.Cell)])
def test_every_field_is_part_of_the_id(dataset, field):
    cell = grid.make_cells(_experiment(), dataset)[0]
    value = getattr(cell, field)
    changed = dataclasses.replace(cell, **{field: _other(value)})
    assert changed.cell_id != cell.cell_id
    # What is read off a run does not change the run.
    assert (changed.random_words == cell.random_words) == (field == "metric")


def test_lane_arguments_share_a_program(dataset):
    cell = grid.make_cells(_experiment(), dataset)[0]
    lane_arguments = {
        "dataset_size": 20,
        "seed": 5,
        "steps": 9,
        "learning_rate": 0.3,
        "momentum": 0.1,
        "beta2": 0.9,
        "weight_decay": 0.2,
        "warmup_fraction": 0.4,
        "decay_points": (0.5,),
        "decay_factor": 0.3,
        "cooldown_fraction": 0.3,
        "validation_size": 10,
        "metric": "loss",
        "pair": "abad1deaabad1dea",
    }
    changed = dataclasses.replace(cell, **lane_arguments)
    assert changed.program_key == cell.program_key
    others = {f.name for f in dataclasses.fields(cell)} - set(lane_arguments)
    for field in others:
        changed = dataclasses.replace(cell, **{field: _other(getattr(cell, field))})
        assert changed.program_key != cell.program_key


def test_batches_of_several_sizes_share_a_program(dataset):
    cell = grid.make_cells(_experiment(), dataset)[0]
    keys = {
        dataclasses.replace(cell, batch_size=size, micro_batch_size=4).program_key
        for size in (8, 16, 64)
    }
    assert len(keys) == 1


def test_numbers_that_only_some_programs_use_are_lane_arguments_there(dataset):
    cell = grid.make_cells(_experiment(), dataset)[0]
    for field in ("clip_norm", "label_smoothing", "average_fraction"):
        keys = {
            dataclasses.replace(cell, **{field: value}).program_key
            for value in (0.1, 0.2)
        }
        assert len(keys) == 1


def test_a_whole_number_is_the_same_setting(dataset):
    ids = {
        grid.make_cells(_experiment(training__learning_rate=rate), dataset)[0].cell_id
        for rate in (1, 1.0)
    }
    assert len(ids) == 1


def test_two_fractions_of_one_size_are_an_error(dataset):
    experiment = _experiment(grid__data_fractions=(0.5, 0.501))
    with pytest.raises(config.UserError, match=r"0\.5 and 0\.501 .* n = 640"):
        grid.make_cells(experiment, dataset)

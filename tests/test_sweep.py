"""The envelope over rates: chosen on the validation part, with a word at its edge."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from test_measurements import make_row

from scalepred import config, grid, study, sweep, validation
from scalepred.config import UserError
from scalepred.data import digits, teacher
from scalepred.data.dataset import Dataset
from scalepred.table.rows import Table
from scalepred.training import ensemble

RATES = (0.01, 0.1, 1.0)
DATASET = digits.load()


def _experiment(**changes) -> config.Experiment:
    sizes = {
        "widths": (4, 8),
        "data_fractions": (0.25, 1.0),
        "seeds": 2,
        "learning_rates": RATES,
    }
    return config.Experiment(
        name="sweep",
        grid=config.Grid(**{**sizes, **changes}),
        training=config.Training(steps=20, batch_size=16),
        fit=config.Fitting(resamples=0),
    )


def _rows(cells, validation_of, value_of=lambda cell: 0.5):
    return {
        cell.cell_id: make_row(
            cell.cell_id,
            width=cell.width,
            params=100 * cell.width,
            data=cell.dataset_size,
            seed=cell.seed,
            learning_rate=cell.learning_rate,
            value=value_of(cell),
            validation_value=validation_of(cell),
            status="ok" if math.isfinite(validation_of(cell)) else "diverged",
        )
        for cell in cells
    }


def test_every_rate_at_every_point_and_a_part_to_choose_by():
    experiment = _experiment(weight_decays=(0.0, 1e-4))
    cells = grid.make_cells(experiment, DATASET)
    assert len(cells) == 2 * 2 * 2 * 3 * 2
    assert len({cell.cell_id for cell in cells}) == len(cells)
    (valid,) = {cell.validation_size for cell in cells}
    assert valid == 130  # a tenth of 1,280, as many of each class
    assert {cell.dataset_size for cell in cells} == {290, 1150}
    # The part to choose by stands behind all that is trained on, before the test part.
    order = DATASET.order(0)
    held_out = DATASET.labels[order[DATASET.num_train - valid : DATASET.num_train]]
    assert np.all(np.bincount(held_out, minlength=10) == 13)
    assert max(cell.dataset_size for cell in cells) + valid <= DATASET.num_train
    # Rates are inputs of a program: they add no compile.
    assert len({cell.program_key for cell in cells}) == 2


def test_without_a_choice_nothing_is_held_out():
    """And the cells are those they were: ids in tables stay."""
    plain = grid.make_cells(_experiment(learning_rates=()), DATASET)
    single = grid.make_cells(_experiment(learning_rates=(0.1,)), DATASET)
    assert plain == single
    assert {cell.validation_size for cell in plain} == {0}


def test_the_best_on_the_validation_part_counts_not_on_the_test_part():
    cells = grid.make_cells(_experiment(), DATASET)
    # Wide networks want the middle rate, narrow ones the least; tests say otherwise.
    best = {4: 0.01, 8: 0.1}
    rows = _rows(
        cells,
        lambda cell: 0.2 + 0.1 * (cell.learning_rate != best[cell.width]),
        lambda cell: cell.learning_rate / 10,
    )
    chosen, choices = sweep.choose(cells, rows, "error")
    assert len(chosen) == 2 * 2 * 2
    assert all(row.learning_rate == best[row.width] for row in chosen)
    assert {choice.value for choice in choices} == {0.001, 0.01}
    assert all(
        choice.at_edge == (("learning_rate",) if choice.width == 4 else ())
        for choice in choices
    )
    count, warning = sweep.describe(choices)
    assert count == "best learning_rate by validation, of 4 points: 0.01 at 2, 0.1 at 2"
    assert "edge of its sweep at 2 of 4 points, such as 0.01 at 400 param" in warning
    assert "widen grid.learning_rates" in warning
    lines = sweep.format_choices(choices).splitlines()
    assert lines[0].startswith("params,data,width,depth,learning_rate")
    assert len(lines) == 5


def test_a_rate_with_a_failed_seed_is_not_chosen():
    cells = grid.make_cells(_experiment(), DATASET)
    rows = _rows(
        cells,
        lambda cell: (
            math.nan
            if cell.learning_rate == 1.0 and cell.seed == 1
            else 1 - cell.learning_rate / 2
        ),
    )
    _, choices = sweep.choose(cells, rows, "error")
    assert {choice.learning_rate for choice in choices} == {0.1}
    assert not any(choice.at_edge for choice in choices)


def test_a_sweep_of_weight_decay_alone():
    experiment = _experiment(learning_rates=(), weight_decays=(0.0, 0.01, 0.1))
    cells = grid.make_cells(experiment, DATASET)
    rows = _rows(cells, lambda cell: 0.3 + cell.weight_decay)
    _, choices = sweep.choose(cells, rows, "error")
    assert {choice.weight_decay for choice in choices} == {0.0}
    assert {choice.at_edge for choice in choices} == {("weight_decay",)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real sweep, on the cheapest task."""
    experiment = _experiment(
        widths=(2, 4, 8),
        data_fractions=(1 / 16, 1 / 4, 1.0),
        learning_rates=(1e-4, 0.1),
    )
    experiment.dataset = "teacher"
    experiment.training.steps = 200
    folder = tmp_path_factory.mktemp("sweep")
    from etils import epath

    study.run(experiment, epath.Path(folder), stages=("train", "fit"))
    return experiment, folder


def test_a_study_fits_the_envelope(trained):
    experiment, folder = trained
    dataset = teacher.load()
    cells = grid.make_cells(experiment, dataset)
    rows = Table(folder / "measurements.csv").rows
    assert len(rows) == len(cells) == 3 * 3 * 2 * 2
    chosen, _ = sweep.choose(cells, rows, "error")
    # A rate that moves nothing in 200 steps wins nowhere.
    assert {row.learning_rate for row in chosen} == {0.1}
    lines = (folder / "envelope.csv").read_text().splitlines()
    assert len(lines) == 1 + 9
    text = (folder / "fit.json").read_text()
    assert "edge of its sweep at 9 of 9 points" in text
    assert '"points": 9' in text or '"num_points": 9' in text
    # The validation part is as hard as the test part, and not the same.
    for row in chosen:
        assert row.validation_value == pytest.approx(row.value, abs=0.15)
        assert row.validation_value != row.value


def test_the_validation_part_is_not_trained_on():
    """Its labels, spoilt, change what is chosen by and nothing else."""
    dataset = teacher.load()
    experiment = _experiment(
        widths=(4,), data_fractions=(1.0,), learning_rates=(0.05, 0.1), seeds=1
    )
    experiment.dataset = "teacher"
    cells = grid.make_cells(experiment, dataset)
    order = dataset.order(0)
    valid = order[dataset.num_train - cells[0].validation_size : dataset.num_train]
    labels = dataset.labels.copy()
    labels[valid] = (labels[valid] + 1) % dataset.num_classes

    class Spoilt(Dataset):
        def order(self, seed: int) -> np.ndarray:
            return dataset.order(seed)

    fields: dict[str, Any] = {
        f.name: getattr(dataset, f.name) for f in dataclasses.fields(dataset)
    }
    spoilt = Spoilt(**{**fields, "labels": labels})
    rows = []
    for task in (dataset, spoilt):
        plan = ensemble.plan_cells(experiment, task, cells)
        news = ensemble.train(plan, task)
        rows.append({row.cell_id: row for n in news for row in n.rows})
    for cell_id, row in rows[0].items():
        other = rows[1][cell_id]
        assert (row.value, row.train_value) == (other.value, other.train_value)
        assert other.validation_value > row.validation_value + 0.2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rates", (0.1, 0.0)),
        ("learning_rates", (0.1, 0.1)),
        ("weight_decays", (-1e-3,)),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
    ],
)
def test_bad_sweeps(field, value):
    with pytest.raises(UserError, match=rf"grid\.{field}="):
        validation.validate(_experiment(**{field: value}))


def test_a_validation_part_that_leaves_nothing():
    with pytest.raises(UserError, match=r"grid\.validation_fraction=0\.9999"):
        grid.make_cells(_experiment(validation_fraction=0.9999), DATASET)

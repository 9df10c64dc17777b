"""Final weights: saved of the runs that are asked for, read back as a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import scalepred
from scalepred import config, grid, study
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.models.model import Variables
from scalepred.table.rows import Table
from scalepred.training import curves, ensemble, weights
from scalepred.training.weights import load_model

DATASET = load_dataset("digits")


def _experiment(**training) -> config.Experiment:
    return config.Experiment(
        name="x",
        grid=config.Grid(
            widths=(4, 6), depths=(1,), data_fractions=(1 / 16, 1 / 4), seeds=2
        ),
        training=config.Training(
            learning_rate=0.05, steps=60, batch_size=16, **training
        ),
        packing=config.Packing(width_bucket=2.0, chunk_steps=25),
    )


def _cells(**training) -> list[grid.Cell]:
    return grid.make_cells(_experiment(**training), DATASET)


@pytest.mark.parametrize("training", [{}, {"average_fraction": 0.5}])
def test_a_model_read_back_scores_as_its_row_says(training, tmp_path):
    """Of a lane padded to another width, too."""
    cells = _cells(**training)
    plan = ensemble.plan_cells(_experiment(**training), DATASET, cells)
    assert plan.packs[0].widths == (4, 6)
    rows = {}
    for news in ensemble.train(
        plan, DATASET, save=weights.choose("all", cells, DATASET)
    ):
        rows.update((row.cell_id, row) for row in news.rows)
        weights.write(tmp_path, DATASET, news.weights)
    for cell in cells:
        model, variables = load_model(tmp_path, cell.cell_id)
        assert model.num_params == rows[cell.cell_id].params
        test = DATASET.order(cell.seed)[DATASET.num_train :][: DATASET.num_test]
        prepare = DATASET.prepare or (lambda x: x)
        outputs, _ = model.apply(
            *variables,
            prepare(jnp.asarray(DATASET.inputs[test])),
            train=False,
            key=jax.random.key(0),
        )
        wrong = np.mean(np.argmax(outputs, axis=-1) != DATASET.labels[test])
        assert wrong == pytest.approx(rows[cell.cell_id].value, abs=1 / len(test))


def test_only_what_is_asked_for_and_did_not_diverge_is_saved(tmp_path):
    cells = _cells()
    bad = _cells()[0]
    bad = type(bad)(**{**vars(bad), "learning_rate": 1e38})
    plan = ensemble.plan_cells(_experiment(), DATASET, [*cells, bad])
    wanted = {cells[3].cell_id, bad.cell_id}
    news = list(ensemble.train(plan, DATASET, save=lambda cell: cell.cell_id in wanted))
    saved = [cell for one in news for cell in one.weights]
    assert saved == [cells[3]]
    for one in news:
        weights.write(tmp_path, DATASET, one.weights)
    assert [path.stem for path in (tmp_path / "weights").iterdir()] == [
        cells[3].cell_id
    ]
    with pytest.raises(UserError, match="did not diverge"):
        load_model(tmp_path, bad.cell_id)


def test_who_is_chosen():
    cells = _cells()
    assert not any(map(weights.choose("", cells, DATASET), cells))
    assert all(map(weights.choose("all", cells, DATASET), cells))
    largest = weights.choose("largest", cells, DATASET)
    chosen = [cell for cell in cells if largest(cell)]
    assert [(cell.width, cell.dataset_size) for cell in chosen] == [
        (6, max(cell.dataset_size for cell in cells))
    ] * 2
    two = weights.choose(f"{cells[1].cell_id}, {cells[5].cell_id}", cells, DATASET)
    assert [cell for cell in cells if two(cell)] == [cells[1], cells[5]]
    with pytest.raises(UserError, match="nobody is no run"):
        weights.choose("nobody", cells, DATASET)


def _write_one(workdir, family="mlp"):
    cell = _cells()[0]
    model = weights.build_model(
        "mlp", cell.width, cell.depth, DATASET.input_shape, DATASET.head_size
    )
    variables = model.init(jax.random.key(0))
    weights.write(workdir, DATASET, {cell: Variables(*variables)})
    return cell, variables


def test_arrays_come_back_as_they_were(tmp_path):
    cell, variables = _write_one(tmp_path)
    _, found = load_model(tmp_path, cell.cell_id)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize("how", ["truncated", "flipped", "other"])
def test_a_damaged_file_is_told(how, tmp_path):
    cell, _ = _write_one(tmp_path)
    (path,) = (tmp_path / "weights").iterdir()
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[:-30])
    elif how == "flipped":
        content[300] ^= 4
        path.write_bytes(content)
    else:
        with np.load(path) as file:
            arrays = dict(file)
        arrays[next(iter(arrays))] += 1
        np.savez(path, **arrays)
    with pytest.raises(UserError, match="damaged"):
        load_model(tmp_path, cell.cell_id)
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path, "x")


def test_the_state_of_a_model_that_reads_on_is_cut_too():
    """Its rows are those of a training batch."""
    model = weights.build_model("awd_lstm_small", 4, 2, (8,), 20)
    assert model.restart is not None
    variables = model.init(jax.random.key(0))
    state = model.restart(variables.state, 3)
    padded = jax.tree.map(
        lambda leaf: np.pad(leaf, [(0, 2)] * leaf.ndim),
        Variables(variables.params, state),
    )
    found = weights.cut(model, padded, 3)
    jax.tree.map(np.testing.assert_array_equal, found.params, variables.params)
    jax.tree.map(np.testing.assert_array_equal, found.state, state)


def test_a_study_keeps_weights_and_curves(tmp_path, capsys):
    """What a user does: the config says so, the model is read back by its id."""
    experiment = _experiment()
    experiment.grid.data_fractions = (1 / 16,)
    experiment.packing.save_weights = "largest"
    experiment.fit.max_params_ratio = experiment.fit.max_data_ratio = 1.0
    workdir = epath.Path(tmp_path / "work")
    study.run(experiment, workdir, stages=("train",))
    rows = Table(workdir / "measurements.csv").rows
    assert set(curves.read(workdir)) == set(rows)
    saved = {path.stem for path in (workdir / "weights").iterdir()}
    assert saved == {name for name, row in rows.items() if row.width == 6}
    model, variables = scalepred.load_model(workdir, saved.pop())
    outputs, _ = model.apply(
        *variables,
        jnp.zeros((3, *DATASET.input_shape)),
        train=False,
        key=jax.random.key(0),
    )
    assert outputs.shape == (3, 10)
    experiment.packing.save_weights = "none"
    with pytest.raises(UserError, match=r"save_weights: none is no run"):
        study.run(experiment, workdir, stages=("train",))

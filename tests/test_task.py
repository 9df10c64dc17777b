"""Tasks: what a row says of each is what numpy says, whatever the batches."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data import npz
from scalepred.data.dataset import Dataset
from scalepred.data.task import (
    CLASSIFICATION,
    LANGUAGE,
    REGRESSION,
    Task,
    contrastive,
    cross_entropy,
)
from scalepred.training import ensemble, score


def _regression(num_outputs: int = 2) -> Dataset:
    """A curved function of three numbers, with a little noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3)).astype(np.float32)
    weights = random.normal(size=(3, num_outputs))
    y = np.tanh(x @ weights) + 0.1 * random.normal(size=(400, num_outputs))
    return Dataset(
        name="curve",
        inputs=x,
        labels=y.astype(np.float32),
        num_classes=0,
        num_train=300,
        task=REGRESSION,
    )


def _pairs(task: Task) -> Dataset:
    """Two noisy views of the same eight numbers."""
    random = np.random.default_rng(1)
    hidden = random.normal(size=(330, 1, 8))
    x = hidden + 0.3 * random.normal(size=(330, 2, 8))
    return Dataset(
        name="pairs",
        inputs=x.astype(np.float32),
        labels=np.zeros(330, np.float32),
        num_classes=0,
        num_train=256,
        has_fixed_test=True,
        task=task,
    )


def _train(dataset: Dataset, **changes) -> list:
    """Rows of two seeds of a small network."""
    training = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 16}
    experiment = config.Experiment(
        name="x",
        dataset=dataset.name,
        grid=config.Grid(widths=(16,), depths=(1,), data_fractions=(1.0,), seeds=2),
        training=config.Training(**{**training, "steps": 200, **changes}),
    )
    cells = grid.make_cells(experiment, dataset)
    plan = ensemble.plan_cells(experiment, dataset, cells)
    return [row for news in ensemble.train(plan, dataset) for row in news.rows]


def test_a_regression_has_its_metrics_and_learns():
    dataset = _regression()
    assert (dataset.head_size, dataset.units_per_example) == (2, 1)
    rows = _train(dataset)
    assert len(rows) == 2
    for row in rows:
        assert (row.metric, row.status) == ("mse", "ok")
        for metric, share in (("mse", 0.3), ("mae", 0.6)):
            guess = dataset.random_guess(metric)
            assert guess
            assert row.read(metric) < share * guess
        assert 0 < row.read("mae", "train") ** 2 < row.read("mse", "train")
        assert math.isnan(row.read("mse", "validation"))  # nothing is held out


def test_what_guesses_of_a_regression_score():
    labels = np.array([[0.0], [1.0], [5.0], [9.0]], np.float32)
    dataset = Dataset("x", labels, labels, 0, num_train=3, task=REGRESSION)
    assert dataset.random_guess("mse") == pytest.approx(np.var([0, 1, 5]))
    assert dataset.random_guess("mae") == pytest.approx(5 / 3)  # from the median, 1


@pytest.mark.parametrize(
    ("labels", "num_classes", "task", "sentence"),
    [
        (
            np.zeros(9, np.float32),
            0,
            REGRESSION,
            r"shape \(9,\).*\[:, None\]",
        ),
        (np.zeros((9, 1), np.float32), 3, CLASSIFICATION, "float32, which are no cl"),
        (np.zeros(9, np.float32), 3, CLASSIFICATION, "are no classes; give whole"),
        (np.zeros(9, np.int32), 0, CLASSIFICATION, "num_classes=0, but class"),
        (np.zeros((9, 2), np.int32), 0, LANGUAGE, "num_classes=0, but language"),
    ],
)
def test_labels_of_another_task_are_refused(labels, num_classes, task, sentence):
    with pytest.raises(UserError, match=sentence):
        Dataset("x", np.zeros((9, 2)), labels, num_classes, num_train=5, task=task)


def test_a_file_of_real_labels_is_a_regression(tmp_path):
    random = np.random.default_rng(0)
    for shape in ((20,), (20, 1), (20, 3)):
        path = tmp_path / "real.npz"
        x, y = random.normal(size=(20, 4)), random.normal(size=shape)
        np.savez(path, train_x=x, train_y=y, test_x=x, test_y=y)
        dataset = npz.load_file(path)
        assert dataset.task is REGRESSION
        assert dataset.labels.dtype == np.float32
        np.testing.assert_allclose(dataset.labels[:20], y.reshape(20, -1), rtol=1e-6)


@pytest.mark.parametrize("shape", [(20, 1), (20, 2)])
def test_whole_labels_of_two_axes_are_refused(tmp_path, shape):
    path = tmp_path / "whole.npz"
    x, y = np.zeros((20, 4)), np.zeros(shape, int)
    np.savez(path, train_x=x, train_y=y, test_x=x, test_y=y)
    with pytest.raises(UserError, match="do not fit; each part needs"):
        npz.load_file(path)


def test_contrastive_pairs_by_hand():
    task = contrastive(embedding_size=3, group=4, temperature=0.5)
    random = np.random.default_rng(0)
    outputs = random.normal(size=(8, 2, 3))
    labels = jnp.zeros(8)
    size = np.linalg.norm(outputs, axis=-1, keepdims=True)
    first, second = np.moveaxis(outputs / size, 1, 0)
    expected_loss, expected_error = np.zeros(8), np.zeros(8)
    for i in range(8):
        group = range(i // 4 * 4, i // 4 * 4 + 4)
        for one, others in ((first[i], second), (second[i], first)):
            near = np.array([one @ others[j] for j in group]) / 0.5
            own = near[i % 4]
            expected_loss[i] += (np.log(np.exp(near).sum()) - own) / 2
            expected_error[i] += (near.argmax() != i % 4) / 2
    found = {name: metric(jnp.asarray(outputs), labels) for name, metric in
             task.metrics.items()}  # fmt: skip
    np.testing.assert_allclose(found["loss"], expected_loss, rtol=1e-5)
    np.testing.assert_allclose(found["error"], expected_error)


def test_contrastive_pairs_are_learnt_whatever_the_evaluation_batch(monkeypatch):
    dataset = _pairs(contrastive(embedding_size=8, group=16))
    assert dataset.input_shape == (8,)
    rows = _train(dataset, batch_size=32)
    assert all(row.read("error") < 0.3 < 15 / 16 for row in rows)
    assert all(row.read("loss") < 0.5 * math.log(16) for row in rows)
    monkeypatch.setattr(score, "_EVALUATED_AT_ONCE", 1)
    monkeypatch.setattr(score, "_MAX_EVALUATION_BATCH", 16)
    again = {row.cell_id: row for row in _train(dataset, batch_size=32)}
    for row in rows:
        assert row.read("error") == again[row.cell_id].read("error")
        assert row.read("loss") == pytest.approx(again[row.cell_id].read("loss"), 1e-5)


def test_batches_must_hold_whole_groups():
    with pytest.raises(UserError, match=r"batch_size=24.*choose a multiple of 16"):
        _train(_pairs(contrastive(group=16)), batch_size=24)


def test_subsets_must_hold_a_group():
    experiment = config.Experiment(
        name="x",
        grid=config.Grid(widths=(4,), data_fractions=(1 / 32, 1.0)),
        training=config.Training(steps=1),
    )
    with pytest.raises(UserError, match=r"data_fractions.*judges 16 .* has 8"):
        grid.make_cells(experiment, _pairs(contrastive(group=16)))


def test_a_task_of_ones_own():
    """An autoencoder that is judged by the share of badly restored numbers."""
    x = np.asarray(_regression().inputs)
    task = Task(
        name="restoring",
        metrics={
            "bad_error": lambda out, x: jnp.mean(jnp.abs(out - x) > 0.5, axis=-1),
            "squares": lambda out, x: jnp.mean((out - x) ** 2, axis=-1),
        },
        loss="squares",
        head_size=lambda dataset: dataset.labels.shape[1],
        label_axes=1,
    )
    dataset = Dataset("restoring", x, x, num_classes=0, num_train=300, task=task)
    rows = _train(dataset)
    assert all(row.metric == "bad_error" and row.value < 0.3 for row in rows)
    assert all(row.read("squares") < 0.3 for row in rows)
    assert dataset.random_guess("squares") is None


def test_a_loss_that_is_no_metric_is_refused():
    with pytest.raises(ValueError, match="must be one of the metrics error, loss"):
        dataclasses.replace(CLASSIFICATION, loss="hinge")


def test_further_test_sets_have_columns_of_their_own():
    """The same examples as the test part in the one, labels off by one in the other."""
    random = np.random.default_rng(0)
    labels = np.arange(400, dtype=np.int32) % 3
    x = (random.normal(size=(400, 4)) + labels[:, None]).astype(np.float32)
    test, wrong = labels[300:], (labels[300:] + 1) % 3
    dataset = Dataset(
        name="three",
        inputs=np.concatenate([x, x[300:], x[300:350]]),
        labels=np.concatenate([labels, test, wrong[:50]]),
        num_classes=3,
        num_train=300,
        has_fixed_test=True,
        more_tests={"same": 100, "wrong": 50},
    )
    assert dataset.num_test == 100
    (row, _) = _train(dataset)
    assert row.read("same_error") == row.read("error") < 0.3
    assert row.read("same_loss") == row.read("loss")
    assert row.read("wrong_error") > 0.7


def test_further_test_sets_need_a_fixed_test_part():
    x = np.zeros((9, 1))
    with pytest.raises(UserError, match="more_tests stand last"):
        Dataset("x", x, x, 0, num_train=5, task=REGRESSION, more_tests={"b": 2})


def test_smoothing_needs_classes():
    with pytest.raises(UserError, match=r"training\.label_smoothing.*no classes"):
        _train(_regression(), label_smoothing=0.1)


def test_the_metric_must_be_of_the_task():
    dataset = _regression()
    experiment = config.Experiment(
        name="x", metric="error", training=config.Training(steps=1)
    )
    with pytest.raises(UserError, match="is for regression; choose one of mse, mae"):
        grid.make_cells(experiment, dataset)


def test_cross_entropy_is_that_of_the_softmax():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(5, 7)), random.integers(7, size=5)
    expected = -jax.nn.log_softmax(logits)[np.arange(5), labels]
    found = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(found, expected, rtol=1e-5)

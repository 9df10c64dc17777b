"""Every dataset: splits that do not overlap, subsets that are nested and balanced."""

import numpy as np
import pytest

from scalepred import config
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset

FRACTIONS = [2.0**-k for k in range(7)]


def _npz(folder, counts=(64, 64, 128)) -> str:
    """A file of random bytes with classes of these sizes."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    path = folder / "small.npz"
    np.savez(
        path,
        train_x=random.integers(256, size=(len(labels), 4, 4), dtype=np.uint8),
        train_y=labels.astype(np.uint8),
        test_x=random.integers(256, size=(30, 4, 4), dtype=np.uint8),
        test_y=(np.arange(30) % len(counts)).astype(np.uint8),
    )
    return str(path)


@pytest.fixture(scope="module", params=["digits", "teacher", "npz"])
def dataset(request, tmp_path_factory) -> Dataset:
    name = request.param
    if name == "npz":
        name = _npz(tmp_path_factory.mktemp("data"))
    return load_dataset(name)


@pytest.mark.parametrize("seed", [0, 7])
def test_order_is_a_permutation(dataset, seed):
    order = dataset.order(seed)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(len(dataset.labels)))
    assert np.array_equal(order, dataset.order(seed))


def test_seeds_differ(dataset):
    assert not np.array_equal(dataset.order(0), dataset.order(1))
    test = [set(dataset.order(seed)[dataset.num_train :]) for seed in (0, 1)]
    assert (test[0] == test[1]) == dataset.has_fixed_test


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_every_subset_keeps_the_class_ratios(dataset, fraction):
    size = dataset.round_size(fraction)
    train = dataset.labels[dataset.order(3)[: dataset.num_train]]
    share = np.bincount(train, minlength=dataset.num_classes) / dataset.num_train
    counts = np.bincount(train[:size], minlength=dataset.num_classes)
    assert np.all(np.abs(counts - share * size) <= 1)
    if np.ptp(share) == 0:
        assert np.all(counts == size // dataset.num_classes)


def test_sizes(dataset):
    sizes = [dataset.round_size(fraction) for fraction in FRACTIONS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] <= dataset.num_train
    assert dataset.round_size(1e-9) == dataset.num_classes


def test_inputs_are_fit_for_training(dataset):
    prepare = dataset.prepare or (lambda x: x)
    x = np.asarray(prepare(dataset.inputs[:50]))
    assert x.shape[1:] == dataset.input_shape
    assert x.dtype == np.float32
    assert np.all(np.isfinite(x))
    assert np.abs(x).max() < 10
    assert np.array_equal(np.unique(dataset.labels), np.arange(dataset.num_classes))


def test_random_guess():
    digits = load_dataset("digits")
    assert digits.random_guess("error") == pytest.approx(0.9)
    assert digits.random_guess("loss") == pytest.approx(np.log(10))


def test_digits_sizes():
    digits = load_dataset("digits")
    assert (digits.num_train, digits.num_test) == (1280, 517)
    assert [digits.round_size(f) for f in FRACTIONS[::-1]] == [
        20 * 2**k for k in range(7)
    ]


def test_the_teacher_is_right_but_for_the_noise():
    """The known irreducible error is that of the labels before they were spoilt."""
    teacher = load_dataset("teacher")
    assert teacher.irreducible_error == pytest.approx(0.075)
    assert np.ptp(np.bincount(teacher.labels)) < 0.2 * len(teacher.labels) / 4


@pytest.mark.parametrize(
    "name", ["digit", "no.such.module", "", "os.path", "..", "dataset", "npz", "a b"]
)
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(config.UserError, match=r"dataset=.*digits, .*teacher"):
        load_dataset(name)


def test_a_dotted_path_needs_no_registry(tmp_path, monkeypatch):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_data.py").write_text(
        "from scalepred.data import teacher\nload = teacher.load\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_dataset("my_package.my_data").name == "teacher"


def test_bad_files_are_told_kindly(tmp_path):
    with pytest.raises(config.UserError, match="no such file"):
        load_dataset(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(config.UserError, match=r"numpy\.savez"):
        load_dataset(str(tmp_path / "text.npz"))
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(config.UserError, match="no array train_x, train_y"):
        load_dataset(str(tmp_path / "other.npz"))
    unsafe = np.array([{}])
    np.savez(
        tmp_path / "pickled.npz",
        train_x=unsafe,
        train_y=unsafe,
        test_x=unsafe,
        test_y=unsafe,
    )
    with pytest.raises(config.UserError, match="plain arrays"):
        load_dataset(str(tmp_path / "pickled.npz"))
    ragged = {
        "train_x": np.zeros((3, 2)),
        "train_y": np.zeros(4, int),
        "test_x": np.zeros((1, 2)),
        "test_y": np.zeros(1, int),
    }
    np.savez(tmp_path / "ragged.npz", **ragged)
    with pytest.raises(config.UserError, match="do not fit"):
        load_dataset(str(tmp_path / "ragged.npz"))


def test_a_part_without_examples_is_refused():
    labels = np.array([0, 0, 0, 1, 1, 1])
    inputs = np.zeros((6, 2), np.float32)
    with pytest.raises(config.UserError, match="empty part"):
        Dataset("x", inputs, labels, 2, num_train=6)
    with pytest.raises(config.UserError, match="class 1"):
        Dataset("x", inputs[:5], labels[:5], 2, num_train=4)

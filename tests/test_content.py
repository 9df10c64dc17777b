"""What a dataset holds is checked when it is made, in every part, in blocks."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from scalepred.config import UserError
from scalepred.data import content, files
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset
from scalepred.data.task import LANGUAGE, REGRESSION

NUM_TRAIN, NUM_TEST, NUM_MORE = 8, 4, 2
COUNT = NUM_TRAIN + NUM_TEST + NUM_MORE
# A row of each part, and its name there.
PLACES = pytest.mark.parametrize(
    ("row", "place"),
    [
        (3, "example 3 of the train part"),
        (NUM_TRAIN, "example 0 of the test part"),
        (COUNT - 1, "example 1 of the shifted part"),
    ],
)


def make(inputs=None, labels=None, **changes) -> Dataset:
    """Three classes in a train part, a test part and a further test set."""
    dataset = {
        "name": "own",
        "inputs": np.ones((COUNT, 2), np.float32) if inputs is None else inputs,
        "labels": np.arange(COUNT) % 3 if labels is None else labels,
        "num_classes": 3,
        "num_train": NUM_TRAIN,
        "has_fixed_test": True,
        "more_tests": {"shifted": NUM_MORE},
    }
    return Dataset(**dataset | changes)


@PLACES
@pytest.mark.parametrize("label", [-1, 3, 2**32])
def test_a_label_that_is_no_class_is_named_with_its_place(row, place, label):
    labels = np.arange(COUNT) % 3
    labels[row] = label
    with pytest.raises(UserError, match=rf"dataset own: label {label} in {place}; .*2"):
        make(labels=labels)


@PLACES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_inputs_must_be_finite(row, place, value):
    inputs = np.ones((COUNT, 2))
    inputs[row, 1] = value
    with pytest.raises(UserError, match=rf"input .* in {place}; .*finite"):
        make(inputs=inputs)


@PLACES
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_targets_must_be_finite(row, place, value):
    labels = np.ones((COUNT, 2), np.float32)
    labels[row, 0] = value
    with pytest.raises(UserError, match=f"label .* in {place}; .*finite"):
        make(labels=labels, num_classes=0, task=REGRESSION)


@PLACES
@pytest.mark.parametrize("what", ["label", "input"])
def test_tokens_are_of_the_vocabulary(row, place, what):
    tokens = {name: np.zeros((COUNT, 5), np.uint8) for name in ("label", "input")}
    tokens[what][row, 2] = 7
    arrays = {"inputs": tokens["input"], "labels": tokens["label"]}
    with pytest.raises(UserError, match=f"{what} 7 in {place}; with num_classes=7"):
        make(**arrays, num_classes=7, task=LANGUAGE)
    assert make(**arrays, num_classes=8, task=LANGUAGE).num_classes == 8


def test_inputs_that_are_no_tokens_are_free():
    numbers = np.full((COUNT, 5), 200, np.uint8)
    assert make(inputs=numbers).num_train == NUM_TRAIN
    labels = np.zeros((COUNT, 5), np.uint8)
    assert make(inputs=numbers, labels=labels, prepare=lambda x: x - 199).has_positions


def test_without_a_fixed_test_part_the_example_is_named():
    labels = np.arange(COUNT) % 3
    labels[11] = -2
    with pytest.raises(UserError, match="label -2 in example 11;"):
        make(labels=labels, has_fixed_test=False, more_tests={})


def test_labels_and_inputs_are_as_many():
    with pytest.raises(UserError, match="13 inputs but 14 labels"):
        make(inputs=np.ones((13, 2), np.float32))


def test_what_is_replaced_is_checked_again():
    with pytest.raises(UserError, match="label 2 in example 2 of the train part"):
        dataclasses.replace(make(), num_classes=2)


def test_blocks_and_joined_parts_are_searched_whole(monkeypatch):
    monkeypatch.setattr(content, "_BLOCK_BYTES", 100)
    first, second = (np.zeros((rows, 3)) for rows in (50, 21))
    second[20, 2] = np.nan
    found = content.find_not_finite(files.Joined(first, second))
    assert found is not None
    assert found.row == 70
    assert np.isnan(found.value)
    second[20, 2] = -3
    for array in (files.Joined(first, second), np.concatenate([first, second])):
        assert content.find_not_finite(array) is None
        assert content.find_outside(array, 0) == (70, -3.0)
    assert content.find_outside(np.zeros((0, 3)), 1) is None
    small = np.ones(4, ml_dtypes.bfloat16)
    assert content.find_not_finite(small) is None
    small[2] = np.inf
    assert content.find_not_finite(small) == (2, np.inf)


def save(folder, **changes) -> str:
    """A file of three classes."""
    arrays = {
        "train_x": np.ones((6, 2), np.float32),
        "train_y": np.arange(6) % 3,
        "test_x": np.ones((3, 2), np.float32),
        "test_y": np.arange(3),
    }
    path = folder / "own.npz"
    np.savez(path, **arrays | changes)
    return str(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_y": np.array([0, 1, 2, 0, -1, 2])}, "train_y holds -1 at example 4"),
        ({"test_y": np.array([0, -5, 2])}, "test_y holds -5 at example 1"),
        ({"test_y": np.array([0, 255, 2])}, "hold the class 255 but none is 3"),
        ({"test_y": np.array([0, 2**40, 2])}, "but none is 3"),
        (
            {"train_y": np.arange(6) % 3 + 1, "test_y": np.arange(3) + 1},
            "the class 1 but none is 0",
        ),
        ({"train_y": np.array([0, 1, np.nan] * 2)}, "do not fit"),
        ({"train_y": np.arange(6) % 2 > 0}, "do not fit"),
        ({"train_x": np.array([["a", "b"]] * 6)}, "do not fit"),
        ({"train_x": np.full((6, 2), 1e300)}, "input inf in example 0 of the train"),
        ({"test_x": np.full((3, 2), np.nan)}, "input nan in example 0 of the test"),
        (
            {"train_y": np.array([0.5, np.nan] * 3), "test_y": np.ones(3)},
            "label nan in example 1 of the train part",
        ),
        (
            {"train_y": np.ones(6), "test_y": np.array([1.0, 2.0, 1e300])},
            "label inf in example 2 of the test part",
        ),
    ],
)
def test_a_file_is_checked(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        load_dataset(save(tmp_path, **changes))


def test_whole_labels_of_any_type_are_classes(tmp_path):
    path = save(tmp_path, train_y=(np.arange(6) % 3).astype(np.uint64))
    assert load_dataset(path).num_classes == 3


def save_text(folder, **changes) -> str:
    arrays = {
        "train": np.arange(400) % 3,
        "test": np.arange(200) % 3,
        "train_starts": np.array([0, 100, 300]),
        "vocabulary": np.frombuffer(b"a\nb\nc", np.uint8),
    }
    path = folder / "words.npz"
    np.savez(path, **arrays | changes)
    return str(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": np.arange(400) % 4}, "token 3 at place 3 of train"),
        ({"test": np.arange(200) % 3 - 1}, "token -1 at place 0 of test"),
        ({"test": np.arange(200) % 3 + 256}, "token 256 at place 0 of test"),
        ({"train": np.arange(400) / 2}, "whole numbers"),
        ({"train_starts": np.array([0, 300, 100])}, "train_starts must"),
        ({"train_starts": np.array([0, 500])}, "train_starts must"),
        ({"train_starts": np.array([5, 100])}, "train_starts must"),
    ],
)
def test_a_file_of_text_is_checked(tmp_path, changes, said):
    assert load_dataset(save_text(tmp_path)).num_classes == 3
    with pytest.raises(UserError, match=said):
        load_dataset(save_text(tmp_path, **changes))

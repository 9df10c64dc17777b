"""A task with known truth: a random network says the class, a coin spoils some labels.

No classifier can have an error below `irreducible_error`, and a large enough student
with enough data comes near it; so a fitted irreducible error can be checked.
"""

import numpy as np

from scalepred.data.dataset import Dataset

_NUM_INPUTS = 8
_HIDDEN_UNITS = 16
_NUM_CLASSES = 4
_PER_CLASS = 1536
_TRAIN_PER_CLASS = 1024
_NOISE = 0.1  # share of labels drawn anew, uniformly


def load() -> Dataset:
    """Gaussian inputs, four balanced classes, a tenth of the labels drawn at random."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=(_NUM_INPUTS, _HIDDEN_UNITS)) / np.sqrt(_NUM_INPUTS)
    output = random.normal(size=(_HIDDEN_UNITS, _NUM_CLASSES))

    inputs = random.normal(size=(20 * _PER_CLASS, _NUM_INPUTS))
    scores = np.tanh(2 * inputs @ hidden) @ output
    classes = np.argmax(scores - scores.mean(axis=0), axis=1)
    chosen = np.concatenate(
        [np.flatnonzero(classes == k)[:_PER_CLASS] for k in range(_NUM_CLASSES)]
    )
    labels = classes[chosen]
    spoilt = random.random(len(labels)) < _NOISE
    labels = np.where(spoilt, random.integers(_NUM_CLASSES, size=len(labels)), labels)
    return Dataset(
        name="teacher",
        inputs=inputs[chosen].astype(np.float32),
        labels=labels.astype(np.int32),
        num_classes=_NUM_CLASSES,
        num_train=_NUM_CLASSES * _TRAIN_PER_CLASS,
        # A label drawn anew is the right one in one of K cases.
        irreducible_error=_NOISE * (_NUM_CLASSES - 1) / _NUM_CLASSES,
    )

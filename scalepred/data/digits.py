"""1,797 handwritten digits of 8x8 pixels, shipped with scikit-learn.

Ten nearly balanced classes; each seed trains on at most 128 of each class and is
tested on the other 517.
"""

import numpy as np
from sklearn import datasets

from scalepred.data.dataset import Dataset


def load() -> Dataset:
    """The images as 64 numbers in [0, 1]."""
    pixels, classes = datasets.load_digits(return_X_y=True)
    return Dataset(
        name="digits",
        # Stored as 0 to 16.
        inputs=(np.asarray(pixels) / 16).astype(np.float32),
        labels=np.asarray(classes, np.int32),
        num_classes=10,
        num_train=1280,
        unit="images",
    )

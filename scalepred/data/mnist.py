"""MNIST: 28x28 grey handwritten digits, ten classes."""

from scalepred.data import npz
from scalepred.data.dataset import Dataset


def load() -> Dataset:
    """The images as `scripts/prepare_data.py` wrote them, standardised."""
    return npz.load_prepared("mnist")


def outline() -> Dataset:
    """Its sizes, for a plan made where the images are absent."""
    return npz.make_outline("mnist", (28, 28), 60_000, 10_000, 10)

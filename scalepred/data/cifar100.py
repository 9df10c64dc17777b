"""CIFAR-100: 32x32 colour photographs, a hundred balanced classes."""

from scalepred.data import npz
from scalepred.data.dataset import Dataset


def load() -> Dataset:
    """The images as `scripts/prepare_data.py` wrote them, standardised."""
    return npz.load_prepared("cifar100")


def outline() -> Dataset:
    """Its sizes, for a plan made where the images are absent."""
    return npz.make_outline("cifar100", (32, 32, 3), 50_000, 10_000, 100)

"""Describable textures, 47 classes, as prepared for the Visual Decathlon.

The decathlon keeps its test labels to itself: its validation part is the test part.
"""

from scalepred.data import npz
from scalepred.data.dataset import Dataset


def load() -> Dataset:
    """The images as `scripts/prepare_data.py` wrote them, standardised."""
    return npz.load_prepared("dtd")


def outline() -> Dataset:
    """Its sizes, for a plan made where the images are absent."""
    return npz.make_outline("dtd", (64, 64, 3), 1_880, 1_880, 47)

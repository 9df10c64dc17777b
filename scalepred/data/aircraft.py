"""FGVC aircraft, 100 variants, as prepared for the Visual Decathlon.

The decathlon keeps its test labels to itself: its validation part is the test part.
"""

from scalepred.data import npz
from scalepred.data.dataset import Dataset


def load() -> Dataset:
    """The images as `scripts/prepare_data.py` wrote them, standardised."""
    return npz.load_prepared("aircraft")


def outline() -> Dataset:
    """Its sizes, for a plan made where the images are absent."""
    return npz.make_outline("aircraft", (64, 64, 3), 3_334, 3_333, 100)

"""ImageNet (ILSVRC 2012), 1,000 classes; its validation part is the test part.

As large as `prepare_data.py --image_size` made it; 64 pixels unless told otherwise.
"""

from scalepred.data import npz
from scalepred.data.dataset import Dataset


def load() -> Dataset:
    """The images as `scripts/prepare_data.py` wrote them, standardised."""
    return npz.load_prepared("imagenet")


def outline() -> Dataset:
    """Its sizes, for a plan made where the images are absent."""
    return npz.make_outline("imagenet", (64, 64, 3), 1_281_167, 50_000, 1000)

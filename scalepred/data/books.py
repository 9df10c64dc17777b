"""66 English books of 1600 to 1910 as bytes, or any text prepared under that name."""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 128


def load() -> Dataset:
    """The bytes as `scripts/prepare_data.py --dataset=books --from=TEXT` wrote them."""
    return text.load_prepared("books", _WINDOW)

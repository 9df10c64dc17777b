"""Penn Treebank, Mikolov's preparation: newspaper sentences, 10,000 words."""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 70  # words that gradients reach back, as in the paper's recipe
_STRETCH = 16


def load() -> Dataset:
    """The words as `scripts/prepare_data.py` wrote them."""
    return text.load_prepared("ptb", _WINDOW, _STRETCH)


def outline() -> Dataset:
    """Its sizes, for a plan made where the words are absent."""
    return text.make_outline("ptb", 929_589, 82_430, 10_000, _WINDOW)

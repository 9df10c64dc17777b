"""WikiText-103: 28,475 articles of Wikipedia, 267,735 words."""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 150  # words that gradients reach back, as in the paper's recipe
_STRETCH = 16


def load() -> Dataset:
    """The words as `scripts/prepare_data.py` wrote them."""
    return text.load_prepared("wikitext103", _WINDOW, _STRETCH)


def outline() -> Dataset:
    """Its sizes, for a plan made where the words are absent."""
    return text.make_outline("wikitext103", 103_227_021, 245_569, 267_735, _WINDOW)

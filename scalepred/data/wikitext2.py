"""WikiText-2: 600 articles of Wikipedia, 33,278 words."""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 70  # words that gradients reach back, as in the paper's recipe
_STRETCH = 16


def load() -> Dataset:
    """The words as `scripts/prepare_data.py` wrote them."""
    return text.load_prepared("wikitext2", _WINDOW, _STRETCH)


def outline() -> Dataset:
    """Its sizes, for a plan made where the words are absent."""
    return text.make_outline("wikitext2", 2_088_628, 245_569, 33_278, _WINDOW)

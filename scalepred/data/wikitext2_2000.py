"""WikiText-2 with its 2,000 most frequent words, for minutes on a CPU."""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 64


def load() -> Dataset:
    """The words as `scripts/prepare_data.py --dataset=wikitext2` wrote them."""
    return text.load_prepared("wikitext2", _WINDOW, num_words=2000)


def outline() -> Dataset:
    """Its sizes, for a plan made where the words are absent."""
    return text.make_outline("wikitext2_2000", 2_088_628, 245_569, 2000, _WINDOW)

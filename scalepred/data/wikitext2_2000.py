"""WikiText-2 with its 2,000 most frequent words, for minutes on a CPU."""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 64


def load() -> Dataset:
    """The words as `scripts/prepare_data.py --dataset=wikitext2` wrote them."""
    return text.load_prepared("wikitext2", _WINDOW, num_words=2000)

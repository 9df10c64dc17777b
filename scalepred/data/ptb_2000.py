"""Penn Treebank with its 2,000 most frequent words, for minutes on a CPU.

The softmax over 10,000 words would take nearly all the time of small models.
"""

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 35
_STRETCH = 16


def load() -> Dataset:
    """The words as `scripts/prepare_data.py --dataset=ptb` wrote them."""
    return text.load_prepared("ptb", _WINDOW, _STRETCH, num_words=2000)


def outline() -> Dataset:
    """Its sizes, for a plan made where the words are absent."""
    return text.make_outline("ptb_2000", 929_589, 82_430, 2000, _WINDOW)

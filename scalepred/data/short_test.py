"""A text with a short test part: `short_test:stdlib` is `stdlib`, scored on 64K tokens.

Scoring a small model on half a million tokens takes longer than training it. The
windows that stay are spread evenly over the test part and are the same for every run,
so that what they happen to be moves all values alike.
"""

import dataclasses

import numpy as np

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset

_TOKENS = 65_536


def load(name: str) -> Dataset:
    """The dataset of that name with at most 65,536 tokens to be scored on.

    Raises:
        UserError: it is not a text, or there is none of that name.
    """
    whole = load_dataset(name)
    if not whole.has_positions:
        raise UserError(
            f"dataset=short_test:{name}: is not a text; leave out short_test:"
        )
    num_windows = min(whole.num_test, _TOKENS // whole.units_per_example)
    end = whole.num_train + whole.num_test
    chosen = np.linspace(whole.num_train, end - 1, num_windows)
    kept = np.concatenate([np.arange(whole.num_train), chosen.astype(np.int64)])
    return dataclasses.replace(
        whole,
        name=f"{whole.name}_short",
        inputs=whole.inputs[kept],
        labels=whole.labels[kept],
        more_tests={},
    )

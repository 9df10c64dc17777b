"""A language with known entropy: the next token depends on the two before it.

No model can have a loss below `irreducible_loss` here, which is computed, not
measured; so the irreducible loss that a law finds can be checked.
"""

import functools

import numpy as np

from scalepred.data.dataset import Dataset

_VOCABULARY_SIZE = 16
_HIDDEN_UNITS = 8
# Of the scores; the larger, the more certain is the next token.
_SHARPNESS = 2.5
_WINDOW = 32
_NUM_TRAIN = 32_768  # windows: a million tokens
_NUM_TEST = 4_096


def load() -> Dataset:
    """Independent windows, each begun as if the language had gone on for ever."""
    random = np.random.default_rng(1)
    next_token = transition()
    pair = stationary(next_token)
    num_windows = _NUM_TRAIN + _NUM_TEST
    tokens = np.empty((num_windows, _WINDOW + 1), np.uint8)
    first = random.choice(pair.size, num_windows, p=pair.reshape(-1))
    tokens[:, 0], tokens[:, 1] = np.divmod(first, _VOCABULARY_SIZE)
    cumulative = next_token.cumsum(axis=-1)
    for position in range(2, _WINDOW + 1):
        before, last = tokens[:, position - 2], tokens[:, position - 1]
        threshold = random.random((num_windows, 1))
        drawn = np.sum(cumulative[before, last] < threshold, axis=1)
        tokens[:, position] = np.minimum(drawn, _VOCABULARY_SIZE - 1)
    return Dataset(
        name="markov",
        inputs=tokens[:, :-1],
        labels=tokens[:, 1:],
        num_classes=_VOCABULARY_SIZE,
        num_train=_NUM_TRAIN,
        has_fixed_test=True,
        unit="tokens",
        irreducible_loss=irreducible_loss(),
    )


@functools.cache
def transition() -> np.ndarray:
    """Chance of each token after each pair: a random network of one hidden layer.

    Returns:
        [token before last, last token, next token], rows add to 1.
    """
    random = np.random.default_rng(0)
    before, last = random.normal(size=(2, _VOCABULARY_SIZE, _HIDDEN_UNITS))
    output = random.normal(size=(_HIDDEN_UNITS, _VOCABULARY_SIZE))
    hidden = np.tanh(before[:, None] + last[None, :])
    scores = _SHARPNESS * hidden @ output / np.sqrt(_HIDDEN_UNITS)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def stationary(next_token: np.ndarray) -> np.ndarray:
    """How often each pair comes in the long run [first token, second token]."""
    pair = np.full(next_token.shape[:2], 1 / _VOCABULARY_SIZE**2)
    for _ in range(1000):
        pair = np.einsum("ab,abc->bc", pair, next_token)
    return pair


def irreducible_loss() -> float:
    """Nats a token of the best possible model, exact.

    At the first position of a window one token is known, at the others two:
    (H(z | y) + (T - 1) H(z | x, y)) / T for consecutive tokens x, y, z.
    """
    next_token = transition()
    pair = stationary(next_token)
    triple = pair[:, :, None] * next_token
    given_two = _entropy(triple) - _entropy(pair)
    given_one = _entropy(triple.sum(axis=0)) - _entropy(triple.sum(axis=(0, 2)))
    return (given_one + (_WINDOW - 1) * given_two) / _WINDOW


def _entropy(chances: np.ndarray) -> float:
    chances = chances[chances > 0]
    return float(-np.sum(chances * np.log(chances)))

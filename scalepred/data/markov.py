"""A language with known entropy: the next token depends on the one before it.

No model can have a loss below `irreducible_loss` here, which is computed, not
measured; so the irreducible loss that a law finds can be checked. There is something
to learn at every scale: few tokens are frequent and many are rare (Zipf), and the
table of scores has singular values 1, 1/2, 1/3 ..., of which a network of w features
can hold about w.

"markov" is one such language, "markov:1", "markov:2" and so on are others.
"""

import numpy as np

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.task import LANGUAGE

_VOCABULARY_SIZE = 64
# Of the scores; the larger, the more the last token says of the next.
_SHARPNESS = 0.6
_WINDOW = 32
_NUM_TRAIN = 131_072  # windows: four million tokens
_NUM_TEST = 8_192


def load(language: str = "0") -> Dataset:
    """Independent windows, each begun as if the language had gone on for ever.

    Args:
        language: a whole number, which language.

    Raises:
        UserError: it is none.
    """
    if not language.isascii() or not language.isdigit():
        raise UserError(
            f"dataset=markov:{language}: must be a whole number, which language it is, "
            "such as markov:1"
        )
    chances = transition(int(language))
    random = np.random.default_rng([int(language), 1])
    train = _speak(chances, _NUM_TRAIN, random, even=False)
    test = _speak(chances, _NUM_TEST, random, even=True)
    tokens = np.concatenate([train, test])
    return Dataset(
        name=f"markov:{language}" if int(language) else "markov",
        inputs=tokens[:, :-1],
        labels=tokens[:, 1:],
        num_classes=_VOCABULARY_SIZE,
        num_train=_NUM_TRAIN,
        has_fixed_test=True,
        unit="tokens",
        irreducible_loss=irreducible_loss(chances),
        task=LANGUAGE,
    )


def transition(language: int) -> np.ndarray:
    """Chance of each token after each [last token, next token], rows add to 1."""
    random = np.random.default_rng(language)
    size = _VOCABULARY_SIZE
    left, right = np.linalg.qr(random.normal(size=(2, size, size))).Q
    rank = np.arange(1, size + 1)
    scores = _SHARPNESS * size * (left / rank) @ right.T - np.log(rank)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def stationary(chances: np.ndarray) -> np.ndarray:
    """How often each token comes in the long run [tokens]."""
    share = np.full(len(chances), 1 / len(chances))
    for _ in range(1000):
        share = share @ chances
    return share


def irreducible_loss(chances: np.ndarray) -> float:
    """Nats a token of the best possible model, exact: entropy given the last token."""
    return float(-np.sum(stationary(chances)[:, None] * chances * np.log(chances)))


def _speak(
    chances: np.ndarray, num_windows: int, random: np.random.Generator, even: bool
) -> np.ndarray:
    """Windows of tokens, uint8 [windows, positions].

    Args:
        chances: of each token after each.
        num_windows: how many.
        random: where they come from.
        even: every window is drawn like any other, but those with the same last token
            share its chances evenly. The loss on them is that on many times as many:
            the truth itself is within 5e-4 nats of its entropy.
    """
    # From rare to frequent: what does not divide evenly goes to a token as likely.
    order = np.argsort(chances, axis=1).astype(np.uint8)
    cumulative = np.take_along_axis(chances, order, axis=1).cumsum(axis=1)
    first = random.choice(len(chances), num_windows, p=stationary(chances))
    last = first.astype(np.uint8)
    rows = [last]
    for _ in range(_WINDOW):
        numbers = random.random(num_windows)
        for token in np.unique(last) if even else ():
            members = np.flatnonzero(last == token)
            strata = random.permutation(len(members))
            numbers[members] = (strata + numbers[members]) / len(members)
        drawn = np.sum(cumulative[last] < numbers[:, None], axis=1)
        last = order[last, np.minimum(drawn, len(chances) - 1)]
        rows.append(last)
    return np.stack(rows, axis=1)

"""Text as numbers: bytes, or words with an end mark after each line.

A text is a list of units (lines, paragraphs, files): subsets are random units, as the
paper samples sentences at random up to a number of words.
"""

import collections
from collections.abc import Sequence

import numpy as np

from scalepred.config import UserError

Units = Sequence[bytes]

END_OF_LINE = b"<eos>"
# Of a text that comes in one piece, these shares are held out.
_VALID_SHARE = _TEST_SHARE = 0.05


def split_lines(content: bytes) -> list[bytes]:
    """The lines, each a unit: sentences of PTB, paragraphs of WikiText."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def split_blocks(content: bytes) -> list[bytes]:
    """What stands between blank lines: paragraphs, speeches, functions."""
    return [block + b"\n\n" for block in content.split(b"\n\n") if block.strip()]


def cut_parts(units: Units) -> tuple[Units, Units, Units]:
    """Train, valid and test part of a text in one piece, by random units.

    Always the same units for the same text; 5 % of the bytes each are held out.
    """
    order = np.random.default_rng(0).permutation(len(units))
    share = np.cumsum([len(units[index]) for index in order]) / sum(map(len, units))
    valid = order[share <= _VALID_SHARE]
    test = order[(share > _VALID_SHARE) & (share <= _VALID_SHARE + _TEST_SHARE)]
    train = order[share > _VALID_SHARE + _TEST_SHARE]
    if not (len(valid) and len(test) and len(train)):
        raise UserError(
            f"a text of {len(units)} paragraphs cannot be cut into three parts; give "
            "three texts, or a longer one"
        )
    parts = ([units[index] for index in sorted(part)] for part in (train, valid, test))
    return tuple(parts)  # pyright: ignore[reportReturnType]


def encode(tokens: str, train: Units, valid: Units, test: Units) -> dict:
    """The arrays of a text dataset.

    Args:
        tokens: "bytes" or "words".
        train, valid, test: units of each part.

    Returns:
        `train`, `valid`, `test`: token numbers, uint8 for bytes, else int32;
        `train_starts`: where each unit of `train` begins, int64; and for words
        `vocabulary`, UTF-8 bytes with a line a word, by falling count in `train`.
    """
    parts = {"train": train, "valid": valid, "test": test}
    if tokens == "bytes":
        lengths = [len(unit) for unit in train]
        arrays = {
            part: np.frombuffer(b"".join(units), np.uint8)
            for part, units in parts.items()
        }
        return {**arrays, "train_starts": _starts(lengths)}

    words = {
        part: [_split_words(unit) for unit in units] for part, units in parts.items()
    }
    counts = collections.Counter(word for unit in words["train"] for word in unit)
    vocabulary = {word: number for number, (word, _) in enumerate(counts.most_common())}
    for part in ("valid", "test"):
        for unit in words[part]:
            for word in unit:
                vocabulary.setdefault(word, len(vocabulary))
    arrays = {
        part: np.fromiter(
            (vocabulary[word] for unit in units for word in unit), np.int32
        )
        for part, units in words.items()
    }
    text = b"\n".join(vocabulary)
    return {
        **arrays,
        "train_starts": _starts([len(unit) for unit in words["train"]]),
        "vocabulary": np.frombuffer(text, np.uint8),
    }


def _split_words(unit: bytes) -> list[bytes]:
    """The words of each line and a mark at its end."""
    words = []
    for line in unit.rstrip(b"\n").split(b"\n"):
        words += [*line.split(), END_OF_LINE]
    return words


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)

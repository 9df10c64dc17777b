"""Text as numbers: bytes, or words with an end mark after each line.

A text is a list of units: sentences, paragraphs, files. The paper samples sentences
at random up to a number of words. Here the units of the train part are put in random
order once and for all, laid end to end and cut into windows; a subset of n tokens is
random stretches of windows, so random units but for those at a stretch's ends. The
test part is read in its own order.
"""

import collections
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from scalepred.config import UserError
from scalepred.data import content, files
from scalepred.data.dataset import Dataset
from scalepred.data.task import LANGUAGE

Units = Sequence[bytes]

END_OF_LINE = b"<eos>"
# Tokens a model reads at a time, where the dataset does not say.
_WINDOW = {"bytes": 128, "words": 64}
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


def load_prepared(
    name: str, window: int, stretch: int = 1, num_words: int = 0
) -> Dataset:
    """The text that `scripts/prepare_data.py --dataset=NAME` wrote.

    Args:
        name: of the dataset.
        window: tokens an example has.
        stretch: consecutive windows that stay together in subsets.
        num_words: the most frequent words are kept, the others become `<unk>`, and
            the dataset is named NAME_NUMBER; 0: all are kept.

    Raises:
        MissingData: it is not there; says the command to run.
    """
    arrays = files.open_prepared(name)
    if num_words:
        name, arrays = f"{name}_{num_words}", keep_words(arrays, num_words)
    return from_arrays(name, arrays, window, stretch)


def keep_words(arrays: Mapping[str, np.ndarray], num_words: int) -> Mapping:
    """The arrays with the rarer words all one: `<unk>`, which the text must have."""
    vocabulary = bytes(arrays["vocabulary"]).split(b"\n")[:num_words]
    unknown = vocabulary.index(b"<unk>")
    parts = {
        part: np.where(arrays[part] < num_words, arrays[part], unknown)
        for part in ("train", "valid", "test")
    }
    text = np.frombuffer(b"\n".join(vocabulary), np.uint8)
    return {**arrays, **parts, "vocabulary": text}


def load_file(path: pathlib.Path, tokens: str = "bytes") -> Dataset:
    """Any text file, cut by paragraphs into train, valid and test part.

    Raises:
        UserError: no such file, or too short.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"dataset={str(path)!r}: there is no such file") from None
    arrays = encode(tokens, *cut_parts(split_blocks(content)))
    return from_arrays(path.stem, arrays)


def from_arrays(
    name: str, arrays: Mapping[str, np.ndarray], window: int = 0, stretch: int = 1
) -> Dataset:
    """Windows of the arrays that `encode` gives; the valid part is left out.

    Raises:
        UserError: a part is shorter than a window, or holds what is no token.
    """
    is_words = "vocabulary" in arrays
    window = window or _WINDOW["words" if is_words else "bytes"]
    vocabulary_size = 256
    if is_words:
        vocabulary_size = bytes(arrays["vocabulary"]).count(b"\n") + 1
    _check_arrays(name, arrays, vocabulary_size)
    train = _shuffle_units(np.asarray(arrays["train"]), arrays["train_starts"])
    test = np.asarray(arrays["test"])
    for part, tokens in (("train", train), ("test", test)):
        if len(tokens) <= window:
            raise UserError(
                f"dataset={name!r}: its {part} part has {len(tokens)} tokens, not one "
                f"window of {window}; give a longer text"
            )
    dtype = _token_type(vocabulary_size)
    parts = [cut_windows(part.astype(dtype), window) for part in (train, test)]
    return Dataset(
        name=name,
        inputs=np.concatenate([inputs for inputs, _ in parts]),
        labels=np.concatenate([labels for _, labels in parts]),
        num_classes=vocabulary_size,
        num_train=len(parts[0][0]),
        has_fixed_test=True,
        unit="words" if is_words else "bytes",
        stretch=stretch,
        task=LANGUAGE,
    )


def _check_arrays(name: str, arrays: Mapping, vocabulary_size: int) -> None:
    """Tokens are stored in as few bits as they need: others would become others."""
    for part in ("train", "test"):
        tokens = arrays[part]
        if tokens.ndim != 1 or not content.is_whole(tokens.dtype):
            raise UserError(
                f"dataset={name!r}: {part} is {tokens.shape} {tokens.dtype}; give "
                "tokens as whole numbers, one after the other"
            )
        if found := content.find_outside(tokens, 0, vocabulary_size - 1):
            raise UserError(
                f"dataset={name!r}: token {found.value} at place {found.row} of "
                f"{part}, but the vocabulary has {vocabulary_size}; number tokens from "
                f"0 to {vocabulary_size - 1}"
            )
    starts, length = arrays["train_starts"], len(arrays["train"])
    good = content.is_whole(starts.dtype) and starts.ndim == 1 and len(starts) > 0
    if good:
        steps = np.diff(np.concatenate([[0], starts.astype(np.int64), [length]]))
        good = steps[0] == 0 and steps.min() >= 0
    if not good:
        raise UserError(
            f"dataset={name!r}: train_starts must be the places where units of train "
            f"begin, rising whole numbers from 0 to at most {length}"
        )


def make_outline(
    name: str, num_train: int, num_test: int, vocabulary_size: int, window: int
) -> Dataset:
    """A text's sizes in words without its content, for a plan made without it."""
    num_windows = num_train // window
    shape = (num_windows + num_test // window, window)
    blank = np.broadcast_to(np.zeros((), _token_type(vocabulary_size)), shape)
    return Dataset(
        name=name,
        inputs=blank,
        labels=blank,
        num_classes=vocabulary_size,
        num_train=num_windows,
        has_fixed_test=True,
        unit="words",
        task=LANGUAGE,
    )


def _token_type(vocabulary_size: int) -> type[np.integer]:
    """The smallest integers that number the tokens."""
    if vocabulary_size <= 1 << 8:
        return np.uint8
    return np.uint16 if vocabulary_size <= 1 << 16 else np.int32


def cut_windows(tokens: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows and, of each position, the token after it; the rest is left out.

    Returns:
        Two arrays [windows, window].
    """
    num_windows = (len(tokens) - 1) // window
    end = num_windows * window
    shape = (num_windows, window)
    return tokens[:end].reshape(shape), tokens[1 : end + 1].reshape(shape)


def _shuffle_units(tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The units in an order that is random, but always the same."""
    units = np.split(tokens, starts[1:])
    order = np.random.default_rng(0).permutation(len(units))
    return np.concatenate([units[index] for index in order])

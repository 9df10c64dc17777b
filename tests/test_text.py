"""Text datasets: windows, subsets, vocabularies; a language whose entropy is known."""

import importlib

import numpy as np
import pytest

from scalepred import config
from scalepred.data import files, markov, text
from scalepred.data.loading import load_dataset


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALEPRED_DATA", str(tmp_path))
    return tmp_path


def _sentences(count: int, seed: int) -> list[bytes]:
    random = np.random.default_rng(seed)
    words = [b"w%d" % k for k in range(30)]
    return [
        b" ".join(words[k] for k in random.integers(30, size=random.integers(3, 9)))
        for _ in range(count)
    ]


def _save(name: str, num_sentences: int = 300) -> dict:
    parts = (_sentences(num_sentences, 0), _sentences(20, 1), _sentences(60, 2))
    arrays = text.encode("words", *parts)
    files.save_prepared(name, arrays)
    return arrays


def test_labels_are_the_tokens_one_further_on():
    tokens = np.arange(100, 123)
    inputs, labels = text.cut_windows(tokens, 5)
    assert inputs.shape == labels.shape == (4, 5)
    assert np.array_equal(inputs.reshape(-1), tokens[:20])
    assert np.array_equal(labels.reshape(-1), tokens[1:21])


@pytest.mark.parametrize("name", ["ptb", "wikitext2", "wikitext103"])
def test_a_prepared_text(name):
    arrays = _save(name)
    dataset = load_dataset(name)
    window = dataset.input_shape[0]
    assert dataset.unit == "words"
    assert dataset.units_per_example == window
    assert dataset.num_train == (len(arrays["train"]) - 1) // window
    assert dataset.num_test == (len(arrays["test"]) - 1) // window
    assert dataset.num_classes == 31  # thirty words and the end of a sentence
    assert dataset.labels.max() < dataset.num_classes
    # The test part is read in its own order.
    test = dataset.inputs[dataset.num_train :].reshape(-1)
    assert np.array_equal(test, arrays["test"][: len(test)])
    # The train part has the same words, sentences in another order.
    train = dataset.inputs[: dataset.num_train].reshape(-1)
    assert not np.array_equal(train, arrays["train"][: len(train)])
    lost = np.bincount(arrays["train"], minlength=31) - np.bincount(train, minlength=31)
    assert lost.min() >= 0
    assert lost.sum() <= window


def test_units_are_moved_as_wholes():
    tokens, starts = np.arange(10), np.array([0, 3, 4, 8])
    units = {(0, 1, 2), (3,), (4, 5, 6, 7), (8, 9)}
    moved = text._shuffle_units(tokens, starts)
    assert sorted(moved) == list(range(10))
    cuts = [k + 1 for k in range(9) if moved[k + 1] != moved[k] + 1]
    found = {tuple(part) for part in np.split(moved, cuts)}
    assert all(any(set(unit) <= set(part) for part in found) for unit in units)


def test_subsets_are_nested_stretches_that_differ_between_seeds():
    _save("ptb", num_sentences=3000)
    dataset = load_dataset("ptb")
    small, large = (dataset.round_size(f) for f in (0.25, 0.5))
    assert large == pytest.approx(2 * small, abs=1)
    orders = [dataset.order(seed) for seed in range(3)]
    for order in orders:
        assert sorted(order[: dataset.num_train]) == list(range(dataset.num_train))
        assert np.array_equal(order[dataset.num_train :], np.arange(
            dataset.num_train, len(dataset.labels)
        ))  # fmt: skip
        # Windows of a stretch follow one another.
        follows = np.diff(order[:small]) == 1
        assert follows.mean() > 0.8
    assert set(orders[0][:small]) != set(orders[1][:small])


@pytest.mark.parametrize(
    "name", ["ptb", "ptb_2000", "wikitext2", "wikitext2_2000", "wikitext103"]
)
def test_outlines_have_the_published_sizes(name):
    outline = load_dataset(name, outline=True)
    published = {
        "ptb": (929_589, 10_000),
        "ptb_2000": (929_589, 2000),
        "wikitext2": (2_088_628, 33_278),
        "wikitext2_2000": (2_088_628, 2000),
        "wikitext103": (103_227_021, 267_735),
    }
    words, vocabulary_size = published[name]
    window = outline.units_per_example
    assert 0 <= words - outline.num_train * window < window
    assert outline.num_classes == vocabulary_size
    assert np.iinfo(outline.inputs.dtype).max >= vocabulary_size - 1
    module = importlib.import_module(f"scalepred.data.{name}")
    with pytest.raises(files.MissingData):
        module.load()


def test_rare_words_become_unknown():
    words = [b"a a a a b b b <unk> <unk> c", b"d a"]
    arrays = text.encode("words", words, [b"c"], [b"d b"])
    kept = text.keep_words(arrays, 4)
    vocabulary = kept["vocabulary"].tobytes().split(b"\n")
    assert set(vocabulary) == {b"a", b"b", b"<unk>", b"<eos>"}
    read = [vocabulary[token].decode() for token in kept["test"]]
    assert read == ["<unk>", "b", "<eos>"]
    assert len(kept["train"]) == len(arrays["train"])


@pytest.mark.parametrize("suffix", ["", ":bytes", ":words"])
def test_any_text_file(tmp_path, suffix):
    path = tmp_path / "tale.txt"
    path.write_bytes(b"\n\n".join(_sentences(4000, 0)))
    dataset = load_dataset(f"{path}{suffix}")
    assert dataset.name == "tale"
    is_words = suffix == ":words"
    assert dataset.unit == ("words" if is_words else "bytes")
    assert dataset.num_classes == (31 if is_words else 256)
    with pytest.raises(config.UserError, match="no such file"):
        load_dataset(str(tmp_path / "none.txt"))
    path.write_bytes(b"\n\n".join(_sentences(40, 0)))
    with pytest.raises(config.UserError, match="longer"):
        load_dataset(f"{path}{suffix}")


def test_the_standard_library_is_there():
    dataset = load_dataset("stdlib")
    assert dataset.num_train * dataset.units_per_example > 3_000_000
    assert b"import" in dataset.inputs[: dataset.num_train].tobytes()


@pytest.fixture(scope="module")
def language():
    return markov.load()


def test_chances_of_the_language_are_chances():
    chances = markov.transition(0)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    share = markov.stationary(chances)
    np.testing.assert_allclose(share.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(share @ chances, share, rtol=1e-9)
    # Few frequent tokens and many rare ones.
    assert share.max() > 30 * share.min()


@pytest.mark.parametrize("name", ["markov", "markov:1", "markov:2"])
def test_the_truth_has_the_irreducible_loss(name):
    """The language's own chances, scored on both parts, give what is computed."""
    language = load_dataset(name)
    chances = markov.transition(int(name.partition(":")[2] or 0))
    losses = -np.log(chances[language.inputs, language.labels])
    train, test = np.split(losses, [language.num_train])
    error = train.mean(axis=1).std() / np.sqrt(len(train))
    assert error < 0.001
    assert abs(train.mean() - language.irreducible_loss) < 4 * error
    assert abs(test.mean() - language.irreducible_loss) < 5e-4
    # The last token says something of the next one.
    share = markov.stationary(chances)
    assert language.irreducible_loss < -np.sum(share * np.log(share)) - 0.1


def test_both_parts_speak_the_same_language(language):
    """Sharing the chances evenly changes no frequency of a pair."""
    counts = np.zeros((2, 64, 64))
    for part, rows in enumerate((slice(language.num_train), slice(-8192, None))):
        np.add.at(counts[part], (language.inputs[rows], language.labels[rows]), 1)
    expected = counts[0] / counts[0].sum() * counts[1].sum()
    frequent = expected > 5
    chi_square = np.sum((counts[1] - expected)[frequent] ** 2 / expected[frequent])
    assert 0.2 < chi_square / frequent.sum() < 1.1


def test_languages_differ_and_their_names_are_checked():
    assert not np.array_equal(load_dataset("markov:1").inputs, markov.load().inputs)
    for name in ("markov:x", "markov:-1", "markov:1.5"):
        with pytest.raises(config.UserError, match="whole number"):
            load_dataset(name)
    with pytest.raises(config.UserError, match="digits has no variants; leave out :1"):
        load_dataset("digits:1")


def test_windows_of_the_language_fit_together(language):
    assert np.array_equal(language.inputs[:, 1:], language.labels[:, :-1])
    assert language.num_classes == int(language.inputs.max()) + 1
    assert np.array_equal(language.inputs, markov.load().inputs)

"""Preparing data: official formats, archives in archives, and what cannot be had."""

import gzip
import hashlib
import io
import pathlib
import sys
import tarfile
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scalepred import config
from scalepred.data import files, text
from scalepred.data.loading import load_dataset

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scripts"))
import prepare_data  # pyright: ignore[reportMissingImports]

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("SCALEPRED_DATA", str(tmp_path / "prepared"))
    return tmp_path / "prepared"


def _tar(contents: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _image(colour: int, size: tuple[int, int] = (10, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, 0, 255 - colour)).save(buffer, "png")
    return buffer.getvalue()


def test_mnist_from_idx_files(tmp_path):
    images = RANDOM.integers(256, size=(30, 28, 28), dtype=np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    for part, count in (("train", 20), ("t10k", 10)):
        x, y = images[-count:], labels[-count:]
        header = bytes([0, 0, 8, 3]) + np.array([count, 28, 28], ">u4").tobytes()
        path = tmp_path / f"{part}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(header + x.tobytes()))
        header = bytes([0, 0, 8, 1]) + np.array([count], ">u4").tobytes()
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(header + y.tobytes())
    prepare_data.run(["--dataset=mnist", "--from", str(tmp_path)])
    mnist = load_dataset("mnist")
    assert (mnist.num_train, mnist.num_test, mnist.input_shape) == (20, 10, (28, 28))
    np.testing.assert_array_equal(mnist.inputs[20:], images[-10:])
    np.testing.assert_array_equal(mnist.labels[20:], labels[-10:])


@pytest.mark.parametrize(("name", "num_labels"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_from_the_binary_archive(tmp_path, name, num_labels):
    """A record is its labels, then the red, green and blue plane."""
    images = RANDOM.integers(256, size=(60, 32, 32, 3), dtype=np.uint8)
    labels = (np.arange(60) % 10).astype(np.uint8)
    others = np.full((60, num_labels - 1), 7, np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(60, -1)
    rows = np.concatenate([others, labels[:, None], planes], axis=1)
    if num_labels == 1:
        contents = {
            f"d/data_batch_{k}.bin": rows[10 * k - 10 : 10 * k].tobytes()
            for k in range(1, 6)
        }
        contents["d/test_batch.bin"] = rows[50:].tobytes()
    else:
        contents = {
            "d/train.bin": rows[:50].tobytes(),
            "d/test.bin": rows[50:].tobytes(),
        }
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(_tar(contents, "w:gz"))
    prepare_data.run([f"--dataset={name}", f"--from={path}"])
    dataset = load_dataset(name)
    np.testing.assert_array_equal(dataset.inputs, images)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.num_train == 50
    # Each channel has mean 0 and deviation 1 over the train part.
    assert dataset.prepare is not None
    x = np.asarray(dataset.prepare(jnp.asarray(dataset.inputs[:50])))
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["dtd", "aircraft", "ucf101"])
def test_decathlon_is_an_archive_of_archives(tmp_path, name):
    inner = {}
    for part in ("train", "val"):
        for label in range(3):
            for index in range(2):
                inner[f"./{part}/{label:04}/{index:06}.png"] = _image(80 * label)
    # Images without class, as in the decathlon's test part, and another dataset.
    inner["./test/000000.png"] = _image(9)
    other = {f"./{part}/0009/000000.png": _image(9) for part in ("train", "val")}
    archives = {f"{name}.tar": _tar(inner), "svhn.tar": _tar(other)}
    path = tmp_path / "decathlon-1.0-data.tar.gz"
    path.write_bytes(_tar(archives, "w:gz"))
    prepare_data.run([f"--dataset={name}", f"--from={path}", "--image_size=6"])
    dataset = load_dataset(name)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (6, 6, 3)
    assert dataset.input_shape == (6, 6, 3)
    assert np.all(dataset.inputs[..., 0] == 80 * dataset.labels[:, None, None])


def test_imagenet_from_folders_and_from_the_64_pixel_files(tmp_path):
    for part, count in (("train", 4), ("val", 2)):
        for label in ("n01", "n02"):
            folder = tmp_path / "folders" / part / label
            folder.mkdir(parents=True)
            for index in range(count):
                (folder / f"{index}.png").write_bytes(_image(0))
                (folder / f"{index}.JPEG").write_bytes(_image(100, (64, 64)))
    prepare_data.run(["--dataset=imagenet", "--from", str(tmp_path / "folders")])
    imagenet = load_dataset("imagenet")
    assert (imagenet.num_train, imagenet.num_test) == (16, 8)
    assert imagenet.input_shape == (64, 64, 3)

    packed = tmp_path / "packed"
    packed.mkdir()
    images = RANDOM.integers(256, size=(6, 64, 64, 3), dtype=np.uint8)
    flat = images.transpose(0, 3, 1, 2).reshape(6, -1)
    labels = np.array([1, 2, 1, 2, 1, 2])
    for name, rows in {
        "train_data_batch_1": slice(0, 2),
        "train_data_batch_2": slice(2, 4),
        "val_data": slice(4, 6),
    }.items():
        np.savez(packed / f"{name}.npz", data=flat[rows], labels=labels[rows])
    prepare_data.run(["--dataset=imagenet", "--from", str(packed)])
    imagenet = load_dataset("imagenet")
    np.testing.assert_array_equal(imagenet.inputs, images)
    np.testing.assert_array_equal(imagenet.labels, labels - 1)


def test_images_of_ones_own(tmp_path, capsys):
    for part in ("train", "test"):
        for label, colour in (("cat", 10), ("dog", 200)):
            (tmp_path / part / label).mkdir(parents=True)
            (tmp_path / part / label / "1.png").write_bytes(_image(colour))
    prepare_data.run(["--dataset=pets", "--from", str(tmp_path), "--image_size=4"])
    path = capsys.readouterr().out.strip().rsplit("=", 1)[1]
    pets = load_dataset(path)
    assert pets.name == "pets"
    assert pets.labels.tolist() == [0, 1, 0, 1]
    # What was prepared may be so again; a file of the user's own stays.
    again = ["--dataset=pets", "--from", str(tmp_path), "--image_size=4"]
    prepare_data.run(again)
    np.savez(path, train_x=np.zeros(3))
    with pytest.raises(config.UserError, match=r"pets\.npz: was not prepared by"):
        prepare_data.run(again)


def test_words_are_counted_as_the_papers_do():
    arrays = text.encode(
        "words",
        text.split_lines(b" a b a \n\n c a \n"),
        text.split_lines(b"b d"),
        text.split_lines(b"a"),
    )
    vocabulary = arrays["vocabulary"].tobytes().split(b"\n")
    assert sorted(vocabulary) == [b"<eos>", b"a", b"b", b"c", b"d"]
    assert set(vocabulary[:2]) == {b"a", b"<eos>"}  # the most frequent come first
    decoded = [vocabulary[token].decode() for token in arrays["train"]]
    assert decoded == ["a", "b", "a", "<eos>", "<eos>", "c", "a", "<eos>"]
    assert arrays["train_starts"].tolist() == [0, 4, 5]


def test_a_text_in_one_piece_is_cut_by_paragraphs():
    paragraphs = [f"paragraph {k}\n" * (1 + k % 3) for k in range(100)]
    units = text.split_blocks("\n\n".join(paragraphs).encode())
    train, valid, test = text.cut_parts(units)
    assert sorted([*train, *valid, *test]) == sorted(units)
    total = sum(map(len, units))
    for part in (valid, test):
        assert 0.02 < sum(map(len, part)) / total <= 0.06
    arrays = text.encode("bytes", train, valid, test)
    starts = arrays["train_starts"]
    for start, unit in zip(starts, train, strict=True):
        assert arrays["train"][start : start + len(unit)].tobytes() == unit
    with pytest.raises(config.UserError, match="longer one"):
        text.cut_parts(units[:3])


def test_mapped_arrays_are_those_of_numpy(tmp_path):
    arrays = {
        "bytes": np.arange(7, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
        "fortran": np.asfortranarray(RANDOM.normal(size=(3, 5))),
        "words": np.array(["ab", "c"]),
    }
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for name in ("plain", "packed"):
        found = files.map_npz(tmp_path / f"{name}.npz")
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype
        assert isinstance(found["bytes"], np.memmap) == (name == "plain")


def test_missing_data_says_the_command():
    with pytest.raises(
        files.MissingData, match=r"prepare_data\.py --dataset=cifar10` "
    ):
        load_dataset("cifar10")


def test_damaged_data_is_named(data_folder):
    data_folder.mkdir()
    np.savez(data_folder / "mnist.npz", train_x=np.zeros(1000))
    whole = (data_folder / "mnist.npz").read_bytes()
    for content in (b"", whole[:100], whole[:-10]):
        (data_folder / "mnist.npz").write_bytes(content)
        with pytest.raises(config.UserError, match=r"mnist\.npz is damaged"):
            load_dataset("mnist")


def test_a_download_is_checked(tmp_path, data_folder, monkeypatch):
    content = _tar({"d/train.bin": b"", "d/test.bin": b""})
    (tmp_path / "there.tar").write_bytes(content)
    there = (tmp_path / "there.tar").as_uri()
    recipe = prepare_data.RECIPES["cifar100"]
    right = hashlib.sha256(content).hexdigest()
    for url, digest, message in (
        (there, "0" * 64, f"its sha256 is {right}, not 0000"),
        (there + ".gone", right, "cannot be fetched"),
    ):
        archive = prepare_data.Archive(url, "sha256", digest)
        changed = recipe._replace(archives=(archive,))
        monkeypatch.setitem(prepare_data.RECIPES, "cifar100", changed)
        with pytest.raises(config.UserError, match=message):
            prepare_data.run(["--dataset=cifar100"])
    assert not data_folder.exists()
    archive = prepare_data.Archive(there, "sha256", right)
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    assert prepare_data.fetch(archive, fetched).read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=nothing"], "choose one of aircraft, cifar10"),
        (["--dataset=imagenet"], "without an account"),
        (["--dataset=ptb", "--from=/no/such/place"], "no such file"),
        (["--dataset=ptb", "--from", "{}"], r"ptb\.train\.txt or ptb_train\.txt"),
        (["--dataset=dtd", "--from", "{}"], "no images in dtd/train/CLASS/"),
        (["--dataset=mine", "--from", "{}"], "no images in train/CLASS/"),
        (["--dataset=ptb", "--source=tfds"], "ptb is not there"),
        (["--dataset=dtd", "--source=huggingface"], "dtd is not there"),
        (
            ["--dataset=mnist", "--source=tfds"],
            "package tensorflow_datasets is missing",
        ),
    ],
)
def test_what_cannot_be_had(tmp_path, arguments, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    arguments = [argument.format(tmp_path) for argument in arguments]
    with pytest.raises(config.UserError, match=message):
        prepare_data.run(arguments)


def test_optional_sources(monkeypatch):
    """Stand-ins for the two packages, with the calls that theirs have."""
    images = RANDOM.integers(256, size=(4, 28, 28, 1), dtype=np.uint8)
    rows = [{"image": image, "label": k % 2} for k, image in enumerate(images)]
    tfds = types.SimpleNamespace(load=lambda name, split: rows, as_numpy=iter)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", tfds)
    prepare_data.run(["--dataset=mnist", "--source=tfds"])
    assert load_dataset("mnist").inputs.shape == (8, 28, 28)

    class Column(list):
        column_names = ("img", "fine_label")

    coloured = RANDOM.integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
    split = Column(
        {"img": Image.fromarray(image), "fine_label": k % 2}
        for k, image in enumerate(coloured)
    )
    datasets = types.SimpleNamespace(
        load_dataset=lambda path, name: {"train": split, "test": split}
    )
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    prepare_data.run(["--dataset=cifar100", "--source=huggingface"])
    np.testing.assert_array_equal(load_dataset("cifar100").inputs[:4], coloured)


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("mnist", "images", {"train_x": 60_000, "test_x": 10_000}),
        pytest.param(
            "cifar10",
            "images",
            {"train_x": 50_000, "test_y": 10_000},
            marks=pytest.mark.slow,  # decodes 60,000 images
        ),
        ("ptb", "text", {"train": 929_589, "valid": 73_760, "test": 82_430}),
    ],
)
def test_the_real_files(shared_data, name, folder, sizes):
    """Counts as published: words of the Penn Treebank with an end mark a sentence."""
    given = shared_data / "training" / folder
    prepare_data.run([f"--dataset={name}", f"--from={given}"])
    arrays = files.open_prepared(name)
    assert {part: len(arrays[part]) for part in sizes} == sizes
    if name == "ptb":
        assert len(arrays["vocabulary"].tobytes().split(b"\n")) == 10_000
        assert len(arrays["train_starts"]) == 42_068

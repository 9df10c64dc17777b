"""Writes a dataset as one plain .npz into the folder that SCALEPRED_DATA names.

    python scripts/prepare_data.py --dataset=cifar10
    python scripts/prepare_data.py --dataset=ptb --from=simple-examples.tgz
    python scripts/prepare_data.py --dataset=mine --from=photographs/
    python scripts/prepare_data.py --dataset=tale --from=tale.txt --tokens=words

Without --from the official archive is fetched and its checksum must be right. --from
takes archives (.tar, .tgz, .zip), single files or a folder that are already there,
the official ones or, for a dataset of your own, either a folder of images
(train/CLASS/*, val/CLASS/* or test/CLASS/*) or a text.
"""

import argparse
import gzip
import hashlib
import io
import itertools
import lzma
import pathlib
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from scalepred.config import UserError
from scalepred.data import files, text

Arrays = dict[str, np.ndarray]

_VGG = "https://www.robots.ox.ac.uk/~vgg/share/"
_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_WIKITEXT = "https://s3.amazonaws.com/research.metamind.io/wikitext/"
_MIKOLOV = "http://www.fit.vutbr.cz/~imikolov/rnnlm/"
_WIKI_FILES = ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")
_ARCHIVE_ENDINGS = (".tar", ".tgz", ".tar.gz", ".tar.xz", ".zip")
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".JPEG", ".png", ".webp", ".bmp")


class Archive(NamedTuple):
    """A file to fetch, and what it must hash to."""

    url: str
    algorithm: str  # md5 | sha1 | sha256
    digest: str


class Files:
    """The files of folders and archives, found by how their paths end."""

    def __init__(self, paths: Sequence[pathlib.Path], image_size: int):
        self.paths = paths
        self.image_size = image_size

    def each(self, *endings: str) -> Iterator[tuple[str, bytes]]:
        """Path and content of every file with one of these endings, in order."""
        for path in self.paths:
            yield from _walk(path, endings)

    def find(self, *endings: str) -> bytes | None:
        """Content of the first file with one of these endings, unpacked."""
        packed = [end + pack for end in endings for pack in ("", ".gz", ".xz")]
        for name, content in self.each(*packed):
            if name.endswith(".gz"):
                return gzip.decompress(content)
            return lzma.decompress(content) if name.endswith(".xz") else content
        return None

    def get(self, *endings: str) -> bytes:
        """As `find`.

        Raises:
            UserError: there is none; names where it was looked for.
        """
        content = self.find(*endings)
        if content is None:
            places = ", ".join(map(str, self.paths))
            raise UserError(
                f"--from={places}: no file there ends in {' or '.join(endings)}; "
                "give the official archive, or a folder with its files"
            )
        return content


def _walk(path: pathlib.Path, endings: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file() and inner.name.endswith((*endings, *_ARCHIVE_ENDINGS)):
                yield from _walk(inner, endings)
    elif path.name.endswith(_ARCHIVE_ENDINGS):
        with path.open("rb") as file:
            yield from _walk_archive(path.name, file, endings)
    elif str(path).endswith(tuple(endings)):
        yield str(path), path.read_bytes()


def _walk_archive(name: str, file, endings: Sequence[str]):
    """Files of an archive and of the archives in it (the decathlon has such)."""
    wanted = (*endings, *_ARCHIVE_ENDINGS)
    if name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            for inner in sorted(archive.namelist()):
                if inner.endswith(wanted):
                    yield from _look_inside(inner, archive.read(inner), endings)
    else:
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(wanted):
                    content = archive.extractfile(member)
                    assert content is not None  # a plain file
                    yield from _look_inside(member.name, content.read(), endings)


def _look_inside(name: str, content: bytes, endings: Sequence[str]):
    if name.endswith(_ARCHIVE_ENDINGS):
        stem = name.removesuffix(".gz").removesuffix(".tar").removesuffix(".zip")
        for inner, data in _walk_archive(name, io.BytesIO(content), endings):
            # Members of aircraft.tar are told from those of dtd.tar.
            yield f"{stem}/{inner}", data
    else:
        yield name, content


def prepare_mnist(source: Files) -> Arrays:
    """From the four IDX files, or an .npz with the arrays' names."""
    if (content := source.find("mnist.npz")) is not None:
        return _load_npz(content, "train_x", "train_y", "test_x", "test_y")

    def read(ending: str) -> np.ndarray:
        content = source.get(ending)
        num_axes = content[3]
        shape = np.frombuffer(content, ">u4", num_axes, offset=4)
        pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes)
        return pixels.reshape(shape)

    return {
        "train_x": read("train-images-idx3-ubyte"),
        "train_y": read("train-labels-idx1-ubyte"),
        "test_x": read("t10k-images-idx3-ubyte"),
        "test_y": read("t10k-labels-idx1-ubyte"),
    }


def prepare_cifar10(source: Files) -> Arrays:
    """From the binary version, or an .npz of WebP images (which is lossy)."""
    if (content := source.find("cifar10_webp.npz")) is not None:
        return _decode_webp(content)
    batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
    train = b"".join(source.get(batch) for batch in batches)
    return _cifar_arrays(train, source.get("test_batch.bin"), num_labels=1)


def prepare_cifar100(source: Files) -> Arrays:
    """As CIFAR-10; the labels are the fine ones."""
    if (content := source.find("cifar100_webp.npz")) is not None:
        return _decode_webp(content)
    train, test = source.get("train.bin"), source.get("test.bin")
    return _cifar_arrays(train, test, num_labels=2)


def _cifar_arrays(train: bytes, test: bytes, num_labels: int) -> Arrays:
    """Records of labels, then 3,072 bytes, one colour plane after the other."""
    arrays = {}
    for part, content in (("train", train), ("test", test)):
        rows = np.frombuffer(content, np.uint8).reshape(-1, num_labels + 3072)
        planes = rows[:, num_labels:].reshape(-1, 3, 32, 32)
        arrays[f"{part}_x"] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        arrays[f"{part}_y"] = rows[:, num_labels - 1].copy()
    return arrays


def _decode_webp(content: bytes) -> Arrays:
    """Images encoded one after the other in `S_blob`, cut at `S_off`."""
    print("the images were stored as WebP, which is lossy: errors on them are not")
    print("those on the official images to the last digit")
    file = _load_npz(
        content, "train_blob", "train_off", "train_y", "test_blob", "test_off", "test_y"
    )
    arrays = {}
    for part in ("train", "test"):
        blob, offsets = file[f"{part}_blob"].tobytes(), file[f"{part}_off"]
        arrays[f"{part}_x"] = np.stack(
            [_decode(blob[a:b]) for a, b in itertools.pairwise(offsets)]
        )
        arrays[f"{part}_y"] = file[f"{part}_y"]
    return arrays


def _load_npz(content: bytes, *names: str) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        missing = [name for name in names if name not in file]
        if missing:
            raise UserError(f"--from: the .npz has no array {', '.join(missing)}")
        return {name: file[name] for name in names}


def _decode(content: bytes, size: int | None = None) -> np.ndarray:
    """An image as RGB bytes, squeezed to size x size pixels if a size is given."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(image)


def prepare_decathlon(name: str) -> Callable[[Files], Arrays]:
    """One dataset of the Visual Decathlon; its test part has no published labels."""
    return lambda source: prepare_image_folder(source, f"{name}/")


def prepare_imagenet(source: Files) -> Arrays:
    """From train/CLASS/*, val/CLASS/*, or the published .npz files of 64 pixels."""
    train, test = [], []
    for name, content in source.each(".npz"):
        batch = _load_npz(content, "data", "labels")
        pixels = batch["data"].reshape(len(batch["data"]), 3, 64, 64)
        images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).astype(np.uint8)
        part = test if pathlib.PurePath(name).name.startswith("val") else train
        part.append((images, batch["labels"].astype(np.uint16) - 1))
    if not (train and test):
        return prepare_image_folder(source)
    (train_x, train_y), (test_x, test_y) = (
        map(np.concatenate, zip(*part, strict=True)) for part in (train, test)
    )
    return {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}


def prepare_image_folder(source: Files, prefix: str = "") -> Arrays:
    """From train/CLASS/* and test/CLASS/* (or val/CLASS/*, where test has no classes).

    Classes are numbered in the order of their names; images are squeezed to squares.
    """
    parts: dict[str, list[tuple[str, np.ndarray]]] = {
        "train": [],
        "val": [],
        "test": [],
    }
    for path, content in source.each(*_IMAGE_ENDINGS):
        folders = pathlib.PurePath(path).parts[-3:-1]
        if prefix in path and len(folders) == 2 and folders[0] in parts:
            try:
                image = _decode(content, source.image_size)
            except UnidentifiedImageError:
                raise UserError(f"--from: {path} is not an image; remove it") from None
            parts[folders[0]].append((folders[1], image))
    test = parts["test"] or parts["val"]
    if not (parts["train"] and test):
        raise UserError(
            f"--from={', '.join(map(str, source.paths))}: no images in "
            f"{prefix}train/CLASS/ and in {prefix}test/CLASS/ or {prefix}val/CLASS/"
        )
    classes = sorted({label for label, _ in parts["train"]})
    number = {label: index for index, label in enumerate(classes)}
    unknown = sorted({label for label, _ in test} - set(classes))
    if unknown:
        raise UserError(f"--from: class {unknown[0]} has test images but none to train")
    arrays: Arrays = {"classes": np.array(classes)}
    for part, examples in (("train", parts["train"]), ("test", test)):
        arrays[f"{part}_x"] = np.stack([image for _, image in examples])
        labels = [number[label] for label, _ in examples]
        arrays[f"{part}_y"] = np.array(labels, np.uint16)
    return arrays


def prepare_words(name: str, *official: str) -> Callable[[Files], Arrays]:
    """Words of the train, valid and test text: official names, or NAME_train.txt."""

    def prepare(source: Files) -> Arrays:
        parts = zip(("train", "valid", "test"), official, strict=True)
        texts = [source.get(file, f"{name}_{part}.txt") for part, file in parts]
        return text.encode("words", *map(text.split_lines, texts))

    return prepare


def prepare_text(tokens: str) -> Callable[[Files], Arrays]:
    """Any text: three files that end in train, valid and test.txt, or one to cut."""

    def prepare(source: Files) -> Arrays:
        parts = [source.find(f"{part}.txt") for part in ("train", "valid", "test")]
        if any(part is None for part in parts):
            whole = [
                content for _, content in source.each(".txt", ".txt.gz", ".txt.xz")
            ]
            if len(whole) != 1:
                places = ", ".join(map(str, source.paths))
                raise UserError(
                    f"--from={places}: {len(whole)} texts; give one .txt, or a folder "
                    "with three that end in train.txt, valid.txt and test.txt"
                )
            blocks = text.split_blocks(source.get(".txt"))
            return text.encode(tokens, *text.cut_parts(blocks))
        return text.encode(tokens, *(text.split_blocks(part or b"") for part in parts))

    return prepare


class Recipe(NamedTuple):
    """Where a dataset comes from and how its arrays are made."""

    prepare: Callable[[Files], Arrays]
    archives: tuple[Archive, ...] = ()
    # tensorflow_datasets: name, then the splits; Hugging Face: path, configuration.
    tfds: tuple[str, str, str] | None = None
    huggingface: tuple[str, str] | None = None


_DECATHLON = (
    Archive(
        _VGG + "decathlon-1.0-data.tar.gz",
        "sha256",
        "8eca928bda025d855c91a78db45b3b18bc322efd7b1462a041e62c27b3c83c25",
    ),
)

RECIPES = {
    "mnist": Recipe(
        prepare_mnist,
        (
            Archive(
                _MNIST + "train-images-idx3-ubyte.gz",
                "sha256",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            Archive(
                _MNIST + "train-labels-idx1-ubyte.gz",
                "sha256",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            Archive(
                _MNIST + "t10k-images-idx3-ubyte.gz",
                "sha256",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            Archive(
                _MNIST + "t10k-labels-idx1-ubyte.gz",
                "sha256",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        tfds=("mnist", "train", "test"),
        huggingface=("ylecun/mnist", "mnist"),
    ),
    "cifar10": Recipe(
        prepare_cifar10,
        (
            Archive(
                _CIFAR + "cifar-10-binary.tar.gz",
                "sha256",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        tfds=("cifar10", "train", "test"),
        huggingface=("uoft-cs/cifar10", "plain_text"),
    ),
    "cifar100": Recipe(
        prepare_cifar100,
        (
            Archive(
                _CIFAR + "cifar-100-binary.tar.gz",
                "sha256",
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
        tfds=("cifar100", "train", "test"),
        huggingface=("uoft-cs/cifar100", "cifar100"),
    ),
    "dtd": Recipe(
        prepare_decathlon("dtd"),
        _DECATHLON,
        tfds=("visual_domain_decathlon/dtd", "train", "validation"),
    ),
    "aircraft": Recipe(
        prepare_decathlon("aircraft"),
        _DECATHLON,
        tfds=("visual_domain_decathlon/aircraft", "train", "validation"),
    ),
    "ucf101": Recipe(
        prepare_decathlon("ucf101"),
        _DECATHLON,
        tfds=("visual_domain_decathlon/ucf101", "train", "validation"),
    ),
    # Its archives want an account: fetch them there, and give them with --from.
    "imagenet": Recipe(
        prepare_imagenet, tfds=("imagenet_resized/64x64", "train", "validation")
    ),
    "ptb": Recipe(
        prepare_words("ptb", "ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        (
            Archive(
                _MIKOLOV + "simple-examples.tgz",
                "md5",
                "30177ea32e27c525793142b6bf2c8e2d",
            ),
        ),
    ),
    "wikitext2": Recipe(
        prepare_words("wikitext2", *_WIKI_FILES),
        (
            Archive(
                _WIKITEXT + "wikitext-2-v1.zip",
                "sha1",
                "3c914d17d80b1459be871a5039ac23e752a53cbe",
            ),
        ),
        huggingface=("Salesforce/wikitext", "wikitext-2-v1"),
    ),
    "wikitext103": Recipe(
        prepare_words("wikitext103", *_WIKI_FILES),
        (
            Archive(
                _WIKITEXT + "wikitext-103-v1.zip",
                "sha1",
                "0aec09a7537b58d4bb65362fee27650eeaba625a",
            ),
        ),
        huggingface=("Salesforce/wikitext", "wikitext-103-v1"),
    ),
}


def fetch(archive: Archive, folder: pathlib.Path) -> pathlib.Path:
    """Fetches a file and checks it.

    Raises:
        UserError: it cannot be fetched, or is not what it should be.
    """
    path = folder / archive.url.rsplit("/", 1)[1]
    print(f"fetching {archive.url}", flush=True)
    try:
        urllib.request.urlretrieve(archive.url, path)
    except OSError as error:
        raise UserError(
            f"{archive.url}: cannot be fetched ({error}); fetch it by other means and "
            "give it with --from=PATH"
        ) from None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, archive.algorithm).hexdigest()
    if found != archive.digest:
        raise UserError(
            f"{archive.url}: its {archive.algorithm} is {found}, not {archive.digest}: "
            "a broken download or another version; try again, or give a copy you "
            "trust with --from=PATH"
        )
    return path


def prepare(
    dataset: str, recipe: Recipe, given: Sequence[pathlib.Path], image_size: int
) -> Arrays:
    """The arrays of a dataset, from what is given or else from its archives."""
    for path in given:
        if not path.exists():
            raise UserError(f"--from={path}: there is no such file or folder")
    if given:
        return recipe.prepare(Files(given, image_size))
    if not recipe.archives:
        raise UserError(
            f"--dataset={dataset}: its files cannot be fetched without an account; "
            "fetch them and give them with --from=PATH"
        )
    with tempfile.TemporaryDirectory() as folder:
        paths = [fetch(archive, pathlib.Path(folder)) for archive in recipe.archives]
        return recipe.prepare(Files(paths, image_size))


def load_from_tfds(dataset: str, recipe: Recipe, image_size: int) -> Arrays:
    """The images as tensorflow_datasets gives them; it is not among our packages."""
    if recipe.tfds is None:
        raise UserError(f"--source=tfds: {dataset} is not there; leave --source out")
    tfds = _import("tensorflow_datasets", "tfds")
    name, *splits = recipe.tfds
    arrays = {}
    for part, split in zip(("train", "test"), splits, strict=True):
        rows = list(tfds.as_numpy(tfds.load(name, split=split)))
        arrays |= _image_arrays(part, rows, "image", "label", image_size)
    return arrays


def load_from_huggingface(dataset: str, recipe: Recipe, image_size: int) -> Arrays:
    """Images or words as Hugging Face `datasets` gives them; not among our packages."""
    if recipe.huggingface is None:
        raise UserError(
            f"--source=huggingface: {dataset} is not there; leave --source out"
        )
    loaded = _import("datasets", "huggingface").load_dataset(*recipe.huggingface)
    columns = loaded["train"].column_names
    if "text" in columns:
        parts = [
            "".join(loaded[split]["text"]).encode()
            for split in ("train", "validation", "test")
        ]
        return text.encode("words", *map(text.split_lines, parts))
    image = "img" if "img" in columns else "image"
    label = "fine_label" if "fine_label" in columns else "label"
    arrays = {}
    for part in ("train", "test"):
        arrays |= _image_arrays(part, list(loaded[part]), image, label, image_size)
    return arrays


def _image_arrays(part: str, rows: list, image: str, label: str, size: int) -> Arrays:
    images = [np.asarray(row[image]) for row in rows]
    if len({pixels.shape for pixels in images}) > 1:
        resized = (Image.fromarray(pixels).resize((size, size)) for pixels in images)
        images = [np.asarray(pixels) for pixels in resized]
    pixels = np.stack(images)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return {
        f"{part}_x": pixels,
        f"{part}_y": np.array([int(row[label]) for row in rows], np.uint16),
    }


def _import(module: str, source: str):
    try:
        return __import__(module)
    except ImportError:
        raise UserError(
            f"--source={source}: the package {module} is missing; install it, or "
            "leave --source out"
        ) from None


def run(arguments: Sequence[str]) -> None:
    """The command.

    Raises:
        UserError: the data cannot be had; says why and what to do.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(sorted(RECIPES))
    parser.add_argument("--dataset", required=True, help=f"one of {known}, or a name")
    parser.add_argument("--from", dest="given", nargs="+", default=[])
    parser.add_argument(
        "--source", choices=("official", "tfds", "huggingface"), default="official"
    )
    parser.add_argument("--image_size", type=int, default=64, help="of image folders")
    parser.add_argument("--tokens", choices=("bytes", "words"), default="bytes")
    flags = parser.parse_args(arguments)

    given = [pathlib.Path(path) for path in flags.given]
    recipe = RECIPES.get(flags.dataset)
    if recipe is None:
        if not given:
            raise UserError(
                f"--dataset={flags.dataset}: choose one of {known}, or give the files "
                "of your own with --from=PATH"
            )
        is_text = any(Files(given, 0).each(".txt", ".txt.gz", ".txt.xz"))
        recipe = Recipe(prepare_text(flags.tokens) if is_text else prepare_image_folder)
    size = flags.image_size
    if flags.source == "tfds":
        arrays = load_from_tfds(flags.dataset, recipe, size)
    elif flags.source == "huggingface":
        arrays = load_from_huggingface(flags.dataset, recipe, size)
    else:
        arrays = prepare(flags.dataset, recipe, given, size)
    path = files.save_prepared(flags.dataset, arrays)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB:")
    for name, array in arrays.items():
        print(f"  {name} {array.dtype} {list(array.shape)}")
    if flags.dataset not in RECIPES:
        print(f"use it with --config.dataset={path}")


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

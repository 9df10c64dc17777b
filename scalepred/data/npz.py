"""Labelled examples in .npz files, prepared ones and any: `--config.dataset=my.npz`."""

import pathlib
import zipfile
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError
from scalepred.data import content, files, text
from scalepred.data.dataset import Dataset
from scalepred.data.task import CLASSIFICATION, REGRESSION

_ARRAYS = ("train_x", "train_y", "test_x", "test_y")
# Mean and deviation are taken over at most so many images.
_MAX_COUNTED = 50_000
_COUNTED_AT_ONCE = 1000


def load_file(path: pathlib.Path) -> Dataset:
    """The images of the file, the same test part for every seed.

    Args:
        path: an .npz that `prepare_data.py` wrote, of images or text, or any with
            `train_x`, `test_x` [examples, ...], bytes or floats, and
            `train_y`, `test_y`: whole numbers [examples], classes from 0 on, or real
            ones [examples, (numbers)] for a regression. Bytes are stored as
            such and standardised on the device, each channel where there are three;
            floats are taken as they are.

    Returns:
        A dataset named like the file, without folder and ending.

    Raises:
        UserError: no such file, or it does not hold these arrays: names the place.
    """
    try:
        arrays = files.map_npz(path)
    except FileNotFoundError:
        raise UserError(f"dataset={str(path)!r}: there is no such file") from None
    except (ValueError, OSError, zipfile.BadZipFile):
        raise UserError(
            f"dataset={str(path)!r}: not an .npz file of plain arrays; save it with "
            "numpy.savez"
        ) from None
    if "train_starts" in arrays:
        return text.from_arrays(path.stem, arrays)
    return from_arrays(path.stem, str(path), arrays)


def load_prepared(name: str) -> Dataset:
    """The images that `scripts/prepare_data.py --dataset=NAME` wrote.

    Raises:
        MissingData: they are not there; says the command to run.
    """
    return from_arrays(name, name, files.open_prepared(name))


def make_outline(
    name: str, shape: tuple[int, ...], num_train: int, num_test: int, num_classes: int
) -> Dataset:
    """A dataset's sizes without its content, for a plan made where it is absent."""
    labels = np.arange(num_train + num_test, dtype=np.int32) % num_classes
    blank = np.broadcast_to(np.uint8(0), (len(labels), *shape))
    return _make_dataset(name, blank, labels, num_train, _standardise(blank[:1]))


def from_arrays(name: str, origin: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """The dataset of the four arrays that `load_file` names.

    Raises:
        UserError: they are not there, or do not fit one another; names `origin`.
    """
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise UserError(
            f"dataset={origin!r}: no array {', '.join(missing)} in it; name "
            f"the arrays {', '.join(_ARRAYS)}"
        )
    train_x, train_y, test_x, test_y = (arrays[name] for name in _ARRAYS)
    _check_shapes(origin, train_x, train_y, test_x, test_y)
    is_whole = content.is_whole(train_y.dtype)
    if is_whole:
        _check_classes(origin, train_y, test_y)
    # Each by itself: numpy joins int64 and uint64 to float64.
    dtype = np.int32 if is_whole else np.float32
    with np.errstate(over="ignore"):  # becomes infinite, which the dataset refuses
        labels = np.concatenate([part.astype(dtype) for part in (train_y, test_y)])
    standardise = None
    if train_x.dtype == np.uint8:
        standardise = _standardise(train_x)
    else:
        with np.errstate(over="ignore"):
            train_x, test_x = (
                part.astype(np.float32, copy=False) for part in (train_x, test_x)
            )
    inputs = files.Joined(train_x, test_x)
    return _make_dataset(name, inputs, labels, len(train_y), standardise)


def _make_dataset(
    name: str,
    inputs: np.ndarray | files.Joined,
    labels: np.ndarray,
    num_train: int,
    prepare: Callable[[jax.Array], jax.Array] | None,
) -> Dataset:
    is_whole = content.is_whole(labels.dtype)
    return Dataset(
        name=name,
        inputs=inputs,
        labels=labels if is_whole else labels.reshape(len(labels), -1),
        num_classes=int(labels.max()) + 1 if is_whole else 0,
        num_train=num_train,
        has_fixed_test=True,
        prepare=prepare,
        unit="images" if is_whole else "examples",
        task=CLASSIFICATION if is_whole else REGRESSION,
    )


def _standardise(train: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """Bytes -> mean 0, deviation 1 over `train`; by channel if there are three."""
    train = train[:: -(-len(train) // _MAX_COUNTED)]
    num_channels = 3 if train.ndim == 4 and train.shape[-1] == 3 else 1
    values = np.arange(256)
    counts = np.zeros((num_channels, 256), np.int64)
    for first in range(0, len(train), _COUNTED_AT_ONCE):
        pixels = train[first : first + _COUNTED_AT_ONCE].reshape(-1, num_channels)
        for channel, own in zip(pixels.T, counts, strict=True):
            own += np.bincount(channel, minlength=256)
    mean, deviation = [], []
    for own in counts:
        share = own / own.sum()
        mean.append(share @ values)
        # A file of one colour has deviation 0.
        deviation.append(max(1.0, np.sqrt(share @ (values - mean[-1]) ** 2)))

    def standardise(images: jax.Array) -> jax.Array:
        pixels = jnp.asarray(images).astype(jnp.float32)
        return (pixels - jnp.float32(mean)) / jnp.float32(deviation)

    return standardise


def _check_shapes(origin: str, train_x, train_y, test_x, test_y) -> None:
    are_whole = [content.is_whole(labels.dtype) for labels in (train_y, test_y)]
    if all(are_whole):
        is_labelled = train_y.ndim == 1
    else:
        is_real = all(np.issubdtype(y.dtype, np.floating) for y in (train_y, test_y))
        is_labelled = is_real and train_y.ndim <= 2
    good = (
        train_x.ndim > 1
        and train_x.shape[1:] == test_x.shape[1:]
        and train_y.shape[1:] == test_y.shape[1:]
        and len(train_x) == len(train_y) > 0
        and len(test_x) == len(test_y) > 0
        and all(part.dtype.kind in "buif" for part in (train_x, test_x))
        and is_labelled
    )
    if not good:
        told = [f"{x.shape} {x.dtype}" for x in (train_x, train_y, test_x, test_y)]
        raise UserError(
            f"dataset={origin!r}: {', '.join(_ARRAYS)} are {', '.join(told)}, which do "
            "not fit; each part needs inputs, numbers [examples, ...] of one shape, "
            "and labels, whole numbers from 0 on [examples] (classes) or real ones "
            "[examples, numbers] (a regression)"
        )


def _check_classes(origin: str, train_y: np.ndarray, test_y: np.ndarray) -> None:
    """The file does not say how many classes there are: its labels must leave no gap.

    A lone 255, or labels from 1 on, would otherwise add classes that never occur.
    """
    for name, labels in (("train_y", train_y), ("test_y", test_y)):
        if found := content.find_outside(labels, 0):
            raise UserError(
                f"dataset={origin!r}: {name} holds {found.value} at example "
                f"{found.row}; classes are whole numbers from 0 on"
            )
    classes = np.union1d(train_y, test_y)
    gaps = np.flatnonzero(classes != np.arange(len(classes), dtype=classes.dtype))
    if len(gaps):
        raise UserError(
            f"dataset={origin!r}: train_y and test_y hold the class "
            f"{int(classes[gaps[0]])} but none is {gaps[0]}; number the classes from 0 "
            "on without gaps, as numpy.unique(labels, return_inverse=True) does"
        )

"""Any labelled images in an .npz file: `--config.dataset=path/to/mnist.npz`."""

import pathlib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError
from scalepred.data.dataset import Dataset

_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


def load_file(path: pathlib.Path) -> Dataset:
    """The images of the file, the same test part for every seed.

    Args:
        path: an .npz with `train_x`, `test_x` [examples, ...], bytes or floats, and
            `train_y`, `test_y` [examples], classes from 0 on. Bytes are stored as
            such and standardised on the device; floats are taken as they are.

    Returns:
        A dataset named like the file, without folder and ending.

    Raises:
        UserError: no such file, or it does not hold these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _ARRAYS if name not in file]
            if missing:
                raise UserError(
                    f"dataset={str(path)!r}: no array {', '.join(missing)} in it; name "
                    f"the arrays {', '.join(_ARRAYS)}"
                )
            train_x, train_y, test_x, test_y = (file[name] for name in _ARRAYS)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"dataset={str(path)!r}: there is no such file") from None
    except (ValueError, OSError, zipfile.BadZipFile):
        raise UserError(
            f"dataset={str(path)!r}: not an .npz file of plain arrays; save it with "
            "numpy.savez"
        ) from None
    _check_shapes(path, train_x, train_y, test_x, test_y)

    def prepare(images: jax.Array) -> jax.Array:
        return (images.astype(jnp.float32) - mean) / deviation

    is_bytes = train_x.dtype == np.uint8
    if is_bytes:
        mean = np.float32(train_x.mean())
        # A file of one colour has deviation 0.
        deviation = np.float32(max(train_x.std(), 1.0))
    inputs = np.concatenate([train_x, test_x])
    labels = np.concatenate([train_y, test_y]).astype(np.int32)
    return Dataset(
        name=path.stem,
        inputs=inputs if is_bytes else inputs.astype(np.float32),
        labels=labels,
        num_classes=int(labels.max()) + 1,
        num_train=len(train_y),
        has_fixed_test=True,
        prepare=prepare if is_bytes else None,
        unit="images",
    )


def _check_shapes(path: pathlib.Path, train_x, train_y, test_x, test_y) -> None:
    good = (
        train_x.shape[1:] == test_x.shape[1:]
        and train_y.shape == train_x.shape[:1]
        and test_y.shape == test_x.shape[:1]
        and min(train_y.min(initial=0), test_y.min(initial=0)) >= 0
    )
    if not good:
        shapes = [array.shape for array in (train_x, train_y, test_x, test_y)]
        raise UserError(
            f"dataset={str(path)!r}: shapes {shapes} do not fit; each part needs "
            "images [examples, ...] of one shape and labels [examples] from 0 on"
        )

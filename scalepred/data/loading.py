"""A dataset by its name: of this package, a module of one's own, or a file."""

import dataclasses
import inspect
import pathlib

from scalepred import data as package
from scalepred.config import UserError
from scalepred.data import npz, text
from scalepred.data.dataset import Dataset
from scalepred.data.files import MissingData
from scalepred.runtime.modules import find_module


def load_dataset(name: str, outline: bool = False) -> Dataset:
    """The dataset of that name.

    Args:
        name: a module of `scalepred.data` ("digits"), the dotted path of a module of
            one's own, either with a function `load() -> Dataset`, which may take
            what follows a colon ("markov:1"); or the path of an .npz file of images or
            text, or of a .txt file ("my.txt": its bytes, "my.txt:words": its words).
        outline: sizes are enough; where the data are not on this machine, and the
            dataset says its sizes (`outline() -> Dataset`), its content is blank.

    Raises:
        UserError: there is none; names those that come with the package.
    """
    if "://" in name:
        raise UserError(
            f"dataset={name!r}: data are read from disk only; copy the file there"
        )
    if name.endswith(".npz"):
        return npz.load_file(pathlib.Path(name))
    path, _, variant = name.partition(":")
    if path.endswith(".txt") and variant in ("", "bytes", "words"):
        return text.load_file(pathlib.Path(path), variant or "bytes")
    module = find_module("dataset", path, package, "load")
    if variant and not inspect.signature(module.load).parameters:
        raise UserError(
            f"dataset={name!r}: {path} has no variants; leave out :{variant}"
        )
    try:
        return module.load(*[variant] * bool(variant))
    except MissingData as missing:
        if outline and hasattr(module, "outline"):
            print(f"note: {missing}; planned with its published sizes")
            return dataclasses.replace(module.outline(), is_outline=True)
        raise

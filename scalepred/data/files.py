"""Prepared datasets on disk: one plain .npz each, mapped and not read.

`scripts/prepare_data.py` writes them into the folder that SCALEPRED_DATA names; any
tool that reads .npz reads them too.
"""

import os
import pathlib
import struct
import zipfile
from typing import IO, Any

import numpy as np

from scalepred.config import UserError

# Of a member's header in a zip file: everything before its name (APPNOTE.TXT 4.3.7).
_ZIP_HEADER_BYTES = 30
# The comment of the zip file, by which a prepared one is known.
_OF_OURS = b"scalepred"


class Joined:
    """Arrays one after the other along the first axis, as if one; none is copied.

    Numbers of rows and slices give an array of these rows; all else reads the whole.
    """

    def __init__(self, *parts: np.ndarray):
        self.parts = parts
        self.dtype = np.result_type(*parts)
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts, dtype=dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        if not isinstance(index, np.ndarray) or index.dtype == bool:
            return np.asarray(self)[index]
        rows = np.empty((*index.shape, *self.shape[1:]), self.dtype)
        first = 0
        for part in self.parts:
            is_here = (index >= first) & (index < first + len(part))
            rows[is_here] = part[index[is_here] - first]
            first += len(part)
        return rows


class MissingData(UserError):
    """The dataset is known but was not prepared on this machine."""


def folder() -> pathlib.Path:
    """Where prepared datasets are: SCALEPRED_DATA, or a folder in the home."""
    default = pathlib.Path.home() / ".cache" / "scalepred" / "data"
    return pathlib.Path(os.environ.get("SCALEPRED_DATA") or default)


def open_prepared(name: str) -> dict[str, np.ndarray]:
    """The arrays of a prepared dataset, mapped.

    Raises:
        MissingData: it is not in the folder; the sentence has the command to run.
    """
    path = folder() / f"{name}.npz"
    if not path.exists():
        raise MissingData(
            f"dataset={name!r}: there is no {path}; run `python "
            f"scripts/prepare_data.py --dataset={name}` (with --from=PATH if you have "
            "the archive), or let SCALEPRED_DATA name the folder that holds it"
        )
    try:
        return map_npz(path)
    except (ValueError, OSError, zipfile.BadZipFile):
        raise UserError(
            f"dataset={name!r}: {path} is damaged; remove it and run `python "
            f"scripts/prepare_data.py --dataset={name}` again"
        ) from None


def map_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz: mapped where they are stored plainly, else read.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: not a whole .npz of plain arrays.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for member in archive.infolist():
            with archive.open(member) as file:
                if member.compress_type == zipfile.ZIP_STORED:
                    start = _find_content(raw, member.header_offset)
                    array = _map_npy(path, start, file)
                else:
                    array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _find_content(raw: IO[bytes], header_offset: int) -> int:
    raw.seek(header_offset)
    header = raw.read(_ZIP_HEADER_BYTES)
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:])
    return header_offset + _ZIP_HEADER_BYTES + name_bytes + extra_bytes


def _map_npy(path: pathlib.Path, start: int, file: IO[bytes]) -> np.ndarray:
    """The .npy that begins at byte `start`; `file` gives its header."""
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, is_fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if 0 in shape:  # an empty file range cannot be mapped
        return np.zeros(shape, dtype)
    order = "F" if is_fortran else "C"
    return np.memmap(path, dtype, "r", start + file.tell(), shape, order)


def save_prepared(name: str, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    """Writes the arrays where `open_prepared` looks; whole or not at all.

    Raises:
        UserError: a file of the user's own has that name.
    """
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / f"{name}.npz"
    if path.exists() and not _is_ours(path):
        raise UserError(
            f"{path}: was not prepared by scalepred, and would be replaced; move it "
            "away, or choose another --dataset"
        )
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        with zipfile.ZipFile(unfinished, "a") as archive:
            archive.comment = _OF_OURS
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _is_ours(path: pathlib.Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment == _OF_OURS
    except (OSError, zipfile.BadZipFile):
        return False

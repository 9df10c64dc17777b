"""Files that are there whole or not at all, on a local disk or in a bucket."""

import contextlib
import hashlib
import io
import json
import math
import os
import time

from etils import epath

# What a killed process left half written may be of one that still runs elsewhere.
_ABANDONED_SECONDS = 600.0


def write_whole(path: epath.Path, content: str | bytes) -> None:
    """Replaces a file in one move, and waits until it is on the disk.

    A process killed at any moment leaves the old file, or none, or the new one.

    Args:
        path: the file; its folder exists.
        content: text is written as UTF-8.

    Raises:
        OSError: nothing is left of the new file, the old one is as it was.
    """
    fresh = path.parent / f"{path.name}.{os.getpid()}.tmp"
    try:
        with fresh.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            with contextlib.suppress(io.UnsupportedOperation, AttributeError):
                os.fsync(file.fileno())  # an object in a bucket has no number
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def write_json(path: epath.Path, record: object) -> None:
    """Strict JSON: a number that is none becomes null or "inf"."""
    write_whole(path, json.dumps(jsonable(record), indent=2, allow_nan=False) + "\n")


def jsonable(record: object) -> object:
    """The record with what strict JSON has."""
    if isinstance(record, dict):
        return {str(key): jsonable(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [jsonable(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return None if math.isnan(record) else "inf" if record > 0 else "-inf"
    return record


def digest(record: object) -> str:
    """16 hexadecimal digits that change with the record, which JSON can hold."""
    text = json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_absolute(path: epath.Path) -> epath.Path:
    """The same path, absolute; a bucket's is (etils would put it under the folder)."""
    return path if "://" in os.fspath(path) else path.absolute()


def list_files(folder: epath.Path, suffix: str) -> list[epath.Path]:
    """Files of a folder whose names end so; none where there is no folder."""
    if not folder.exists():
        return []
    # Not glob: a folder may be called "lr[0.1]".
    return [path for path in folder.iterdir() if path.name.endswith(suffix)]


def remove_abandoned(folder: epath.Path) -> None:
    """Removes what processes that were killed left half written in a folder."""
    for path in list_files(folder, ".tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

"""Files that are there whole or not at all, on a local disk or in a bucket."""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import time

from etils import epath

from scalepred.config import UserError

# What a killed process left half written may be of one that still runs elsewhere.
_ABANDONED_SECONDS = 600.0
# Nobody else ends a name so, and only such files are removed.
_UNFINISHED = ".scalepred-unfinished"

# What a PNG of ours says of itself, near its beginning.
PICTURE = {"Software": "scalepred"}
_OF_OURS = b"Software\0scalepred"
_LOOKED_AT = 4096

# Packages that read what begins so.
_BUCKETS = {
    "gs": "gcsfs",
    "s3": "s3fs",
    "az": "adlfs",
    "hf": "huggingface_hub",
}


def open_path(field: str, path: os.PathLike | str) -> epath.Path:
    """A path that a user gave, once it is known that it can be looked at.

    Args:
        field: what it was given for, as "--workdir".
        path: of a file or folder, which need not be there.

    Raises:
        UserError: it is a web address, in a bucket that cannot be reached, or a pipe
            or device.
    """
    text = os.fspath(path)
    scheme, is_remote, _ = text.partition("://")
    if not is_remote:
        kind = os.stat(text).st_mode if os.path.exists(text) else None
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise UserError(
                f"{field}={text}: is a pipe or a device; give a file or folder on disk"
            )
        return epath.Path(text)
    if scheme not in _BUCKETS:
        raise UserError(
            f"{field}={text}: nothing is read from or written to {scheme}://; give a "
            f"path on disk, or one that begins with {', '.join(_BUCKETS)} and ://"
        )
    try:
        epath.Path(text).exists()
    except ImportError:
        raise UserError(
            f"{field}={text}: the package {_BUCKETS[scheme]} is not installed; install "
            "it (pip install), or give a path on disk"
        ) from None
    except Exception as error:  # of the package, of the network, of the rights
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{field}={text}: cannot be reached ({why}); mend that, or give a path on "
            "disk"
        ) from None
    return epath.Path(text)


def write_whole(path: epath.Path, content: str | bytes) -> None:
    """Replaces a file in one move, and waits until it is on the disk.

    A process killed at any moment leaves the old file, or none, or the new one.

    Args:
        path: the file; its folder exists.
        content: text is written as UTF-8.

    Raises:
        OSError: nothing is left of the new file, the old one is as it was.
    """
    fresh = path.parent / f"{path.name}.{os.getpid()}{_UNFINISHED}"
    try:
        with fresh.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            with contextlib.suppress(io.UnsupportedOperation, AttributeError):
                os.fsync(file.fileno())  # an object in a bucket has no number
        fresh.replace(path)
    except FileNotFoundError:
        raise gone(path.parent) from None
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def check_picture(field: str, path: epath.Path) -> None:
    """Refuses a place for a picture that cannot be written, or holds the user's own.

    Args:
        field: the flag that named it.
        path: of a PNG that is going to be written.

    Raises:
        UserError: there is no such folder, or what stands there is no picture of ours.
    """
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UserError(f"{field}={path}: {why}; name a file in one that is there")
    if path.exists() and _OF_OURS not in path.read_bytes()[:_LOOKED_AT]:
        raise UserError(
            f"{field}={path}: was not drawn by scalepred, and would be replaced; move "
            "it away, or choose another name"
        )


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


def gone(folder: epath.Path) -> OSError:
    """What is raised where a folder in use is not there any more."""
    return OSError(
        errno.ESTALE, "the folder was moved or removed while in use", os.fspath(folder)
    )


class Place:
    """A workdir that may be moved away while it is in use.

    It has a config.json from the beginning; only those who write to it know that, not
    those who make folders in it.
    """

    def __init__(self, workdir: epath.Path):
        self._workdir = workdir
        self._had_config = False

    def check(self) -> None:
        """Looks whether it is still there.

        Raises:
            OSError: it was there when this was called before, and is not now.
        """
        has_config = (self._workdir / "config.json").exists()
        if self._had_config and not has_config:
            raise gone(self._workdir)
        self._had_config = has_config


def is_digest(name: str) -> bool:
    """Whether a file or folder is named by a digest, as only we name them.

    Args:
        name: without ending; 16 hexadecimal digits or more.
    """
    return re.fullmatch("[0-9a-f]{16,64}", name) is not None


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
    for path in list_files(folder, _UNFINISHED):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

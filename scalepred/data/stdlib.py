"""Bytes of the Python standard library's sources: text that every machine has.

It differs a little between versions of Python: compare runs of one version only.
"""

import pathlib
import sysconfig

from scalepred.data import text
from scalepred.data.dataset import Dataset

_WINDOW = 128
# Not everywhere installed, or not the library's own.
_LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "__pycache__",
}


def load() -> Dataset:
    """The files, each a unit, cut into train and test part by files."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    paths = [
        path
        for path in sorted(folder.rglob("*.py"))
        if not _LEFT_OUT & set(path.relative_to(folder).parts)
    ]
    units = [content for path in paths if (content := path.read_bytes())]
    arrays = text.encode("bytes", *text.cut_parts(units))
    return text.from_arrays("stdlib", arrays, _WINDOW)

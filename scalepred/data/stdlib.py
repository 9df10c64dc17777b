"""Bytes of the Python standard library's sources: text that every machine has.

It differs a little between versions of Python: compare runs of one version only.
`stdlib:handwritten` leaves out the tables that programs wrote, an eighth of all: they
are much alike, so that a model knows most of one once it has read some others.
"""

import pathlib
import sysconfig

from scalepred.config import UserError
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
_GENERATED = {"encodings", "pydoc_data"}


def load(variant: str = "") -> Dataset:
    """The files, each a unit, cut into train and test part by files.

    Args:
        variant: handwritten, or nothing: all files.

    Raises:
        UserError: another variant.
    """
    if variant not in ("", "handwritten"):
        raise UserError(
            f"dataset=stdlib:{variant}: must be stdlib or stdlib:handwritten"
        )
    left_out = _LEFT_OUT | (_GENERATED if variant else set())
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    paths = [
        path
        for path in sorted(folder.rglob("*.py"))
        if not left_out & set(path.relative_to(folder).parts)
    ]
    units = [content for path in paths if (content := path.read_bytes())]
    arrays = text.encode("bytes", *text.cut_parts(units))
    name = f"stdlib_{variant}" if variant else "stdlib"
    return text.from_arrays(name, arrays, _WINDOW)

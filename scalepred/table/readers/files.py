"""A file of runs, read by what it holds and not by how it is called."""

import importlib
import io
import re
from typing import Any

from etils import epath

from scalepred.config import UserError
from scalepred.table.readers import csv, events, frame, nested, records, wandb
from scalepred.table.readers.raw import Raw
from scalepred.table.rows import Table, has_parts

_EVENTS = "tfevents"
_WANDB_CONFIG = ("_wandb:", "wandb_version:")  # how its config.yaml begins


def read(path: epath.Path) -> Raw:
    """The rows of a file.

    Raises:
        UserError: there is none, or nobody here can read it.
    """
    if path.is_dir():
        raise UserError(f"measurements={path}: a folder; give a file")
    if not path.exists():
        raise UserError(f"measurements={path}: there is no such file")
    if path.name == "measurements.csv" and has_parts(path):
        table = Table(path)  # which may be ahead of its view
        raw = csv.parse(path, table.as_csv().decode())
        return raw._replace(notes=tuple(table.notes))
    content = path.read_bytes()
    if not content.strip():
        raise UserError(
            f"{path}: the file is empty; it needs columns params, data, value"
        )
    if content[:4] == b"PAR1":
        return _read_parquet(path, content)
    if content[:4] == b"PK\x03\x04":
        raise UserError(f"{path}: a workbook or an archive; save its sheet as CSV")
    if content[:4] == wandb.MAGIC:
        return wandb.parse(path, content)
    if _EVENTS in path.name:
        return events.parse(path, content)
    text = _decode(path, content)
    if records.is_json(text):
        return records.parse(path, text)
    if text.startswith(_WANDB_CONFIG):
        raise UserError(f"{path}: {wandb.ONE_RUN}")
    raw = csv.parse(path, text)
    return raw._replace(rows=nested.expand(raw.rows))


# Characters that no text has.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _decode(path: epath.Path, content: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 or what spreadsheets on Windows write."""
    encoding = "utf-8-sig"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in content[:4096]:
        raise UserError(f"{path}: not a text file; it must be a CSV")
    for tried in (encoding, "cp1252"):
        try:
            text = content.decode(tried)
        except UnicodeDecodeError:
            continue
        if tried == encoding or not _CONTROL.search(text):
            return text
    raise UserError(f"{path}: not a text file in UTF-8 or UTF-16; it must be a CSV")


def _read_parquet(path: epath.Path, content: bytes) -> Raw:
    for name in ("pyarrow.parquet", "polars"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        try:
            if name == "polars":
                table = module.read_parquet(io.BytesIO(content))
            else:
                table = module.read_table(io.BytesIO(content)).to_pydict()
        except Exception as error:  # whatever the package raises of a broken file
            raise UserError(f"{path}: not a whole parquet file ({error})") from None
        return frame.parse(table, path)._replace(kind="parquet")
    raise UserError(
        f"{path}: reading parquet takes pyarrow; pip install 'scalepred[parquet]', or "
        "save it as CSV"
    )

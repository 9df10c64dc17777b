"""The file that W&B writes while a run goes on (`run-ID.wandb`): what the run logged.

A file is a log of LevelDB: seven bytes of its own, then blocks of 32 KiB, in which a
record is one chunk or several: a checksum (4 bytes), a length (2), the kind of chunk
(1). A record is a `Record` in protocol buffers, of which one field counts: history (2)
has items (1), each with a key (1) or the parts of one (2), and a value in JSON (16).
Source: wandb/sdk/internal/datastore.py, wandb/proto/wandb_internal.proto.
"""

import json
import struct
from collections.abc import Iterator

from scalepred.config import UserError
from scalepred.table.readers import nested
from scalepred.table.readers.protobuf import fields, messages
from scalepred.table.readers.raw import Raw

MAGIC = b":W&B"
ONE_RUN = (
    "what W&B keeps of one run, a single point; export the table of runs, with columns "
    "for parameters, data and the loss, or the history of the run"
)
_HEAD, _BLOCK, _CHUNK = 7, 2**15, 7  # bytes: of the file, of a block, before a chunk
_WHOLE, _LAST = 1, 4  # kinds of chunk that end a record
_HISTORY, _VALUE = 2, 16  # fields


def parse(path: object, content: bytes) -> Raw:
    """Rows of what was logged together, a column a key.

    Raises:
        UserError: it holds no history.
    """
    try:
        logged = [*_history(content)]
    except (ValueError, IndexError, struct.error, RecursionError) as error:
        raise UserError(f"{path}: not a whole file of W&B ({error})") from None
    if not logged:
        raise UserError(f"{path}: a run of W&B that logged nothing; give one that did")
    return Raw(nested.as_rows(logged), "a run of W&B")


def _history(content: bytes) -> Iterator[dict[str, object]]:
    """Keys and values of every step that was logged."""
    for record in _records(content):
        for history in messages(record, _HISTORY):
            logged: dict[str, object] = {}
            for item in messages(history, 1):
                key, value = _read_item(item)
                logged[key] = json.loads(value)
            yield logged


def _read_item(item: bytes) -> tuple[str, bytes]:
    parts, value = [], b"null"
    for field, data in fields(item):
        if isinstance(data, bytes) and field in (1, 2):
            parts.append(data.decode())
        elif isinstance(data, bytes) and field == _VALUE:
            value = data
    return ".".join(filter(None, parts)), value


def _records(content: bytes) -> Iterator[bytes]:
    """Whole records. A run that was killed ends in mid-record."""
    at, record = _HEAD, b""
    while at + _CHUNK <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _CHUNK:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        at += _CHUNK
        record += content[at : at + length]
        if at + length > len(content):
            return
        at += length
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""

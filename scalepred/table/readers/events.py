"""Event files of TensorBoard: the scalars of a run, a row a step.

A file is a row of records: length (8 bytes), a checksum (4), an `Event` in protocol
buffers, a checksum (4). Of an event three fields count: step (2), and in its summary
(5) the values (1), each with a tag (1) and a simple value (2) or a tensor (8), which
holds floats (5) or their bytes (4).
Source: tensorflow/core/lib/io/record_writer.cc, core/util/event.proto,
core/framework/summary.proto and tensor.proto.
"""

import struct
from collections.abc import Iterator

from scalepred.config import UserError
from scalepred.table.readers.raw import Raw

_HEAD, _TAIL = 12, 4  # bytes about a record
_DOUBLE = 2  # the type of a tensor of doubles
# Sizes of what is no varint and has no length of its own, by wire type.
_FIXED = {1: 8, 5: 4}

_Field = tuple[int, int | bytes]


def parse(path: object, content: bytes) -> Raw:
    """Rows with a column `step`, and one for each tag.

    Raises:
        UserError: it holds no scalars.
    """
    rows: dict[int, dict[str, str]] = {}
    tags: dict[str, None] = {}
    try:
        for step, tag, value in _scalars(content):
            rows.setdefault(step, {})[tag] = f"{value:.8g}"
            tags[tag] = None
    except (ValueError, IndexError, struct.error) as error:
        raise UserError(
            f"{path}: not a whole event file of TensorBoard ({error})"
        ) from None
    if not rows:
        raise UserError(
            f"{path}: an event file of TensorBoard without scalars; give one that has "
            "some, or a table"
        )
    return Raw(
        [
            (number, {"step": str(step), **{tag: row.get(tag, "") for tag in tags}})
            for number, (step, row) in enumerate(sorted(rows.items()), start=1)
        ],
        "an event file of TensorBoard",
    )


def _scalars(content: bytes) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of every scalar. A run that was killed ends in mid-record."""
    at = 0
    while at + _HEAD <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        record = content[at + _HEAD : at + _HEAD + length]
        if len(record) < length:
            return
        at += _HEAD + length + _TAIL
        step, summaries = 0, []
        for field, data in _fields(record):
            if field == 2 and isinstance(data, int):
                step = data
            elif field == 5 and isinstance(data, bytes):
                summaries.append(data)
        for summary in summaries:
            for field, data in _fields(summary):
                if field == 1 and isinstance(data, bytes):
                    tag, value = _read_value(data)
                    if value is not None:
                        yield step, tag, value


def _read_value(content: bytes) -> tuple[str, float | None]:
    """Tag and number; no number where it is a picture, a text or a histogram."""
    tag, value = "", None
    for field, data in _fields(content):
        if not isinstance(data, bytes):
            continue
        if field == 1:
            tag = data.decode()
        elif field == 2:
            (value,) = struct.unpack("<f", data)
        elif field == 8:
            value = _read_tensor(data)
    return tag, value


def _read_tensor(content: bytes) -> float | None:
    """The number of a tensor of one float or double."""
    fields = dict(_fields(content))
    data = next((fields[name] for name in (5, 6, 4) if name in fields), None)
    if not isinstance(data, bytes) or fields.get(1) not in (1, _DOUBLE):
        return None
    form = "<d" if fields.get(1) == _DOUBLE else "<f"
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else None


def _fields(content: bytes) -> Iterator[_Field]:
    """Number and content of each field of a message."""
    at = 0
    while at < len(content):
        key, at = _read_number(content, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            number, at = _read_number(content, at)
            yield field, number
            continue
        size = _FIXED.get(kind)
        if kind == 2:
            size, at = _read_number(content, at)
        if size is None or at + size > len(content):
            raise ValueError(f"byte {at} of a record")
        yield field, content[at : at + size]
        at += size


def _read_number(content: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; and where it ends."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return number, at

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
from scalepred.table.readers.protobuf import fields, messages
from scalepred.table.readers.raw import Raw

_HEAD, _TAIL = 12, 4  # bytes about a record
_DOUBLE = 2  # the type of a tensor of doubles


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
        for field, data in fields(record):
            if field == 2 and isinstance(data, int):
                step = data
            elif field == 5 and isinstance(data, bytes):
                summaries.append(data)
        for summary in summaries:
            for data in messages(summary, 1):
                tag, value = _read_value(data)
                if value is not None:
                    yield step, tag, value


def _read_value(content: bytes) -> tuple[str, float | None]:
    """Tag and number; no number where it is a picture, a text or a histogram."""
    tag, value = "", None
    for field, data in fields(content):
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
    held = dict(fields(content))
    data = next((held[name] for name in (5, 6, 4) if name in held), None)
    if not isinstance(data, bytes) or held.get(1) not in (1, _DOUBLE):
        return None
    form = "<d" if held.get(1) == _DOUBLE else "<f"
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else None

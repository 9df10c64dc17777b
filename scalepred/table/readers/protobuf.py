"""Messages in protocol buffers: what is in them by the numbers of their fields.

Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

# Sizes of what is no varint and has no length of its own, by wire type.
_FIXED = {1: 8, 5: 4}

Field = tuple[int, int | bytes]


def fields(content: bytes) -> Iterator[Field]:
    """Number and content of each field of a message.

    Raises:
        ValueError: a field is cut short, or of a kind that nobody writes.
        IndexError: a number is.
    """
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


def messages(content: bytes, wanted: int) -> Iterator[bytes]:
    """What the fields of one number hold."""
    for field, data in fields(content):
        if field == wanted and isinstance(data, bytes):
            yield data


def _read_number(content: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; and where it ends."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return number, at

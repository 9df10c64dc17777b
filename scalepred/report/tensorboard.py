"""Scalars in the file format that TensorBoard reads, written without TensorFlow.

A file is a row of records: length (8 bytes), a checksum of it (4), an `Event` in
protocol buffers, a checksum of that (4).
Source: tensorflow/core/lib/io/record_writer.cc and core/util/event.proto.
"""

import struct
from collections.abc import Iterable

# CRC-32C (Castagnoli) of every byte, reflected.
_POLYNOMIAL = 0x82F63B78


def _make_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _make_table()


def format_events(tag: str, points: Iterable[tuple[float, int, float]]) -> bytes:
    """An event file of one scalar.

    Args:
        tag: its name.
        points: wall time in seconds, step, value.
    """
    version = _encode(3, b"brain.Event:2")
    records = [struct.pack("<Bd", 1 << 3 | 1, 0.0) + version]
    for wall_time, step, value in points:
        scalar = _encode(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value)
        summary = _encode(5, _encode(1, scalar))
        time_and_step = struct.pack("<Bd", 1 << 3 | 1, wall_time) + bytes([2 << 3])
        records.append(time_and_step + _encode_number(step) + summary)
    return b"".join(map(_frame, records))


def _frame(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + _checksum(length) + record + _checksum(record)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as the format asks for."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _encode(field: int, content: bytes) -> bytes:
    """A field of bytes."""
    return bytes([field << 3 | 2]) + _encode_number(len(content)) + content


def _encode_number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

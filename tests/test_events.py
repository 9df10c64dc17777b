"""Event files of TensorBoard: what is written is read, whole, cut short or damaged."""

import contextlib
import struct

import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from scalepred.config import UserError
from scalepred.report import tensorboard
from scalepred.table.readers import events
from scalepred.table.surface import Surface

_STEPS = range(0, 1300, 100)
_NAME = "events.out.tfevents.1700000000.host"


def _curve() -> list[tuple[float, int, float]]:
    return [(1.7e9 + step, step, 2 + 30 * max(step, 1) ** -0.5) for step in _STEPS]


def _with_tensor(tag: str, step: int, kind: int, content: bytes) -> bytes:
    """A record whose value is a tensor, as TensorFlow writes scalars."""
    encode = tensorboard._encode
    tensor = bytes([1 << 3, kind]) + content
    value = encode(1, tag.encode()) + encode(8, tensor)
    event = struct.pack("<Bd", 1 << 3 | 1, 1.7e9) + bytes([2 << 3])
    event += tensorboard._encode_number(step) + encode(5, encode(1, value))
    return tensorboard._frame(event)


def test_a_run_is_a_curve_along_its_steps(tmp_path):
    path = tmp_path / _NAME
    path.write_bytes(tensorboard.format_events("eval/loss", _curve()))
    surface = Surface.from_csv(path)
    assert len(surface) == 12  # without step 0
    assert surface.data_unit == "steps"
    assert surface.metric == "loss"
    np.testing.assert_allclose(surface.value, 2 + 30 * surface.data**-0.5, rtol=1e-6)
    assert "event file of TensorBoard" in " ".join(surface.notes)


def test_tags_are_columns_and_steps_are_rows():
    content = tensorboard.format_events("a", [(0, 300, 1.5), (0, 5, 2.5)])
    content += tensorboard.format_events("b", [(0, 300, 0.25)])
    rows = events.parse("x", content).rows
    assert [row for _, row in rows] == [
        {"step": "5", "a": "2.5", "b": ""},
        {"step": "300", "a": "1.5", "b": "0.25"},
    ]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (1, tensorboard._encode(5, struct.pack("<f", 1.5))),  # packed floats
        (1, tensorboard._encode(4, struct.pack("<f", 1.5))),  # their bytes
        (2, tensorboard._encode(4, struct.pack("<d", 1.5))),
    ],
)
def test_tensors_of_one_number_are_scalars(kind, content):
    rows = events.parse("x", _with_tensor("loss", 7, kind, content)).rows
    assert rows == [(1, {"step": "7", "loss": "1.5"})]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (7, tensorboard._encode(8, b"a text")),
        (1, tensorboard._encode(4, struct.pack("<3f", 1, 2, 3))),
    ],
)
def test_what_is_no_number_is_no_scalar(kind, content):
    with pytest.raises(UserError, match="without scalars"):
        events.parse("x", _with_tensor("text", 7, kind, content))


def test_a_run_that_was_killed_keeps_its_whole_records():
    content = tensorboard.format_events("loss", _curve())
    assert len(events.parse("x", content[:-3]).rows) == len(_STEPS)
    assert len(events.parse("x", content[:-30]).rows) == len(_STEPS) - 1


@given(cut=st.integers(0, 600), damage=st.binary(max_size=8), at=st.integers(0, 600))
def test_damage_is_rows_or_one_sentence(cut, damage, at):
    content = bytearray(tensorboard.format_events("loss", _curve()))
    content[at : at + len(damage)] = damage
    with contextlib.suppress(UserError):  # and nothing else
        assert events.parse("x", bytes(content[: len(content) - cut])).rows


def test_a_file_without_scalars_is_told(tmp_path):
    path = epath.Path(tmp_path / _NAME)
    path.write_bytes(tensorboard.format_events("loss", []))
    with pytest.raises(UserError, match="without scalars"):
        Surface.from_csv(path)

"""Streamed data: the rows of resident training, bit for bit, of less memory."""

import dataclasses
import importlib.util
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from scalepred import config, dry_run, grid
from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.files import Joined
from scalepred.data.loading import load_dataset
from scalepred.forecasting.parts import Parts, Study
from scalepred.table.rows import Measurement
from scalepred.training import cost, device_data, ensemble, lane_axis
from scalepred.training.plan import Plan

DEVICES = jax.devices()


def _images(count=260) -> Dataset:
    random = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % 4
    images = random.integers(0, 200, (count, 8, 8, 3), dtype=np.uint8)
    images[..., 0] += (labels * 12).astype(np.uint8)[:, None, None]
    return Dataset(
        name="images",
        inputs=images,
        labels=labels,
        num_classes=4,
        num_train=200,
        prepare=lambda images: images / 127.5 - 1,
    )


def _text() -> Dataset:
    """Of 300 words, so that tokens have 16 bits."""
    tokens = np.random.default_rng(0).integers(300, size=1201).astype(np.uint16)
    return Dataset(
        name="text",
        inputs=tokens[:-1].reshape(150, 8),
        labels=tokens[1:].reshape(150, 8),
        num_classes=300,
        num_train=110,
        has_fixed_test=True,
        unit="words",
        stretch=3,
    )


@dataclasses.dataclass(frozen=True)
class Case:
    dataset: Dataset
    experiment: config.Experiment
    rows: int  # a device has room for

    @property
    def cells(self) -> list[grid.Cell]:
        return grid.make_cells(self.experiment, self.dataset)

    def plan(self, stream="false", done=()) -> Plan:
        self.experiment.packing.stream = stream
        return ensemble.plan_cells(
            self.experiment, self.dataset, self.cells, done=done, devices=DEVICES
        )


def _case(dataset, family, rows, shape, lane_axis="map", **training) -> Case:
    widths, depth = shape
    settings = {"learning_rate": 0.02, "epochs": 2, "batch_size": 8, **training}
    experiment = config.Experiment(
        name="x",
        dataset=dataset.name,
        family=family,
        metric="loss",
        grid=config.Grid(
            widths=widths, depths=(depth,), data_fractions=(0.2, 0.7), seeds=3
        ),
        training=config.Training(**settings),
        packing=config.Packing(lanes=2, lane_axis=lane_axis, width_bucket=2.0),
    )
    return Case(dataset, experiment, rows)


CASES = {
    "crop_flip": _case(_images(), "mlp", 97, ((4, 8), 1), "vmap", augment="crop_flip"),
    "micro": _case(_images(), "mlp", 100, ((4,), 1), micro_batch_size=4),
    "text": _case(_text(), "awd_lstm_small", 96, ((4,), 2), optimizer="adam"),
}


@pytest.fixture(params=CASES)
def case(request, monkeypatch) -> Case:
    """Devices have memory for the models, and of the data for so many rows."""
    case = CASES[request.param]
    monkeypatch.setattr(device_data, "_HELD", _held(case))
    monkeypatch.setattr(device_data, "count_bytes", lambda *_: 0)
    return case


def _held(case: Case) -> float:
    memory = cost.describe_machine(DEVICES[0]).memory_bytes
    return (case.rows + 0.5) * device_data.row_bytes(case.dataset) / memory


def _train(case: Case, plan: Plan, **kwargs):
    yield from ensemble.train(plan, case.dataset, devices=DEVICES, **kwargs)


def _losses(row: Measurement) -> tuple[float, float]:
    """On the test part and on its own examples; they differ where errors may not."""
    return row.read("loss"), row.read("loss", "train")


def _values(news) -> dict:
    return {
        row.cell_id: (*_losses(row), row.status, row.program)
        for each in news
        for row in each.rows
    }


def test_rows_are_those_of_resident_data(case):
    plan = case.plan("true")
    (pack,) = plan.packs
    assert pack.stream_rows == case.rows < len(case.dataset.labels)
    assert len(pack.queue) > pack.lanes  # some are refilled
    expected = _values(_train(case, case.plan("false")))
    assert len(expected) == len(case.cells)
    assert len({values[0] for values in expected.values()}) == len(expected)
    before = lane_axis.traces.total()
    assert _values(_train(case, plan)) == expected
    assert lane_axis.traces.total() == before + 1


@pytest.mark.parametrize("case", ["micro"], indirect=True)
def test_stopped_training_goes_on_with_the_same_rows(case, tmp_path):
    expected = _values(_train(case, case.plan("false")))
    saving = {"checkpoint_dir": tmp_path / "saved", "checkpoint_minutes": 1e-9}
    news = _train(case, case.plan("true"), **saving)
    found = _values([next(news)])
    news.close()
    left = sum(c.steps for c in case.cells if c.cell_id not in found)
    last = None
    for last in _train(case, case.plan("true", set(found)), **saving):
        found.update(_values([last]))
    assert found == expected
    assert last is not None
    assert last.live_lane_steps < left  # what was begun went on


@pytest.mark.parametrize("case", ["micro"], indirect=True)
def test_devices_that_share_batches_are_streamed_to(case):
    found = []
    for stream in ("false", "true"):
        plan = case.plan(stream)
        pack = dataclasses.replace(
            plan.packs[0],
            num_devices=1,
            lanes=1,
            data_shards=2,
            queue=plan.packs[0].queue[-2:],
        )
        plan = dataclasses.replace(plan, packs=(pack,))
        found.append(_values(_train(case, plan)))
    assert found[0] == found[1]
    assert len(found[0]) == 2


class _Counted:
    """An array that counts the rows read of it."""

    def __init__(self, array):
        self.array, self.most, self.total = array, 0, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        rows = self.array[index]
        self.most = max(self.most, len(rows))
        self.total += len(rows)
        return rows


@pytest.mark.parametrize("case", ["crop_flip"], indirect=True)
def test_data_are_read_by_rows_and_what_is_held_is_not_read_again(case):
    counted: Any = _Counted(case.dataset.inputs)
    dataset = dataclasses.replace(case.dataset, inputs=counted)
    plan = case.plan("true")
    # A few examples, seen again and again.
    (pack,) = plan.packs
    cells = [dataclasses.replace(c, dataset_size=8, steps=50) for c in pack.queue[:2]]
    plan = dataclasses.replace(
        plan, packs=(dataclasses.replace(pack, queue=tuple(cells)),)
    )
    assert list(ensemble.train(plan, dataset, devices=DEVICES))
    assert 0 < counted.most < case.rows
    drawn = 50 * 8 * len(cells)
    scored = len(cells) * (60 + 8)
    assert counted.total < scored + 50 < drawn


def test_mapped_arrays_stay_mapped(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        f"{part}_x": random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        for part, count in (("train", 30), ("test", 12))
    }
    arrays |= {"train_y": np.arange(30) % 3, "test_y": np.arange(12) % 3}
    np.savez(tmp_path / "small.npz", **arrays)  # pyright: ignore[reportArgumentType]
    dataset = load_dataset(str(tmp_path / "small.npz"))
    assert isinstance(dataset.inputs, Joined)
    assert all(isinstance(part, np.memmap) for part in dataset.inputs.parts)
    whole = np.concatenate([arrays["train_x"], arrays["test_x"]])
    for index in (np.array([41, 0, 30, 29, 0]), slice(28, 33), -1, (..., 0)):
        np.testing.assert_array_equal(dataset.inputs[index], whole[index])
    np.testing.assert_array_equal(dataset.inputs, whole)


def test_what_does_not_fit_is_streamed(monkeypatch, capsys):
    dataset = _images()
    size = 260 * device_data.row_bytes(dataset)
    assert size == 260 * (8 * 8 * 3 + 4)
    assert device_data.choose_rows(dataset, 2 * size, "auto") == 0
    assert device_data.choose_rows(dataset, 2 * size - 1, "auto") == 129
    assert device_data.choose_rows(dataset, 9 * size, "true") == 260
    assert device_data.choose_rows(dataset, size, "false") == 0

    case = CASES["crop_flip"]
    plan = case.plan("auto")
    assert not plan.is_streamed
    machine = dataclasses.replace(cost.CPU, memory_bytes=1.9 * size)
    monkeypatch.setattr(cost, "describe_machine", lambda *_: machine)
    plan = case.plan("auto")
    (pack,) = plan.packs
    assert pack.stream_rows == 123
    assert pack.max_chunk_steps * pack.lanes // pack.num_devices * 8 <= 123
    # What is left for lanes: all but the rows, those on their way, and where they are.
    taken = 2 * 123 * device_data.row_bytes(dataset) + 4 * 260
    assert device_data.count_bytes(dataset, 123) == taken < size
    parts = Parts(case.cells, [], [])
    dry_run.print_plan(Study(case.experiment, dataset, parts, epath.Path("nowhere")))
    said = capsys.readouterr().out
    assert "a device holds 123 of 260 examples at a time" in said
    assert "time: about" in said


def test_a_batch_too_large_for_the_memory_is_told(monkeypatch):
    case = CASES["crop_flip"]
    monkeypatch.setattr(device_data, "_HELD", 1e-9)
    with pytest.raises(UserError, match=r"room for \d+ examples at a time.*batch_size"):
        case.plan("true")


def test_missing_grain_is_told(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "grain" else find(name),
    )
    CASES["crop_flip"].plan("auto")
    with pytest.raises(UserError, match=r"pip install 'scalepred\[stream\]'"):
        CASES["crop_flip"].plan("true")

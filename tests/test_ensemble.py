"""Lanes side by side: no result depends on what else is trained, or where, or when."""

import collections
import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from scalepred import config, grid
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset
from scalepred.table.rows import Measurement
from scalepred.training import (
    chunks,
    cost,
    device_data,
    engine,
    ensemble,
    lane_axis,
    packing,
    trials,
)
from scalepred.training import program as program_lib
from scalepred.training.chunks import predict_utilization
from scalepred.training.plan import Plan

DATASET = load_dataset("digits")
DEVICES = jax.devices()


def _experiment(**changes) -> config.Experiment:
    experiment = config.Experiment(
        name="x",
        grid=config.Grid(
            widths=(6,),
            depths=(1,),
            data_fractions=(1 / 64, 1 / 32, 1 / 16),
            seeds=4,
        ),
        training=config.Training(learning_rate=0.1, epochs=8, batch_size=16),
        packing=config.Packing(lanes=4, width_bucket=1.0),
    )
    for path, value in changes.items():
        section, field = path.split("__")
        setattr(getattr(experiment, section), field, value)
    return experiment


CELLS = grid.make_cells(_experiment(), DATASET)


def _train(
    cells,
    axis="vmap",
    lanes=4,
    devices=DEVICES,
    chunk_steps=0,
    data_shards=1,
    turns=1,
    block_steps=1,
):
    """Rows by cell, trained in one pack of exactly `lanes` lanes a turn and device."""
    wishes = config.Packing(lanes=lanes, chunk_steps=chunk_steps)
    plan = packing.plan_packs(cells, wishes, len(devices), axis)
    groups = len(devices) // data_shards
    packs = tuple(
        dataclasses.replace(
            pack,
            lanes=turns * lanes * groups,
            num_devices=groups,
            data_shards=data_shards,
            turns=turns,
            block_steps=block_steps,
        )
        for pack in plan.packs
    )
    plan = dataclasses.replace(plan, packs=packs)
    rows: dict[str, Measurement] = {}
    for progress in ensemble.train(plan, DATASET, devices=devices):
        rows.update((row.cell_id, row) for row in progress.rows)
    assert set(rows) == {cell.cell_id for cell in cells}
    return rows


def _values(row: Measurement) -> tuple[float, float]:
    return row.value, row.train_value


@pytest.fixture(scope="module", params=["vmap", "map"])
def axis(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def full(axis) -> dict[str, Measurement]:
    """All twelve cells in eight lanes of two devices: some are refilled."""
    return _train(_losses(CELLS), axis)


@pytest.mark.parametrize(("block_steps", "chunk_steps"), [(4, 0), (16, 7), (3, 30)])
def test_blocks_of_steps_change_nothing(full, axis, block_steps, chunk_steps):
    """Runs of 10, 20 and 40 steps; some end within a block, some chunks do."""
    rows = _train(
        _losses(CELLS), axis, block_steps=block_steps, chunk_steps=chunk_steps
    )
    for cell_id, row in rows.items():
        assert _values(row) == pytest.approx(_values(full[cell_id]), rel=2e-5)


def _losses(cells):
    """The loss shows the last bit; an error is one of 518 numbers."""
    return [dataclasses.replace(cell, metric="loss") for cell in cells]


def test_rows_say_what_was_done(full, axis):
    cell = _losses(CELLS)[0]
    row = full[cell.cell_id]
    assert row.status == "ok"
    assert (row.width, row.depth, row.data, row.seed) == (6, 1, 20, 0)
    assert (row.task, row.family, row.metric) == ("digits", "mlp", "loss")
    assert row.steps == 10
    assert row.epochs == 8
    assert row.params == row.params_total == 64 * 6 + 6 + 60 + 10
    assert row.flops == pytest.approx(3 * 2 * row.params * 160, rel=0.2)
    assert row.data_unit == "images"
    assert row.program.endswith(f"{axis}8")
    assert 0 < row.seconds < 60
    assert 0 < row.train_value < row.value < 5


def test_a_cell_alone_equals_the_cell_in_a_full_pack(full, axis):
    for cell in _losses(CELLS)[5::6]:
        row = _train([cell], axis)[cell.cell_id]
        assert _values(row) == _values(full[cell.cell_id])


def test_order_and_refill_do_not_matter(full, axis):
    """Other cells first, so that every cell stands elsewhere and starts later."""
    cells = _losses(CELLS)
    others = [dataclasses.replace(c, seed=c.seed + 9, steps=90) for c in cells[:9]]
    rows = _train(others + cells[::-1], axis)
    for cell in cells:
        assert _values(rows[cell.cell_id]) == _values(full[cell.cell_id])


def test_chunk_length_does_not_matter(full, axis):
    rows = _train(_losses(CELLS), axis, chunk_steps=3)
    for cell_id, row in rows.items():
        assert _values(row) == _values(full[cell_id])


def test_turns_do_not_matter(full, axis):
    """Lanes that step after the others, and are refilled, change no bit."""
    cells = _losses(CELLS)
    others = [dataclasses.replace(c, seed=c.seed + 9, steps=90) for c in cells]
    rows = _train(others + cells, axis, turns=2)
    for cell in cells:
        assert rows[cell.cell_id].program == full[cell.cell_id].program
        assert _values(rows[cell.cell_id]) == _values(full[cell.cell_id])


def test_lanes_and_devices_change_rounding_only(full, axis):
    rows = _train(_losses(CELLS), axis, 3, DEVICES[:1])
    for cell_id, row in rows.items():
        assert _values(row) == pytest.approx(_values(full[cell_id]), rel=1e-3)


def test_map_equals_vmap_up_to_rounding(full):
    for cell_id, row in _train(_losses(CELLS), "map").items():
        assert _values(row) == pytest.approx(_values(full[cell_id]), rel=1e-3)


def test_a_cell_that_diverges_is_a_row_and_disturbs_nobody(full, axis):
    cells = _losses(CELLS)
    bad = dataclasses.replace(cells[7], learning_rate=1e38)
    rows = _train([*cells, bad], axis)
    row = rows[bad.cell_id]
    assert row.status == "diverged"
    assert math.isnan(row.value)
    assert math.isnan(row.train_value)
    for cell in cells:
        assert _values(rows[cell.cell_id]) == _values(full[cell.cell_id])


def test_a_cell_that_diverges_gives_up_its_lane(axis, monkeypatch):
    """Its row and its curve are those of a run that went on to its end."""
    cells = _losses(CELLS)
    bad = [
        dataclasses.replace(cell, learning_rate=1e38, steps=2000) for cell in cells[:5]
    ]
    cells += bad
    plan = packing.plan_packs(
        cells, config.Packing(lanes=4, chunk_steps=3), len(DEVICES), axis
    )

    def train():
        rows, curves, last = {}, {}, None
        for last in ensemble.train(plan, DATASET, devices=DEVICES):
            rows.update((row.cell_id, row) for row in last.rows)
            curves.update(last.curves)
        assert last is not None
        assert last.num_done == last.num_cells == len(rows) == len(cells)
        return rows, curves, last.live_lane_steps

    rows, curves, num_steps = train()
    with monkeypatch.context() as without:
        without.setattr(chunks._Lanes, "give_up", lambda *_: ())
        whole_rows, whole_curves, all_steps = train()
    assert all_steps == sum(cell.steps for cell in cells)
    assert num_steps < all_steps - 5 * 1900
    for cell in cells:
        row, whole = rows[cell.cell_id], whole_rows[cell.cell_id]
        same = dataclasses.replace(row, seconds=whole.seconds)
        assert str(same) == str(whole)
        assert row.status == ("diverged" if cell in bad else "ok")
        curve = curves[cell.cell_id]
        for left, right in zip(curve, whole_curves[cell.cell_id], strict=True):
            np.testing.assert_array_equal(left, right)
        assert np.isfinite(curve.losses[0])
        assert np.isnan(curve.losses[-1]) == (cell in bad)


def test_one_trace_a_program():
    experiment = _experiment(grid__widths=(2, 3))
    cells = grid.make_cells(experiment, DATASET)
    # Numbers of a lane are no reason to compile again.
    more = [dataclasses.replace(c, learning_rate=0.2, steps=7) for c in cells]
    more += [dataclasses.replace(c, weight_decay=0.1, momentum=0.0) for c in cells]
    before = collections.Counter(lane_axis.traces)
    plan = ensemble.plan_cells(experiment, DATASET, cells + more)
    last = None
    for progress in ensemble.train(plan, DATASET):
        last = progress
    assert last is not None
    new = lane_axis.traces - before
    assert len(new) == 2
    assert set(new.values()) == {1}
    assert last.num_programs == 2
    assert last.num_done == last.num_cells == 3 * len(cells)
    assert last.live_lane_steps == sum(cell.steps for cell in cells + more)
    assert last.lane_utilization == pytest.approx(predict_utilization(plan))


def test_a_resumed_study_gives_the_same_rows(axis):
    """Rows that exist are not trained again, and the others do not change a bit."""
    experiment = _experiment(packing__lane_axis=axis)
    experiment.metric = "loss"
    cells = grid.make_cells(experiment, DATASET)
    rows: dict[str, Measurement] = {}
    for progress in ensemble.train(
        ensemble.plan_cells(experiment, DATASET, cells), DATASET
    ):
        rows.update((row.cell_id, row) for row in progress.rows)
    done = set(list(rows)[:7])
    plan = ensemble.plan_cells(experiment, DATASET, cells, done=done)
    again = [row for news in ensemble.train(plan, DATASET) for row in news.rows]
    assert {row.cell_id for row in again} == set(rows) - done
    for row in again:
        assert _values(row) == _values(rows[row.cell_id])
        assert row.program == rows[row.cell_id].program


def _compile(axis, **changes):
    """A program of two widths, eight lanes on two devices, its pack, and its orders."""
    experiment = _experiment(
        grid__widths=(6, 8), packing__lane_axis=axis, packing__width_bucket=2.0
    )
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells)
    (pack,) = plan.packs
    pack = dataclasses.replace(pack, **changes)
    data, order = device_data.put_data(plan, DATASET, DEVICES)
    return pack, engine.compile_pack(pack, DATASET, data, DEVICES), order


@pytest.fixture(scope="module")
def compiled(axis):
    return _compile(axis)


def test_no_device_speaks_to_another_or_to_the_host(compiled):
    """A chunk is one program: no collective, no callback, nothing fed in or out."""
    text = compiled[1].step_lanes.as_text()
    assert "while" in text
    for word in (
        "all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter",
        "infeed", "outfeed", "callback", "send(", "recv(",
    ):  # fmt: skip
        assert word not in text


def test_a_block_has_a_known_length_and_draws_once(axis):
    """Of the loops in a step the compiler knows the length, so no host is asked."""
    if axis == "map":
        pytest.skip("only lanes side by side take blocks")
    pack, _, _ = _compile(axis)
    text = _compile(axis, block_steps=7)[1].step_lanes.as_text()
    lengths = re.findall(r'known_trip_count":\{"n":"(\d+)"', text)
    assert "7" in lengths
    # Chunks hold blocks, these hold steps; the third walks to where it draws.
    assert text.count(" while(") == len(lengths) + 2
    assert pack.block_steps == 1  # a CPU asks nobody


def _plan_large_steps():
    experiment = _experiment(
        grid__widths=(512,), grid__data_fractions=(1.0,), training__batch_size=256
    )
    plan = ensemble.plan_cells(
        experiment, DATASET, grid.make_cells(experiment, DATASET)
    )
    assert plan.packs[0].step_flops > engine._SMALL_STEP_FLOPS
    return plan


@pytest.mark.parametrize("cores", [len(DEVICES), len(DEVICES) + 1])
def test_large_steps_share_no_loop_if_every_core_has_a_device(cores, monkeypatch):
    if DEVICES[0].platform != "cpu":
        pytest.skip("what the CPU compiler does to loops")
    monkeypatch.setattr(cost, "num_cores", lambda: cores)
    plan = _plan_large_steps()
    (pack,) = plan.packs
    data, _ = device_data.put_data(plan, DATASET, DEVICES)
    built = engine.compile_pack(pack, DATASET, data, DEVICES)
    shared = 'outer_dimension_partitions":["' in built.step_lanes.as_text()
    assert shared == (cores > len(DEVICES))


@pytest.mark.parametrize(
    ("seconds", "steps_hurried", "scores_hurried"),
    [(1.0, True, True), (10.0, False, True), (100.0, False, False)],
)
def test_what_runs_briefly_is_compiled_in_a_hurry(
    seconds, steps_hurried, scores_hurried, monkeypatch
):
    if DEVICES[0].platform != "cpu":
        pytest.skip("only its compiler can be hurried")
    plan = _plan_large_steps()
    (pack,) = plan.packs
    asked = []

    def know(options):
        asked.append("xla_backend_optimization_level" in options)
        return known(options)

    known = engine.compiler.known
    monkeypatch.setattr(engine.compiler, "known", know)
    data, _ = device_data.put_data(plan, DATASET, DEVICES)
    pack = dataclasses.replace(pack, seconds=seconds)
    engine.compile_pack(pack, DATASET, data, DEVICES)
    stepped, scored, started = asked
    assert (started, stepped, scored) == (True, steps_hurried, scores_hurried)


_PROFILED_STEPS = 20
# The runtime's own: launching a program once on each device, and going through it.
_RUNTIME = re.compile(
    r"(\[\d\] )?(ThunkExecutor|ThreadpoolListener|CommonPjRt\w+)::"
    r"|Handle input|AllocateOutputBuffers"
)


def _profile_chunk(compiled, folder):
    """What the devices' threads did during one chunk that was compiled before.

    Returns:
        How often each instruction of the program ran, how often all else was seen.
    """
    pack, built, order = compiled
    _, placed, state = trials._start_lanes(pack, built, order)
    everywhere = jax.sharding.NamedSharding(built.mesh, jax.sharding.PartitionSpec())
    num_steps = jax.device_put(np.int32(_PROFILED_STEPS), everywhere)
    state, _ = built.step_lanes(state, placed, num_steps, built.data)
    jax.block_until_ready(state)
    with (
        jax.profiler.trace(folder),
        jax.transfer_guard("disallow"),
        jax.profiler.TraceAnnotation("this thread"),
    ):
        news = built.step_lanes(state, placed, num_steps, built.data)
        jax.block_until_ready(news)
    (file,) = folder.rglob("*.xplane.pb")
    names = r"^ *(?:ROOT )?%?([\w.-]+) = "
    instructions = set(re.findall(names, built.step_lanes.as_text(), re.MULTILINE))
    done, other = collections.Counter(), collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            events = [event.name for event in line.events]
            if "this thread" in events:
                continue
            done.update(name for name in events if name in instructions)
            ends = {f"end: {name}" for name in instructions}
            other.update(name for name in events if name not in instructions | ends)
    return done, other


def test_a_chunk_runs_without_the_host(compiled, tmp_path):
    """The profile shows steps and nothing else: no transfer, Python or compiler."""
    pack, _, _ = compiled
    done, other = _profile_chunk(compiled, tmp_path)
    at_once = pack.lanes // 2 if pack.lane_axis == "vmap" else 1
    # Once a step on each of the devices.
    assert _PROFILED_STEPS * pack.lanes // at_once in done.values()
    assert [name for name in other if not _RUNTIME.match(name)] == []
    # Once on each device; the record may end before one of these events does.
    launched = [n for name, n in other.items() if "Execute (jit_step)" in name]
    assert set(launched) == {1}


def test_the_profile_shows_a_step_that_calls_the_host(axis, tmp_path, monkeypatch):
    make_program = program_lib.make_program

    def make_talkative(*args):
        program = make_program(*args)

        def step_lane(state, *rest):
            jax.debug.callback(lambda step: None, state.step)
            return program.step_lane(state, *rest)

        return program._replace(step_lane=step_lane)

    monkeypatch.setattr(engine, "make_program", make_talkative)
    _, other = _profile_chunk(_compile(axis), tmp_path)
    foreign = {name: n for name, n in other.items() if not _RUNTIME.match(name)}
    assert max(foreign.values()) >= _PROFILED_STEPS


def _count_bytes(program) -> int:
    """What stands in the place of its input and what is there while it runs."""
    memory = program.memory_analysis()
    return memory.alias_size_in_bytes + memory.temp_size_in_bytes


def test_lanes_take_the_memory_that_was_planned(compiled):
    pack, built, _ = compiled
    needed = _count_bytes(built.step_lanes)
    assert 0.75 < pack.bytes_per_device / needed < 1.25


@pytest.mark.parametrize("width", [2, pytest.param(16, marks=pytest.mark.slow)])
def test_images_take_the_memory_that_was_planned(width):
    """Few channels, which are patches on a CPU, and many, which are not."""
    experiment = _experiment(
        grid__widths=(width,), grid__depths=(8,), grid__data_fractions=(1.0,)
    )
    experiment.family = "wide_resnet"
    count = 128
    labels = (np.arange(count) % 10).astype(np.int32)
    images = np.random.default_rng(0).normal(size=(count, 32, 32, 3))
    dataset = Dataset(
        "images", images.astype(np.float32), labels, 10, 64, has_fixed_test=True
    )
    cells = grid.make_cells(experiment, dataset)
    plan = ensemble.plan_cells(experiment, dataset, cells)
    (pack,) = plan.packs
    data, _ = device_data.put_data(plan, dataset, DEVICES)
    built = engine.compile_pack(pack, dataset, data, DEVICES)
    needed = _count_bytes(built.step_lanes)
    assert 0.8 < pack.bytes_per_device / needed < 1.2
    assert _count_bytes(built.score_lanes) <= needed


def test_devices_that_share_batches_give_the_rows_of_one(full, axis):
    rows = _train(_losses(CELLS), axis, data_shards=len(DEVICES))
    for cell_id, row in rows.items():
        assert _values(row) == pytest.approx(_values(full[cell_id]), rel=1e-4)
        assert row.program.endswith("/data2")


def test_only_devices_that_share_batches_speak(compiled):
    pack, _, _ = compiled
    pack = dataclasses.replace(pack, num_devices=1, data_shards=2)
    data, _ = device_data.put_data(Plan((pack,), 2), DATASET, DEVICES)
    text = engine.compile_pack(pack, DATASET, data, DEVICES).step_lanes.as_text()
    assert "all-reduce" in text


def test_an_empty_plan_yields_nothing():
    plan = packing.plan_packs([], config.Packing(), len(DEVICES), "map")
    assert list(ensemble.train(plan, DATASET)) == []


def test_more_data_less_error():
    """The whole path trains something."""
    cells = [dataclasses.replace(cell, steps=400) for cell in CELLS]
    rows = _train(cells, "map").values()
    small = np.mean([row.value for row in rows if row.data == 20])
    large = np.mean([row.value for row in rows if row.data == 80])
    assert 0.25 < small < 0.6
    assert large < 0.25

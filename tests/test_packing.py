"""The plan: every cell once, no lane idle that need not be, no dependence on order."""

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepred.config import Packing
from scalepred.grid import Cell
from scalepred.training import packing


def _cell(width=8, steps=10, seed=0, depth=2) -> Cell:
    return Cell(
        dataset="digits",
        family="mlp",
        metric="error",
        width=width,
        depth=depth,
        dataset_size=20,
        seed=seed,
        steps=steps,
        batch_size=8,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        schedule="cosine",
        warmup_fraction=0.0,
    )


CELLS = st.lists(
    st.builds(
        _cell,
        width=st.sampled_from([2, 3, 4, 8]),
        steps=st.integers(1, 300),
        seed=st.integers(0, 20),
        depth=st.sampled_from([1, 2]),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda cell: cell.cell_id,
)
PACKINGS = st.builds(
    Packing,
    lanes=st.integers(1, 9),
    chunk_steps=st.sampled_from([0, 1, 7, 1000]),
    width_bucket=st.sampled_from([1.0, 2.0, 4.0]),
)
AXES = st.sampled_from(["vmap", "map"])
PADDABLE = frozenset(
    _cell(width=width, depth=depth).program_key
    for width in (2, 3, 4, 8, 16)
    for depth in (1, 2)
)


@given(CELLS, PACKINGS, st.integers(1, 4), AXES)
def test_every_cell_is_trained_once_to_its_end(cells, wishes, num_devices, axis):
    plan = packing.plan_packs(cells, wishes, num_devices, axis, (), PADDABLE)
    trained = []
    for pack in plan.packs:
        assert pack.lanes % num_devices == 0
        assert pack.lanes <= wishes.lanes * num_devices
        held: dict[int, tuple[Cell, int]] = {}
        for chunk in packing.make_chunks(pack):
            assert 1 <= chunk.num_steps <= pack.max_chunk_steps
            for lane, cell in enumerate(chunk.cells):
                if cell is None:
                    assert chunk.num_steps_of_lanes[lane] == 0
                    continue
                before = held.get(lane)
                if chunk.fresh[lane]:
                    assert before is None
                    before = (cell, 0)
                assert before is not None
                assert before[0] == cell
                steps = min(cell.steps - before[1], chunk.num_steps)
                assert chunk.num_steps_of_lanes[lane] == steps
                assert chunk.steps_done[lane] == before[1] + steps
                held[lane] = (cell, chunk.steps_done[lane])
            for lane, cell in chunk.finished:
                assert held.pop(lane) == (cell, cell.steps)
                trained.append(cell.cell_id)
        assert not held
    assert sorted(trained) == sorted(cell.cell_id for cell in cells)
    assert plan.num_cells == len(cells)
    assert 0 < plan.lane_utilization <= 1


@given(CELLS, PACKINGS, st.integers(1, 4), st.integers(0, 9))
def test_the_plan_depends_neither_on_order_nor_on_what_is_done(
    cells, wishes, num_devices, num_done
):
    plan = packing.plan_packs(cells, wishes, num_devices, "map", (), PADDABLE)
    mixed = random.Random(0).sample(cells, len(cells))
    again = packing.plan_packs(mixed, wishes, num_devices, "map", (), PADDABLE)
    assert plan == again
    done = {cell.cell_id for cell in mixed[:num_done]}
    rest = packing.plan_packs(cells, wishes, num_devices, "map", done, PADDABLE)
    programs = {pack.key: pack for pack in plan.packs}
    for pack in rest.packs:
        whole = programs[pack.key]
        queue = tuple(cell for cell in whole.queue if cell.cell_id not in done)
        assert pack == dataclasses.replace(whole, queue=queue)
    assert rest.num_cells == len(cells) - len(done)


def test_nothing_pending_is_an_empty_plan():
    plan = packing.plan_packs([_cell()], Packing(), 2, "map", {_cell().cell_id})
    assert plan.packs == ()
    assert plan.lane_utilization == 1


def test_lanes_stop_where_more_would_idle():
    """7 sizes a factor 2 apart, 8 seeds: beyond 16 lanes nothing gets shorter."""
    cells = [_cell(steps=10 * 2**k, seed=s) for k in range(7) for s in range(8)]
    plan = packing.plan_packs(cells, Packing(lanes=64), 1, "vmap")
    (pack,) = plan.packs
    assert pack.lanes == 16
    assert plan.lane_utilization > 0.98


@pytest.mark.parametrize("axis", ["vmap", "map"])
def test_two_devices_share_the_work(axis):
    cells = [_cell(steps=10 * 2**k, seed=s) for k in range(7) for s in range(8)]
    plan = packing.plan_packs(cells, Packing(lanes=8), 2, axis)
    assert plan.lane_utilization > 0.95


def test_longest_first():
    cells = [_cell(steps=n) for n in (5, 80, 20)] + [_cell(width=64, steps=30)]
    plan = packing.plan_packs(cells, Packing(), 1, "map")
    assert [pack.key.width for pack in plan.packs] == [64, 8]
    assert [cell.steps for cell in plan.packs[1].queue] == [80, 20, 5]


def test_buckets_of_widths():
    cells = [_cell(width=w) for w in (2, 3, 4, 8, 16)]

    def widths(factor, paddable=PADDABLE):
        wishes = Packing(width_bucket=factor)
        plan = packing.plan_packs(cells, wishes, 1, "map", (), paddable)
        for pack in plan.packs:
            assert pack.key.width == pack.widths[-1]
        return sorted(pack.widths for pack in plan.packs)

    assert widths(1.0) == [(2,), (3,), (4,), (8,), (16,)]
    assert widths(2.0) == [(2, 3, 4), (8, 16)]
    assert widths(4.0) == [(2, 3), (4, 8, 16)]
    assert widths(4.0, frozenset()) == widths(1.0)

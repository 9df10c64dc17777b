"""The plan: every cell once, no lane idle that need not be, no dependence on order."""

import collections
import dataclasses
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepred.config import Packing, UserError
from scalepred.grid import Cell
from scalepred.training import packing
from scalepred.training.chunks import make_chunks, predict_utilization
from scalepred.training.cost import CPU, GPU, TPU, Machine, ProgramCost
from scalepred.training.plan import halve_lanes


def _cell(width=8, steps=10, seed=0, depth=2, batch_size=8) -> Cell:
    return Cell(
        dataset="digits",
        family="mlp",
        metric="error",
        width=width,
        depth=depth,
        dataset_size=20,
        seed=seed,
        steps=steps,
        batch_size=batch_size,
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
    lanes=st.integers(0, 9),
    chunk_steps=st.sampled_from([0, 1, 7, 1000]),
    width_bucket=st.sampled_from([0.0, 1.0, 2.0, 4.0]),
)
AXES = st.sampled_from(["vmap", "map"])


def _cost(key, can_be_padded=True) -> ProgramCost:
    """An MLP's: work grows with the square of the width."""
    return ProgramCost(
        flops=1e5 * key.width**2,
        state_bytes=1e3 * key.width**2,
        work_bytes=1e4 * key.width,
        kept_bytes=0.0,
        has_convolution=False,
        can_be_padded=can_be_padded,
    )


@given(CELLS, PACKINGS, st.integers(1, 4), AXES)
def test_every_cell_is_trained_once_to_its_end(cells, wishes, num_devices, axis):
    plan = packing.plan_packs(cells, wishes, num_devices, axis, (), _cost)
    trained = []
    for pack in plan.packs:
        assert pack.lanes % num_devices == 0
        assert pack.lanes <= pack.turns * (wishes.lanes or 8) * num_devices
        held: dict[int, tuple[Cell, int]] = {}
        for chunk in make_chunks(pack):
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
    assert 0 < predict_utilization(plan) <= 1


@given(CELLS, PACKINGS, st.integers(1, 4), st.integers(0, 9))
def test_the_plan_depends_neither_on_order_nor_on_what_is_done(
    cells, wishes, num_devices, num_done
):
    plan = packing.plan_packs(cells, wishes, num_devices, "map", (), _cost)
    mixed = random.Random(0).sample(cells, len(cells))
    again = packing.plan_packs(mixed, wishes, num_devices, "map", (), _cost)
    assert plan == again
    done = {cell.cell_id for cell in mixed[:num_done]}
    rest = packing.plan_packs(cells, wishes, num_devices, "map", done, _cost)
    programs = {pack.key: pack for pack in plan.packs}
    for pack in rest.packs:
        whole = programs[pack.key]
        queue = tuple(cell for cell in whole.queue if cell.cell_id not in done)
        assert pack == dataclasses.replace(whole, queue=queue)
    assert rest.num_cells == len(cells) - len(done)


@given(CELLS, PACKINGS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_cells_that_diverge_give_up_their_lanes(cells, wishes, num_devices, random):
    """Told while later chunks run: every cell ends once, and frees its lane."""
    plan = packing.plan_packs(cells, wishes, num_devices, "vmap", (), _cost)
    bad = {cell for cell in cells if random.random() < 0.5}
    ended = []
    for pack in plan.packs:
        told: set[Cell] = set()
        late: set[Cell] = set()  # seen in the chunk before, told in the next
        for chunk in make_chunks(pack, over=told):
            assert not told & set(chunk.cells)
            ended += [cell for _, cell in chunk.given_up]
            ended += [cell for _, cell in chunk.finished]
            assert {cell for _, cell in chunk.given_up} <= told
            told |= late
            late = bad & set(chunk.cells)
    assert sorted(ended, key=hash) == sorted(cells, key=hash)


def test_nothing_pending_is_an_empty_plan():
    plan = packing.plan_packs([_cell()], Packing(), 2, "map", {_cell().cell_id})
    assert plan.packs == ()
    assert predict_utilization(plan) == 1


def test_lanes_stop_where_more_would_idle():
    """7 sizes a factor 2 apart, 8 seeds: beyond 16 lanes nothing gets shorter."""
    cells = [_cell(steps=10 * 2**k, seed=s) for k in range(7) for s in range(8)]
    plan = packing.plan_packs(cells, Packing(lanes=64), 1, "vmap")
    (pack,) = plan.packs
    assert pack.lanes == 16
    assert predict_utilization(plan) > 0.98


@pytest.mark.parametrize("axis", ["vmap", "map"])
def test_two_devices_share_the_work(axis):
    cells = [_cell(steps=10 * 2**k, seed=s) for k in range(7) for s in range(8)]
    plan = packing.plan_packs(cells, Packing(lanes=8), 2, axis)
    assert predict_utilization(plan) > 0.95


def test_longest_first():
    cells = [_cell(steps=n) for n in (5, 80, 20)] + [_cell(width=64, steps=30)]
    plan = packing.plan_packs(cells, Packing(), 1, "map")
    assert [pack.key.width for pack in plan.packs] == [64, 8]
    assert [cell.steps for cell in plan.packs[1].queue] == [80, 20, 5]


def test_wished_buckets_of_widths():
    cells = [_cell(width=w) for w in (2, 3, 4, 8, 16)]

    def widths(factor, cost_of=_cost):
        wishes = Packing(width_bucket=factor)
        plan = packing.plan_packs(cells, wishes, 1, "map", (), cost_of)
        for pack in plan.packs:
            assert pack.key.width == pack.widths[-1]
        return sorted(pack.widths for pack in plan.packs)

    assert widths(1.0) == [(2,), (3,), (4,), (8,), (16,)]
    assert widths(2.0) == [(2, 3, 4), (8, 16)]
    assert widths(4.0) == [(2, 3), (4, 8, 16)]
    assert widths(4.0, lambda key: _cost(key, False)) == widths(1.0)


def _seconds_by_hand(parts, steps_of, machine, num_devices, lanes):
    """Predicted core-seconds of a cut, written once more."""
    total = 0.0
    for widths in parts:
        steps = [n for width in widths for n in steps_of[width]]
        cost = _cost(_cell(width=max(widths)).program_key)
        fits = [
            count
            for count in lanes
            if count * (cost.state_bytes + cost.work_bytes) <= machine.memory_bytes
            and count <= max(1, -(-min(round(sum(steps) / max(steps)), len(steps))
                                  // num_devices))
        ]  # fmt: skip
        if not fits:
            return float("inf")
        work = cost.flops / machine.flops_per_second
        total += num_devices * min(
            _last_end(steps, count * num_devices)
            * (machine.step_seconds + count * (machine.lane_seconds + work))
            for count in fits
        )
        total += machine.compile_seconds + machine.width_seconds * (len(widths) - 1)
    return total


def _last_end(steps, lanes):
    ends = [0] * lanes
    for number in sorted(steps, reverse=True):
        ends[ends.index(min(ends))] += number
    return max(ends)


def _cuts(widths):
    """All ways to cut a row of widths into neighbours."""
    for marks in itertools.product([False, True], repeat=len(widths) - 1):
        parts = [[widths[0]]]
        for width, is_new in zip(widths[1:], marks, strict=True):
            if is_new:
                parts.append([])
            parts[-1].append(width)
        yield [tuple(part) for part in parts]


@given(
    steps_of=st.dictionaries(
        st.sampled_from([2, 3, 4, 6, 8, 12, 16]),
        st.lists(st.integers(1, 5000), min_size=1, max_size=6),
        min_size=1,
    ),
    num_devices=st.integers(1, 3),
    compile_seconds=st.sampled_from([0.0, 0.5, 5.0, 100.0]),
    memory=st.sampled_from([1e6, 3e6, 1e9]),
    overhead=st.sampled_from([1e-6, 1e-4]),
)
def test_no_other_plan_is_predicted_to_be_faster(
    steps_of, num_devices, compile_seconds, memory, overhead
):
    machine = Machine(
        is_cpu=False,
        flops_per_second=1e10,
        step_seconds=overhead,
        lane_seconds=overhead / 10,
        compile_seconds=compile_seconds,
        width_seconds=compile_seconds / 7,
        memory_bytes=memory,
        most_lanes=4,
    )
    cells = [
        _cell(width=width, steps=steps, seed=seed)
        for width, every in steps_of.items()
        for seed, steps in enumerate(every)
    ]
    plan = packing.plan_packs(cells, Packing(), num_devices, "vmap", (), _cost, machine)
    choices = range(1, 5)
    best = min(
        _seconds_by_hand(cut, steps_of, machine, num_devices, choices)
        for cut in _cuts(sorted(steps_of))
    )
    chosen = sum(
        _seconds_by_hand(
            [pack.widths], steps_of, machine, num_devices, [pack.lanes // num_devices]
        )
        for pack in plan.packs
    )
    assert chosen == pytest.approx(best)
    for pack in plan.packs:
        assert pack.bytes_per_device <= memory


def test_a_lane_that_does_not_fit_is_told():
    machine = dataclasses.replace(CPU, memory_bytes=1e3)
    with pytest.raises(UserError, match=r"width8.*one lane takes.*widths=8"):
        packing.plan_packs([_cell()], Packing(), 1, "map", (), _cost, machine)


def test_devices_share_a_batch_where_one_cannot_hold_it():
    """As few as hold it, where the family allows."""

    def plan(cost_of, memory, **wishes):
        machine = dataclasses.replace(CPU, memory_bytes=memory, kept=1.0)
        cells = [_cell(batch_size=32)]
        return packing.plan_packs(
            cells, Packing(**wishes), 4, "vmap", (), cost_of, machine
        )

    def splitting(key):
        return _cost(key)._replace(
            state_bytes=1e3, work_bytes=0.0, kept_bytes=8e3, can_split_batch=True
        )

    for memory, shards in ((1e4, 1), (5e3, 2), (3e3, 4)):
        (pack,) = plan(splitting, memory).packs
        assert pack.data_shards == shards
        assert pack.num_devices == pack.lanes == 4 // shards
        assert pack.bytes_per_device == 1e3 + 8e3 / shards
        assert pack.describe().endswith(f"/data{shards}") == (shards > 1)
    with pytest.raises(UserError, match="one lane takes"):
        plan(splitting, 2e3)
    (pack,) = plan(splitting, 1e9, data_shards=2).packs
    assert (pack.data_shards, pack.num_devices) == (2, 2)
    with pytest.raises(UserError, match=r"data_shards=3: batches of 32.*over 1, 2, 4"):
        plan(splitting, 1e9, data_shards=3)

    def whole(key):
        return splitting(key)._replace(can_split_batch=False)

    with pytest.raises(UserError, match="one lane takes"):
        plan(whole, 5e3)
    with pytest.raises(UserError, match=r"data_shards=2.*over 1 of 4"):
        plan(whole, 1e9, data_shards=2)


def test_cheap_programs_are_compiled_apart_and_dear_ones_together():
    cells = [_cell(width=w, steps=1000) for w in (2, 4, 8, 16)]

    def count(compile_seconds):
        machine = dataclasses.replace(CPU, compile_seconds=compile_seconds)
        plan = packing.plan_packs(cells, Packing(), 1, "map", (), _cost, machine)
        return len(plan.packs)

    assert (count(1e-6), count(1e3)) == (4, 1)


def test_lanes_divide_what_is_equally_long():
    """24 runs in 16 lanes would leave a quarter idle; in 12 none."""
    cells = [_cell(seed=seed, steps=60) for seed in range(24)]
    plan = packing.plan_packs(cells, Packing(), 2, "vmap", (), _cost)
    assert predict_utilization(plan) == 1


@pytest.mark.parametrize("axis", ["vmap", "map"])
def test_short_runs_share_a_chunk(axis):
    """The host's work is by the chunk, and a chunk is no longer than a run."""
    short = [_cell(seed=seed, steps=10) for seed in range(1000)]
    long = [_cell(seed=seed, steps=10**6) for seed in range(1000)]

    def plan(cells, **wishes):
        plan = packing.plan_packs(cells, Packing(**wishes), 2, axis, (), _cost)
        return plan.packs[0], len(list(make_chunks(plan.packs[0])))

    pack, num_chunks = plan(short)
    assert pack.lanes == 16 * pack.turns
    assert num_chunks == math.ceil(1000 / pack.lanes) <= 3
    pinned, num_chunks = plan(short, lanes=8)
    assert (pinned.turns, num_chunks) == (1, 63)
    assert plan(long)[0].turns == 1
    # Those of one turn are all that may change a bit.
    assert pack.describe() == pinned.describe() == plan(long)[0].describe()
    halves = [pack]
    while smaller := halve_lanes(halves[-1], ()):
        halves.append(smaller)
    assert halves[-1].lanes == 2
    for one, other in itertools.pairwise(halves):
        assert other.lanes <= one.lanes / 2 or other.turns < one.turns
        assert other.lanes % (2 * other.turns) == 0


def test_turns_are_no_more_than_fit():
    cells = [_cell(seed=seed, steps=10) for seed in range(1000)]
    cost = _cost(cells[0].program_key)
    for axis, lanes in (("vmap", 8), ("map", 8)):
        room = CPU.bytes(cost, lanes, axis, turns=3)
        machine = dataclasses.replace(CPU, memory_bytes=room)
        plan = packing.plan_packs(cells, Packing(), 1, axis, (), _cost, machine)
        assert plan.packs[0].turns == 3
        assert plan.packs[0].bytes_per_device == room


def test_axis_that_suits_the_program():
    small, large = (_cost(_cell(width=w).program_key) for w in (4, 64))
    assert CPU.choose_axis(small) == "vmap"
    assert CPU.choose_axis(large) == "map"
    assert CPU.choose_axis(small._replace(has_convolution=True)) == "map"
    large = large._replace(flops=1e10)
    for machine in (GPU, TPU):
        assert machine.choose_axis(large) == "vmap"
    convolving = large._replace(has_convolution=True)
    assert GPU.choose_axis(convolving) == "vmap"
    # Side by side these lose more than starting them one after the other does.
    assert TPU.choose_axis(convolving) == "map"
    assert TPU.choose_axis(convolving._replace(flops=1e8)) == "vmap"


def test_lanes_stay_near_the_cores():
    """Where the memory beside them is small, more lanes are not taken for faster."""
    cells = [_cell(width=64, seed=seed, steps=50) for seed in range(2000)]
    cost = _cost(cells[0].program_key)._replace(flops=1e9)

    def plan(near):
        machine = dataclasses.replace(TPU, near_bytes=near)
        (pack,) = packing.plan_packs(
            cells, Packing(), 1, "auto", (), lambda key: cost, machine
        ).packs
        return pack.lanes

    one = TPU.bytes(cost, 1, "vmap")
    assert plan(near=float("inf")) >= 200
    assert 20 <= plan(near=30 * one) <= 45
    seconds = [TPU.seconds(cost, lanes, "vmap") / lanes for lanes in (1, 8, 32)]
    assert seconds == sorted(seconds, reverse=True)


def test_accelerators_try_fewer_lanes_and_both_axes_of_convolutions():
    cells = [_cell(seed=seed, steps=50) for seed in range(200)]

    def choices(machine, **changes):
        (pack,) = packing.plan_packs(
            cells, Packing(), 2, "auto", (),
            lambda key: _cost(key)._replace(**changes), machine,
        ).packs  # fmt: skip
        assert pack.choices[0] == pack.choice
        return pack.lanes, {
            (choice.lane_axis, choice.lanes, choice.convolution)
            for choice in pack.choices
        }

    lanes, found = choices(GPU)
    assert lanes == 200
    assert found == {("vmap", n, "auto") for n in (200, 50, 12)}
    lanes, found = choices(GPU, has_convolution=True)
    assert {(axis, form) for axis, _, form in found} == {
        (axis, form) for axis in ("vmap", "map") for form in ("auto", "patches")
    }
    _, found = choices(CPU, has_convolution=True)
    assert {axis for axis, _, _ in found} == {"map"}


def test_many_cells_are_planned_with_few_looks_at_programs():
    """Ten times the seeds, sizes or rates: the same programs, traced once each."""
    cells = [
        _cell(width=w, steps=10 * 2**k, seed=s)
        for w in (2, 4, 8, 16)
        for k in range(5)
        for s in range(500)
    ]
    asked = collections.Counter()

    def cost_of(key):
        asked[key] += 1
        return _cost(key)

    few = packing.plan_packs(cells[::500], Packing(), 2, "auto", (), _cost)
    plan = packing.plan_packs(cells, Packing(), 2, "auto", (), cost_of)
    assert plan.num_cells == len(cells) == 10_000
    assert len(plan.packs) <= 4
    assert len(few.packs) <= 4
    assert len(asked) == 4
    assert predict_utilization(plan) > 0.95

"""The lane axis: many runs side by side, or one after the other, on one device.

`Program` has the functions of one lane; here they get an axis of lanes. Lanes are
started and scored seldom and stepped always, so each of the three is compiled by
itself.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.training.args import LaneArgs, idle_args
from scalepred.training.lane import LaneData, LaneState
from scalepred.training.program import Program
from scalepred.training.score import Scores, Sums

_IDLE = idle_args()
# All of them take 32 bits.
_ARGS = np.dtype(
    [(name, leaf.dtype, leaf.shape) for name, leaf in _IDLE._asdict().items()]
)

_ARG_TYPES = [leaf.dtype for leaf in _IDLE]

# Times that steps were traced since the process began, by program; tests see
# recompiles here.
traces: collections.Counter[str] = collections.Counter()


def pack_args(args: LaneArgs) -> np.ndarray:
    """A run's numbers in a row, uint32 [numbers]: each array moved costs the host."""
    return np.array([tuple(args)], _ARGS).view(np.uint32)


def unpack_args(rows: jax.Array) -> LaneArgs:
    """Rows of `pack_args` [(lanes), numbers] as arrays [(lanes), ...]."""
    ends = np.cumsum([leaf.size for leaf in _IDLE])
    parts = jnp.split(rows, ends[:-1], axis=-1)
    leaves = [
        part.reshape(*rows.shape[:-1], *leaf.shape)
        for part, leaf in zip(parts, _IDLE, strict=True)
    ]
    return LaneArgs(*map(jax.lax.bitcast_convert_type, leaves, _ARG_TYPES))


class Seen(NamedTuple):
    """What is looked at after every chunk, in arrays that the next one leaves alone."""

    diverged: jax.Array  # bool [lanes]
    curve: jax.Array  # sums of losses [lanes, points]


class Functions(NamedTuple):
    """What one device does with its lanes; see `Engine`."""

    start: Callable[..., LaneState]
    step: Callable[..., tuple[LaneState, Seen]]
    score: Callable[..., Scores]
    score_some: Callable[..., tuple[Scores, Sums]]


class Layout(NamedTuple):
    """How the lanes of a device are gone through."""

    lane_axis: str  # vmap: side by side | map: one after the other
    lanes: int  # vmap: that step side by side; the others wait
    block_steps: int  # vmap: steps of a loop whose length the compiler knows
    at_once: int  # lanes that are started or scored together


def make_functions(program: Program, layout: Layout, name: str) -> Functions:
    """The lane axis around the functions of one lane.

    Args:
        program: the functions of one lane.
        layout: how lanes are gone through.
        name: that traces are counted under.
    """
    at_once = layout.at_once

    def start(state: LaneState, rows: jax.Array, fresh: jax.Array) -> LaneState:
        def start_lane(lane: jax.Array) -> LaneState:
            return program.init_lane(unpack_args(_pick(lane, rows)))

        return _fill_marked(fresh, at_once, start_lane, state)

    # The number of steps is traced: XLA may compile a loop of known length
    # differently, and then results would depend on the length of chunks.
    def step(
        state: LaneState, rows: jax.Array, num_steps: jax.Array, data: LaneData
    ) -> tuple[LaneState, Seen]:
        traces[name] += 1
        wanted = unpack_args(rows).steps
        left = jnp.minimum(jnp.maximum(wanted - state.step, 0), num_steps)
        if layout.lane_axis == "vmap":
            state = _step_together(program, layout, state, rows, left, data)
        else:
            state = _step_in_turn(program, state, rows, left, data)
        return state, Seen(state.diverged, state.curve)

    def score(
        state: LaneState, rows: jax.Array, finished: jax.Array, data: LaneData
    ) -> Scores:
        def score_lane(lane: jax.Array) -> Scores:
            args = unpack_args(_pick(lane, rows))
            return program.evaluate_lane(_pick(lane, state), args, data)

        shape = len(finished), *program.score_shape
        values = jnp.zeros(shape, jnp.result_type(float))
        nothing = Scores(values, diverged=finished)
        return _fill_marked(finished, at_once, score_lane, nothing)

    def score_some(*args: Any) -> tuple[Scores, Sums]:
        return _score_some(program, at_once, *args)

    return Functions(start, step, score, score_some)


def _score_some(
    program: Program,
    at_once: int,
    state: LaneState,
    rows: jax.Array,
    finished: jax.Array,
    data: LaneData,
    scores: Scores,
    sums: Sums,
    begin: jax.Array,
    end: jax.Array,
) -> tuple[Scores, Sums]:
    """Adds the batches from `begin` up to `end` to the sums of the finished lanes."""

    def add(lane: jax.Array) -> tuple[Scores, Sums]:
        own = _pick(lane, state)
        before = jax.tree.map(
            lambda new, old: jnp.where(begin == 0, new, old),
            program.begin_sums(own),
            _pick(lane, sums),
        )
        args = unpack_args(_pick(lane, rows))
        return program.add_batches(before, own, args, data, begin, end)

    return _fill_marked(finished, at_once, add, (scores, sums))


def _pick(lane: jax.Array, tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, lane, keepdims=False), tree
    )


def _put_back(lane: jax.Array, new: Any, tree: Any) -> Any:
    """In place: lanes may be many, and the whole would be copied otherwise."""
    return jax.tree.map(
        lambda leaf, part: jax.lax.dynamic_update_index_in_dim(
            leaf, part.astype(leaf.dtype), lane, 0
        ),
        tree,
        new,
    )


def _fill_marked(
    mask: jax.Array, at_once: int, function: Callable[[jax.Array], Any], tree: Any
) -> Any:
    """The tree with what the function gives for each marked lane; others cost nothing.

    Args:
        mask: bool [lanes].
        at_once: lanes that the function is called for together.
        function: lane, int32 [] -> tree without the lane axis.
        tree: leaves [lanes, ...].
    """
    marked_first = jnp.argsort(~mask, stable=True)
    count = jnp.sum(mask, dtype=jnp.int32)

    def fill(index: jax.Array, tree: Any) -> Any:
        if at_once == 1:
            lane = _pick(index, marked_first)
            return _put_back(lane, function(lane), tree)
        # The last call repeats the last marked lane.
        position = index * at_once + jnp.arange(at_once)
        lanes = marked_first[jnp.minimum(position, count - 1)]
        new = jax.vmap(function)(lanes)
        return jax.tree.map(
            lambda leaf, part: leaf.at[lanes].set(part.astype(leaf.dtype)), tree, new
        )

    return jax.lax.fori_loop(0, (count + at_once - 1) // at_once, fill, tree)


def _step_in_turn(
    program: Program, state: LaneState, rows: jax.Array, left: jax.Array, data: LaneData
) -> LaneState:
    """Steps one lane after the other; a lane with no steps left costs nothing."""

    def step_one(lane: jax.Array, state: LaneState) -> LaneState:
        own_args = unpack_args(_pick(lane, rows))
        new = jax.lax.fori_loop(
            0,
            left[lane],
            lambda _, state: program.step_lane(state, own_args, data),
            _pick(lane, state),
        )
        return _put_back(lane, new, state)

    return jax.lax.fori_loop(0, len(left), step_one, state)


def _step_together(
    program: Program,
    layout: Layout,
    state: LaneState,
    rows: jax.Array,
    left: jax.Array,
    data: LaneData,
) -> LaneState:
    """Steps as many lanes side by side as the layout says, then the next as many."""
    size = layout.lanes
    if size == len(left):  # without a copy
        return _step_side_by_side(program, layout, state, rows, left, data)

    def step_part(part: jax.Array, state: LaneState) -> LaneState:
        first = part * size
        own, own_rows, own_left = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size),
            (state, rows, left),
        )
        new = _step_side_by_side(program, layout, own, own_rows, own_left, data)
        return jax.tree.map(
            lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, first, 0),
            state,
            new,
        )

    return jax.lax.fori_loop(0, len(left) // size, step_part, state)


def _step_side_by_side(
    program: Program,
    layout: Layout,
    state: LaneState,
    rows: jax.Array,
    left: jax.Array,
    data: LaneData,
) -> LaneState:
    """Steps all these lanes together; one with no steps left keeps its state.

    Steps are done in blocks of a length that the compiler knows, whose batches are
    drawn at once.
    """
    block_steps = layout.block_steps
    step_lanes = jax.vmap(program.step_lane, (0, 0, None, 0))
    draw_lanes = jax.vmap(functools.partial(program.draw_lane, steps=block_steps))
    args = unpack_args(rows)

    def step_block(block: jax.Array, state: LaneState) -> LaneState:
        drawn = draw_lanes(state, args)

        def step(index: jax.Array, state: LaneState) -> LaneState:
            is_live = block * block_steps + index < left
            own = jax.tree.map(lambda leaf: leaf[:, index], drawn)
            return choose_lanes(is_live, step_lanes(state, args, data, own), state)

        return jax.lax.fori_loop(0, block_steps, step, state)

    num_blocks = (jnp.max(left) + block_steps - 1) // block_steps
    return jax.lax.fori_loop(0, num_blocks, step_block, state)


def choose_lanes(mask: jax.Array, new: LaneState, old: LaneState) -> LaneState:
    """The new state of marked lanes, the old one of the others; mask: bool [lanes]."""

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, new, old)

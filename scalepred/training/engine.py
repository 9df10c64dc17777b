"""A pack's compiled functions: start lanes, step them, score them; bring them data.

Here is the lane axis, and here it is sharded over devices. Lanes are started and
scored seldom and stepped always, so each gets a program of its own, and what runs
seldom is compiled in a hurry.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell, ProgramKey
from scalepred.models.model import Model, build_for
from scalepred.models.target import traced_as
from scalepred.runtime import compiler, processes
from scalepred.runtime.compiler import PLAIN_LOOPS, Options
from scalepred.training import cost, packing
from scalepred.training.args import LaneArgs, idle_args
from scalepred.training.lane import LaneData, LaneState
from scalepred.training.program import Program, make_program
from scalepred.training.score import Scores, Sums

_LANES = PartitionSpec("lane")
_EVERYWHERE = PartitionSpec()

_Specs = tuple[PartitionSpec, ...]
# LLVM's second and third round take a quarter of the time to compile and make a step
# of little arithmetic no faster, of much a tenth. Only the CPU has the options.
_SMALL_STEP: Options = {"xla_backend_optimization_level": "1"}
_SMALL_STEP_FLOPS = 1e7
# Where every core has a device of its own, loops shared among the cores only make them
# wait for each other: a step of large matrix products takes a fifth longer. Steps with
# convolutions are faster with them nonetheless.
_ONE_CORE_STEP: Options = {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}
# A third less again; a step would be up to a third slower.
_SMALL_SCORE: Options = {**_SMALL_STEP, **PLAIN_LOOPS}
# So are large steps that take a core so few seconds in all, and their scoring: they are
# a thirtieth and a tenth slower then; with convolutions more.
_BRIEF_STEPS, _BRIEF_SCORES = 5.0, 30.0
# Four times less; a start is a few random numbers.
_START: Options = {"xla_backend_optimization_level": "0", **PLAIN_LOOPS}

_IDLE = idle_args()
# All of them take 32 bits.
_ARGS = np.dtype(
    [(name, leaf.dtype, leaf.shape) for name, leaf in _IDLE._asdict().items()]
)

_ARG_TYPES = [leaf.dtype for leaf in _IDLE]

# Streamed rows travel in slabs of so many bytes; as many, at least, fill a device.
_SLAB_BYTES = 4e6
_LEAST_SLABS = 8

# Times that steps were traced since the process began, by program; tests see
# recompiles here.
traces: collections.Counter[str] = collections.Counter()


class Slab(NamedTuple):
    """Streamed rows on their way to the devices, as many to each group of devices.

    Numbers out of range, where there are fewer, go nowhere.
    """

    inputs: Any  # [groups * rows, ...]
    labels: Any  # integers [groups * rows, (positions)]
    examples: Any  # their numbers, int32 [groups * rows]
    rows: Any  # where they go, int32 [groups * rows]


@dataclasses.dataclass(frozen=True)
class Engine:
    """The functions of a pack, compiled for its lanes on a mesh.

    Attributes:
        shapes: of the state of all lanes, with sharding.
        start_lanes: (state, args, fresh) -> state; the marked lanes begin anew. The
            args are rows of `pack_args`, here and below.
        step_lanes: (state, args, number of steps, data) -> (state, is done [lanes]);
            no lane takes more steps than its cell has.
        score_lanes: (state, args, finished, data) -> scores of the marked lanes; where
            data are streamed (..., scores, sums, begin, end) -> (scores, sums), those
            after the batches from `begin` up to `end`.
        add_rows: (data without order, slab) -> data with the slab; only streamed.
        mesh: the devices, in groups that share batches.
        dataset: what its rows name.
        data: the same on the devices; streamed, all but the order is a shape.
        slab: shapes of what `add_rows` takes; only streamed.
        scores: shapes of what `score_lanes` carries; only streamed.
        models: by true width.
        forward_flops: of one example, by true width.
        compile_seconds: it took to trace and compile.
    """

    shapes: LaneState
    start_lanes: Any
    step_lanes: Any
    score_lanes: Any
    add_rows: Any
    mesh: Mesh
    dataset: Dataset
    data: LaneData
    slab: Slab | None
    scores: tuple[Scores, Sums] | None
    models: Mapping[int, Model]
    forward_flops: Mapping[int, float]
    compile_seconds: float

    def idle(self) -> LaneState:
        """Lanes that hold nothing."""
        nothing = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.shapes
        )
        sharding: Any = self.shapes.step.sharding
        return processes.put(nothing, sharding)

    def count_bytes(self) -> int | None:
        """Memory of the hungriest of the programs; None where nobody says."""
        found = [
            program.memory_analysis()
            for program in (self.start_lanes, self.step_lanes, self.score_lanes)
        ]
        if None in found:
            return None
        return max(
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
            for memory in found
        )


def compile_pack(
    pack: packing.Pack, dataset: Dataset, data: LaneData, devices: Sequence[Any]
) -> Engine:
    """Traces and compiles a pack's functions, ahead of time and once.

    Args:
        pack: what they are for.
        dataset: what it is trained on.
        data: the same on the devices; streamed, only the order. Shapes in the place of
            arrays will do, and then the devices need not be here.
        devices: all that the pack was planned for.
    """
    began = time.perf_counter()
    mesh = make_mesh(devices, pack.data_shards)
    data = jax.tree.map(lambda leaf: _hold_everywhere(leaf, mesh), data)
    models = {width: build(pack.key, width, dataset) for width in pack.widths}
    program = make_program(pack.key, list(models.values()), dataset, pack.data_shards)
    # Traced once for the shapes and once for the lanes, unless jit remembers it.
    program = program._replace(init_lane=jax.jit(program.init_lane))
    platform = mesh.devices.flat[0].platform
    is_cpu = platform == "cpu"
    lanes_here = pack.lanes // pack.num_devices
    at_once = 1 if is_cpu or pack.lane_axis == "map" else min(8, lanes_here)

    sharding = NamedSharding(mesh, _LANES)
    shapes, args, marked = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (pack.lanes, *leaf.shape), leaf.dtype, sharding=sharding
        ),
        (
            jax.eval_shape(program.init_lane, _IDLE),
            pack_args(_IDLE),
            np.bool_(False),
        ),
    )

    data_specs: Any = _EVERYWHERE
    slab, carried = None, None
    if pack.stream_rows:
        data, slab = _describe_stream(pack, dataset, data.order, mesh)
        data_specs = LaneData(_LANES, _LANES, _EVERYWHERE, _LANES)

    def compiled(
        function: Callable, specs: _Specs, args: Any, options: Options, **kwargs: Any
    ) -> Any:
        # No lane speaks to another, so there is nothing for check_vma to check.
        sharded = jax.shard_map(
            function, mesh=mesh, in_specs=specs, out_specs=_LANES, check_vma=False
        )
        with traced_as(pack.convolution, platform), _products(pack.key, platform):
            lowered = jax.jit(sharded, **kwargs).lower(*args)
        return lowered.compile(compiler.known(options) if is_cpu else None)

    start, step, score, score_some = _make_functions(
        program,
        lanes_here // pack.turns,
        pack.lane_axis,
        at_once,
        pack.block_steps,
        pack.describe(),
    )
    score_specs, score_args = (_LANES, _LANES, _LANES, data_specs), ()
    if pack.stream_rows:
        carried = _describe_scores(program, shapes)
        score = score_some
        score_specs += (_LANES, _LANES, _EVERYWHERE, _EVERYWHERE)
        score_args = (*carried, np.int32(0), np.int32(0))
    is_small = pack.step_flops < _SMALL_STEP_FLOPS
    is_alone = len(devices) >= cost.num_cores() and not pack.has_convolution
    seconds = math.inf if pack.has_convolution else pack.seconds
    large_step: Options = {
        **(_ONE_CORE_STEP if is_alone else {}),
        **(_SMALL_STEP if seconds < _BRIEF_STEPS else {}),
    }
    return Engine(
        shapes=shapes,
        start_lanes=compiled(
            start, (_LANES,) * 3, (shapes, args, marked), _START, donate_argnums=0
        ),
        step_lanes=compiled(
            step,
            (_LANES, _LANES, _EVERYWHERE, data_specs),
            (shapes, args, np.int32(0), data),
            _SMALL_STEP if is_small else large_step,
            donate_argnums=0,
        ),
        score_lanes=compiled(
            score,
            score_specs,
            (shapes, args, marked, data, *score_args),
            _SMALL_SCORE if is_small or seconds < _BRIEF_SCORES else {},
            donate_argnums=(4, 5) if pack.stream_rows else (),
        ),
        add_rows=slab
        and compiled(
            _add_rows,
            (_LANES, _LANES),
            (data._replace(order=None), slab),
            {},
            donate_argnums=0,
        ),
        mesh=mesh,
        dataset=dataset,
        data=data,
        slab=slab,
        scores=carried,
        models=models,
        forward_flops={
            width: model.count_forward_flops(dataset.input_spec) * dataset.task.views
            for width, model in models.items()
        },
        compile_seconds=time.perf_counter() - began,
    )


def _products(key: ProgramKey, platform: str) -> contextlib.AbstractContextManager:
    """In it products of float32 numbers are float32, unless others are asked for.

    By themselves accelerators round what they multiply, each to bits of its own.
    """
    is_exact = platform != "cpu" and {"fast", "bfloat16"}.isdisjoint(key.extras)
    return jax.default_matmul_precision("highest" if is_exact else None)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the compiler for it, says so."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def does_not_fit(pack: packing.Pack, device: str) -> UserError:
    """That not even one lane a device fits."""
    return UserError(
        f"{pack.describe()}: does not fit into the memory of {device}; choose fewer "
        "packing.lanes, a smaller training.batch_size, or leave out "
        f"grid.widths={pack.key.width}; finished runs are kept"
    )


def build(key: ProgramKey, width: int, dataset: Dataset) -> Model:
    """The model of a program at one of its widths."""
    return build_for(dataset, key.family, width, key.depth)


def count_params(cell: Cell, dataset: Dataset) -> int:
    """m of a cell, as the law counts it."""
    return build(cell.program_key, cell.width, dataset).num_params


def count_flops(cell: Cell, dataset: Dataset) -> float:
    """Training FLOPs of a cell: a step is three forward passes of its batch."""
    model = build(cell.program_key, cell.width, dataset)
    forward = model.count_forward_flops(dataset.input_spec) * dataset.task.views
    return 3 * forward * cell.steps * cell.batch_size


def make_mesh(devices: Sequence[Any], data_shards: int = 1) -> Mesh:
    """Groups of devices along "lane", the devices of a group along "data"."""
    return Mesh(np.array(devices).reshape(-1, data_shards), ("lane", "data"))


def _hold_everywhere(leaf: Any, mesh: Mesh) -> Any:
    """A copy on every device as this mesh sees it: no bytes move. Or its shape."""
    sharding = NamedSharding(mesh, _EVERYWHERE)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return leaf if leaf.sharding == sharding else jax.device_put(leaf, sharding)


def put(tree: Any, mesh: Mesh) -> Any:
    """Arrays [lanes, ...] on the devices that hold their lanes."""
    return processes.put(tree, NamedSharding(mesh, _LANES))


def pack_args(args: LaneArgs) -> np.ndarray:
    """A run's numbers in a row, uint32 [numbers]: each array moved costs the host."""
    return np.array([tuple(args)], _ARGS).view(np.uint32)


def _unpack_args(rows: jax.Array) -> LaneArgs:
    """Rows of `pack_args` [(lanes), numbers] as arrays [(lanes), ...]."""
    ends = np.cumsum([leaf.size for leaf in _IDLE])
    parts = jnp.split(rows, ends[:-1], axis=-1)
    leaves = [
        part.reshape(*rows.shape[:-1], *leaf.shape)
        for part, leaf in zip(parts, _IDLE, strict=True)
    ]
    return LaneArgs(*map(jax.lax.bitcast_convert_type, leaves, _ARG_TYPES))


def put_lanes(rows: Sequence[np.ndarray], mesh: Mesh) -> jax.Array:
    """Rows of `pack_args`, one a lane, on the devices that hold the lanes."""
    return put(np.stack(rows), mesh)


def widen(values: np.ndarray) -> np.ndarray:
    """16-bit integers as 32-bit ones, which every compiler can load in vectors.

    LLVM as of jaxlib 0.10 aborts ("Cannot select ... v16i16") where a loop copies
    windows of 16-bit tokens on a CPU without 16-bit broadcasts.
    """
    return values.astype(np.int32) if values.dtype == np.uint16 else values


def _describe_stream(
    pack: packing.Pack, dataset: Dataset, order: Any, mesh: Mesh
) -> tuple[LaneData, Slab]:
    """Shapes of streamed data, but for the order, and of what brings them."""
    sharding = NamedSharding(mesh, _LANES)
    examples = [widen(array[:1]) for array in (dataset.inputs, dataset.labels)]

    def describe(rows: int, like: np.ndarray) -> Any:
        shape = (pack.num_devices * rows, *like.shape[1:])
        return jax.ShapeDtypeStruct(shape, like.dtype, sharding=sharding)

    most = int(_SLAB_BYTES / sum(example.nbytes for example in examples))
    in_slab = max(1, min(most, pack.stream_rows // _LEAST_SLABS))
    number = np.zeros(1, np.int32)
    inputs, labels = (describe(pack.stream_rows, example) for example in examples)
    data = LaneData(inputs, labels, order, describe(len(dataset.labels), number))
    return data, Slab(
        *(describe(in_slab, like) for like in (*examples, number, number))
    )


def _describe_scores(program: Program, state: LaneState) -> tuple[Scores, Sums]:
    """Shapes of the scores and sums of all lanes, with sharding."""
    sharding: Any = state.step.sharding
    lanes = state.step.shape
    shape = (*lanes, *program.score_shape)
    values: Any = jax.ShapeDtypeStruct(shape, jnp.result_type(float))
    flag: Any = jax.ShapeDtypeStruct(lanes, bool)
    scores = Scores(values, diverged=flag)
    shapes = scores, jax.eval_shape(jax.vmap(program.begin_sums), state)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
    )


def _add_rows(data: LaneData, slab: Slab) -> LaneData:
    """The data with the slab's rows in their places."""
    return LaneData(
        data.inputs.at[slab.rows].set(slab.inputs, mode="drop"),
        data.labels.at[slab.rows].set(slab.labels, mode="drop"),
        None,
        data.row_of.at[slab.examples].set(slab.rows, mode="drop"),
    )


class _Functions(NamedTuple):
    """What one device does with its lanes; see `Engine`."""

    start: Callable[..., LaneState]
    step: Callable[..., tuple[LaneState, jax.Array]]
    score: Callable[..., Scores]
    score_some: Callable[..., tuple[Scores, Sums]]


def _make_functions(
    program: Program,
    together: int,
    lane_axis: str,
    at_once: int,
    block_steps: int,
    name: str,
) -> _Functions:
    """The lane axis around the functions of one lane.

    The number of steps is traced: XLA may compile a loop of known length differently,
    and then results would depend on the length of chunks.
    """

    def start(state: LaneState, rows: jax.Array, fresh: jax.Array) -> LaneState:
        return _fill_marked(
            fresh,
            at_once,
            lambda lane: program.init_lane(_unpack_args(_pick(lane, rows))),
            state,
        )

    def step(
        state: LaneState, rows: jax.Array, num_steps: jax.Array, data: LaneData
    ) -> tuple[LaneState, jax.Array]:
        traces[name] += 1
        wanted = _unpack_args(rows).steps
        left = jnp.minimum(jnp.maximum(wanted - state.step, 0), num_steps)
        if lane_axis == "vmap":
            state = _step_together(
                program, state, rows, left, data, together, block_steps
            )
        else:
            state = _step_in_turn(program, state, rows, left, data)
        return state, state.step >= wanted

    def score(
        state: LaneState, rows: jax.Array, finished: jax.Array, data: LaneData
    ) -> Scores:
        # One table of scores a lane.
        shape = len(finished), *program.score_shape
        values = jnp.zeros(shape, jnp.result_type(float))
        nothing = Scores(values, diverged=finished)
        return _fill_marked(
            finished,
            at_once,
            lambda lane: program.evaluate_lane(
                _pick(lane, state), _unpack_args(_pick(lane, rows)), data
            ),
            nothing,
        )

    def score_some(
        state: LaneState,
        rows: jax.Array,
        finished: jax.Array,
        data: LaneData,
        scores: Scores,
        sums: Sums,
        begin: jax.Array,
        end: jax.Array,
    ) -> tuple[Scores, Sums]:
        def add(lane: jax.Array) -> tuple[Scores, Sums]:
            own = _pick(lane, state)
            before = jax.tree.map(
                lambda new, old: jnp.where(begin == 0, new, old),
                program.begin_sums(own),
                _pick(lane, sums),
            )
            return program.add_batches(
                before, own, _unpack_args(_pick(lane, rows)), data, begin, end
            )

        return _fill_marked(finished, at_once, add, (scores, sums))

    return _Functions(start, step, score, score_some)


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
        own_args = _unpack_args(_pick(lane, rows))
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
    state: LaneState,
    rows: jax.Array,
    left: jax.Array,
    data: LaneData,
    together: int,
    block_steps: int,
) -> LaneState:
    """Steps so many lanes side by side, and then the next so many.

    A lane with no steps left keeps its state. Steps are done in blocks of a length that
    the compiler knows, whose batches are drawn at once.
    """
    step_lanes = jax.vmap(program.step_lane, (0, 0, None, 0))
    draw_lanes = jax.vmap(functools.partial(program.draw_lane, steps=block_steps))

    def step_part(state: LaneState, rows: jax.Array, left: jax.Array) -> LaneState:
        args = _unpack_args(rows)

        def step_block(block: jax.Array, state: LaneState) -> LaneState:
            drawn = draw_lanes(state, args)

            def step(index: jax.Array, state: LaneState) -> LaneState:
                is_live = block * block_steps + index < left
                own = jax.tree.map(lambda leaf: leaf[:, index], drawn)
                return jax.tree.map(
                    lambda new, old: jnp.where(
                        is_live.reshape((-1,) + (1,) * (new.ndim - 1)), new, old
                    ),
                    step_lanes(state, args, data, own),
                    state,
                )

            return jax.lax.fori_loop(0, block_steps, step, state)

        num_blocks = (jnp.max(left) + block_steps - 1) // block_steps
        return jax.lax.fori_loop(0, num_blocks, step_block, state)

    def take_turn(turn: jax.Array, state: LaneState) -> LaneState:
        first = turn * together
        part = step_part(
            *jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, together),
                (state, rows, left),
            )
        )
        return jax.tree.map(
            lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, first, 0),
            state,
            part,
        )

    if together == len(left):  # without a copy
        return step_part(state, rows, left)
    return jax.lax.fori_loop(0, len(left) // together, take_turn, state)

"""A pack's compiled functions: start lanes, step them, score them; bring them data.

The lanes of `lane_axis.py` are sharded over devices here, and all is compiled ahead of
time. What runs seldom is compiled in a hurry.
"""

import concurrent.futures
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.grid import ProgramKey
from scalepred.models.model import Model, build_for
from scalepred.models.target import traced_as
from scalepred.runtime import compiler, processes
from scalepred.runtime.compiler import PLAIN_LOOPS, Options
from scalepred.training import cost, slabs
from scalepred.training.args import idle_args
from scalepred.training.devices import EVERYWHERE, LANES, hold_everywhere, make_mesh
from scalepred.training.lane import LaneData, LaneState
from scalepred.training.lane_axis import Layout, make_functions, pack_args
from scalepred.training.plan import Pack
from scalepred.training.program import Program, make_program
from scalepred.training.score import Scores, Sums
from scalepred.training.slabs import Slab

_IDLE = idle_args()

# What the compiler for a CPU is asked for; no other has these options.
#
# LLVM's second and third round take a quarter of the time to compile and make a step
# of little arithmetic no faster, of much a tenth.
_SMALL_STEP: Options = {"xla_backend_optimization_level": "1"}
_SMALL_STEP_FLOPS = 1e7
# Where every core has a device of its own, loops shared among the cores only make them
# wait for each other: a step of large matrix products takes a fifth longer. Steps with
# convolutions are faster with them nonetheless.
_ONE_CORE_STEP: Options = {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}
# A third less time to compile again, for scores that take up to a third longer.
_SMALL_SCORE: Options = {**_SMALL_STEP, **PLAIN_LOOPS}
# Large programs are compiled in a hurry too if they run for so few seconds in all.
# Steps are a thirtieth slower then, scores a tenth, with convolutions more.
_BRIEF_STEPS, _BRIEF_SCORES = 5.0, 30.0
# A start is a few random numbers; it compiles in a quarter of the time.
_START: Options = {"xla_backend_optimization_level": "0", **PLAIN_LOOPS}


@dataclasses.dataclass(frozen=True)
class Engine:
    """The functions of a pack, compiled for its lanes on a mesh.

    Attributes:
        shapes: of the state of all lanes, with sharding.
        start_lanes: (state, args, fresh) -> state; the marked lanes begin anew. The
            args are rows of `pack_args`, here and below.
        step_lanes: (state, args, number of steps, data) -> (state, `Seen`); no lane
            takes more steps than its cell has.
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


class _Options(NamedTuple):
    """What XLA is asked for when it compiles each function of a pack."""

    start: Options
    step: Options
    score: Options


def _choose_options(pack: Pack, num_devices: int) -> _Options:
    is_small = pack.step_flops < _SMALL_STEP_FLOPS
    is_alone = num_devices >= cost.num_cores() and not pack.has_convolution
    seconds = math.inf if pack.has_convolution else pack.seconds
    large_step: Options = {
        **(_ONE_CORE_STEP if is_alone else {}),
        **(_SMALL_STEP if seconds < _BRIEF_STEPS else {}),
    }
    return _Options(
        start=_START,
        step=_SMALL_STEP if is_small else large_step,
        score=_SMALL_SCORE if is_small or seconds < _BRIEF_SCORES else {},
    )


class _Shapes(NamedTuple):
    """Of what the functions take, with sharding; see `Engine`."""

    state: LaneState
    args: Any
    marked: Any
    data: LaneData
    slab: Slab | None
    scores: tuple[Scores, Sums] | None


def _describe(
    pack: Pack, program: Program, dataset: Dataset, data: LaneData, mesh: Mesh
) -> _Shapes:
    sharding = NamedSharding(mesh, LANES)

    def for_lanes(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (pack.lanes, *leaf.shape), leaf.dtype, sharding=sharding
            ),
            tree,
        )

    own = jax.eval_shape(program.init_lane, _IDLE)
    slab, scores = None, None
    if pack.stream_rows:
        data, slab = slabs.describe_stream(pack, dataset, data.order, mesh)
        values: Any = jax.ShapeDtypeStruct(program.score_shape, jnp.result_type(float))
        diverged: Any = np.bool_(False)
        sums = jax.eval_shape(program.begin_sums, own)
        scores = for_lanes((Scores(values, diverged), sums))
    args, marked = for_lanes((pack_args(_IDLE), np.bool_(False)))
    return _Shapes(for_lanes(own), args, marked, data, slab, scores)


def compile_pack(
    pack: Pack, dataset: Dataset, data: LaneData, devices: Sequence[Any]
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
    data = jax.tree.map(lambda leaf: hold_everywhere(leaf, mesh), data)
    models = {width: build(pack.key, width, dataset) for width in pack.widths}
    program = make_program(pack.key, list(models.values()), dataset, pack.data_shards)
    # Traced once for the shapes and once for the lanes, unless jit remembers it.
    program = program._replace(init_lane=jax.jit(program.init_lane))
    shapes = _describe(pack, program, dataset, data, mesh)
    start, step, score, add_rows = _compile_all(pack, program, shapes, mesh)
    return Engine(
        shapes=shapes.state,
        start_lanes=start,
        step_lanes=step,
        score_lanes=score,
        add_rows=add_rows,
        mesh=mesh,
        dataset=dataset,
        data=shapes.data,
        slab=shapes.slab,
        scores=shapes.scores,
        models=models,
        forward_flops={
            width: model.count_forward_flops(dataset.input_spec) * dataset.task.views
            for width, model in models.items()
        },
        compile_seconds=time.perf_counter() - began,
    )


def _compile_all(
    pack: Pack, program: Program, shapes: _Shapes, mesh: Mesh
) -> tuple[Any, Any, Any, Any]:
    """Start, step, score, and add rows, which is None unless data are streamed.

    While one is traced, those traced before it are compiled, the longest first.
    """
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    lanes_here = pack.lanes // pack.num_devices
    one_by_one = is_cpu or pack.lane_axis == "map"
    layout = Layout(
        pack.lane_axis,
        lanes_here // pack.turns,
        pack.block_steps,
        at_once=1 if one_by_one else min(8, lanes_here),
    )
    functions = make_functions(program, layout, pack.describe())
    options = _choose_options(pack, mesh.devices.size)
    state, args, marked, data, slab, scores = shapes
    number = np.int32(0)
    of_data = LaneData(LANES, LANES, EVERYWHERE, LANES) if slab else EVERYWHERE
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def compile_one(*asked: Any) -> concurrent.futures.Future:
            return pool.submit(_trace(pack, mesh, *asked))

        step = compile_one(
            functions.step,
            (LANES, LANES, EVERYWHERE, of_data),
            (state, args, number, data),
            options.step,
            (0,),
        )
        if slab is None or scores is None:
            score = compile_one(
                functions.score,
                (LANES, LANES, LANES, of_data),
                (state, args, marked, data),
                options.score,
            )
        else:
            score = compile_one(
                functions.score_some,
                (LANES, LANES, LANES, of_data, LANES, LANES, EVERYWHERE, EVERYWHERE),
                (state, args, marked, data, *scores, number, number),
                options.score,
                (4, 5),
            )
        start = compile_one(
            functions.start, (LANES,) * 3, (state, args, marked), options.start, (0,)
        )
        add_rows = None
        if slab:
            rows = data._replace(order=None), slab
            add_rows = compile_one(slabs.add_rows, (LANES,) * 2, rows, {}, (0,))
        done = start.result(), step.result(), score.result()
        return *done, add_rows and add_rows.result()


def _trace(
    pack: Pack,
    mesh: Mesh,
    function: Callable,
    specs: tuple[Any, ...],
    args: Any,
    options: Options,
    donated: tuple[int, ...] = (),
) -> Callable[[], Any]:
    """One function, its lanes sharded as `specs` say; what is left is to compile it."""
    platform = mesh.devices.flat[0].platform
    # No lane speaks to another, so there is nothing for check_vma to check.
    sharded = jax.shard_map(
        function, mesh=mesh, in_specs=specs, out_specs=LANES, check_vma=False
    )
    with traced_as(pack.convolution, platform), _products(pack.key, platform):
        lowered = jax.jit(sharded, donate_argnums=donated).lower(*args)
    asked = compiler.known(options) if platform == "cpu" else None
    return lambda: lowered.compile(asked)


def _products(key: ProgramKey, platform: str) -> contextlib.AbstractContextManager:
    """In it products of float32 numbers are float32, unless others are asked for.

    By themselves accelerators round what they multiply, each to bits of its own.
    """
    is_exact = platform != "cpu" and {"fast", "bfloat16"}.isdisjoint(key.extras)
    return jax.default_matmul_precision("highest" if is_exact else None)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the compiler for it, says so."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def does_not_fit(pack: Pack, device: str) -> UserError:
    """That not even one lane a device fits."""
    return UserError(
        f"{pack.describe()}: does not fit into the memory of {device}; choose fewer "
        "packing.lanes, a smaller training.batch_size, or leave out "
        f"grid.widths={pack.key.width}; finished runs are kept"
    )


def build(key: ProgramKey, width: int, dataset: Dataset) -> Model:
    """The model of a program at one of its widths."""
    return build_for(dataset, key.family, width, key.depth)


class Compiler:
    """Compiles packs side by side, as one leaves a core idle and trains nothing.

    What was compiled for a trial is not compiled again.
    """

    def __init__(self, dataset: Dataset, data: LaneData, devices: Sequence[Any]):
        self.device_kind: str = devices[0].device_kind
        self._needs = dataset, data, devices
        self._pool = concurrent.futures.ThreadPoolExecutor(cost.num_cores())
        self._futures: dict[Any, concurrent.futures.Future[Engine]] = {}

    def start(self, packs: Sequence[Pack]) -> list[concurrent.futures.Future[Engine]]:
        """An engine to come for each pack."""
        for pack in packs:
            name = pack.key, pack.choice
            if name not in self._futures:
                self._futures[name] = self._pool.submit(
                    compile_pack, pack, *self._needs
                )
        return [self._futures[pack.key, pack.choice] for pack in packs]

    def close(self) -> None:
        """Nobody waits for what is not compiled yet."""
        self._pool.shutdown(wait=False, cancel_futures=True)

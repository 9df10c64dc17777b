"""What a program costs on a device: for the plan, and for nothing that is measured.

Only ratios matter to the plan, so a device is three numbers. No result of a run
depends on any of them, beyond the rounding that the number of lanes brings.
"""

import dataclasses
import functools
import math
import os
from typing import Any, NamedTuple

import jax

from scalepred.data.dataset import Dataset
from scalepred.data.task import read_labels
from scalepred.grid import ProgramKey
from scalepred.models.model import Tree, build_for
from scalepred.models.target import traced_as
from scalepred.training import args, optimizer, score
from scalepred.training import lane as lane_lib
from scalepred.training.step import find_loss

_IDLE = args.idle_args()
# What a step costs beside its arithmetic, in FLOPs of a CPU core: about ten
# microseconds of starting small kernels.
STEP_OVERHEAD_FLOPS = 1e6


class ProgramCost(NamedTuple):
    """One lane of a program at its width."""

    flops: float  # of an optimiser step
    state_bytes: float  # weights, what the optimiser and the model carry
    work_bytes: float  # more while it steps: gradient, patches of images
    kept_bytes: float  # what the forward pass keeps for the backward, at most
    has_convolution: bool
    can_be_padded: bool
    can_split_batch: bool = False  # over devices: no row of it looks at another


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device, as the plan sees it.

    Attributes:
        is_cpu: lanes share a core.
        flops_per_second: of one device, in small products.
        step_seconds: of a step however little it does: starting its kernels.
        lane_seconds: the same for each further lane beside the first (vmap).
        compile_seconds: of a program.
        width_seconds: of each further width that starts in the program.
        memory_bytes: of one device.
        most_lanes: on a device; beyond it nothing is gained.
        stream_rows: examples of the data that it holds at a time; 0: all.
        block_steps: steps of a vmapped loop whose length the compiler knows.
        kept: share of `kept_bytes` that needs memory; the rest is computed again where
            it is used.
        beside: work of convolutions side by side over that of one after the other.
        near_bytes: memory beside the cores. Lanes that need more step slower.
    """

    is_cpu: bool
    flops_per_second: float
    step_seconds: float
    lane_seconds: float
    compile_seconds: float
    width_seconds: float
    memory_bytes: float = math.inf
    most_lanes: int = 8
    stream_rows: int = 0
    block_steps: int = 1
    kept: float = 1.0
    beside: float = 1.0
    near_bytes: float = math.inf

    def choose_axis(self, cost: ProgramCost) -> str:
        """map: a CPU is kept busy by one lane, and vmapped convolutions are slow on it.

        vmap: an accelerator, unless large convolutions are slower so; or steps so small
        that starting them is most of them.
        """
        work = cost.flops / self.flops_per_second
        if self.is_cpu:
            is_small = work < 4 * self.step_seconds
            return "vmap" if is_small and not cost.has_convolution else "map"
        lost = (self.beside - 1) * work if cost.has_convolution else 0.0
        return "map" if lost > self.step_seconds else "vmap"

    def seconds(self, cost: ProgramCost, lanes: int, axis: str) -> float:
        """One step of so many lanes of one device."""
        work = cost.flops / self.flops_per_second
        if axis == "map":
            return lanes * (self.step_seconds + work)
        if cost.has_convolution:
            work *= self.beside
        doublings = math.log2(max(1, self.bytes(cost, lanes, axis) / self.near_bytes))
        work *= 1 + _FAR * doublings
        return self.step_seconds + lanes * (self.lane_seconds + work)

    def fits(
        self, cost: ProgramCost, axis: str, lanes: int = 1, turns: int = 1
    ) -> bool:
        """Whether a device holds the lanes."""
        return self.bytes(cost, lanes, axis, turns) <= self.memory_bytes

    def bytes(self, cost: ProgramCost, lanes: int, axis: str, turns: int = 1) -> float:
        """Memory of so many lanes on one device, for each of the turns they take."""
        work_bytes = cost.work_bytes + self.kept * cost.kept_bytes
        if axis == "map":  # one lane at a time is taken out, stepped and put back
            return (turns * lanes + 1) * cost.state_bytes + work_bytes
        # The lanes of one turn are taken out, stepped and put back, too.
        held = turns + 1 if turns > 1 else 1
        return lanes * (held * cost.state_bytes + work_bytes)


def split_batch(cost: ProgramCost, shards: int) -> ProgramCost:
    """What one of the devices has to do that share a lane's batch."""
    return cost._replace(flops=cost.flops / shards, kept_bytes=cost.kept_bytes / shards)


# Measured on one core of an EPYC (docs/benchmarks.md).
CPU = Machine(
    is_cpu=True,
    flops_per_second=5e10,
    step_seconds=2e-5,
    lane_seconds=6e-6,
    compile_seconds=2.0,
    width_seconds=0.3,
    kept=0.65,
)
# GPUs and TPUs were not measured. This is from the data sheet of an H100 and the time
# to start a hundred kernels; `kept` is as compiled for it. The autotuner corrects the
# number of lanes.
GPU = Machine(
    is_cpu=False,
    flops_per_second=1e13,
    step_seconds=3e-4,
    lane_seconds=0.0,
    compile_seconds=20.0,
    width_seconds=2.0,
    most_lanes=1024,
    # A GPU asks the host before every round of a loop of unknown length.
    block_steps=16,
    kept=0.55,
)
# What the compiler for a v5e thinks of MLP, ResNet and decoder (docs/benchmarks.md).
TPU = dataclasses.replace(
    GPU, flops_per_second=5e12, step_seconds=1e-4, beside=1.5, near_bytes=3e8
)
# Work grows by this share with each doubling of the memory beyond `near_bytes`.
_FAR = 0.3


def describe_machine(device: Any, memory_bytes: float | None = None) -> Machine:
    """The kind of device.

    Args:
        device: of jax.
        memory_bytes: it has; None: it is here, and is asked.
    """
    if device.platform == "cpu":
        pages, size = (os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE"))
        share = pages * size / 2 / max(1, jax.local_device_count())
        return dataclasses.replace(CPU, memory_bytes=memory_bytes or share)
    if memory_bytes is None:
        stats = device.memory_stats() or {}
        memory_bytes = float(stats.get("bytes_limit", math.inf))
    kind = TPU if device.platform == "tpu" else GPU
    return dataclasses.replace(kind, memory_bytes=0.9 * memory_bytes)


def num_cores() -> int:
    """Cores this process may use; macOS cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ProgramCosts:
    """The costs of a dataset's programs, each traced once and compiled never."""

    def __init__(
        self, dataset: Dataset, convolution: str = "auto", platform: str | None = None
    ):
        """Of programs traced as `target.traced_as` says."""
        self._dataset, self._as = dataset, (convolution, platform)
        self._known: dict[ProgramKey, ProgramCost] = {}

    def __call__(self, key: ProgramKey) -> ProgramCost:
        """Cost of one lane of a program."""
        if key not in self._known:
            with traced_as(*self._as):
                self._known[key] = _trace(key, self._dataset)
        return self._known[key]


def _trace(key: ProgramKey, dataset: Dataset) -> ProgramCost:
    model = build_for(dataset, key.family, key.width, key.depth)
    batch = score.evaluation_batch(key, dataset)
    setup = lane_lib.make_setup(key, [model], dataset, batch)
    optimizer.check(setup.options)
    if model.standard:
        optimizer.check_parametrized(key.optimizer)
    num_params = model.num_params_total
    state = jax.eval_shape(functools.partial(lane_lib.start, setup), _IDLE)
    carried = sum(leaf.size for leaf in jax.tree.leaves(state))
    copies = 2 if setup.options.branch else 1  # that of the trunk is put aside
    residuals, has_convolution = _trace_backward(setup)
    patches = 0.0
    if len(dataset.input_shape) == 3:  # images
        with traced_as("native"):
            without, _ = _trace_backward(setup)
        patches = max(residuals - without, 0.0)
    forward = model.count_forward_flops(dataset.input_spec)
    return ProgramCost(
        flops=3 * forward * dataset.task.views * key.batch_size,
        state_bytes=4.0 * carried * copies,
        work_bytes=4.0 * num_params + patches,
        kept_bytes=residuals - patches,
        has_convolution=has_convolution,
        can_be_padded=model.can_be_padded and optimizer.can_be_padded(key.optimizer),
        can_split_batch=lane_lib.can_split_batch(model),
    )


def _trace_backward(setup: lane_lib.Setup) -> tuple[float, bool]:
    """Bytes that the forward pass keeps for the backward, and if it convolves."""
    model, dataset = setup.model, setup.dataset
    batch_size = setup.options.batch_size
    x, labels = (
        jax.ShapeDtypeStruct((batch_size, *stored.shape[1:]), stored.dtype)
        for stored in (dataset.inputs, dataset.labels)
    )

    def pull(params: Tree, state: Tree, x: jax.Array, labels: jax.Array) -> Any:
        loss = functools.partial(
            find_loss,
            setup,
            model_state=setup.restart(state, batch_size),
            smoothing=None,
            x=x,
            labels=read_labels(labels),
            key=jax.random.key(0),
        )
        return jax.vjp(loss, params, has_aux=True)[1]

    traced = jax.jit(pull).trace(*model.shapes, x, labels)
    kept = sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(traced.out_info)
    )
    # The weights are kept too, but they are counted already.
    kept -= 4 * model.num_params_total
    return max(kept, 0.0), "conv_general_dilated" in str(traced.jaxpr)

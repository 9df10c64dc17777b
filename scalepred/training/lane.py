"""One model trained on its own: what it is given, what it carries, how it starts.

No lane axis here. All functions of a lane are pure and take the run's numbers
(`LaneArgs`) as traced arrays, so one compiled program serves every cell with the same
`ProgramKey`. Its step is in `step.py`, its end in `score.py`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.task import Task
from scalepred.grid import ProgramKey
from scalepred.models.model import Model, Tree
from scalepred.training import curves, noise, padding, sampling
from scalepred.training.args import LaneArgs, Options
from scalepred.training.optimizer import make_optimizer


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that is static of a lane.

    Attributes:
        options: of the training.
        models: those that lanes may hold. With more than one, all are padded to the
            shapes of the last, the widest.
        task: what is learnt.
        prepare: stored examples -> what the model is given.
        dataset: its sizes, and nothing of its content.
        evaluation_batch: examples that are scored at once.
        data_shards: devices along the mesh axis "data", each of which takes an equal
            part of every batch; all hold the same state.
    """

    options: Options
    models: tuple[Model, ...]
    task: Task
    prepare: Callable[[jax.Array], jax.Array]
    dataset: Dataset
    evaluation_batch: int
    data_shards: int

    @property
    def model(self) -> Model:
        """The widest, which all lanes run."""
        return self.models[-1]

    def restart(self, state: Tree, size: int) -> Tree:
        """The model's state with nothing read, for rows of so many."""
        return self.model.restart(state, size) if self.model.restart else state


class LaneState(NamedTuple):
    """What training changes."""

    params: Tree
    model_state: Tree
    opt_state: Any
    average: Tree  # of the weights so far; empty unless the program averages
    cursor: sampling.Cursor
    step: jax.Array  # steps done, int32 []
    diverged: jax.Array  # a loss was not finite, bool []
    curve: jax.Array  # sums of losses, float32 [curves.NUM_POINTS]


class LaneData(NamedTuple):
    """The dataset on the device, once for all lanes; or, streamed, some rows of it."""

    inputs: Any  # [rows, ...]
    labels: Any  # as stored [rows, ...]
    order: Any  # row of each seed: train part, then test part; int32 [seeds, examples]
    # Streamed: the row of each example that is there, int32 [examples].
    row_of: Any = None

    def find_rows(self, order: Any, position: Any) -> Any:
        """Rows of the examples at these positions of an order."""
        examples = self.order[order, position]
        return examples if self.row_of is None else self.row_of[examples]


def make_setup(
    key: ProgramKey,
    models: Sequence[Model],
    dataset: Dataset,
    evaluation_batch: int,
    data_shards: int = 1,
) -> Setup:
    """What is static of a program's lanes; see `Setup`.

    Raises:
        UserError: images are to be changed where there are none, labels smoothed that
            are no classes, batches do not hold whole groups, or runs are to branch
            whose model reads on from window to window.
    """
    options, task = Options.of(key), dataset.task
    if options.augment != "none" and dataset.inputs.ndim != 4:
        raise UserError(
            f"training.augment={options.augment}: dataset {dataset.name} has examples "
            f"of shape {dataset.inputs.shape[1:]}, not images; set it to none"
        )
    if options.smooth and task.smoothed_loss is None:
        raise UserError(
            f"training.label_smoothing: dataset {dataset.name} has no classes to "
            f"spread a label over ({task.name}); set it to 0"
        )
    if key.batch_size % (task.group * data_shards):
        raise UserError(
            f"training.batch_size={key.batch_size}: {task.name} judges groups of "
            f"{task.group} examples; choose a multiple of {task.group * data_shards}"
        )
    if options.branch and any(model.restart for model in models):
        raise UserError(
            f"grid.branches: family {key.family} reads on in stretches of the data "
            "that depend on their size; leave grid.branches out"
        )
    prepare = dataset.prepare or (lambda x: x)
    return Setup(
        options, tuple(models), task, prepare, dataset, evaluation_batch, data_shards
    )


def start(setup: Setup, args: LaneArgs) -> LaneState:
    """A lane before its first step, its model at its true width, then padded."""
    key = _start_key(args)
    starts = [padding.pad_init(model, setup.model.shapes) for model in setup.models]
    if len(starts) == 1:
        params, model_state = starts[0](key)
    else:
        params, model_state = jax.lax.switch(args.model, starts, key)
    return LaneState(
        params=params,
        model_state=setup.restart(model_state, setup.options.batch_size),
        opt_state=make_optimizer(setup.options, args, jnp.int32(0)).init(params),
        average=params if setup.options.average else {},
        cursor=sampling.start(),
        step=jnp.int32(0),
        diverged=jnp.bool_(False),
        curve=curves.start(),
    )


def can_split_batch(model: Model) -> bool:
    """Whether devices may share a batch: the model carries nothing that it computed
    from all of it, such as statistics, or row by row, such as what it read before.
    """
    only_numbers = all(leaf.ndim == 0 for leaf in jax.tree.leaves(model.shapes.state))
    return only_numbers and model.restart is None


def apply_model(
    setup: Setup,
    params: Tree,
    state: Tree,
    x: jax.Array,
    *,
    train: bool,
    key: jax.Array,
) -> tuple[jax.Array, Tree]:
    """The model's outputs and state, in the precision of the weights.

    Args:
        setup: of the program.
        params: weights.
        state: what the model carries.
        x: a batch as stored [batch, ...]; of pairs and the like [batch, views, ...].
        train: whether it is trained.
        key: of dropout and the like.
    """
    x, views = setup.prepare(x), setup.task.views
    if views > 1:
        x = x.reshape(-1, *x.shape[2:])
    outputs, after = _apply(
        setup.options.bfloat16, setup.model, params, state, x, train, key
    )
    if views > 1:
        outputs = outputs.reshape(-1, views, *outputs.shape[1:])
    return outputs, after


def _apply(
    bfloat16: bool,
    model: Model,
    params: Tree,
    state: Tree,
    x: jax.Array,
    train: bool,
    key: jax.Array,
) -> tuple[jax.Array, Tree]:
    if not bfloat16:
        return model.apply(params, state, x, train=train, key=key)
    wide = jax.tree.leaves(params)[0].dtype
    params, x = jax.tree.map(_to_bfloat16, (params, x))
    outputs, after = model.apply(params, state, x, train=train, key=key)
    after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)
    return outputs.astype(wide), after


def _to_bfloat16(leaf: jax.Array) -> jax.Array:
    is_real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.bfloat16) if is_real else leaf


def _start_key(args: LaneArgs) -> jax.Array:
    """Key of the start. Always threefry: the bits of `rbg` depend on the lane."""
    return jax.random.wrap_key_data(jnp.asarray(args.words), impl="threefry2x32")


def noise_key(args: LaneArgs) -> jax.Array:
    """Key of noise in training. (The batch order uses the words themselves.)"""
    return noise.make_key(jnp.asarray(args.words) ^ jnp.array([0, 1], jnp.uint32))

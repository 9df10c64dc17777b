"""One model trained on its own: start, one step, evaluation. No lane axis here.

All functions are pure and take the run's numbers (`LaneArgs`) as traced arrays, so
one compiled program serves every cell with the same `ProgramKey`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from scalepred.config import MAX_DECAY_POINTS, UserError
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell, ProgramKey
from scalepred.models.model import Model, Tree, cross_entropy
from scalepred.training import noise, padding, sampling
from scalepred.training.augment import augment

# A loss on its own training examples above this many times ln K: diverged.
_HOPELESS = 10.0
# Evaluation batches hold at most so many labels, or a training batch, and at most so
# many training batches: the backward pass is left out, so this takes no more memory.
# Of images one: patches of more would, and leave the cache of a CPU (twice as slow).
_MAX_EVALUATION_BATCH = 1024
_EVALUATED_AT_ONCE = 4


class LaneArgs(NamedTuple):
    """What of a cell is only a number: inputs of the program, never compiled in."""

    words: Any  # random words of the cell, uint32 [2]
    model: Any  # which of the program's models, int32
    order: Any  # which row of `LaneData.order`, int32
    dataset_size: Any  # examples of the subset, uint32
    validation_size: Any  # examples at the end of the train part, int32
    steps: Any  # int32; 0: the lane is idle
    micro_batches: Any  # a step, int32
    learning_rate: Any  # float32, as all below
    momentum: Any
    beta2: Any
    weight_decay: Any
    clip_norm: Any
    label_smoothing: Any
    warmup_fraction: Any
    decay_points: Any  # [MAX_DECAY_POINTS], those that are not used beyond 1
    decay_factor: Any
    cooldown_fraction: Any
    average_fraction: Any


class LaneState(NamedTuple):
    """What training changes."""

    params: Tree
    model_state: Tree
    opt_state: Any
    average: Tree  # of the weights so far; empty unless the program averages
    cursor: sampling.Cursor
    step: jax.Array  # steps done, int32 []
    diverged: jax.Array  # a loss was not finite, bool []


class LaneData(NamedTuple):
    """The dataset on the device, once for all lanes; or, streamed, some rows of it."""

    inputs: Any  # [rows, ...]
    labels: Any  # integers [rows, (positions)]
    order: Any  # row of each seed: train part, then test part; int32 [seeds, examples]
    # Streamed: the row of each example that is there, int32 [examples].
    row_of: Any = None

    def find_rows(self, order: Any, position: Any) -> Any:
        """Rows of the examples at these positions of an order."""
        examples = self.order[order, position]
        return examples if self.row_of is None else self.row_of[examples]


class Scores(NamedTuple):
    """What a finished run is worth. Scalars."""

    error: jax.Array  # top-1, 0 to 1, test part
    loss: jax.Array  # cross-entropy, nats, test part
    train_error: jax.Array  # on the run's own examples, at most as many
    train_loss: jax.Array
    validation_error: jax.Array  # on the validation part; NaN where there is none
    validation_loss: jax.Array
    diverged: jax.Array  # not finite, or far above a guess on its own examples; bool


class Sums(NamedTuple):
    """What scoring has added up of each part: test, own examples, validation [3]."""

    num_wrong: jax.Array
    loss: jax.Array
    model_state: Tree  # carried from batch to batch


class Program(NamedTuple):
    """The functions of a lane, closed over what is static."""

    init_lane: Callable[[LaneArgs], LaneState]
    # (state, args, data, what `draw_lane` drew for this step, or None) -> state
    step_lane: Callable[..., LaneState]
    # (state, args, steps) -> what the next steps will draw, int32 [steps, batch]; None
    # where each step must draw for itself.
    draw_lane: Callable[..., jax.Array | None]
    evaluate_lane: Callable[[LaneState, LaneArgs, LaneData], Scores]
    # The last in two: the beginning, and the batches from one number up to another,
    # with the scores of all so far.
    begin_sums: Callable[[LaneState], Sums]
    add_batches: Callable[
        [Sums, LaneState, LaneArgs, LaneData, Any, Any], tuple[Scores, Sums]
    ]


def can_split_batch(model: Model) -> bool:
    """Whether devices may share a batch: the model carries nothing that it computed
    from all of it, such as statistics, or row by row, such as what it read before.
    """
    only_numbers = all(leaf.ndim == 0 for leaf in jax.tree.leaves(model.shapes.state))
    return only_numbers and model.restart is None


def make_program(
    key: ProgramKey, models: Sequence[Model], dataset: Dataset, data_shards: int = 1
) -> Program:
    """Builds the functions of a program.

    Args:
        key: what the program is for.
        models: the models its lanes may hold. With more than one, all are padded to
            the shapes of the last, the widest.
        dataset: what they are trained on.
        data_shards: devices along the mesh axis "data", each of which takes an equal
            part of every batch; all hold the same state.
    """
    widest = models[-1]
    num_test = dataset.num_test
    prepare = dataset.prepare or (lambda x: x)
    batch_size, extras = key.batch_size, frozenset(key.extras)
    image_change = extras & {"crop", "crop_flip"}
    if image_change and dataset.inputs.ndim != 4:
        raise UserError(
            f"training.augment={key.extras}: dataset {dataset.name} has examples of "
            f"shape {dataset.inputs.shape[1:]}, not images; set it to none"
        )

    def restart(state: Tree, size: int) -> Tree:
        return widest.restart(state, size) if widest.restart else state

    def init_lane(args: LaneArgs) -> LaneState:
        starts = [padding.pad_init(model, widest.shapes) for model in models]
        if len(starts) == 1:
            params, model_state = starts[0](_init_key(args))
        else:
            params, model_state = jax.lax.switch(args.model, starts, _init_key(args))
        return LaneState(
            params=params,
            model_state=restart(model_state, batch_size),
            opt_state=_make_optimizer(key, args, jnp.int32(0)).init(params),
            average=params if "average" in extras else {},
            cursor=sampling.start(),
            step=jnp.int32(0),
            diverged=jnp.bool_(False),
        )

    def mean_loss(
        params: Tree, state: Tree, args: LaneArgs, x: jax.Array, labels: jax.Array, key
    ) -> tuple[jax.Array, Tree]:
        logits, after = apply_model(
            widest, extras, params, state, x, train=True, key=key
        )
        smoothing = args.label_smoothing if "smooth" in extras else None
        return jnp.mean(cross_entropy(logits, labels, smoothing)), after

    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)

    def find_gradient(
        model_state: Tree,
        cursor: sampling.Cursor,
        params: Tree,
        args: LaneArgs,
        data: LaneData,
        noise_key: jax.Array,
        drawn: jax.Array | None = None,
    ) -> tuple[jax.Array, Tree, Tree, sampling.Cursor]:
        """Loss and gradient of the next (micro) batch, and what is carried on."""
        if widest.restart:
            fresh = restart(model_state, batch_size)
            model_state = jax.tree.map(
                lambda new, old: jnp.where(cursor.position == 0, new, old),
                fresh,
                model_state,
            )
            batch, cursor = sampling.draw_consecutive(
                cursor, args.dataset_size, batch_size
            )
        elif drawn is not None:
            batch = drawn
            cursor = sampling.advance(cursor, args.dataset_size, batch_size)
        else:
            batch, cursor = sampling.draw_batch(
                args.words, cursor, args.dataset_size, batch_size
            )
        rows = data.find_rows(args.order, batch)
        x = data.inputs[rows]
        for kind in image_change:
            x = augment(x, kind, jax.random.fold_in(noise_key, 1))
        labels = data.labels[rows].astype(jnp.int32)
        if data_shards > 1:
            shard = jax.lax.axis_index("data")
            noise_key = jax.random.fold_in(noise_key, shard)
            size = batch_size // data_shards
            x, labels = (
                jax.lax.dynamic_slice_in_dim(whole, shard * size, size)
                for whole in (x, labels)
            )
        (loss, model_state), gradient = value_and_grad(
            params, model_state, args, prepare(x), labels, noise_key
        )
        if data_shards > 1:
            loss, gradient = jax.lax.pmean((loss, gradient), "data")
        return loss, gradient, model_state, cursor

    def draw_lane(state: LaneState, args: LaneArgs, steps: int) -> jax.Array | None:
        if widest.restart or "micro" in extras:
            return None
        drawn, _ = sampling.draw_batch(
            args.words, state.cursor, args.dataset_size, steps * batch_size
        )
        return drawn.reshape(steps, batch_size)

    def step_lane(
        state: LaneState,
        args: LaneArgs,
        data: LaneData,
        drawn: jax.Array | None = None,
    ) -> LaneState:
        noise_key = jax.random.fold_in(_noise_key(args), state.step)
        if "micro" in extras:

            def add(index: jax.Array, sums: Any) -> Any:
                total, gradients, model_state, cursor = sums
                loss, gradient, model_state, cursor = find_gradient(
                    model_state,
                    cursor,
                    state.params,
                    args,
                    data,
                    jax.random.fold_in(noise_key, index),
                )
                gradients = jax.tree.map(jnp.add, gradients, gradient)
                return total + loss, gradients, model_state, cursor

            nothing = jax.tree.map(jnp.zeros_like, state.params)
            zero = jnp.zeros((), jax.tree.leaves(state.params)[0].dtype)
            loss, gradient, model_state, cursor = jax.lax.fori_loop(
                0, args.micro_batches, add, (zero, nothing, *_carried(state))
            )
            gradient = jax.tree.map(lambda g: g / args.micro_batches, gradient)
        else:
            loss, gradient, model_state, cursor = find_gradient(
                *_carried(state), state.params, args, data, noise_key, drawn
            )
        optimizer = _make_optimizer(key, args, state.step)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        average = state.average
        if "average" in extras:
            average = _average(average, params, args, state.step)
        return LaneState(
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            average=average,
            cursor=cursor,
            step=state.step + 1,
            diverged=state.diverged | ~jnp.isfinite(loss),
        )

    size = evaluation_batch(key, dataset)

    def begin_sums(state: LaneState) -> Sums:
        carried = restart(state.model_state, size)
        zero = jnp.zeros(3, jax.tree.leaves(state.params)[0].dtype)
        thrice = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), carried)
        return Sums(jnp.zeros(3, jnp.int32), zero, thrice)

    def add_batches(
        sums: Sums, state: LaneState, args: LaneArgs, data: LaneData, begin, end
    ) -> tuple[Scores, Sums]:
        params = state.average if "average" in extras else state.params

        def add_to_part(part: tuple[jax.Array, jax.Array, Sums]) -> Sums:
            """Adds batches of `count` positions of the order, from `first` on."""
            first, count, sums = part

            def add_batch(index: jax.Array, sums: Sums) -> Sums:
                row = jnp.arange(size, dtype=jnp.int32)
                position, is_real = find_evaluated(
                    row, index, count, size, reads_on=widest.restart is not None
                )
                rows = data.find_rows(args.order, first + position)
                labels = data.labels[rows].astype(jnp.int32)
                logits, model_state = apply_model(
                    widest,
                    extras,
                    params,
                    sums.model_state,
                    prepare(data.inputs[rows]),
                    train=False,
                    key=_noise_key(args),
                )
                is_real = is_real.reshape((-1,) + (1,) * (labels.ndim - 1))
                wrong = (jnp.argmax(logits, axis=-1) != labels) & is_real
                loss = jnp.where(is_real, cross_entropy(logits, labels), 0.0)
                return Sums(
                    sums.num_wrong + jnp.sum(wrong, dtype=jnp.int32),
                    sums.loss + jnp.sum(loss),
                    model_state,
                )

            trips = jnp.minimum(end, _ceil_divide(count, size))
            return jax.lax.fori_loop(begin, trips, add_batch, sums)

        # Mapped over the parts, so that the model is compiled once.
        num_own = jnp.minimum(args.dataset_size.astype(jnp.int32), num_test)
        parts = evaluated_parts(dataset, num_own, args.validation_size)
        firsts, counts = (jnp.stack(numbers) for numbers in zip(*parts, strict=True))
        sums = jax.lax.map(add_to_part, (firsts, counts, sums))
        num_labels = counts * dataset.units_per_example
        error, loss = sums.num_wrong / num_labels, sums.loss / num_labels
        # Saturating units keep a run that blew up finite; no run that learns ends
        # far worse than a guess on the very examples it was shown.
        blown_up = loss[1] > _HOPELESS * math.log(dataset.num_classes)
        diverged = state.diverged | ~jnp.all(jnp.isfinite(loss[:2])) | blown_up
        test, own, valid = zip(error, loss, strict=True)
        return Scores(*test, *own, *valid, diverged), sums

    def evaluate_lane(state: LaneState, args: LaneArgs, data: LaneData) -> Scores:
        every = jnp.iinfo(jnp.int32).max
        return add_batches(begin_sums(state), state, args, data, 0, every)[0]

    return Program(
        init_lane, step_lane, draw_lane, evaluate_lane, begin_sums, add_batches
    )


def evaluation_batch(key: ProgramKey, dataset: Dataset) -> int:
    """Examples that are scored at once."""
    units, num_test = dataset.units_per_example, dataset.num_test
    at_once = 1 if dataset.inputs.ndim == 4 else _EVALUATED_AT_ONCE
    most = min(_MAX_EVALUATION_BATCH // units, at_once * key.batch_size)
    most = max(most, key.batch_size)
    return _ceil_divide(num_test, _ceil_divide(num_test, most))


def evaluated_parts(
    dataset: Dataset, num_own: Any, num_valid: Any
) -> list[tuple[Any, Any]]:
    """Where in the order what is scored begins, and its length: test, own, validation.

    Args:
        dataset: what is trained on.
        num_own: the run's own examples, at most as many as the test part: they are a
            check, and must not cost more.
        num_valid: examples at the end of the train part.
    """
    num_train = dataset.num_train
    return [
        (num_train, dataset.num_test),
        (0, num_own),
        (num_train - num_valid, num_valid),
    ]


def find_evaluated(row: Any, index: Any, count: Any, size: int, *, reads_on: bool):
    """Positions within a part that its batch `index` holds, and which of them count.

    A model that reads on gets consecutive windows in each row, others any.
    """
    trips = _ceil_divide(count, size)
    position = row * trips + index if reads_on else index * size + row
    is_real = position < count
    return position * is_real, is_real


def _ceil_divide(count: Any, size: int) -> Any:
    return (count + size - 1) // size


def _carried(state: LaneState) -> tuple[Tree, sampling.Cursor]:
    return state.model_state, state.cursor


def apply_model(
    model: Model,
    extras: frozenset[str],
    params: Tree,
    state: Tree,
    x: jax.Array,
    *,
    train: bool,
    key: jax.Array,
) -> tuple[jax.Array, Tree]:
    """The model in the precision asked for; logits and state in that of the weights."""
    if "bfloat16" not in extras:
        return model.apply(params, state, x, train=train, key=key)
    wide = jax.tree.leaves(params)[0].dtype
    params, x = jax.tree.map(_to_bfloat16, (params, x))
    logits, after = model.apply(params, state, x, train=train, key=key)
    after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)
    return logits.astype(wide), after


def _to_bfloat16(leaf: jax.Array) -> jax.Array:
    is_real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.bfloat16) if is_real else leaf


def _average(average: Tree, params: Any, args: LaneArgs, step: jax.Array) -> Tree:
    """Mean of the weights since the average began; the last weights before."""
    first = jnp.ceil((1 - args.average_fraction) * args.steps).astype(jnp.int32)
    share = 1 / jnp.maximum(step - first + 1, 1).astype(jnp.float32)
    return jax.tree.map(
        lambda mean, new: (mean + (new - mean) * share).astype(new.dtype),
        average,
        params,
    )


def lane_args(cell: Cell, model: int, order: int) -> LaneArgs:
    """A cell's numbers, as numpy scalars.

    Args:
        cell: the run.
        model: index of its width among the program's models.
        order: row of its seed in `LaneData.order`.
    """
    points = np.full(MAX_DECAY_POINTS, 2, np.float32)
    points[: len(cell.decay_points)] = cell.decay_points
    micro_batch_size = cell.micro_batch_size or cell.batch_size
    return LaneArgs(
        words=np.array(cell.random_words, np.uint32),
        model=np.int32(model),
        order=np.int32(order),
        dataset_size=np.uint32(cell.dataset_size),
        validation_size=np.int32(cell.validation_size),
        steps=np.int32(cell.steps),
        micro_batches=np.int32(cell.batch_size // micro_batch_size),
        learning_rate=np.float32(cell.learning_rate),
        momentum=np.float32(cell.momentum),
        beta2=np.float32(cell.beta2),
        weight_decay=np.float32(cell.weight_decay),
        clip_norm=np.float32(cell.clip_norm),
        label_smoothing=np.float32(cell.label_smoothing),
        warmup_fraction=np.float32(cell.warmup_fraction),
        decay_points=points,
        decay_factor=np.float32(cell.decay_factor),
        cooldown_fraction=np.float32(cell.cooldown_fraction),
        average_fraction=np.float32(cell.average_fraction),
    )


def idle_args() -> LaneArgs:
    """A lane that holds no cell: no steps, and harmless numbers."""
    zero = np.float32(0)
    return LaneArgs(
        words=np.zeros(2, np.uint32),
        model=np.int32(0),
        order=np.int32(0),
        dataset_size=np.uint32(1),
        validation_size=np.int32(0),
        steps=np.int32(0),
        micro_batches=np.int32(1),
        learning_rate=zero,
        momentum=zero,
        beta2=zero,
        weight_decay=zero,
        clip_norm=zero,
        label_smoothing=zero,
        warmup_fraction=zero,
        decay_points=np.full(MAX_DECAY_POINTS, 2, np.float32),
        decay_factor=zero,
        cooldown_fraction=zero,
        average_fraction=zero,
    )


def learning_rate_at(schedule: str, args: LaneArgs, step: jax.Array) -> jax.Array:
    """Learning rate of step `step`, a function of the fraction of the run done.

    Warm-up rises linearly to the peak over the first `warmup_fraction` of the steps.
    From its end to that of the run, a way s from 0 to 1, the rate is the peak times
    1 (constant), 1 - s (linear), (1 + cos(pi s)) / 2 (cosine). The others count in
    the whole run: step multiplies by `decay_factor` at each of `decay_points`, wsd
    stays and falls linearly to 0 over the last `cooldown_fraction`.
    """
    # The middle of the step, so that neither the first nor the last is wasted on 0.
    done = (step + 0.5) / jnp.maximum(args.steps, 1)
    warmup = args.warmup_fraction
    past_warmup = jnp.clip((done - warmup) / (1 - warmup), 0, 1)
    if schedule == "constant":
        falling = jnp.ones_like(done)
    elif schedule == "linear":
        falling = 1 - past_warmup
    elif schedule == "cosine":
        falling = (1 + jnp.cos(jnp.pi * past_warmup)) / 2
    elif schedule == "step":
        num_passed = jnp.sum(done[..., None] >= args.decay_points, axis=-1)
        falling = args.decay_factor ** num_passed.astype(jnp.float32)
    else:
        falling = jnp.minimum(1, (1 - done) / jnp.maximum(args.cooldown_fraction, 1e-9))
    rising = done / jnp.maximum(warmup, 1e-9)
    return args.learning_rate * jnp.where(done < warmup, rising, falling)


def _make_optimizer(
    key: ProgramKey, args: LaneArgs, step: jax.Array
) -> optax.GradientTransformation:
    """The optimiser at this step; optax takes traced numbers where it takes floats."""
    rate = learning_rate_at(key.schedule, args, step)
    decay, b2 = args.weight_decay, args.beta2
    if key.optimizer == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(decay, _is_decayed),
            optax.sgd(rate, momentum=args.momentum, nesterov=key.nesterov),
        )
    elif key.optimizer == "adam":
        optimizer = optax.adam(rate, b2=b2)
    elif key.optimizer == "adamw":
        optimizer = optax.adamw(rate, b2=b2, weight_decay=decay, mask=_is_decayed)
    else:
        optimizer = optax.contrib.muon(rate, weight_decay=decay, adam_b2=b2)
    if "clip" in key.extras:
        clip = optax.clip_by_global_norm(args.clip_norm)
        optimizer = optax.chain(clip, optimizer)
    return optimizer


def _is_decayed(params: Any) -> Any:
    """Weights, not biases and scales."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _init_key(args: LaneArgs) -> jax.Array:
    """Key of the start. Always threefry: the bits of `rbg` depend on the lane."""
    return jax.random.wrap_key_data(jnp.asarray(args.words), impl="threefry2x32")


def _noise_key(args: LaneArgs) -> jax.Array:
    """Key of noise in training. (The batch order uses the words themselves.)"""
    return noise.make_key(jnp.asarray(args.words) ^ jnp.array([0, 1], jnp.uint32))

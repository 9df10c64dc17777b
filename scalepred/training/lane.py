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

from scalepred.data.dataset import Dataset
from scalepred.grid import Cell, ProgramKey
from scalepred.models.model import Model, Tree, cross_entropy
from scalepred.training import padding, sampling

# A loss on its own training examples above this many times ln K: diverged.
_HOPELESS = 10.0
# Evaluation batches hold at most so many examples.
_MAX_EVALUATION_BATCH = 1024


class LaneArgs(NamedTuple):
    """What of a cell is only a number. Scalars, but for the key."""

    words: Any  # random words of the cell, uint32 [2]
    model: Any  # which of the program's models, int32
    order: Any  # which row of `LaneData.order`, int32
    dataset_size: Any  # n, uint32
    steps: Any  # int32; 0: the lane is idle
    learning_rate: Any  # float32
    momentum: Any  # float32
    weight_decay: Any  # float32
    warmup_fraction: Any  # float32


class LaneState(NamedTuple):
    """What training changes."""

    params: Tree
    model_state: Tree
    opt_state: Any
    cursor: sampling.Cursor
    step: jax.Array  # steps done, int32 []
    diverged: jax.Array  # a loss was not finite, bool []


class LaneData(NamedTuple):
    """The dataset on the device, once for all lanes."""

    inputs: Any  # [examples, ...]
    labels: Any  # int32 [examples]
    order: Any  # row of each seed: train part, then test part; int32 [seeds, examples]


class Scores(NamedTuple):
    """What a finished run is worth. Scalars."""

    error: jax.Array  # top-1, 0 to 1, test part
    loss: jax.Array  # cross-entropy, nats, test part
    train_error: jax.Array  # on the run's own n examples
    train_loss: jax.Array
    diverged: jax.Array  # not finite, or far above a guess on its own examples; bool


class Program(NamedTuple):
    """The three functions of a lane, closed over what is static."""

    init_lane: Callable[[LaneArgs], LaneState]
    step_lane: Callable[[LaneState, LaneArgs, LaneData], LaneState]
    evaluate_lane: Callable[[LaneState, LaneArgs, LaneData], Scores]


def make_program(key: ProgramKey, models: Sequence[Model], dataset: Dataset) -> Program:
    """Builds the functions of a program.

    Args:
        key: what the program is for.
        models: the models its lanes may hold. With more than one, all are padded to
            the shapes of the last, the widest.
        dataset: what they are trained on.
    """
    widest = models[-1]
    num_train, num_test = dataset.num_train, dataset.num_test
    prepare = dataset.prepare or (lambda x: x)

    def init_lane(args: LaneArgs) -> LaneState:
        init_key = _init_key(args)
        starts = [padding.pad_init(model, widest.shapes) for model in models]
        if len(starts) == 1:
            params, model_state = starts[0](init_key)
        else:
            params, model_state = jax.lax.switch(args.model, starts, init_key)
        return LaneState(
            params=params,
            model_state=model_state,
            opt_state=_make_optimizer(key, args, jnp.int32(0)).init(params),
            cursor=sampling.start(),
            step=jnp.int32(0),
            diverged=jnp.bool_(False),
        )

    def step_lane(state: LaneState, args: LaneArgs, data: LaneData) -> LaneState:
        batch, cursor = sampling.draw_batch(
            args.words, state.cursor, args.dataset_size, key.batch_size
        )
        examples = data.order[args.order, batch]
        x, labels = prepare(data.inputs[examples]), data.labels[examples]

        def mean_loss(params: Tree) -> tuple[jax.Array, Tree]:
            logits, model_state = widest.apply(
                params,
                state.model_state,
                x,
                train=True,
                key=jax.random.fold_in(_noise_key(args), state.step),
            )
            return jnp.mean(cross_entropy(logits, labels)), model_state

        value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, model_state), gradient = value_and_grad(state.params)
        optimizer = _make_optimizer(key, args, state.step)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        return LaneState(
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            cursor=cursor,
            step=state.step + 1,
            diverged=state.diverged | ~jnp.isfinite(loss),
        )

    def evaluate_lane(state: LaneState, args: LaneArgs, data: LaneData) -> Scores:
        num_batches = -(-num_test // _MAX_EVALUATION_BATCH)
        batch_size = -(-num_test // num_batches)

        def mean_scores(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
            """Error and loss at `count` positions of the order, from `first` on."""
            first, count = part

            def add_batch(
                index: jax.Array, sums: tuple[jax.Array, jax.Array]
            ) -> tuple[jax.Array, jax.Array]:
                position = index * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
                is_real = position < count
                position = first + jnp.where(is_real, position, 0)
                examples = data.order[args.order, position]
                labels = data.labels[examples]
                logits, _ = widest.apply(
                    state.params,
                    state.model_state,
                    prepare(data.inputs[examples]),
                    train=False,
                    key=_noise_key(args),
                )
                wrong = jnp.argmax(logits, axis=-1) != labels
                loss = jnp.where(is_real, cross_entropy(logits, labels), 0.0)
                num_wrong = jnp.sum(wrong & is_real, dtype=jnp.int32)
                return sums[0] + num_wrong, sums[1] + jnp.sum(loss)

            zero = jnp.zeros((), jax.tree.leaves(state.params)[0].dtype)
            trips = (count + batch_size - 1) // batch_size
            sums = jax.lax.fori_loop(0, trips, add_batch, (jnp.int32(0), zero))
            return sums[0] / count, sums[1] / count

        # Mapped over the two parts, so that the model is compiled once.
        firsts = jnp.array([num_train, 0])
        counts = jnp.stack([num_test, args.dataset_size.astype(jnp.int32)])
        error, loss = jax.lax.map(mean_scores, (firsts, counts))
        # Saturating units keep a run that blew up finite; no run that learns ends
        # far worse than a guess on the very examples it was shown.
        blown_up = loss[1] > _HOPELESS * math.log(dataset.num_classes)
        diverged = state.diverged | ~jnp.all(jnp.isfinite(loss)) | blown_up
        return Scores(error[0], loss[0], error[1], loss[1], diverged)

    return Program(init_lane, step_lane, evaluate_lane)


def lane_args(cell: Cell, model: int, order: int) -> LaneArgs:
    """A cell's numbers, as numpy scalars.

    Args:
        cell: the run.
        model: index of its width among the program's models.
        order: row of its seed in `LaneData.order`.
    """
    return LaneArgs(
        words=np.array(cell.random_words, np.uint32),
        model=np.int32(model),
        order=np.int32(order),
        dataset_size=np.uint32(cell.dataset_size),
        steps=np.int32(cell.steps),
        learning_rate=np.float32(cell.learning_rate),
        momentum=np.float32(cell.momentum),
        weight_decay=np.float32(cell.weight_decay),
        warmup_fraction=np.float32(cell.warmup_fraction),
    )


def idle_args() -> LaneArgs:
    """A lane that holds no cell: no steps, and harmless numbers."""
    zero = np.float32(0)
    return LaneArgs(
        words=np.zeros(2, np.uint32),
        model=np.int32(0),
        order=np.int32(0),
        dataset_size=np.uint32(1),
        steps=np.int32(0),
        learning_rate=zero,
        momentum=zero,
        weight_decay=zero,
        warmup_fraction=zero,
    )


def learning_rate_at(schedule: str, args: LaneArgs, step: jax.Array) -> jax.Array:
    """Learning rate of step `step`, a function of the fraction of the run done.

    Warm-up rises linearly to the peak over the first `warmup_fraction` of the steps;
    the schedule then falls from the peak at the end of warm-up to 0 at the end of the
    run: linear 1 - s, cosine (1 + cos(pi s)) / 2, or stays (constant).
    """
    # The middle of the step, so that neither the first nor the last is wasted on 0.
    done = (step + 0.5) / jnp.maximum(args.steps, 1)
    warmup = args.warmup_fraction
    rising = done / jnp.maximum(warmup, 1e-9)
    past_warmup = jnp.clip((done - warmup) / (1 - warmup), 0, 1)
    falling = {
        "constant": jnp.ones_like(past_warmup),
        "linear": 1 - past_warmup,
        "cosine": (1 + jnp.cos(jnp.pi * past_warmup)) / 2,
    }[schedule]
    return args.learning_rate * jnp.where(done < warmup, rising, falling)


def _make_optimizer(
    key: ProgramKey, args: LaneArgs, step: jax.Array
) -> optax.GradientTransformation:
    """The optimiser at this step; optax takes traced numbers where it takes floats."""
    rate = learning_rate_at(key.schedule, args, step)
    if key.optimizer == "sgd":
        return optax.chain(
            optax.add_decayed_weights(args.weight_decay),
            optax.sgd(rate, momentum=args.momentum, nesterov=key.nesterov),
        )
    if key.optimizer == "adam":
        return optax.adam(rate)
    return optax.adamw(rate, weight_decay=args.weight_decay)


def _init_key(args: LaneArgs) -> jax.Array:
    """Key of the start. Always threefry: the bits of `rbg` depend on the lane."""
    return jax.random.wrap_key_data(jnp.asarray(args.words), impl="threefry2x32")


def _noise_key(args: LaneArgs) -> jax.Array:
    """Key of noise in training. (The batch order uses the words themselves.)"""
    words = jnp.asarray(args.words) ^ jnp.array([0, 1], jnp.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")

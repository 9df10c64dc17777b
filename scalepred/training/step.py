"""A step of training, as one reads it: draw a batch, take the gradient, update."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalepred.data.task import read_labels
from scalepred.models.model import Tree
from scalepred.training import curves, sampling
from scalepred.training.args import LaneArgs
from scalepred.training.augment import augment
from scalepred.training.lane import (
    LaneData,
    LaneState,
    Setup,
    apply_model,
    noise_key,
)
from scalepred.training.optimizer import make_optimizer


class Gradient(NamedTuple):
    """Of a batch, and what is carried to the next."""

    loss: jax.Array  # mean over the batch []
    gradient: Tree
    model_state: Tree
    cursor: sampling.Cursor


def step(
    setup: Setup,
    state: LaneState,
    args: LaneArgs,
    data: LaneData,
    drawn: jax.Array | None = None,
) -> LaneState:
    """One step of the optimiser.

    Args:
        setup: what is static.
        state: of the lane.
        args: the run's numbers.
        data: the dataset.
        drawn: what `draw` drew for this step, int32 [batch]; None: it draws itself.
    """
    find = find_micro_gradient if setup.options.micro else find_gradient
    key = jax.random.fold_in(noise_key(args), state.step)
    found = find(setup, state, args, data, key, drawn)
    optimizer = make_optimizer(setup.options, args, state.step)
    updates, opt_state = optimizer.update(found.gradient, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    average = state.average
    if setup.options.average:
        average = average_weights(average, params, args, state.step)
    diverged = state.diverged | ~jnp.isfinite(found.loss)
    curve = curves.add_loss(state.curve, args.marks, state.step, found.loss, diverged)
    return LaneState(
        params=params,
        model_state=found.model_state,
        opt_state=opt_state,
        average=average,
        cursor=found.cursor,
        step=state.step + 1,
        diverged=diverged,
        curve=curve,
    )


def find_gradient(
    setup: Setup,
    state: LaneState,
    args: LaneArgs,
    data: LaneData,
    key: jax.Array,
    drawn: jax.Array | None,
) -> Gradient:
    """Loss and gradient of the next batch."""
    batch, cursor, model_state = _next_batch(setup, state, args, drawn)
    rows = data.find_rows(args.order, batch)
    x = data.inputs[rows]
    if setup.options.augment != "none":
        x = augment(x, setup.options.augment, jax.random.fold_in(key, 1))
    labels = read_labels(data.labels[rows])
    if setup.data_shards > 1:
        key, x, labels = _take_shard(setup, key, x, labels)

    find = jax.value_and_grad(functools.partial(find_loss, setup), has_aux=True)
    (loss, model_state), gradient = find(
        state.params, model_state, args.label_smoothing, x, labels, key
    )
    if setup.data_shards > 1:
        loss, gradient = jax.lax.pmean((loss, gradient), "data")
    return Gradient(loss, gradient, model_state, cursor)


def find_loss(
    setup: Setup,
    params: Tree,
    model_state: Tree,
    smoothing: jax.Array | None,
    x: jax.Array,
    labels: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Tree]:
    """Mean loss of a batch, and the model's state after it."""
    outputs, after = apply_model(setup, params, model_state, x, train=True, key=key)
    task = setup.task
    if setup.options.smooth and task.smoothed_loss:
        return jnp.mean(task.smoothed_loss(outputs, labels, smoothing)), after
    return jnp.mean(task.metrics[task.loss](outputs, labels)), after


def find_micro_gradient(
    setup: Setup,
    state: LaneState,
    args: LaneArgs,
    data: LaneData,
    key: jax.Array,
    drawn: jax.Array | None,
) -> Gradient:
    """The mean over the micro-batches of a step, whose number is the lane's."""
    del drawn  # their number is not known when it is compiled

    def add(index: jax.Array, sums: Gradient) -> Gradient:
        before = state._replace(model_state=sums.model_state, cursor=sums.cursor)
        key_of_one = jax.random.fold_in(key, index)
        one = find_gradient(setup, before, args, data, key_of_one, None)
        gradient = jax.tree.map(jnp.add, sums.gradient, one.gradient)
        return Gradient(sums.loss + one.loss, gradient, one.model_state, one.cursor)

    nothing = jax.tree.map(jnp.zeros_like, state.params)
    zero = jnp.zeros((), jax.tree.leaves(state.params)[0].dtype)
    sums = jax.lax.fori_loop(
        0,
        args.micro_batches,
        add,
        Gradient(zero, nothing, state.model_state, state.cursor),
    )
    mean = jax.tree.map(lambda g: g / args.micro_batches, sums.gradient)
    return sums._replace(gradient=mean)


def draw(
    setup: Setup, state: LaneState, args: LaneArgs, steps: int
) -> jax.Array | None:
    """What the next steps will draw, int32 [steps, batch]; None where each step must
    draw for itself.
    """
    if setup.model.restart or setup.options.micro:
        return None
    batch_size = setup.options.batch_size
    drawn, _ = sampling.draw_batch(
        _order_words(setup, args), state.cursor, args.dataset_size, steps * batch_size
    )
    return drawn.reshape(steps, batch_size)


def _order_words(setup: Setup, args: LaneArgs) -> jax.Array | None:
    """Key of the order of batches; None: as the data stand, so prefixes are shared."""
    return None if setup.options.branch else args.words


def _next_batch(
    setup: Setup, state: LaneState, args: LaneArgs, drawn: jax.Array | None
) -> tuple[jax.Array, sampling.Cursor, Tree]:
    """Positions of the examples, the cursor after them, and the model's state."""
    size, batch_size = args.dataset_size, setup.options.batch_size
    cursor, model_state = state.cursor, state.model_state
    if setup.model.restart:  # an epoch begins with nothing read
        model_state = jax.tree.map(
            lambda new, old: jnp.where(cursor.position == 0, new, old),
            setup.restart(model_state, batch_size),
            model_state,
        )
        batch, cursor = sampling.draw_consecutive(cursor, size, batch_size)
    elif drawn is not None:
        batch, cursor = drawn, sampling.advance(cursor, size, batch_size)
    else:
        words = _order_words(setup, args)
        batch, cursor = sampling.draw_batch(words, cursor, size, batch_size)
    return batch, cursor, model_state


def _take_shard(
    setup: Setup, key: jax.Array, x: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """This device's part of a batch, with noise of its own."""
    shard = jax.lax.axis_index("data")
    size = setup.options.batch_size // setup.data_shards
    x, labels = (
        jax.lax.dynamic_slice_in_dim(whole, shard * size, size) for whole in (x, labels)
    )
    return jax.random.fold_in(key, shard), x, labels


def average_weights(
    average: Tree, params: Any, args: LaneArgs, step: jax.Array
) -> Tree:
    """Mean of the weights since the average began; the last weights before."""
    first = jnp.ceil((1 - args.average_fraction) * args.steps).astype(jnp.int32)
    share = 1 / jnp.maximum(step - first + 1, 1).astype(jnp.float32)
    return jax.tree.map(
        lambda mean, new: (mean + (new - mean) * share).astype(new.dtype),
        average,
        params,
    )

"""What a finished run is worth: every metric of the task, on every part of the data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalepred.data.dataset import Dataset
from scalepred.data.task import read_labels
from scalepred.grid import ProgramKey
from scalepred.models.model import Tree
from scalepred.training.args import LaneArgs
from scalepred.training.lane import (
    LaneData,
    LaneState,
    Setup,
    apply_model,
    noise_key,
)
from scalepred.training.optimizer import evaluated_params

# A loss on its own training examples above this many times that of a guess: diverged.
_HOPELESS = 10.0
# Evaluation batches hold at most so many labels, or a training batch, and at most so
# many training batches: the backward pass is left out, so this takes no more memory.
# Of images one: patches of more would, and leave the cache of a CPU (twice as slow).
_MAX_EVALUATION_BATCH = 1024
_EVALUATED_AT_ONCE = 4
# Where the run's own examples stand among the parts.
_OWN = 1


class Scores(NamedTuple):
    """Of a run."""

    # Means [metrics, parts], as `Task.metrics` and `Dataset.parts` name them; NaN where
    # a part holds nothing.
    values: jax.Array
    diverged: jax.Array  # not finite, or far above a guess on its own examples; bool


class Sums(NamedTuple):
    """What scoring has added up of each part."""

    totals: jax.Array  # [parts, metrics]
    model_state: Tree  # carried from batch to batch


def begin_sums(setup: Setup, state: LaneState) -> Sums:
    """Nothing scored."""
    num_parts = len(setup.dataset.parts)
    carried = setup.restart(state.model_state, setup.evaluation_batch)
    shape = (num_parts, len(setup.task.metrics))
    zero = jnp.zeros(shape, jax.tree.leaves(state.params)[0].dtype)
    for_each = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_parts), carried)
    return Sums(zero, for_each)


def add_batches(
    setup: Setup,
    sums: Sums,
    state: LaneState,
    args: LaneArgs,
    data: LaneData,
    begin: Any,
    end: Any,
) -> tuple[Scores, Sums]:
    """Scores the batches of each part from one number up to another.

    Returns:
        What all batches so far are worth, and their sums.
    """
    params = state.average if setup.options.average else state.params
    params = evaluated_params(params, state.opt_state)
    size = setup.evaluation_batch

    def add_to_part(part: tuple[jax.Array, jax.Array, Sums]) -> Sums:
        """Adds batches of `count` positions of the order, from `first` on."""
        first, count, sums = part

        def add(index: jax.Array, sums: Sums) -> Sums:
            row = jnp.arange(size, dtype=jnp.int32)
            reads_on = setup.model.restart is not None
            position, is_real = find_evaluated(
                row, index, count, size, reads_on=reads_on
            )
            rows = data.find_rows(args.order, first + position)
            return _add_batch(setup, sums, params, args, data, rows, is_real)

        trips = jnp.minimum(end, _ceil_divide(count, size))
        return jax.lax.fori_loop(begin, trips, add, sums)

    # Mapped over the parts, so that the model is compiled once.
    num_own = find_num_own(setup.dataset, args.dataset_size.astype(jnp.int32))
    parts = evaluated_parts(setup.dataset, num_own, args.validation_size)
    firsts, counts = (
        jnp.stack([jnp.asarray(number, jnp.int32) for number in numbers])
        for numbers in zip(*parts, strict=True)
    )
    sums = jax.lax.map(add_to_part, (firsts, counts, sums))
    num_labels = counts * setup.dataset.units_per_example
    values = sums.totals.T / num_labels
    return Scores(values, state.diverged | _is_hopeless(setup, values)), sums


def _add_batch(
    setup: Setup,
    sums: Sums,
    params: Tree,
    args: LaneArgs,
    data: LaneData,
    rows: jax.Array,
    is_real: jax.Array,
) -> Sums:
    """Adds the metrics of some rows, of which only the real ones count."""
    labels = read_labels(data.labels[rows])
    outputs, model_state = apply_model(
        setup,
        params,
        sums.model_state,
        data.inputs[rows],
        train=False,
        key=noise_key(args),
    )
    totals = []
    for metric in setup.task.metrics.values():
        values = metric(outputs, labels)
        counts = is_real.reshape((-1,) + (1,) * (values.ndim - 1))
        totals.append(jnp.sum(jnp.where(counts, values, 0.0), dtype=sums.totals.dtype))
    return Sums(sums.totals + jnp.stack(totals), model_state)


def _is_hopeless(setup: Setup, values: jax.Array) -> jax.Array:
    """Whether a run blew up, though saturating units may keep its loss finite.

    No run that learns ends far worse than a guess on the very examples it was shown.
    """
    task = setup.task
    names = list(task.metrics)
    seen = values[:, : _OWN + 1]
    is_finite = jnp.all(jnp.isfinite(seen))
    guess = task.guess(setup.dataset, task.loss)
    if guess is None:
        return ~is_finite
    return ~is_finite | (values[names.index(task.loss), _OWN] > _HOPELESS * guess)


def evaluate(setup: Setup, state: LaneState, args: LaneArgs, data: LaneData) -> Scores:
    """All batches at once."""
    every = jnp.iinfo(jnp.int32).max
    sums = begin_sums(setup, state)
    return add_batches(setup, sums, state, args, data, 0, every)[0]


def evaluation_batch(key: ProgramKey, dataset: Dataset) -> int:
    """Examples that are scored at once, whole groups of them."""
    units, num_test = dataset.units_per_example, dataset.num_test
    at_once = 1 if dataset.inputs.ndim == 4 else _EVALUATED_AT_ONCE
    most = min(_MAX_EVALUATION_BATCH // units, at_once * key.batch_size)
    most = max(most, key.batch_size)
    size = _ceil_divide(num_test, _ceil_divide(num_test, most))
    return _ceil_divide(size, dataset.task.group) * dataset.task.group


def find_num_own(dataset: Dataset, dataset_size: Any) -> Any:
    """The run's own examples that are scored: at most as many as the test part holds,
    as they are a check, and must not cost more.
    """
    return jnp.minimum(dataset_size, dataset.num_test)


def evaluated_parts(
    dataset: Dataset, num_own: Any, num_valid: Any
) -> list[tuple[Any, Any]]:
    """Where in the order what is scored begins, and its length, as `Dataset.parts`.

    Args:
        dataset: what is trained on.
        num_own: the run's own examples.
        num_valid: examples at the end of the train part.
    """
    num_train, group = dataset.num_train, dataset.task.group
    parts = [
        (num_train, dataset.num_test),
        (0, num_own),
        (num_train - num_valid, num_valid),
    ]
    first = num_train + dataset.num_test
    for count in dataset.more_tests.values():
        parts.append((first, count))
        first += count
    return [(first, count // group * group) for first, count in parts]


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

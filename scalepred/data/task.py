"""What is learnt from a dataset: the loss, the metrics, the head's size, a guess.

A task of one's own is a `Task` beside the dataset that has it: `loss` names the metric
that training follows; a metric is a function of outputs and labels that gives a number
for each label, lower is better, and its mean is what a row of the table says.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class Labelled(Protocol):
    """What a task looks at of a dataset."""

    @property
    def labels(self) -> np.ndarray:
        """Of all examples."""
        ...

    @property
    def num_classes(self) -> int:
        """0 where labels are no classes."""
        ...

    @property
    def num_train(self) -> int:
        """Examples of the train part, which come first."""
        ...


# (outputs [batch, (positions,) head], labels [batch, (positions)]) -> numbers, one a
# label [batch, (positions)].
Metric = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a model's outputs are held against.

    Attributes:
        name: for people.
        metrics: by name; the first is fitted where nothing else is asked for. Those
            that cannot be above 1 are called "error" or end with "_error".
        loss: which of them training follows.
        head_size: outputs of the model for this dataset.
        guess: value of a metric for a model that has learnt nothing of this dataset;
            None: unknown.
        label_axes: axes that one label has: 0 for a class, 1 for a list of numbers.
        smoothed_loss: (outputs, labels, share of the label that is spread out) -> the
            loss that training follows then; None: label smoothing makes no sense.
        group: examples that are judged together, so that what is right for one
            depends on the others. Batches hold whole groups, what fills none is left
            out of scores, and groups do not depend on how many are scored at once.
        views: inputs that an example has; each goes through the model alone, and
            outputs are [batch, views, head].
    """

    name: str
    metrics: Mapping[str, Metric]
    loss: str
    head_size: Callable[[Labelled], int]
    guess: Callable[[Labelled, str], float | None] = lambda dataset, metric: None
    label_axes: int = 0
    smoothed_loss: Callable[..., jax.Array] | None = None
    group: int = 1
    views: int = 1

    def __post_init__(self):
        if self.loss not in self.metrics:
            names = ", ".join(self.metrics)
            raise ValueError(f"loss={self.loss!r}: must be one of the metrics {names}")


def cross_entropy(
    logits: jax.Array, labels: jax.Array, smoothing: jax.Array | None = None
) -> jax.Array:
    """Negative log-likelihood of the labels, nats [batch, (positions)].

    Args:
        logits: [batch, (positions,) classes].
        labels: integers [batch, (positions)].
        smoothing: s of the target (1 - s) label + s / classes; None: 0.
    """
    # By comparison, not by index: the derivative of an index is a scatter, which is
    # slow everywhere.
    is_label = labels[..., None] == jnp.arange(logits.shape[-1])
    chosen = jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
    if smoothing is not None:
        chosen = (1 - smoothing) * chosen + smoothing * jnp.mean(logits, axis=-1)
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1))
    total = jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1)
    return jnp.log(total) + largest - chosen


def top_1_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the label is not the likeliest class [batch, (positions)]."""
    return jnp.argmax(logits, axis=-1) != labels


def _guess_class(dataset: Labelled, metric: str) -> float | None:
    """(K-1)/K, or ln K in nats, for K classes."""
    if metric == "loss":
        return math.log(dataset.num_classes)
    return (dataset.num_classes - 1) / dataset.num_classes


CLASSIFICATION = Task(
    name="classification",
    metrics={"error": top_1_error, "loss": cross_entropy},
    loss="loss",
    head_size=lambda dataset: dataset.num_classes,
    guess=_guess_class,
    smoothed_loss=cross_entropy,
)

# The next token; the head is the vocabulary.
LANGUAGE = dataclasses.replace(
    CLASSIFICATION,
    name="language modelling",
    metrics={"loss": cross_entropy, "error": top_1_error},
)


def squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over an example's numbers of the squared difference [batch]."""
    return jnp.mean(jnp.square(outputs - labels), axis=-1)


def absolute_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over an example's numbers of the absolute difference [batch]."""
    return jnp.mean(jnp.abs(outputs - labels), axis=-1)


def _guess_number(dataset: Labelled, metric: str) -> float | None:
    """Of the best constant: the mean for squares, the median for absolute errors."""
    train = np.asarray(dataset.labels[: dataset.num_train], np.float64)
    if metric == "mse":
        return float(np.mean(np.var(train, axis=0)))
    return float(np.mean(np.abs(train - np.median(train, axis=0))))


# Labels are lists of numbers, real [examples, numbers].
REGRESSION = Task(
    name="regression",
    metrics={"mse": squared_error, "mae": absolute_error},
    loss="mse",
    head_size=lambda dataset: math.prod(dataset.labels.shape[1:]),
    guess=_guess_number,
    label_axes=1,
)


def contrastive(
    embedding_size: int = 32, group: int = 32, temperature: float = 0.1
) -> Task:
    """Which of `group` candidates is an example's other half.

    Inputs are pairs [examples, 2, ...]; both go through the model, and the one
    embedding should be nearer to its partner, by the angle between them, than to those
    of the other pairs of its group, seen from either side: InfoNCE (van den Oord et
    al. 2018, "Representation Learning with Contrastive Predictive Coding", equation
    4), in the symmetric form of Radford et al. 2021 ("CLIP", section 2.3). Labels are
    not looked at.

    Args:
        embedding_size: the model's outputs.
        group: candidates; training batches hold whole groups.
        temperature: similarities are divided by it.
    """

    def compare(outputs: jax.Array) -> jax.Array:
        """Similarities of all pairs of a group [groups, first, second]."""
        size = jnp.sqrt(jnp.sum(jnp.square(outputs), axis=-1, keepdims=True) + 1e-12)
        first, second = jnp.moveaxis(outputs / size, 1, 0)
        shape = (-1, group, outputs.shape[-1])
        turned = jnp.matrix_transpose(second.reshape(shape))
        return first.reshape(shape) @ turned / temperature

    def find_partners(
        metric: Metric, outputs: jax.Array, labels: jax.Array
    ) -> jax.Array:
        """The mean of both sides, for each pair [batch]."""
        similarities = compare(outputs)
        partner = jnp.broadcast_to(jnp.arange(group), similarities.shape[:2])
        sides = similarities, jnp.matrix_transpose(similarities)
        # Whether one errs is true or false: numbers, so that both sides add up.
        found = [1.0 * metric(side, partner).reshape(labels.shape) for side in sides]
        return (found[0] + found[1]) / 2

    return Task(
        name="contrastive pairs",
        metrics={
            "loss": lambda *both: find_partners(cross_entropy, *both),
            "error": lambda *both: find_partners(top_1_error, *both),
        },
        loss="loss",
        head_size=lambda dataset: embedding_size,
        guess=lambda dataset, metric: (
            math.log(group) if metric == "loss" else (group - 1) / group
        ),
        group=group,
        views=2,
    )


def read_labels(stored: Any) -> jax.Array:
    """Labels as the metrics take them: whole numbers as int32, others as float32."""
    whole = jnp.issubdtype(stored.dtype, jnp.integer)
    return stored.astype(jnp.int32 if whole else jnp.float32)

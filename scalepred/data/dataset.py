"""What a dataset is: arrays, and for each seed a split and an order of examples.

The order is the whole policy of data scaling (Rosenfeld et al. 2020, section 2): the
subset of size n is its first n examples, so subsets are nested, and every class is
thinned by the same ratio. Only these index orders differ between seeds; the examples
themselves stand on the device once, or are streamed.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from scalepred.config import UserError
from scalepred.data import content
from scalepred.data.files import Joined
from scalepred.data.task import CLASSIFICATION, LANGUAGE, Task

_OF_CLASSES = (CLASSIFICATION.name, LANGUAGE.name)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled examples, and the task that they are for; of text, windows of tokens.

    Of text an example is a window of T consecutive tokens, its labels are the tokens
    one further on, `num_classes` is the size of the vocabulary and n counts tokens:
    T for every window of the subset.

    All labels, and inputs unless they are whole numbers, are looked at once, in blocks,
    when a dataset is made. Whole numbers that are inputs of text are tokens of the
    vocabulary, unless `prepare` makes something else of them.

    Attributes:
        name: what was learnt; stands in every row and in every cell's id.
        inputs: examples as stored, any dtype [examples, ...]; images of prepared
            files are mapped and read where they are wanted.
        labels: classes, 0 to num_classes - 1 [examples], or of each of an example's
            positions [examples, positions]; of a regression, real [examples, numbers].
        num_classes: K; 0 where labels are no classes.
        num_train: N, examples of the train part; the others are the test part, and
            after it `more_tests`.
        has_fixed_test: the test part is the examples from `num_train` on, the same
            for every seed; otherwise each seed draws its own split, class-balanced.
        prepare: stored examples -> what the model is given; runs on the device, so
            that images can be stored as bytes [batch, ...] -> [batch, ...].
        unit: what n counts; tokens where an example has positions.
        stretch: so many consecutive examples stay together in the order; for text
            that is read on from window to window.
        irreducible_error: the error of the best possible classifier, if known.
        irreducible_loss: nats (a token) of the best possible model, if known.
        is_outline: sizes only, the content is blank: good for a plan, no more.
        task: loss and metrics; of text LANGUAGE.
        more_tests: further test sets by name and number of examples, which stand last,
            one after the other; each has a column of its own for every metric.
    """

    name: str
    inputs: np.ndarray | Joined
    labels: np.ndarray
    num_classes: int
    num_train: int
    has_fixed_test: bool = False
    prepare: Callable[[jax.Array], jax.Array] | None = None
    unit: str = "examples"
    irreducible_error: float | None = None
    irreducible_loss: float | None = None
    stretch: int = 1
    is_outline: bool = False
    task: Task = CLASSIFICATION
    more_tests: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self._check_task()
        if not 0 < self.num_train < len(self.labels) - sum(self.more_tests.values()):
            raise UserError(
                f"dataset {self.name}: num_train={self.num_train} of "
                f"{len(self.labels)} examples leaves an empty part; choose it between"
            )
        if self.more_tests and not self.has_fixed_test:
            raise UserError(
                f"dataset {self.name}: more_tests stand last, the same for every seed; "
                "put the test part before them and set has_fixed_test"
            )
        self._check_content()
        if not self.has_classes:
            return
        if self.has_positions:
            if not self.has_fixed_test:
                raise UserError(
                    f"dataset {self.name}: labels of every position have no classes "
                    "to balance a split by; put the test part last and set "
                    "has_fixed_test"
                )
            return
        counts = np.bincount(self.labels, minlength=self.num_classes)
        if not self.has_fixed_test and counts.min() <= self._train_per_class:
            raise UserError(
                f"dataset {self.name}: class {int(counts.argmin())} has only "
                f"{counts.min()} examples, but {self._train_per_class} of every class "
                "are to be trained on; lower num_train"
            )

    def _check_task(self) -> None:
        """Labels that are cast without a word would train to nonsense."""
        task, labels = self.task, self.labels
        num_inputs = self.inputs.shape[0]
        if num_inputs != len(labels):
            raise UserError(
                f"dataset {self.name}: {num_inputs} inputs but {len(labels)} labels; "
                "give one for each example"
            )
        if labels.ndim < 1 + task.label_axes:
            raise UserError(
                f"dataset {self.name}: labels of shape {labels.shape} for "
                f"{task.name}; give [examples, numbers], if need be labels[:, None]"
            )
        if self.num_classes and not content.is_whole(labels.dtype):
            raise UserError(
                f"dataset {self.name}: labels are {labels.dtype}, which are no "
                "classes; give whole numbers, or set num_classes=0 and task=REGRESSION"
            )
        if not self.num_classes and task.name in _OF_CLASSES:
            raise UserError(
                f"dataset {self.name}: num_classes=0, but {task.name} needs classes; "
                "say how many there are, or choose another task"
            )

    def _check_content(self) -> None:
        """Numbers that train to nonsense without a word, in whatever part they are."""
        is_text = self.has_positions and self.has_classes and not self.prepare
        for what, array, is_class in (
            ("label", self.labels, self.has_classes),
            ("input", self.inputs, is_text and content.is_whole(self.inputs.dtype)),
        ):
            if is_class:
                found = content.find_outside(array, 0, self.num_classes - 1)
                kind = "token" if is_text else "class"
                wanted = (
                    f"with num_classes={self.num_classes} a {kind} is 0 to "
                    f"{self.num_classes - 1}; number them so, or raise num_classes"
                )
            else:
                found = content.find_not_finite(array)
                wanted = "numbers must be finite as float32; correct or leave it out"
            if found:
                raise UserError(
                    f"dataset {self.name}: {what} {found.value} in "
                    f"{self._describe_place(found.row)}; {wanted}"
                )

    def _describe_place(self, row: int) -> str:
        """Where an example stands: its part and its number there, from 0."""
        if not self.has_fixed_test:
            return f"example {row}"
        sizes = {"train": self.num_train, "test": self.num_test, **self.more_tests}
        ends = itertools.accumulate(sizes.values())
        places = zip(sizes.items(), ends, strict=True)
        (part, size), end = next(place for place in places if row < place[1])
        return f"example {row - end + size} of the {part} part"

    @property
    def has_classes(self) -> bool:
        """Whether labels are classes, that a split can be balanced by."""
        return self.num_classes > 0

    @property
    def has_positions(self) -> bool:
        """Whether every example has a label for each of its positions, as text has."""
        return self.labels.ndim > 1 + self.task.label_axes

    @property
    def head_size(self) -> int:
        """Outputs of a model."""
        return self.task.head_size(self)

    @property
    def parts(self) -> tuple[str, ...]:
        """What is scored: columns of the test part have the metric's own name."""
        return ("", "train", "validation", *self.more_tests)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a row: every metric of every part, such as train_error."""
        return tuple(
            f"{part}_{metric}" if part else metric
            for metric in self.task.metrics
            for part in self.parts
        )

    @property
    def _train_per_class(self) -> int:
        return self.num_train // self.num_classes

    @property
    def num_test(self) -> int:
        """Examples of the test part."""
        return len(self.labels) - self.num_train - sum(self.more_tests.values())

    @property
    def units_per_example(self) -> int:
        """What an example adds to n: 1, or its positions."""
        return math.prod(self.labels.shape[1 : self.labels.ndim - self.task.label_axes])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input as the model is given it."""
        return self.input_spec.shape

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one input as the model is given it.

        An example is one, or `task.views` of them.
        """
        spec = jax.ShapeDtypeStruct((1, *self.inputs.shape[1:]), self.inputs.dtype)
        if self.prepare is not None:
            spec = jax.eval_shape(self.prepare, spec)
        axes = 2 if self.task.views > 1 else 1
        return jax.ShapeDtypeStruct(spec.shape[axes:], spec.dtype)

    def random_guess(self, metric: str) -> float | None:
        """Value of a model that has learnt nothing; None: unknown."""
        return self.task.guess(self, metric)

    def round_size(self, fraction: float) -> int:
        """Examples of the subset nearest to `fraction` with equally many a class."""
        if self.has_positions or not self.has_classes:
            return min(max(1, round(fraction * self.num_train)), self.num_train)
        per_class = max(1, round(fraction * self.num_train / self.num_classes))
        return min(per_class * self.num_classes, self.num_train)

    def order(self, seed: int) -> np.ndarray:
        """Indices of the examples as `seed` sees them: train part, then test part.

        Returns:
            A permutation of all examples, int32 [examples]. The first n are the
            subset of size n: each class holds its share of them to within one
            example, and equally many where the train part is balanced.
        """
        random = np.random.default_rng(seed)
        if self.has_positions:
            return self._order_of_stretches(random)
        shuffled = random.permutation(len(self.labels)).astype(np.int32)
        if self.has_fixed_test:
            train = shuffled[shuffled < self.num_train]
            test = np.arange(self.num_train, len(self.labels), dtype=np.int32)
        elif not self.has_classes:
            train, test = np.split(shuffled, [self.num_train])
        else:
            rank, _ = _rank_in_class(self.labels[shuffled])
            is_train = rank < self._train_per_class
            train, test = shuffled[is_train], shuffled[~is_train]
        if not self.has_classes:
            return np.concatenate([train, test])
        # The k-th of a class's c examples stands at (k + 1/2) / c of the way, so any
        # beginning thins every class by the same ratio. Ties keep the random order.
        rank, class_size = _rank_in_class(self.labels[train])
        train = train[np.argsort((rank + 0.5) / class_size, kind="stable")]
        return np.concatenate([train, test])

    def _order_of_stretches(self, random: np.random.Generator) -> np.ndarray:
        """Train examples in random order, stretch by stretch, then the test part."""
        every = np.arange(len(self.labels), dtype=np.int32)
        train, test = np.split(every, [self.num_train])
        parts = np.split(train, range(self.stretch, len(train), self.stretch))
        shuffled = [parts[index] for index in random.permutation(len(parts))]
        return np.concatenate([*shuffled, test])


def _rank_in_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of an example's class stand before it, and the size of its class."""
    rank = np.empty(len(labels), np.int64)
    class_size = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
        class_size[members] = len(members)
    return rank, class_size

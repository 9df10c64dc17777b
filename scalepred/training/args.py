"""What a lane is given: options that are compiled in, and numbers that are not."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from scalepred.config import MAX_DECAY_POINTS
from scalepred.grid import Cell, ProgramKey
from scalepred.training import curves


@dataclasses.dataclass(frozen=True)
class Options:
    """What of the training is compiled in; numbers are in `LaneArgs`."""

    batch_size: int  # examples that a gradient is taken of
    optimizer: str
    nesterov: bool
    schedule: str
    clip: bool  # the whole gradient's norm
    smooth: bool  # labels
    average: bool  # weights, over the last part of the run
    micro: bool  # gradients of several micro-batches are averaged
    branch: bool  # the run is one of several of a trunk, see `branches`
    augment: str  # none | crop | crop_flip
    bfloat16: bool  # forward and backward pass

    @classmethod
    def of(cls, key: ProgramKey) -> "Options":
        """What a program key says."""
        changes = {"crop", "crop_flip"} & {*key.extras}
        return cls(
            key.batch_size,
            key.optimizer,
            key.nesterov,
            key.schedule,
            clip="clip" in key.extras,
            smooth="smooth" in key.extras,
            average="average" in key.extras,
            micro="micro" in key.extras,
            branch="branch" in key.extras,
            augment=changes.pop() if changes else "none",
            bfloat16="bfloat16" in key.extras,
        )


class LaneArgs(NamedTuple):
    """What of a cell is only a number: inputs of the program, never compiled in."""

    words: Any  # random words of the cell, uint32 [2]
    model: Any  # which of the program's models, int32
    order: Any  # which row of `LaneData.order`, int32
    dataset_size: Any  # examples of the subset, uint32
    validation_size: Any  # examples at the end of the train part, int32
    steps: Any  # int32; 0: the lane is idle
    marks: Any  # where its loss curve has points, int32 [curves.NUM_POINTS + 1]
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
        marks=curves.marks_of(cell),
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
        marks=curves.choose_marks(0),
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

"""The functions of a program's lanes, closed over what is static."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from scalepred.data.dataset import Dataset
from scalepred.grid import ProgramKey
from scalepred.models.model import Model
from scalepred.training import lane, score, step
from scalepred.training.args import LaneArgs
from scalepred.training.lane import LaneData, LaneState
from scalepred.training.score import Scores, Sums


class Program(NamedTuple):
    """What a lane does; see `lane.start`, `step.step`, `step.draw` and `score`."""

    score_shape: tuple[int, int]  # of `Scores.values`

    init_lane: Callable[[LaneArgs], LaneState]
    step_lane: Callable[..., LaneState]
    draw_lane: Callable[..., jax.Array | None]
    evaluate_lane: Callable[[LaneState, LaneArgs, LaneData], Scores]
    # Evaluation in parts: its beginning, and some batches more.
    begin_sums: Callable[[LaneState], Sums]
    add_batches: Callable[
        [Sums, LaneState, LaneArgs, LaneData, Any, Any], tuple[Scores, Sums]
    ]


def make_program(
    key: ProgramKey, models: Sequence[Model], dataset: Dataset, data_shards: int = 1
) -> Program:
    """Builds the functions of a program.

    Args:
        key: what the program is for.
        models: the models its lanes may hold, the widest last.
        dataset: what they are trained on.
        data_shards: devices that share each lane's batch.

    Raises:
        UserError: the settings do not fit the dataset.
    """
    batch = score.evaluation_batch(key, dataset)
    setup = lane.make_setup(key, models, dataset, batch, data_shards)
    bind = functools.partial
    return Program(
        score_shape=(len(dataset.task.metrics), len(dataset.parts)),
        init_lane=bind(lane.start, setup),
        step_lane=bind(step.step, setup),
        draw_lane=bind(step.draw, setup),
        evaluate_lane=bind(score.evaluate, setup),
        begin_sums=bind(score.begin_sums, setup),
        add_batches=bind(score.add_batches, setup),
    )

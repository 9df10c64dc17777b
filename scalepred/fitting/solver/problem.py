"""What lanes fit and where they end; how many of them go into one program.

A lane is one least-squares problem with one starting point. Starts, resamples, folds
and whole tables are all lanes, and none knows of another.
"""

import concurrent.futures
import enum
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from scalepred.fitting.laws import Array, Scale

# Lanes of the small program, for fits from a few good starts.
FEW_LANES = 8
# Lanes times points that a program holds at most, but for those few lanes.
_MOST_HELD = 2**20
MOVING = -1  # status of a lane that has not ended
# Points are padded to the next of these times a power of two, so that a new table of
# another length does not compile again.
_BUCKETS = (4, 5, 6, 7)


class Status(enum.IntEnum):
    """How a lane ended."""

    CONVERGED = 0
    BOUND_HIT = 1  # converged, with a parameter at its bound
    ITERATION_LIMIT = 2
    NOT_FINITE = 3


class Problem(NamedTuple):
    """What one lane fits. Each leaf may have a leading lane axis or be shared.

    Attributes:
        x: ln(m / M) [points].
        y: ln(n / N) [points].
        log_value: ln of the measured value [points].
        weight: 0 leaves a point out [points].
        prior_mean: of theta [parameters].
        prior_precision: 0: no prior. Adds precision * (theta - mean)^2 [parameters].
        scale: see laws.
        sigma: standard deviation that the robust residual is measured in.
        above: see `Residual`, which says it; here so that it is no other program.
        z: ln(epochs), for laws that know of them [points].
    """

    x: Array
    y: Array
    log_value: Array
    weight: Array
    prior_mean: Array
    prior_precision: Array
    scale: Scale
    sigma: Array | float = 1.0
    above: Array | float = 1.0
    z: Array | None = None


class Solution(NamedTuple):
    """Where each lane ended.

    Attributes:
        theta: inner parameters [lanes, parameters].
        objective: infinite for a lane that is not finite [lanes].
        status: `Status` [lanes].
        iterations: [lanes].
    """

    theta: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    iterations: np.ndarray


def bucket(size: int) -> int:
    """The padded length for `size`: at most a quarter more."""
    power = 1
    while True:
        for step in _BUCKETS:
            if step * power >= size:
                return step * power
        power *= 2


def in_parts(run: Callable[..., Any], room: int, which: np.ndarray, *trees: Any) -> Any:
    """Runs some of the lanes, `room` at a time; leaves come back as numpy's.

    `run` is told how many there are; places without a lane repeat the last one. Of
    many points fewer lanes go together.
    """
    points = max(np.shape(leaf)[-1] for leaf in trees[0][:4])
    while room > FEW_LANES and room * points > _MOST_HELD:
        room //= 2
    parts = np.array_split(which, -(-len(which) // room))

    def run_part(part: np.ndarray) -> Any:
        index = part[np.minimum(np.arange(room), len(part) - 1)]
        # Set here, as it holds for a thread.
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            found = run(len(part), *jax.tree.map(lambda leaf: leaf[index], trees))
            return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(part)], found)

    if len(parts) == 1:
        return run_part(parts[0])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(run_part, parts))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def spread_lanes(problem: Problem, lanes: int) -> Problem:
    """Every leaf with a leading lane axis, a view where it is shared; points padded."""
    extra = bucket(np.shape(problem.x)[-1]) - np.shape(problem.x)[-1]

    def spread(leaf: Array | float, rank: int, is_padded: bool) -> np.ndarray:
        leaf = np.asarray(leaf, np.float64)
        if is_padded and extra:
            leaf = np.concatenate([leaf, np.zeros((*leaf.shape[:-1], extra))], axis=-1)
        if leaf.ndim > rank:
            return leaf
        return np.broadcast_to(leaf, (lanes, *leaf.shape))

    return Problem(
        *(spread(leaf, 1, True) for leaf in problem[:4]),
        *(spread(leaf, 1, False) for leaf in problem[4:6]),
        scale=Scale(
            *(spread(leaf, 0, False) for leaf in problem.scale[:3]),
            levels=spread(problem.scale.levels, 1, False),
        ),
        sigma=spread(problem.sigma, 0, False),
        above=spread(problem.above, 0, False),
        z=None if problem.z is None else spread(problem.z, 1, True),
    )

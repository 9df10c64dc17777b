"""From starting points to solutions: lanes in rounds, knees from wide to narrow."""

import dataclasses
import functools
import math

import jax
import numpy as np

from scalepred.fitting.laws import Array, Law
from scalepred.fitting.solver.problem import (
    FEW_LANES,
    MOVING,
    Problem,
    Solution,
    Status,
    in_parts,
    spread_lanes,
)
from scalepred.fitting.solver.residual import RELATIVE, Residual
from scalepred.fitting.solver.steps import Lanes, Steps, advance, begin

# A program is compiled for so many lanes, never for the number asked for. The robust
# residual has one program for all: its law takes longest to compile, and its lanes are
# never many.
_LANES, _ROBUST_LANES = 128, 32
# Steps after which lanes that are done make room, most of a refit's; later rounds are
# half as long as all before them. Kinks take half as many again.
_FIRST_ROUND, _FIRST_ROUND_OF_KINKS = 8, 12
# Steps of reweighted Gauss-Newton before a residual with kinks goes on exactly.
_REWEIGHTED = 24
# Knees of a Huber residual narrower than the first are approached by this factor.
_WIDE_KNEE = 1e-3
_KNEE_STEP = 4.0
_STEPS_A_KNEE = 30


def solve(
    law: Law,
    problem: Problem,
    theta: np.ndarray,
    residual: Residual = RELATIVE,
    max_iterations: int = 200,
    is_near: bool = False,
) -> Solution:
    """Minimises each lane's objective from its own starting point.

    Args:
        law: the functional form.
        problem: leaves with a lane axis differ by lane, others are shared.
        theta: starting points, brought within the law's bounds [lanes, parameters].
        residual: what is minimised.
        max_iterations: the limit of each lane.
        is_near: the starting points are near their optima, as those of resamples are.

    Returns:
        One solution a lane, in order; lanes do not influence each other.
    """
    problem = spread_lanes(problem._replace(above=residual.above), len(theta))
    residual = dataclasses.replace(residual, above=1.0)
    theta = np.asarray(theta, np.float64)
    if residual.has_kinks and residual.delta < _WIDE_KNEE:
        # A narrow knee hides where to go: wider ones first.
        widths = np.geomspace(_WIDE_KNEE / residual.delta, 1, _num_knees(residual))
        for width in widths[:-1]:
            wide = problem._replace(sigma=width * problem.sigma)
            lanes = _move(law, residual, wide, theta, _STEPS_A_KNEE, is_near)
            theta, is_near = np.asarray(lanes.theta), True
    lanes = _move(law, residual, problem, theta, max_iterations, is_near)
    theta, objective, *_, status, iterations = map(np.asarray, lanes)
    return Solution(theta, objective, status, iterations)


def _num_knees(residual: Residual) -> int:
    return 1 + math.ceil(math.log(_WIDE_KNEE / residual.delta) / math.log(_KNEE_STEP))


def _move(
    law: Law,
    residual: Residual,
    problem: Problem,
    theta: np.ndarray,
    max_iterations: int,
    is_near: bool,
) -> Lanes:
    """Lanes from their starts to their ends, or to the limit."""
    lanes = begin(theta)
    plan = Steps(0, 0 if is_near else _REWEIGHTED, max_iterations)
    most = _FIRST_ROUND_OF_KINKS if residual.has_kinks else _FIRST_ROUND
    if len(theta) <= 2 * FEW_LANES:
        most = max_iterations + 1
    taken = 0
    while len(moving := np.flatnonzero(lanes.status == MOVING)):
        # Lanes that are done make room: one that crawls holds up few others.
        go = functools.partial(_go, law, residual, plan._replace(most=most))
        room = FEW_LANES if len(moving) <= 2 * FEW_LANES else _LANES
        room = _ROBUST_LANES if residual.kind == "robust" else room
        lanes = _put(lanes, moving, in_parts(go, room, moving, problem, lanes))
        taken += most
        most = taken // 2
    return lanes


def _go(
    law: Law,
    residual: Residual,
    plan: Steps,
    count: int,
    problem: Problem,
    lanes: Lanes,
) -> Lanes:
    """Moves the first `count` lanes; a block of others alone ends at once."""
    is_real = np.arange(len(lanes.status)) < count
    status = np.where(is_real, lanes.status, Status.CONVERGED)
    return advance(law, residual, plan, problem, lanes._replace(status=status))


def _put(lanes: Lanes, which: np.ndarray, new: Lanes) -> Lanes:
    """The lanes with some of them replaced."""

    def put(old: Array, new: Array) -> np.ndarray:
        old = np.array(old)
        old[which] = new
        return old

    return jax.tree.map(put, lanes, new)

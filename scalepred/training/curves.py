"""Loss curves: how the training loss of every run falls, at log-spaced steps.

A point is the mean loss of the training batches since the last point, each before its
update. The sums are part of a lane's state, so that a checkpoint holds them and no
curve depends on lanes or chunks. Finished curves are kept in the workdir:

    curves/<digest of the bytes>.npz

Each file holds some runs, is written once and never changed, and is written before the
rows of its runs: a run with a row has its curve, wherever a process was killed.
"""

import functools
import hashlib
import io
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scalepred.grid import Cell
from scalepred.runtime.files import is_digest, list_files, remove_abandoned, write_whole

# Of a run that is no shorter.
NUM_POINTS = 48
# Of a branch, those in its cooldown; and the step from which a trunk has no more.
_COOLDOWN_POINTS = 7
_LAST_OF_TRUNK = 1 << 24
# So many files become one.
_MOST_FILES = 64


class Curve(NamedTuple):
    """Of a run."""

    steps: np.ndarray  # optimiser steps done at each point, int32 [points]
    # Mean training loss since the point before, float32 [points]; NaN from the point on
    # where a run diverged.
    losses: np.ndarray


def marks_of(cell: Cell) -> np.ndarray:
    """Steps at which a run has points, int32 [NUM_POINTS + 1]."""
    if cell.branch:
        return choose_branch_marks(cell.steps, cell.cooldown_start)
    return choose_marks(cell.steps)


@functools.lru_cache(maxsize=4096)
def choose_branch_marks(steps: int, cooldown_start: int) -> np.ndarray:
    """The points of a branch: those of its trunk, then its own.

    Points of trunks are the same for all lengths, so that what was added up on the way
    is right for every branch: a branch has them as far as its cooldown, a point where
    this begins, and the others equally spaced over it.

    Args:
        steps: of the branch.
        cooldown_start: steps of the trunk.

    Returns:
        As `choose_marks`.
    """
    of_trunk = choose_marks(_LAST_OF_TRUNK, NUM_POINTS - _COOLDOWN_POINTS - 1)
    shared = [int(mark) for mark in of_trunk if mark < cooldown_start]
    of_cooldown = np.linspace(cooldown_start, steps, _COOLDOWN_POINTS + 1)
    marks = [*shared, *map(round, of_cooldown)]
    marks += [steps] * (NUM_POINTS + 1 - len(marks))
    return np.array(marks, np.int32)


@functools.lru_cache(maxsize=4096)
def choose_marks(steps: int, num_points: int = NUM_POINTS) -> np.ndarray:
    """Points of a run of so many steps: every one at first, then log-spaced.

    Args:
        steps: of the run.
        num_points: to be chosen.

    Returns:
        0, then the points, the last of them `steps`, int32 [num_points + 1]. A shorter
        run repeats its last one.
    """
    marks = [0]
    for left in range(num_points, 0, -1):
        last = marks[-1]
        ratio = (steps / max(last, 1)) ** (1 / left)
        marks.append(min(steps, max(last + 1, round(last * ratio))))
    marks[-1] = steps
    return np.array(marks, np.int32)


def start() -> jax.Array:
    """Sums of losses before the first step, float32 [NUM_POINTS]."""
    return jnp.zeros(NUM_POINTS, jnp.float32)


def add_loss(
    sums: jax.Array,
    marks: jax.Array,
    step: jax.Array,
    loss: jax.Array,
    diverged: jax.Array,
) -> jax.Array:
    """The sums with the loss of one more step.

    Args:
        sums: [NUM_POINTS].
        marks: see `choose_marks`.
        step: steps done before, int32 [].
        loss: of this step [].
        diverged: whether a loss was not finite so far; then NaN is added.
    """
    is_here = (marks[:-1] <= step) & (step < marks[1:])
    loss = jnp.where(diverged, jnp.nan, loss.astype(jnp.float32))
    return sums + jnp.where(is_here, loss, 0.0)


def finish(marks: np.ndarray, sums: np.ndarray) -> Curve:
    """The curve of a run that is done, or that diverged.

    Args:
        marks: of the run, see `marks_of`.
        sums: as `add_loss` left them, float32 [NUM_POINTS].
    """
    counts = np.diff(marks)
    is_point = counts > 0
    losses = (sums[is_point] / counts[is_point]).astype(np.float32)
    # A run that diverged may have been stopped at any later step.
    losses[np.isnan(losses).cumsum() > 0] = np.nan
    return Curve(marks[1:][is_point], losses)


class Curves:
    """The curves of a workdir, to add to."""

    def __init__(self, workdir: os.PathLike | str):
        """Touches nothing yet."""
        self._folder = _folder_of(workdir)
        self._new: dict[str, Curve] = {}  # in the files below
        self._new_files: set[str] = set()

    def append(self, curves: Mapping[str, Curve]) -> None:
        """Writes curves, by cell id, and waits until they are on the disk."""
        if not curves:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._new_files.add(_write(self._folder, curves))
        self._new.update(curves)
        if len(self._new_files) >= _MOST_FILES:
            whole = _write(self._folder, self._new)
            self._remove(self._new_files - {whole})
            self._new, self._new_files = {}, set()

    def merge(self) -> None:
        """Makes one file of all; what is damaged is left alone."""
        found = _read_files(self._folder)
        if len(found) > 1:
            whole = _write(self._folder, _join(found))
            self._remove(set(found) - {whole})
        self._new, self._new_files = {}, set()
        remove_abandoned(self._folder)

    def _remove(self, names: set[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def read(workdir: os.PathLike | str) -> dict[str, Curve]:
    """The curves of a workdir by cell id; none where there are none.

    A damaged file is told and passed over: its runs have no curve.
    """
    return _join(_read_files(_folder_of(workdir)))


def _folder_of(workdir: os.PathLike | str) -> epath.Path:
    return epath.Path(workdir) / "curves"


def _join(files: Mapping[str, Mapping[str, Curve]]) -> dict[str, Curve]:
    """Of all files; where two hold a run they hold the same curve, or one was stopped.

    Then the longer counts.
    """
    joined: dict[str, Curve] = {}
    for name in sorted(files):
        for cell_id, curve in files[name].items():
            known = joined.setdefault(cell_id, curve)
            if len(curve.steps) > len(known.steps):
                joined[cell_id] = curve
    return joined


def _write(folder: epath.Path, curves: Mapping[str, Curve]) -> str:
    """Writes a file; returns its name."""
    ids = sorted(curves)
    content = io.BytesIO()
    np.savez(
        content,
        cell_ids=np.array(ids),
        num_points=np.array([len(curves[one].steps) for one in ids], np.int32),
        steps=np.concatenate([curves[one].steps for one in ids]),
        losses=np.concatenate([curves[one].losses for one in ids]),
    )
    name = f"{_digest(content.getvalue())}.npz"
    write_whole(folder / name, content.getvalue())
    return name


def _read_files(folder: epath.Path) -> dict[str, dict[str, Curve]]:
    found = {}
    for path in list_files(folder, ".npz"):
        if not is_digest(path.stem):
            continue  # the user's own
        content = path.read_bytes()
        if f"{_digest(content)}.npz" != path.name:
            print(
                f"warning: {path}: damaged since it was written; the loss curves in it "
                "are left out",
                file=sys.stderr,
            )
            continue
        found[path.name] = _parse(content)
    return found


def _parse(content: bytes) -> dict[str, Curve]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        ends = np.cumsum(file["num_points"])[:-1]
        steps, losses = (np.split(file[name], ends) for name in ("steps", "losses"))
        pairs = map(Curve, steps, losses)
        return dict(zip(file["cell_ids"].tolist(), pairs, strict=True))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]

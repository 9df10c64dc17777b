"""The lanes of the pack in progress, saved every few minutes and on SIGTERM.

Finished runs are rows of the table and need no checkpoint; this saves the unfinished
ones. Where a run is in its data and in its schedule follows from its step, and which
lane takes which run next follows from the plan, so the runs' states are all there is
to save. They may go on in other lanes, and on other devices.
"""

import contextlib
import logging
import os
import re
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scalepred.grid import Cell
from scalepred.runtime import processes
from scalepred.runtime.files import Place, digest, is_digest
from scalepred.training.plan import Pack

# Checkpoints kept of a pack: the newest may be damaged.
_KEPT = 2
# What orbax calls a checkpoint, finished or not.
_STEP = re.compile(r"\d+(\.orbax-checkpoint-tmp.*)?")


class Held(NamedTuple):
    """An unfinished run."""

    cell: Cell
    steps: int  # done
    seconds: float  # spent
    state: Any = None  # of its lane, on the host; None while the lane holds it


class Checkpoints:
    """A folder for each pack, with its newest checkpoints.

    Orbax writes a checkpoint whole or not at all, beside the training. Each lane has
    a checksum, as not every bit of what orbax writes is under one of its own.
    """

    def __init__(self, directory: epath.PathLike, minutes: float):
        """Touches nothing yet.

        Args:
            directory: inside a workdir; an absolute path, or a bucket.
            minutes: between two checkpoints.
        """
        self._directory = epath.Path(directory)
        self._place = Place(self._directory.parent)
        self._place.check()
        self._minutes = minutes
        self._last_saved = time.monotonic()
        self._pack: Pack | None = None
        self._checkpointer: Any = None
        self._saving: Any = None

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return time.monotonic() - self._last_saved >= 60 * self._minutes

    def save(
        self,
        pack: Pack,
        state: Any,
        held: Mapping[int, Held],
        waiting: Sequence[Held] = (),
    ) -> None:
        """Copies the lanes and begins to write them; `finish` waits for the disk.

        A checkpoint that cannot be written is told and costs no row: training goes on.

        Args:
            pack: whose lanes they are.
            state: of all lanes, leaves [lanes, ...].
            held: the unfinished run of each lane that has one.
            waiting: unfinished runs of an earlier checkpoint that have no lane yet.

        Raises:
            OSError: the workdir was moved or removed; orbax would make it again.
        """
        self.finish()
        self._place.check()
        runs = [
            [lane, run.cell.cell_id, run.steps, run.seconds]
            for lane, run in [*held.items(), *((-1, run) for run in waiting)]
        ]
        # A copy, as the next chunk overwrites the lanes while this is being written.
        tree: dict[str, Any] = {
            "lanes": jax.tree.map(jnp.copy, state),
            "checksums": _checksum_lanes(state),
        }
        if waiting:
            tree["waiting"] = jax.tree.map(
                lambda *leaves: np.stack(leaves), *(run.state for run in waiting)
            )
            tree["waiting_checksums"] = np.array(
                [_checksum(run.state) for run in waiting], np.uint32
            )
        record = {"runs": runs, "num_lanes": pack.lanes, "num_waiting": len(waiting)}
        try:
            checkpointer = self._open(pack)
            latest = checkpointer.latest
            self._saving = checkpointer.save_async(
                0 if latest is None else latest.step + 1,
                tree,
                force=True,
                custom_metadata={**record, "digest": digest(record)},
            )
        except Exception as error:
            self._tell(error)
        self._last_saved = time.monotonic()

    def finish(self) -> None:
        """Waits until the last checkpoint is on the disk."""
        if self._saving is None:
            return
        try:
            self._saving.result()
        except Exception as error:  # of orbax, of tensorstore, of the disk
            self._tell(error)
        self._saving = None

    def restore(self, pack: Pack, shapes: Any) -> list[Held]:
        """Unfinished runs of the newest checkpoint that is not damaged.

        Args:
            pack: what is to be trained; runs that it does not ask for are left out.
            shapes: of the state of its lanes, leaves [lanes, ...]; a checkpoint may
                have been written with more or fewer.

        Returns:
            The runs to go on with, in the order of the queue.
        """
        if not self._folder(pack).exists():
            return []
        try:
            found = list(reversed(self._open(pack).checkpoints))
        except Exception as error:
            self._skip(self._folder(pack), error)
            return []
        for checkpoint in found:
            held, why = [], None
            try:
                held = self._read(checkpoint, pack, shapes)
            except Exception as error:  # whatever a damaged file leads to
                why = error
            if processes.all_agree(why is None):
                return held
            self._skip(checkpoint.path, why)
        return []

    def clear(self, pack: Pack) -> None:
        """Removes the checkpoints of a pack that is done."""
        self.close()
        if processes.is_first():
            _remove_steps(self._folder(pack))

    def remove(self) -> None:
        """Removes all checkpoints, as everything is done, and nothing else there."""
        self.close()
        if processes.is_first() and self._directory.exists():
            for folder in self._directory.iterdir():
                if is_digest(folder.name):
                    _remove_steps(folder)
            _remove_if_empty(self._directory)

    def close(self) -> None:
        """Waits for what is being written."""
        self.finish()
        if self._checkpointer is not None:
            with contextlib.suppress(Exception):  # again what `finish` has told
                self._checkpointer.close()
        self._checkpointer = self._pack = None

    def _folder(self, pack: Pack) -> epath.Path:
        """Of a program, whatever its lanes; other widths have other shapes."""
        return self._directory / digest([str(pack.key), pack.widths])

    def _open(self, pack: Pack) -> Any:
        if self._pack == pack:
            return self._checkpointer
        self.close()
        # Imported here because it is slow, and only long studies need it.
        from orbax.checkpoint.experimental.v1 import training

        logging.getLogger("absl").addFilter(_is_no_echo)
        newest: Any = training.preservation_policies.LatestN(_KEPT)
        self._checkpointer = training.Checkpointer(
            self._folder(pack),
            preservation_policy=newest,
            cleanup_tmp_directories=True,
        )
        self._pack = pack
        return self._checkpointer

    def _read(self, checkpoint: Any, pack: Pack, shapes: Any) -> list[Held]:
        record: Any = dict(self._checkpointer.metadata(checkpoint).custom_metadata)
        if record.pop("digest") != digest(record):
            raise ValueError("its record has changed since it was written")

        def lanes(count: int) -> Any:
            return jax.tree.map(
                lambda leaf: np.empty((count, *leaf.shape[1:]), leaf.dtype), shapes
            )

        num_lanes, num_waiting = record["num_lanes"], record["num_waiting"]
        # Orbax reads only what it is asked for, but asks for a tree of the same keys.
        expected = {
            "lanes": lanes(num_lanes),
            "checksums": np.empty(num_lanes, np.uint32),
        }
        if num_waiting:
            expected["waiting"] = lanes(num_waiting)
            expected["waiting_checksums"] = np.empty(num_waiting, np.uint32)
        saved = self._checkpointer.load(checkpoint, expected)

        wanted = {cell.cell_id: cell for cell in pack.queue}
        held, num_seen = {}, 0
        for lane, cell_id, steps, seconds in record["runs"]:
            part, place = "", lane
            if lane < 0:
                part, place, num_seen = "waiting", num_seen, num_seen + 1
            state = jax.tree.map(lambda leaf: leaf[place], saved[part or "lanes"])  # noqa: B023
            checksums = saved["waiting_checksums" if part else "checksums"]
            if _checksum(state) != checksums[place]:
                raise ValueError("its numbers have changed since they were written")
            if cell_id in wanted and steps < wanted[cell_id].steps:
                held[cell_id] = Held(wanted[cell_id], steps, seconds, state)
        return [held[cell_id] for cell_id in wanted if cell_id in held]

    def _skip(self, path: epath.Path, error: Exception | None) -> None:
        _say(f"checkpoint {path} is damaged and is left out ({_first_line(error)})")

    def _tell(self, error: Exception) -> None:
        _say(f"a checkpoint could not be written ({_first_line(error)}); rows are kept")


def _is_no_echo(record: logging.LogRecord) -> bool:
    """Orbax logs each of its errors some times, with tracebacks, and raises it."""
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def _remove_steps(folder: epath.Path) -> None:
    """Removes the checkpoints of a pack, and its folder if that was all."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _STEP.fullmatch(path.name):
            path.rmtree()
    _remove_if_empty(folder)


def _remove_if_empty(folder: epath.Path) -> None:
    # Not the method of epath: it overlooks files that end with "~" and removes them.
    # A folder of a bucket goes with its last file.
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _checksum(state: Any) -> int:
    """CRC-32 of one lane, leaves [...]."""
    checksum = 0
    for leaf in jax.tree.leaves(state):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    return checksum


def _checksum_lanes(state: Any) -> jax.Array:
    """The same of each lane, [lanes], on the device that holds the lane."""
    leaves = jax.tree.leaves(state)
    checksums = np.zeros(leaves[0].shape[0], np.uint32)
    shards_of_leaves = [leaf.addressable_shards for leaf in leaves]
    for shards in zip(*shards_of_leaves, strict=True):  # of the same lanes
        parts = [np.asarray(shard.data) for shard in shards]
        first = shards[0].index[0].start or 0
        for lane in range(parts[0].shape[0]):
            checksums[first + lane] = _checksum([part[lane] for part in parts])
    sharding = leaves[0].sharding
    return processes.put(checksums, sharding)


def _say(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


def _first_line(error: Exception | None) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)

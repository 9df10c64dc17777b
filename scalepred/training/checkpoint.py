"""The lanes of the pack in progress, saved every few minutes.

Finished runs are rows of the table and need no checkpoint; this saves the unfinished
ones. Where a run is in its data and in its schedule follows from its step, and which
lane takes which run next follows from the plan, so the lanes' state and the runs they
hold are all there is to save.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from scalepred.grid import Cell
from scalepred.training.packing import Pack


class Held(NamedTuple):
    """An unfinished run in a lane."""

    cell: Cell
    steps: int  # done
    seconds: float  # spent


class Checkpoints:
    """A folder with the newest checkpoint; orbax writes it whole or not at all."""

    def __init__(self, directory: epath.PathLike, minutes: float):
        """Opens the folder, and makes it if missing.

        Args:
            directory: an absolute path, or a bucket.
            minutes: between two checkpoints.
        """
        # Slow to import, and only long studies come here.
        from orbax.checkpoint.experimental.v1 import training

        self._minutes = minutes
        self._last_saved = time.monotonic()
        newest: Any = training.preservation_policies.LatestN(1)
        self._checkpointer = training.Checkpointer(
            epath.Path(directory),
            preservation_policy=newest,
            cleanup_tmp_directories=True,
        )

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return time.monotonic() - self._last_saved >= 60 * self._minutes

    def save(self, pack: Pack, state: Any, held: Mapping[int, Held]) -> None:
        """Saves the lanes and waits until they are on the disk.

        Args:
            pack: whose lanes they are.
            state: of all lanes, leaves [lanes, ...].
            held: the unfinished run of each lane that has one.
        """
        latest = self._checkpointer.latest
        lanes: Any = {
            str(lane): [run.cell.cell_id, run.steps, run.seconds]
            for lane, run in held.items()
        }
        self._checkpointer.save(
            0 if latest is None else latest.step + 1,
            state,
            force=True,
            custom_metadata={"program": pack.describe(), "lanes": lanes},
        )
        self._last_saved = time.monotonic()

    def restore(self, pack: Pack, shapes: Any) -> tuple[Any, dict[int, Held]] | None:
        """The newest checkpoint, if it is of this pack.

        Args:
            pack: what is to be trained; runs that it does not ask for are left out.
            shapes: of the lanes' state, with sharding.

        Returns:
            The lanes' state and the runs to go on with; None if there are none.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        saved: Any = self._checkpointer.metadata(latest).custom_metadata
        if not saved or saved["program"] != pack.describe():
            return None
        held = _find_runs(pack.queue, saved["lanes"])
        if not held:
            return None
        return self._checkpointer.load(latest, shapes), held

    def clear(self) -> None:
        """Removes all checkpoints: the pack is done."""
        for checkpoint in list(self._checkpointer.checkpoints):
            self._checkpointer.delete(checkpoint)

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpointer.close()


def _find_runs(
    queue: Sequence[Cell], lanes: Mapping[str, Sequence[Any]]
) -> dict[int, Held]:
    """Runs of a checkpoint that are still asked for and not at their end."""
    cells = {cell.cell_id: cell for cell in queue}
    held = {}
    for lane, (cell_id, steps, seconds) in lanes.items():
        if cell_id in cells and steps < cells[cell_id].steps:
            held[int(lane)] = Held(cells[cell_id], steps, seconds)
    return held

"""Runs of a sweep that were stopped as they could not matter: left out, and told.

With one seed stopped the mean over the others would be that of the lucky ones, so all
seeds of a setting go.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from scalepred.table.rows import STOPPED

T = TypeVar("T")


def leave_out(
    runs: Sequence[T],
    status_of: Callable[[T], str],
    setting_of: Callable[[T], Hashable],
) -> tuple[list[T], str]:
    """The runs of settings of which none was stopped, and a sentence on the others.

    Args:
        runs: of a table.
        status_of: a run.
        setting_of: what all seeds of a run's size and rates have in common.

    Returns:
        The runs in their order; the sentence is "" where none was stopped.
    """
    stopped = {setting_of(run) for run in runs if status_of(run) == STOPPED}
    if not stopped:
        return list(runs), ""
    kept = [run for run in runs if setting_of(run) not in stopped]
    count = sum(status_of(run) == STOPPED for run in runs)
    others = len(runs) - len(kept) - count
    said = describe(count, len(runs))
    if others:
        said += f", nor {others:,} of other seeds at those rates"
    return kept, said


def describe(num_stopped: int, num_runs: int) -> str:
    """A sentence; "" where none was stopped."""
    if not num_stopped:
        return ""
    was = "was" if num_stopped == 1 else "were"
    return (
        f"{num_stopped:,} of {num_runs:,} runs {was} stopped on the way, where a rate "
        "could not be the best at its size; no fit counts them"
    )

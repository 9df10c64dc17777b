"""What all processes do after a chunk: save, stop, take shorter or longer chunks.

Each says what it wants with the scores of a chunk, so that all do the same after the
same chunk.
"""

import enum

from scalepred.runtime import preemption, processes
from scalepred.training.checkpoint import Checkpoints
from scalepred.training.cost import STEP_OVERHEAD_FLOPS
from scalepred.training.engine import Engine
from scalepred.training.plan import Pack

# A machine that is taken away gives half a minute, in which two chunks may have to end
# and a checkpoint be written.
_LONGEST_CHUNK_SECONDS = 8.0
# FLOPs a second of a device that the first chunk is planned for; most are faster.
_SLOWEST_FLOPS = 1e9


class Request(enum.IntFlag):
    """What a process wants all to do after the chunk."""

    NONE = 0
    SAVE = 1
    STOP = 2
    SHORTER = 4
    LONGER = 8


class Pace:
    """Steps a chunk, so that SIGTERM and checkpoints never wait long for its end.

    Short at first where a step may be slow; all processes double and halve together.
    """

    def __init__(self, pack: Pack, engine: Engine):
        per_device = pack.lanes // pack.num_devices
        forward = max(engine.forward_flops.values()) * pack.key.batch_size
        step = per_device * (3 * forward + STEP_OVERHEAD_FLOPS)
        self._longest = pack.max_chunk_steps
        # A chunk below a block takes as long as the block.
        self._least = min(pack.fill_block(1), self._longest)
        self.steps = max(self._least, _LONGEST_CHUNK_SECONDS * _SLOWEST_FLOPS / step)
        self.request = Request.NONE

    def measure(self, num_steps: int, seconds: float) -> None:
        """Takes note of a chunk that was read; chooses what to request next."""
        self.request = Request.NONE
        if not processes.is_first():  # all must use the clock of one
            return
        if seconds > _LONGEST_CHUNK_SECONDS and num_steps > self._least:
            self.request = Request.SHORTER
        elif seconds < _LONGEST_CHUNK_SECONDS / 4 and self.steps < self._longest:
            self.request = Request.LONGER

    def apply(self, request: Request) -> Request:
        """Makes chunks shorter or longer as asked; returns what else is asked for."""
        if Request.SHORTER in request:
            self.steps = max(self._least, min(self.steps, self._longest) / 2)
        elif Request.LONGER in request:
            self.steps *= 2
        return without_pace(request)


def make_request(checkpoints: Checkpoints | None) -> Request:
    """What this process asks for besides the length of chunks."""
    request = Request.STOP if preemption.is_requested() else Request.NONE
    if checkpoints and processes.is_first() and checkpoints.is_due():
        request |= Request.SAVE
    return request


def without_pace(request: Request) -> Request:
    """What is asked for besides the length of chunks."""
    return request & ~(Request.SHORTER | Request.LONGER)

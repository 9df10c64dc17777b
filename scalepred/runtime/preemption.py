"""A clear end when the machine is taken away.

Preempted machines and schedulers send SIGTERM and give some seconds. Most stages may
end there and then, as every file is whole or not there; training first saves what its
lanes hold.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_requested = False
_deferred = 0  # how often


class Stopped(BaseException):
    """SIGTERM came. No `Exception`, so that nothing on the way takes it for a fault."""


def listen() -> None:
    """From now on SIGTERM raises `Stopped`; call it from the main thread."""
    signal.signal(signal.SIGTERM, _request)


def is_requested() -> bool:
    """Whether SIGTERM came."""
    return _requested


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within, SIGTERM only sets `is_requested`, and is raised at the end."""
    global _deferred
    _deferred += 1
    try:
        yield
    finally:
        _deferred -= 1
    if _requested and not _deferred:
        raise Stopped


def _request(signum: int, frame: FrameType | None) -> None:
    global _requested
    _requested = True
    if not _deferred:
        raise Stopped

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


class ProcessLost(RuntimeError):
    """Another process that this one started ended before it had done its work."""


def die_silently() -> None:
    """Until `listen`, and after all is done, Ctrl-C ends the process, no traceback."""
    # It is ignored in what a shell runs in the background, and stays so.
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def listen() -> None:
    """From now on SIGTERM raises `Stopped`; call it from the main thread."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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

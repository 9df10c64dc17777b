"""How this process was called, for whoever wants to repeat what it did."""

import shlex
import time
from collections.abc import Sequence

_started = time.monotonic()
_command = ""


def remember(name: str, arguments: Sequence[str]) -> None:
    """Keeps the command that this process is.

    Args:
        name: of the command.
        arguments: that it was given.
    """
    global _command
    _command = shlex.join([name, *arguments])


def command() -> str:
    """As one would type it; nothing where Python called us."""
    return _command


def seconds() -> float:
    """Wall time since the package was imported."""
    return time.monotonic() - _started

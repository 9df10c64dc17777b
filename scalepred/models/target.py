"""What a program is traced for: a platform, and a form of convolutions.

Mostly the platform is the one at hand; but programs are also compiled for machines
that are not here, to see whether they fit (see `training/rehearsal.py`).
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_platform: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")
_convolution: contextvars.ContextVar[str] = contextvars.ContextVar(
    "convolution", default="auto"
)


@contextlib.contextmanager
def traced_as(convolution: str = "auto", platform: str | None = None) -> Iterator[None]:
    """What is traced in here is for this platform, with convolutions of this form.

    jax remembers the trace of a function: give it a new one for each.

    Args:
        convolution: one of `convolution.FORMS`, or auto: what suits the platform.
        platform: cpu, gpu, tpu; None: as outside, which is the one that jax runs on.
    """
    before = _platform.get()
    tokens = (
        _convolution.set(convolution),
        _platform.set(before if platform is None else platform),
    )
    try:
        yield
    finally:
        _convolution.reset(tokens[0])
        _platform.reset(tokens[1])


def convolution_form() -> str:
    """The form that was asked for."""
    return _convolution.get()


def is_cpu() -> bool:
    """Whether the program is for a CPU."""
    return (_platform.get() or jax.default_backend()) == "cpu"

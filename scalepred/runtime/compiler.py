"""What XLA is asked to do otherwise than by itself, on a CPU."""

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax

Options = Mapping[str, str | bool]

# Fused loops through MLIR take as long to compile as all the rest.
PLAIN_LOOPS: Options = {"xla_cpu_use_fusion_emitters": False}
# Registers as wide as the processor has them, where LLVM takes half of them: a fifth
# less time for many exponentials in float64; steps of training are no faster.
WIDE_LOOPS: Options = {**PLAIN_LOOPS, "xla_cpu_prefer_vector_width": "512"}

_first_call = threading.Lock()


def known(options: Options) -> dict[str, str | bool]:
    """Those of the options that this XLA has; they come and go."""
    return {name: value for name, value in options.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: str | bool) -> bool:
    on_cpu = jax.default_device(jax.devices("cpu")[0])
    try:
        with on_cpu:
            jax.jit(lambda: 0).lower().compile({name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def jit_plainly(static_argnums: int | tuple[int, ...]) -> Callable[[Callable], Any]:
    """jit with plain, wide loops, for programs that are arithmetic on a CPU."""

    def decorate(function: Callable) -> Callable:
        @functools.cache
        def jitted() -> Any:  # not before the first call: it starts the backend
            options = known(WIDE_LOOPS)
            return jax.jit(
                function, static_argnums=static_argnums, compiler_options=options
            )

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            with _first_call:  # of several threads
                program = jitted()
            return program(*args)

        return call

    return decorate

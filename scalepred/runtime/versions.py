"""Versions of what the numbers depend on."""

import platform
from importlib import metadata

import scalepred


def read_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
    found = {name: metadata.version(name) for name in names}
    return {
        "scalepred": scalepred.__version__,
        "python": platform.python_version(),
        **found,
    }

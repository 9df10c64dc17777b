"""A fixture for test modules that train: XLA compiles each program once."""

import jax
import pytest

_SETTINGS = {
    "jax_compilation_cache_dir": None,  # a fresh folder
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(autouse=True, scope="module")
def compile_once(tmp_path_factory):
    """Keeps compiled programs on disk while the tests of a module run."""
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    folder = str(tmp_path_factory.mktemp("xla"))
    for name, value in _SETTINGS.items():
        jax.config.update(name, folder if value is None else value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)

"""What every test stands on: two CPU devices, few threads, fixed examples.

The environment is set here, before any test module imports jax or numpy, and is
inherited by the commands that tests start.
"""

import os
import pathlib

import hypothesis
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two devices, so that lanes are sharded in the tests as they are on accelerators.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core already.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()

# No deadline: the first call of a jitted function takes as long as its compilation.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Folder of measured points and training sets beside the checkout, or a skip."""
    beside = ROOT.parent / "shared"
    path = pathlib.Path(os.environ.get("SCALEPRED_SHARED", beside)) / "data"
    if not path.is_dir():
        pytest.skip(f"no folder {path}: SCALEPRED_SHARED names the one that holds it")
    return path

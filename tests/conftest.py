"""What every test stands on: two CPU devices, few threads, fixed examples, a cache.

The environment is set here, before any test module imports jax or numpy, and is
inherited by the commands that tests start.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

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


def _processor() -> str:
    """The instructions that this processor has, as far as the system tells them."""
    told = pathlib.Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = ("model name", "flags", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))


def _programs_folder() -> pathlib.Path:
    """Where the programs that XLA compiles for tests stay from one run to the next.

    JAX names each by a digest of the program, the options and its own version. It does
    not know what the processor can do, and a home may be shared by many machines.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    machine = [platform.machine(), _processor(), importlib.metadata.version("jaxlib")]
    digest = hashlib.sha256("\n".join(machine).encode()).hexdigest()[:12]
    return pathlib.Path(cache) / "scalepred" / f"tests-{digest}"


# Shared by all workers and by the commands that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_programs_folder()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
_MOST_BYTES = 2 * 10**9  # of compiled programs that are kept


def pytest_sessionstart(session: pytest.Session) -> None:
    """Removes the oldest programs where more are kept than a few runs need."""
    if hasattr(session.config, "workerinput"):
        return  # the process that starts the workers does it
    folder = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    files = [(path, path.stat()) for path in folder.glob("*-cache")]
    kept = 0
    for path, stat in sorted(files, key=lambda file: file[1].st_mtime, reverse=True):
        kept += stat.st_size
        if kept > _MOST_BYTES:
            path.unlink(missing_ok=True)


_MOST_MAPPINGS = 20_000  # of memory; Linux ends a process that wants 65,530


def _mappings() -> int:
    """How many pieces of memory this process has mapped; 0 where no one can tell."""
    told = pathlib.Path("/proc/self/maps")
    return told.read_bytes().count(b"\n") if told.is_file() else 0


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go() -> Iterator[None]:
    """Each compiled program keeps three or more mappings for as long as it is cached.

    A worker of many hundred tests would run out of them, and would crash in the midst
    of a test that has nothing to do with it. The files of the programs stay.
    """
    yield
    if _mappings() > _MOST_MAPPINGS:
        import jax

        jax.clear_caches()


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


class _NoDrawing:
    """In place of a `FigureProcess`: the files of a report, with nothing in them."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()

    def start(self, plot: Any) -> None:
        self._names = plot.figures

    def finish(self) -> dict[str, Any]:
        from scalepred.report.plot_data import FigureFiles

        return {name: FigureFiles(b"", b"") for name in self._names}


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Reports without figures, for modules that write many and look at none.

    Each takes three seconds of a core; test_report draws every kind of them.
    """
    from scalepred import analysis

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "FigureProcess", _NoDrawing)
        yield

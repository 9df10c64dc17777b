"""The wheel, the lock and the scripts that make .venv, without a network."""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
DOCS_LOCK = (ROOT / "requirements-docs.lock").read_text()


# The wheel.


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Folder into which the wheel, built from this checkout, is installed."""
    wheels = tmp_path_factory.mktemp("wheels")
    target = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], ROOT)
    (wheel,) = wheels.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"]
    run([*command, "--target", target, wheel], wheels)
    return target


def test_wheel_holds_the_package_only(installed: pathlib.Path) -> None:
    info = f"scalepred-{PROJECT['version']}.dist-info"
    assert {path.name for path in installed.iterdir()} == {"bin", info, "scalepred"}
    assert (installed / "scalepred" / "py.typed").is_file()
    assert (installed / info / "licenses" / "LICENSE").is_file()


def test_wheel_holds_every_module(installed: pathlib.Path) -> None:
    def modules(root: pathlib.Path) -> set[str]:
        package = root / "scalepred"
        kinds = (".py", ".js", ".css")  # a report's page has a script and a style
        found = (path for path in package.rglob("*") if path.suffix in kinds)
        return {str(path.relative_to(root)) for path in found}

    assert modules(installed) == modules(ROOT)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "scalepred"],
        [sys.executable, "-m", "scalepred.commands.fit"],
        ["bin/scalepred"],
        ["bin/scalepred-fit"],
    ],
    ids=lambda command: command[-1],
)
def test_commands_run_outside_the_checkout(
    command: list[str], installed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    env = {"PYTHONPATH": str(installed)}
    where = [sys.executable, "-c", "import scalepred; print(scalepred.__file__)"]
    assert str(installed) in run(where, tmp_path, env).stdout

    if command[0].startswith("bin/"):
        command = [str(installed / command[0])]
    done = run([*command, "--help"], tmp_path, env, check=False)
    assert done.returncode in (0, 1)  # absl answers --help with 1
    assert "--workdir" in done.stdout
    assert "Traceback" not in done.stderr


# The locks.


def read_pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", lock, flags=re.MULTILINE))


@pytest.mark.parametrize("lock", [LOCK, DOCS_LOCK], ids=["lock", "docs"])
def test_lock_names_no_address(lock: str) -> None:
    assert "://" not in lock
    assert not re.search(r"^\s*--(?!hash=)", lock, flags=re.MULTILINE)


@pytest.mark.parametrize("lock", [LOCK, DOCS_LOCK], ids=["lock", "docs"])
def test_lock_pins_and_hashes_everything(lock: str) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", "\n" + lock)[1:]
    assert len(entries) > len(PROJECT["dependencies"])
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[\w.]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize(
    ("lock", "requirement"),
    [
        *[(LOCK, line) for line in [*PROJECT["dependencies"], *EXTRAS["dev"]]],
        *[(DOCS_LOCK, line) for line in [*PROJECT["dependencies"], *EXTRAS["docs"]]],
    ],
)
def test_lock_satisfies_pyproject(lock: str, requirement: str) -> None:
    wanted = Requirement(requirement)
    pin = read_pins(lock).get(canonicalize_name(wanted.name))
    assert pin is not None, "remake the lock; its first lines say how"
    assert wanted.specifier.contains(pin), "remake the lock; its first lines say how"


def test_the_site_changes_no_version() -> None:
    pins, of_docs = read_pins(LOCK), read_pins(DOCS_LOCK)
    both = pins.keys() & of_docs.keys()
    assert {"jax", "numpy"} <= both
    assert {name: of_docs[name] for name in both} == {name: pins[name] for name in both}
    assert not {"mkdocs", "playwright"} & pins.keys(), "a newcomer does not get them"


# The scripts that make .venv, in a copy of the checkout whose path has a space. The
# PATH holds stand-ins for Python and the few tools that the scripts use.

TOOLS = (
    "bash",
    "cat",
    "cksum",
    "dirname",
    "grep",
    "ln",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "tail",
)


class Checkout:
    """A checkout of scripts and lock, and a PATH of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = folder / "a checkout"
        self.bin = folder / "bin"
        self.venv = self.root / ".venv"
        self.log = folder / "calls.log"
        self.bin.mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("pyproject.toml", "requirements.lock", "requirements-docs.lock"):
            shutil.copy(ROOT / name, self.root)
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path is not None
            (self.bin / tool).symlink_to(path)

    def add(self, name: str, script: str) -> pathlib.Path:
        """Puts a shell script of this name on the PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def add_python(
        self, name: str = "python3", *, version: str = "3.12", able: str = "yes"
    ) -> pathlib.Path:
        """Puts a stand-in for Python on the PATH, whose venv makes another stand-in.

        It says which version it is and whether it can make environments. It writes
        down what pip is asked, and its pip does what $PIP says.
        """
        return self.add(
            name,
            f"""
case "$*" in
  -c*) echo "{version} {able}" ;;
  *"-m venv"*) mkdir -p "$3/bin" && ln -s {self.bin / name} "$3/bin/python" ;;
  *"-m pip"*) echo "$*" >>'{self.log}'; eval "${{PIP:-:}}" ;;
  *"-m pytest"*) echo "$*" ;;
esac""",
        )

    def run(
        self, script: str = "setup.sh", *arguments: str, **env: str
    ) -> subprocess.CompletedProcess[str]:
        command = [self.bin / "bash", self.root / "scripts" / script, *arguments]
        env = {"PATH": str(self.bin), **env}
        return subprocess.run(
            command, env=env, cwd="/", text=True, capture_output=True, check=False
        )

    def fails(self, **env: str) -> str:
        """Runs the setup, which must fail as errors should; returns the sentence."""
        done = self.run(**env)
        assert done.returncode == 2
        assert done.stderr.startswith("scalepred: ")
        assert done.stderr.count("\n") == 1, "one sentence"
        assert not (self.venv / ".made-from").exists()
        return done.stderr


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> Checkout:
    return Checkout(tmp_path)


def test_setup_is_made_once(checkout: Checkout) -> None:
    checkout.add_python()
    first = checkout.run()
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Making .venv with Python 3.12 and pip")
    calls = checkout.log.read_text()
    assert "--require-hashes" in calls
    assert "--no-index --no-deps" in calls

    second = checkout.run()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert checkout.log.read_text() == calls


def test_setup_is_made_again_when_something_changed(checkout: Checkout) -> None:
    checkout.add_python()
    checkout.add_python("python3.11", version="3.11")
    assert "Python 3.11" in checkout.run().stdout

    with (checkout.root / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert "Making" in checkout.run().stdout, "the lock changed"

    (checkout.venv / ".made-from").unlink()
    assert "Making" in checkout.run().stdout, "it was interrupted"

    (checkout.venv / "bin" / "python").unlink()
    (checkout.venv / "bin" / "python").symlink_to("/nonexistent/python")
    assert "Making" in checkout.run().stdout, "its Python disappeared"

    assert "Python 3.12" in checkout.run(PYTHON="python3").stdout, "another Python"
    assert checkout.run(PYTHON="python3").stdout == ""
    assert checkout.run().stdout == "", "any Python will do"

    moved = checkout.root.with_name("moved")
    checkout.root.rename(moved)
    checkout.root, checkout.venv = moved, moved / ".venv"
    assert "Making" in checkout.run().stdout, "the checkout moved"


def test_setup_skips_a_python_that_does_not_run(checkout: Checkout) -> None:
    checkout.add("python3.13", "echo 'no such version' >&2; exit 127")
    checkout.add("uv", "exit 127")
    checkout.add_python("python3.12")
    assert checkout.run().stdout.startswith("Making .venv with Python 3.12 and pip")


def test_setup_prefers_uv(checkout: Checkout) -> None:
    checkout.add_python(able="no")
    uv = f"""
echo "uv $*" >>'{checkout.log}'
for last; do :; done
case "$*" in
  venv*) mkdir -p "$last/bin" && ln -s '{checkout.bin}/python3' "$last/bin/python" ;;
esac"""
    checkout.add("uv", uv)
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Making .venv with Python 3.12 and uv")
    assert re.search(r"uv pip install .*--require-hashes", checkout.log.read_text())


def test_packages_of_the_site_are_added_when_asked_for(checkout: Checkout) -> None:
    checkout.add_python()
    assert checkout.run().returncode == 0
    assert "requirements-docs.lock" not in checkout.log.read_text()

    first = checkout.run("setup.sh", "--docs")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Adding the packages of the site")
    assert re.search(
        r"--require-hashes .*requirements-docs\.lock", checkout.log.read_text()
    )
    assert checkout.run("setup.sh", "--docs").stdout == "", "they are there"

    with (checkout.root / "requirements-docs.lock").open("a") as lock:
        lock.write("# changed\n")
    assert checkout.run().stdout == "", ".venv is as it was"
    assert "Adding" in checkout.run("setup.sh", "--docs").stdout, "their lock changed"

    (checkout.venv / ".made-from").unlink()
    said = checkout.run("setup.sh", "--docs").stdout
    assert said.startswith("Making"), "both are made again"
    assert "Adding" in said


def test_packages_of_the_site_that_cannot_be_had(checkout: Checkout) -> None:
    checkout.add_python()
    checkout.run()
    done = checkout.run("setup.sh", "--docs", PIP="echo 'ERROR: no route'; exit 1")
    assert done.returncode == 2
    assert "the packages of requirements-docs.lock" in done.stderr
    assert checkout.run().stdout == "", ".venv itself is whole"
    assert "Adding" in checkout.run("setup.sh", "--docs").stdout, "tried again"


def test_setup_says_what_it_takes(checkout: Checkout) -> None:
    checkout.add_python()
    done = checkout.run("setup.sh", "--doc")
    assert done.returncode == 2
    assert done.stderr == "scalepred: setup.sh --doc: takes --docs or nothing.\n"
    assert not checkout.venv.exists()


def test_setup_without_python(checkout: Checkout) -> None:
    said = checkout.fails()
    assert "needs Python 3.11 to 3.13" in said
    assert "found none" in said
    assert "PYTHON" in said


def test_setup_with_old_python(checkout: Checkout) -> None:
    checkout.add_python(version="3.9")
    said = checkout.fails()
    assert "found only python3 is 3.9" in said
    assert "install one" in said


def test_setup_with_wrong_choice(checkout: Checkout) -> None:
    checkout.add_python()
    checkout.add_python("old", version="3.10")
    assert "PYTHON=old (old is 3.10) is no Python 3.11" in checkout.fails(PYTHON="old")
    assert "PYTHON=nothing is no Python 3.11" in checkout.fails(PYTHON="nothing")


def test_setup_without_venv(checkout: Checkout) -> None:
    checkout.add_python(able="no")
    said = checkout.fails()
    assert "python3 has no venv module" in said
    assert "apt install python3.12-venv" in said


def test_setup_without_network(checkout: Checkout) -> None:
    checkout.add_python()
    said = checkout.fails(PIP="echo 'ERROR: No route to host' >&2; echo >&2; exit 1")
    assert "(ERROR: No route to host)" in said
    assert "check the connection" in said
    assert "PIP_INDEX_URL" in said
    # With the network back, the half-made one is made anew.
    assert checkout.run().returncode == 0


def test_test_script_passes_arguments_on(checkout: Checkout) -> None:
    checkout.add_python()
    checkout.run()

    def pytest_arguments(*arguments: str) -> str:
        return checkout.run("test", *arguments).stdout.strip()

    default = "-m pytest -m not slow -n auto --maxprocesses=8 --dist=worksteal"
    assert pytest_arguments() == default
    assert pytest_arguments("-k", "a b") == f"{default} -k a b"
    assert pytest_arguments("--all") == default.replace("slow", "short")
    assert pytest_arguments("-m", "slow", "-n", "0") == "-m pytest -m slow -n 0"
    assert "usage" in pytest_arguments("--help")


def test_quickstart_runs_the_main_job(checkout: Checkout) -> None:
    checkout.add_python()
    checkout.run()
    scalepred = checkout.venv / "bin" / "scalepred"
    scalepred.write_text('#!/bin/sh\necho "$PWD: $*"\n')
    scalepred.chmod(0o755)
    done = checkout.run("quickstart", "--config.grid.seeds=4")
    assert done.stdout.strip() == (
        f"{checkout.root}: --config=experiments/forecast_python.py "
        "--workdir=runs/forecast --verify --config.grid.seeds=4"
    )


def run(
    command: Sequence[str | os.PathLike[str]],
    folder: pathlib.Path,
    env: Mapping[str, str] | None = None,
    *,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder and returns what it said."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | dict(env or {}),
        text=True,
        capture_output=True,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done

"""The commands of the pages on training, machines and forecasts: run, made small.

Every command of these pages is run here in the order of its page, or stands in
`CANNOT` with the reason. Of studies only the size is changed, by flags after those that
the page shows; `x.py` is the study of docs/forecasting.md on synthetic data.
"""

import pathlib
import re
import shutil
import socket
import sys

import pytest
from PIL import Image

from scripts import run_pages

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("training", "machines", "forecasting")

# Part of a command, and why it is not run.
CANNOT = {
    "--dataset=cifar10": "fetches 160 MB; test_prepare_data fetches from a folder",
    "--dataset=ptb": "wants an archive that may not be passed on; made up by "
    "test_prepare_data",
    "export TPU_NAME": "holds only for the two lines after it",
    "tpu_vm/tpu": "wants gcloud and rents a machine; test_launchers runs both lines "
    "against one that only notes its calls",
    "slurm/job": "wants Slurm; test_launchers runs it against one that is made up",
}

STUDY = """
from scalepred import config

def get_config():
    return config.Experiment(
        name="x", dataset="teacher", family="mlp", metric="loss",
        {snippet}
        training=config.Training(learning_rate=0.05, steps=20),
        fit=config.Fitting(law="rosenfeld", resamples=20))
"""
SMALL = (
    "--config.grid.seeds=1 --config.training.steps=10 --config.fit.resamples=20 "
    "--config.fit.law=rosenfeld --config.grid.data_fractions='(0.0625,0.125,0.25,1.0)'"
)


def read_commands(name: str) -> list[str]:
    """Every command of a page, in order, each on one line and without its comment."""
    text = (DOCS / f"{name}.md").read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    told = "".join(text for language, text in blocks if language in ("", "sh"))
    lines = (line.split(" #")[0].split() for line in told.splitlines())
    return [" ".join(words) for words in lines if words]


def read_python(name: str, after: str) -> str:
    """The first block of Python below a heading of a page."""
    text = (DOCS / f"{name}.md").read_text().split(f"## {after}\n")[1]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def why_not(command: str) -> str:
    return next((why for part, why in CANNOT.items() if part in command), "")


@pytest.fixture
def shell(tmp_path):
    """Runs one command of a page in a folder of its own, and gives what it prints."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    snippet = read_python("forecasting", "A study with targets")
    (tmp_path / "x.py").write_text(STUDY.format(snippet=snippet))

    def run(command: str) -> str:
        command = command.replace("python scripts", f"{sys.executable} {ROOT}/scripts")
        block = run_pages.Block("run", "", "sh", command, (0, 0))
        return run_pages.run(block, tmp_path)

    return run


def test_every_command_is_run_or_it_is_said_why_not():
    commands = [one for name in PAGES for one in read_commands(name)]
    assert len(commands) > 15
    for part in CANNOT:
        assert any(part in command for command in commands), part
    runs = re.compile(r"(scalepred|scalepred-fit|python scripts/prepare_data.py) --")
    assert [c for c in commands if not why_not(c) and not runs.match(c)] == []


def train(run, commands: list[str], folder: pathlib.Path) -> None:
    """docs/training.md."""
    (folder / "mine.py").write_text(read_python("training", "A study of your own"))
    make_photographs(folder / "photographs")
    for command in commands:
        if why_not(command):
            continue
        if command.startswith("python"):
            run(f"SCALEPRED_DATA={folder} {command}")
            assert (folder / "mine.npz").is_file()
        elif "stop_hopeless" in command:  # a list given twice would be one list
            printed = run(f"{command} --config.grid.seeds=1")
            assert "runs were stopped on the way" in printed
        else:
            printed = run(f"{command} {SMALL}")
            assert "  trust    " in printed
    printed = run(f"scalepred --config=mine.py --workdir=runs/mine {SMALL}")
    assert "  trust    " in printed


def use_machines(run, commands: list[str], folder: pathlib.Path) -> None:
    """docs/machines.md."""
    for command in commands:
        if why_not(command):
            continue
        if "--dry_run" in command:
            continue  # the short form
        with socket.socket() as free:
            free.bind(("localhost", 0))
            here = command.replace("host0:1234", f"localhost:{free.getsockname()[1]}")
        other = here.replace("--process_id=0", "--process_id=1")
        run(f"{here} --config.grid.seeds=1 & {other} --config.grid.seeds=1; wait -n")
        assert (folder / "DIR" / "report.html").is_file()


def forecast(run, commands: list[str], folder: pathlib.Path) -> None:
    """docs/forecasting.md."""
    for command in commands:
        if "--dry_run" in command:
            continue  # the same as on the page on machines, which the short form runs
        if "--until_width" in command:
            command = command.replace("DIR", "loop")
        if "--score" in command:
            (made,) = (folder / "DIR" / "forecasts").glob("*.json")
            shutil.copy(folder / "DIR" / "measurements.csv", folder / "new.csv")
            command = re.sub(r"=DIR/forecasts/\S+", f"={made}", command)
            command += " --metric=loss"  # the table has error, too
        if "--gate" in command:
            command += " || test $? -eq 3"  # it may not be passed
        printed = run(command)
        assert printed.strip()


def make_photographs(folder: pathlib.Path) -> None:
    """Two classes of two colours, in the layout that the page names."""
    for part, count in (("train", 8), ("val", 3)):
        for k, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                color = (200 * k, 10 * i, 30)
                Image.new("RGB", (40, 30), color).save(
                    folder / part / name / f"{i}.png"
                )


def test_the_dry_run_of_the_page_says_what_it_takes(shell):
    """The short form: one command as it stands, the same on two pages."""
    (command,) = {
        one
        for name in ("machines", "forecasting")
        for one in read_commands(name)
        if one.startswith("scalepred ") and "--dry_run" in one
    }
    printed = shell(command)
    for said in ("16 cells", "1 programs", "a run", "an hour"):
        assert said in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "play"),
    [("training", train), ("machines", use_machines), ("forecasting", forecast)],
)
def test_commands_of_a_page_run(name, play, shell, tmp_path):
    play(shell, read_commands(name), tmp_path)

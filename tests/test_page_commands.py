"""Every command of every page is tried: run small, accepted, or not, with the reason.

A page is README, BUILD, CONTRIBUTING or any of docs/ (`pages.py`). What a command of a
page becomes here, by how it begins:

| command | here |
| --- | --- |
| below `<!-- run -->` | run as it stands, output compared (test_readme, test_docs) |
| `scalepred --config=` | read with its flags, its cells made; if slow, trained a bit |
| `scalepred-fit` | run on a small table |
| `python -m scalepred.commands.…` | run on small tables and few widths |
| `python scripts/…` | its flags are those of the script; run small, too, if slow |
| in `CANNOT` | not run, for the reason there |

The pages on training, machines and forecasts are also run whole, in the order of the
page (slow). Only sizes are changed, by flags after those that the page shows.
"""

import dataclasses
import importlib
import itertools
import math
import pathlib
import re
import shlex
import shutil
import socket
import sys
from typing import Any

import numpy as np
import pages
import pytest
from absl import flags
from etils import epath
from PIL import Image
from test_commands import run_fit

from scalepred import config, grid, study, validation
from scalepred.arms.make import make_experiments
from scalepred.commands import train
from scalepred.data import files, text
from scalepred.data.loading import load_dataset
from scalepred.forecasting import recipes
from scalepred.forecasting.gate import parse_arm_gate
from scalepred.runtime import command as commands
from scalepred.table import rows
from scripts import run_pages

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = pages.ROOT
WITH_COMMANDS = [page for page in pages.NAMES if pages.read_commands(page)]
# Their commands go on from each other's results.
WHOLE = ("docs/training.md", "docs/machines.md", "docs/forecasting.md")
# Pages whose marked blocks other tests run.
MARKED = ("README.md", "docs/index.md", "docs/python.md")

# Part of a command, and why it is not run.
CANNOT = {
    "--dataset=cifar10": "fetches 160 MB; test_prepare_data fetches from a folder",
    "--dataset=ptb": "wants an archive that may not be passed on; made up by "
    "test_prepare_data",
    "export TPU_NAME": "holds only for the two lines after it",
    "tpu_vm/tpu": "wants gcloud and rents a machine; test_launchers runs both lines "
    "against one that only notes its calls",
    "slurm/job": "wants Slurm; test_launchers runs it against one that is made up",
    "scripts/setup.sh": "made the environment that runs this",
    "scripts/quickstart": "makes an environment first; test_packaging runs its parts",
    "scripts/test": "runs this",
    "scripts/docs": "builds the site; test_site does, where its packages are",
    ".ci/run": "runs this",
    "pip install": "fetches packages; test_packaging installs the wheel",
    "uv pip": "fetches packages",
    "--topology=": "wants a plugin of a TPU; test_aot compiles where there is one",
    "scripts/device_check": "wants an accelerator; test_device_check plays one",
    "for seeds in": "a loop around the line after it",
    "done; done": "its end",
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


def why_not(command: str) -> str:
    return next((why for part, why in CANNOT.items() if part in command), "")


def law(m: Any, n: Any) -> Any:
    """Hoffmann et al. 2022, of numbers or arrays."""
    return 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28


SIZES = [*itertools.product((1e7, 3e7, 1e8, 3e8), (2e8, 6e8, 2e9, 6e9))]


def write_tables(folder: pathlib.Path, page: str) -> None:
    """What the commands of pages read: points.csv, a.csv, b.csv, runs.csv."""
    rows = {"plain": ["params,data,loss"], "better": ["params,data,loss"]}
    rows["points"] = ["params,data,loss,accuracy"]
    rows["family"] = ["params,data,family,loss"]
    rows["epochs"] = ["params,data,epochs,loss"]
    for m, n in SIZES:
        loss = law(m, n)
        rows["plain"] += [f"{m},{n},{loss}"]
        rows["better"] += [f"{m},{n},{law(3 * m, n)}"]
        accuracy = 0.25 + 0.65 / (1 + math.exp(5 * (loss - 2.9)))
        rows["points"] += [f"{m},{n},{loss},{accuracy}"]
        rows["family"] += [f"{m},{n},a,{loss}", f"{m},{n},b,{law(3 * m, n)}"]
        rows["epochs"] += [f"{m},{n},{e},{law(m, n * e**0.8)}" for e in (1, 4)]
    points = {"docs/comparing.md": "family", "docs/laws.md": "epochs"}
    tables = {"a": "plain", "b": "better", "points": points.get(page, "points")}
    for name, kind in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(rows[kind]))
    swept = ["params,data,data_unit,lr,loss"]
    for (m, n), k in itertools.product(SIZES, range(-2, 3)):
        rate = 3e-3 * 2.0**k
        off = math.log2(rate / (1.79 * m**-0.4 * n**0.05))
        swept += [f"{m},{n},images,{rate},{law(m, n) + 0.02 * off**2}"]
    for name in ("runs.csv", "steplaw_dense_all.csv"):
        (folder / name).write_text("\n".join(swept))


@pytest.fixture
def folder(request, tmp_path, monkeypatch) -> pathlib.Path:
    """A folder with what the commands of a page need, which is the current one."""
    page = request.getfixturevalue("page") if "page" in request.fixturenames else ""
    for name in ("experiments", "docs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    snippet = pages.read_python("docs/forecasting.md")[0]
    (tmp_path / "x.py").write_text(STUDY.format(snippet=snippet))
    for block in pages.read_blocks(page) if page else ():
        if block.mark.startswith("file: ") and "/" not in block.mark:
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.text)
    write_tables(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def accept_study(arguments: list[str]) -> list[config.Experiment]:
    """The flags are known, the study is valid, its cells can be made; its arms."""
    argv = ["scalepred", *arguments]
    for name in [name for name in train.FLAGS if name.startswith("config.")]:
        delattr(train.FLAGS, name)
    train.FLAGS.unparse_flags()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)  # ml_collections looks there
        train.FLAGS(argv)
    experiment = train._read_experiment()
    train._read_stages()
    train._read_price(train._read_goal())
    assert "workdir" in train.FLAGS.flag_values_dict()
    every = make_experiments(experiment) if experiment.arms else {"": experiment}
    for one in every.values():
        validation.validate(one)
        followed = recipes.follow(one)
        try:
            dataset = load_dataset(one.dataset, outline=True)
        except files.MissingData:  # how long it is follows from another's data
            continue
        assert len(grid.make_cells(followed, dataset)) >= 4
    return [*every.values()]


def fit_small(arguments: list[str], capsys) -> None:
    """With few resamples and, for `auto`, one of the laws that it is made of."""
    if not any(argument.startswith("--law=") for argument in arguments):
        law = "data_constrained" if "--at_epochs=4" in arguments else "chinchilla"
        arguments = [*arguments, f"--law={law}"]
    status, out, err = run_fit(capsys, *arguments, "--resamples=20")
    assert status == 0, err
    assert out.strip()


def run_module(name: str, arguments: list[str], capsys) -> None:
    """`python -m scalepred.commands.NAME`, in this process."""
    module = importlib.import_module(name)
    module.FLAGS.unparse_flags()
    small = {"coordinates": ["--widths=4,8", "--depths=1", "--seeds=2"]}
    is_recipe = name.endswith("recipe")
    status = commands.status_of(
        name,
        module._USAGE,
        module.FLAGS,
        module._print_found if is_recipe else module._main,
        lambda argv: None,
        [name, *arguments, *small.get(name.rpartition(".")[2], [])],
        positional="table" if is_recipe else "",
        keeps_rows=False,
    )
    out, err = capsys.readouterr()
    assert status == 0, err
    assert out.strip()


def check_script(words: list[str]) -> None:
    """Every flag is one that the script, or one that it imports, defines."""
    path = ROOT / words[0]
    text = path.read_text()
    for name in re.findall(r"^import (bench_\w+)", text, re.MULTILINE):
        text += (path.parent / f"{name}.py").read_text()
    known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)
    known += re.findall(r'add_argument\(\s*"--(\w+)"', text)
    for word in words[1:]:
        name = re.match(r"\[?--(\w+)", word)
        assert name, word
        assert name[1] in known, f"{words[0]} has no --{name[1]}"


def play(command: str, capsys) -> None:
    """Tries one command of a page, in the current folder."""
    words = shlex.split(command)
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[0] == "scalepred":
        accept_study(words[1:])
    elif words[0] == "scalepred-fit":
        fit_small(words[1:], capsys)
    elif words[:2] == ["python", "-m"]:
        run_module(words[2], words[3:], capsys)
    elif words[0] == "python" and words[1].startswith("scripts/"):
        check_script(words[1:])
    elif words[0].startswith("--gate="):
        parse_arm_gate(words[0].removeprefix("--gate="))
    else:
        pytest.fail(f"nobody runs this; add how, or to CANNOT why not: {command}")


# Part of a command that needs what cannot be here, and what stands in for it.
INSTEAD = {
    "recipe runs/rates": "recipe runs.csv --workdir=runs/rates",
    "--workdir=runs/sp --workdir=runs/mup": "--workdir=docs/results/transfer_decoder/"
    "standard --workdir=docs/results/transfer_decoder/mup",
}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_of_every_page(page, folder, capsys):
    for command in pages.read_commands(page):
        if why_not(command) or (page in WHOLE and "scalepred --config" not in command):
            continue  # pages that are run whole
        for part, other in INSTEAD.items():
            command = command.replace(part, other)
        # The picture of the page stays as it is.
        command = re.sub(r"--out=docs/\S*/", "--out=", command)
        if page == "docs/training.md":
            (folder / "mine.py").write_text(pages.read_python(page)[0])
        play(command, capsys)


# Each once, whatever is asked of it.
STUDIES = sorted(
    {
        re.sub(r" --(workdir|stages|verify)\S*", "", command)
        for page in WITH_COMMANDS
        for command in pages.read_commands(page)
        if "scalepred --config=experiments/" in command and not why_not(command)
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("command", STUDIES)
def test_studies_of_pages_train(command, folder, monkeypatch, capsys):
    """Every family, optimiser, schedule and reader of theirs, in seconds, not hours."""
    if "training.recipe=runs/rates" in command:
        made = ["runs.csv", "--workdir=runs/rates"]
        run_module("scalepred.commands.recipe", made, capsys)
    arms = accept_study([*shlex.split(command)[1:], "--workdir=runs/x"])
    monkeypatch.setenv("SCALEPRED_DATA", str(folder / "made_up"))
    make_up_data()
    for i, one in enumerate(arms):
        workdir = folder / f"trained{i}"
        study.run(shrink(one), epath.Path(workdir), ("train",))
        found = rows.Table(workdir / "measurements.csv").rows
        assert found
        assert {row.status for row in found.values()} == {"ok"}


def make_up_data() -> None:
    """Noise in the shape of every dataset that would have to be fetched."""
    random = np.random.default_rng(0)
    for name, shape, classes in (
        ("mnist", (28, 28), 10),
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
    ):
        arrays = {}
        for part, count in (("train", 2048), ("test", 128)):
            pixels = random.integers(256, size=(count, *shape))
            arrays[f"{part}_x"] = pixels.astype(np.uint8)
            arrays[f"{part}_y"] = random.integers(classes, size=count)
        files.save_prepared(name, arrays)
    words = [b"<unk>", *(b"w%d" % k for k in range(2500))]
    parts = [
        [b" ".join(random.choice(words, 20)) for _ in range(count)]
        for count in (2000, 100, 100)
    ]
    for name in ("ptb", "wikitext2"):
        files.save_prepared(name, text.encode("words", *parts))
    files.save_prepared("books", text.encode("bytes", *parts))


def shrink(experiment: config.Experiment) -> config.Experiment:
    """Its smallest model at two sizes of the data, two steps each."""
    cells, training = experiment.grid, experiment.training
    fewer: dict[str, Any] = {
        "widths": (min(cells.widths),),
        "learning_rates": cells.learning_rates[:2],
        "seeds": 1,
    }
    if not cells.data_per_param:
        fewer["data_fractions"] = (0.5, 1.0)
    if not cells.branches:  # which are of one epoch
        short = {"steps": 2, "epochs": 0.0, "data_per_param": 0.0}
        training = dataclasses.replace(training, **short)
    return dataclasses.replace(
        experiment,
        grid=dataclasses.replace(cells, **fewer),
        training=training,
        fit=config.Fitting(),
        targets=config.Targets(),
        arms={},
    )


def test_every_reason_is_of_a_command():
    every = [one for page in pages.NAMES for one in pages.read_commands(page)]
    assert len(every) > 80
    for part in [*CANNOT, *INSTEAD]:
        assert any(part in command for command in every), part


def test_marked_blocks_are_run():
    """By test_readme and test_docs, which name their pages."""
    marked = {
        page
        for page in pages.NAMES
        if any(block.mark == "run" for block in pages.read_blocks(page))
    }
    assert marked == {*MARKED}
    assert marked <= {*run_pages.PAGES}


def test_what_is_printed_is_called_text():
    """A block without a name holds commands, so that none escapes."""
    for page in pages.NAMES:
        for block in pages.read_blocks(page):
            assert block.language in ("", "sh", "text", "python", "csv"), block
            assert (block.language == "csv") <= block.mark.startswith("file: "), block


def test_a_new_command_cannot_escape(capsys):
    with pytest.raises(pytest.fail.Exception, match="nobody runs this"):
        play("make coffee", capsys)
    with pytest.raises(AssertionError, match="has no --sugar"):
        play("python scripts/bench_recipe.py --sugar=2", capsys)
    with pytest.raises(flags.Error):
        play("scalepred --config=experiments/digits_mlp.py --sugar=2", capsys)


# Flags that make a script quick.
QUICK = {
    "bench_arms": "--trials=1 --resamples=20",
    "bench_calibration": "--grids=1 --resamples=20",
    "bench_comparing": "--trials=1 --resamples=20",
    "bench_extrapolation": "--data=DIR --studies=repeated --laws=chinchilla",
    "bench_recipe": "--sweeps=2",
    "bench_saving": "--steps=2 --seeds=1",
    "bench_training": "--families=mlp --rounds=1 --seeds=1 --length=0.02 --widths=4,8",
    "bench_compile": "--programs=context_mlp",
    "bench_fitting": "--data=DIR --rounds=1 --sample=2 --starts=90",
    "bench_planning": "--data=DIR --studies=steplaw --budgets=50 --seeds=1"
    " --resamples=20",
    "bench_growth": "--cells=1000 --stages=grid",
    "score_forecasts": "",
}
# Of the others only the flags are looked at here.
OTHERS = {
    "prepare_data": "run with the page on training",
    "bench_pairs": "run with the study of its page",
    "soak": "run by test_soak",
}
SCRIPTS = {
    match[1]: match[0].removeprefix(".venv/bin/")
    for page in pages.NAMES
    for command in pages.read_commands(page)
    if (match := re.match(r"\S*python scripts/(\w+)\.py.*", command))
}


@pytest.fixture
def shell(folder):
    """Runs one command of a page in a folder of its own, and gives what it prints."""

    def run(command: str) -> str:
        command = command.replace("python scripts", f"{sys.executable} {ROOT}/scripts")
        block = run_pages.Block("run", "", "sh", command, (0, 0))
        return run_pages.run(block, folder)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_scripts_of_pages_run(name, shell, request):
    # Flags of the page are dropped where the quick one is given: lists would add up.
    ours = [flag.partition("=")[0] for flag in QUICK[name].split()]
    page = [
        word for word in SCRIPTS[name].split() if word.partition("=")[0] not in ours
    ]
    # The variables are those of the loop around one of them.
    command = f"seeds=1 shared=0; {' '.join(page)} {QUICK[name]}"
    if "DIR" in command:
        data = request.getfixturevalue("shared_data") / "measured"
        command = command.replace("DIR", str(data))
    assert shell(command).strip()


def test_every_script_is_run_small():
    assert {*SCRIPTS} == {*QUICK, *OTHERS}


def train_pages(run, commands: list[str], folder: pathlib.Path) -> None:
    """docs/training.md."""
    (folder / "mine.py").write_text(pages.read_python("docs/training.md")[0])
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
        for name in ("docs/machines.md", "docs/forecasting.md")
        for one in pages.read_commands(name)
        if one.startswith("scalepred ") and "--dry_run" in one
    }
    printed = shell(command)
    for said in ("16 cells", "1 programs", "a run", "an hour"):
        assert said in printed


def arms(run, commands: list[str], folder: pathlib.Path) -> None:
    """docs/results/arms_studies.md: the study with arms, and what pairing is worth."""
    study, pairs = [one.replace("DIR", "pairs") for one in commands[:2]]
    all_fitted = "--config.fit.max_params_ratio=1 --config.fit.max_data_ratio=1"
    printed = run(f"{study} {SMALL} {all_fitted} --config.grid.seeds=2")
    assert " than " in printed or "difference" in printed
    assert "half-width of the difference" in run(pairs.replace(".venv/bin/", ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "run_all"),
    [
        ("docs/training.md", train_pages),
        ("docs/machines.md", use_machines),
        ("docs/forecasting.md", forecast),
        ("docs/results/arms_studies.md", arms),
    ],
)
def test_commands_of_a_page_run(name, run_all, shell, folder):
    run_all(shell, pages.read_commands(name), folder)

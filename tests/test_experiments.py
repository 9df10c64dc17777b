"""Every experiment: the paper's number of cells and settings, planned without data."""

import dataclasses
import importlib.util
import inspect
import itertools
import os
import pathlib
import re
import subprocess
import sys

import pytest
from etils import epath

from scalepred import config, grid, study, validation
from scalepred.data.loading import load_dataset
from scalepred.models.model import build_model

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "experiments"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))

# Name and form, cells (paper.md 2.3: Table 1 of the paper).
PAPER = {
    "imagenet_resnet50": 49,
    "cifar10_wrn": 48,
    "cifar100_wrn": 42,
    "dtd_wrn": 42,
    "aircraft_wrn": 42,
    "ucf101_wrn": 42,
    "ptb_awd_lstm": 42,
    "wikitext2_awd_lstm": 42,
    "wikitext103_transformer_xl": 42,
    "cifar100_vgg16bn:sgd": 36,
    "cifar100_vgg16bn:adam": 36,
    "cifar100_densenet:sgd": 36,
    "cifar100_densenet:adam": 36,
}


def _module(name: str):
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(name: str) -> config.Experiment:
    file, *form = name.split(":")
    return _module(file).get_config(*form)


def _forms(name: str) -> list[str]:
    """The words that its get_config takes, as its docstring says."""
    get_config = _module(name).get_config
    if not inspect.signature(get_config).parameters:
        return []
    return re.findall(r"`(\w+)`", get_config.__doc__)


EVERY_FORM = [f"{name}:{form}" for name in NAMES for form in _forms(name)]


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALEPRED_DATA", str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_cells(name):
    experiment = _load(name)
    dataset = load_dataset(experiment.dataset, outline=True)
    assert dataset.is_outline
    assert len(grid.make_cells(experiment, dataset)) == PAPER[name]


# Some always; a plan of many layers takes seconds. Plans with adam are those with sgd.
QUICK = ("ptb_awd_lstm", "cifar100_vgg16bn:sgd")
PLANNED = [name for name in PAPER if name.replace(":adam", ":sgd") == name]


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in PLANNED
    ],
)
def test_dry_runs_plan_the_papers_cells_without_its_data(name, tmp_path, capsys):
    experiment, cells = _load(name), PAPER[name]
    if name not in QUICK:  # each width is traced for seconds: the ends of them
        widths = experiment.grid.widths
        cells = cells // len(widths) * 2
        ends = dataclasses.replace(experiment.grid, widths=(widths[0], widths[-1]))
        experiment = dataclasses.replace(experiment, grid=ends)
    workdir = epath.Path(tmp_path / "run")
    study.run(experiment, workdir, dry_run=True)
    out = capsys.readouterr().out
    assert f": {cells} cells, {cells} to train" in out
    assert "prepare_data.py --dataset=" in out
    assert not workdir.exists()


@pytest.mark.parametrize("name", PAPER)
def test_data_and_models_are_scaled_by_powers_of_two(name):
    experiment = _load(name)
    fractions, widths = experiment.grid.data_fractions, experiment.grid.widths
    assert fractions == tuple(2.0**-k for k in range(len(fractions)))
    for wide, narrow in itertools.pairwise(widths):
        assert narrow == pytest.approx(wide / 2, abs=0.51)
    assert experiment.training.epochs > 0  # so that steps grow with n


def test_settings_of_the_papers_table():
    for name, epochs, batch in (
        ("cifar10_wrn", 200, 128),
        ("ucf101_wrn", 200, 128),
        ("cifar100_vgg16bn:sgd", 170, 128),
        ("cifar100_densenet:sgd", 300, 128),
    ):
        training = _load(name).training
        assert (training.epochs, training.batch_size) == (epochs, batch)
        assert (training.learning_rate, training.momentum) == (0.1, 0.9)
        assert training.weight_decay == 1e-4
    points = {
        "cifar10_wrn": (80, 120, 160),
        "imagenet_resnet50": (30, 60),
        "cifar100_vgg16bn:sgd": (80, 120, 160),
        "cifar100_densenet:sgd": (150, 225),
    }
    for name, epochs in points.items():
        training = _load(name).training
        found = [point * training.epochs for point in training.decay_points]
        assert found == pytest.approx(epochs)
        assert training.decay_factor == 0.1
    assert _load("cifar100_densenet:adam").training.learning_rate == 1e-3
    # Baselines M: CIFAR ResNet and ResNet-50 as counted in paper.md 2.4.
    wrn = build_model("wide_resnet", 16, 44, (32, 32, 3), 10)
    assert wrn.num_params == 661_338


@pytest.mark.parametrize("name", NAMES)
def test_headers_say_what_a_user_needs(name):
    text = _module(name).__doc__ or ""
    assert text.splitlines()[0].endswith(("?", "."))
    for word in ("Question:", f"Command: scalepred --config=experiments/{name}.py"):
        assert word in text


@pytest.mark.parametrize("name", EVERY_FORM)
def test_every_form_is_valid_and_can_be_built(name):
    experiment = _load(name)
    validation.validate(experiment)
    assert experiment.name.startswith(name.partition(":")[0])
    dataset = load_dataset(experiment.dataset, outline=True)
    cells = grid.make_cells(experiment, dataset)
    widest = max(experiment.grid.widths)
    for depth in experiment.grid.depths:
        model = build_model(
            experiment.family, widest, depth, dataset.input_shape, dataset.num_classes
        )
        assert model.num_params > 0
    # One is no grid to fit: the sizes beyond a sweep that follow its law.
    assert len(cells) >= (6 if name == "mnist_rates:larger" else 9)


def test_an_unknown_form_names_those_there_are():
    with pytest.raises(config.UserError, match="it has paper, small"):
        _load("cifar10_wrn:tiny")


@pytest.mark.parametrize("flag", ["--config={}", "--config {}"])
def test_a_study_finds_its_base_from_any_folder(tmp_path, flag):
    """With the command alone: pytest puts the experiments on Python's path itself."""
    study_file = os.path.relpath(FOLDER / "cifar10_wrn.py", tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scalepred"),
            *flag.format(f"{study_file}:small").split(),
            *("--workdir=run", "--config.grid.seeds=0"),
        ],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "grid.seeds=0" in done.stderr  # so the study was read


def test_every_base_is_of_more_than_one_study():
    bases = [path.stem for path in (FOLDER / "bases").glob("[!_]*.py")]
    for base in bases:
        studies = [
            name
            for name in NAMES
            if f"from bases import {base}\n" in (FOLDER / f"{name}.py").read_text()
        ]
        assert len(studies) >= 2, base

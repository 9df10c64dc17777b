"""Rows of code or data of one's own that was changed are told, never mixed."""

import importlib
import importlib.util
import json
import os
import pathlib
import re
import sys

import numpy as np
import pytest
from etils import epath

from scalepred import config, grid, own, study
from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset
from scalepred.models import mlp
from scalepred.runtime.sources import digest_module
from scalepred.table.rows import Table
from scalepred.training import weights

FAMILY = """
from scalepred.models import mlp
from {helper} import scale

def build(width, depth, shape, classes):
    return mlp.build(scale * width, depth, shape, classes)
"""
DATA = """
import numpy as np
from scalepred.data.dataset import Dataset
from scalepred.data.loading import load_dataset

def load():
    labels = np.arange(60) % 3
    inputs = np.eye(3, dtype=np.float32)[labels]{noise}
    return Dataset("mine", inputs, labels, num_classes=3, num_train=40,
                   has_fixed_test=True)
"""
OPTIMIZER = """
import optax

def slow_sgd(learning_rate):
    return optax.sgd(learning_rate / {divisor})
"""
SCHEDULE = """
def stairs(fraction, step, steps):
    return 1.0 - {drop} * (fraction > 0.5)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of modules, forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    write(tmp_path / "own_helper.py", "scale = 1\n")
    write(tmp_path / "own_family.py", FAMILY.format(helper="own_helper"))
    write(tmp_path / "own_data.py", DATA.format(noise=""))
    write(tmp_path / "own_rules.py", OPTIMIZER.format(divisor=1))
    write(tmp_path / "own_schedules.py", SCHEDULE.format(drop=0.5))
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def write(path: pathlib.Path, text: str) -> None:
    """Another source, as a new process would find it."""
    path.write_text(text)
    importlib.invalidate_caches()
    sys.modules.pop(path.stem, None)
    cache = importlib.util.cache_from_source(str(path))
    pathlib.Path(cache).unlink(missing_ok=True)


def experiment(**changes) -> config.Experiment:
    made = config.Experiment(
        name="own",
        dataset="own_data",
        family="own_family",
        grid=config.Grid(widths=(4, 8), depths=(1,), data_fractions=(0.5, 1.0)),
        training=config.Training(
            optimizer="own_rules.slow_sgd",
            schedule="own_schedules.stairs",
            learning_rate=0.1,
            batch_size=4,
            steps=8,
        ),
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def train(workdir, **changes) -> int:
    """Rows that there are then."""
    study.run(experiment(**changes), epath.Path(workdir), ("train",))
    return len(Table(workdir / "measurements.csv").rows)


EDITS = {
    "own_family": FAMILY.format(helper="own_helper") + "# other\n",
    "own_helper": "scale = 2\n",
    "own_data": DATA.format(noise=" + 0.0"),
    "own_rules": OPTIMIZER.format(divisor=10),
    "own_schedules": SCHEDULE.format(drop=0.9),
}


@pytest.mark.parametrize("edited", EDITS)
def test_an_edited_module_is_told_and_nothing_is_mixed(folder, edited):
    workdir = folder / "work"
    assert train(workdir) == 4
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    assert train(workdir) == 4  # nothing has changed
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    write(folder / f"{edited}.py", EDITS[edited])
    with pytest.raises(UserError) as told:
        train(workdir)
    assert re.match(rf"{edited} \([a-z.]+\) is not what it was", str(told.value))
    assert "another --workdir" in str(told.value)
    assert "--config.keep_rows=true" in str(told.value)
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before
    assert train(folder / "another") == 4


def test_rows_are_kept_where_that_is_asked_for_once(folder, capsys):
    workdir = folder / "work"
    train(workdir)
    write(folder / "own_helper.py", EDITS["own_helper"])
    capsys.readouterr()
    assert train(workdir, keep_rows=True) == 4
    said = capsys.readouterr()
    assert "warning: own_helper (family) is not what it was" in said.err
    assert "nothing to train" in said.out
    assert train(workdir) == 4  # the record is the new one
    assert "warning" not in capsys.readouterr().err


def test_weights_are_not_put_into_an_edited_family(folder):
    workdir = folder / "work"
    saving = config.Packing(save_weights="all")
    train(workdir, packing=saving)
    cell_id = next(iter(Table(workdir / "measurements.csv").rows))
    weights.load_model(workdir, cell_id)
    write(folder / "own_helper.py", "scale = 1.0 * 1\n")
    with pytest.raises(UserError, match=r"own_helper \(family\) is not what it was"):
        weights.load_model(workdir, cell_id)
    write(folder / "own_helper.py", "scale = 1  # as before\n")
    train(workdir, packing=saving, keep_rows=True)
    weights.load_model(workdir, cell_id)
    (workdir / "config.json").write_text("{half")
    with pytest.raises(UserError, match=r"config\.json: damaged"):
        weights.load_model(workdir, cell_id)


def test_data_that_a_module_reads_are_told(folder):
    """The module is the same, the file that it reads is not."""
    np.save(folder / "points.npy", np.eye(3, dtype=np.float32))
    reads = f"np.load({os.fspath(folder / 'points.npy')!r})"
    source = DATA.format(noise="").replace("np.eye(3, dtype=np.float32)", reads)
    write(folder / "own_data.py", source)
    workdir = folder / "work"
    assert train(workdir) == 4
    np.save(folder / "points.npy", 2 * np.eye(3, dtype=np.float32))
    with pytest.raises(UserError, match=r"^what the data hold \(dataset\) is not"):
        train(workdir)


@pytest.mark.parametrize("array", ["train_x", "train_y", "test_x", "test_y"])
def test_a_file_that_was_replaced_is_told(folder, array):
    labels = np.arange(60) % 3
    arrays = {"train_x": np.eye(3)[labels[:40]], "train_y": labels[:40]}
    arrays |= {"test_x": np.eye(3)[labels[40:]], "test_y": labels[40:]}
    path = folder / "points.npz"
    np.savez(path, **arrays)
    workdir = folder / "work"
    assert train(workdir, dataset=str(path), family="mlp") == 4
    np.savez(path, **arrays)
    assert train(workdir, dataset=str(path), family="mlp") == 4
    arrays[array] = np.roll(arrays[array], 1, axis=0)
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="what the data hold"):
        train(workdir, dataset=str(path), family="mlp")


def test_a_workdir_from_before_goes_on(folder):
    workdir = folder / "work"
    train(workdir)
    path = workdir / "config.json"
    record = json.loads(path.read_text())
    assert set(record["sources"]["family"]) == {"own_family", "own_helper"}
    del record["sources"], record["settings"]["keep_rows"]
    path.write_text(json.dumps(record))
    write(folder / "own_helper.py", EDITS["own_helper"])
    assert train(workdir) == 4
    write(folder / "own_helper.py", "scale = 3\n")
    with pytest.raises(UserError, match="own_helper"):
        train(workdir)


def test_a_fault_that_is_mended_before_there_are_rows_is_no_change(folder):
    workdir, wrong = folder / "work", experiment()
    wrong.training.optimizer = "own_rules.late_sgd"
    source = OPTIMIZER.replace("slow_sgd", "late_sgd")
    write(folder / "own_rules.py", source.format(divisor="learning_rate.missing"))
    with pytest.raises(UserError, match=r"training\.optimizer"):
        train(workdir, training=wrong.training)
    assert (workdir / "config.json").exists()
    write(
        folder / "own_rules.py", OPTIMIZER.format(divisor=1) + source.format(divisor=1)
    )
    assert train(workdir, training=wrong.training) == 4


def test_runs_that_are_half_done_count_as_rows(folder):
    workdir = folder / "work"
    train(workdir)
    for path in [*(workdir / "rows").iterdir(), workdir / "measurements.csv"]:
        path.unlink()
    (workdir / "checkpoints").mkdir()
    write(folder / "own_helper.py", EDITS["own_helper"])
    with pytest.raises(UserError, match="own_helper"):
        train(workdir)
    (workdir / "checkpoints").rmdir()
    assert train(workdir) == 4


def test_the_config_may_stand_in_the_same_file_and_change(folder):
    source = "def build(*args):\n    pass\n\n\ndef get_config():\n    return {}\n"
    write(folder / "own_study.py", source.format(1))
    first = digest_module(importlib.import_module("own_study"))
    write(folder / "own_study.py", source.format("2 + 2"))
    assert digest_module(importlib.import_module("own_study")) == first
    write(folder / "own_study.py", source.format(1).replace("*args", "*parts"))
    assert digest_module(importlib.import_module("own_study")) != first


def test_what_is_imported_from_beside_is_followed(folder):
    package = folder / "own_package"
    (package / "inner").mkdir(parents=True)
    sources = {
        "__init__.py": "",
        "family.py": "import numpy\nfrom . import layers\nfrom .inner.deep import x\n",
        "layers.py": "import own_helper, os.path\nfrom scalepred.models import mlp\n",
        "inner/__init__.py": "from ..other import y\n",
        "inner/deep.py": "def x():\n    import own_package.late\n",
        "other.py": "from own_package import family\ny = 1\n",
        "late.py": "",
        "unused.py": "",
    }
    for name, text in sources.items():
        (package / name).write_text(text)
    importlib.invalidate_caches()
    found = digest_module(importlib.import_module("own_package.family"))
    inside = {"", ".family", ".layers", ".inner", ".inner.deep", ".other", ".late"}
    assert set(found) == {"own_helper", *(f"own_package{name}" for name in inside)}


def test_in_a_notebook_what_is_loaded_counts_not_what_was_saved(folder):
    """An edit has no effect before the module is loaded anew, and then it has."""
    workdir = folder / "work"
    train(workdir)
    module = importlib.import_module("own_family")
    (folder / "own_family.py").write_text(EDITS["own_family"].replace("scale *", "3 *"))
    assert train(workdir) == 4
    importlib.invalidate_caches()
    importlib.reload(module)
    with pytest.raises(UserError, match="own_family"):
        train(workdir)
    train(folder / "another")
    rows = Table(folder / "another" / "measurements.csv").rows.values()
    small = Table(workdir / "measurements.csv").rows.values()
    assert {row.params for row in rows}.isdisjoint(row.params for row in small)


def test_what_comes_with_the_package_has_no_digest():
    assert digest_module(mlp) == {}
    plain = config.Experiment(name="x", training=config.Training(steps=1))
    labels = np.arange(6) % 3
    dataset = Dataset("x", np.ones((6, 2)), labels, 3, num_train=3)
    assert own.find_sources(plain, dataset) == {"family": {}}


def test_the_digest_of_large_data_reads_some_rows(monkeypatch):
    monkeypatch.setattr(own, "_WHOLE_BYTES", 100)
    monkeypatch.setattr(own, "_SAMPLED_ROWS", 4)
    inputs, labels = np.zeros((40, 4)), np.arange(40) % 2

    def digest(row: int, value: float) -> str:
        changed = inputs.copy()
        changed[row] = value
        return own.digest_data(Dataset("x", changed, labels, 2, num_train=20))

    assert len({digest(row, 1.0) for row in (0, 13, 26, 39)}) == 4
    assert digest(5, 1.0) == digest(6, 1.0)
    assert digest(0, 1.0) == digest(0, 1.0)


def test_every_field_version_and_the_code_are_compared_between_processes():
    first = experiment()
    told = own.describe_asked(first, {"--stages": ["fit"]})
    assert {"family", "grid.seeds", "training.learning_rate", "--stages"} <= set(told)
    assert {"the version of jax", "the digest of scalepred's code"} <= set(told)
    second = own.describe_asked(experiment(metric="loss"), {"--stages": ["fit"]})
    assert [name for name in told if told[name] != second[name]] == ["metric"]


def test_what_is_trained_is_compared_between_processes(folder):
    first = experiment()
    dataset = load_dataset("own_data")
    cells = grid.make_cells(first, dataset)
    told = own.describe_runs(first, dataset, cells)
    assert "the digest of own_helper (family)" in told
    fewer = own.describe_runs(first, dataset, cells[:-1])
    (name,) = (name for name in told if told[name] != fewer[name])
    assert name == "the digest of all cells"

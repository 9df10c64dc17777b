"""The examples of docs/, run as they stand, from outside the package."""

import csv
import importlib
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from scalepred import grid
from scalepred.fitting.warn import Warn
from scalepred.table.rows import Measurement, Table
from scripts import run_pages

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = dict(
    re.findall(
        r"<!-- file: (\w+\.py) -->\n```python\n(.*?)```",
        (ROOT / "docs" / "tasks.md").read_text(),
        re.DOTALL,
    )
)


def scalepred(path: pathlib.Path, workdir: pathlib.Path, *flags: str) -> str:
    command = [sys.executable, "-m", "scalepred", f"--config={path}"]
    done = subprocess.run(
        [*command, f"--workdir={workdir}", *flags],
        cwd=path.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=FILES)
def study(request, tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path, str]:
    """A file of the page in a folder of its own, its workdir, and what it printed."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / request.param
    path.write_text(FILES[request.param])
    return path, folder / "work", scalepred(path, folder / "work")


def read_rows(workdir: pathlib.Path) -> dict[str, Measurement]:
    return Table(workdir / "measurements.csv").rows


def test_the_page_has_files():
    assert [*FILES] == ["diabetes.py", "autoencoder.py"]


def test_it_trains_fits_and_learns(study, monkeypatch):
    path, workdir, out = study
    assert "  trust    " in out
    monkeypatch.syspath_prepend(path.parent)
    module = __import__(path.stem)
    experiment, dataset = module.get_config(), module.load()
    rows = read_rows(workdir)
    assert len(rows) == len(grid.make_cells(experiment, dataset))
    assert {row.status for row in rows.values()} == {"ok"}
    loss = dataset.task.loss
    widest = max(row.width for row in rows.values())
    largest = [
        row
        for row in rows.values()
        if row.data == dataset.num_train and row.width == widest
    ]
    guess = dataset.random_guess(loss)
    assert np.mean([row.read(loss) for row in largest]) < 0.7 * guess


def test_packed_is_alone(study):
    """The run in the midst of the grid is the run of a grid of its own."""
    path, workdir, _ = study
    alone = ["--config.grid.widths=(4,)", "--config.packing.lanes=1",
             "--config.packing.width_bucket=1.0"]  # fmt: skip
    scalepred(path, workdir.parent / "alone", "--stages=train", *alone)
    packed, exact = read_rows(workdir), read_rows(workdir.parent / "alone")
    assert len(exact) > 5
    for name, row in exact.items():
        for column in ("", "train"):
            metric = next(iter(row.others))  # mae, squares
            found = packed[name].read(metric, column)
            assert found == pytest.approx(row.read(metric, column), rel=1e-4)


def test_family_dataset_law_and_study(tmp_path):
    """The shortest study of docs/extending.md."""
    page = (ROOT / "docs" / "extending.md").read_text()
    files = [block for block in run_pages.read_blocks(page) if block.what == "file"]
    assert [file.name for file in files] == [
        "one_layer.py", "two_moons.py", "product_law.py", "moons_study.py"
    ]  # fmt: skip
    for file in files:
        lines = [line for line in file.text.splitlines() if line.strip()]
        assert len(lines) <= 13
        (tmp_path / file.name).write_text(file.text)
    scalepred(tmp_path / "moons_study.py", tmp_path / "out")
    with (tmp_path / "out" / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 5 * 4
    assert {row["family"] for row in rows} == {"one_layer"}
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["law"] == "product"
    answers = json.loads((tmp_path / "out" / "answers.json").read_text())["answers"]
    assert {answer["question"] for answer in answers} >= {"data_needed"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["docs/index.md", "docs/python.md"])
def test_pages_print_what_is_written(name, tmp_path):
    for block, printed in run_pages.play((ROOT / name).read_text(), tmp_path):
        assert run_pages.agree(block.text, printed), (
            f"{block.text}\nis now\n{printed}\n"
            "python scripts/run_pages.py --refresh writes it"
        )


def test_first_answer_and_readme_show_the_same_table():
    shown = [
        next(b.text for b in run_pages.read_blocks((ROOT / name).read_text()))
        for name in ("README.md", "docs/index.md")
    ]
    assert shown[0] == shown[1]


def test_page_of_laws_lists_every_law():
    from scalepred.fitting.laws import BUILT_IN

    page = (ROOT / "docs" / "laws.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (\d+)", page, re.MULTILINE))
    two_sizes = {law.name: str(law.num_parameters) for law in BUILT_IN}
    of_model = {name for name in two_sizes if name.endswith("_params")}
    assert {name: rows[name] for name in two_sizes.keys() - of_model} == {
        name: two_sizes[name] for name in two_sizes.keys() - of_model
    }


def test_page_of_warnings_lists_every_code():
    """Codes stand in the sources as `Warn("code"` or `add("code"`; all have advice."""
    codes: set[str] = set()
    for path in (ROOT / "scalepred").rglob("*.py"):
        codes |= set(re.findall(r'\b(?:Warn|add)\(\s*"(\w+)",', path.read_text()))
    assert {"few_points", "outliers", "low_coverage"} <= codes
    page = (ROOT / "docs" / "reading.md").read_text()
    groups = re.split(r"^\*\*(Stops|Weakens|Note)\*\*", page, flags=re.MULTILINE)
    names, rows = groups[1::2], groups[2::2]
    text = dict(zip((name.lower() for name in names), rows, strict=True))
    for code in codes:
        warn = Warn(code, "")
        assert re.search(
            rf"^\| `{code}` \| .* \| {re.escape(warn.advice)} \|$",
            text[warn.severity],
            re.MULTILINE,
        ), code


def test_page_of_verdicts_has_the_thresholds():
    trust, worth = (
        importlib.import_module(f"scalepred.report.verdict.{name}")
        for name in ("trust", "worth")
    )
    page = (ROOT / "docs" / "reading.md").read_text()
    for said in (
        f"at least {trust._GOOD_SHARE:.0%} of the held-out points",
        f"less than {trust._FALLS_MOSTLY:.0%} have the lower value",
        f"more than {trust._BEYOND:g} times the distance",
        f"more than {trust._WIDE:g} times apart",
        f"misses points by more than {trust._POOR_FIT:.0%}",
        f"above {trust._LARGE_ERROR:.0%}",
        f"{worth._MUCH[True]:.0%} or more of its value",
        f"{worth._LITTLE[False]:.1%} to {worth._MUCH[False]:.0%}",
    ):
        assert said in page.replace(" %", "%"), said
    assert 3 * trust._GOOD_ERROR == 1, "a third"
    assert trust._POOR_SHARE == 0.5, "half"


def test_every_file_of_the_tree_exists():
    """What stands where, in BUILD.md."""
    page = (ROOT / "BUILD.md").read_text()
    tree = page.split("## What stands where")[1].split("```")[1].removeprefix("text")
    folder = ROOT
    for line in tree.strip().splitlines():
        name, *said = line.split(maxsplit=1)
        if not line.startswith(" "):
            folder = ROOT / name
        path = folder / name if line.startswith(" ") else folder
        assert path.exists(), line
        for other in re.findall(r"\w+\.py", "".join(said)):
            assert (path / other).exists(), line

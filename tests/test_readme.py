"""The README's examples, run as they stand."""

import csv
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def run(arguments, folder):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_example(tmp_path):
    code, _ = re.findall(r"<!-- run -->\n```python\n(.*?)```", README, re.DOTALL)
    out = run(["-c", code], tmp_path)
    (value,) = re.findall(r"Prediction\(([\d.]+)", out)
    assert float(value) == pytest.approx(
        1.7 + 300 * 1e9**-0.4 + 900 * 2e10**-0.45, rel=1e-3
    )
    assert "is reached at" in out
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_python_example_of_a_study(tmp_path):
    _, code = re.findall(r"<!-- run -->\n```python\n(.*?)```", README, re.DOTALL)
    out = run(["-c", code], tmp_path)
    assert "chinchilla law through 6 points" in out
    assert out.rstrip().endswith(" 9")  # rows
    assert (tmp_path / "runs/small/report.html").exists()


def test_family_dataset_law_and_study(tmp_path):
    blocks = re.findall(
        r"<!-- file: (\w+\.py) -->\n```python\n(.*?)```", README, re.DOTALL
    )
    assert [name for name, _ in blocks] == [
        "one_layer.py", "two_moons.py", "product_law.py", "moons_study.py"
    ]  # fmt: skip
    for name, code in blocks:
        assert len([line for line in code.splitlines() if line.strip()]) <= 13
        (tmp_path / name).write_text(code)
    command = ["-m", "scalepred", "--config=moons_study.py", "--workdir=out"]
    run(command, tmp_path)
    with (tmp_path / "out" / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 5 * 4
    assert {row["family"] for row in rows} == {"one_layer"}
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["law"] == "product"
    answers = json.loads((tmp_path / "out" / "answers.json").read_text())["answers"]
    assert {answer["question"] for answer in answers} >= {"data_needed"}


def test_every_file_of_the_tree_exists():
    tree = README.split("## What stands where")[1].split("```")[1]
    folder = ROOT
    for line in tree.strip().splitlines():
        name, *said = line.split(maxsplit=1)
        if not line.startswith(" "):
            folder = ROOT / name
        path = folder / name if line.startswith(" ") else folder
        assert path.exists(), line
        for other in re.findall(r"\w+\.py", "".join(said)):
            assert (path / other).exists(), line


def test_commands_of_the_readme_name_real_flags():
    from scalepred.commands import fit
    from scalepred.commands import train as train_main

    script = (ROOT / "scripts" / "prepare_data.py").read_text()
    of_script = re.findall(r'"--(\w+)"', script)
    known = {*train_main.FLAGS, *fit.FLAGS, *of_script}
    for flag in re.findall(r"--(\w+)", README):
        assert flag in known or flag in ("help",), flag

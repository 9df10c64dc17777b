"""Notebooks run from top to bottom, and are committed with their outputs."""

import importlib.util
import json
import os
import pathlib
import re

import pytest

from scripts import run_pages

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def read_cells(path: pathlib.Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed(path):
    """In order, without failures, and small enough to be read in a browser."""
    assert path.stat().st_size < 200_000
    cells = [cell for cell in read_cells(path) if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    if importlib.util.find_spec("nbclient") is None:
        pytest.skip("nbclient is not installed: ./scripts/setup.sh --docs")
    monkeypatch.delenv("SCALEPRED_SHARED", raising=False)  # as it was committed
    monkeypatch.setattr(os, "environ", os.environ.copy())
    book = run_pages.execute(path, tmp_path)
    committed = [
        "".join(output["text"])
        for cell in read_cells(path)
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    printed = [
        output["text"]
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    assert len(printed) == len(committed)
    words = [[re.sub(r"[\d.,e−-]+", "#", text) for text in said]
             for said in (committed, printed)]  # fmt: skip
    assert words[0] == words[1], "scripts/run_pages.py --refresh writes them anew"

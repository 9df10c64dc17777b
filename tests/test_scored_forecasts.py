"""The committed forecasts are as they were sealed, and their scores come out again."""

import pathlib
import shutil

import pytest
from etils import epath

from scalepred.config import UserError
from scripts import score_forecasts

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results" / "forecasts"
STUDIES = sorted(path for path in FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_committed_forecast_checks(folder):
    said, scores = score_forecasts.score(epath.Path(folder))
    assert said.record["evidence"]["num_runs"] == len(said.record["evidence"]["runs"])
    for target in said.targets:
        assert target["compute_multiple"] >= 50
        assert target["num_measured"] == 0
    line = score_forecasts.format_row(folder.name, said, *scores[:1] or [None])
    assert line.startswith(f"| {folder.name} |")


def test_one_is_300_times_larger():
    told = [score_forecasts.score(epath.Path(folder))[0] for folder in STUDIES]
    assert max(said.targets[0]["compute_multiple"] for said in told) >= 300


def test_a_changed_row_is_noticed(tmp_path):
    folder = epath.Path(shutil.copytree(STUDIES[0], tmp_path / "study"))
    table = folder / "measurements.csv"
    said, _ = score_forecasts.score(folder)
    row = next(iter(said.record["evidence"]["runs"]))
    lines = table.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(row)]
    table.write_text("".join(kept))
    with pytest.raises(UserError, match="1 rows of the evidence are gone"):
        score_forecasts.score(folder)
    changed = [line.replace(",0.", ",1.", 1) if row in line else line for line in lines]
    assert changed != lines
    table.write_text("".join(changed))
    with pytest.raises(UserError, match="not those of the forecast"):
        score_forecasts.score(folder)

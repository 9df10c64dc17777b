"""The check for lent accelerators: its small form, on the CPU."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "device_check"
PARTS = ["correctness", "resume", "mlp", "decoder", "resnet", "torch"]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{SCRIPT.parent}"},
        check=False,
    )


def read(folder: pathlib.Path) -> dict:
    return json.loads((folder / "device_check.json").read_text())


@pytest.mark.slow
def test_the_small_form(tmp_path):
    # Generous, for machines that do other things: the parts' own limit is no test.
    done = run(SCRIPT, "--small", f"--out={tmp_path}", "--seconds=600")
    assert done.returncode == 0, done.stdout + done.stderr
    record = read(tmp_path)
    assert record["small"] is True
    assert record["machine"]["platform"] == "cpu"
    assert {"date", "driver", "machine", "parts"} <= set(record)
    parts = record["parts"]
    assert set(parts) == set(PARTS)
    for name, part in parts.items():
        allowed = {"ok", "skipped"} if name == "torch" else {"ok"}
        assert part["status"] in allowed, (name, part["why"])
        assert part["why"] == "" or name == "torch"
        assert f"| {name} | |" in done.stdout
        for case in part["cases"]:
            assert f"| {name} | {case['case']} | {case['result']} |" in done.stdout

    checked = {case["family"]: case for case in parts["correctness"]["cases"]}
    assert set(checked) == {"mlp", "decoder", "resnet"}
    for case in checked.values():
        assert case["runs"] == 4
        assert case["worst"] <= case["bound"] <= 2e-3

    (resumed,) = parts["resume"]["cases"]
    assert resumed["codes"] == [0, -9, -9, 0]
    assert resumed["rows"] == 16
    assert resumed["differing"] == 0

    for name, lanes in (("mlp", [1, 4, 4]), ("decoder", [1]), ("resnet", [1])):
        rows = [case for case in parts[name]["cases"] if "ratio" in case]
        assert [row["lanes"] for row in rows] == lanes
        assert rows[0]["ratio"] == 1
        for row in rows:
            assert row["lane_steps_per_second"] > 0
            assert row["share_of_bytes"] > 0
            assert row["share_of_products"] > 0
            assert row["planned_bytes"] > 0
            assert len(row["seconds_per_step"]) == 3
    (chosen,) = (c for c in parts["mlp"]["cases"] if c["case"] == "autotuner")
    assert len(chosen["trials"]) == 2
    assert 0 < chosen["share_of_best"] <= 1


def test_a_part_out_of_time_is_told_and_the_next_begins(tmp_path):
    done = run(
        SCRIPT, "--small", f"--out={tmp_path}", "--seconds=0.01", "--parts=mlp,decoder"
    )
    assert done.returncode == 1, done.stderr
    parts = read(tmp_path)["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "mlp": "timeout",
        "decoder": "timeout",
    }
    assert "stopped after 0 s" in parts["mlp"]["why"]


def test_rows_that_differ_or_are_missing_are_seen():
    code = f"""
import json, runpy
compare = runpy.run_path({str(SCRIPT)!r})["compare_rows"]
row = {{"a": (0.5, 0.25)}}
print(json.dumps([
    compare(row, row),
    compare(row, {{"a": (0.5, 0.2)}}),
    compare(row, row | {{"b": (1.0, 1.0)}}),
    compare({{"a": (0.5, float("nan"))}}, row),
    compare({{}}, {{}}),
]))
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    same, other, missing, nan, empty = json.loads(done.stdout)
    assert same == 0
    assert other == pytest.approx(0.25)
    assert missing == nan == empty == float("inf")


def test_no_folder_is_a_mistake():
    done = run(SCRIPT, "--small")
    assert done.returncode == 1
    assert "--out: missing" in done.stdout + done.stderr

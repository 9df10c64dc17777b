"""The command sets tables, or the groups of one, beside each other."""

import json
import types

import numpy as np
import pytest

import scalepred
from scalepred import comparing
from tests.test_commands import assert_refused, run_fit
from tests.test_comparison import _M, _N, _law

pytestmark = pytest.mark.usefixtures("undrawn")


def test_groups_of_any_name_have_folders_of_their_own() -> None:
    names = ["a/b", "a b", "../..", "", "A_B", "figures", "x" * 300]
    folders = comparing._name_folders(dict.fromkeys(names))
    assert len({folder.lower() for folder in folders.values()}) == len(names)
    for folder in folders.values():
        assert folder.replace("_", "").isalnum()
        assert len(folder) < 50
    assert folders["figures"] != "figures"


def _write_csv(path, families_of=("mlp", "cnn"), **columns) -> None:
    """A table of families that differ by 10 %, and one that is too small."""
    lines = ["params,data,value,metric,data_unit,family"]
    for number, name in enumerate(families_of):
        value = 0.9**number * _law(_M, _N)
        value = value * np.exp(
            0.002 * np.random.default_rng(number).standard_normal(len(value))
        )
        lines += [
            f"{m!r},{n!r},{v!r},loss,tokens,{name}"
            for m, n, v in zip(_M.tolist(), _N.tolist(), value.tolist(), strict=True)
        ]
    lines.append("1e6,1e6,3.0,loss,tokens,tiny")
    path.write_text("\n".join(lines) + "\n")


def _fit_alone(surface, folder, record, in_fit, settings, *_, title):
    """In the place of `analysis.fit_table`: without a report."""
    fit = scalepred.fit(surface.where(in_fit), settings.law, resamples=30)
    return types.SimpleNamespace(fit=fit), []


def _check_command(tmp_path, capsys) -> None:
    table, workdir = tmp_path / "runs.csv", tmp_path / "out"
    _write_csv(table)
    status, out, _ = run_fit(
        capsys,
        f"--measurements={table}",
        "--by=family",
        f"--workdir={workdir}",
        "--law=chinchilla",
        "--resamples=30",
        "--target_value=2.4",
        "--json",
    )
    assert status == 0
    record = json.loads(out)
    assert [group["name"] for group in record["groups"]] == ["mlp", "cnn"]
    assert record["pairs"][0]["verdict"] == "second"
    assert record["pairs"][0]["needed"][0]["value"] == 2.4
    assert any("tiny is left out" in note for note in record["notes"])
    assert json.loads((workdir / "comparison.json").read_text()) == record
    assert (workdir / "report.html").is_file()


def test_the_command_compares_the_groups_of_a_column(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(comparing.analysis, "fit_table", _fit_alone)
    _check_command(tmp_path, capsys)


@pytest.mark.slow
def test_every_group_has_a_report_of_its_own(tmp_path, capsys) -> None:
    _check_command(tmp_path, capsys)
    for group in ("mlp", "cnn"):
        assert (
            f'href="{group}/report.html"' in (tmp_path / "out/report.html").read_text()
        )
        assert (tmp_path / "out" / group / "report.html").is_file()


def test_the_command_says_what_cannot_be_compared(tmp_path, capsys) -> None:
    table, other = tmp_path / "runs.csv", tmp_path / "other.csv"
    _write_csv(table)
    other.write_text("params,data,value,metric\n1e6,1e6,0.5,error\n")
    own = f"--measurements={table}"
    to = f"--workdir={tmp_path / 'out'}"
    for arguments, part in (
        ([own, "--by=color"], "--by=color"),
        ([own, "--by=metric"], "one value"),
        ([own, own], "stands twice"),
        ([own, "--by=family", "--baseline=x"], "--baseline=x: there is no such group"),
        ([own, "--baseline=x"], "--baseline=x: of no use for one table"),
        ([own, f"--measurements={other}", "--by=family"], "takes the groups of one"),
        ([own, f"--measurements={other}", "--where=family=mlp"], "--where"),
        ([own, "--by=family", "--gate=value<=2,budget=1e21,probability=.5"], "--gate"),
    ):
        assert_refused(run_fit(capsys, *arguments, to), part)
    assert not (tmp_path / "out").exists()

"""Help, versions and the slips of who types: said at once, and with a way out."""

import os
import subprocess
import sys

import pytest
from example_results import grid
from test_commands import assert_refused, run_fit, write_points

from scalepred.analysis import leave_out
from scalepred.commands import fit
from scalepred.commands import train as train_main
from scalepred.config import Questions
from scalepred.runtime import command

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize("module", ["scalepred", "scalepred.commands.fit"])
def test_help_names_every_flag(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    flags = train_main.FLAGS if module == "scalepred" else fit.FLAGS
    for name in flags:
        if not name.startswith("config."):
            assert f"--{name}" in done.stdout
    assert "--version" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 88


def test_help_and_version_wait_for_nothing():
    for flag, said in (("--help", "scalepred-fit"), ("--version", "scalepred 0.")):
        code = (
            "import sys; from scalepred.commands import fit; sys.argv[1:] = ["
            f"{flag!r}]\ntry: fit.main()\nexcept SystemExit as end: print(end.code)\n"
            "print({'jax', 'numpy'} & {*sys.modules})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True
        )
        assert done.stdout.startswith(said), done.stderr
        assert done.stdout.endswith("0\nset()\n")


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("scalepred", ["--help"]),
        ("scalepred.commands.fit", ["--version"]),
        ("scalepred.commands.recipe", ["--help"]),
        ("scalepred.commands.fit", []),
    ],
)
def test_who_reads_no_more_is_told_nothing(tmp_path, module, more):
    """As after `| head -1`: no traceback, and what was to be written is."""
    if not more:
        table = tmp_path / "points.csv"
        write_points(table)
        more = [str(table), f"--workdir={tmp_path / 'work'}", "--law=chinchilla"]
        more += ["--resamples=10"]
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", module, *more]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 141
    if len(more) > 1:
        assert (tmp_path / "work" / "report.html").exists()


def test_a_table_needs_no_name(capsys, tmp_path):
    table = tmp_path / "points.csv"
    write_points(table)
    workdir = f"--workdir={tmp_path / 'work'}"
    result = run_fit(capsys, str(table), workdir, "--law=rosenfield")
    assert_refused(result, "did you mean rosenfeld?")
    result = run_fit(capsys, workdir, str(table), "--law=Chinchilla")
    assert_refused(result, "did you mean chinchilla?")
    several = run_fit(capsys, f"--measurements={table}", workdir, "more.csv", "and.csv")
    assert_refused(several, "measurements=more.csv: there is no such file")
    missing = run_fit(capsys, workdir, "nowhere.csv")
    assert_refused(missing, "nowhere.csv: there is no such file")


def test_a_broken_off_fit_does_not_claim_to_keep_rows(capsys):
    def body():
        raise KeyboardInterrupt

    fit.FLAGS.unparse_flags()
    argv = ["scalepred-fit"]
    status = command.status_of(
        "scalepred-fit", "", fit.FLAGS, body, lambda argv: None, argv, keeps_rows=False
    )
    assert status == 130
    said = capsys.readouterr().err
    assert "rows" not in said
    assert "run the same command again" in said


def test_a_fit_region_of_nothing_is_told_by_its_flag(capsys, tmp_path):
    table = tmp_path / "points.csv"
    write_points(table)
    flag = "--fit_max_compute_ratio=1e9"
    result = run_fit(capsys, str(table), f"--workdir={tmp_path / 'work'}", flag)
    assert_refused(result, f"{flag}: the smallest run takes 1/")


def test_names_to_choose_from_can_be_typed(capsys, tmp_path):
    table = tmp_path / "points.csv"
    names = [f"a_rather_long_name_of_a_task_{i}" for i in range(30)]
    rows = [f"1e{3 + i % 3},1e4,0.{1 + i % 9},{name}" for i, name in enumerate(names)]
    table.write_text("\n".join(["params,data,value,task", *rows]))
    result = run_fit(capsys, str(table), f"--workdir={tmp_path / 'work'}")
    assert_refused(result, "several values of task in one file (a_rather_long_name_of_")
    told = str(result[2]).split("(")[1].split(")")[0]
    shown, _, more = told.partition(" and ")
    assert {*shown.split(", ")} < {*names}
    assert more == f"{30 - len(shown.split(', '))} more"


@pytest.mark.parametrize(("share", "is_asked"), [(0.001, False), (0.5, True)])
def test_a_budget_far_below_every_run_is_a_slip(share, is_asked):
    points = grid().surface
    asked = Questions(budget=share * 6 * float(points.work.min()))
    left, said = leave_out("rosenfeld", points, asked)
    assert bool(left.budget) == is_asked
    assert any("less than 1/100 of the smallest run" in one for one in said) != is_asked

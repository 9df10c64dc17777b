"""Only what scalepred wrote in a workdir is removed or replaced; changes are told."""

import dataclasses
import os
import pathlib
import shutil

import pytest
from etils import epath
from etils.epath import backend as epath_backend

from scalepred import config, fill, study
from scalepred.commands import fit
from scalepred.config import UserError
from scalepred.runtime import command, files, workdir
from scalepred.table import rows
from scalepred.table.rows import Table
from scalepred.table.surface import Surface
from scalepred.training.checkpoint import Checkpoints
from tests.test_commands import assert_refused, run_fit, write_points
from tests.test_measurements import make_row

pytestmark = pytest.mark.usefixtures("undrawn")


def small_study(**changes) -> config.Experiment:
    """Four short runs, with a checkpoint after every chunk."""
    experiment = config.Experiment(
        name="small",
        grid=config.Grid(widths=(4,), data_fractions=(1 / 64, 1 / 16), seeds=2),
        training=config.Training(learning_rate=0.05, steps=20),
        packing=config.Packing(lanes=2, chunk_steps=5, checkpoint_minutes=1e-9),
    )
    return dataclasses.replace(experiment, **changes)


def train(folder: pathlib.Path, **changes) -> None:
    study.run(small_study(**changes), epath.Path(folder), ("train",))


def write_own(folder: pathlib.Path, *names: str) -> dict[pathlib.Path, bytes]:
    """Files of the user's own, all old; what they hold."""
    own = {}
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"precious {name}")
        os.utime(path, (0, 0))
        own[path] = path.read_bytes()
    return own


def read_own(own: dict[pathlib.Path, bytes]) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in own if path.exists()}


BESIDE_OURS = (
    "checkpoints/mine/model.bin",
    "checkpoints/model.bin~",
    "checkpoints_verify/0/model.bin",
    "notes.tmp",
    "measurements.csv.7.tmp",
    "points.csv",
    "rows/mine.csv",
    "rows/mine.tmp",
    "rows/abc123.csv",
    "curves/mine.npz",
    "curves/mine.npz.7.tmp",
    "weights/mine.npz",
    "forecasts/mine.json",
    "choices/mine.json",
)


@pytest.mark.parametrize("when", ["before", "after"])
def test_files_beside_ours_are_left_alone(tmp_path, capsys, when):
    if when == "after":
        train(tmp_path)
    own = write_own(tmp_path, *BESIDE_OURS)
    train(tmp_path, grid=config.Grid(widths=(4,), data_fractions=(1 / 8,), seeds=2))
    assert read_own(own) == own
    assert len(Table(tmp_path / "measurements.csv").rows) == (
        6 if when == "after" else 2
    )
    said = capsys.readouterr().err
    assert f"{tmp_path}/rows/mine.csv: not written by scalepred" in said
    assert "damaged" not in said
    # Of the checkpoints nothing of ours is left.
    left = {path for path in tmp_path.rglob("*") if "checkpoints" in path.parts[-2]}
    assert {path.name for path in left} == {"mine", "model.bin~", "0"}


def test_a_folder_of_checkpoints_goes_when_it_is_empty(tmp_path):
    train(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoints_in_a_linked_folder(tmp_path):
    """Another disk may be lent to them."""
    elsewhere = tmp_path / "elsewhere"
    own = write_own(elsewhere, "mine/model.bin")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "checkpoints").symlink_to(elsewhere)
    train(tmp_path / "work")
    assert read_own(own) == own
    assert [path.name for path in elsewhere.iterdir()] == ["mine"]


IN_THE_WAY = (
    "answers.json", "fit.json", "fit.npz", "log.txt", "predictions.csv", "report.html",
    "figures/grid.png",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [*IN_THE_WAY, "envelope.csv", "rounds.csv", "verification.csv"]
)
def test_a_file_in_the_way_stops_training_before_it_begins(tmp_path, name):
    own = write_own(tmp_path, name)
    with pytest.raises(UserError, match=f"{name.split('/')[0]} in it is not scalepred"):
        train(tmp_path)
    assert read_own(own) == own
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == own.keys()


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_a_file_in_the_way_stops_a_fit_before_it_begins(capsys, tmp_path, name):
    points = write_points(tmp_path / "points.csv")
    own = write_own(tmp_path / "work", name)
    result = run_fit(capsys, points, f"--workdir={tmp_path / 'work'}")
    assert_refused(result, "move it away, or choose another --workdir")
    assert read_own(own) == own
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {
        tmp_path / "points.csv", *own
    }  # fmt: skip


@pytest.mark.parametrize("name", ["config.json", "measurements.csv"])
def test_a_config_or_table_of_another_program_is_refused(tmp_path, name):
    (tmp_path / name).write_text('{"kindness": 1}\n')
    with pytest.raises(UserError, match=r"by scalepred; choose|not those of a table"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["report.html", "rows", "checkpoints", "figures"])
def test_a_folder_for_a_file_or_a_file_for_a_folder_is_refused(tmp_path, name):
    """Also in a workdir of ours: it would end in the middle."""
    train(tmp_path)
    path = tmp_path / name
    if path.exists():
        shutil.rmtree(path)
    if name == "report.html":
        path.mkdir()
    else:
        path.write_text("precious")
    with pytest.raises(UserError, match=f"{name} in it is (a|no) folder"):
        train(tmp_path)
    assert path.is_dir() or path.read_text() == "precious"


@pytest.mark.parametrize("how", ["plain", "relative", "linked", "twice"])
@pytest.mark.parametrize("name", ["predictions.csv", "log.txt"])
def test_a_table_with_the_place_of_a_result(capsys, tmp_path, monkeypatch, name, how):
    work = tmp_path / "work"
    work.mkdir()
    write_points(work / name)
    before = (work / name).read_bytes()
    path = work / name
    if how == "relative":
        monkeypatch.chdir(work)
        path = pathlib.Path(name)
    elif how == "linked":
        path = tmp_path / "points.csv"
        path.symlink_to(work / name)
    elif how == "twice":  # it is the workdir of that very command
        record = {"runs": {"measurements": str(path)}, "settings": {}}
        (work / name).rename(tmp_path / "away")
        workdir.prepare_workdir(epath.Path(work), record, "measurements")
        (tmp_path / "away").rename(work / name)
    result = run_fit(capsys, f"--measurements={path}", f"--workdir={work}")
    assert_refused(result, "written over it; move it away")
    assert (work / name).read_bytes() == before


def test_a_table_may_lie_in_the_workdir(capsys, tmp_path):
    """Under a name that no result has; measurements.csv is none of a fit."""
    points = write_points(tmp_path / "measurements.csv")
    before = (tmp_path / "measurements.csv").read_bytes()
    for _ in range(2):
        status, _, said = run_fit(
            capsys, points, f"--workdir={tmp_path}", "--law=rosenfeld", "--resamples=5"
        )
        assert status == 0, said
    assert (tmp_path / "measurements.csv").read_bytes() == before
    # All that it wrote is claimed.
    names = {path.name for path in tmp_path.iterdir()} - {"measurements.csv"}
    assert names == {*workdir._FILES, workdir._FIGURES, "config.json"}


def test_every_name_of_a_study_is_claimed(tmp_path):
    experiment = small_study(
        grid=config.Grid(
            widths=(4, 8, 16), data_fractions=(1 / 64, 1 / 16, 1 / 4, 1), seeds=1
        ),
        targets=config.Targets(widths=(32,)),
        fit=config.Fitting(max_data_ratio=4.0, resamples=5),
    )
    study.run(experiment, epath.Path(tmp_path), study.STAGES)
    claimed = {*workdir._FILES, *workdir._MORE_FILES["experiment"], *workdir._FOLDERS}
    claimed |= {workdir._FIGURES, "config.json", "measurements.csv"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names <= claimed
    assert names >= {"curves", "forecasts", "rows", "verification.csv"}


def test_what_a_killed_process_left_half_written_goes_away(table, monkeypatch):
    folder = pathlib.Path(table.path.parent / "rows")

    def leave_half(name):
        with monkeypatch.context() as killed:
            killed.setattr(epath_backend.os_backend, "replace", lambda *_: None)
            files.write_whole(epath.Path(folder / name), "half")
        (path,) = [path for path in folder.iterdir() if path.name.startswith(name)]
        return path

    old, new = leave_half("x.csv"), leave_half("y.csv")
    # The user's own, as old.
    own = [folder / name for name in ("notes.tmp", "x.csv.1.tmp", "y.tmp.csv")]
    own += [folder.parent / "notes.tmp", folder.parent / "unfinished.txt"]
    for path in own:
        path.write_text("mine")
    for path in (old, *own):
        os.utime(path, (0, 0))
    table.merge()
    assert not old.exists()
    assert new.exists()  # its process may still be at it
    assert [path.read_text() for path in own] == ["mine"] * len(own)


def open_table(folder: pathlib.Path) -> Table:
    """As a study opens it."""
    told = study.prepare(small_study(), epath.Path(folder))
    table = fill.open_table(told).table
    assert table is not None
    return table


@pytest.fixture
def table(tmp_path) -> Table:
    """Six rows, the last two not in the view, as a kill leaves it."""
    table = open_table(tmp_path)
    table.append([make_row(name, seed=seed) for seed, name in enumerate("abcd")])
    table.merge()
    table.append([make_row("e", seed=4)])
    table.append([make_row("f", seed=5)])
    return table


def edit(path: epath.Path, how) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(how(lines)))


LINES_LESS = {
    "one": (lambda lines: lines[:2] + lines[3:], "3 rows"),
    "three": (lambda lines: lines[:2], "5 rows"),
    "all": (lambda lines: lines[:1], "6 rows"),
    "in another order": (lambda lines: lines[:1] + lines[:2:-1], "4 rows"),
    "and Windows": (lambda lines: [x[:-1] + "\r\n" for x in lines[:3]], "4 rows"),
    "and quotes": (lambda lines: ['"a",' + lines[1][2:]], "5 rows"),
}


@pytest.mark.parametrize(("how", "count"), LINES_LESS.values(), ids=LINES_LESS)
def test_lines_that_are_missing_are_told(table, capsys, how, count):
    """The two that are only not yet in the view count, too: nobody can tell."""
    edit(table.path, how)
    again = open_table(table.path.parent)
    assert sorted(again.rows) == list("abcdef")
    said = capsys.readouterr().err
    folder = table.path.parent / "rows"
    assert f"{count} of {folder} are not in {table.path} and count;" in said
    assert f"remove their lines and {folder} too" in said
    # Who fits reads the rows and is told as well; once put back, nobody is.
    assert open_table(table.path.parent).notes == []
    edit(table.path, how)
    assert any("not in" in note for note in Surface.from_csv(table.path).notes)


def test_a_single_line_that_is_missing(table):
    table.merge()
    edit(table.path, lambda lines: lines[:-1])
    (note,) = Table(table.path).notes
    assert "1 row of" in note
    assert "is not in" in note


def test_lines_removed_with_their_rows_are_trained_again(table):
    table.merge()
    edit(table.path, lambda lines: lines[:-2])
    shutil.rmtree(table.path.parent / "rows")
    again = open_table(table.path.parent)
    assert again.notes == []
    assert sorted(again.rows) == list("abcd")


def test_a_table_that_is_gone_is_told(table, capsys):
    table.path.unlink()
    assert sorted(open_table(table.path.parent).rows) == list("abcdef")
    assert "its 6 rows in" in capsys.readouterr().err
    assert open_table(table.path.parent).notes == []


@pytest.mark.parametrize("limit", range(5))
def test_a_view_that_is_behind_is_no_alarm(table, monkeypatch, limit):
    """Killed after a row, and at each step of the merge that follows."""
    assert Table(table.path).notes == []
    calls = 0

    def killed_after(really):
        def step(*args):
            nonlocal calls
            calls += 1
            if calls > limit:
                raise KeyboardInterrupt
            return really(*args)

        return step

    # The part, the view, then the three parts that were merged.
    backend = epath_backend.os_backend
    with monkeypatch.context() as killed:
        killed.setattr(rows, "write_whole", killed_after(files.write_whole))
        killed.setattr(backend, "remove", killed_after(backend.remove))
        with pytest.raises(KeyboardInterrupt):
            Table(table.path).merge()
    again = Table(table.path)
    assert again.notes == []
    assert sorted(again.rows) == list("abcdef")
    again.append([make_row("g", seed=6)])
    assert open_table(table.path.parent).notes == []
    assert len(list((table.path.parent / "rows").iterdir())) == 1


def test_rows_before_the_first_view_are_no_alarm(tmp_path):
    table = open_table(tmp_path)
    assert table.rows == {}
    table.append([make_row("a")])
    assert open_table(tmp_path).notes == []


def test_a_workdir_that_was_moved_is_not_made_again(tmp_path, monkeypatch, capsys):
    """It ends with a sentence, and all rows are in one place."""
    work, away = tmp_path / "work", tmp_path / "away"
    really_append = Table.append

    def move(table, new):
        really_append(table, new)
        if work.exists():
            work.rename(away)

    monkeypatch.setattr(Table, "append", move)
    fit.FLAGS.unparse_flags()
    status = command.status_of(
        "scalepred",
        "",
        fit.FLAGS,
        lambda: train(work) or 0,
        lambda argv: None,
        ["scalepred"],
    )
    assert status == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"moved or removed while in use ({work}); rows written so fa" in said
    # What was being written of a checkpoint may be there.
    assert {path.name for path in tmp_path.glob("work/*")} <= {"checkpoints"}
    kept = Table(away / "measurements.csv").rows
    assert kept
    train(away)
    whole = Table(away / "measurements.csv").rows
    assert len(whole) == 4
    assert whole.items() >= kept.items()


@pytest.mark.parametrize("remade", [False, True])
@pytest.mark.parametrize("write", ["append", "merge"])
def test_a_table_that_was_moved(table, tmp_path_factory, write, remade):
    """Also where something else made its folder again."""
    folder = pathlib.Path(table.path.parent)
    away = tmp_path_factory.mktemp("away") / "work"
    folder.rename(away)
    if remade:
        folder.mkdir()
    with pytest.raises(OSError, match="moved or removed while in use"):
        table.append([make_row("g")]) if write == "append" else table.merge()
    assert not folder.exists() or not any(folder.iterdir())
    assert sorted(Table(away / "measurements.csv").rows) == list("abcdef")


def test_a_fit_whose_workdir_was_moved(tmp_path):
    with pytest.raises(OSError, match="moved or removed while in use"):
        files.write_whole(epath.Path(tmp_path / "gone" / "fit.json"), "{}")
    assert not (tmp_path / "gone").exists()


def test_checkpoints_of_a_workdir_that_was_moved(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "gone" / "checkpoints", 1)
    checkpoints.remove()
    assert not (tmp_path / "gone").exists()


def test_one_table_has_a_workdir_by_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = write_points(tmp_path / "my.points.csv")
    status, out, err = run_fit(capsys, points, "--resamples=0", "--law=chinchilla")
    assert status == 0, err
    assert "runs/my.points/report.html" in out
    page = (tmp_path / "runs/my.points/report.html").read_text()
    assert "<title>my.points" in page
    # The same command again fits again; another table of that name is told.
    assert run_fit(capsys, points, "--resamples=0", "--law=chinchilla")[0] == 0
    (tmp_path / "more").mkdir()
    other = write_points(tmp_path / "more" / "my.points.csv")
    assert_refused(run_fit(capsys, other), "choose another --workdir")

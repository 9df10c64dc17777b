"""The table on disk and the surface read from it; bad files get one sentence."""

import dataclasses
import errno
import itertools
import math
import pathlib

import fsspec
import numpy as np
import pytest
from etils import epath
from etils.epath import backend as epath_backend
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepred.config import UserError
from scalepred.runtime.files import list_files, make_absolute
from scalepred.runtime.workdir import log, prepare_workdir
from scalepred.table import rows
from scalepred.table.rows import COLUMNS, Measurement, Table
from scalepred.table.surface import Surface


def make_row(cell_id: str = "c0", **changes) -> Measurement:
    row = Measurement(
        cell_id=cell_id, task="digits", family="mlp", width=8, depth=2, params=682,
        params_total=682, data=20, data_unit="examples", epochs=50.0, steps=32, seed=0,
        learning_rate=0.1, flops=1.5e6, metric="error", value=0.1 + 0.2,
        train_value=0.0, status="ok", seconds=0.25, device="cpu", program="p",
        others={"loss": 1 / 3, "train_loss": 0.25, "validation_loss": math.inf},
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def test_columns_are_the_contract():
    assert ",".join(COLUMNS) == (
        "cell_id,task,family,width,depth,params,params_total,data,data_unit,epochs,"
        "steps,seed,learning_rate,flops,metric,value,train_value,status,seconds,"
        "device,program,validation_value"
    )


def test_rows_come_back_bitwise(tmp_path):
    rows = [
        make_row("a", value=1 / 3, seconds=1e-300),
        make_row("b", value=math.nan, status="diverged", task='odd, "name"'),
    ]
    table = Table(tmp_path / "measurements.csv")
    table.append(rows[:1])
    table.append(rows[1:])
    again = Table(tmp_path / "measurements.csv").rows
    assert again["a"] == rows[0]
    assert repr(again["b"]) == repr(rows[1])  # NaN is not equal to itself


def test_every_metric_is_read_and_a_missing_one_is_told():
    row = make_row(value=0.3, train_value=0.1)
    assert (row.read("error"), row.read("error", "train")) == (0.3, 0.1)
    assert (row.read("loss"), row.read("loss", "train")) == (1 / 3, 0.25)
    with pytest.raises(UserError, match="metric=mae: run c0 has none; choose one of"):
        row.read("mae")
    bad = make_row(value=math.nan, status="diverged", others={"loss": math.nan})
    assert math.isnan(bad.read("loss"))


def test_rows_with_and_without_other_metrics_share_a_table(tmp_path):
    path = tmp_path / "measurements.csv"
    old, new = make_row("a", others={}), make_row("b")
    path.write_text(",".join(COLUMNS) + "\n" + old.line())
    table = Table(path)
    assert table.rows["a"] == old
    table.append([new])
    table.merge()
    again = Table(path).rows
    assert again["b"] == new
    assert again["a"].read("error") == old.value
    with pytest.raises(UserError, match="run a has none; choose one of error"):
        again["a"].read("loss")


@given(cut=st.integers(0, 10**4))
def test_a_torn_row_of_a_plain_table_is_dropped_and_nothing_else(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    path = folder / "measurements.csv"
    whole = as_csv([make_row(name) for name in "abc"])
    torn = whole[: cut % (len(whole) + 1)]
    path.write_bytes(torn)
    table = Table(path)
    kept = list("abc")[: max(torn.count(b"\n") - 1, 0)]
    assert list(table.rows) == kept
    assert len(table.notes) == (0 if torn.endswith(b"\n") or not torn else 1)
    assert list(folder.iterdir()) == [path]  # to look changes nothing
    # The cells that were lost are appended again and the table is whole.
    table.append([make_row(name) for name in "abc" if name not in table.rows])
    table.merge()
    assert path.read_bytes() == whole
    assert Table(path).notes == []


def as_csv(rows) -> bytes:
    lines = [",".join([*COLUMNS, "loss", "train_loss", "validation_loss"])]
    for row in rows:
        cells = [getattr(row, name) for name in COLUMNS] + [*row.others.values()]
        lines.append(",".join("" if cell != cell else str(cell) for cell in cells))
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def table(tmp_path) -> Table:
    """Three parts and the view of the first two."""
    table = Table(tmp_path / "measurements.csv")
    table.append([make_row("a")])
    table.append([make_row("b", seed=1)])
    table.merge()
    table.append([make_row("c", seed=2)])
    table.append([make_row("d", seed=3)])
    return table


def test_the_parts_are_the_table_and_the_csv_its_view(table):
    assert table.path.read_bytes() == as_csv([make_row("a"), make_row("b", seed=1)])
    again = Table(table.path)
    assert sorted(again.rows) == list("abcd")
    assert again.notes == []
    assert len(list((table.path.parent / "rows").iterdir())) == 3
    again.merge()
    assert [line[:1] for line in table.path.read_text().splitlines()[1:]] == list(
        "abcd"
    )
    (part,) = (table.path.parent / "rows").iterdir()
    assert part.read_bytes() == table.path.read_bytes()
    table.path.unlink()
    Table(table.path).merge()
    assert table.path.read_bytes() == part.read_bytes()


def test_order_of_appends_does_not_show(tmp_path):
    rows = [
        make_row(name, width=8 - seed, seed=seed) for seed, name in enumerate("abc")
    ]
    views = []
    for order in itertools.permutations(rows):
        table = Table(tmp_path / "".join(row.cell_id for row in order) / "x.csv")
        for row in order:
            table.append([row])
        table.merge()
        views.append(table.path.read_bytes())
    assert len(set(views)) == 1


def damage(path, how: str, at: int) -> None:
    content = bytearray(path.read_bytes())
    if how == "emptied":
        content.clear()
    elif how == "truncated":
        del content[at % len(content) :]
    else:
        content[at % len(content)] ^= 1 << (at % 8)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["emptied", "truncated", "flipped"])
@settings(max_examples=25)
@given(at=st.integers(0, 10**4), which=st.integers(0, 2))
def test_a_damaged_part_is_named_and_its_rows_are_missing(
    tmp_path_factory, how, at, which
):
    table = Table(tmp_path_factory.mktemp("damaged") / "measurements.csv")
    for seed, name in enumerate("abc"):
        table.append([make_row(name, seed=seed)])
    parts = sorted((table.path.parent / "rows").iterdir())
    lost = parts[which].read_text().splitlines()[1][:1]
    damage(parts[which], how, at)
    again = Table(table.path)
    assert sorted(again.rows) == sorted(set("abc") - {lost})
    (note,) = again.notes
    assert parts[which].name in note
    assert "trained again" in note
    # Trained again, the table is whole and the damage is not told twice.
    again.append([make_row(lost, seed="abc".index(lost))])
    again.merge()
    assert Table(table.path).notes == []
    assert sorted(Table(table.path).rows) == list("abc")


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@settings(max_examples=25)
@given(at=st.integers(0, 10**4))
def test_a_damaged_view_is_made_again(tmp_path_factory, how, at):
    path = tmp_path_factory.mktemp("damaged") / "measurements.csv"
    table = Table(path)
    table.append([make_row("a"), make_row("b", seed=1)])
    table.merge()
    whole = path.read_bytes()
    damage(path, how, at)
    again = Table(path)
    assert list(again.rows.values()) == list(table.rows.values())
    # A view cut at the end of a line is one that is not up to date.
    is_behind = set(path.read_bytes().splitlines()) < set(whole.splitlines())
    lost_no_row = path.read_bytes() == whole[:-1]
    assert again.notes or (how == "truncated" and (is_behind or lost_no_row))
    # Who fits reads the rows, not the view.
    surface = Surface.from_csv(path)
    assert surface.notes[: len(again.notes)] == tuple(again.notes)
    assert surface.value[0] == table.rows["a"].value
    again.merge()
    assert path.read_bytes() == whole


def test_writers_that_know_nothing_of_each_other_lose_nothing(tmp_path):
    """Two launchers on one workdir by mistake; each merges what it has seen."""
    path = tmp_path / "measurements.csv"
    rng = np.random.default_rng(0)
    tables, written = [Table(path), Table(path)], set()
    for seed in range(60):
        writer = int(rng.integers(2))
        tables[writer].append([make_row(f"c{seed}", seed=seed)])
        written.add(f"c{seed}")
        if rng.random() < 0.3:
            tables[writer].merge()
        if rng.random() < 0.2:
            tables[writer] = Table(path)  # killed and started again
        assert set(Table(path).rows) == written
    Table(path).merge()
    assert len(Surface.from_csv(path).seed_values[0]) == 60


def test_parts_vanish_while_they_are_read(table, monkeypatch):
    """Another process merges between our listing and our reading."""
    listed = rows.list_files
    merged = []

    def list_files(folder, suffix):
        found = listed(folder, suffix)
        if not merged:
            merged.append(True)
            Table(table.path).merge()
        return found

    monkeypatch.setattr(rows, "list_files", list_files)
    assert sorted(Table(table.path).rows) == list("abcd")


def test_a_full_disk_loses_no_row(table, monkeypatch):
    folder = pathlib.Path(table.path.parent)
    before = sorted(folder.rglob("*"))

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            table.append([make_row("e", seed=4)])
        with pytest.raises(OSError, match="No space"):
            table.merge()
    assert sorted(folder.rglob("*")) == before
    assert sorted(Table(table.path).rows) == list("abcd")
    table.append([make_row("e", seed=4)])
    assert sorted(Table(table.path).rows) == list("abcde")


def test_damaged_row_is_named(tmp_path):
    path = tmp_path / "measurements.csv"
    path.write_bytes(as_csv([make_row("a"), make_row("b")]).replace(b"682", b"6x2", 1))
    with pytest.raises(UserError, match="row 2: damaged"):
        Table(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="damaged, or no table"):
        Table(path)


def test_foreign_table_is_refused(tmp_path):
    path = tmp_path / "measurements.csv"
    path.write_text("params,data,value\n1,2,3\n")
    with pytest.raises(UserError, match="not those of a table of runs"):
        Table(path)


def test_points_are_means_over_seeds():
    surface = Surface.from_arrays(
        [20, 10, 10, 20, 10], [5, 5, 5, 5, 7], [0.5, 0.2, 0.4, 0.7, 0.1]
    )
    np.testing.assert_array_equal(surface.params, [10, 10, 20])
    np.testing.assert_array_equal(surface.data, [5, 7, 5])
    np.testing.assert_allclose(surface.value, [0.3, 0.1, 0.6])
    np.testing.assert_array_equal(surface.num_seeds, [2, 1, 2])
    part = surface.where(surface.params < 15)
    assert len(part) == 2
    assert part.seed_values.shape == (2, 2)


@given(seed=st.integers(0, 10**6))
def test_order_of_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    m = rng.choice([1e3, 2e3, 4e3], 30)
    n = rng.choice([10, 20], 30)
    runs = np.arange(30)
    e = rng.uniform(0.1, 0.9, 30)
    order = rng.permutation(30)
    one = Surface.from_arrays(m, n, e, seed=runs)
    two = Surface.from_arrays(m[order], n[order], e[order], seed=runs[order])
    np.testing.assert_array_equal(one.params, two.params)
    np.testing.assert_allclose(one.value, two.value, rtol=1e-14)


def test_failed_runs_are_left_out_and_said():
    rows = [make_row("a", params=10), make_row("b", params=20)]
    rows.append(make_row("c", params=20, seed=1, status="diverged", value=math.nan))
    surface = Surface.from_measurements(rows, random_guess=0.9)
    assert len(surface) == 2
    np.testing.assert_array_equal(surface.num_seeds, [1, 1])
    assert surface.random_guess == 0.9
    assert surface.notes == ()  # one of three is worth a warning
    assert surface.left_out.is_many
    assert surface.left_out.sentence == (
        "1 of 3 runs are left out (1 diverged); the point at 1 size is the mean of the "
        "seeds that survived"
    )
    with pytest.raises(UserError, match="no run with status ok"):
        Surface.from_measurements(rows[2:])


def test_a_run_without_errors_counts_in_its_mean():
    rows = [make_row("a", value=0.0), make_row("b", seed=1, value=0.02)]
    assert Surface.from_measurements(rows).value[0] == pytest.approx(0.01)
    with pytest.raises(UserError, match="value: 0 at params=682"):
        Surface.from_measurements(rows[:1])


GOOD = "params,data,value\n1e3,10,0.5\n1e3,20,0.4\n2e3,10,0.45\n"


def test_csv_with_every_optional_column(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(
        "\ufeffvalue, params ,data,flops,seed,metric,task,weight,colour\n"
        "0.5,1e3,10,6e4,0,top1,a,1,red\n"
        "0.3,1e3,10,6e4,1,top1,a,3,red\n"
        "\n"
        "0.9,1e3,10,6e4,1,top1,b,3,red\n"
        "0.2,2e3,10,,0,top1,a,1,blue\n"
    )
    surface = Surface.from_csv(path, task="a", random_guess=0.9)
    np.testing.assert_array_equal(surface.params, [1e3, 2e3])
    np.testing.assert_allclose(surface.value, [0.4, 0.2])
    np.testing.assert_array_equal(surface.compute, [6e4, math.nan])
    np.testing.assert_array_equal(surface.weight, [2, 1])
    assert surface.metric == "error"
    assert any("top1" in note for note in surface.notes)
    assert Surface.from_csv(path, task="a", metric="loss").metric == "loss"


def test_metric_is_told_from_values_and_said(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(GOOD)
    assert Surface.from_csv(path).metric == "error"
    path.write_text(GOOD.replace("0.5", "3.5"))
    surface = Surface.from_csv(path)
    assert surface.metric == "loss"
    assert "taken for loss" in surface.notes[0]


BAD = {
    "missing column": ("params,data\n1,2\n", "no column value"),
    "no sizes": ("colour,value\n1,2\n", "no column params, data"),
    "text": (GOOD.replace("0.45", "good"), "line 4, column value: 'good' is not a num"),
    "negative": (GOOD.replace("2e3", "-2e3"), "column params: '-2e3' must be a posit"),
    "zero": (GOOD.replace("0.45", "0"), "value: 0 at params=2000,data=10"),
    "twins": (GOOD + "1e3,10,0.5\n", "lines 2 and 5 are the same"),
    "two metrics": (
        "params,data,value,metric\n1,2,3,loss\n1,3,0.5,error\n",
        "several values of metric in one file (error, loss); choose one with --metric",
    ),
    "two tasks": (
        "params,data,value,task\n1,2,3,x\n1,3,0.5,y\n",
        "several values of task in one file (x, y); choose one with --task",
    ),
    "empty": ("", "the file is empty"),
    "blank": (" \n\n", "the file is empty"),
    "header only": ("params,data,value\n", "a header but no rows"),
    "column twice": ("params,data,value,data\n1,2,3,4\n", "column 'data' stands twice"),
    "ragged": ("params,data,value\n1,2\n", "line 2: 2 cells for 3 columns"),
    "seed twice": (
        "params,data,value,seed\n1,2,0.3,0\n1,2,0.4,0\n",
        "seed=0: stands twice at params=1,data=2",
    ),
    "all failed": (
        "params,data,value,status\n1,2,,diverged\n",
        "no row has status ok",
    ),
    "error above one": (
        "params,data,value,metric\n1,2,0.5,error\n1,3,1.5,error\n",
        "1.5 is above 1, so it is no error rate",
    ),
}


@pytest.mark.parametrize(("text", "part"), BAD.values(), ids=BAD.keys())
def test_bad_files_get_one_sentence(tmp_path, text, part):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        Surface.from_csv(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["bytes", "zeros", "long line", "many lines"])
def test_ten_megabytes_of_garbage(tmp_path, kind):
    size = 10 * 2**20
    rng = np.random.default_rng(0)
    garbage = {
        "bytes": rng.integers(1, 256, size, np.uint8).tobytes(),
        "zeros": bytes(size),
        "long line": b"x" * size,
        "many lines": b"params,data,value\n"
        + b"\x1b[31m,rubbish,\x07\n" * (size // 18),
    }
    path = tmp_path / "garbage.csv"
    path.write_bytes(garbage[kind])
    with pytest.raises(UserError) as caught:
        Surface.from_csv(path)
    sentence = str(caught.value)
    assert len(sentence) < 400
    assert sentence.isprintable()


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        Surface.from_csv(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match="a folder; give a file"):
        Surface.from_csv(tmp_path)


def test_bad_arrays():
    with pytest.raises(UserError, match="data: 1 values for 2 params"):
        Surface.from_arrays([1, 2], [1], [0.5, 0.5])
    with pytest.raises(UserError, match="no runs"):
        Surface.from_arrays([], [], [])
    with pytest.raises(UserError, match="metric='accuracy'"):
        Surface.from_arrays([1], [1], [0.5], metric="accuracy")


def test_a_table_in_a_bucket(monkeypatch):
    """Where a file cannot be appended to, synced or moved in one step."""
    memory = fsspec.filesystem("memory")
    backend = epath_backend.fsspec_backend
    monkeypatch.setattr(backend, "_get_filesystem", lambda name: memory)
    workdir = epath.Path("gs://bucket/study")
    assert make_absolute(workdir) == workdir
    record = {"runs": {"name": "x"}, "settings": {}}
    prepare_workdir(workdir, record, "experiment")
    table = Table(workdir / "measurements.csv")
    table.append([make_row("a")])
    table.append([make_row("b", seed=1)])
    assert sorted(Table(table.path).rows) == ["a", "b"]
    table.merge()
    assert table.path.read_bytes() == as_csv([make_row("a"), make_row("b", seed=1)])
    assert len(Surface.from_csv(table.path)) == 1
    (part,) = list_files(workdir / "rows", ".csv")
    part.write_bytes(part.read_bytes()[:-3])
    assert Table(table.path).rows == {}
    log(workdir, "one")
    log(workdir, "two")
    assert [line[26:] for line in (workdir / "log.txt").read_text().splitlines()] == [
        "one",
        "two",
    ]
    prepare_workdir(workdir, record, "experiment")

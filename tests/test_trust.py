"""Tables, configs and workdirs may come from anywhere."""

import dataclasses
import html.parser
import pathlib
import pickle
import sys

import pytest
from etils import epath

from scalepred import config, grid, study
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.table.rows import Table
from scalepred.training import ensemble
from scalepred.training.checkpoint import Checkpoints
from tests.test_commands import run_fit, write_points

ROOT = pathlib.Path(__file__).resolve().parents[1]
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>../../../evil'

# Nobody can take an audit hook back, so it is switched.
_events: list[str] = []
_is_listening = False


def _listen(event: str, arguments: tuple) -> None:
    if _is_listening and event in ("pickle.find_class", "socket.bind", "socket.listen"):
        _events.append(f"{event} {arguments}")


sys.addaudithook(_listen)


@pytest.fixture
def audited():
    """What was unpickled and which ports were opened."""
    global _is_listening
    _events.clear()
    _is_listening = True
    yield _events
    _is_listening = False


_BESIDE = ("predictions.csv", "fit.json", "answers.json", "figures/")


class _Page(html.parser.HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, list]] = []

    def handle_starttag(self, tag, attrs):
        handlers = [name for name, _ in attrs if name.startswith("on")]
        links = [
            value
            for name, value in attrs
            if name in ("src", "href", "action", "xlink:href")
            and not (value or "").startswith("#")
            and value not in _BESIDE
        ]
        if tag in ("script", "iframe", "object", "embed", "base") or handlers or links:
            self.found.append((tag, attrs))


def test_names_of_a_table_stay_names(capsys, tmp_path):
    points = write_points(tmp_path / "points.csv")
    path = tmp_path / "points.csv"
    head, *lines = path.read_text().splitlines()
    quoted = '"' + EVIL.replace('"', '""') + '"'
    names = f"{quoted},{quoted},{quoted}"
    lines = [f"{head},task,metric,data_unit", *(f"{line},{names}" for line in lines)]
    path.write_text("\n".join(lines))
    inside = tmp_path / "a" / "b" / "c" / "d"
    status, _, error = run_fit(
        capsys, points, f"--workdir={inside}", "--resamples=20", "--law=rosenfeld"
    )
    assert status == 0, error
    page = (inside / "report.html").read_text()
    assert "alert(1)" in page  # the name itself is shown
    reader = _Page()
    reader.feed(page)
    # The page's data, and the one script that its policy allows.
    data = ("script", [("type", "application/json"), ("id", "block")])
    assert reader.found == [data, ("script", [])]
    assert "<script>alert" not in page
    # Nothing was written beside the workdir.
    outside = {p for p in tmp_path.rglob("*") if inside not in (p, *p.parents)}
    assert outside == {path, inside.parent, inside.parents[1], inside.parents[2]}


def study_named(name: str) -> config.Experiment:
    return config.Experiment(
        name=name,
        grid=config.Grid(widths=(4,), depths=(1,), data_fractions=(1 / 64,), seeds=3),
        training=config.Training(steps=30),
        packing=config.Packing(lanes=1, checkpoint_minutes=1e-9),
    )


def test_nothing_is_unpickled_and_no_port_is_opened(tmp_path, monkeypatch, audited):
    """Not even with checkpoints, a table and pickles lying in the workdir."""
    workdir = epath.Path(tmp_path / "a" / "b" / "work")
    append, calls = Table.append, []

    def die_later(table, rows):
        """Rows come before the checkpoint, so there is one at the second."""
        calls.append(rows)
        if len(calls) == 2:
            raise RuntimeError("killed")
        append(table, rows)

    with monkeypatch.context() as broken:
        broken.setattr(Table, "append", die_later)
        with pytest.raises(RuntimeError, match="killed"):
            study.run(study_named(EVIL), workdir, stages=("train",))
    assert list((workdir / "checkpoints").iterdir())
    for folder in (workdir, workdir / "rows", workdir / "checkpoints"):
        folder.mkdir(exist_ok=True)
        for name in ("x.pkl", "x.csv.pickle", "state.pickle"):
            (folder / name).write_bytes(pickle.dumps(UserError("evil")))
    study.run(study_named(EVIL), workdir, stages=("train",))
    assert audited == []
    pickle.loads(pickle.dumps(UserError("x")))
    assert len(audited) == 1  # it would have been heard
    assert len(Table(workdir / "measurements.csv").rows) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["work"]


def test_no_module_unpickles():
    for path in (ROOT / "scalepred").rglob("*.py"):
        text = path.read_text()
        for word in ("pickle.load", "import pickle", "allow_pickle=True", "eval("):
            known = text.replace(".eval(", "").replace("ast.literal_eval(", "")
            assert word not in known, f"{path}: {word}"


def test_no_name_becomes_a_path(tmp_path):
    dataset = load_dataset("digits")
    cells = grid.make_cells(study_named("x"), dataset)
    pack = ensemble.plan_cells(study_named("x"), dataset, cells).packs[0]
    evil = dataclasses.replace(pack, key=pack.key._replace(dataset="../../evil"))
    folder = Checkpoints(tmp_path, 1)._folder(evil)
    assert folder.parent == epath.Path(tmp_path)
    assert folder.name.isalnum()

"""The two commands: bad input ends with status 2 and one sentence, nothing lost."""

import errno
import os
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from etils.epath import backend as epath_backend

import scalepred
from scalepred.commands import fit
from scalepred.commands import train as train_main
from scalepred.config import UserError
from scalepred.runtime import command, preemption
from scalepred.table.surface import Surface
from tests import published

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = pathlib.Path(__file__).resolve().parents[1]
DIGITS = f"--config={ROOT}/experiments/digits_mlp.py"


def run_train(monkeypatch, capsys, *arguments):
    """Status, stdout and stderr of `scalepred` with these arguments."""
    argv = ["scalepred", *arguments]
    monkeypatch.setattr(sys, "argv", argv)  # ml_collections looks there
    for flag in [name for name in train_main.FLAGS if name.startswith("config.")]:
        delattr(train_main.FLAGS, flag)
    train_main.FLAGS.unparse_flags()
    status = command.status_of(
        "scalepred",
        train_main._USAGE,
        train_main.FLAGS,
        train_main._main,
        train_main._find_config,
        argv,
    )
    return status, *capsys.readouterr()


def run_fit(capsys, *arguments):
    """Status, stdout and stderr of `scalepred-fit` with these arguments."""
    fit.FLAGS.unparse_flags()
    status = command.status_of(
        "scalepred-fit",
        fit.USAGE,
        fit.FLAGS,
        fit._main,
        lambda argv: None,
        ["scalepred-fit", *arguments],
        positional="measurements",
        keeps_rows=False,
    )
    return status, *capsys.readouterr()


def assert_refused(result, part):
    status, _, stderr = result
    assert status == 2
    assert part in stderr
    assert stderr.count("\n") == 1
    assert "Traceback" not in stderr


BAD_CONFIGS = {
    "unknown field": (
        ["--config.grid.sedes=3"],
        "no field 'sedes'; did you mean seeds? It has",
    ),
    "unknown group": (["--config.gird.seeds=3"], "has no field 'gird'"),
    "wrong type": (["--config.grid.seeds=many"], "--config.grid.seeds=many"),
    "text for a number": (["--config.training.epochs=long"], "training.epochs=long"),
    "text in a tuple": (["--config.grid.widths=(1,'a')"], "grid.widths"),
    "fraction in a tuple": (["--config.grid.widths=(1.5,2)"], "grid.widths"),
    "width of zero": (["--config.grid.widths=(0,8)"], "grid.widths=(0, 8): must be"),
    "negative width": (["--config.grid.widths=(-8,8)"], "grid.widths=(-8, 8)"),
    "no widths": (["--config.grid.widths=()"], "grid.widths=(): must be"),
    "width twice": (["--config.grid.widths=(8,8)"], "must be distinct"),
    "rate": (["--config.training.learning_rate=nan"], "learning_rate=nan: must be"),
    "both lengths": (["--config.training.epochs=9"], "give exactly one"),
    "fraction": (["--config.grid.data_fractions=(0.5,1.5)"], "at most 1"),
    "law": (["--config.fit.law=newton"], "law='newton': must be one of auto"),
    "epochs": (["--config.questions.at_epochs=4"], "fit.law=rosenfeld knows nothing"),
    "dataset": (["--config.dataset=mnisst"], "dataset='mnisst'"),
    "family": (["--config.family=mpl"], "family='mpl'"),
    "metric": (
        ["--config.metric=accuracy"],
        "metric='accuracy': dataset digits is for",
    ),
    "no stage": (["--stages="], "--stages=: must be one or more of train"),
    "forecast without fit": (["--stages=train,forecast"], "add fit"),
    "nothing to verify": (
        [
            "--verify",
            "--config.fit.max_params_ratio=1",
            "--config.fit.max_data_ratio=1",
        ],
        "nothing to verify",
    ),
    "gate": (["--gate=value<=0.1"], "--gate=value<=0.1: must look like"),
    "gate of a dry run": (
        ["--dry_run", "--gate=value<=1,budget=1,probability=0.5"],
        "--gate: of no use with --dry_run",
    ),
    "gate without a fit": (
        ["--stages=train", "--gate=value<=1,budget=1,probability=0.5"],
        "add fit",
    ),
    "loop without budget": (["--until_width=0.1"], "--until_width: needs --budget"),
    "budget without loop": (["--budget=1e9"], "--budget: of no use without"),
    "cost without loop": (["--cost=mn"], "--cost=mn: of no use without --until_width"),
    "text for a width": (["--until_width=thin", "--budget=1"], "--until_width=thin"),
    "loop without target": (["--until_width=0.1", "--budget=1e9"], "no target"),
    "budget of nothing": (["--until_width=0.1", "--budget=0"], "--budget=0: must be"),
    "price of nothing": (["--price_per_hour=2"], "of no use without --dry_run"),
    "negative price": (["--dry_run", "--price_per_hour=-2"], "must be 0 or more"),
    "target width": (["--config.targets.widths=(0,)"], "targets.widths=(0,): must be"),
    "target in the fit region": (
        ["--config.targets.widths=(4,)", "--config.targets.data_fractions=(0.1,)"],
        "lies inside the fit region",
    ),
    "half a plain target": (["--config.targets.params=(1e9,)"], "equally long"),
    "stage": (["--stages=train,fly"], "--stages=fly: must be one or more of train"),
    "unknown flag": (["--dryrun"], "--dryrun: there is no such flag; did you mean"),
    "lone process": (["--process_id=1"], "of no use without --distributed"),
    "alone": (["--distributed"], "--distributed: this process cannot join the others"),
    "stray word": (["now"], "'now': not a flag"),
}


@pytest.mark.parametrize(
    ("arguments", "part"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys()
)
def test_bad_configs(monkeypatch, capsys, tmp_path, arguments, part):
    workdir = tmp_path / "work"
    result = run_train(monkeypatch, capsys, DIGITS, f"--workdir={workdir}", *arguments)
    assert_refused(result, part)
    assert not (workdir / "measurements.csv").exists()


def test_bad_experiment_files(monkeypatch, capsys, tmp_path):
    workdir = f"--workdir={tmp_path / 'work'}"

    def run(text):
        path = tmp_path / "x.py"
        path.write_text(text)
        return run_train(monkeypatch, capsys, f"--config={path}", workdir)

    missing = run_train(monkeypatch, capsys, "--config=nowhere.py", workdir)
    assert_refused(missing, "--config=nowhere.py: there is no such file")
    assert_refused(run("def get_config():\n    return 3\n"), "must give a")
    assert_refused(run_train(monkeypatch, capsys, workdir), "--config: missing")
    small = run_train(monkeypatch, capsys, f"{DIGITS}:small", workdir)
    assert_refused(small, "--config: this experiment has one form; leave out the colon")
    assert_refused(run_train(monkeypatch, capsys, DIGITS), "--workdir: missing")
    assert_refused(
        run_train(monkeypatch, capsys, DIGITS, workdir, "--stages=fit"),
        "runs that are fitted are there; add train to --stages",
    )


BAD_FILES = {
    "copied without its neighbours": (
        "from nowhere_bases import images\n",
        "line 1: ModuleNotFoundError: No module named 'nowhere_bases'; a study needs",
    ),
    "not in scalepred": ("from scalepred import magic\n", "line 1: ImportError"),
    "no Python": ("def get_config(:\n", "SyntaxError"),
    "zeros": ("\0", "SyntaxError"),
    "its own fault": ("def get_config():\n    return 1 / 0\n", "line 2: ZeroDivision"),
    "fault in what it calls": (
        "import json\n\ndef get_config():\n    return json.loads('{')\n",
        "x.py, line 4: JSONDecodeError",
    ),
    "unknown field": (
        "from scalepred import config\n"
        "def get_config():\n    return config.Experiment(nme='x')\n",
        "x.py, line 3: TypeError: Experiment.__init__() got an unexpected keyword",
    ),
    "a mistake that it tells": (
        "from scalepred.config import UserError\nraise UserError('my own')\n",
        "scalepred: my own",
    ),
    "no function": ("x = 1\n", "the file has no function get_config()"),
    "a file that it reads": (
        "def get_config():\n    return open('nowhere.txt')\n",
        "cannot be read ([Errno 2] No such file or directory: 'nowhere.txt')",
    ),
}


@pytest.mark.parametrize(("text", "part"), BAD_FILES.values(), ids=BAD_FILES)
def test_faults_of_an_experiment_file(monkeypatch, capsys, tmp_path, text, part):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)
    path = tmp_path / "x.py"
    path.write_text(text)
    workdir = tmp_path / "work"
    result = run_train(monkeypatch, capsys, f"--config={path}", f"--workdir={workdir}")
    assert_refused(result, part)
    assert not workdir.exists()


def no_package(*_, **__):
    raise ImportError("please install it")


def no_rights(*_, **__):
    raise ValueError("Anonymous caller\nhas no access")


REMOTE = {
    "gs://b/x": (no_package, "the package gcsfs is not installed; install it"),
    "s3://b/x": (no_package, "the package s3fs is not installed"),
    "az://b/x": (no_package, "the package adlfs is not installed"),
    "gs://b/y": (no_rights, "cannot be reached (ValueError: Anonymous caller); mend"),
    "http://h/x": (None, "nothing is read from or written to http://; give a path"),
    "https://h/x": (None, "nothing is read from or written to https://"),
    "file:///x": (None, "nothing is read from or written to file://"),
}


@pytest.mark.parametrize(("path", "how"), REMOTE.items(), ids=REMOTE)
def test_remote_paths_that_cannot_be_used(monkeypatch, capsys, tmp_path, path, how):
    really, part = how
    backend = epath_backend.fsspec_backend
    if really:
        monkeypatch.setattr(backend, "_get_filesystem", really)
        monkeypatch.setattr(epath_backend.tf_backend, "exists", really)
    points = write_points(tmp_path / "points.csv")
    workdir = f"--workdir={tmp_path / 'work'}"
    for arguments in (
        (f"--measurements={path}", workdir),
        (points, f"--workdir={path}"),
        (f"--workdir={path}", "--budget=1e9"),
        (points, f"--score={path}"),
    ):
        assert_refused(run_fit(capsys, *arguments), part)
    for more in ((), ("--dry_run",)):
        result = run_train(monkeypatch, capsys, DIGITS, f"--workdir={path}", *more)
        assert_refused(result, part)
    for ending in (".npz", ".txt", ".txt:words"):
        dataset = f"--config.dataset={path}{ending}"
        result = run_train(monkeypatch, capsys, DIGITS, workdir, dataset)
        assert_refused(result, "data are read from disk only")
    for config in ((f"--config={path}.py",), ("--config", f"{path}.py")):
        result = run_train(monkeypatch, capsys, *config, workdir)
        assert_refused(result, "an experiment is read from disk only")
    with pytest.raises(UserError, match=re.escape(part)):
        Surface.from_csv(path)
    assert [child.name for child in tmp_path.iterdir()] == ["points.csv"]


@pytest.mark.parametrize("kind", ["device", "zeros", "pipe", "folder", "linked pipe"])
def test_what_is_no_plain_file(capsys, tmp_path, kind):
    devices = {"device": "/dev/null", "zeros": "/dev/zero"}
    path = pathlib.Path(devices.get(kind) or tmp_path / "special")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "linked pipe":
        os.mkfifo(tmp_path / "other")
        path.symlink_to(tmp_path / "other")
    points = write_points(tmp_path / "points.csv")
    work = tmp_path / "work"
    for arguments in (
        (f"--measurements={path}", f"--workdir={work}"),
        (points, f"--score={path}"),
    ):
        part = "special: " if kind == "folder" else "is a pipe or a device; give"
        assert_refused(run_fit(capsys, *arguments), part)
    if kind != "folder":
        assert_refused(run_fit(capsys, points, f"--workdir={path}"), part)
    assert not work.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENXIO])
def test_a_table_that_cannot_be_read(monkeypatch, capsys, tmp_path, number):
    """It is a mistake, not the end of a training run."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    points = write_points(tmp_path / "points.csv")
    monkeypatch.setattr(epath_backend.os_backend, "open", fail)
    result = run_fit(capsys, points, f"--workdir={tmp_path / 'work'}")
    assert_refused(result, f"points.csv: cannot be read ({os.strerror(number)})")
    assert "rows written" not in str(result)


def write_points(path, extra="", **changes):
    m, n, value = published.grid(published.BY_NAME["CIFAR100"])
    columns = {"m": m * 1e6, "n": n * 5e4, "value": value, **changes}
    table = [np.asarray(column).tolist() for column in columns.values()]
    lines = zip(*table, strict=True)
    text = "\n".join(",".join(str(cell) for cell in line) for line in lines)
    path.write_text(f"params,data,value\n{text}\n{extra}")
    return f"--measurements={path}"


BAD_FITS = {
    "target inside": (
        ["--target=params=1e6,data=5e3", "--fit_max_data=1e4"],
        "lies inside the fit region, which goes up to params=16M,data=6250",
    ),
    "odd target": (["--target=params=1e6"], "--target: needs data, too"),
    "bad target": (["--target=params=big,data=1"], "must look like params=70B"),
    "negative target": (["--target=params=-1,data=1e9"], "must be a positive number"),
    "infinite budget": (["--budget=inf"], "--budget=inf: must be"),
    "nan value": (["--target_value=nan"], "--target_value=nan: must be"),
    "law": (["--law=chinchila"], "must be one of auto"),
    "residual": (
        ["--law=chinchilla", "--residual=hubber"],
        "--residual='hubber': must be one of relative, log, or huber or robust",
    ),
    "width": (["--law=chinchilla", "--residual=huber:0"], "with a width above 0"),
    "no width": (["--law=chinchilla", "--residual=huber:"], "as in huber:1e-2"),
    "width of none": (["--law=chinchilla", "--residual=log:1"], "must be one of"),
    "above": (["--law=chinchilla", "--above=0"], "--above=0.0: must be a number above"),
    "residual of auto": (["--residual=log"], "--residual=log: law=auto has a residual"),
    "above of auto": (["--above=0.3"], "--above=0.3: law=auto has a residual"),
    "metric": (
        ["--metric=accuracy"],
        "these values fall as models get better, so they are no accuracy",
    ),
    "guess": (["--random_guess=-1"], "--random_guess=-1: must be"),
    "two rules": (
        ["--fit_max_compute_ratio=5", "--fit_max_data=1e4"],
        "one rule draws the fit region",
    ),
    "nothing left": (["--fit_max_data=1"], "holds no point; widen it"),
    "too few": (["--fit_max_data=3200", "--fit_max_params=2e4"], "points to fit"),
    "useless size": (["--at_params=1e9"], "of no use without --target_value"),
    "text": (["--budget=lots"], "--budget=lots"),
}


@pytest.mark.parametrize(("arguments", "part"), BAD_FITS.values(), ids=BAD_FITS.keys())
def test_bad_fits(capsys, tmp_path, arguments, part):
    points = write_points(tmp_path / "points.csv")
    workdir = tmp_path / "work"
    result = run_fit(
        capsys, points, f"--workdir={workdir}", "--resamples=20", *arguments
    )
    assert_refused(result, part)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "residual"),
    [
        (["--residual=huber:2e-3"], scalepred.Residual("huber", 2e-3)),
        (["--residual=log", "--above=0.3"], scalepred.Residual("log", above=0.3)),
        (["--residual=robust:0.02"], scalepred.Residual("robust", 0.02)),
        ([], scalepred.Residual()),
    ],
)
def test_the_residual_of_a_table(capsys, tmp_path, arguments, residual):
    """The command minimises what the same `Residual` does in Python."""
    points = write_points(tmp_path / "points.csv")
    workdir, law = f"--workdir={tmp_path / 'work'}", "--law=chinchilla"
    status, *_ = run_fit(capsys, points, workdir, law, "--resamples=20", *arguments)
    assert status == 0
    found = scalepred.load(tmp_path / "work" / "fit.npz")
    assert found.residual == residual
    expected = scalepred.fit(found.surface, law[6:], residual=residual, resamples=0)
    for name, parameter in expected.parameters.items():
        assert found.parameters[name].value == pytest.approx(parameter.value, rel=1e-6)
    status, _, stderr = run_fit(capsys, workdir, "--budget=1e9", "--residual=log")
    assert status == 2
    assert "add --measurements to fit anew" in stderr


BAD_POINTS = {
    "one model size": ({"m": np.full(42, 7.0)}, "params: every point to fit has"),
    "one data size": ({"n": np.full(42, 7.0)}, "data: every point to fit has"),
    "all at the guess": ({"value": np.linspace(0.97, 0.99, 42)}, "at the random-guess"),
    "all the same": ({"value": np.full(42, 0.5)}, "so nothing depends on size"),
}


@pytest.mark.parametrize(("changes", "part"), BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_points(capsys, tmp_path, changes, part):
    if len({*changes} & {"m", "n"}):  # rows must stay distinct
        changes = {**changes, "value": np.linspace(0.2, 0.8, 42)}
    points = write_points(tmp_path / "points.csv", **changes)
    workdir = f"--workdir={tmp_path / 'work'}"
    result = run_fit(capsys, points, workdir, "--random_guess=0.99", "--law=rosenfeld")
    assert_refused(result, part)


def test_bad_tables_reach_the_command(capsys, tmp_path):
    """What makes a table bad is tested in test_measurements."""
    points = write_points(tmp_path / "points.csv", extra="1,2,text\n")
    assert_refused(run_fit(capsys, points, "--workdir=w"), "'text' is not a number")
    assert_refused(run_fit(capsys, "--workdir=w"), "--measurements: missing")
    assert_refused(run_fit(capsys, points, points), "--workdir: missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_workdir(capsys, tmp_path):
    points = write_points(tmp_path / "points.csv")
    tmp_path.chmod(0o500)
    result = run_fit(capsys, points, f"--workdir={tmp_path / 'work'}")
    tmp_path.chmod(0o700)
    assert_refused(result, "cannot be used")


def test_workdir_that_is_a_file(monkeypatch, capsys, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    points = write_points(tmp_path / "points.csv")
    assert_refused(run_fit(capsys, points, f"--workdir={path}"), "choose another")
    assert_refused(
        run_train(monkeypatch, capsys, DIGITS, f"--workdir={path}"), "choose another"
    )
    assert path.read_text() == "precious"


def test_interrupt_keeps_rows_and_says_so(capsys):
    def body():
        raise KeyboardInterrupt

    fit.FLAGS.unparse_flags()
    status = command.status_of(
        "scalepred", "", fit.FLAGS, body, lambda argv: None, ["scalepred"]
    )
    assert status == 130
    assert "rows written so far are kept" in capsys.readouterr().err


ENDS = {
    "stopped": (
        preemption.Stopped(),
        143,
        "stopped by SIGTERM; rows written so far are",
    ),
    "disk": (
        OSError(errno.ENOSPC, "No space left on device", "rows/x.csv"),
        1,
        "No space left on device (rows/x.csv); rows written so far are kept, mend that",
    ),
    "disk that moved": (
        OSError(errno.ESTALE, "the folder was moved", "work"),
        1,
        "the folder was moved (work); rows written so far are kept, mend that",
    ),
    "drawing": (
        preemption.ProcessLost("the figures could not be drawn"),
        1,
        "x: the figures could not be drawn; rows written so far are kept",
    ),
    "device": (
        jax.errors.JaxRuntimeError("UNAVAILABLE: the chip is gone\nand more"),
        1,
        "another process of this job failed (UNAVAILABLE: the chip is gone and more); ",
    ),
}


@pytest.mark.parametrize(("error", "status", "part"), ENDS.values(), ids=ENDS.keys())
def test_what_the_machine_does_ends_with_a_sentence(capsys, error, status, part):
    def body():
        raise error

    fit.FLAGS.unparse_flags()
    ended = command.status_of("x", "", fit.FLAGS, body, lambda argv: None, ["x"])
    assert ended == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert part in last
    assert "the same command again to go on" in last


def test_a_mistake_of_ours_is_no_failure_of_the_disk():
    def body():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    fit.FLAGS.unparse_flags()
    with pytest.raises(FileNotFoundError):
        command.status_of("x", "", fit.FLAGS, body, lambda argv: None, ["x"])


def test_a_mistake_is_one_line_even_if_told_in_two(capsys):
    def body():
        raise UserError("one\n  two")

    fit.FLAGS.unparse_flags()
    status = command.status_of("x", "", fit.FLAGS, body, lambda argv: None, ["x"])
    assert status == 2
    assert capsys.readouterr().err == "x: one two\n"

"""The folder a study keeps everything in: whose it is, and its log."""

import datetime
import json
import os
import sys

from etils import epath

from scalepred.config import UserError
from scalepred.runtime.files import write_json, write_whole

# Names that are written in a workdir. Before the first is written config.json claims
# them: what stands there without it is the user's own.
_FILES = (
    "answers.json", "fit.json", "fit.npz", "log.txt", "predictions.csv", "report.html",
)  # fmt: skip
_FILES_OF_COMPARISON = ("comparison.json",)
# By the kind of the workdir.
_MORE_FILES = {
    "experiment": ("envelope.csv", "rounds.csv", "verification.csv"),
    "measurements": _FILES_OF_COMPARISON,
    "arms": _FILES_OF_COMPARISON,
}
# Files in them are named by digests or ids, which no file of the user's own has.
_FOLDERS = (
    "checkpoints", "checkpoints_verify", "choices", "curves", "forecasts", "rows",
    "weights",
)  # fmt: skip
_FIGURES = "figures"


def prepare_workdir(workdir: epath.Path, record: dict[str, object], kind: str) -> None:
    """Makes the workdir and writes config.json; refuses one of another study.

    Args:
        workdir: where everything is kept.
        record: what config.json holds; under "runs" what must not change.
        kind: "experiment", "arms" (several experiments) or "measurements": whose
            workdir it is.

    Raises:
        UserError: if it belongs to another study or cannot be written.
    """
    check_workdir(workdir, record, kind)
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, {"kind": kind, **record})
    except OSError as error:
        raise _cannot_be_used(workdir, error) from None


def check_workdir(workdir: epath.Path, record: dict[str, object], kind: str) -> None:
    """Refuses the workdir of another study, and touches nothing.

    Raises:
        UserError: it belongs to another study, holds a file of the user's own that
            would be replaced, or cannot be read.
    """
    path = workdir / "config.json"
    try:
        is_ours = path.exists()
        if is_ours:
            _check_same_study(workdir, json.loads(path.read_text()), record, kind)
        if workdir.exists():
            _check_free(workdir, kind, is_ours)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _cannot_be_used(workdir, error) from None


def _cannot_be_used(workdir: epath.Path, error: Exception) -> UserError:
    return UserError(
        f"workdir={workdir}: cannot be used ({error}); choose another --workdir"
    )


def _check_same_study(
    workdir: epath.Path, old: object, new: dict[str, object], kind: str
) -> None:
    old = old if isinstance(old, dict) else {}
    if "kind" not in old:
        raise UserError(
            f"workdir={workdir}: its config.json was not written by scalepred; choose "
            "another --workdir"
        )
    if old["kind"] != kind:
        raise UserError(
            f"workdir={workdir}: belongs to a study of another kind "
            f"({old['kind']}, not {kind}); choose another --workdir"
        )
    # What is read back has lists where the config has tuples.
    runs = json.loads(json.dumps(new.get("runs")))
    before, now = _flatten(old.get("runs")), _flatten(runs)
    for name, value in now.items():
        # What the config could not say when the workdir was made was off then.
        was_off = name not in before and not value
        if before.get(name) != value and not was_off:
            raise UserError(
                f"workdir={workdir}: holds runs with {name}={before.get(name)!r}, this "
                f"config says {value!r}; choose another --workdir"
            )


def _check_free(workdir: epath.Path, kind: str, is_ours: bool) -> None:
    """Refuses files in the way of those that are going to be written."""
    files = _FILES + _MORE_FILES[kind]
    folders = (_FIGURES, *(("forecasts",) if kind == "measurements" else _FOLDERS))
    foreign = "" if is_ours else "is not scalepred's (there is no config.json)"
    for path in sorted(workdir.iterdir()):
        why = ""
        if path.name in files:
            why = "is a folder" if path.is_dir() else foreign
        elif path.name in folders and not path.is_dir():
            why = "is no folder"
        elif path.name == _FIGURES and any(path.iterdir()):
            why = foreign
        if why:
            raise UserError(
                f"workdir={workdir}: {path.name} in it {why}, and results have that "
                "name; move it away, or choose another --workdir"
            )


def check_input(path: os.PathLike | str, workdir: epath.Path) -> None:
    """Refuses to read what the results are written over.

    Args:
        path: that is read.
        workdir: where results of the kind "measurements" are going to be.

    Raises:
        UserError: it has the place of one of them.
    """
    names = (*_FILES, *_FILES_OF_COMPARISON, "config.json")
    if os.path.realpath(path) in [os.path.realpath(workdir / name) for name in names]:
        raise UserError(
            f"--measurements={path}: the results of this command are written over it; "
            "move it away, or choose another --workdir"
        )


def is_taken(name: str) -> bool:
    """Whether results have this name, which a folder beside them may not have."""
    files = (*_FILES, *_FILES_OF_COMPARISON, "config.json", "measurements.csv")
    return name.lower() in (*files, *_FOLDERS, _FIGURES)


def _flatten(record: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(record, dict):
        return {prefix.rstrip("."): record} if prefix else {}
    flat: dict[str, object] = {}
    for name, value in record.items():
        flat.update(_flatten(value, f"{prefix}{name}."))
    return flat


def log(workdir: epath.Path, sentence: str) -> None:
    """Adds a dated line to log.txt."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    path = workdir / "log.txt"
    # Buckets cannot append; the log is short.
    old = path.read_bytes() if path.exists() else b""
    write_whole(path, old + f"{now} {sentence}\n".encode())


def warn(workdir: epath.Path, sentence: str) -> None:
    """Says what was found damaged and was mended, and logs it."""
    print(f"warning: {sentence}", file=sys.stderr)
    log(workdir, f"warning: {sentence}")

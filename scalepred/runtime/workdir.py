"""The folder a study keeps everything in: whose it is, and its log."""

import datetime
import json
import sys

from etils import epath

from scalepred.config import UserError
from scalepred.runtime.files import write_json, write_whole


def prepare_workdir(workdir: epath.Path, record: dict[str, object], kind: str) -> None:
    """Makes the workdir and writes config.json; refuses one of another study.

    Args:
        workdir: where everything is kept.
        record: what config.json holds; under "runs" what must not change.
        kind: "experiment" or "measurements": whose workdir it is.

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
        UserError: it belongs to another study or cannot be read.
    """
    path = workdir / "config.json"
    try:
        if path.exists():
            _check_same_study(workdir, json.loads(path.read_text()), record, kind)
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
    if old.get("kind") != kind:
        raise UserError(
            f"workdir={workdir}: belongs to a study of another kind "
            f"({old.get('kind')}, not {kind}); choose another --workdir"
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

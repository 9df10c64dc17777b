"""Kills a study at random moments and inside every stage, and compares the tables.

    .venv/bin/python scripts/soak.py --workdir=/tmp/soak [--signal=TERM] [--moments=25]

trains the study once undisturbed, then again and again, killed each time and started
anew until it ends, until it has been killed so often. Every table must be that of the
undisturbed run bit for bit, but for the column seconds, and there must be one forecast,
which says the same. Exit status 0 if it is so.
"""

import functools
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from absl import app, flags
from etils import epath

from scalepred import study
from scalepred.commands import train as train_main
from scalepred.forecasting import evidence, forecast
from scalepred.runtime import files
from scalepred.table.rows import COLUMNS, Table
from scalepred.training import checkpoint, engine, pace

ROOT = pathlib.Path(__file__).resolve().parents[1]

_CONFIG = flags.DEFINE_string(
    "config", str(ROOT / "experiments" / "digits_mlp.py"), "Study to kill."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where; emptied.", required=True)
_MOMENTS = flags.DEFINE_integer("moments", 25, "Random moments to kill at.")
_SIGNAL = flags.DEFINE_enum("signal", "KILL", ["KILL", "TERM"], "What to kill with.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_OVERRIDES = flags.DEFINE_multi_string("override", [], "Such as grid.seeds=4.")

# Modules that every child needs; a fork server has imported them once.
_PRELOAD = ["scalepred.commands.train", "scalepred.study"]


def _die(number: int) -> None:
    os.kill(os.getpid(), number)


def _before(holder: Any, name: str, die: Callable[[], None], nth: int = 1) -> None:
    """Dies at the n-th call of a function."""
    function, calls = getattr(holder, name), 0

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            die()
        return function(*args, **kwargs)

    setattr(holder, name, wrapped)


def _later(die: Callable[[], None], seconds: float) -> Callable[[], None]:
    return lambda: threading.Timer(seconds, die).start()


def _in_write(die: Callable[[], None], module: str, folder: str) -> None:
    """Half of the bytes of a file of rows or curves are written."""
    write_whole = files.write_whole

    def write_half(path: epath.Path, content: bytes) -> None:
        if path.parent.name == folder:
            half = path.parent / f"{path.name}.half.tmp"
            half.write_bytes(content[: len(content) // 2])
            die()
        write_whole(path, content)

    sys.modules[module].__dict__["write_whole"] = write_half


def _in_forecast_write(die: Callable[[], None], suffix: str) -> None:
    """Half of the bytes of a forecast, or of the fit beside it, are written."""
    write_whole = files.write_whole

    def write_half(path: epath.Path, content: str | bytes) -> None:
        if path.name.endswith(suffix):
            half = path.parent / f"{path.name}.half.tmp"
            half.write_bytes(
                content[: len(content) // 2].encode()
                if isinstance(content, str)
                else content[: len(content) // 2]
            )
            die()
        write_whole(path, content)

    forecast.__dict__["write_whole"] = write_half


STAGES: dict[str, Callable[[Callable[[], None]], None]] = {
    "first compile": lambda die: _before(engine, "make_functions", _later(die, 0.2)),
    "chunk": lambda die: _before(pace, "make_request", _later(die, 0.005), nth=5),
    "refill": lambda die: _before(pace, "make_request", die, nth=20),
    "curve write": lambda die: _in_write(die, "scalepred.training.curves", "curves"),
    "row write": lambda die: _in_write(die, "scalepred.table.rows", "rows"),
    "checkpoint write": lambda die: _before(
        checkpoint.Checkpoints, "finish", die, nth=2
    ),
    "fit": lambda die: _before(evidence, "fit", _later(die, 0.5)),
    "forecast": lambda die: _before(forecast, "make_record", die),
    "forecast write": lambda die: _in_forecast_write(die, ".json"),
    "forecast's fit write": lambda die: _in_forecast_write(die, ".npz"),
    "verify": lambda die: _before(study, "await_forecast", _later(die, 0.5)),
    "score": lambda die: _before(forecast, "format_scores", die),
    "report": lambda die: _before(study, "finish", _later(die, 0.3)),
}


def _child(arguments: Sequence[str], log: str, stage: str | None, number: int) -> None:
    """The command itself, in a process of its own."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["scalepred", *arguments]
    if stage:
        STAGES[stage](lambda: _die(number))
    train_main.main()


def start(
    config: str | pathlib.Path,
    workdir: pathlib.Path,
    *arguments: str,
    stage: str | None = None,
    number: int = signal.SIGKILL,
    log: str | None = None,
) -> BaseProcess:
    """Starts the command, to be killed from outside or inside of a stage.

    Args:
        config: the study.
        workdir: its folder.
        arguments: further ones of the command.
        stage: of `STAGES`; None: it is not killed from inside.
        number: the signal.
        log: where what it prints goes; None: a .log beside the workdir.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    everything = [f"--config={config}", f"--workdir={workdir}", *arguments]
    process = context.Process(
        target=_child, args=(everything, log or f"{workdir}.log", stage, int(number))
    )
    process.start()
    return process


def read_table(workdir: pathlib.Path) -> list[tuple[str, ...]]:
    """Rows of the table as text, without what each run of a cell takes anew."""
    lines = Table(workdir / "measurements.csv").as_csv().decode().splitlines()
    column = COLUMNS.index("seconds")
    return [
        tuple(cells[:column] + cells[column + 1 :])
        for cells in (line.split(",") for line in lines)
    ]


def read_said(workdir: pathlib.Path) -> list[list[tuple[float, ...]]]:
    """What each intact forecast says of its targets; nothing of one that is damaged."""
    told, notes = forecast.read_all(epath.Path(workdir) / "forecasts")
    names = ("params", "data", "value", "upper")
    return [
        *(
            [tuple(one[name] for name in names) for one in said.targets]
            for said in told
        ),
        *([] for _ in notes),
    ]


def _report(
    name: str, workdir: pathlib.Path, expected: tuple[list, list], codes: list
) -> bool:
    same = (read_table(workdir), read_said(workdir)) == expected
    files_left = sorted(p.name for p in workdir.iterdir())
    print(
        f"{name}: ended with {codes}, {len(expected[0]) - 1} rows, "
        f"{'the same' if same else 'DIFFERENT'}; left: {' '.join(files_left)}",
        flush=True,
    )
    return same


def main(_: Sequence[str]) -> None:
    base = pathlib.Path(_WORKDIR.value).absolute()
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    number = signal.SIGKILL if _SIGNAL.value == "KILL" else signal.SIGTERM
    overrides = [f"--config.{override}" for override in _OVERRIDES.value]

    def begin(workdir: pathlib.Path, stage: str | None = None) -> BaseProcess:
        often = "--config.packing.checkpoint_minutes=0.005"
        return start(
            _CONFIG.value, workdir, often, *overrides, stage=stage, number=number
        )

    began = time.monotonic()
    process = begin(base / "undisturbed")
    process.join()
    took = time.monotonic() - began
    if process.exitcode:
        raise SystemExit((base / "undisturbed.log").read_text())
    expected = read_table(base / "undisturbed"), read_said(base / "undisturbed")
    print(
        f"undisturbed: {len(expected[0]) - 1} rows, {len(expected[1])} forecast in "
        f"{took:.0f} s",
        flush=True,
    )

    good = True
    for stage in STAGES:
        workdir, codes = base / stage.replace(" ", "_"), []
        # The second life dies in the same stage again, if it comes there.
        for life in (stage, stage, None):
            process = begin(workdir, life)
            process.join()
            codes.append(process.exitcode)
        if codes[0] == 0:
            print(f"{stage}: was not killed")
            good = False
        good &= _report(stage, workdir, expected, codes)

    rng = random.Random(_SEED.value)
    kills = study_number = 0
    while kills < _MOMENTS.value:
        study_number += 1
        workdir, codes = base / f"random{study_number}", []
        while not codes or codes[-1] != 0:
            process = begin(workdir)
            process.join(rng.uniform(0, took) if kills < _MOMENTS.value else None)
            if process.exitcode is None:
                kills += 1
                os.kill(process.pid or 0, number)
                process.join()
            codes.append(process.exitcode)
        good &= _report(f"random moments, {kills} so far", workdir, expected, codes)
    print("all tables and forecasts are the same" if good else "FAILED")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    app.run(main)

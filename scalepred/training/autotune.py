"""Times the few choices that matter for a program on the device at hand, for seconds.

The plan's default stands unless another choice is a tenth faster. What was found is
kept on disk by program and device, so that a program is timed once a machine. No
result depends on it beyond rounding.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import jax
from etils import epath

from scalepred.runtime.files import digest, write_whole
from scalepred.training.plan import Choice, Pack, Plan

# Choices are timed where training takes at least so many times as long as timing.
_WORTH = 10.0
# A choice must be so much faster than the default to replace it.
_MARGIN = 0.9

Measure = Callable[[Sequence[Pack]], list[float]]


def tune(
    plan: Plan, measure: Measure, device: str, folders: Sequence[epath.Path]
) -> Plan:
    """The plan with the fastest choice of each program.

    Args:
        plan: packs with the choices that are open.
        measure: seconds of a lane-step of each of several forms of a pack.
        device: kind and number of the devices.
        folders: where findings are kept; the first that knows one decides.
    """
    return dataclasses.replace(
        plan,
        packs=tuple(_tune_pack(pack, measure, device, folders) for pack in plan.packs),
    )


def cache_folder() -> pathlib.Path:
    """Where findings are kept: ~/.cache/scalepred, or what XDG_CACHE_HOME says."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(root) / "scalepred" / "choices"


def _tune_pack(
    pack: Pack, measure: Measure, device: str, folders: Sequence[epath.Path]
) -> Pack:
    options = pack.choices
    trial_seconds = pack.compile_seconds * len(options)
    if len(options) < 2 or pack.seconds < _WORTH * trial_seconds:
        return pack
    paths = [folder / f"{_file_name(pack, device)}.json" for folder in folders]
    found = [_read(path, options) for path in paths]
    known = next((choice for choice in found if choice is not None), None)
    record: dict[str, object] = {"choice": list(known or ())}
    if known is None:
        seconds = measure([pack.choose(option) for option in options])
        known = pick(options, seconds)
        timed = dict(zip(map(str, options), seconds, strict=True))
        record = {"choice": list(known), "seconds_a_lane_step": timed}
    for path, choice in zip(paths, found, strict=True):
        if choice is None:
            _write(path, record)
    return pack.choose(known)


def pick(options: Sequence[Choice], seconds: Sequence[float]) -> Choice:
    """The fastest; the first, which is the default, unless one is clearly faster."""
    best = min(range(len(options)), key=lambda index: seconds[index])
    return options[best] if seconds[best] < _MARGIN * seconds[0] else options[0]


def _file_name(pack: Pack, device: str) -> str:
    widths = "-".join(map(str, pack.widths))
    # Another version of jax compiles other programs.
    parts = (str(pack.key), widths, device, jax.__version__, jax.default_backend())
    return "_".join(parts).replace("/", "_").replace(" ", "-")


def _read(path: epath.Path, options: Sequence[Choice]) -> Choice | None:
    """What was found before, if it is among the choices; a damaged file is none."""
    try:
        record = dict(json.loads(path.read_text()))
        if record.pop("digest") != digest(record):
            return None
        found = Choice(*record["choice"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found in options else None


def _write(path: epath.Path, record: dict[str, object]) -> None:
    """A folder that cannot be written to costs the next start a few seconds only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        signed = {**record, "digest": digest(record)}
        write_whole(path, json.dumps(signed, indent=1) + "\n")
    except OSError:
        return

"""Exports loss curves: python -m scalepred.commands.curves."""

from absl import flags
from etils import epath

from scalepred.config import UserError
from scalepred.report import tensorboard
from scalepred.runtime import command
from scalepred.runtime.files import open_path, write_whole
from scalepred.table.rows import Measurement, Table
from scalepred.training import curves
from scalepred.training.curves import Curve

_USAGE = """\
Writes the loss curve of every run of a study to a folder, for TensorBoard or by hand.

  python -m scalepred.commands.curves --workdir=runs/x --out=curves [--format=csv]

  --workdir  folder of the study, whose runs were trained by scalepred
  --out      folder to write to: <run>.csv with Wall time, Step, Value, as TensorBoard
             exports scalars; or <run>/events.out.tfevents.scalepred, which it reads
  --format   csv (default) or tensorboard

A value is the mean training loss since the step before it. Time passes evenly: a
step's wall time is its share of the seconds that the run took.
"""

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string("workdir", None, "Of the study.", flag_values=FLAGS)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "csv", ["csv", "tensorboard"], "What to write.", flag_values=FLAGS
)
_TAG = "train/loss"


def export(workdir: epath.Path, out: epath.Path, kind: str) -> int:
    """Writes a file for each run that has a row and a curve; returns their number.

    Args:
        workdir: of the study.
        out: folder to write to.
        kind: "csv" or "tensorboard".

    Raises:
        UserError: the workdir has no such run.
    """
    found = curves.read(workdir)
    rows = Table(workdir / "measurements.csv").rows.values() if found else ()
    rows = [row for row in rows if row.cell_id in found]
    if not rows:
        raise UserError(
            f"--workdir={workdir}: has no loss curves; give the workdir of a study "
            "that scalepred trained"
        )
    out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        points = _time_points(row, found[row.cell_id])
        name = _name_run(row)
        if kind == "csv":
            lines = [f"{time!r},{step},{value!r}" for time, step, value in points]
            text = "\n".join(["Wall time,Step,Value", *lines]) + "\n"
            write_whole(out / f"{name}.csv", text)
        else:
            (out / name).mkdir(exist_ok=True)
            events = tensorboard.format_events(_TAG, points)
            write_whole(out / name / "events.out.tfevents.scalepred", events)
    return len(rows)


def _time_points(row: Measurement, curve: Curve) -> list[tuple[float, int, float]]:
    """Seconds since the run began, step, value."""
    return [
        (row.seconds * step / row.steps, step, value)
        for step, value in zip(curve.steps.tolist(), curve.losses.tolist(), strict=True)
    ]


def _name_run(row: Measurement) -> str:
    """Its sizes first, for the reader; the id, as rates may differ."""
    return (
        f"width{row.width}-depth{row.depth}-data{row.data}-seed{row.seed}-{row.cell_id}"
    )


def _main() -> int:
    for name, value in (("--workdir", _WORKDIR.value), ("--out", _OUT.value)):
        if not value:
            raise UserError(f"{name}: missing; give a folder")
    out = open_path("--out", str(_OUT.value))
    workdir = open_path("--workdir", str(_WORKDIR.value))
    count = export(workdir, out, _FORMAT.value)
    print(f"{count} loss curves in {out}")
    return 0


def main() -> None:
    """Entry point."""
    command.run("scalepred.commands.curves", _USAGE, FLAGS, _main)


if __name__ == "__main__":
    main()

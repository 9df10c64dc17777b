"""Scores the committed forecasts again, from nothing but what is committed.

    python scripts/score_forecasts.py [--folder=docs/results/forecasts]

A folder a study holds the sealed forecast (its name is the digest of its bytes), the
saved fit it rests on, and the rows of its runs. Checked are the seals, that the rows
which the forecast names have the digest it names, and that the saved fit says what the
forecast says. Printed is the table of docs/results/forecasts.md. Exit status 0 if
everything checks, 1 if not.
"""

import math
import pathlib
import statistics
import sys
from collections import defaultdict

from absl import app, flags
from etils import epath

import scalepred
from scalepred.config import UserError
from scalepred.forecasting import forecast
from scalepred.forecasting.evidence import weigh_evidence
from scalepred.forecasting.forecast import Forecast, Verified
from scalepred.report import format
from scalepred.table.rows import Measurement, Table

ROOT = pathlib.Path(__file__).resolve().parents[1]

_FOLDER = flags.DEFINE_string(
    "folder", str(ROOT / "docs" / "results" / "forecasts"), "Of the studies."
)


def check(folder: epath.Path, said: Forecast, rows: dict[str, Measurement]) -> None:
    """That the evidence is what the forecast says, and the fit says it.

    Raises:
        UserError: something does not.
    """
    evidence = said.record["evidence"]
    missing = [name for name in evidence["runs"] if name not in rows]
    if missing:
        raise UserError(f"{folder.name}: {len(missing)} rows of the evidence are gone")
    found = weigh_evidence([rows[name] for name in evidence["runs"]])
    if found.rows != evidence["rows"]:
        raise UserError(f"{folder.name}: the rows are not those of the forecast")
    if not math.isclose(found.flops, evidence["flops"], rel_tol=1e-9):
        raise UserError(f"{folder.name}: the evidence cost {found.flops:g} FLOPs")
    fit = scalepred.load(folder / said.record["fit"]["file"])
    for target in said.targets:
        value = float(fit.predict(target["params"], target["data"]).value)
        if not math.isclose(value, target["value"], rel_tol=1e-6):
            raise UserError(f"{folder.name}: the saved fit says {value:g}")


def score(folder: epath.Path) -> tuple[Forecast, list[Verified]]:
    """The first forecast of a folder, and what became of its targets.

    Raises:
        UserError: there is none, or something was changed.
    """
    told, notes = forecast.read_all(folder)
    if notes or not told:
        raise UserError(notes[0] if notes else f"{folder}: holds no forecast")
    said, rows = told[0], Table(folder / "measurements.csv").rows
    check(folder, said, rows)
    values = defaultdict(list)
    for name, row in rows.items():
        if name not in said.record["evidence"]["runs"] and row.status == "ok":
            values[row.params, row.data].append(row.value)
    found = []
    for (params, data), own in values.items():
        target = said.find(params, data)
        if target is not None:
            found.append(forecast.score(said, target, own))
    return said, found


def format_row(name: str, said: Forecast, one: Verified | None) -> str:
    """A line of the table."""
    target = max(said.targets, key=lambda target: target["flops"])
    ends = target["mean_over_seeds"]
    metric = said.metric

    def show(value: float) -> str:
        return format.measured(float(value), metric, with_unit=False)

    cells = [
        name,
        f"{format.flops(said.record['evidence']['flops'])}",
        format.ratio(target["compute_multiple"], 1),
        f"{show(target['value'])} ({show(ends['lower'])} to {show(ends['upper'])})",
    ]
    if one is None:
        return " | ".join(["", *cells, "not trained yet", "", "", ""]).strip() + " |"
    inside = {"50": "50 %", "90": "90 %"}.get(one.inside, "none")
    cells += [
        f"{show(one.measured)} ({one.num_seeds})",
        format.percent(one.relative_error),
        inside,
        f"{one.log_score:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(argv: list[str]) -> None:
    del argv
    print(
        "| study | evidence FLOPs | multiple | predicted (90 % interval) "
        "| measured (runs) | error | inside | log score |"
    )
    print("| --- " * 8 + "|")
    errors, inside, failed = defaultdict(list), [], False
    for folder in sorted(epath.Path(_FOLDER.value).iterdir()):
        if not folder.is_dir():
            continue
        try:
            said, scores = score(folder)
        except UserError as error:
            print(f"{folder.name}: {error}", file=sys.stderr)
            failed = True
            continue
        one = max(scores, key=lambda one: one.compute, default=None)
        print(format_row(folder.name, said, one))
        if one is not None:
            errors[said.metric].append(abs(one.relative_error))
            inside.append(one.inside in ("50", "90"))
    print(f"\n{sum(inside)} of {len(inside)} inside their 90 % interval")
    for metric, found in errors.items():
        median = format.percent(statistics.median(found))
        print(f"median error of {len(found)} forecasts of {metric}: {median}")
    sys.exit(int(failed))


if __name__ == "__main__":
    app.run(main)

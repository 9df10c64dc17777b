"""What a study ends with: predictions, scores and answers, and the files they go to.

The report, the terminal and the JSON files all read one `Results`; nothing is
computed twice or differently for one of them.
"""

import csv
import dataclasses
import datetime
import functools
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from scalepred.fitting import backtest
from scalepred.fitting.answers import Answer
from scalepred.fitting.fit import Fit
from scalepred.fitting.scores import coverage, summarise_errors
from scalepred.fitting.warn import Warn
from scalepred.report.law_code import find_parts
from scalepred.runtime import invocation
from scalepred.runtime.files import write_json, write_whole
from scalepred.runtime.versions import read_versions
from scalepred.table.rows import STOPPED
from scalepred.table.surface import Surface

if TYPE_CHECKING:
    from scalepred.forecasting.forecast import Asked, Forecast, Verified
    from scalepred.table.rows import Measurement
    from scalepred.training.run import Progress

_GRID = 0.5  # of all pairs of a model and a data size
# Of 90 % intervals; less is said aloud.
_LOW_COVERAGE = 0.75


@dataclasses.dataclass(frozen=True)
class PredictionRow:
    """One row of predictions.csv.

    Attributes:
        params: m.
        data: n.
        compute: training FLOPs of one run.
        region: fit (the law saw it) | held_out (it did not, and the grid holds it) |
            target (asked for, or of the grid and not measured yet).
        measured: mean over the seeds; NaN where there is none yet.
        predicted: by the law.
        lower: lower end of the 90 % interval for a new measurement like `measured`,
            a mean over as many seeds; of a single run for a target without one.
        upper: its upper end.
        relative_error: predicted / measured - 1; NaN where nothing is measured.
        epochs: passes over the data, n being unique data; NaN, and no column of the
            file, where they are not known.
    """

    params: float
    data: float
    compute: float
    region: str
    measured: float
    predicted: float
    lower: float
    upper: float
    relative_error: float
    epochs: float = math.nan


@dataclasses.dataclass(frozen=True)
class Score:
    """How predictions compare with measurements over a set of points.

    Attributes:
        name: which points.
        num_points: how many; with 0 the rest is NaN.
        mean: signed mean of predicted / measured - 1.
        std: its population standard deviation.
        coverage: share of measurements within their 90 % intervals.
    """

    name: str
    num_points: int
    mean: float
    std: float
    coverage: float


@dataclasses.dataclass(frozen=True)
class Training:
    """What was run to fill the table; sums over the rows of the table.

    Attributes:
        num_runs: rows with status ok.
        num_failed: rows with another status, without those stopped.
        flops: of all runs, each from its first step.
        seconds: wall time of all runs, without compilation; likewise.
        devices: kinds, as in the table.
        num_programs: compiled programs.
        compile_seconds: of this call, summed over programs, which compile side by
            side; NaN if nothing was trained.
        wait_seconds: of this call, in which nothing was trained for want of a
            program; or NaN.
        lane_utilization: live lane-steps over all lane-steps of this call, or NaN.
        spent: FLOPs with the steps of a trunk counted once; NaN: all are plain runs.
        num_stopped: rows of runs that were stopped as they could not matter.
    """

    num_runs: int
    num_failed: int
    flops: float
    seconds: float
    devices: tuple[str, ...]
    num_programs: int
    compile_seconds: float
    wait_seconds: float
    lane_utilization: float
    spent: float = math.nan
    num_stopped: int = 0

    @staticmethod
    def of(
        rows: "Sequence[Measurement]",
        news: "Progress | None",
        spent: float = math.nan,
    ) -> "Training":
        """What the rows of the table cost, and how the last call went.

        Args:
            rows: of the study, failed ones too.
            news: the last of this call; None: nothing was trained.
            spent: see `Training`.
        """
        ends = [row.status for row in rows]
        num_good, num_stopped = ends.count("ok"), ends.count(STOPPED)
        return Training(
            num_runs=num_good,
            num_failed=len(rows) - num_good - num_stopped,
            flops=sum(row.flops for row in rows),
            seconds=sum(row.seconds for row in rows),
            devices=tuple(sorted({row.device for row in rows})),
            num_programs=len({row.program for row in rows}),
            compile_seconds=news.compile_seconds if news else math.nan,
            wait_seconds=news.wait_seconds if news else math.nan,
            lane_utilization=news.lane_utilization if news else math.nan,
            spent=spent,
            num_stopped=num_stopped,
        )


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where results come from.

    Attributes:
        date: when they were made, such as 27 Nov 2026; empty: not known.
        command: that made them; empty where Python did.
        table: path of the measurements, where they came from outside.
        seconds: wall time until then; NaN: not known.
    """

    date: str = ""
    command: str = ""
    table: str = ""
    seconds: float = math.nan

    @staticmethod
    def now(table: str = "") -> "Provenance":
        """Of what this process has just made."""
        today = datetime.date.today()
        date = f"{today.day} {today:%b %Y}"
        return Provenance(date, invocation.command(), table, invocation.seconds())


@dataclasses.dataclass(frozen=True, eq=False)  # each is itself only
class Results:
    """All a study found.

    Attributes:
        title: for people.
        surface: every measured point.
        fit: the law, fitted to the fit region.
        predictions: every measured point, then the targets.
        scores: fit region; all held-out points; the paper's targets (m and n at or
            beyond the corner of the fit region).
        answers: to the questions asked.
        fit_flops: training FLOPs of the whole fit region, all seeds.
        largest_flops: training FLOPs of the largest measured cell or target, one run.
        training: what was run; None for a table from outside.
        versions: of the software, by name.
        forecast: what was said before, if anything was.
        verified: targets that were measured, beside what was said of them.
        provenance: when, how and from what all this was made.
    """

    title: str
    surface: Surface
    fit: Fit
    predictions: list[PredictionRow]
    scores: list[Score]
    answers: list[Answer]
    fit_flops: float
    largest_flops: float
    training: Training | None
    versions: dict[str, str]
    forecast: "Forecast | None" = None
    verified: "Sequence[Verified]" = ()
    provenance: Provenance = Provenance()

    @functools.cached_property
    def corners(self) -> list[backtest.Corner]:
        """The paper's array, fitted on every corner; none where there is no grid.

        Of scattered points no two corners are alike, and refitting them takes most of
        the time of a report; `Fit.corners` does it all the same.
        """
        return self.fit.corners(self.surface) if self.is_grid else []

    @property
    def checks(self) -> list[PredictionRow]:
        """What was predicted and then measured: held out, or a target trained later."""
        return [
            row
            for row in self.predictions
            if row.region != "fit" and math.isfinite(row.measured)
        ]

    @property
    def is_grid(self) -> bool:
        """Whether most pairs of a model and a data size are there."""
        sizes = (np.unique(own) for own in (self.surface.params, self.surface.data))
        return len(self.surface) >= _GRID * math.prod(map(len, sizes))


def make_results(
    title: str,
    surface: Surface,
    in_fit: np.ndarray,
    fit: Fit,
    answers: list[Answer],
    *,
    targets: "Sequence[Asked]" = (),
    training: Training | None = None,
    forecast: "Forecast | None" = None,
    verified: "Sequence[Verified]" = (),
    table: str = "",
) -> Results:
    """Predicts every point and target, and scores what was held out.

    Args:
        title: for people.
        surface: every measured point.
        in_fit: the fit region [points].
        fit: the law fitted to it.
        answers: to the questions asked.
        targets: sizes to predict beside the points; those of points are left out.
        training: what was run.
        forecast: what was said before.
        verified: targets that were measured.
        table: path of the measurements, where they came from outside.
    """
    flops = fit.cost.flops(surface.params, surface.seen)
    compute = np.where(np.isfinite(surface.compute), surface.compute, flops)
    points = _predict_points(surface, in_fit, fit, compute)
    rows = points + _predict_targets(surface, fit, targets, verified)
    scores = _score(surface, in_fit, points)
    return Results(
        title=title,
        surface=surface,
        fit=_warn_of_coverage(fit, scores),
        predictions=rows,
        scores=scores,
        answers=answers,
        fit_flops=float(np.sum(compute[in_fit] * surface.num_seeds[in_fit])),
        largest_flops=max(row.compute for row in rows),
        training=training,
        versions=read_versions(),
        forecast=forecast,
        verified=verified,
        provenance=Provenance.now(table),
    )


def _predict_points(
    surface: Surface, in_fit: np.ndarray, fit: Fit, compute: np.ndarray
) -> list[PredictionRow]:
    """What the law says of each measured point, as a mean over as many seeds."""
    epochs = surface.epochs if "epochs" in fit.law.axes else None
    said = fit.predict(surface.params, surface.data, surface.num_seeds, epochs)
    return [
        PredictionRow(
            float(surface.params[i]),
            float(surface.data[i]),
            float(compute[i]),
            "fit" if in_fit[i] else "held_out",
            float(surface.value[i]),
            float(said.value[i]),
            float(said.lower[i]),
            float(said.upper[i]),
            float(said.value[i] / surface.value[i] - 1),
            math.nan if surface.epochs is None else float(surface.epochs[i]),
        )
        for i in range(len(surface))
    ]


def _predict_targets(
    surface: Surface,
    fit: Fit,
    targets: "Sequence[Asked]",
    verified: "Sequence[Verified]",
) -> list[PredictionRow]:
    """What the law says of sizes that are no points, beside what was measured."""
    measured = {(one.params, one.data): one for one in verified}
    points = set(zip(surface.params.tolist(), surface.data.tolist(), strict=True))
    rows = []
    for target in targets:
        place = target.params, target.data
        if target.kind != "plain" and place in points:
            continue
        known = measured.get(place)
        said = fit.predict(
            *place, max(known.num_seeds, 1) if known else 1, target.epochs
        )
        value = known.measured if known else math.nan
        rows.append(
            PredictionRow(
                *place,
                target.flops,
                "target",
                value,
                float(said.value),
                float(said.lower),
                float(said.upper),
                float(said.value) / value - 1,
                math.nan if target.epochs is None else target.epochs,
            )
        )
    return rows


def _score(
    surface: Surface, in_fit: np.ndarray, points: Sequence[PredictionRow]
) -> list[Score]:
    """The scores of `Results.scores`."""
    relative, lower, upper = np.array(
        [(row.relative_error, row.lower, row.upper) for row in points]
    ).T
    corner = surface.params[in_fit].max(), surface.data[in_fit].max()
    beyond = backtest.corner_masks(surface, *corner)[1] & ~in_fit
    scores = []
    for name, mask in (
        ("fit region", in_fit),
        ("held out", ~in_fit),
        ("held out, both sizes at or beyond the fit region", beyond),
    ):
        mean = std = share = math.nan
        if np.any(mask):
            mean, std = summarise_errors(relative[mask])
            share = coverage(surface.value[mask], lower[mask], upper[mask])
        scores.append(Score(name, int(mask.sum()), mean, std, share))
    return scores


def _warn_of_coverage(fit: Fit, scores: Sequence[Score]) -> Fit:
    """The fit, with a warning if its intervals hold too few held-out points."""
    held_out = next(score for score in scores if score.name == "held out")
    if not held_out.coverage < _LOW_COVERAGE:  # or it is not known
        return fit
    low = Warn(
        "low_coverage",
        f"the 90% intervals hold only {held_out.coverage:.0%} of the "
        f"{held_out.num_points} held-out points: the law does not continue as it began",
    )
    return dataclasses.replace(fit, extra_warnings=(low,))


def write_results(workdir: epath.Path, results: Results) -> None:
    """Writes predictions.csv, fit.json and fit.npz, each as a whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in dataclasses.fields(PredictionRow)]
    if results.surface.epochs is None:
        names.remove("epochs")
    writer.writerow(names)
    for row in results.predictions:
        cells = [getattr(row, name) for name in names]
        writer.writerow("" if _is_nan(cell) else cell for cell in cells)
    write_whole(workdir / "predictions.csv", text.getvalue())
    write_json(workdir / "fit.json", _fit_record(results))
    results.fit.save(workdir / "fit.npz")


def _fit_record(results: Results) -> dict[str, object]:
    fit = results.fit
    return {
        "law": fit.law.name,
        "formula": fit.law.formula,
        "source": fit.law.source,
        "metric": fit.surface.metric,
        "residual": dataclasses.asdict(fit.residual),
        "parameters": {
            name: dataclasses.asdict(estimate)
            for name, estimate in fit.parameters.items()
        },
        "interval": 0.9,
        "units": {
            "m": "parameters",
            "n": fit.surface.data_unit,
            "of_parameters": fit.law.unit,
            "params_reference": fit.fitted.params_unit,
            "data_reference": fit.fitted.data_unit,
        },
        "num_points": len(fit.surface),
        "num_resamples": len(fit.fitted.draws),
        "objective": fit.objective,
        "status": fit.status.name.lower(),
        "starts": fit.starts,
        "starts_agree": fit.agree,
        "bounds_hit": list(fit.bounds_hit),
        "condition_number": fit.condition_number,
        "misfit": fit.fitted.misfit,
        "run_to_run_noise": fit.fitted.noise._asdict(),
        "interval_growth": fit.fitted.growth,
        "cost": _cost_record(fit),
        "cross_validation": dataclasses.asdict(fit.cross_validation),
        "inner_back_tests": [dataclasses.asdict(test) for test in fit.inner_tests],
        "scores": [dataclasses.asdict(score) for score in results.scores],
        "corners": [dataclasses.asdict(corner) for corner in results.corners],
        "fit_flops": results.fit_flops,
        "largest_flops": results.largest_flops,
        "warnings": [
            {
                **dataclasses.asdict(one),
                "severity": one.severity,
                "advice": one.advice,
            }
            for one in sorted(fit.warnings, key=lambda one: one.rank)
        ],
        "notes": list(dict.fromkeys((*results.surface.notes, *fit.notes))),
        "members": [dataclasses.asdict(member) for member in fit.members],
        "parts": [part.as_record() for part in find_parts(fit.fitted)],
        "versions": results.versions,
    }


def _cost_record(fit: Fit) -> dict[str, object]:
    reading = fit.cost_reading
    return {
        **reading.cost._asdict(),
        "formula": str(reading.cost),
        "cheapest": reading.cheapest._asdict(),
        "dearest": reading.dearest._asdict(),
        "scatter": reading.scatter,
        "num_points": reading.num_points,
        "num_apart": reading.num_apart,
        "largest_flops": reading.largest,
    }


def _is_nan(cell: object) -> bool:
    return isinstance(cell, float) and math.isnan(cell)

"""The evidence: what was measured of the fit region, what it cost, and its fit."""

import dataclasses
from collections.abc import Sequence

from scalepred import sweep
from scalepred.fitting import solver
from scalepred.fitting.fit import Fit, fit
from scalepred.forecasting.forecast import Evidence
from scalepred.forecasting.parts import Study
from scalepred.grid import Cell
from scalepred.runtime.files import digest
from scalepred.table import stopped
from scalepred.table.rows import STOPPED, Measurement
from scalepred.table.surface import Surface

# Of a row, what says nothing of the run: another machine's table is the same evidence.
_OF_THE_MACHINE = ("seconds", "device", "program")


def make_surface(study: Study, cells: Sequence[Cell]) -> Surface:
    """The points of these cells; where rates are swept, of the best of them."""
    experiment = study.experiment
    chosen, choices = sweep.choose(cells, study.rows, study.metric)
    random_guess: float | None = experiment.fit.random_guess
    if random_guess is not None and random_guess < 0:
        random_guess = study.dataset.random_guess(study.metric)
    surface = Surface.from_measurements(
        chosen,
        random_guess or None,
        study.knows_epochs,
        metric=study.metric,
    )
    if not study.is_sweep:
        return surface
    ends = [study.rows[cell.cell_id].status for cell in cells]
    told = stopped.describe(ends.count(STOPPED), len(ends))
    notes = (*surface.notes, *([told] if told else []), *sweep.describe(choices))
    return dataclasses.replace(surface, notes=notes)


def fit_evidence(study: Study, cells: Sequence[Cell] | None = None) -> Fit:
    """Fits the law to the evidence alone, or to some of it, whatever else there is."""
    settings = study.experiment.fit
    return fit(
        make_surface(study, cells or study.parts.evidence),
        settings.law,
        residual=solver.Residual.of(settings),
        resamples=settings.resamples,
        refit_points=settings.refit_points,
        seed=settings.seed,
    )


def weigh_evidence(rows: Sequence[Measurement]) -> Evidence:
    """What was spent, and a digest of the rows, whatever machine they come from."""
    lines = sorted(
        str([value for name, value in vars(row).items() if _is_of_the_run(name, value)])
        for row in rows
    )
    return Evidence(
        num_runs=len(rows),
        num_failed=sum(row.status not in ("ok", STOPPED) for row in rows),
        flops=sum(row.flops for row in rows),
        seconds=sum(row.seconds for row in rows),
        rows=digest(lines),
        runs=tuple(sorted(row.cell_id for row in rows)),
    )


def _is_of_the_run(name: str, value: object) -> bool:
    # A row keeps its line in its own dict once it was written, and rows of tables that
    # have no other metrics have the digest they had before there were any.
    return name not in (*_OF_THE_MACHINE, "_line") and (name != "others" or bool(value))

"""The right half of the path: from a surface to answers and a report.

`study.py` comes here with the table it filled (`fill.py`), `commands/fit.py` with one
from outside; nothing here knows how a model is trained.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from scalepred import config
from scalepred.config import UserError
from scalepred.fitting import fit as fitting
from scalepred.fitting import solver
from scalepred.fitting.answers import Answer
from scalepred.fitting.estimate import axes_of
from scalepred.fitting.region import check_target
from scalepred.forecasting import forecast as forecasts
from scalepred.forecasting.gate import Gate, Verdict, judge
from scalepred.report import console, page, results
from scalepred.report.figure_process import FigureProcess
from scalepred.report.plot_data import add_corners, make_plot_data
from scalepred.runtime.files import digest
from scalepred.runtime.workdir import check_workdir, log, prepare_workdir
from scalepred.table.surface import Surface


def fit_table(
    surface: Surface,
    workdir: epath.Path,
    record: dict[str, Any],
    in_fit: np.ndarray,
    settings: config.Fitting,
    questions: config.Questions,
    targets: Sequence[tuple[float, ...]],
    gates: Sequence[Gate] = (),
    figure_process: FigureProcess | None = None,
) -> tuple[results.Results, list[Verdict]]:
    """The right half alone, for a table from outside.

    Args:
        surface: every point of the table.
        workdir: where the results go.
        record: what config.json holds.
        in_fit: the fit region [points].
        settings: law, resamples and seed.
        questions: what to answer; at_params and at_data pick the question.
        targets: (params, data), or (params, data, epochs), to forecast.
        gates: conditions on what the fit says.
        figure_process: draws beside what is computed here; None: a new one.

    Raises:
        UserError: before anything is fitted: the workdir is of another study, or the
            law cannot answer a question.
    """
    points = surface.where(in_fit)
    check_questions(settings.law, points, questions, targets, gates)
    check_workdir(workdir, record, "measurements")
    fit = fitting.fit(
        points,
        settings.law,
        residual=solver.Residual.of(settings),
        resamples=settings.resamples,
        seed=settings.seed,
    )
    prepare_workdir(workdir, record, "measurements")
    answers = answer_about(fit, questions, surface)
    asked = [ask_size(fit, *target) for target in targets]
    told = _seal(fit, asked, workdir, record, questions, answers)
    found = results.make_results(
        surface.task or "measurements",
        surface,
        in_fit,
        fit,
        answers,
        targets=asked,
        forecast=told,
    )
    finish(workdir, found, True, figure_process)
    log(workdir, f"fitted {int(in_fit.sum())} points, law {fit.law.name}")
    return found, judge(fit, gates)


def _seal(
    fit: fitting.Fit,
    asked: Sequence[forecasts.Asked],
    workdir: epath.Path,
    record: dict[str, Any],
    questions: config.Questions,
    answers: Sequence[Answer],
) -> forecasts.Forecast | None:
    """Seals what the fit says of some sizes; None where none is asked for."""
    if not asked:
        return None
    said = forecasts.make_record(
        fit,
        asked,
        weigh_points(fit),
        title=fit.surface.task or "measurements",
        config=record,
        answers=answers,
        target_value=questions.target_value,
    )
    return forecasts.seal(workdir / "forecasts", said, fit)


def ask_saved(
    fit: fitting.Fit,
    questions: config.Questions,
    targets: Sequence[tuple[float, ...]],
    gates: Sequence[Gate],
) -> tuple[list[Answer], list[Verdict], list[dict[str, Any]]]:
    """Answers, verdicts and targets of a fit that was saved; prints them.

    Raises:
        UserError: the law cannot answer a question.
    """
    check_questions(fit.called, fit.surface, questions, targets, gates)
    answers = answer_about(fit, questions, fit.surface)
    evidence = weigh_points(fit)
    asked = [ask_size(fit, *target) for target in targets]
    value = questions.target_value
    said = [forecasts.describe(fit, one, evidence, value) for one in asked]
    console.print_saved(fit, answers, said)
    return answers, judge(fit, gates), said


def score_table(told: forecasts.Forecast, surface: Surface) -> list[forecasts.Verified]:
    """The points of a table that a forecast speaks of, beside it; prints them.

    Raises:
        UserError: there is none, or the metrics differ.
    """
    if surface.metric != told.metric:
        raise UserError(
            f"--score: the forecast is of {told.metric}, the table of {surface.metric};"
            " give --metric, or another table"
        )
    scores = []
    for i in range(len(surface)):
        epochs = None if surface.epochs is None else float(surface.epochs[i])
        target = told.find(surface.params[i], surface.data[i], epochs)
        if target is not None:
            runs = surface.seed_values[i]
            scores.append(
                forecasts.score(told, target, runs[np.isfinite(runs)].tolist())
            )
    if not scores:
        sizes = "; ".join(
            f"params={one['params']:g}, data={one['data']:g}"
            for one in told.targets[:3]
        )
        raise UserError(
            f"--score: none of the {len(surface)} points has the sizes of a target of "
            f"the forecast ({sizes}); the same params and data are wanted"
        )
    console.print_scores(scores, told.metric, surface.data_unit)
    return scores


def check_questions(
    law: str,
    points: Surface,
    questions: config.Questions,
    targets: Sequence[tuple[float, ...]],
    gates: Sequence[Gate],
) -> None:
    """Refuses what the law could not answer, before anything is fitted.

    Args:
        law: by name.
        points: the fit region.
        questions: to be answered.
        targets: (params, data), or (params, data, epochs).
        gates: conditions on what the fit says.

    Raises:
        UserError: names the question and what it lacks.
    """
    axes = axes_of(law, points)
    asked = [
        ("--budget", bool(questions.budget), ("params", "data")),
        ("--target_value", bool(questions.target_value), ()),
        *(
            (f"--gate={gate.text}", not math.isnan(gate.budget), ("params", "data"))
            for gate in gates
        ),
    ]
    for name, is_asked, needed in asked:
        lacking = [axis for axis in needed if axis not in axes]
        if is_asked and lacking:
            raise UserError(
                f"{name}: law={law} knows nothing of {lacking[0]} here; it needs "
                "points that vary in both sizes and a law of both"
            )
    for params, data, *times in targets:
        if times and "epochs" not in axes:
            raise UserError(
                f"--target=params={params:g},data={data:g},epochs={times[0]:g}: "
                f"law={law} knows nothing of epochs; leave them out, or choose "
                "--law=data_constrained"
            )
        known = points.epochs if "epochs" in axes else None
        epochs = None if known is None else (times or [1.0])[0]
        check_target(params, data, epochs, points.params, points.data, known)


def ask_size(
    fit: fitting.Fit, params: float, data: float, epochs: float | None = None
) -> forecasts.Asked:
    """A size that nobody trains here, at what it costs by the table."""
    times = fit.epochs_at(epochs)
    flops = float(fit.cost.flops(params, data * (times or 1.0)))
    return forecasts.Asked("", "plain", params, data, times, flops)


def weigh_points(fit: fitting.Fit) -> forecasts.Evidence:
    """What the fitted points cost: as their table says, else as its cost model does."""
    surface = fit.surface
    flops = np.where(
        np.isfinite(surface.compute),
        surface.compute,
        fit.cost.flops(surface.params, surface.seen),
    )
    arrays = surface.params, surface.data, surface.seed_values, surface.epochs
    rows = [None if array is None else array.tolist() for array in arrays]
    return forecasts.Evidence(
        num_runs=int(surface.num_seeds.sum()),
        num_failed=0,
        flops=float(np.sum(flops * surface.num_seeds)),
        seconds=math.nan,
        rows=digest(rows),
    )


def answer_about(
    fit: fitting.Fit, questions: config.Questions, surface: Surface
) -> list[Answer]:
    """The answers, at the largest sizes of a surface where they name none."""
    return ask(fit, questions, float(surface.params.max()), float(surface.data.max()))


def ask(
    fit: fitting.Fit,
    questions: config.Questions,
    largest_params: float,
    largest_data: float,
) -> list[Answer]:
    """The answers to every question that has a number in it.

    Args:
        fit: the law.
        questions: to be answered.
        largest_params: model size of questions that name none.
        largest_data: likewise; and all there are, where they cost no FLOPs.
    """
    answers = []
    params = questions.at_params or largest_params
    data = questions.at_data or largest_data
    # Where FLOPs do not depend on data there must be an end to the data.
    max_data = data if fit.cost.data_power == 0 else math.inf
    epochs, value = questions.at_epochs or None, questions.target_value
    if value:
        answers.append(fit.data_needed(value, params, epochs))
        answers.append(fit.params_needed(value, data, epochs))
        answers.append(fit.cheapest_for_target(value, max_data, epochs))
    if questions.budget:
        answers.append(fit.best_for_budget(questions.budget, max_data, epochs))
    if questions.budget and value:
        answers.append(fit.budget_suffices(value, questions.budget, max_data, epochs))
    return answers


def finish(
    workdir: epath.Path,
    found: results.Results,
    with_report: bool,
    figure_process: FigureProcess | None = None,
) -> None:
    """Writes and prints everything.

    Args:
        workdir: where the results go.
        found: all that was found.
        with_report: draws the figures and the page, too.
        figure_process: draws them; None: a new one.
    """
    if with_report:
        # Drawing starts with what is known at once; the corners are fitted meanwhile.
        figure_process = figure_process or FigureProcess()
        plot = make_plot_data(found)
        figure_process.start(plot)
        figure_process.start(add_corners(plot, found))
    results.write_results(workdir, found)
    if figure_process and with_report:
        _write_report(workdir, found, figure_process)
    console.print_answers(found, sys.stdout)
    if with_report:
        print(f"Report: {workdir / 'report.html'}")


def _write_report(
    workdir: epath.Path, found: results.Results, figure_process: FigureProcess
) -> None:
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figure_process.finish()
    for name, drawing in drawn.items():
        (folder / f"{name}.png").write_bytes(drawing.png)
        (folder / f"{name}.svg").write_bytes(drawing.svg)
    svg = {name: drawing.svg for name, drawing in drawn.items()}
    page.write_page(workdir / "report.html", found, svg)

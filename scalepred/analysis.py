"""The right half of the path: from a surface to answers and a report.

`study.py` comes here with the table it filled (`fill.py`), `commands/fit.py` with one
from outside; nothing here knows how a model is trained.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from scalepred import config
from scalepred.config import UserError
from scalepred.fitting import fit as fitting
from scalepred.fitting import solver
from scalepred.fitting.answers import SAME_SIZE, Answer
from scalepred.fitting.estimate import axes_of, knows_split
from scalepred.fitting.region import check_target
from scalepred.forecasting import forecast as forecasts
from scalepred.forecasting.gate import Gate, Verdict, check_costs, judge
from scalepred.report import console, machine, results
from scalepred.report.figure_process import FigureProcess
from scalepred.report.page import page
from scalepred.report.plot_data import add_corners, make_plot_data
from scalepred.runtime import steps
from scalepred.runtime.files import digest, write_whole
from scalepred.runtime.workdir import check_workdir, log, prepare_workdir
from scalepred.table.numbers import write, write_flops, write_place, write_size
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
    title: str = "",
    table: str = "",
    losses: Surface | None = None,
    is_through: bool = False,
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
        title: of the report; empty: the task, else the table's name.
        table: where the table was read.
        losses: see `fitting.fit`.
        is_through: likewise.

    Raises:
        UserError: before anything is fitted: the workdir is of another study, or the
            law cannot answer a question.
    """
    law, points = settings.law, surface.where(in_fit)
    targets = [complete_target(target, points, law) for target in targets]
    check_questions(law, points, questions, targets, gates)
    check_workdir(workdir, record, "measurements")
    questions, said = leave_out(law, points, questions, targets)
    surface, in_fit, apart = _drop_elsewhere(surface, in_fit, law)
    surface = dataclasses.replace(surface, notes=(*surface.notes, *said, *apart))
    fit = _fit(surface.where(in_fit), settings, losses, is_through)
    if losses is not None:  # which road was taken
        notes = (fit.estimate.notes[0], *surface.notes)
        surface = dataclasses.replace(surface, notes=notes)
    prepare_workdir(workdir, record, "measurements")
    steps.begin(f"drawing intervals from {settings.resamples:,} resamples")
    answers = answer_about(fit, questions, surface)
    asked = [ask_size(fit, *target) for target in targets]
    told = _seal(fit, asked, workdir, record, questions, answers)
    title = title or surface.task or pathlib.PurePath(table).stem or "Measurements"
    about = {"targets": asked, "forecast": told, "table": table}
    found = results.make_results(title, surface, in_fit, fit, answers, **about)
    finish(workdir, found, True, figure_process)
    log(workdir, f"fitted {int(in_fit.sum())} points, law {fit.law.name}")
    return found, judge(fit, gates)


def _fit(
    points: Surface, settings: config.Fitting, losses: Surface | None, is_through: bool
) -> fitting.Fit:
    steps.begin(f"fitting {len(points):,} points, law {settings.law}")
    return fitting.fit(
        points,
        settings.law,
        residual=solver.Residual.of(settings),
        resamples=settings.resamples,
        seed=settings.seed,
        refit_points=settings.refit_points,
        losses=losses,
        is_through=is_through,
    )


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
    targets = [complete_target(one, fit.surface, fit.called) for one in targets]
    check_questions(fit.called, fit.surface, questions, targets, gates)
    questions, left = leave_out(fit.called, fit.surface, questions, targets)
    for sentence in left:
        console.print_line(sentence, name="note")
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
            write_place(one["params"], one["data"]) for one in told.targets[:3]
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
    lacking = [axis for axis in ("params", "data") if axis not in axes]
    for gate in gates:
        name = f"--gate={gate.text}"
        if not math.isnan(gate.budget) and lacking:
            raise UserError(
                f"{name}: law={law} knows nothing of {lacking[0]} here; it needs "
                "points that vary in both sizes and a law of both"
            )
        check_costs(gate, points)
        if math.isnan(gate.budget):
            _check_place(name, law, axes, points, gate.params, gate.data)
    _check_place(
        "the question of --target_value",
        law,
        axes,
        points,
        questions.at_params or math.nan,
        questions.at_data or math.nan,
    )
    for params, data, *times in targets:
        name = f"--target={write_place(params, data)}"
        _check_place(name, law, axes, points, params, data)
        if times and "epochs" not in axes:
            raise UserError(
                f"{name},epochs={times[0]:g}: "
                f"law={law} knows nothing of epochs here; leave them out, or give a "
                "table in which they vary (for --law=auto or data_constrained)"
            )
        known = points.epochs if "epochs" in axes else None
        epochs = None if known is None else (times or [1.0])[0]
        check_target(params, data, epochs, points.params, points.data, known)


# Times the largest run's: so far out nothing has ever been foretold.
_ABSURD = 1e6
# A budget of so small a share of the smallest run's is a slip.
_TINY = 100


def _others(axes: Sequence[str], points: Surface) -> list[tuple[str, np.ndarray]]:
    """The sizes that a law knows nothing of."""
    sizes = {"params": points.params, "data": points.data}
    return [(name, own) for name, own in sizes.items() if name not in axes]


def _check_place(
    name: str,
    law: str,
    axes: Sequence[str],
    points: Surface,
    params: float,
    data: float,
) -> None:
    """Refuses a size that a law of the other one does not speak of; NaN passes."""
    asked = {"params": params, "data": data}
    for other, sizes in _others(axes, points):
        far = np.abs(np.log(asked[other] / sizes)) > SAME_SIZE
        if np.all(far):
            raise UserError(
                f"{name}: law={law} speaks of {other}={write_size(sizes.max())} only; "
                f"give that, or points of a second {other} size"
            )


def complete_target(
    target: tuple[float, ...], points: Surface, law: str
) -> tuple[float, ...]:
    """A target with the size that it leaves open, where all points share it.

    Raises:
        UserError: they do not.
    """
    if not any(map(math.isnan, target)):
        return target
    known = dict(_others(axes_of(law, points), points))
    sizes = []
    for name, size in zip(("params", "data", "epochs"), target, strict=False):
        if math.isnan(size) and name not in known:
            raise UserError(f"--target: needs {name}, too; write params=1e9,data=2e10")
        sizes.append(float(known[name].max()) if math.isnan(size) else size)
    return tuple(sizes)


def leave_out(
    law: str,
    points: Surface,
    questions: config.Questions,
    targets: Sequence[tuple[float, ...]] = (),
) -> tuple[config.Questions, list[str]]:
    """The questions that have an answer, and a sentence for each other one.

    Args:
        law: by name.
        points: the fit region.
        questions: that were asked.
        targets: (params, data), or (params, data, epochs).
    """
    said, axes = [], axes_of(law, points)
    largest = float(points.work.max())
    if questions.budget and not knows_split(axes, points):
        why = f"law={law} follows {axes[0]} alone here"
        if len(axes) > 1:
            why = "model and data sizes rise together in these points"
        said.append(
            f"--budget is left out: {why}, so no split of a budget can be told; for "
            "the value along a ladder ask --law=power_compute"
        )
        questions = dataclasses.replace(questions, budget=0.0)
    elif questions.budget and points.why_no_costs:
        said.append(
            f"--budget is left out: {points.why_no_costs}; give a column of FLOPs, or "
            f"of tokens in place of {points.data_unit}"
        )
        questions = dataclasses.replace(questions, budget=0.0)
    elif questions.budget > _ABSURD * 6 * largest:
        said.append(
            f"--budget={write_flops(questions.budget)} is "
            f"{write_flops(float(f'{questions.budget / 6 / largest:.0e}'))} "
            "times the largest run: is it in the same units as the table?"
        )
    elif questions.budget and questions.budget < 6 * float(points.work.min()) / _TINY:
        said.append(
            f"--budget={write_flops(questions.budget)} is left out: it is less than "
            f"1/{_TINY} of the smallest run; is it in FLOPs?"
        )
        questions = dataclasses.replace(questions, budget=0.0)
    for params, data, *_ in targets:
        if params * data > _ABSURD * largest:
            said.append(
                f"--target=params={write(params)},data={write(data)} is "
                f"{write_flops(float(f'{params * data / largest:.0e}'))} times the "
                "largest run: is it in the "
                "same units as the table?"
            )
    highest = float(points.value.max())
    if questions.target_value and questions.target_value >= highest:
        said.append(
            f"--target_value={questions.target_value:g} is left out: every fitted "
            f"point is at {highest:g} or less already"
        )
        questions = dataclasses.replace(questions, target_value=0.0)
    return questions, said


def _drop_elsewhere(
    surface: Surface, in_fit: np.ndarray, law: str
) -> tuple[Surface, np.ndarray, list[str]]:
    """Leaves out what a law of one size does not speak of: points of other sizes."""
    axes = axes_of(law, surface.where(in_fit))
    kept = np.ones(len(surface), bool)
    for name, _ in _others(axes, surface):
        sizes = np.log(getattr(surface, name))
        center = np.median(sizes[in_fit])
        kept &= in_fit | (np.abs(sizes - center) <= SAME_SIZE)
    if np.all(kept):
        return surface, in_fit, []
    note = (
        f"{int(np.sum(~kept))} held-out points are not scored: the fitted points are a "
        f"curve along {axes[0]}, which says nothing of other sizes"
    )
    return surface.where(kept), in_fit[kept], [note]


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
    # A law of one size speaks of the other as it was fitted.
    if "params" not in fit.law.axes:
        largest_params = float(fit.surface.params.max())
    if "data" not in fit.law.axes:
        largest_data = float(fit.surface.data.max())
    params = questions.at_params or largest_params
    data = questions.at_data or largest_data
    # Where FLOPs do not depend on data there must be an end to the data.
    max_data = data if fit.cost.data_power == 0 else math.inf
    epochs, value = questions.at_epochs or None, questions.target_value
    axes = fit.law.axes
    with_split = knows_split(axes, fit.surface)
    if value and "data" in axes:
        answers.append(fit.data_needed(value, params, epochs))
    if value and "params" in axes:
        answers.append(fit.params_needed(value, data, epochs))
    if value and with_split:
        answers.append(fit.cheapest_for_target(value, max_data, epochs))
    if questions.budget and with_split:
        answers.append(fit.best_for_budget(questions.budget, max_data, epochs))
    if questions.budget and value and with_split:
        answers.append(fit.budget_suffices(value, questions.budget, max_data, epochs))
    return answers


def finish(
    workdir: epath.Path,
    found: results.Results,
    with_report: bool,
    figure_process: FigureProcess | None = None,
) -> None:
    """Writes everything.

    Args:
        workdir: where the results go.
        found: all that was found.
        with_report: draws the figures and the page, too.
        figure_process: draws them; None: a new one.
    """
    if with_report:
        # Drawing starts with what is known at once; the corners are fitted meanwhile.
        every = "fitting the law from every corner, " if found.is_grid else ""
        steps.begin(f"{every}drawing figures")
        figure_process = figure_process or FigureProcess()
        plot = make_plot_data(found)
        figure_process.start(plot)
        figure_process.start(add_corners(plot, found))
    results.write_results(workdir, found)
    machine.write_answers(workdir / "answers.json", found)
    if figure_process and with_report:
        _write_report(workdir, found, figure_process)


def _write_report(
    workdir: epath.Path, found: results.Results, figure_process: FigureProcess
) -> None:
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    steps.begin("drawing figures")
    drawn = figure_process.finish()
    steps.begin("writing the page")
    for name, drawing in drawn.items():
        write_whole(folder / f"{name}.png", drawing.png)
        write_whole(folder / f"{name}.svg", drawing.svg)
    page.write_page(workdir / "report.html", found)

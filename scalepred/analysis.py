"""The right half of the path: from a surface to answers and a report.

`study.py` comes here with the table it filled, `fit_main.py` with one from outside;
nothing here knows how a model is trained.
"""

import math
import sys
from collections.abc import Sequence

import numpy as np
from etils import epath

from scalepred import config, results
from scalepred.fitting import fit as fitting
from scalepred.fitting.answers import Answer
from scalepred.measurements import Surface
from scalepred.report import console, page
from scalepred.report.painter import Painter
from scalepred.report.scene import add_corners, make_scene
from scalepred.workdir import log, prepare_workdir


def fit_table(
    surface: Surface,
    workdir: epath.Path,
    record: dict[str, object],
    in_fit: np.ndarray,
    settings: config.Fitting,
    questions: config.Questions,
    targets: Sequence[tuple[float, ...]],
    painter: Painter | None = None,
) -> None:
    """The right half alone, for a table from outside.

    Args:
        surface: every point of the table.
        workdir: where the results go.
        record: what config.json holds.
        in_fit: the fit region [points].
        settings: law, resamples and seed.
        questions: what to answer; at_params and at_data pick the question.
        targets: (params, data), or (params, data, epochs), to predict.
        painter: draws the figures, beside what is computed here; None: a new one.
    """
    fit = fitting.fit(
        surface.where(in_fit),
        settings.law,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    found = results.make_results(
        surface.task or "measurements",
        surface,
        in_fit,
        fit,
        ask(fit, questions, surface),
        targets=targets,
    )
    prepare_workdir(workdir, record, "measurements")
    painter = painter or Painter()
    _start_drawing(painter, found)
    results.write_results(workdir, found)
    _write_report(workdir, found, painter)
    console.print_answers(found, sys.stdout)
    log(workdir, f"fitted {int(in_fit.sum())} points, law {fit.law.name}")


def ask(
    fit: fitting.Fit, questions: config.Questions, surface: Surface
) -> list[Answer]:
    """The answers to every question that has a number in it."""
    answers = []
    params = questions.at_params or float(surface.params.max())
    data = questions.at_data or float(surface.data.max())
    # Where FLOPs do not depend on data there must be an end to the data.
    max_data = data if fit.cost.data_power == 0 else math.inf
    epochs, value = questions.at_epochs or None, questions.target_value
    if value:
        answers.append(fit.data_needed(value, params, epochs))
        answers.append(fit.params_needed(value, data, epochs))
        answers.append(fit.cheapest_for_target(value, max_data, epochs))
    if questions.budget:
        answers.append(fit.best_for_budget(questions.budget, max_data, epochs))
    return answers


def write_report(workdir: epath.Path, found: results.Results) -> None:
    """Draws the figures and the page."""
    painter = Painter()
    _start_drawing(painter, found)
    _write_report(workdir, found, painter)


def _start_drawing(painter: Painter, found: results.Results) -> None:
    """Starts with what is known at once; the corners are fitted meanwhile."""
    scene = make_scene(found)
    painter.start(scene)
    painter.start(add_corners(scene, found))


def _write_report(
    workdir: epath.Path, found: results.Results, painter: Painter
) -> None:
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = painter.finish()
    for name, drawing in drawn.items():
        (folder / f"{name}.png").write_bytes(drawing.png)
        (folder / f"{name}.svg").write_bytes(drawing.svg)
    svg = {name: drawing.svg for name, drawing in drawn.items()}
    page.write_page(workdir / "report.html", found, svg)
    print(f"Report: {workdir / 'report.html'}")

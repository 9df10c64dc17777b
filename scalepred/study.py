"""The whole path of a study on one page.

    experiment -> evidence cells -> plan -> training -> table -> surface -> fit
        -> forecast (sealed) -> [target cells -> training -> score] -> answers, report

This file alone knows the order of things. Each stage reads what the one before left
on disk, so a study may be stopped anywhere, resumed, widened, or only refitted.
"""

import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath

from scalepred import dry_run, own, sweep, validation
from scalepred.analysis import ask, finish, leave_out
from scalepred.config import Experiment, Questions, UserError
from scalepred.fill import open_table, train
from scalepred.fitting.answers import Answer
from scalepred.fitting.design.rounds import Round
from scalepred.fitting.fit import Fit
from scalepred.forecasting import loop, targets
from scalepred.forecasting.asked import check_asked, check_targets
from scalepred.forecasting.evidence import fit_evidence, make_surface
from scalepred.forecasting.forecast import Forecast, Verified
from scalepred.forecasting.gate import Gate, Verdict, judge
from scalepred.forecasting.parts import Study, prepare
from scalepred.forecasting.rates import choose_rates
from scalepred.forecasting.verification import (
    await_forecast,
    find_runs,
    score_forecast,
    seal_forecast,
)
from scalepred.report import console, words
from scalepred.report.results import Results, Training, make_results
from scalepred.runtime import processes, steps
from scalepred.runtime.files import write_whole
from scalepred.runtime.workdir import log
from scalepred.table.rows import Measurement, Table
from scalepred.training import aot
from scalepred.training.run import Progress
from scalepred.training.work import count_spent

STAGES = ("train", "fit", "forecast", "verify", "report")


@dataclasses.dataclass(frozen=True, repr=False)
class Outcome:
    """What a call of `run` ends with.

    Attributes:
        forecast: that was made, or that stood already; None: none was asked for.
        verified: targets that were measured, beside what was said of them.
        results: the fit, predictions, scores and answers; None if nothing was fitted.
        verdicts: of the gates.
        table: every run in the workdir.
    """

    forecast: Forecast | None = None
    verified: Sequence[Verified] = ()
    results: Results | None = None
    verdicts: Sequence[Verdict] = ()
    table: Sequence[Measurement] = ()

    @property
    def fit(self) -> Fit | None:
        """The law, fitted to the evidence; None if nothing was fitted."""
        return self.results.fit if self.results else None

    def __repr__(self) -> str:
        said = [
            f"{len(self.table)} runs, {len(self.verified)} forecasts verified",
            f"forecast: {self.forecast}",
        ]
        if self.fit is not None:
            said.append(repr(self.fit))
        return "Outcome(" + "\n".join(said) + ")"


def run(
    experiment: Experiment,
    workdir: epath.Path,
    stages: Sequence[str] | None = None,
    dry_run: bool = False,
    topology: str = "",
    gates: Sequence[Gate] = (),
    goal: loop.Goal | None = None,
    price_per_hour: float = 0.0,
) -> Outcome:
    """Trains the evidence, fits it, forecasts, trains what was forecast, reports.

    Args:
        experiment: the study.
        workdir: where everything is kept; made if missing.
        stages: which of train (the evidence), fit, forecast, verify (trains the rest of
            the grid and the targets, and scores the forecast) and report to do. None:
            all, but of what was forecast only the rest of the grid is trained.
        dry_run: prints the plan and touches nothing.
        topology: a machine that need not be here, to plan and compile for instead;
            only with `dry_run`. See `aot.find_machines`.
        gates: conditions on what the fit says.
        goal: of the grid only the cells are trained that make the targets' interval
            as narrow as this says; None: the whole fit region.
        price_per_hour: of the machine, for what a dry run says of targets.

    Raises:
        UserError: the config, the workdir or the table cannot be used.
    """
    with_targets = stages is not None and "verify" in stages
    stages = STAGES if stages is None else stages
    flags = {"--stages": sorted(stages), "--gate": gates, "--dry_run": dry_run}
    flags["--until_width, --budget, --cost"] = goal
    processes.agree(lambda: own.describe_asked(experiment, flags))
    check_asked(experiment, stages, gates, goal)
    if topology and not dry_run:
        raise UserError(f"--topology={topology}: only compiles; add --dry_run")
    machines = aot.find_machines(topology) if topology else None
    if not dry_run:
        steps.begin("reading the data")
    study = processes.together(lambda: prepare(experiment, workdir, outline=dry_run))
    if with_targets:
        check_targets(study.parts)
    if dry_run:
        _print_plan(study, machines, price_per_hour)
        return Outcome()
    return _run_stages(_open(study, stages), stages, with_targets, gates, goal)


def _open(study: Study, stages: Sequence[str]) -> Study:
    """The study with its table, which the first process alone has."""
    cells = [*study.parts.evidence, *study.parts.to_verify]
    processes.agree(lambda: own.describe_runs(study.experiment, study.dataset, cells))
    opened = processes.together(
        lambda: open_table(study) if processes.is_first() else study
    )
    if processes.is_first():
        name = study.experiment.name
        log(study.workdir, f"started: {name}, stages {','.join(stages)}")
    return opened


def _run_stages(
    study: Study,
    stages: Sequence[str],
    with_targets: bool,
    gates: Sequence[Gate],
    goal: loop.Goal | None,
) -> Outcome:
    """All but the reading of what was asked; see `run`."""
    steps.begin("planning what to train")
    study, news = _train_evidence(study, stages, goal)
    verifies = "verify" in stages and bool(study.parts.after_forecast(with_targets))
    if not verifies:
        processes.part()
    steps.begin("fitting the law, sealing the forecast")
    study, fit = fit_and_forecast(study, stages)
    steps.end()
    if verifies:
        study = await_forecast(study)
        cells = study.parts.after_forecast(with_targets)
        news = train(study, cells, "checkpoints_verify") or news
        processes.part()
    if study.table is None:
        return Outcome()
    return report(study, fit, news, stages, gates)


def _print_plan(
    study: Study, machines: aot.Machines | None, price_per_hour: float
) -> None:
    """The dry run."""
    # Reading the table touches nothing.
    study = study._replace(table=Table(study.workdir / "measurements.csv"))
    dry_run.print_recipe(study)
    pace = dry_run.print_plan(study, machines)
    if machines is None:
        for line in dry_run.describe_targets(study, price_per_hour, pace):
            print(line)


def _train_evidence(
    study: Study, stages: Sequence[str], goal: loop.Goal | None
) -> tuple[Study, Progress | None]:
    """Trains the fit region, or what the loop chooses of it: that is then all of it."""
    news = None
    if "train" in stages and goal:
        of_rounds: list[Progress | None] = []
        collections.deque(_rounds(study, goal, of_rounds), maxlen=0)
        news = of_rounds[-1] if of_rounds else None
    elif "train" in stages:
        news = train(study, study.parts.evidence)
    return (loop.with_chosen(study) if goal else study), news


def fit_and_forecast(study: Study, stages: Sequence[str]) -> tuple[Study, Fit | None]:
    """The fit of the evidence, its forecast sealed; targets have the best rates."""
    if study.table is None or not {"fit", "verify"} & {*stages}:
        return study, None
    rates = choose_rates(study)
    for note in rates.notes:
        log(study.workdir, note)
    study = study.with_rates(rates)
    if "fit" not in stages:
        return study, None
    fit = fit_evidence(study)
    if "forecast" in stages:
        answers = _answer(fit, study.experiment.questions, study.largest)
        seal_forecast(study, fit, answers)
    return study, fit


def report(
    study: Study,
    fit: Fit | None,
    news: Progress | None,
    stages: Sequence[str],
    gates: Sequence[Gate],
) -> Outcome:
    """Scores what was forecast, writes and prints what was found."""
    steps.begin("scoring the forecast, answering")
    forecast, verified = score_forecast(study)
    table = tuple(study.rows.values())
    if fit is None:
        console.print_verified(verified, study.metric, study.dataset.unit)
        log(study.workdir, "ended")
        return Outcome(forecast, verified, table=table)
    found = _collect(study, fit, forecast, verified, news)
    finish(study.workdir, found, "report" in stages)
    log(study.workdir, "ended")
    return Outcome(forecast, verified, found, judge(fit, gates), table)


def _count_spent(study: Study, rows: Sequence[Measurement]) -> float:
    """FLOPs of these runs, trunks counted once; NaN where none is a branch.

    What is forecast is trained by itself, with trunks of its own.
    """
    done = {row.cell_id for row in rows}
    parts = [
        [cell for cell in cells if cell.cell_id in done]
        for cells in (study.parts.evidence, study.parts.to_verify)
    ]
    if not any(cell.branch for cells in parts for cell in cells):
        return math.nan
    return sum(count_spent(cells, study.dataset) for cells in parts)


def _collect(
    study: Study,
    fit: Fit,
    forecast: Forecast | None,
    verified: Sequence[Verified],
    news: Progress | None,
) -> Results:
    """What was measured so far beside what the fit says, and the answers."""
    parts = study.parts
    asked = targets.ask(study)
    held_out = [
        cell
        for size, cells in asked.items()
        if size.kind == "held_out" and find_runs(study, cells)
        for cell in cells
        if cell.cell_id in study.rows
    ]
    surface = make_surface(study, parts.evidence + held_out)
    if study.is_sweep:
        _, choices = sweep.choose(parts.evidence + held_out, study.rows, study.metric)
        text = sweep.format_choices(choices)
        write_whole(study.workdir / "envelope.csv", text)
    known = {cell.cell_id for cell in [*parts.evidence, *parts.to_verify]}
    others = len(study.rows.keys() - known)
    if others:
        note = f"{others} rows of the table are not in this grid and are left out"
        surface = dataclasses.replace(surface, notes=(*surface.notes, note))
    lost = surface.left_out
    if lost.is_many and lost != fit.surface.left_out:  # of which the fit warns
        surface = dataclasses.replace(surface, notes=(*surface.notes, lost.sentence))
    questions = study.experiment.questions
    _, said = leave_out(fit.called, fit.surface, questions)
    of_rates = study.rates.notes if study.rates else ()
    surface = dataclasses.replace(surface, notes=(*of_rates, *surface.notes, *said))
    fitted = {study.size_of(cell)[:2] for cell in parts.evidence}
    sizes = zip(surface.params.tolist(), surface.data.tolist(), strict=True)
    rows = [study.rows[one] for one in known if one in study.rows]
    return make_results(
        study.title,
        surface,
        np.array([size in fitted for size in sizes]),
        fit,
        _answer(fit, questions, study.largest),
        targets=[*asked, *targets.ask_plain(study, fit.cost)],
        training=Training.of(rows, news, _count_spent(study, rows)),
        forecast=forecast,
        verified=verified,
    )


def _answer(
    fit: Fit, questions: Questions, largest: tuple[float, float]
) -> list[Answer]:
    """The questions, at the largest (params, data) of the grid where they name none."""
    questions, _ = leave_out(fit.called, fit.surface, questions)
    return ask(fit, questions, *largest)


def rounds(
    experiment: Experiment, workdir: epath.Path, goal: loop.Goal
) -> Iterator[Round[Fit]]:
    """The loop for Python: yields what it is about to train, and trains it.

    Args:
        experiment: the study; its grid are the candidates.
        workdir: where everything is kept; a loop that was stopped goes on.
        goal: how sure, and for how much.

    Yields:
        Rounds, each before its cells are trained; the last says why it stopped.

    Raises:
        UserError: the config, the workdir or the goal cannot be used.
    """
    validation.validate(experiment)
    loop.check(experiment, goal)
    yield from _rounds(open_table(prepare(experiment, workdir)), goal, [])


def _rounds(
    study: Study, goal: loop.Goal, news: list[Progress | None]
) -> Iterator[Round[Fit]]:
    for one in loop.run(
        study,
        goal,
        train=lambda cells: news.append(train(study, cells)),
        fit=lambda cells: fit_evidence(study, cells),
    ):
        about = study.metric, study.dataset.unit
        said = words.describe_round(one, goal.cost, *about)
        console.print_line(said)
        log(study.workdir, said)
        yield one

"""The whole path of a study on one page.

    experiment -> evidence cells -> plan -> training -> table -> surface -> fit
        -> forecast (sealed) -> [target cells -> training -> score] -> answers, report

This file alone knows the order of things. Each stage reads what the one before left
on disk, so a study may be stopped anywhere, resumed, widened, or only refitted.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from scalepred import config, grid, sweep
from scalepred.analysis import ask, finish
from scalepred.config import Experiment, UserError
from scalepred.data.loading import load_dataset
from scalepred.dry_run import describe_targets, print_plan
from scalepred.fitting import fit as fitting
from scalepred.fitting.answers import Answer
from scalepred.fitting.design.rounds import Round
from scalepred.fitting.estimate import knows_epochs
from scalepred.forecasting import forecast as forecasts
from scalepred.forecasting import loop, targets
from scalepred.forecasting.gate import Gate, Verdict, judge
from scalepred.forecasting.targets import Study
from scalepred.grid import Cell
from scalepred.report import console, format, results
from scalepred.runtime import preemption, processes
from scalepred.runtime.files import make_absolute, write_whole
from scalepred.runtime.workdir import log, prepare_workdir, warn
from scalepred.table.rows import Measurement, Table
from scalepred.training import aot, device_data, ensemble, weights
from scalepred.training.curves import Curves
from scalepred.training.work import estimate_work

STAGES = ("train", "fit", "forecast", "verify", "report")


class Outcome(NamedTuple):
    """What a call of `run` ends with.

    Attributes:
        forecast: that was made, or that stood already; None: none was asked for.
        verified: targets that were measured, beside what was said of them.
        found: all that was found; None if nothing was fitted.
        verdicts: of the gates.
    """

    forecast: forecasts.Forecast | None = None
    verified: Sequence[forecasts.Verified] = ()
    found: results.Results | None = None
    verdicts: Sequence[Verdict] = ()


def run(
    experiment: Experiment,
    workdir: epath.Path,
    stages: Sequence[str] | None = None,
    dry_run: bool = False,
    topology: str = "",
    gates: Sequence[Gate] = (),
    wish: loop.Wish | None = None,
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
        wish: of the grid only the cells are trained that make the targets' interval
            as narrow as this says; None: the whole fit region.
        price_per_hour: of the machine, for what a dry run says of targets.

    Raises:
        UserError: the config, the workdir or the table cannot be used.
    """
    config.validate(experiment)
    if topology and not dry_run:
        raise UserError(f"--topology={topology}: only compiles; add --dry_run")
    machines = aot.find_machines(topology) if topology else None
    trains_targets = stages is not None and "verify" in stages
    stages = STAGES if stages is None else stages
    _check_stages(experiment, stages, gates)
    if wish:
        loop.check(experiment, wish)
    dataset = load_dataset(experiment.dataset, outline=dry_run)
    parts = targets.split_cells(experiment, dataset)
    if trains_targets and not parts.to_verify:
        raise UserError(
            "--stages=verify: this study fits its whole grid and has no "
            "targets.widths, so there is nothing to verify; name targets, or leave "
            "verify out"
        )
    if dry_run:
        cells = parts.evidence + parts.held_out
        rows = Table(workdir / "measurements.csv").rows  # reading touches nothing
        pace = print_plan(experiment, dataset, cells, rows, machines)
        if machines is None:
            about = parts.targets, rows, price_per_hour, pace
            for line in describe_targets(experiment, dataset, *about):
                print(line)
        return Outcome()
    study = Study(experiment, dataset, parts, workdir, None)
    if processes.is_first():
        study = study._replace(table=open_table(workdir, experiment))
        log(workdir, f"started: {experiment.name}, stages {','.join(stages)}")

    news = None
    if "train" in stages and wish is None:
        news = train(study, parts.evidence)
    elif "train" in stages and wish:
        news = train_until(study, wish)
    if wish:
        study = loop.with_chosen(study)
    verifies = "verify" in stages and bool(
        parts.to_verify if trains_targets else parts.held_out
    )
    if not verifies:
        processes.part()
    fit = None
    if study.table is not None and {"fit", "verify"} & {*stages}:
        study = with_rates(study, best_rates(study))
        if "fit" in stages:
            fit = fit_evidence(study)
        if fit and "forecast" in stages:
            say(study, fit)
    if verifies:
        study = await_forecast(study)
        cells = study.parts.to_verify if trains_targets else study.parts.held_out
        news = train(study, cells, "checkpoints_verify") or news
        processes.part()
    if study.table is None:
        return Outcome()

    told, verified = verify(study)
    if fit is None:
        console.print_verified(verified, study.metric, dataset.unit)
        log(workdir, "ended")
        return Outcome(told, verified)
    found = collect(study, fit, told, verified, news)
    finish(workdir, found, "report" in stages)
    log(workdir, "ended")
    return Outcome(told, verified, found, judge(fit, gates))


def _check_stages(
    experiment: Experiment, stages: Sequence[str], gates: Sequence[Gate]
) -> None:
    """A mistake must not wait for the training to end."""
    named = ",".join(stages)
    for stage, why in (
        ("report", "report draws what fit finds"),
        ("forecast", "a forecast is what the fit says"),
    ):
        if stage in stages and "fit" not in stages:
            raise UserError(f"stages={named}: {why}; add fit")
    if gates and "fit" not in stages:
        raise UserError(f"stages={named}: a gate asks the fit; add fit")
    law = experiment.fit.law
    with_epochs = knows_epochs(law)
    for field, asked in (
        ("questions.at_epochs", experiment.questions.at_epochs),
        ("targets.epochs", experiment.targets.epochs),
    ):
        if asked and not with_epochs:
            raise UserError(
                f"{field}={asked}: fit.law={law} knows nothing of epochs; leave it "
                "out, or choose fit.law=data_constrained"
            )


def open_table(workdir: epath.Path, experiment: Experiment) -> Table:
    """The workdir's table, whole again if something was damaged."""
    prepare_workdir(workdir, experiment_record(experiment), "experiment")
    table = Table(workdir / "measurements.csv")
    for note in table.notes:
        warn(workdir, note)
    table.merge()
    return table


def train(
    study: Study, cells: Sequence[Cell], checkpoints: str = "checkpoints"
) -> ensemble.Progress | None:
    """Trains every cell that has no row yet; rows are on disk as cells finish.

    Several processes train together; only the first has the table and speaks.

    Args:
        study: what the cells are of.
        cells: to train.
        checkpoints: folder of what is unfinished, emptied in the end.
    """
    experiment, dataset, workdir = study.experiment, study.dataset, study.workdir
    table = study.table
    is_done = np.array([cell.cell_id in study.rows for cell in cells])
    is_done = processes.same_everywhere(is_done)
    done = {cell.cell_id for cell, yes in zip(cells, is_done, strict=True) if yes}
    others = [*study.parts.evidence, *study.parts.to_verify]
    wish = experiment.packing.save_weights
    plan = ensemble.plan_cells(experiment, dataset, cells, done=done)
    all_news = ensemble.train(
        plan,
        dataset,
        checkpoint_dir=make_absolute(workdir) / checkpoints,
        checkpoint_minutes=experiment.packing.checkpoint_minutes,
        autotune=experiment.packing.autotune,
        choices_dir=workdir / "choices",
        save=weights.choose(wish, cells, dataset, others),
    )
    if table is None:
        return collections.deque(all_news, maxlen=1).pop() if plan.num_cells else None
    what = "evidence" if checkpoints == "checkpoints" else "forecast"
    log(workdir, f"{plan.num_cells} of {len(cells)} cells to train ({what})")
    if plan.is_streamed:
        note = device_data.explain(dataset, plan.packs[0].stream_rows)
        print(note)
        log(workdir, note)
    if not plan.num_cells:
        print(f"All {len(cells)} runs ({what}) are in {table.path}; nothing to train.")
        return None
    work = estimate_work(plan, dataset)
    work_done = 0.0
    news, curves = None, Curves(workdir)
    try:
        with console.Progress(plan.num_cells) as progress:
            for news in all_news:
                # A run with a row has all that is kept of it.
                curves.append(news.curves)
                weights.write(workdir, dataset, news.weights)
                table.append(news.rows)
                work_done += sum(work[row.cell_id] for row in news.rows)
                progress.update(
                    num_done=news.num_done,
                    lanes_busy=news.lane_utilization,
                    share_done=work_done / sum(work.values()),
                    program=news.program,
                    wait_seconds=news.wait_seconds,
                )
    except preemption.Stopped:
        table.merge()
        log(workdir, f"stopped by SIGTERM, {len(table.rows)} rows in the table")
        raise
    table.merge()
    curves.merge()
    if news is not None:
        log(
            workdir,
            f"trained {news.num_done} cells, {news.num_programs} programs, compiling "
            f"{news.compile_seconds:.1f} s, waiting for it {news.wait_seconds:.1f} s, "
            f"lanes busy {news.lane_utilization:.1%}",
        )
    return news


def rounds(
    experiment: Experiment, workdir: epath.Path, wish: loop.Wish
) -> Iterator[Round[fitting.Fit]]:
    """The loop for Python: yields what it is about to train, and trains it.

    Args:
        experiment: the study; its grid are the candidates.
        workdir: where everything is kept; a loop that was stopped goes on.
        wish: how sure, and for how much.

    Yields:
        Rounds, each before its cells are trained; the last says why it stopped.

    Raises:
        UserError: the config, the workdir or the wish cannot be used.
    """
    config.validate(experiment)
    loop.check(experiment, wish)
    dataset = load_dataset(experiment.dataset)
    parts = targets.split_cells(experiment, dataset)
    table = open_table(workdir, experiment)
    yield from _rounds(Study(experiment, dataset, parts, workdir, table), wish, [])


def _rounds(
    study: Study, wish: loop.Wish, news: list[ensemble.Progress | None]
) -> Iterator[Round[fitting.Fit]]:
    for one in loop.run(
        study,
        wish,
        train=lambda cells: news.append(train(study, cells)),
        fit=lambda cells: fit_evidence(study, cells),
    ):
        about = study.metric, study.dataset.unit
        said = format.describe_round(one, wish.cost, *about)
        print(said)
        log(study.workdir, said)
        yield one


def train_until(study: Study, wish: loop.Wish) -> ensemble.Progress | None:
    """Trains cells of the grid, round by round, until the targets are sure enough."""
    news: list[ensemble.Progress | None] = []
    collections.deque(_rounds(study, wish, news), maxlen=0)
    return news[-1] if news else None


def best_rates(study: Study) -> tuple[float, float]:
    """Learning rate and weight decay of targets: the best at the largest evidence.

    Raises:
        UserError: not all of the evidence is trained.
    """
    experiment, cells = study.experiment, study.parts.evidence
    missing = sum(cell.cell_id not in study.rows for cell in cells)
    if missing:
        raise UserError(
            f"{study.workdir}: {len(cells) - missing} of the {len(cells)} runs that "
            "are fitted are there; add train to --stages"
        )
    training = experiment.training
    if not grid.is_sweep(experiment):
        return training.learning_rate, training.weight_decay
    chosen, _ = sweep.choose(cells, study.rows, study.metric)
    largest = max(chosen, key=lambda row: row.params * row.data)
    cell = next(cell for cell in cells if cell.cell_id == largest.cell_id)
    return grid.find_base_rates(experiment, study.dataset, cell)


def with_rates(study: Study, rates: tuple[float, float]) -> Study:
    """The study, its targets with these rates."""
    cells = grid.make_target_cells(study.experiment, study.dataset, rates)
    return study._replace(parts=study.parts._replace(targets=cells))


def fit_evidence(study: Study, cells: Sequence[Cell] | None = None) -> fitting.Fit:
    """Fits the law to the evidence alone, or to some of it, whatever else there is."""
    settings = study.experiment.fit
    return fitting.fit(
        targets.make_surface(study, cells or study.parts.evidence),
        settings.law,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def say(study: Study, fit: fitting.Fit) -> list[forecasts.Asked]:
    """Seals what the fit says of everything that is not evidence; says what that is."""
    experiment, rows = study.experiment, study.rows
    asked = [
        *targets.ask(study),
        *targets.ask_plain(experiment, fit.cost),
    ]
    if asked:
        evidence = [rows[cell.cell_id] for cell in study.parts.evidence]
        record = forecasts.make_record(
            fit,
            asked,
            targets.weigh_evidence(evidence),
            title=experiment.name,
            config=forecast_config(experiment),
            answers=answer(study, fit),
            target_value=experiment.questions.target_value,
        )
        sealed = forecasts.seal(study.workdir / "forecasts", record, fit)
        log(study.workdir, f"forecast {sealed.digest} of {len(asked)} sizes stands")
    return asked


def answer(study: Study, fit: fitting.Fit) -> list[Answer]:
    """The questions, at the largest sizes of the grid where they name none."""
    cells = study.parts.evidence + study.parts.held_out
    sizes = {targets.Size.of(cell, study.dataset) for cell in cells}
    largest = [max(float(size[axis]) for size in sizes) for axis in (0, 1)]
    return ask(fit, study.experiment.questions, *largest)


def await_forecast(study: Study) -> Study:
    """All processes have the first one's targets, of which something was said.

    Raises:
        UserError: nothing was.
    """
    if study.table is not None:
        told, _ = forecasts.read_all(study.workdir / "forecasts")
        for one in targets.ask(study):
            if not forecasts.choose(told, one.params, one.data, one.epochs):
                raise UserError(
                    f"--stages=verify: no forecast says anything of {one.name} with "
                    f"{one.data:g} {study.dataset.unit}; add fit,forecast to --stages"
                )
    processes.wait_for_first("forecast")
    cells = study.parts.targets
    rates = (cells[0].learning_rate, cells[0].weight_decay) if cells else (0.0, 0.0)
    # As bytes: JAX would round them to 32 bits, and with them the cells' ids.
    sent = processes.same_everywhere(np.array(rates, np.float64).view(np.uint8))
    rate, decay = sent.astype(np.uint8).view(np.float64).tolist()
    return with_rates(study, (rate, decay)) if cells else study


def verify(study: Study) -> tuple[forecasts.Forecast | None, list[forecasts.Verified]]:
    """The newest forecast, and every forecast size that was measured, scored.

    Writes verification.csv where there is any.
    """
    told, notes = forecasts.read_all(study.workdir / "forecasts")
    for note in notes:
        warn(study.workdir, note)
    verified = []
    for asked, cells in targets.ask(study).items():
        found = forecasts.choose(told, asked.params, asked.data, asked.epochs)
        runs = find_runs(study, cells)
        if found and runs:
            values = [row.read(study.metric) for row in runs if row.status == "ok"]
            verified.append(forecasts.score(*found, values))
    if verified:
        text = forecasts.format_scores(verified)
        write_whole(study.workdir / "verification.csv", text)
    return told[-1] if told else None, verified


def find_runs(study: Study, cells: Sequence[Cell]) -> list[Measurement]:
    """The runs that count of one size: all there are, or those with its best rates."""
    done = [cell for cell in cells if cell.cell_id in study.rows]
    rates = {(cell.learning_rate, cell.weight_decay) for cell in cells}
    is_whole = len(rates) == 1 or len(done) == len(cells)
    return sweep.choose(done, study.rows, study.metric)[0] if done and is_whole else []


def collect(
    study: Study,
    fit: fitting.Fit,
    told: forecasts.Forecast | None,
    verified: Sequence[forecasts.Verified],
    news: ensemble.Progress | None,
) -> results.Results:
    """What was measured so far beside what the fit says, and the answers."""
    experiment, parts = study.experiment, study.parts
    asked = targets.ask(study)
    held_out = [
        cell
        for size, cells in asked.items()
        if size.kind == "held_out" and find_runs(study, cells)
        for cell in cells
        if cell.cell_id in study.rows
    ]
    surface = targets.make_surface(study, parts.evidence + held_out)
    if grid.is_sweep(experiment):
        _, choices = sweep.choose(parts.evidence + held_out, study.rows, study.metric)
        text = sweep.format_choices(choices)
        write_whole(study.workdir / "envelope.csv", text)
    known = {cell.cell_id for cell in [*parts.evidence, *parts.to_verify]}
    others = len(study.rows.keys() - known)
    if others:
        note = f"{others} rows of the table are not in this grid and are left out"
        surface = dataclasses.replace(surface, notes=(*surface.notes, note))
    fitted = {targets.Size.of(cell, study.dataset)[:2] for cell in parts.evidence}
    sizes = zip(surface.params.tolist(), surface.data.tolist(), strict=True)
    rows = [study.rows[one] for one in known if one in study.rows]
    return results.make_results(
        experiment.name,
        surface,
        np.array([size in fitted for size in sizes]),
        fit,
        answer(study, fit),
        targets=[*asked, *targets.ask_plain(experiment, fit.cost)],
        training=summarise_training(rows, news),
        forecast=told,
        verified=verified,
    )


def summarise_training(
    rows: Sequence[Measurement], last_news: ensemble.Progress | None
) -> results.Training:
    """What the rows of the table cost, and how the last call went."""
    good = [row for row in rows if row.status == "ok"]
    return results.Training(
        num_runs=len(good),
        num_failed=len(rows) - len(good),
        flops=sum(row.flops for row in rows),
        seconds=sum(row.seconds for row in rows),
        devices=tuple(sorted({row.device for row in rows})),
        num_programs=len({row.program for row in rows}),
        compile_seconds=last_news.compile_seconds if last_news else float("nan"),
        wait_seconds=last_news.wait_seconds if last_news else float("nan"),
        lane_utilization=last_news.lane_utilization if last_news else float("nan"),
    )


def forecast_config(experiment: Experiment) -> dict[str, object]:
    """What a forecast keeps of the config: all but packing, which changes nothing."""
    record = dataclasses.asdict(experiment)
    del record["packing"]
    return record


def experiment_record(experiment: Experiment) -> dict[str, object]:
    """What a workdir's runs have in common: all but grid, packing, fit, questions."""
    record = dataclasses.asdict(experiment)
    kept = ("name", "dataset", "family", "training")
    return {"runs": {name: record.pop(name) for name in kept}, "settings": record}

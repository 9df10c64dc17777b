"""The whole path of a study on one page.

    experiment -> cells -> plan -> training -> table -> surface -> fit -> answers
                                                                       -> report

This file alone knows the order of things. Each stage reads what the one before left
on disk, so a study may be stopped anywhere, resumed, widened, or only refitted.
"""

import collections
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
from etils import epath

from scalepred import config, envelope, grid, processes, results, stopping
from scalepred.analysis import ask, write_report
from scalepred.config import Experiment, UserError
from scalepred.data.dataset import Dataset, load_dataset
from scalepred.dry_run import print_plan
from scalepred.files import make_absolute, write_whole
from scalepred.fitting import fit as fitting
from scalepred.measurements import Measurement, Surface, Table
from scalepred.report import console
from scalepred.training import ensemble, rehearsal, streaming
from scalepred.workdir import log, prepare_workdir, warn

STAGES = ("train", "fit", "report")


def run(
    experiment: Experiment,
    workdir: epath.Path,
    stages: Sequence[str] = STAGES,
    dry_run: bool = False,
    topology: str = "",
) -> None:
    """Trains what is missing, fits the fit region, predicts the rest, reports.

    Args:
        experiment: the study.
        workdir: where everything is kept; made if missing.
        stages: which of train, fit, report to do; report needs fit.
        dry_run: prints the plan and touches nothing.
        topology: a machine that need not be here, to plan and compile for instead;
            only with `dry_run`. See `rehearsal.find_machines`.

    Raises:
        UserError: the config, the workdir or the table cannot be used.
    """
    config.validate(experiment)
    if topology and not dry_run:
        raise UserError(f"--topology={topology}: only compiles; add --dry_run")
    machines = rehearsal.find_machines(topology) if topology else None
    if "report" in stages and "fit" not in stages:
        raise UserError(
            f"stages={','.join(stages)}: report draws what fit finds; add fit"
        )
    # A typo must not wait for the training to end.
    knows_epochs = fitting.knows_epochs(experiment.fit.law)
    epochs = experiment.questions.at_epochs
    if epochs and not knows_epochs:
        raise UserError(
            f"questions.at_epochs={epochs:g}: fit.law={experiment.fit.law} knows "
            "nothing of epochs; set it to 0, or choose fit.law=data_constrained"
        )
    dataset = load_dataset(experiment.dataset, outline=dry_run)
    cells = grid.make_cells(experiment, dataset)
    if dry_run:
        rows = Table(workdir / "measurements.csv").rows  # reading touches nothing
        print_plan(experiment, dataset, cells, rows, machines)
        return
    table = None
    if processes.is_first():
        table = open_table(workdir, experiment)
        log(workdir, f"started: {experiment.name}, stages {','.join(stages)}")
    last_news = None
    if "train" in stages:
        last_news = train(experiment, dataset, cells, table, workdir)
    processes.part()
    if table is None:
        return
    if "fit" in stages:
        found = analyse(experiment, dataset, cells, table, last_news)
        results.write_results(workdir, found)
        if grid.is_sweep(experiment):
            _, choices = envelope.choose(cells, table.rows)
            write_whole(
                workdir / "envelope.csv", envelope.format_choices(choices).encode()
            )
        if "report" in stages:
            write_report(workdir, found)
        console.print_answers(found, sys.stdout)
    log(workdir, "ended")


def open_table(workdir: epath.Path, experiment: Experiment) -> Table:
    """The workdir's table, whole again if something was damaged."""
    prepare_workdir(workdir, experiment_record(experiment), "experiment")
    table = Table(workdir / "measurements.csv")
    for note in table.notes:
        warn(workdir, note)
    table.merge()
    return table


def train(
    experiment: Experiment,
    dataset: Dataset,
    cells: Sequence[grid.Cell],
    table: Table | None,
    workdir: epath.Path,
) -> ensemble.Progress | None:
    """Trains every cell that has no row yet; rows are on disk as cells finish.

    Several processes train together; only the first has the table and speaks.
    """
    rows = table.rows if table else {}
    is_done = np.array([cell.cell_id in rows for cell in cells])
    is_done = processes.same_everywhere(is_done)
    done = {cell.cell_id for cell, yes in zip(cells, is_done, strict=True) if yes}
    plan = ensemble.plan_cells(experiment, dataset, cells, done=done)
    all_news = ensemble.train(
        plan,
        dataset,
        checkpoint_dir=make_absolute(workdir) / "checkpoints",
        checkpoint_minutes=experiment.packing.checkpoint_minutes,
        autotune=experiment.packing.autotune,
        choices_dir=workdir / "choices",
    )
    if table is None:
        return collections.deque(all_news, maxlen=1).pop() if plan.num_cells else None
    log(workdir, f"{plan.num_cells} of {len(cells)} cells to train")
    if plan.is_streamed:
        note = streaming.explain(dataset, plan.packs[0].stream_rows)
        print(note)
        log(workdir, note)
    if not plan.num_cells:
        print(f"All {len(cells)} runs are in {table.path}; nothing to train.")
        return None
    work = ensemble.estimate_work(plan, dataset)
    work_done = 0.0
    news = None
    try:
        with console.Progress(plan.num_cells) as progress:
            for news in all_news:
                table.append(news.rows)
                work_done += sum(work[row.cell_id] for row in news.rows)
                progress.update(
                    num_done=news.num_done,
                    lanes_busy=news.lane_utilization,
                    share_done=work_done / sum(work.values()),
                    program=news.program,
                    wait_seconds=news.wait_seconds,
                )
    except stopping.Stopped:
        table.merge()
        log(workdir, f"stopped by SIGTERM, {len(table.rows)} rows in the table")
        raise
    table.merge()
    if news is not None:
        log(
            workdir,
            f"trained {news.num_done} cells, {news.num_programs} programs, compiling "
            f"{news.compile_seconds:.1f} s, waiting for it {news.wait_seconds:.1f} s, "
            f"lanes busy {news.lane_utilization:.1%}",
        )
    return news


def analyse(
    experiment: Experiment,
    dataset: Dataset,
    cells: Sequence[grid.Cell],
    table: Table,
    last_news: ensemble.Progress | None,
) -> results.Results:
    """Fits the fit region of the grid, predicts the rest, answers the questions."""
    rows = [table.rows[cell.cell_id] for cell in cells if cell.cell_id in table.rows]
    if len(rows) < len(cells):
        raise UserError(
            f"{table.path}: {len(rows)} of the grid's {len(cells)} runs are there; "
            "add train to --stages"
        )
    chosen, choices = envelope.choose(cells, table.rows)
    settings = experiment.fit
    random_guess = settings.random_guess
    if random_guess < 0:
        random_guess = dataset.random_guess(experiment.metric)
    surface = Surface.from_measurements(
        chosen, random_guess or None, fitting.knows_epochs(settings.law)
    )
    if grid.is_sweep(experiment):
        notes = (*surface.notes, *envelope.describe(choices))
        surface = dataclasses.replace(surface, notes=notes)
    others = len(table.rows) - len(rows)
    if others:
        note = f"{others} rows of the table are not in this grid and are left out"
        surface = dataclasses.replace(surface, notes=(*surface.notes, note))

    compute_ratio = settings.max_compute_ratio or 1.0
    in_fit = fitting.fit_region(
        surface,
        max_params=surface.params.max() / settings.max_params_ratio,
        max_data=surface.data.max() / settings.max_data_ratio,
        max_compute=surface.work.max() / compute_ratio,
    )
    fit = fitting.fit(
        surface.where(in_fit),
        settings.law,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return results.make_results(
        experiment.name,
        surface,
        in_fit,
        fit,
        ask(fit, experiment.questions, surface),
        training=summarise_training(rows, last_news),
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


def experiment_record(experiment: Experiment) -> dict[str, object]:
    """What a workdir's runs have in common: all but grid, packing, fit, questions."""
    record = dataclasses.asdict(experiment)
    kept = ("name", "dataset", "family", "metric", "training")
    return {"runs": {name: record.pop(name) for name in kept}, "settings": record}

"""The left half of the path: cells -> plan -> training -> rows of the table.

`analysis.py` is the right half.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import MOST_EPOCHS, Experiment
from scalepred.forecasting.parts import Study
from scalepred.grid import Cell
from scalepred.own import find_sources
from scalepred.report import console, words
from scalepred.report.progress import Progress
from scalepred.runtime import preemption, processes
from scalepred.runtime.files import make_absolute
from scalepred.runtime.sources import Sources, find_changes, refuse
from scalepred.runtime.workdir import check_workdir, log, prepare_workdir, warn
from scalepred.table.rows import STOPPED, Table
from scalepred.training import device_data, ensemble, weights
from scalepred.training.curves import Curves
from scalepred.training.curves import read as read_curves
from scalepred.training.hopeless import Judge, as_array, find_references, from_array
from scalepred.training.plan import Plan
from scalepred.training.work import count_flops, count_spent, estimate_work

# Folders of runs that are half done: of the evidence, of what is verified.
_CHECKPOINTS = ("checkpoints", "checkpoints_verify")


def open_table(study: Study) -> Study:
    """The study with the table of its workdir, whole again if something was damaged.

    Raises:
        UserError: the workdir holds runs of another study, or of other code of one's
            own.
    """
    workdir = study.workdir
    own = find_sources(study.experiment, study.dataset)
    record = _describe(study.experiment, own)
    check_workdir(workdir, record, "experiment")
    table = Table(workdir / "measurements.csv")
    if table.rows or any((workdir / name).exists() for name in _CHECKPOINTS):
        _check_sources(study, own)
    said, warned = study.describe_recipe()
    prepare_workdir(workdir, record, "experiment")
    for sentence in said:
        _tell(study, sentence)
    for sentence in warned:
        warn(workdir, sentence)
    if table.rows and not table.path.exists():
        # It is written before the first row is.
        table.notes.append(
            f"{table.path} is gone; its {len(table.rows)} rows in {workdir / 'rows'} "
            "count; to train them again, remove that folder too"
        )
    for note in table.notes:
        warn(workdir, note)
    table.merge()
    return study._replace(table=table)


def _describe(experiment: Experiment, own: Sources) -> dict[str, object]:
    """For config.json; under "runs" what all runs of a workdir have in common."""
    record = dataclasses.asdict(experiment)
    kept = ("name", "dataset", "family", "training")
    # Its numbers are in `training`; where they were read does not matter.
    recipe = record["training"].pop("recipe")
    return {
        "runs": {name: record.pop(name) for name in kept},
        "sources": own,
        "settings": {**record, "training.recipe": recipe},
    }


def _check_sources(study: Study, own: Sources) -> None:
    """Rows, and runs that are half done, must be of the code that there is now."""
    changes = find_changes(study.workdir, own)
    if changes and not study.experiment.keep_rows:
        raise refuse(changes)
    for change in changes:
        warn(study.workdir, f"{change}; they are kept (keep_rows)")


def train(
    study: Study,
    cells: Sequence[Cell],
    checkpoints: str = "checkpoints",
    arms: Sequence[Study] = (),
) -> ensemble.Progress | None:
    """Trains every cell that has no row yet; rows are on disk as cells finish.

    Several processes train together; only the first has the tables and speaks.

    Args:
        study: what the cells are of.
        cells: to train.
        checkpoints: folder of what is unfinished, emptied in the end.
        arms: whose cells they are, each with a table of its own; none: the study's.

    Returns:
        The last news; None if there was nothing to train.
    """
    owners = (
        [_Owner.of(one) for one in arms or (study,)] if processes.is_first() else []
    )
    plan = _plan_rest(study, cells, owners)
    judge = _make_judge(arms or (study,), owners)
    packing, workdir = study.experiment.packing, study.workdir
    every = [*study.parts.evidence, *study.parts.to_verify]
    all_news = ensemble.train(
        plan,
        study.dataset,
        checkpoint_dir=make_absolute(workdir) / checkpoints,
        checkpoint_minutes=packing.checkpoint_minutes,
        autotune=packing.autotune,
        choices_dir=workdir / "choices",
        save=weights.choose(packing.save_weights, cells, study.dataset, every),
        judge=judge,
    )
    if not owners:
        return collections.deque(all_news, maxlen=1).pop() if plan.num_cells else None
    what = "evidence" if checkpoints == "checkpoints" else "forecast"
    planned = [cell for pack in plan.packs for cell in pack.queue]
    log(workdir, f"{len(planned)} of {len(cells)} cells to train ({what})")
    _tell_plan(study, plan, planned)
    if not planned:
        where = workdir if arms else owners[0].table.path
        console.print_line(
            f"All {len(cells)} runs ({what}) are in {where}; nothing to train."
        )
        return None
    news = _fill(study, owners, plan, all_news)
    if news is not None:
        log(
            workdir,
            f"trained {news.num_done} cells, {news.num_programs} programs, compiling "
            f"{news.compile_seconds:.1f} s, waiting for it {news.wait_seconds:.1f} s, "
            f"lanes busy {news.lane_utilization:.1%}",
        )
        _tell_spent(study, planned)
        _tell_stopped(study, owners, planned)
    return news


def _tell_plan(study: Study, plan: ensemble.Plan, planned: Sequence[Cell]) -> None:
    """Where data are streamed from, and which runs are never stopped on the way."""
    if plan.is_streamed:
        note = device_data.explain(study.dataset, plan.packs[0].stream_rows)
        console.print_line(note)
        log(study.workdir, note)
    often = [cell for cell in planned if round(cell.epochs) > MOST_EPOCHS]
    if study.experiment.packing.stop_hopeless and often:
        _tell(study, words.describe_never_stopped(len(often), len(planned)))


def _tell(study: Study, said: str) -> None:
    console.print_line(said)
    log(study.workdir, said)


def _tell_stopped(
    study: Study, owners: Sequence["_Owner"], cells: Sequence[Cell]
) -> None:
    """What stopping runs saved, where some were."""
    rows = {name: row for owner in owners for name, row in owner.table.rows.items()}
    stopped = [cell for cell in cells if rows[cell.cell_id].status == STOPPED]
    if stopped:
        alone = sum(count_flops(cell, study.dataset) for cell in cells)
        saved = sum(
            count_flops(cell, study.dataset) - rows[cell.cell_id].flops
            for cell in stopped
        )
        share = saved / alone
        _tell(study, words.describe_stopped(len(stopped), len(cells), share))


def _tell_spent(study: Study, cells: Sequence[Cell]) -> None:
    """What branches saved, where there are some."""
    if any(cell.branch for cell in cells):
        alone = sum(count_flops(cell, study.dataset) for cell in cells)
        spent = count_spent(cells, study.dataset)
        console.print_line(words.describe_spent(spent, alone))


class _Owner(NamedTuple):
    """Whose runs they are, and where what is known of them is kept."""

    ids: frozenset[str]  # of its cells
    study: Study
    table: Table
    curves: Curves

    @staticmethod
    def of(study: Study) -> "_Owner":
        assert study.table is not None  # it is opened before anything is trained
        cells = [*study.parts.evidence, *study.parts.to_verify]
        ids = frozenset(cell.cell_id for cell in cells)
        return _Owner(ids, study, study.table, Curves(study.workdir))

    def keep(self, news: ensemble.Progress) -> None:
        """Writes what came of its runs."""
        self.table.check_workdir()
        # A run with a row has all that is kept of it.
        own = {name: one for name, one in news.curves.items() if name in self.ids}
        self.curves.append(own)
        models = {
            cell: one for cell, one in news.weights.items() if cell.cell_id in self.ids
        }
        weights.write(self.study.workdir, self.study.dataset, models)
        self.table.append([row for row in news.rows if row.cell_id in self.ids])


def _plan_rest(study: Study, cells: Sequence[Cell], owners: Sequence[_Owner]) -> Plan:
    """The plan for cells without a row, the same in every process."""
    rows = {
        name: row
        for owner in owners
        for name, row in owner.table.rows.items()
        # What was stopped is trained to its end where nothing is to be stopped.
        if row.status != STOPPED or owner.study.experiment.packing.stop_hopeless
    }
    for owner in owners:  # two arms may have a run in common
        lacking = (owner.ids & rows.keys()) - owner.table.rows.keys()
        if lacking:
            owner.table.append([rows[name] for name in sorted(lacking)])
    is_done = np.array([cell.cell_id in rows for cell in cells])
    is_done = processes.same_everywhere(is_done)
    done = {cell.cell_id for cell, yes in zip(cells, is_done, strict=True) if yes}
    return ensemble.plan_cells(study.experiment, study.dataset, cells, done=done)


def _make_judge(studies: Sequence[Study], owners: Sequence[_Owner]) -> Judge | None:
    """Which runs are to be stopped, the same in every process; None: none are."""
    references: dict[str, tuple[Cell, ...]] = {}
    for study in studies:
        cells = study.parts.evidence + study.parts.held_out
        asked = study.experiment.packing.stop_hopeless
        found = find_references(cells) if asked else {}
        for name in (cell.cell_id for cell in cells):
            own = found.get(name, ())
            if references.setdefault(name, own) != own:
                references[name] = ()  # it matters to another arm
    references = {name: own for name, own in references.items() if own}
    if not references:
        return None
    judge = Judge(references)
    awaited = {c.cell_id: c for own in references.values() for c in own}
    known = {}
    for owner in owners:
        curves = read_curves(owner.study.workdir)
        rows = owner.table.rows
        known |= {
            name: curves[name]
            for name in awaited
            if name in curves and name in rows and rows[name].status == "ok"
        }
    losses = processes.same_everywhere(as_array(awaited, known))
    for cell, row in zip(awaited.values(), losses, strict=True):
        judge.end(cell.cell_id, from_array(cell, row))
    return judge


def _fill(
    study: Study,
    owners: Sequence[_Owner],
    plan: Plan,
    all_news: Iterator[ensemble.Progress],
) -> ensemble.Progress | None:
    """Keeps runs as they finish, and shows how far training is; the last news."""
    work = estimate_work(plan, study.dataset)
    all_work, work_done = sum(work.values()), 0.0
    news = None
    try:
        with Progress(plan.num_cells) as progress:
            for news in all_news:
                for owner in owners:
                    owner.keep(news)
                work_done += sum(work[row.cell_id] for row in news.rows)
                progress.update(
                    num_done=news.num_done,
                    lanes_busy=news.lane_utilization,
                    share_done=work_done / all_work,
                    program=news.program,
                    wait_seconds=news.wait_seconds,
                )
    except preemption.Stopped:
        for owner in owners:
            owner.table.merge()
        num_rows = sum(len(owner.table.rows) for owner in owners)
        log(study.workdir, f"stopped by SIGTERM, {num_rows} rows in the table")
        raise
    for owner in owners:
        owner.table.merge()
        owner.curves.merge()
    return news

"""The path of a study with arms on one page.

    experiment -> a study an arm, paired -> one training for all -> a fit an arm
        -> forecasts, their order (sealed) -> [targets -> scores] -> comparison, reports

Each arm has a folder in the workdir that is the workdir of a plain study: its table,
its forecasts, its report. What is in the workdir itself is about all of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from scalepred import comparing, dry_run, own, study
from scalepred.arms import order
from scalepred.arms.make import make_experiments
from scalepred.arms.order import Scored
from scalepred.config import Experiment, UserError
from scalepred.data.loading import load_dataset
from scalepred.fill import open_table, train
from scalepred.fitting.comparison import Comparison, compare
from scalepred.fitting.fit import Fit
from scalepred.forecasting import recipes, targets
from scalepred.forecasting.asked import check_asked, check_targets
from scalepred.forecasting.gate import ArmGate, Verdict, check_arms, judge_arms
from scalepred.forecasting.parts import Parts, Study, split_cells
from scalepred.forecasting.verification import await_forecast
from scalepred.runtime import processes, steps
from scalepred.runtime.workdir import check_workdir, log, prepare_workdir, warn
from scalepred.table.rows import Table
from scalepred.training import aot


@dataclasses.dataclass(frozen=True, repr=False)
class Compared:
    """What a study with arms ends with.

    Attributes:
        arms: what each arm's study ended with, by name, the baseline first.
        comparison: of the arms' fits; None if nothing was fitted.
        order: how the predicted order did at sizes that were trained since.
        verdicts: of the gates.
    """

    arms: Mapping[str, study.Outcome]
    comparison: Comparison | None = None
    order: Sequence[Scored] = ()
    verdicts: Sequence[Verdict] = ()

    def __repr__(self) -> str:
        said = [f"{len(self.arms)} arms: {', '.join(self.arms)}"]
        if self.comparison is not None:
            said.append(repr(self.comparison))
        said += [one.sentence for one in self.order]
        return "Compared(" + "\n".join(said) + ")"


def run(
    experiment: Experiment,
    workdir: epath.Path,
    stages: Sequence[str] | None = None,
    dry_run: bool = False,
    topology: str = "",
    gates: Sequence[ArmGate] = (),
) -> Compared:
    """Trains all arms together, fits each, compares them, reports.

    Args:
        experiment: the study; its `arms` say what differs.
        workdir: where everything is kept; made if missing.
        stages: see `study.run`.
        dry_run: prints the plan and touches nothing.
        topology: a machine to plan for; see `study.run`.
        gates: conditions on the comparison.

    Raises:
        UserError: the config, the workdir or a table cannot be used.
    """
    with_targets = stages is not None and "verify" in stages
    stages = study.STAGES if stages is None else stages
    flags = {"--stages": sorted(stages), "--gate": gates, "--dry_run": dry_run}
    processes.agree(lambda: own.describe_asked(experiment, flags))
    made = make_experiments(experiment)
    for one in made.values():
        check_asked(one, stages, (), None)
    check_arms(made, gates)
    if gates and "fit" not in stages:
        named = ",".join(stages)
        raise UserError(f"stages={named}: a gate asks the fits; add fit")
    if topology and not dry_run:
        raise UserError(f"--topology={topology}: only compiles; add --dry_run")
    machines = aot.find_machines(topology) if topology else None
    if not dry_run:
        steps.begin("reading the data")
    arms = processes.together(lambda: _prepare(experiment, workdir, outline=dry_run))
    if with_targets:
        for arm in arms:
            check_targets(arm.parts)
    if dry_run:
        _print_plan(experiment, workdir, arms, machines)
        return Compared({})
    arms = _open(experiment, workdir, arms, stages)
    return _run_stages(experiment, workdir, arms, stages, with_targets, gates)


def _prepare(
    experiment: Experiment, workdir: epath.Path, outline: bool = False
) -> list[Study]:
    """A study an arm, their runs paired with those of the first; touches nothing."""
    made = {
        name: _follow(name, one, experiment.arms[name])
        for name, one in make_experiments(experiment).items()
    }
    datasets = {
        name: load_dataset(name, outline=outline)
        for name in dict.fromkeys(one.dataset for one in made.values())
    }
    parts = {
        name: split_cells(one, datasets[one.dataset]) for name, one in made.items()
    }
    baseline = parts[next(iter(made))]
    return [
        Study(
            one,
            datasets[one.dataset],
            parts[name].pair(baseline),
            workdir / name,
            arm=name,
            baseline=baseline,
        )
        for name, one in made.items()
    ]


def _follow(name: str, arm: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """An arm with what its `training.recipe` says.

    Raises:
        UserError: the recipe cannot be followed, or the arm gives one of its numbers
            itself.
    """
    followed = recipes.follow(arm)
    for field in changes:
        home, _, last = field.rpartition(".")
        if home != "training":
            continue
        if getattr(followed.training, last) != getattr(arm.training, last):
            raise UserError(
                f"arms.{name}: {field} is said by training.recipe="
                f"{arm.training.recipe}, too; leave it out, or give this arm "
                "training.recipe=''"
            )
    return followed


def _open(
    experiment: Experiment,
    workdir: epath.Path,
    arms: Sequence[Study],
    stages: Sequence[str],
) -> list[Study]:
    """The arms with their tables, which the first process alone has."""
    for arm in arms:
        cells = [*arm.parts.evidence, *arm.parts.to_verify]
        processes.agree(
            lambda arm=arm, cells=cells: own.describe_runs(
                arm.experiment, arm.dataset, cells
            )
        )

    def open_all() -> list[Study]:
        if not processes.is_first():
            return [*arms]
        settings = dataclasses.asdict(experiment)
        kept = ("name", "dataset", "family")
        runs = {name: settings.pop(name) for name in kept}
        record: dict[str, object] = {"runs": runs, "settings": settings}
        check_workdir(workdir, record, "arms")
        prepare_workdir(workdir, record, "arms")
        return [open_table(arm) for arm in arms]

    opened = processes.together(open_all)
    if processes.is_first():
        names = ", ".join(arm.arm for arm in arms)
        log(workdir, f"started: {experiment.name}, {names}, stages {','.join(stages)}")
    return opened


def _run_stages(
    experiment: Experiment,
    workdir: epath.Path,
    arms: Sequence[Study],
    stages: Sequence[str],
    with_targets: bool,
    gates: Sequence[ArmGate],
) -> Compared:
    """All but the reading of what was asked; see `run`."""
    steps.begin("planning what to train")
    if "train" in stages:
        todo = {arm.arm: arm.parts.evidence for arm in arms}
        _train(experiment, workdir, arms, todo, "checkpoints")
    verifies = "verify" in stages and any(
        arm.parts.after_forecast(with_targets) for arm in arms
    )
    if not verifies:
        processes.part()
    steps.begin("fitting a law to each arm, sealing the forecasts")
    all_arms = arms
    arms, fits = _fit(workdir, all_arms, stages)
    found = _compare(workdir, arms, fits, gates) if len(fits) > 1 else None
    if found is not None and "forecast" in stages:
        order.seal(workdir, found, arms)
    steps.end()
    if verifies:
        arms = _await(all_arms, arms)
        todo = {arm.arm: arm.parts.after_forecast(with_targets) for arm in arms}
        _train(experiment, workdir, arms, todo, "checkpoints_verify")
        processes.part()
    if not processes.is_first():
        return Compared({})
    outcomes = {
        arm.arm: study.report(arm, fits.get(arm.arm), None, stages, ()) for arm in arms
    }
    scored = order.score(workdir, arms)
    verdicts = judge_arms(fits, gates, experiment.fit.seed) if gates else []
    if found is not None:
        _report(workdir, experiment.name, found, scored, "report" in stages)
    log(workdir, "ended")
    return Compared(outcomes, found, scored, verdicts)


def _fit(
    workdir: epath.Path, arms: Sequence[Study], stages: Sequence[str]
) -> tuple[list[Study], dict[str, Fit]]:
    """The arms that can be fitted, with their fits and forecasts sealed.

    One that cannot, as most of its runs diverged, is told and left out: what the
    others say counts none the less.

    Raises:
        UserError: none can.
    """
    fitted, errors = {}, {}
    for arm in arms:
        try:
            fitted[arm.arm] = study.fit_and_forecast(arm, stages)
        except UserError as error:
            errors[arm.arm] = error
    if errors and len(errors) == len(arms):
        raise next(iter(errors.values()))
    for name, error in errors.items():
        warn(workdir, f"arm {name} is left out: {error}")
    fits = {name: fit for name, (_, fit) in fitted.items() if fit is not None}
    return [arm for arm, _ in fitted.values()], fits


def _await(all_arms: Sequence[Study], fitted: Sequence[Study]) -> list[Study]:
    """The arms that the first process could fit, with its targets' rates."""
    processes.wait_for_first("fits")
    known = {arm.arm: arm for arm in fitted}
    good = processes.same_everywhere(np.array([one.arm in known for one in all_arms]))
    kept = [one.arm for one, is_good in zip(all_arms, good, strict=True) if is_good]
    return [await_forecast(known[name]) for name in kept]


def _train(
    experiment: Experiment,
    workdir: epath.Path,
    arms: Sequence[Study],
    todo: Mapping[str, Sequence],
    checkpoints: str,
) -> None:
    """Trains the runs of all arms together, or of those that share their data."""
    for group in _by_dataset(arms):
        cells = list(dict.fromkeys(cell for arm in group for cell in todo[arm.arm]))
        train(_join(experiment, workdir, group), cells, checkpoints, group)


def _by_dataset(arms: Sequence[Study]) -> list[list[Study]]:
    groups: dict[str, list[Study]] = {}
    for arm in arms:
        groups.setdefault(arm.experiment.dataset, []).append(arm)
    return list(groups.values())


def _join(experiment: Experiment, workdir: epath.Path, arms: Sequence[Study]) -> Study:
    """One study of the cells of all these arms, each once."""

    def union(name: str) -> list:
        return list(
            dict.fromkeys(cell for arm in arms for cell in getattr(arm.parts, name))
        )

    parts = Parts(union("evidence"), union("held_out"), union("targets"))
    return Study(experiment, arms[0].dataset, parts, workdir)


def _print_plan(
    experiment: Experiment,
    workdir: epath.Path,
    arms: Sequence[Study],
    machines: aot.Machines | None,
) -> None:
    """The dry run, a plan for each dataset."""
    for group in _by_dataset(arms):
        table = Table(workdir / "measurements.csv")  # which an arm's folder has
        for arm in group:
            table.rows.update(Table(arm.workdir / "measurements.csv").rows)
            dry_run.print_recipe(arm)
        joined = _join(experiment, workdir, group)._replace(table=table)
        dry_run.print_plan(joined, machines)


def _compare(
    workdir: epath.Path,
    arms: Sequence[Study],
    fits: Mapping[str, Fit],
    gates: Sequence[ArmGate],
) -> Comparison | None:
    """The fits beside each other, at the targets that all arms have.

    None, and a sentence, where they cannot be compared: each arm has its report.

    Raises:
        UserError: so, and a gate was to be judged.
    """
    questions = arms[0].experiment.questions
    sizes = [
        {(one.params, one.data) for one in targets.ask(arm) if one.kind == "target"}
        | {(one.params, one.data) for one in targets.ask_plain(arm, fits[arm.arm].cost)}
        for arm in arms
    ]
    try:
        return compare(
            fits,
            baseline=arms[0].arm,
            budgets=[questions.budget] if questions.budget else [],
            targets=sorted(set.intersection(*sizes)),
            values=[questions.target_value] if questions.target_value else [],
            seed=arms[0].experiment.fit.seed,
        )
    except UserError as error:
        if gates:
            raise
        warn(workdir, f"the arms are not compared: {error}")
        return None


def _report(
    workdir: epath.Path,
    title: str,
    found: Comparison,
    scored: Sequence[Scored],
    with_page: bool,
) -> None:
    """Writes and prints the comparison, and how the order did."""
    outcomes = tuple(one.told for one in scored)
    found = dataclasses.replace(found, outcomes=outcomes)
    folders = {group.name: group.name for group in found.groups}
    comparing.write(found, workdir, folders, title, with_page)

"""`scalepred-fit`: the right half alone, on a table of one's own."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
import os
import pathlib
import sys
from typing import TYPE_CHECKING

from scalepred.commands import fit_flags as flags
from scalepred.commands.fit_flags import FLAGS, USAGE
from scalepred.config import UserError
from scalepred.report.figure_process import FigureProcess
from scalepred.runtime import command, preemption, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etils import epath

    from scalepred.comparing import Case
    from scalepred.config import Fitting, Questions
    from scalepred.fitting.fit import Fit
    from scalepred.forecasting.gate import ArmGate, Gate
    from scalepred.runtime.command import CommandResult
    from scalepred.table.surface import Surface

# Laws of one size that are to follow the FLOPs of a ladder.
_ALONG_COMPUTE = "_compute"


def _main(figure_process: FigureProcess | None = None) -> int:
    return command.run_and_print(
        flags.JSON.value, functools.partial(_run, figure_process)
    )


def _run(figure_process: FigureProcess | None) -> CommandResult:
    """Reads the flags, and does what they ask for."""
    from scalepred import config
    from scalepred.forecasting.gate import is_of_arms, parse_arm_gate, parse_gate

    for flag in (
        flags.RANDOM_GUESS,
        flags.COMPUTE_RATIO,
        flags.MAX_PARAMS,
        flags.MAX_DATA,
    ):
        if flag.value is not None:
            flags.check(flag.name, flag.value > 0, flag.value, "a positive number")
    for flag in (
        flags.TARGET_VALUE,
        flags.AT_PARAMS,
        flags.AT_DATA,
        flags.AT_EPOCHS,
        flags.BUDGET,
    ):
        flags.check(flag.name, flag.value >= 0, flag.value, "a positive number")
    for flag in (flags.RESAMPLES, flags.REFIT_POINTS):
        flags.check(flag.name, flag.value >= 0, flag.value, "0 or more")
    if (flags.AT_PARAMS.value or flags.AT_DATA.value) and not flags.TARGET_VALUE.value:
        raise UserError("--at_params, --at_data: of no use without --target_value")
    if flags.AT_EPOCHS.value and not (flags.TARGET_VALUE.value or flags.BUDGET.value):
        raise UserError("--at_epochs: of no use without --target_value or --budget")
    targets = [flags.parse_target(text) for text in flags.TARGETS.value]
    of_arms = [parse_arm_gate(t) for t in flags.GATES.value if is_of_arms(t)]
    gates = [parse_gate(text) for text in flags.GATES.value if not is_of_arms(text)]
    is_comparing = len(_tables()) > 1 or bool(flags.BY.value)
    if of_arms and not is_comparing:
        raise UserError(
            f"--gate={of_arms[0].text}: asks two groups; give --by=COLUMN, or a second "
            "--measurements"
        )
    _check_plan(targets)
    questions = config.Questions(
        target_value=flags.TARGET_VALUE.value,
        at_params=flags.AT_PARAMS.value,
        at_data=flags.AT_DATA.value,
        at_epochs=flags.AT_EPOCHS.value,
        budget=flags.BUDGET.value,
    )
    if flags.SCORE.value is not None:
        return _score()
    if not flags.WORKDIR.value:
        FLAGS["workdir"].value = _default_workdir()
    if not _tables():
        return _ask_saved(questions, targets, gates)
    if is_comparing:
        return _compare(questions, targets, gates, of_arms)
    return _fit_tables(questions, targets, gates, figure_process)


def _tables() -> list[str]:
    return list(flags.MEASUREMENTS.value or ())


def _default_workdir() -> str:
    """Where the results of one table go unless it is said.

    Raises:
        UserError: there is not one table.
    """
    if len(_tables()) != 1:
        raise UserError("--workdir: missing; give a folder for the results")
    return f"runs/{pathlib.PurePath(_tables()[0]).stem or 'table'}"


def _fit_tables(
    questions: Questions,
    targets: list[tuple[float, ...]],
    gates: list[Gate],
    figure_process: FigureProcess | None,
) -> CommandResult:
    """Fits the one table, and writes what was found."""
    workdir = _open_workdir()
    fitting, is_ladder = _settings()
    asked = questions, targets, is_ladder
    if flags.BASELINE.value:
        raise UserError(
            f"--baseline={flags.BASELINE.value}: of no use for one table; give "
            "--by=COLUMN, or a second --measurements"
        )
    case = _read_case(asked, _tables()[0])
    return _fit_one(case, workdir, fitting, gates, figure_process)


def _open_workdir() -> epath.Path:
    """The folder of the results, which holds none of the tables."""
    from scalepred.runtime.files import open_path
    from scalepred.runtime.workdir import check_input

    workdir = open_path("--workdir", str(flags.WORKDIR.value))
    for table in _tables():
        check_input(table, workdir)
    return workdir


def _settings() -> tuple[Fitting, bool]:
    """Of a fit, and whether the law is to follow FLOPs alone."""
    from scalepred import config, validation
    from scalepred.fitting.estimate import counts_of

    law = str(flags.LAW.value)
    is_ladder = law.endswith(_ALONG_COMPUTE)
    law = law.removesuffix(_ALONG_COMPUTE)
    fitting = config.Fitting(
        law=law,
        residual=flags.RESIDUAL.value,
        above=flags.ABOVE.value,
        resamples=flags.RESAMPLES.value,
        seed=flags.SEED.value,
        refit_points=flags.REFIT_POINTS.value,
    )
    validation.check_residual(fitting, "--")
    if flags.DATA_COUNTS.value != "auto" and not counts_of(law):
        raise UserError(
            f"--data_counts={flags.DATA_COUNTS.value}: of no use with "
            f"--law={flags.LAW.value}, which knows nothing of epochs; choose "
            "--law=auto or --law=data_constrained"
        )
    return fitting, is_ladder


def _read_case(
    asked: tuple[Questions, list[tuple[float, ...]], bool],
    path: str,
    where: Sequence[str] = (),
) -> Case:
    """A table as it is going to be fitted, and what is asked of it.

    Args:
        asked: questions, targets, and whether the law is to follow FLOPs alone.
        path: of the table.
        where: COLUMN=VALUE that rows must have, beside those of --where.
    """
    from scalepred.comparing import Case
    from scalepred.fitting.estimate import counts_of

    questions, targets, is_ladder = asked
    steps.begin(f"reading {path}")
    law = str(flags.LAW.value).removesuffix(_ALONG_COMPUTE)
    counts = None if is_ladder else counts_of(law, flags.DATA_COUNTS.value)
    surface = _read_table(path, counts, where)
    questions = _convert(questions, surface)
    if is_ladder:
        from scalepred.table.ladder import along_compute, place_on_ladder

        targets = [place_on_ladder(surface, target) for target in targets]
        surface = along_compute(surface)
    losses = None if is_ladder or flags.BY.value else _read_losses(path, surface)
    return Case(surface, _fit_region(surface), questions, targets, losses)


def _compare(
    questions: Questions,
    targets: list[tuple[float, ...]],
    gates: list[Gate],
    of_arms: list[ArmGate],
) -> CommandResult:
    """Fits several tables, or the groups of one, and sets them beside each other."""
    from scalepred import comparing
    from scalepred.forecasting.gate import check_arms, judge_arms
    from scalepred.report import machine

    is_through = flags.THROUGH.value not in ("", "auto", "none")
    for name, is_asked in (
        ("gate", gates), ("plan", flags.PLAN.value), ("through", is_through)
    ):  # fmt: skip
        if is_asked:
            raise UserError(
                f"--{name}: is asked of one fit; leave it out, and ask the fit of "
                "a group in its own folder"
            )
    workdir = _open_workdir()
    fitting, is_ladder = _settings()
    read = functools.partial(_read_case, (questions, targets, is_ladder))
    cases, said = comparing.read_groups(_tables(), flags.BY.value, read)
    check_arms(cases, of_arms)
    record = {
        "runs": {"measurements": _tables(), "by": flags.BY.value},
        "settings": FLAGS.flag_values_dict(),
    }
    asked = comparing.Asked(fitting, flags.BASELINE.value, flags.TITLE.value)
    found = comparing.compare_tables(cases, workdir, record, asked, said)
    fits = {group.name: group.fit for group in found.groups}
    verdicts = judge_arms(fits, of_arms, fitting.seed)
    return machine.make_comparison_result(found, verdicts)


def _fit_one(
    case: Case,
    workdir: epath.Path,
    fitting: Fitting,
    gates: list[Gate],
    figure_process: FigureProcess | None,
) -> CommandResult:
    """Fits the table, and writes what was found."""
    from scalepred import analysis
    from scalepred.report import console, machine

    table = _tables()[0]
    found, verdicts = analysis.fit_table(
        case.surface,
        workdir,
        {"runs": {"measurements": table}, "settings": FLAGS.flag_values_dict()},
        case.in_fit,
        fitting,
        case.questions,
        case.targets,
        gates,
        figure_process,
        title=flags.TITLE.value,
        table=table,
        losses=case.losses,
        is_through=flags.THROUGH.value != "auto",
    )
    report = str(workdir / "report.html")
    console.print_answers(found, verbose=flags.VERBOSE.value, report=report)
    said = machine.describe_answers(found)
    result = machine.make_command_result(found.forecast, (), verdicts, said)
    return _with_plan(result, found.fit, case.targets)


def _convert(questions: Questions, surface: Surface) -> Questions:
    """A wanted value in what is fitted, where the table holds something else.

    Raises:
        UserError: no model can reach it.
    """
    conversion, wanted = surface.conversion, questions.target_value
    if conversion is None or not wanted:
        return questions
    value = conversion.apply_wanted(wanted)
    if not value > 0:
        raise UserError(
            f"--target_value={wanted:g}: no such value can be reached; "
            f"{conversion.note}"
        )
    return dataclasses.replace(questions, target_value=value)


def _read_table(
    path: str, data_counts: str | None, where: Sequence[str] = ()
) -> Surface:
    from scalepred.table.naming import parse_columns
    from scalepred.table.surface import Surface

    surface = Surface.from_csv(
        path,
        metric=flags.METRIC.value,
        task=flags.TASK.value,
        random_guess=flags.RANDOM_GUESS.value,
        data_counts=data_counts,
        columns=parse_columns(flags.COLUMNS.value),
        decimal=flags.DECIMAL.value,
        where=[*flags.WHERE.value, *where],
    )
    if not flags.DATA_UNIT.value:
        return surface
    return dataclasses.replace(surface, data_unit=flags.DATA_UNIT.value)


def _read_losses(path: str, surface: Surface) -> Surface | None:
    """The losses beside the errors of a task, if they are to be followed."""
    from scalepred.table.losses import read_losses
    from scalepred.table.naming import parse_columns

    epochs = None if surface.epochs is None else flags.DATA_COUNTS.value
    return read_losses(
        path,
        surface,
        flags.THROUGH.value,
        parse_columns(flags.COLUMNS.value),
        task=flags.TASK.value,
        data_counts=epochs,
        decimal=flags.DECIMAL.value,
        where=flags.WHERE.value,
    )


# What only fitting needs; the fit that is asked has it already.
_OF_FITTING = (
    flags.LAW, flags.RESIDUAL, flags.ABOVE, flags.METRIC, flags.TASK,
    flags.RANDOM_GUESS, flags.COMPUTE_RATIO, flags.MAX_PARAMS, flags.MAX_DATA,
    flags.DATA_COUNTS, flags.RESAMPLES, flags.SEED, flags.COLUMNS, flags.DECIMAL,
    flags.WHERE, flags.REFIT_POINTS, flags.DATA_UNIT, flags.TITLE, flags.BY,
    flags.BASELINE, flags.THROUGH,
)  # fmt: skip


def _ask_saved(
    questions: Questions, targets: list[tuple[float, ...]], gates: list[Gate]
) -> CommandResult:
    """Answers from the fit that the workdir keeps."""
    from scalepred import analysis
    from scalepred.fitting.fit import load
    from scalepred.report import machine
    from scalepred.runtime.files import jsonable, open_path

    for flag in _OF_FITTING:
        if flag.present:
            raise UserError(
                f"--{flag.name}={flag.value}: the fit in {flags.WORKDIR.value} is "
                "asked as it is; add --measurements to fit anew"
            )
    if not (questions.target_value or questions.budget or targets or gates):
        raise UserError(
            "--measurements: missing; give a CSV with params, data, value, or ask the "
            "fit in --workdir something: --budget, --target_value, --target or --gate"
        )
    path = open_path("--workdir", str(flags.WORKDIR.value)) / "fit.npz"
    if not path.exists():
        raise UserError(
            f"--workdir={flags.WORKDIR.value}: keeps no fit; add --measurements to "
            "make one"
        )
    steps.begin("answering from the fit that is kept")
    fit = load(path)
    answers, verdicts, said = analysis.ask_saved(fit, questions, targets, gates)
    record = {"targets": jsonable(said)}
    record["answers"] = machine.record_answers(answers, fit.surface)
    result = machine.make_command_result(None, (), verdicts, record)
    return _with_plan(result, fit, targets)


def _check_plan(targets: list[tuple[float, ...]]) -> None:
    """A plan needs one target, a budget and a cost that a table can tell."""
    if not flags.PLAN.value:
        for flag in (flags.COST, flags.UNTIL_WIDTH):
            if flag.present:
                raise UserError(f"--{flag.name}: of no use without --plan")
        return
    if len(targets) != 1 or not flags.BUDGET.value:
        raise UserError(
            "--plan: needs one --target to be surer of, and --budget, what the next "
            "runs together may cost"
        )
    if flags.COST.value not in ("flops", "6mn", "mn"):
        raise UserError(f"--cost={flags.COST.value}: must be one of flops, 6mn, mn")
    width = flags.UNTIL_WIDTH.value
    flags.check("until_width", width >= 0, width, "0 or more")


def _with_plan(
    result: CommandResult, fit: Fit, targets: list[tuple[float, ...]]
) -> CommandResult:
    """Prints the next runs, where they are asked for."""
    if not flags.PLAN.value:
        return result
    from scalepred.fitting.design.costs import cost_model
    from scalepred.report import console

    steps.begin("choosing the next runs")
    cost = (
        None
        if flags.COST.value == "flops"
        else cost_model(flags.COST.value, fit.surface)
    )
    (params, data, *epochs), *_ = targets
    cells = fit.next_cells(
        flags.BUDGET.value,
        (params, data),
        epochs[0] if epochs else None,
        cost=cost,
        until_width=flags.UNTIL_WIDTH.value,
    )
    console.print_plan(cells, fit.surface.data_unit, flags.COST.value)
    plan = [cell._asdict() for cell in cells]
    return result._replace(record={**result.record, "plan": plan})


def _score() -> CommandResult:
    """Sets what was measured beside a sealed forecast."""
    from scalepred import analysis
    from scalepred.forecasting import forecast
    from scalepred.report.machine import make_command_result
    from scalepred.runtime.files import open_path

    if len(_tables()) != 1:
        raise UserError("--score: needs --measurements, one table of what was measured")
    told = forecast.read(open_path("--score", str(flags.SCORE.value)))
    with_epochs = any(one["epochs"] is not None for one in told.targets)
    counts = flags.DATA_COUNTS.value if with_epochs else None
    surface = _read_table(_tables()[0], counts)
    return make_command_result(told, analysis.score_table(told, surface))


def _fit_region(surface: Surface):
    from scalepred.fitting.region import fit_region
    from scalepred.table import numbers

    ratio = flags.COMPUTE_RATIO.value
    if ratio is not None and (flags.MAX_PARAMS.value or flags.MAX_DATA.value):
        raise UserError(
            f"--fit_max_compute_ratio={ratio:g}: leave it out, or leave out "
            "--fit_max_params and --fit_max_data; one rule draws the fit region"
        )
    smallest = float(surface.work.max() / surface.work.min())
    if ratio is not None and ratio > smallest:
        raise UserError(
            f"--fit_max_compute_ratio={numbers.write_flops(ratio)}: the smallest run "
            f"takes 1/{numbers.write(smallest)} of the largest one's compute, so none "
            "is fitted; give a smaller number"
        )
    return fit_region(
        surface,
        max_params=flags.MAX_PARAMS.value or math.inf,
        max_data=flags.MAX_DATA.value or math.inf,
        max_compute=surface.work.max() / ratio if ratio else math.inf,
    )


def main() -> None:
    """Entry point of the console script."""
    preemption.die_silently()  # while what takes seconds is imported
    sys.path.append(os.getcwd())  # for a law of one's own
    os.environ["JAX_PLATFORMS"] = "cpu"  # laws are fitted there, beside any other
    # Importing and tracing leave little garbage; looking for it takes a tenth longer.
    gc.set_threshold(50_000, 20, 50)
    figure_process = FigureProcess() if _is_drawing(sys.argv[1:]) else None
    body = functools.partial(_main, figure_process)
    command.run(
        "scalepred-fit",
        USAGE,
        FLAGS,
        body,
        positional="measurements",
        keeps_rows=False,
    )


def _is_drawing(arguments: list[str]) -> bool:
    """Whether there is a table to fit: then figures will be drawn."""
    names = {word.partition("=")[0] for word in arguments}
    has_table = "--measurements" in names or not all(
        word.startswith("-") for word in arguments
    )
    return has_table and not names & {"--score", "--version", *command.HELP}


if __name__ == "__main__":
    main()

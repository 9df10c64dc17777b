"""`scalepred-fit`: the right half alone, on a table of one's own."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
import os
import sys
from typing import TYPE_CHECKING

from absl import flags

from scalepred.config import UserError
from scalepred.report.figure_process import FigureProcess
from scalepred.runtime import preemption

if TYPE_CHECKING:
    from scalepred.config import Questions
    from scalepred.fitting.fit import Fit
    from scalepred.forecasting.gate import Gate
    from scalepred.runtime.command import CommandResult
    from scalepred.table.surface import Surface

_USAGE = """\
scalepred-fit --measurements=points.csv --workdir=DIR
    [--columns=params=N,data=D,value=loss] [--where=COLUMN=VALUE ...] [--decimal=,]
    [--law=auto] [--residual=relative] [--above=1] [--metric=error|loss]
    [--task=NAME] [--random_guess=0.9] [--title=TEXT]
    [--fit_max_compute_ratio=50 | --fit_max_params=1e8 --fit_max_data=1e9]
    [--target=params=1e9,data=2e10[,epochs=4] ...] [--data_counts=auto|unique|seen]
    [--target_value=0.05 [--at_params=1e9] [--at_data=2e10]] [--budget=1e21]
    [--at_epochs=4] [--gate="value<=0.05,params=1e9,data=2e10,probability=0.8" ...]
    [--refit_points=3000] [--json]
    [--plan --target=... --budget=1e20 [--cost=flops|6mn|mn] [--until_width=0.05]]
scalepred-fit --workdir=DIR [--target=...] [--target_value=...] [--budget=...]
    [--gate=...] [--json]
scalepred-fit --measurements=new.csv --score=DIR/forecasts/DIGEST.json [--json]

Fits a law to a table (params, data, value), predicts what was held out, forecasts the
targets (DIR/forecasts), answers, and writes DIR/report.html. Without --measurements the
fit saved in DIR answers, and nothing is fitted or written. With --score the rows of a
table that a forecast speaks of are set beside it.

  --measurements  table with columns params, data, value, or of the usual names (N, D,
                  loss, tokens, accuracy, ...); optional flops, seed, metric, task,
                  weight, status. CSV of any dialect, JSON, JSON lines, parquet, a
                  trainer's history. Rows with the same params and data are seeds, or,
                  where a rate or another setting differs, tries of which the best
                  counts. Laws of repeated data also read epochs, unique_data,
                  unique_tokens.
  --columns       which column is which: params=N,data=D,value=loss
  --decimal       the decimal mark of the table, "." or ",", where it is not clear
  --where         COLUMN=VALUE that rows must have; may be given more than once
  --law           auto (default: one flexible law, weighed by back-tests), rosenfeld,
                  rosenfeld_fitted_guess, rosenfeld_two_plateaus, chinchilla, kaplan,
                  coupled, data_constrained (repeated data); power, m4, bnsl along data,
                  power_params, ... along model size; power_compute, ... along FLOPs,
                  for ladders; or package.module.law for one's own
  --residual      what is minimised, for all laws but auto: relative (default), log,
                  huber or robust, the last two with the width from which they are
                  linear, as in huber:1e-3 (in ln of the value); little pulled by
                  outliers
  --above         factor on it for points above the law; below 1: badly tuned runs,
                  which lie above, pull less (default 1)
  --random_guess  error (or loss) of a model that has learnt nothing; fitted if absent
  --title         of the report; the task, or the name of the table, unless said
  --fit_max_...   fit region; everything else is held out and scored
  --target        sizes to forecast; may be given more than once
  --data_counts   for laws of repeated data, what the column data counts: unique (each
                  was seen `epochs` times), seen (repeats count), or auto (default):
                  seen where there is a column of unique data; it says which
  --target_value  error (or loss) wanted: how much data, which model, at what cost
  --budget        training FLOPs of one run: which split of model and data; with
                  --target_value also how likely it suffices
  --at_epochs     passes over the data in those questions, for laws of repeated data
  --plan          the runs to do next, to be surer of the target for the budget, with
                  what each costs and by how much it narrows the interval
  --cost          what the budget of --plan counts (default: FLOPs)
  --until_width   relative half-width of the 90% interval that is enough for --plan
  --gate          ends with status 3 unless one run reaches the value with at least the
                  probability, at these sizes or (budget=1e21) at the best for a budget;
                  may be given more than once
  --score         a sealed forecast to hold the measurements against
  --refit_points  points of a larger table that back-tests, folds and corners refit
                  (default 3000, a random sample; 0: all); the law is fitted to all
  --json          prints the forecast as one JSON object on stdout, all else on stderr

Exit status: 0 if everything asked for was done, 3 if a gate was not passed, 2 for a
mistake in what was asked."""

# Laws of one size that are to follow the FLOPs of a ladder.
_ALONG_COMPUTE = "_compute"

# Flags of this command alone; the other one has a --workdir too.
FLAGS = flags.FlagValues()


def _string(name: str, default: str | None = None) -> flags.FlagHolder:
    return flags.DEFINE_string(name, default, name, flag_values=FLAGS)


class _NumberParser(flags.ArgumentParser):
    """Numbers as people write them: 70B, 1.4T, 5%."""

    def parse(self, argument: str | float) -> float:
        from scalepred.table import numbers

        if isinstance(argument, int | float):
            return float(argument)
        try:
            if argument.strip().lower() in ("nan", "inf", "-inf"):
                return float(argument)
            number = numbers.parse(argument)
        except ValueError as error:
            raise ValueError(f"it is {error}; write 1e9, 1.4T or 5%") from None
        if math.isnan(number):
            raise ValueError("it is no number; write 1e9, 1.4T or 5%")
        return number

    def flag_type(self) -> str:
        return "float"


def _float(name: str, default: float | None = None) -> flags.FlagHolder:
    return flags.DEFINE(
        _NumberParser(), name, default, name, flag_values=FLAGS,
        serializer=flags.ArgumentSerializer(),
    )  # fmt: skip


_MEASUREMENTS = _string("measurements")
_COLUMNS = _string("columns", "")
_DECIMAL = flags.DEFINE_enum(
    "decimal", "", ["", ".", ","], "decimal", flag_values=FLAGS
)
_WHERE = flags.DEFINE_multi_string("where", [], "where", flag_values=FLAGS)
_WORKDIR = _string("workdir")
_LAW = _string("law", "auto")
_RESIDUAL = _string("residual", "relative")
_ABOVE = _float("above", 1.0)
_METRIC = _string("metric")
_TASK = _string("task")
_TITLE = _string("title", "")
_RANDOM_GUESS = _float("random_guess")
_COMPUTE_RATIO = _float("fit_max_compute_ratio")
_MAX_PARAMS = _float("fit_max_params")
_MAX_DATA = _float("fit_max_data")
_TARGETS = flags.DEFINE_multi_string("target", [], "target", flag_values=FLAGS)
_TARGET_VALUE = _float("target_value", 0.0)
_AT_PARAMS = _float("at_params", 0.0)
_AT_DATA = _float("at_data", 0.0)
_AT_EPOCHS = _float("at_epochs", 0.0)
_BUDGET = _float("budget", 0.0)
_DATA_COUNTS = _string("data_counts", "auto")
_GATES = flags.DEFINE_multi_string("gate", [], "gate", flag_values=FLAGS)
_SCORE = _string("score")
_PLAN = flags.DEFINE_bool("plan", False, "plan", flag_values=FLAGS)
_COST = _string("cost", "flops")
_UNTIL_WIDTH = _float("until_width", 0.0)
_REFIT_POINTS = flags.DEFINE_integer(
    "refit_points", 3000, "refit_points", flag_values=FLAGS
)
_JSON = flags.DEFINE_bool("json", False, "json", flag_values=FLAGS)
_RESAMPLES = flags.DEFINE_integer("resamples", 1000, "resamples", flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "seed", flag_values=FLAGS)


def _main(figure_process: FigureProcess | None = None) -> int:
    from scalepred.runtime import command

    return command.run_and_print(_JSON.value, functools.partial(_run, figure_process))


def _run(figure_process: FigureProcess | None) -> CommandResult:
    """Reads the flags, and does what they ask for."""
    from scalepred import config
    from scalepred.forecasting.gate import parse_gate

    for flag in (_RANDOM_GUESS, _COMPUTE_RATIO, _MAX_PARAMS, _MAX_DATA):
        if flag.value is not None:
            _check(flag.name, flag.value > 0, flag.value, "a positive number")
    for flag in (_TARGET_VALUE, _AT_PARAMS, _AT_DATA, _AT_EPOCHS, _BUDGET):
        _check(flag.name, flag.value >= 0, flag.value, "a positive number")
    for flag in (_RESAMPLES, _REFIT_POINTS):
        _check(flag.name, flag.value >= 0, flag.value, "0 or more")
    if (_AT_PARAMS.value or _AT_DATA.value) and not _TARGET_VALUE.value:
        raise UserError("--at_params, --at_data: of no use without --target_value")
    if _AT_EPOCHS.value and not (_TARGET_VALUE.value or _BUDGET.value):
        raise UserError("--at_epochs: of no use without --target_value or --budget")
    targets = [_parse_target(text) for text in _TARGETS.value]
    gates = [parse_gate(text) for text in _GATES.value]
    _check_plan(targets)
    questions = config.Questions(
        target_value=_TARGET_VALUE.value,
        at_params=_AT_PARAMS.value,
        at_data=_AT_DATA.value,
        at_epochs=_AT_EPOCHS.value,
        budget=_BUDGET.value,
    )
    if _SCORE.value is not None:
        return _score()
    if not _WORKDIR.value:
        raise UserError("--workdir: missing; give a folder for the results")
    if _MEASUREMENTS.value is None:
        return _ask_saved(questions, targets, gates)
    return _fit_table(questions, targets, gates, figure_process)


def _fit_table(
    questions: Questions,
    targets: list[tuple[float, ...]],
    gates: list[Gate],
    figure_process: FigureProcess | None,
) -> CommandResult:
    """Fits the table, and writes what was found."""
    from scalepred import analysis, config
    from scalepred.fitting.estimate import knows_epochs
    from scalepred.report.machine import make_command_result
    from scalepred.runtime.files import open_path
    from scalepred.runtime.workdir import check_input

    workdir = open_path("--workdir", str(_WORKDIR.value))
    check_input(str(_MEASUREMENTS.value), workdir)
    law = str(_LAW.value)
    is_ladder = law.endswith(_ALONG_COMPUTE)
    law = law.removesuffix(_ALONG_COMPUTE)
    with_epochs = knows_epochs(law)
    fitting = config.Fitting(
        law=law,
        residual=_RESIDUAL.value,
        above=_ABOVE.value,
        resamples=_RESAMPLES.value,
        seed=_SEED.value,
        refit_points=_REFIT_POINTS.value,
    )
    config.check_residual(fitting, "--")
    if _DATA_COUNTS.value != "auto" and not with_epochs:
        raise UserError(
            f"--data_counts={_DATA_COUNTS.value}: of no use with --law={_LAW.value}, "
            "which knows nothing of epochs; choose --law=data_constrained"
        )
    surface = _read_table(with_epochs)
    questions = _convert(questions, surface)
    if is_ladder:
        from scalepred.table.ladder import along_compute, place_on_ladder

        targets = [place_on_ladder(surface, target) for target in targets]
        surface = along_compute(surface)
    record: dict[str, object] = {
        "runs": {"measurements": _MEASUREMENTS.value},
        "settings": FLAGS.flag_values_dict(),
    }
    found, verdicts = analysis.fit_table(
        surface,
        workdir,
        record,
        _fit_region(surface),
        fitting,
        questions,
        targets,
        gates,
        figure_process,
        title=_TITLE.value,
        table=str(_MEASUREMENTS.value),
    )
    result = make_command_result(found.forecast, (), verdicts, found.answers)
    return _with_plan(result, found.fit, targets)


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


def _read_table(with_epochs: bool) -> Surface:
    from scalepred.table.naming import parse_columns
    from scalepred.table.surface import Surface

    return Surface.from_csv(
        _MEASUREMENTS.value,
        metric=_METRIC.value,
        task=_TASK.value,
        random_guess=_RANDOM_GUESS.value,
        data_counts=_DATA_COUNTS.value if with_epochs else None,
        columns=parse_columns(_COLUMNS.value),
        decimal=_DECIMAL.value,
        where=_WHERE.value,
    )


# What only fitting needs; the fit that is asked has it already.
_OF_FITTING = (
    _LAW, _RESIDUAL, _ABOVE, _METRIC, _TASK, _RANDOM_GUESS, _COMPUTE_RATIO,
    _MAX_PARAMS, _MAX_DATA, _DATA_COUNTS, _RESAMPLES, _SEED, _COLUMNS,
    _DECIMAL, _WHERE, _REFIT_POINTS,
)  # fmt: skip


def _ask_saved(
    questions: Questions, targets: list[tuple[float, ...]], gates: list[Gate]
) -> CommandResult:
    """Answers from the fit that the workdir keeps."""
    from scalepred import analysis
    from scalepred.fitting.fit import load
    from scalepred.report.machine import make_command_result
    from scalepred.runtime.files import jsonable, open_path

    for flag in _OF_FITTING:
        if flag.present:
            raise UserError(
                f"--{flag.name}={flag.value}: the fit in {_WORKDIR.value} is asked as "
                "it is; add --measurements to fit anew"
            )
    if not (questions.target_value or questions.budget or targets or gates):
        raise UserError(
            "--measurements: missing; give a CSV with params, data, value, or ask the "
            "fit in --workdir something: --budget, --target_value, --target or --gate"
        )
    path = open_path("--workdir", str(_WORKDIR.value)) / "fit.npz"
    if not path.exists():
        raise UserError(
            f"--workdir={_WORKDIR.value}: keeps no fit; add --measurements to make one"
        )
    fit = load(path)
    answers, verdicts, said = analysis.ask_saved(fit, questions, targets, gates)
    result = make_command_result(None, (), verdicts, answers)
    result = result._replace(record={**result.record, "targets": jsonable(said)})
    return _with_plan(result, fit, targets)


def _check_plan(targets: list[tuple[float, ...]]) -> None:
    """A plan needs one target, a budget and a cost that a table can tell."""
    if not _PLAN.value:
        for flag in (_COST, _UNTIL_WIDTH):
            if flag.present:
                raise UserError(f"--{flag.name}: of no use without --plan")
        return
    if len(targets) != 1 or not _BUDGET.value:
        raise UserError(
            "--plan: needs one --target to be surer of, and --budget, what the next "
            "runs together may cost"
        )
    if _COST.value not in ("flops", "6mn", "mn"):
        raise UserError(f"--cost={_COST.value}: must be one of flops, 6mn, mn")
    width = _UNTIL_WIDTH.value
    _check("until_width", width >= 0, width, "0 or more")


def _with_plan(
    result: CommandResult, fit: Fit, targets: list[tuple[float, ...]]
) -> CommandResult:
    """Prints the next runs, where they are asked for."""
    if not _PLAN.value:
        return result
    from scalepred.fitting.design.costs import cost_model
    from scalepred.report import console

    cost = None if _COST.value == "flops" else cost_model(_COST.value, fit.surface)
    (params, data, *epochs), *_ = targets
    cells = fit.next_cells(
        _BUDGET.value,
        (params, data),
        epochs[0] if epochs else None,
        cost=cost,
        until_width=_UNTIL_WIDTH.value,
    )
    console.print_plan(cells, fit.surface.data_unit, _COST.value)
    plan = [cell._asdict() for cell in cells]
    return result._replace(record={**result.record, "plan": plan})


def _score() -> CommandResult:
    """Sets what was measured beside a sealed forecast."""
    from scalepred import analysis
    from scalepred.forecasting import forecast
    from scalepred.report.machine import make_command_result
    from scalepred.runtime.files import open_path

    if not _MEASUREMENTS.value:
        raise UserError("--score: needs --measurements, the table of what was measured")
    told = forecast.read(open_path("--score", str(_SCORE.value)))
    surface = _read_table(any(one["epochs"] is not None for one in told.targets))
    return make_command_result(told, analysis.score_table(told, surface))


def _fit_region(surface: Surface):
    from scalepred.fitting.region import fit_region

    ratio = _COMPUTE_RATIO.value
    if ratio is not None and (_MAX_PARAMS.value or _MAX_DATA.value):
        raise UserError(
            f"--fit_max_compute_ratio={ratio:g}: leave it out, or leave out "
            "--fit_max_params and --fit_max_data; one rule draws the fit region"
        )
    return fit_region(
        surface,
        max_params=_MAX_PARAMS.value or math.inf,
        max_data=_MAX_DATA.value or math.inf,
        max_compute=surface.work.max() / ratio if ratio else math.inf,
    )


def _parse_target(text: str) -> tuple[float, ...]:
    """Sizes of a target; NaN for one that it leaves open."""
    from scalepred.table import numbers

    sizes: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            sizes[name.strip()] = numbers.parse(number)
        except ValueError:
            sizes = {}
            break
    names = {"params", "data", "epochs"}
    if not sizes or not set(sizes) <= names or set(sizes) == {"epochs"}:
        raise UserError(
            f"--target={text}: must look like params=70B,data=1.4T or "
            "params=1e9,data=2e10, with ,epochs=4 for laws of repeated data"
        )
    for name, size in sizes.items():
        if not (math.isfinite(size) and size > 0):
            raise UserError(
                f"--target={text}: target {name}={size:g}: must be a positive number"
            )
    target = sizes.get("params", math.nan), sizes.get("data", math.nan)
    return (*target, sizes["epochs"]) if "epochs" in sizes else target


def _check(name: str, good: bool, value: float, accepted: str) -> None:
    from scalepred.table.points import LARGEST, MOST_FLOPS, SMALLEST

    # NaN compares false and so is refused as well.
    if not good or math.isinf(value):
        raise UserError(f"--{name}={value:g}: must be {accepted}")
    largest = MOST_FLOPS if name == "budget" else LARGEST
    if value and not SMALLEST <= value <= largest:
        raise UserError(
            f"--{name}={value:g}: must be between {SMALLEST:g} and {largest:g}"
        )


def main() -> None:
    """Entry point of the console script."""
    preemption.die_silently()  # while what takes seconds is imported
    sys.path.append(os.getcwd())  # for a law of one's own
    os.environ["JAX_PLATFORMS"] = "cpu"  # laws are fitted there, beside any other
    # Importing and tracing leave little garbage; looking for it takes a tenth longer.
    gc.set_threshold(50_000, 20, 50)
    flags_given = {word.partition("=")[0] for word in sys.argv}
    is_drawing = "--measurements" in flags_given and "--score" not in flags_given
    figure_process = FigureProcess() if is_drawing else None
    # Only now: importing jax takes seconds, in which the other process gets ready.
    from scalepred.runtime import command

    command.run(
        "scalepred-fit", _USAGE, FLAGS, functools.partial(_main, figure_process)
    )


if __name__ == "__main__":
    main()

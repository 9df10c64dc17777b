"""`scalepred`: trains evidence, forecasts the rest, then trains and scores it."""

from __future__ import annotations

import itertools
import math
import os
import pathlib
import sys
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from scalepred.config import Experiment, UserError
from scalepred.runtime import command, preemption, steps

if TYPE_CHECKING:  # what takes seconds is imported when the flags have been read
    from collections.abc import Sequence

    from etils.epath import Path

    from scalepred.forecasting.gate import ArmGate
    from scalepred.forecasting.loop import Goal

_USAGE = """\
scalepred --config=experiments/x.py --workdir=DIR
    [--config.grid.seeds=4 ...] [--stages=train,fit,forecast,verify,report | --verify]
    [--arm="NAME: field=value; ..." --arm="NAME: ..."]
    [--gate="value<=0.05,params=1e6,data=6e4,probability=0.8" ...] [--json]
    [--until_width=0.05 --budget=1e16 [--cost=flops|6mn|mn|seconds|price]]
    [--verbose] [--dry_run [--price_per_hour=2.5] [--topology=v5e:2x4]]
    [--distributed [--coordinator=HOST:PORT --num_processes=2 --process_id=0]]

Trains the evidence (the fit region of the experiment's grid) as far as DIR has no rows
of it, fits it, seals a forecast of the rest of the grid and of the targets in
DIR/forecasts, trains the rest of the grid (and, with --verify, the targets), and writes
DIR/report.html.

  --config      a Python file with get_config() -> scalepred.config.Experiment; it is
                code and is run. Its fields are flags: --config.training.epochs=20,
                --config.grid.widths=(8,16,32), --config.questions.budget=1e9; a field
                that there is not is answered with those that there are
  --arm         a form of the study that is compared with the others, such as
                "muon: training.optimizer=muon; training.learning_rate=0.02"; the first
                is the baseline ("adamw:" changes nothing); may be given more than once
  --workdir     where everything is kept; the same command again goes on from there
  --stages      which of train (the evidence), fit, forecast, verify (train the rest of
                the grid and the targets, score the forecast), report to do. Default:
                all, but no target is trained
  --verify      all stages, targets too
  --gate        ends with status 3 unless one run reaches the value with at least the
                probability, at these sizes or (budget=1e18) at the best for a budget;
                may be given more than once. Of arms:
                "arm=muon better than adamw at params=7e9,data=1e11 probability=0.9"
  --until_width trains of the grid only what narrows the targets' interval most for its
                cost, round by round (rounds.csv), until its half-width is that share
                of the value or the --budget is spent; 0: spend it all
  --budget      for all runs together, counted as --cost says (default: FLOPs)
  --verbose     prints notes, weights, costs and what to do about each warning, too
  --json        prints forecast, answers and verdict as one JSON object on stdout, all
                else on stderr
  --version     prints the version
  --dry_run     print cells, programs and lanes, and touch nothing
  --topology    plan and compile for a machine that need not be here: a TPU slice, or a
                file that describes a GPU and how many (h100_sxm.txtpb:8)
  --distributed one of several processes that train together; on a TPU pod and under
                Slurm they find each other, elsewhere the other three flags say how.
                All must see the same DIR

Exit status: 0 if everything asked for was done, 3 if a gate was not passed, 2 for a
mistake in what was asked, 1 if the machine failed, 143 if stopped by SIGTERM: then the
same command goes on."""

# Flags of this command alone; the other one has a --workdir too.
FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment file.", flag_values=FLAGS
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Results.", flag_values=FLAGS)
_ARMS = flags.DEFINE_multi_string("arm", [], "To compare.", flag_values=FLAGS)
_STAGES = flags.DEFINE_list("stages", None, "Stages to do.", flag_values=FLAGS)
_VERIFY = flags.DEFINE_bool("verify", False, "Train the targets.", flag_values=FLAGS)
_GATES = flags.DEFINE_multi_string("gate", [], "Condition.", flag_values=FLAGS)
_UNTIL_WIDTH = flags.DEFINE_float("until_width", None, "Loop.", flag_values=FLAGS)
_BUDGET = flags.DEFINE_float("budget", None, "Of the loop.", flag_values=FLAGS)
_COST = flags.DEFINE_string("cost", "flops", "What it counts.", flag_values=FLAGS)
_PRICE = flags.DEFINE_float("price_per_hour", 0.0, "Of the machine.", flag_values=FLAGS)
_JSON = flags.DEFINE_bool("json", False, "JSON on stdout.", flag_values=FLAGS)
_VERBOSE = flags.DEFINE_bool("verbose", False, "Print all.", flag_values=FLAGS)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan.", flag_values=FLAGS)
_TOPOLOGY = flags.DEFINE_string(
    "topology", "", "Machine to plan for, with --dry_run.", flag_values=FLAGS
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes.", flag_values=FLAGS
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0.", flag_values=FLAGS
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Processes of the job.", flag_values=FLAGS
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Of this process, from 0.", flag_values=FLAGS
)


def _main() -> int:
    return command.run_and_print(_JSON.value, _run)


def _read_experiment() -> Experiment:
    """What --config gives, with the arms of --arms."""
    experiment = _CONFIG.value
    if experiment is None:
        raise UserError("--config: missing; give an experiment, see experiments/")
    if not isinstance(experiment, Experiment):
        try:
            getattr(experiment, "name", None)
        except OSError as error:  # kept by the flag until it is asked for
            raise UserError(
                f"--config: the experiment, or what it reads, cannot be read "
                f"({error.__cause__ or error}); mend that"
            ) from None
        raise UserError(
            f"--config: get_config() gave a {type(experiment).__name__}; it must give "
            "a scalepred.config.Experiment"
        )
    if _ARMS.value:
        from scalepred.arms.make import parse

        experiment.arms = parse(_ARMS.value)
    return experiment


def _run() -> command.CommandResult:
    """Reads the flags, and does what they ask for."""
    from scalepred import study
    from scalepred.forecasting.gate import parse_arm_gate, parse_gate
    from scalepred.report import console, machine
    from scalepred.runtime.files import open_path
    from scalepred.training.devices import use_all_cores

    experiment = _read_experiment()
    if not _WORKDIR.value:
        raise UserError("--workdir: missing; give a folder to keep results in")
    stages = _read_stages()
    gates, arm_gates = [], []
    if experiment.arms:
        arm_gates = [parse_arm_gate(text) for text in _GATES.value]
    else:
        gates = [parse_gate(text) for text in _GATES.value]
    if _GATES.value and _DRY_RUN.value:
        raise UserError("--gate: of no use with --dry_run, which fits nothing")
    goal = _read_goal()
    price = _read_price(goal)
    use_all_cores()
    _join()
    workdir = open_path("--workdir", _WORKDIR.value)
    if experiment.arms:
        return _compare_arms(experiment, workdir, stages, arm_gates)
    outcome = study.run(
        experiment,
        workdir,
        stages,
        _DRY_RUN.value,
        _TOPOLOGY.value,
        gates,
        goal,
        price,
    )
    said = {}
    if outcome.results is not None:
        has_report = stages is None or "report" in stages
        report = str(workdir / "report.html") if has_report else ""
        console.print_answers(outcome.results, verbose=_VERBOSE.value, report=report)
        said = machine.describe_answers(outcome.results)
    return machine.make_command_result(
        outcome.forecast, outcome.verified, outcome.verdicts, said
    )


def _compare_arms(
    experiment: Experiment,
    workdir: Path,
    stages: Sequence[str] | None,
    gates: Sequence[ArmGate],
) -> command.CommandResult:
    """The same for a study with arms."""
    from scalepred.arms import run as arms
    from scalepred.report import machine

    for flag in (_UNTIL_WIDTH, _PRICE):
        if flag.present:
            raise UserError(f"--{flag.name}: of a study without arms; leave it out")
    outcome = arms.run(
        experiment, workdir, stages, _DRY_RUN.value, _TOPOLOGY.value, gates
    )
    said = {}
    if outcome.comparison is not None:
        said["comparison"] = outcome.comparison.to_record()
    said["order"] = [one.describe() for one in outcome.order]
    return machine.make_command_result(None, (), outcome.verdicts, said)


def _read_stages() -> Sequence[str] | None:
    """--stages and --verify; None: all, but no target is trained."""
    from scalepred import study

    stages = _STAGES.value
    if stages is not None:
        unknown = [stage for stage in stages if stage not in study.STAGES]
        if unknown or not stages:
            raise UserError(
                f"--stages={','.join(unknown)}: must be one or more of "
                f"{', '.join(study.STAGES)}"
            )
    if _VERIFY.value:
        return study.STAGES if stages is None else list({*stages, "verify"})
    return stages


def _read_goal() -> Goal | None:
    """--until_width and what belongs to it; None: the loop is not asked for."""
    from scalepred.forecasting import loop

    if _UNTIL_WIDTH.value is not None:
        if _BUDGET.value is None:
            raise UserError("--until_width: needs --budget, what all runs may cost")
        return loop.Goal(_UNTIL_WIDTH.value, _BUDGET.value, _COST.value, _PRICE.value)
    if _BUDGET.value is not None:
        raise UserError(
            "--budget: of no use without --until_width; what a budget buys is asked by "
            "--config.questions.budget"
        )
    if _COST.present:
        raise UserError(f"--cost={_COST.value}: of no use without --until_width")
    return None


def _read_price(goal: Goal | None) -> float:
    """--price_per_hour; 0: not said."""
    price = _PRICE.value
    if not 0 <= price < math.inf:
        raise UserError(f"--price_per_hour={price:g}: must be 0 or more")
    is_paid = _DRY_RUN.value or (goal and goal.cost == "price")
    if _PRICE.present and not is_paid:
        raise UserError(
            f"--price_per_hour={price:g}: of no use without --dry_run or --cost=price"
        )
    return price


def _join() -> None:
    """Joins the other processes of the job, where there are any."""
    from scalepred.runtime import processes

    by_hand = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if _DISTRIBUTED.value or processes.is_slurm_step():
        processes.join(*by_hand)
        if not processes.is_first():
            steps.hide()
    elif by_hand != (None, None, None):
        raise UserError(
            "--coordinator, --num_processes, --process_id: of no use without "
            "--distributed"
        )


def main() -> None:
    """Entry point of the console script."""
    preemption.die_silently()  # while what takes seconds is imported
    command.run("scalepred", _USAGE, FLAGS, _main, _find_config)


def _find_config(argv: list[str]) -> None:
    """Before the flags are read, which loads the config, look whether it is there."""
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            path = value if equals else following
            if "://" in path:
                raise UserError(
                    f"--config={path}: an experiment is read from disk only; copy it "
                    "there"
                )
            path = path.partition(":")[0]
            if not pathlib.Path(path).is_file():
                raise UserError(f"--config={path}: there is no such file")
            # A family, dataset, law or base of studies may stand beside the experiment
            # or in the current folder; a console script sees neither by itself.
            sys.path.append(str(pathlib.Path(path).parent.absolute()))
    sys.path.append(os.getcwd())


if __name__ == "__main__":
    main()

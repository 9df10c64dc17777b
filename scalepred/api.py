"""A study from Python or a notebook: the same as the command, with values for files."""

import contextlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from scalepred import study
from scalepred.arms import run as arms
from scalepred.config import Experiment, UserError
from scalepred.forecasting import loop
from scalepred.forecasting.gate import parse_arm_gate, parse_gate
from scalepred.report import console
from scalepred.runtime.files import open_path
from scalepred.training.devices import use_all_cores


def run(
    experiment: Experiment | str | os.PathLike,
    workdir: str | os.PathLike,
    *,
    stages: Sequence[str] | None = None,
    verify: bool = False,
    gates: Sequence[str] = (),
    until_width: float | None = None,
    budget: float | None = None,
    cost: str = "flops",
    price_per_hour: float = 0.0,
) -> study.Outcome | arms.Compared:
    """Trains, fits, forecasts and reports; what is done already is not done again.

    Progress and answers are printed as by the command. Ctrl-C ends it between two rows
    of the table; the same call goes on from there. Where JAX has not started yet every
    core of a CPU becomes a device; else the devices are what they are.

    Args:
        experiment: a config, or the file of one, "x.py" or "x.py:small".
        workdir: a folder or bucket where everything is kept.
        stages: of train, fit, forecast, verify and report; None: all, but of what was
            forecast only the rest of the grid is trained.
        verify: targets are trained too, and the forecast is scored.
        gates: conditions, as `--gate` has them.
        until_width: of the grid only the cells are trained that make the targets'
            interval as narrow, a relative half-width; 0: spend the whole budget.
        budget: that this may cost, with the runs in the table.
        cost: what the budget counts: flops, 6mn, mn, seconds or price.
        price_per_hour: of the machine, for cost=price.

    Returns:
        Forecast, what was verified, results (fit, predictions, answers) and the table;
        of an experiment with arms all that for each, and the comparison.

    Raises:
        UserError: anything asked for cannot be; nothing was trained then.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment)
    stages = _check_stages(stages, verify)
    goal = _read_goal(until_width, budget, cost, price_per_hour)
    with contextlib.suppress(RuntimeError):  # JAX has started
        use_all_cores()
    folder = open_path("workdir", workdir)
    if experiment.arms:
        if goal:
            loop.check(experiment, goal)  # which says why not
        asked = [parse_arm_gate(text) for text in gates]
        return arms.run(experiment, folder, stages, gates=asked)
    asked = [parse_gate(text) for text in gates]
    outcome = study.run(experiment, folder, stages, gates=asked, goal=goal)
    if outcome.results is not None:
        has_report = stages is None or "report" in stages
        report = str(folder / "report.html") if has_report else ""
        console.print_answers(outcome.results, report=report)
    return outcome


def _check_stages(stages: Sequence[str] | None, verify: bool) -> Sequence[str] | None:
    """The stages asked for, verify among them if that is asked for by itself."""
    unknown = [stage for stage in stages or () if stage not in study.STAGES]
    if unknown or (stages is not None and not stages):
        raise UserError(
            f"stages={[*(stages or ())]}: must be one or more of "
            f"{', '.join(study.STAGES)}"
        )
    return list({*(stages or study.STAGES), "verify"}) if verify else stages


def _read_goal(
    until_width: float | None, budget: float | None, cost: str, price_per_hour: float
) -> loop.Goal | None:
    if until_width is None and budget is None:
        return None
    if until_width is None or budget is None:
        raise UserError(
            f"until_width={until_width}, budget={budget}: give both or neither"
        )
    return loop.Goal(until_width, budget, cost, price_per_hour)


def load_experiment(path: str | os.PathLike) -> Experiment:
    """What `get_config()` of a file gives; what stands beside the file can be found.

    Args:
        path: of the file; after a colon the form of the study, which it is given.

    Raises:
        UserError: there is no such file, or it gives something else.
    """
    name, _, scale = os.fspath(path).partition(":")
    file = pathlib.Path(name)
    if not file.is_file():
        raise UserError(f"experiment={name}: there is no such file")
    for folder in (str(file.parent.absolute()), os.getcwd()):
        if folder not in sys.path:
            sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UserError(f"experiment={name}: is no file of Python")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"experiment={name}: has no function get_config()")
    found = module.get_config(*[scale] * bool(scale))
    if not isinstance(found, Experiment):
        raise UserError(
            f"experiment={name}: get_config() gave a {type(found).__name__}; it must "
            "give a scalepred.config.Experiment"
        )
    return found

"""`scalepred`: trains a grid, fits its cheap corner, predicts the rest."""

import os
import pathlib
import sys

from absl import flags
from etils import epath
from ml_collections import config_flags

from scalepred import command, processes, study
from scalepred.config import Experiment, UserError
from scalepred.training import ensemble

_USAGE = """\
scalepred --config=experiments/x.py --workdir=DIR
    [--config.grid.seeds=4 ...] [--stages=train,fit,report]
    [--dry_run [--topology=v5e:2x4]]
    [--distributed [--coordinator=HOST:PORT --num_processes=2 --process_id=0]]

Trains every cell of the experiment's grid that DIR has no row of, fits the fit
region, predicts the rest and writes DIR/report.html.

  --config      a Python file with get_config() -> scalepred.config.Experiment; it is
                code and is run. Its fields are flags: --config.training.epochs=20
  --workdir     where everything is kept; the same command again goes on from there
  --stages      which of train, fit, report to do (default: all)
  --dry_run     print cells, programs and lanes, and touch nothing
  --topology    plan and compile for a machine that need not be here: a TPU slice, or a
                file that describes a GPU and how many (h100_sxm.txtpb:8)
  --distributed one of several processes that train together; on a TPU pod and under
                Slurm they find each other, elsewhere the other three flags say how.
                All must see the same DIR

Exit status: 0 if everything asked for was done, 2 for a mistake in what was asked, 1 if
the machine failed, 143 if stopped by SIGTERM: then the same command goes on."""

# Flags of this command alone; the other one has a --workdir too.
FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment file.", flag_values=FLAGS
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Results.", flag_values=FLAGS)
_STAGES = flags.DEFINE_list(
    "stages", list(study.STAGES), "Stages to do.", flag_values=FLAGS
)
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


def _main() -> None:
    experiment = _CONFIG.value
    if experiment is None:
        raise UserError("--config: missing; give an experiment, see experiments/")
    if not isinstance(experiment, Experiment):
        raise UserError(
            f"--config: get_config() gave a {type(experiment).__name__}; it must give "
            "a scalepred.config.Experiment"
        )
    if not _WORKDIR.value:
        raise UserError("--workdir: missing; give a folder to keep results in")
    unknown = [stage for stage in _STAGES.value if stage not in study.STAGES]
    if unknown:
        raise UserError(
            f"--stages={unknown[0]}: must be one or more of {', '.join(study.STAGES)}"
        )
    ensemble.use_all_cores()
    by_hand = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if _DISTRIBUTED.value or processes.is_slurm_step():
        processes.join(*by_hand)
    elif by_hand != (None, None, None):
        raise UserError(
            "--coordinator, --num_processes, --process_id: of no use without "
            "--distributed"
        )
    study.run(
        experiment,
        epath.Path(_WORKDIR.value),
        _STAGES.value,
        _DRY_RUN.value,
        _TOPOLOGY.value,
    )


def main() -> None:
    """Entry point of the console script."""
    command.run("scalepred", _USAGE, FLAGS, _main, _find_config)


def _find_config(argv: list[str]) -> None:
    """Before the flags are read, which loads the config, look whether it is there."""
    for argument in argv[1:]:
        if argument.startswith("--config="):
            path = argument.removeprefix("--config=").partition(":")[0]
            if not pathlib.Path(path).is_file():
                raise UserError(f"--config={path}: there is no such file")
            # A family, dataset or law of one's own may stand beside the experiment
            # or in the current folder; a console script sees neither by itself.
            sys.path.append(str(pathlib.Path(path).parent.absolute()))
    sys.path.append(os.getcwd())


if __name__ == "__main__":
    main()

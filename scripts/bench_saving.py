"""What rows, loss curves and checkpoints cost of a study's time.

    .venv/bin/python scripts/bench_saving.py --steps=1500 --checkpoint_minutes=1

trains the grid of experiments/digits_mlp.py, each run for so many steps, and adds up
the time in which training waited for a file. What is written beside the training
counts where the next save waits for it. The last line says what the thread that
plans, dispatches and writes computed, of all that the process did.
"""

import collections
import functools
import runpy
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from etils import epath

from scalepred import config, study
from scalepred.data.loading import load_dataset
from scalepred.table.rows import Table
from scalepred.training.checkpoint import Checkpoints
from scalepred.training.curves import Curves
from scalepred.training.devices import use_all_cores

_STEPS = flags.DEFINE_integer("steps", 1500, "Steps of each run.")
_MINUTES = flags.DEFINE_float("checkpoint_minutes", 1.0, "Between two checkpoints.")
_SEEDS = flags.DEFINE_integer("seeds", 24, "Of the grid.")

_CLOCKS = time.perf_counter, time.thread_time, time.process_time
_waited: collections.defaultdict[str, float] = collections.defaultdict(float)
_worked: collections.defaultdict[str, float] = collections.defaultdict(float)
_calls: collections.Counter[str] = collections.Counter()


def _time(holder: Any, name: str) -> None:
    function = getattr(holder, name)
    told = f"{holder.__name__}.{name}"

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began, worked = time.perf_counter(), time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            _waited[told] += time.perf_counter() - began
            _worked[told] += time.thread_time() - worked
            _calls[told] += 1

    setattr(holder, name, timed)


def main(_: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax tells every step
    use_all_cores()
    file = epath.Path(__file__).parent.parent / "experiments" / "digits_mlp.py"
    experiment: config.Experiment = runpy.run_path(str(file))["get_config"]()
    experiment.training.steps = _STEPS.value
    experiment.grid.seeds = _SEEDS.value
    experiment.packing.checkpoint_minutes = _MINUTES.value
    _time(Table, "append")  # with the merges it makes
    _time(Curves, "append")
    _time(Curves, "merge")
    _time(Checkpoints, "save")  # with the wait for the one before
    _time(Checkpoints, "restore")
    _time(Checkpoints, "clear")  # with the wait for the last one
    with tempfile.TemporaryDirectory() as folder:
        load_dataset(experiment.dataset)  # importing what makes it is no part of this
        began, worked, all_worked = (clock() for clock in _CLOCKS)
        study.run(experiment, epath.Path(folder) / "work", stages=("train",))
        took = time.perf_counter() - began
        worked, all_worked = (
            time.thread_time() - worked,
            time.process_time() - all_worked,
        )
    for name, seconds in _waited.items():
        print(
            f"{name}: {_calls[name]} calls, {seconds:.2f} s, {_worked[name]:.2f} s of "
            "them computing"
        )
    share = sum(_waited.values()) / took
    print(f"waited {sum(_waited.values()):.2f} s of {took:.0f} s: {share:.2%}")
    print(
        f"this thread: {worked:.2f} s of {all_worked:.0f} s: {worked / all_worked:.2%}"
    )


if __name__ == "__main__":
    app.run(main)

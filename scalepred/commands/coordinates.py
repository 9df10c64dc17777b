"""Coordinate check of a family: python -m scalepred.commands.coordinates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from absl import flags

from scalepred.config import Experiment, Grid, Training, UserError
from scalepred.runtime import command, steps
from scalepred.runtime.files import check_picture, open_path, write_whole
from scalepred.validation import validate

if TYPE_CHECKING:  # what takes seconds is imported when the flags have been read
    from collections.abc import Sequence

    from scalepred.coordinates import Check

_USAGE = """\
Trains a family a few steps at several widths (or depths), and prints how the change of
each layer's activations goes with the size: where one learning rate is right for every
size, it does not.

  python -m scalepred.commands.coordinates --dataset=stdlib --widths=16,32,64,128
      --family=transformer --family="transformer(parametrization='mup')"

  --family         as in an experiment; may be given more than once, to compare
  --dataset        likewise (default: digits)
  --widths         two or more; or one, and several depths
  --depths         one (default: 2) or more
  --steps          of training (default: 10); all have one rate, no warm-up, no decay
  --optimizer      as in an experiment (default: adam)
  --learning_rate  default: 0.003
  --batch_size     examples a step (default: 16)
  --seeds          starts and batches, for the intervals (default: 5)
  --out            PNG of the changes over size (default: coordinates.png)

A slope is that of ln(mean |change|) over ln(size) after the last step, with a 90 %
interval over seeds. A layer transfers if all of it lies within 0.15 of 0."""

FLAGS = flags.FlagValues()
_FAMILIES = flags.DEFINE_multi_string("family", ["mlp"], "Family.", flag_values=FLAGS)
_DATASET = flags.DEFINE_string("dataset", "digits", "Dataset.", flag_values=FLAGS)
_WIDTHS = flags.DEFINE_list("widths", None, "Widths.", flag_values=FLAGS)
_DEPTHS = flags.DEFINE_list("depths", ["2"], "Depths.", flag_values=FLAGS)
_STEPS = flags.DEFINE_integer("steps", 10, "Of training.", flag_values=FLAGS)
_OPTIMIZER = flags.DEFINE_string("optimizer", "adam", "Optimiser.", flag_values=FLAGS)
_RATE = flags.DEFINE_float("learning_rate", 0.003, "Rate.", flag_values=FLAGS)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Examples.", flag_values=FLAGS)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Of starts.", flag_values=FLAGS)
_OUT = flags.DEFINE_string("out", "coordinates.png", "Picture.", flag_values=FLAGS)


def _main() -> int:
    if not _WIDTHS.value:
        raise UserError("--widths: missing; give two or more, such as 16,32,64")
    experiments = [_make_experiment(family) for family in _FAMILIES.value]
    for experiment in experiments:
        validate(experiment)
    out = open_path("--out", _OUT.value)
    check_picture("--out", out)
    from scalepred import coordinates
    from scalepred.data.loading import load_dataset
    from scalepred.report import transfer_figures
    from scalepred.training.devices import use_all_cores

    use_all_cores()
    dataset = load_dataset(_DATASET.value)
    checks = []
    for experiment in experiments:
        family = experiment.family
        check = coordinates.check_coordinates(
            experiment,
            dataset,
            lambda size, family=family: steps.begin(f"training {family}, {size}"),
        )
        steps.end()
        checks.append((family, check))
        print("\n".join(format_check(family, check)))
    write_whole(out, transfer_figures.draw_coordinates(checks))
    print(f"{out}: the change of each layer over {checks[0][1].axis}")
    return 0


def _make_experiment(family: str) -> Experiment:
    return Experiment(
        name="coordinates",
        dataset=_DATASET.value,
        family=family,
        grid=Grid(
            widths=_read_sizes("--widths", _WIDTHS.value or []),
            depths=_read_sizes("--depths", _DEPTHS.value or []),
            data_fractions=(1.0,),
            seeds=_SEEDS.value,
        ),
        training=Training(
            optimizer=_OPTIMIZER.value,
            learning_rate=_RATE.value,
            batch_size=_BATCH_SIZE.value,
            steps=_STEPS.value,
            schedule="constant",
        ),
    )


def _read_sizes(flag: str, words: Sequence[str]) -> tuple[int, ...]:
    if not all(word.strip().isdecimal() for word in words):
        raise UserError(f"{flag}={','.join(words)}: must be whole numbers")
    return tuple(int(word) for word in words)


def format_check(family: str, check: Check) -> list[str]:
    """What is printed of one family: a line a layer, then how many transfer."""
    from scalepred.report.format import fixed

    about = f"{check.axis}s {check.sizes[0]} to {check.sizes[-1]}"
    lines = [f"{family}, {about}: change of activations after {check.steps} steps"]
    wide = max(len(moves.layer) for moves in check.moves)
    lines.append(f"  {'layer':{wide}}  slope (90% interval)       verdict")
    verdicts = []
    for moves in check.moves:
        slope = check.find_slope(moves)
        verdicts.append(slope.verdict)
        said = fixed(slope.value)
        if math.isfinite(slope.low):
            said += f" ({fixed(slope.low)} to {fixed(slope.high)})"
        lines.append(f"  {moves.layer:{wide}}  {said:25}  {slope.verdict}")
    moved = verdicts.count("transfers")
    return [*lines, f"{moved} of {len(verdicts)} layers transfer"]


def main() -> None:
    """Entry point."""
    command.run(
        "scalepred.commands.coordinates", _USAGE, FLAGS, _main, keeps_rows=False
    )


if __name__ == "__main__":
    main()

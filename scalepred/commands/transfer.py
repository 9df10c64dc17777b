"""Transfer test of a sweep: python -m scalepred.commands.transfer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from absl import flags

from scalepred.config import UserError
from scalepred.runtime import command
from scalepred.runtime.files import check_picture, open_path, write_whole

if TYPE_CHECKING:  # what takes seconds is imported when the flags have been read
    from scalepred.transfer import Bowl, Group, Interval

_USAGE = """\
Says whether the learning rate that is best at a small width is best at a large one, for
each family and depth of a study that swept rates (grid.learning_rates) over widths.

  python -m scalepred.commands.transfer --workdir=runs/a [--workdir=runs/b]
      [--metric=loss] [--factor=2] [--out=transfer.png]

  --workdir  folder of a study; may be given more than once, to compare
  --metric   of the task (default: the first)
  --factor   the best rate transfers if it stays within this factor (default: 2)
  --out      PNG of loss over rate, a line a width (default: transfer.png)

The bottom at a width is that of a parabola in ln(rate) through the five rates around
the lowest mean. All intervals hold 90 %."""

FLAGS = flags.FlagValues()
_WORKDIRS = flags.DEFINE_multi_string("workdir", [], "Of a study.", flag_values=FLAGS)
_METRIC = flags.DEFINE_string("metric", "", "Of the task.", flag_values=FLAGS)
_FACTOR = flags.DEFINE_float("factor", 2.0, "That is near.", flag_values=FLAGS)
_OUT = flags.DEFINE_string("out", "transfer.png", "Picture.", flag_values=FLAGS)


def _main() -> int:
    if not _WORKDIRS.value:
        raise UserError("--workdir: missing; give a folder")
    if not 1 < _FACTOR.value < math.inf:
        raise UserError(f"--factor={_FACTOR.value:g}: must be above 1")
    from scalepred import transfer
    from scalepred.report import transfer_figures
    from scalepred.table.rows import Table

    out = open_path("--out", _OUT.value)
    check_picture("--out", out)
    rows = []
    for name in _WORKDIRS.value:
        table = open_path("--workdir", name) / "measurements.csv"
        if not table.exists():
            raise UserError(f"--workdir={name}: has no measurements.csv; train first")
        rows += Table(table).rows.values()
    groups = transfer.read_groups(rows, _METRIC.value)
    for group in groups:
        print("\n".join(format_group(group, _FACTOR.value)))
    write_whole(out, transfer_figures.draw_bowls(groups))
    print(f"{out}: {groups[0].metric} over learning rate")
    return 0


def format_group(group: Group, factor: float) -> list[str]:
    """What is printed of a family: a line a width, then what follows."""
    lines = [f"{group.family}, depth {group.depth}"]
    lines += [f"  width {bowl.width}: {_say_bowl(group, bowl)}" for bowl in group.bowls]
    found = group.found
    verdict = group.judge(factor)
    if len(found) < 2:
        return [*lines, "  not clear: fewer than two widths have a best rate"]
    ends = f"from width {found[0].width} to {found[-1].width}"
    lines.append(
        f"  {verdict}: {ends} the best rate changes by a factor of "
        f"{_say(group.find_factor())}, as width to the power "
        f"{_say(group.find_exponent())}"
    )
    excess = group.find_excess()
    if not math.isnan(excess.value):
        lines.append(
            f"  the rate of width {found[0].width} costs width {found[-1].width} "
            f"{_say_share(excess)} of its {group.metric}"
        )
    return lines


def _say_bowl(group: Group, bowl: Bowl) -> str:
    from scalepred.report import format

    value = format.measured(bowl.value, group.metric)
    if bowl.status != "ok":
        return f"no best rate ({bowl.reason}); lowest {value}"
    return f"best rate {_say(bowl.rate)}, {value}"


def _say(found: Interval) -> str:
    from scalepred.report.format import number

    low, high = number(found.low, 2), number(found.high, 2)
    return f"{number(found.value, 2)} ({low} to {high})"


def _say_share(found: Interval) -> str:
    from scalepred.report.format import percent

    ends = [percent(x) if math.isfinite(x) else "more than was tried" for x in found]
    return f"{ends[0]} ({ends[1]} to {ends[2]})"


def main() -> None:
    """Entry point."""
    command.run("scalepred.commands.transfer", _USAGE, FLAGS, _main, keeps_rows=False)


if __name__ == "__main__":
    main()

"""Train, fit, choose what to train next, until the forecast is sure enough.

    first design -> train -> fit -> cells that narrow the target most -> train -> ...

The grid says which cells may be trained; what is chosen of them becomes the evidence.
Every round stands in rounds.csv before it is trained, so that a stopped loop goes on
with the round it was in.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from scalepred.config import Experiment, UserError
from scalepred.fitting.design.cells import Cells, NextCell
from scalepred.fitting.design.rounds import Round, rounds
from scalepred.fitting.fit import Fit
from scalepred.forecasting.evidence import make_surface
from scalepred.forecasting.parts import Size, Study
from scalepred.grid import Cell
from scalepred.runtime.files import write_whole
from scalepred.table.rows import Measurement
from scalepred.table.surface import Surface
from scalepred.training import cost as machine_cost
from scalepred.training.work import count_flops

COSTS = ("flops", "6mn", "mn", "seconds", "price")
_COLUMNS = (
    "number", "num_points", "spent", "value", "lower", "upper", "half_width", "stop",
    "cost", "cells",
)  # fmt: skip


class Goal(NamedTuple):
    """How sure, and for how much.

    Attributes:
        until_width: relative half-width of the targets' 90 % interval (of the mean)
            that is enough; 0: spend all.
        budget: for all runs together, those in the table included.
        cost: what the budget counts: flops, 6mn, mn, seconds or price. Seconds of
            runs that are not trained yet are their FLOPs at the pace of those that
            are, or at what the plan thinks of the machine.
        price_per_hour: of the machine, for `price`.
    """

    until_width: float
    budget: float
    cost: str = "flops"
    price_per_hour: float = 0.0


def check(experiment: Experiment, goal: Goal) -> None:
    """Refuses a loop that cannot be run, before anything is trained.

    Raises:
        UserError: names the flag, its value and what would be accepted.
    """
    if experiment.arms:
        raise UserError("--until_width: of a study without arms; leave it out")
    until_width, budget, cost, price = goal
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(
            f"--budget={budget:g}: must be a positive number, what all runs together "
            "may cost (in the unit of --cost)"
        )
    if not (math.isfinite(until_width) and until_width >= 0):
        raise UserError(
            f"--until_width={until_width:g}: must be the relative half-width of the "
            "90% interval that is enough, such as 0.05; 0 spends the whole budget"
        )
    if cost not in COSTS:
        raise UserError(f"--cost={cost}: must be one of {', '.join(COSTS)}")
    if cost == "price" and not (math.isfinite(price) and price > 0):
        raise UserError(
            f"--price_per_hour={price:g}: must be positive for --cost=price"
        )
    if jax.process_count() > 1:
        raise UserError("--until_width: the loop runs in one process; leave it out")
    asked, settings = experiment.targets, experiment.fit
    if not (asked.widths or asked.params):
        raise UserError(
            "--until_width: there is no target to be surer of; set targets.widths, or "
            "targets.params and targets.data"
        )
    limits = settings.max_params_ratio, settings.max_data_ratio
    if limits != (1.0, 1.0) or settings.max_compute_ratio:
        raise UserError(
            "--until_width: the loop chooses the evidence itself; leave "
            "fit.max_params_ratio, max_data_ratio and max_compute_ratio out"
        )
    if settings.resamples < 2:
        raise UserError(
            f"fit.resamples={settings.resamples}: without draws there is no interval "
            "to narrow; leave it at 1000"
        )


def run(
    study: Study,
    goal: Goal,
    train: Callable[[Sequence[Cell]], object],
    fit: Callable[[Sequence[Cell]], Fit],
) -> Iterator[Round[Fit]]:
    """The rounds of a study, each written down before its cells are trained.

    Args:
        study: the cells of its grid are the candidates; it has a table.
        goal: how sure, and for how much.
        train: trains cells into the table.
        fit: of cells that are in the table.

    Yields:
        Rounds; the last has a reason to stop.

    Raises:
        UserError: the budget buys too little for a fit.
    """
    candidates = _Candidates.of(study, goal)

    def measure(chosen: Sequence[NextCell]) -> Surface:
        train(candidates.cells_of(chosen))
        return make_surface(study, candidates.trained())

    path = study.workdir / "rounds.csv"
    lines = _read(path)
    # A grid may have become narrower since.
    last = [one for one in _cells_of(path, lines) if candidates.has(one)]
    trained = candidates.trained()
    for one in rounds(
        candidates.offer(),
        _target_sizes(study),
        goal.budget,
        goal.until_width,
        measure,
        lambda surface: fit(candidates.trained()),
        surface=make_surface(study, trained) if trained else None,
        unfinished=[c for c in last if not study.are_done(candidates.cells_of([c]))],
        metric=study.metric,
        spent=lambda surface: candidates.spent(),
    ):
        if lines and one.stop and lines[-1]["stop"] == one.stop:
            yield one  # said before
            return
        lines = [*lines, _line(one, len(lines))]
        write_whole(path, _format(lines))
        yield one


class _Candidates(NamedTuple):
    """The cells that the loop chooses among: those of the grid, by what the law sees.

    Attributes:
        study: its rows are what was trained of them.
        goal: how a run is paid for.
        price: of one run of a cell, in the unit of the budget.
        by_size: all seeds and rates of a size, by (params, data).
    """

    study: Study
    goal: Goal
    price: Callable[[Cell], float]
    by_size: dict[tuple[int, int], list[Cell]]

    @staticmethod
    def of(study: Study, goal: Goal) -> "_Candidates":
        by_size: dict[tuple[int, int], list[Cell]] = {}
        for cell in study.parts.evidence:
            size = study.size_of(cell)
            by_size.setdefault((size.params, size.data), []).append(cell)
        return _Candidates(study, goal, _price(study, goal), by_size)

    def offer(self) -> Cells:
        """Sizes and what all runs of each cost."""
        params, data = np.array([*self.by_size], float).T
        costs = [sum(map(self.price, own)) for own in self.by_size.values()]
        return Cells.of(params, data, np.array(costs))

    def has(self, chosen: NextCell) -> bool:
        return (int(chosen.params), int(chosen.data)) in self.by_size

    def cells_of(self, chosen: Sequence[NextCell]) -> list[Cell]:
        """All runs of some sizes."""
        places = [(int(one.params), int(one.data)) for one in chosen]
        return [cell for place in places for cell in self.by_size[place]]

    def trained(self) -> list[Cell]:
        """Cells of the sizes of which every run is in the table."""
        are_done = self.study.are_done
        return [c for own in self.by_size.values() if are_done(own) for c in own]

    def spent(self) -> float:
        """What the runs in the table did cost."""
        rows = self.study.rows
        done = [c for own in self.by_size.values() for c in own if c.cell_id in rows]
        return sum(_spent_on(rows[c.cell_id], c, self.goal, self.price) for c in done)


def with_chosen(study: Study) -> Study:
    """The study, whose evidence is what was trained of the grid."""
    by_size: dict[Size, list[Cell]] = {}
    for cell in study.parts.evidence:
        by_size.setdefault(study.size_of(cell), []).append(cell)
    chosen = [c for own in by_size.values() if study.are_done(own) for c in own]
    if not chosen:
        raise UserError(
            f"{study.workdir}: no size of the grid is trained yet; add train to "
            "--stages"
        )
    return study._replace(parts=study.parts._replace(evidence=chosen))


def _target_sizes(study: Study) -> tuple[np.ndarray, np.ndarray]:
    asked = study.experiment.targets
    cells = [study.size_of(cell)[:2] for cell in study.parts.targets]
    sizes = {*cells, *zip(asked.params, asked.data, strict=True)}
    params, data = np.array(sorted(sizes), float).T
    return params, data


def _price(study: Study, goal: Goal) -> Callable[[Cell], float]:
    """What one run of a cell costs."""
    if goal.cost in ("6mn", "mn"):
        factor = 6.0 if goal.cost == "6mn" else 1.0

        def by_size(cell: Cell) -> float:
            size = study.size_of(cell)
            return factor * size.params * size.data * size.epochs

        return by_size
    if goal.cost == "flops":
        return lambda cell: count_flops(cell, study.dataset)
    rows = study.rows.values()
    seconds = sum(row.seconds for row in rows)
    pace = 1 / machine_cost.describe_machine(jax.devices()[0]).flops_per_second
    if seconds:
        pace = seconds / sum(row.flops for row in rows)
    unit = _of_a_second(goal) * pace
    return lambda cell: unit * count_flops(cell, study.dataset)


def _of_a_second(goal: Goal) -> float:
    return goal.price_per_hour / 3600 if goal.cost == "price" else 1.0


def _spent_on(
    row: Measurement, cell: Cell, goal: Goal, price: Callable[[Cell], float]
) -> float:
    """What a run that is in the table did cost."""
    if goal.cost == "flops":
        return row.flops
    if goal.cost in ("seconds", "price"):
        return _of_a_second(goal) * row.seconds
    return price(cell)


def _line(one: Round[Fit], number: int) -> dict[str, str]:
    cells = ";".join(
        f"{cell.params:.0f} {cell.data:.0f} {cell.cost!r} {cell.before!r} "
        f"{cell.after!r}"
        for cell in one.cells
    )
    values = {
        name: getattr(one, name) for name in _COLUMNS if name not in ("cells", "number")
    }
    return {
        "number": str(number),
        **{k: "" if v != v else str(v) for k, v in values.items()},
        "cells": cells,
    }


def _cells_of(path: epath.Path, lines: Sequence[dict[str, str]]) -> list[NextCell]:
    """The cells of the last round."""
    cells = (lines[-1]["cells"] or "").split(";") if lines else []
    try:
        return [NextCell(*map(float, one.split())) for one in cells if one]
    except (TypeError, ValueError):
        raise _damaged(path) from None


def _format(lines: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([line[name] for name in _COLUMNS] for line in lines)
    return text.getvalue()


def _read(path: epath.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    lines = list(csv.DictReader(io.StringIO(path.read_text())))
    if any(tuple(line) != _COLUMNS for line in lines):
        raise _damaged(path)
    return lines


def _damaged(path: epath.Path) -> UserError:
    return UserError(
        f"{path}: not what the loop writes; move it away, the runs in the table count "
        "all the same"
    )

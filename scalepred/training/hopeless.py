"""Runs that cannot matter: of a sweep, those whose rate cannot be the best there.

At each size (all that a run is but its learning rate and seed) the middle rate is the
reference. It is trained first, all its seeds, and never stopped. A run at another rate
is looked at when fixed parts of its steps are done (`outlook.MOMENTS`). It is stopped
where even the low end of its forecast lies above the end of every reference. So which
runs are stopped follows from curves alone, whatever lanes, order and machines are; one
that was at its end before this could be noticed is marked all the same.

What is compared is the training loss, of which every run has a curve, though rates are
chosen by the validation part. The two agree while a run reads its data a few times.
"""

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from scalepred.config import MOST_EPOCHS
from scalepred.grid import Cell
from scalepred.training.curves import NUM_POINTS, Curve, choose_marks, finish, marks_of
from scalepred.training.outlook import MOMENTS, Outlook, find_end, forecast_end


def find_references(cells: Iterable[Cell]) -> dict[str, tuple[Cell, ...]]:
    """The runs that another is compared with, by the id of each that may be stopped.

    Args:
        cells: of one study.

    Returns:
        For runs at all rates but the middle one (the lower of two), where data are
        seen at most `MOST_EPOCHS` times; none of a branch, whose trunk serves others.
    """
    by_size: dict[Cell, dict[float, list[Cell]]] = defaultdict(dict)
    for cell in cells:
        if round(cell.epochs) <= MOST_EPOCHS and not cell.branch:
            size = dataclasses.replace(cell, learning_rate=0.0, seed=0, pair="")
            by_size[size].setdefault(cell.learning_rate, []).append(cell)
    found = {}
    for rates in by_size.values():
        middle = sorted(rates)[(len(rates) - 1) // 2]
        reference = tuple(rates[middle])
        for rate, members in rates.items():
            if rate != middle:
                found |= {cell.cell_id: reference for cell in members}
    return found


class Judge:
    """Says which runs are to be stopped, from curves as they come.

    Every process has one, and gives it the same curves.
    """

    def __init__(self, references: Mapping[str, tuple[Cell, ...]]):
        """Nothing is finished yet.

        Args:
            references: see `find_references`.
        """
        self._references = references
        # Ids of those that others are compared with.
        self.awaited = {cell.cell_id for own in references.values() for cell in own}
        self._ended: dict[str, Curve | None] = {}  # of references
        self._num_seen: Counter[str] = Counter()  # moments, by run

    def get_references(self, cell: Cell) -> tuple[Cell, ...]:
        """The runs that must be over before this one starts."""
        return self._references.get(cell.cell_id, ())

    def end(self, cell_id: str, curve: Curve | None) -> None:
        """Takes note of a run that is over; None: it has no value."""
        if cell_id in self.awaited:
            self._ended[cell_id] = curve

    def must_wait(self, cell: Cell) -> bool:
        """Whether a reference of the cell is not over."""
        return any(one.cell_id not in self._ended for one in self.get_references(cell))

    def begin(self) -> None:
        """A pack is begun, perhaps again."""
        self._num_seen.clear()

    def look(self, cell: Cell, steps: int, sums: np.ndarray) -> Outlook | None:
        """The forecast of a run that is to be stopped, else None.

        Args:
            cell: the run.
            steps: that it has done. Each of the moments is looked at once, when it and
                all references are over.
            sums: of its curve, see `curves.add_loss`.
        """
        seen = self._num_seen[cell.cell_id]
        references = self.get_references(cell)
        if not references or seen == len(MOMENTS):
            return None
        moments = find_moments(cell.steps)[seen:]
        parts = MOMENTS[seen : seen + sum(steps >= moment for moment in moments)]
        ended = [self._ended.get(one.cell_id) for one in references]
        curves = [curve for curve in ended if curve is not None]
        if not parts or not curves or len(curves) < len(ended):
            return None
        self._num_seen[cell.cell_id] += len(parts)
        curve = finish(marks_of(cell), sums)
        ratio = cell.learning_rate / references[0].learning_rate
        hurdle = max(map(find_end, curves))
        for part in parts:
            found = forecast_end(curve, cell.steps, part, curves, ratio)
            if found is not None and found.low > hurdle:
                return found
        return None


@functools.lru_cache(maxsize=4096)
def find_moments(steps: int) -> tuple[int, ...]:
    """Steps after which a run is looked at: the last point of its curve before each.

    So that what is seen there never depends on where a chunk ends.
    """
    marks = choose_marks(steps)
    return tuple(int(marks[marks <= part * steps].max()) for part in MOMENTS)


def cut(curve: Curve, steps: int) -> Curve:
    """The curve as far as these steps."""
    is_done = curve.steps <= steps
    return Curve(curve.steps[is_done], curve.losses[is_done])


def as_array(cell_ids: Iterable[str], curves: Mapping[str, Curve]) -> np.ndarray:
    """Losses of finished runs for other processes [runs, NUM_POINTS]; NaN: none."""
    rows = [curves[one].losses if one in curves else [] for one in cell_ids]
    found = np.full((len(rows), NUM_POINTS), np.nan, np.float32)
    for row, losses in zip(found, rows, strict=True):
        row[: len(losses)] = losses
    return found


def from_array(cell: Cell, losses: np.ndarray) -> Curve | None:
    """The curve of a finished run, from `as_array`."""
    steps = finish(marks_of(cell), np.zeros(NUM_POINTS)).steps
    curve = Curve(steps, losses[: len(steps)])
    return None if np.isnan(curve.losses).any() else curve

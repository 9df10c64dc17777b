"""Runs as points: what a run must hold, and the mean over runs of the same sizes."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.metrics import find_unit, is_bounded
from scalepred.table.numbers import write_place, write_size

# So much below one epoch is one, rounded.
_EPOCHS_SLACK = 0.01
# Sizes and values beyond are slips: single precision, in which models are trained, ends
# at 3e38. Products and powers of those within stay far from where doubles end. FLOPs
# may be as large as a product of sizes.
SMALLEST, LARGEST, MOST_FLOPS = 1e-40, 1e40, 1e80

# A table of points by seeds is larger than the runs themselves where runs are of seeds
# of their own: so many cells are no matter, nor are those of so few points.
_MOST_CELLS, _FEW_POINTS = 2**22, 2000

Numbers = Sequence[float] | np.ndarray


class Points(NamedTuple):
    """Runs of the same sizes, together.

    Attributes:
        sizes: (params, data), or (params, data, epochs), ascending
            [points, 2 or 3].
        of_run: point of each run [runs].
        seed_values: value of each run, NaN where a point has none of that seed
            [points, seeds].
        seeds: where points and seeds are very many, `seed_values` has only as many
            columns as a point has runs, and here stands the number of each one's seed,
            -1 where there is no run, shaped like it. None: a column is a seed.
        seed_names: what the table calls the seeds, by their number; None: it does not
            say which runs belong together.
    """

    sizes: np.ndarray
    of_run: np.ndarray
    seed_values: np.ndarray
    seeds: np.ndarray | None
    seed_names: tuple[str, ...] | None = None

    @property
    def value(self) -> np.ndarray:
        """Mean over the seeds, of which every point has one [points]."""
        return np.nanmean(self.seed_values, axis=1)

    def mean(self, numbers: np.ndarray) -> np.ndarray:
        """Mean of what each run has one number of [points]."""
        sums = np.bincount(self.of_run, numbers, len(self.sizes))
        return sums / np.bincount(self.of_run, minlength=len(self.sizes))


def check_runs(
    given: Mapping[str, Numbers | None], metric: str
) -> dict[str, np.ndarray]:
    """The columns that there are, as numbers, as they must be.

    Args:
        given: params, data, value, and weight and epochs or None [runs].
        metric: of the values.

    Raises:
        UserError: names the column, the row and what is wrong.
    """
    runs: dict[str, np.ndarray] = {}
    for name, numbers in given.items():
        if numbers is None:
            continue
        runs[name] = np.asarray(numbers, np.float64).reshape(-1)
        if len(runs[name]) != len(runs["params"]):
            raise UserError(
                f"{name}: {len(runs[name])} values for {len(runs['params'])} params; "
                "give one for each run"
            )
        # A single run may err nowhere on a small test set; a point may not.
        _check_numbers(name, runs[name], zero_allowed=name == "value")
    if not find_unit(metric):
        raise UserError(
            f"metric={metric!r}: must be error or loss, or end with _error or _loss"
        )
    value = runs["value"]
    if len(value) == 0:
        raise UserError("no runs: give at least one point of params, data and value")
    if is_bounded(metric) and np.any(value > 1):
        worst = int(np.argmax(value))
        raise UserError(
            f"value, row {worst + 1}: {value[worst]:g} is above 1, so it is no error "
            "rate; give fractions, or say metric=loss"
        )
    if "epochs" in runs:
        _check_epochs(runs["epochs"])
    return runs


def average(runs: Mapping[str, np.ndarray], seeds: np.ndarray | None) -> Points:
    """Groups runs by their sizes.

    Args:
        runs: from `check_runs`.
        seeds: of each run; None: the k-th run of a point has seed k [runs].

    Raises:
        UserError: a seed stands twice at a point, or the mean of a point is 0.
    """
    places = [runs["params"], runs["data"]]
    if "epochs" in runs:
        places.append(np.maximum(runs["epochs"], 1.0))
    sizes, of_run = np.unique(np.stack(places, axis=1), axis=0, return_inverse=True)
    of_run = of_run.reshape(-1)
    are_named = seeds is not None
    if seeds is None:
        seeds = _count_off(of_run, len(sizes))
    names, seed_of_run = np.unique(seeds, return_inverse=True)
    _, firsts = np.unique(of_run * len(names) + seed_of_run, return_index=True)
    if len(firsts) < len(of_run):
        run = int(np.setdiff1d(np.arange(len(of_run)), firsts)[0])
        raise UserError(
            f"seed={seeds[run]}: stands twice at "
            f"{write_place(runs['params'][run], runs['data'][run])}; remove one of the "
            "rows or number the seeds"
        )
    column, columns, own_seeds = seed_of_run, len(names), None
    if len(sizes) > _FEW_POINTS and len(sizes) * columns > _MOST_CELLS:
        column = _count_off(of_run, len(sizes))
        columns = int(column.max()) + 1
        own_seeds = np.full((len(sizes), columns), -1)
        own_seeds[of_run, column] = seed_of_run
    seed_values = np.full((len(sizes), columns), math.nan)
    seed_values[of_run, column] = runs["value"]
    seed_names = tuple(map(str, names)) if are_named else None
    points = Points(sizes, of_run, seed_values, own_seeds, seed_names)
    if np.any(points.value == 0):
        point = sizes[int(np.argmax(points.value == 0))]
        raise UserError(
            f"value: 0 at {write_place(point[0], point[1])}, so relative "
            "errors do not exist there; leave that point out"
        )
    return points


def _count_off(of_run: np.ndarray, num_points: int) -> np.ndarray:
    """0, 1, 2, ... for the runs of each point, in their order [runs]."""
    order = np.argsort(of_run, kind="stable")
    starts = np.searchsorted(of_run[order], np.arange(num_points))
    seeds = np.empty(len(of_run), np.int64)
    seeds[order] = np.arange(len(of_run)) - starts[of_run[order]]
    return seeds


def check_flops(numbers: np.ndarray) -> None:
    """Training FLOPs, NaN where they are not known [runs].

    Raises:
        UserError: some are beyond what can be reckoned with.
    """
    known = np.where(np.isnan(numbers), 1.0, numbers)
    _check_range("flops", known, MOST_FLOPS)


def _check_numbers(name: str, numbers: np.ndarray, zero_allowed: bool) -> None:
    bad = ~(np.isfinite(numbers) & (numbers > 0))
    if zero_allowed:
        bad &= numbers != 0
    if np.any(bad):
        row = int(np.argmax(bad))
        raise UserError(
            f"{name}, row {row + 1}: {numbers[row]:g} must be a positive number; "
            "correct or remove that row"
        )
    _check_range(name, numbers, LARGEST)


def _check_range(name: str, numbers: np.ndarray, largest: float) -> None:
    bad = ((numbers < SMALLEST) & (numbers != 0)) | (numbers > largest)
    if np.any(bad):
        row = int(np.argmax(bad))
        raise UserError(
            f"{name}, row {row + 1}: {write_size(numbers[row])} is not between "
            f"{write_size(SMALLEST)} and {write_size(largest)}; correct or remove that "
            "row, or give other units"
        )


def _check_epochs(epochs: np.ndarray) -> None:
    bad = epochs < 1 - _EPOCHS_SLACK
    if np.any(bad):
        row = int(np.argmax(bad))
        raise UserError(
            f"epochs, row {row + 1}: {epochs[row]:g} must be a number of at least 1, "
            "as a run sees all of its unique data once; count only data seen as unique"
        )

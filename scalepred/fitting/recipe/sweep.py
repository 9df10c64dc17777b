"""Runs of a sweep: by size, and by the setting that was tried there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from scalepred.config import UserError

# A size whose largest is not so many times its least tells nothing of an exponent.
_LEAST_SPAN = 1.2
_LEAST_POINTS, _LEAST_RATES = 3, 3


def _check_runs(
    sizes: Mapping[str, np.ndarray],
    setting: np.ndarray,
    value: np.ndarray,
    seeds: np.ndarray,
    knob: str,
) -> None:
    """Refuses columns that no bowl can be fitted to."""
    for name, column in (("value", value), ("seed", seeds), *sizes.items()):
        if column.shape != setting.shape:
            raise UserError(
                f"{name}: has {column.size} entries and {knob} {setting.size}; "
                "give one of each for every run"
            )
    for name, size in sizes.items():
        if not np.all((size > 0) & np.isfinite(size)):
            raise UserError(f"{name}: must be positive finite numbers")
    if np.any(value <= 0):
        raise UserError(
            f"value: is {value.min():g} somewhere; the bowl is one of ln value, "
            "so values must be above 0"
        )
    if np.any((setting < 0) | ~np.isfinite(setting)):
        raise UserError(f"{knob}: must be positive finite numbers")


class Sweep(NamedTuple):
    """Runs with several settings of a knob at each size; arrays are [runs].

    Attributes:
        knob: what was tried: learning_rate, weight_decay, batch_size.
        setting: of the knob, above 0.
        value: what is to be low, above 0; NaN of a run that diverged.
        sizes: by name (params, data, and what else was varied beside the knob).
        seed: which runs belong together; "" where nobody says.
        metric: of the values.
        data_unit: what the size `data` counts.
        notes: sentences on what was guessed or left out.
        programs: names of those that trained the runs, where rows say so.
    """

    knob: str
    setting: np.ndarray
    value: np.ndarray
    sizes: dict[str, np.ndarray]
    seed: np.ndarray
    metric: str = "loss"
    data_unit: str = "examples"
    notes: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        sizes: Mapping[str, ArrayLike],
        setting: ArrayLike,
        value: ArrayLike,
        *,
        knob: str = "learning_rate",
        seed: ArrayLike | None = None,
        metric: str = "loss",
        data_unit: str = "examples",
        notes: Sequence[str] = (),
        programs: Sequence[str] = (),
    ) -> Self:
        """Runs told by arrays, one entry a run.

        Args:
            sizes: by name, such as {"params": ..., "data": ...}; above 0.
            setting: of the knob; runs at 0 (no weight decay) are left out.
            value: error, loss; NaN or infinite of a run that diverged.
            knob: what the setting is of.
            seed: runs of one seed share what makes them all better or worse.
            metric: of the values.
            data_unit: what the size `data` counts.
            notes: that are kept.
            programs: see `Sweep`.

        Raises:
            UserError: names what cannot be fitted, and the remedy.
        """
        setting = np.asarray(setting, float)
        value = np.asarray(value, float)
        own = {name: np.asarray(size, float) for name, size in sizes.items()}
        seeds = np.full(len(setting), "") if seed is None else np.asarray(seed)
        _check_runs(own, setting, value, seeds, knob)
        notes = list(notes)
        is_zero = setting == 0
        if is_zero.any():
            notes.append(
                f"{int(is_zero.sum())} runs with {knob} 0 are left out: a power law "
                "never gets there"
            )
        kept = ~is_zero
        return cls(
            knob,
            setting[kept],
            np.where(np.isfinite(value), value, np.nan)[kept],
            {name: size[kept] for name, size in own.items()},
            seeds[kept].astype(str),
            metric,
            data_unit,
            tuple(notes),
            tuple(programs),
        )

    def group(self) -> "Points":
        """The runs by size and setting, of a sweep that a law can be fitted to.

        Raises:
            UserError: it has too few sizes or settings.
        """
        places = [place for place in self._places() if place.num_known >= 2]
        enough = sum(len(place.log_setting) >= _LEAST_RATES for place in places)
        is_moved = any(
            size.size and size.max() > _LEAST_SPAN * size.min()
            for size in self.sizes.values()
        )
        if enough < _LEAST_POINTS or not is_moved:
            count = len(self._places())
            sizes = "one size" if count == 1 else f"{count} sizes"
            raise UserError(
                f"{self.knob}: the table has {sizes}, {enough} of them with at least "
                f"{_LEAST_RATES} settings; a law of the best takes at least "
                f"{_LEAST_POINTS} sizes of model or data, each with {_LEAST_RATES} "
                "settings"
            )
        return Points.of(places)

    def gather(self) -> "Points":
        """The runs by size and setting, however few."""
        return Points.of([place for place in self._places() if place.num_known])

    def _places(self) -> list["_Place"]:
        logs = [np.round(np.log(size), 6) for size in self.sizes.values()]
        by_size: dict[tuple[float, ...], list[int]] = {}
        for run, place in enumerate(zip(*logs, strict=True)):
            by_size.setdefault(place, []).append(run)
        return [self._group_rates(runs) for _, runs in sorted(by_size.items())]

    def _group_rates(self, runs: Sequence[int]) -> "_Place":
        """One size: its settings, and the mean of each with the seeds' own part out."""
        # In an order of their own, so that sums do not depend on the table's.
        keys = np.nan_to_num(self.value[runs]), self.seed[runs], self.setting[runs]
        runs = [runs[i] for i in np.lexsort(keys)]
        setting, log_value = self.setting[runs], np.log(self.value[runs])
        tried = np.unique(setting)
        which = np.searchsorted(tried, setting)
        bad = np.zeros(len(tried), bool)
        bad[which[np.isnan(log_value)]] = True
        good = ~bad[which]
        mean, count = np.full(len(tried), np.nan), np.zeros(len(tried))
        squares, freedom = 0.0, 0.0
        if good.any():
            count = np.bincount(which[good], minlength=len(tried)).astype(float)
            rates, of_rate = np.unique(which[good], return_inverse=True)
            seeds, of_seed = np.unique(self.seed[runs][good], return_inverse=True)
            # A run is its setting's mean and its seed's part; those sum to zero.
            design = np.zeros((good.sum(), len(rates) + len(seeds)))
            design[np.arange(good.sum()), of_rate] = 1.0
            design[np.arange(good.sum()), len(rates) + of_seed] = 1.0
            design = np.vstack(
                [design, np.r_[np.zeros(len(rates)), np.ones(len(seeds))]]
            )
            target = np.r_[log_value[good], 0.0]
            found, *_ = np.linalg.lstsq(design, target)
            mean[rates] = found[: len(rates)]
            squares = float(np.sum((target - design @ found) ** 2))
            rank = np.linalg.matrix_rank(design)
            freedom = float(max(0, len(target) - rank))
        sizes = {name: float(size[runs[0]]) for name, size in self.sizes.items()}
        return _Place(sizes, np.log(tried), mean, count, squares, freedom)


class _Place(NamedTuple):
    """One size: arrays are [settings]."""

    sizes: dict[str, float]
    log_setting: np.ndarray
    mean: np.ndarray  # of ln value; NaN where a run diverged
    num_runs: np.ndarray  # runs
    squares: float  # of what is left of ln value after seed and setting
    freedom: float  # of them

    @property
    def num_known(self) -> int:
        """Settings whose runs ended well."""
        return int(np.isfinite(self.mean).sum())


class Points(NamedTuple):
    """The bowls, padded to as many settings as the one that has most.

    Attributes:
        sizes: by name [points].
        log_setting: [points, settings]; NaN where padded.
        mean: of ln value over seeds, likewise; NaN where padded or diverged.
        num_runs: behind each mean, likewise.
        squares: of ln value within seeds and settings, summed over all points.
        freedom: of them.
    """

    sizes: dict[str, np.ndarray]
    log_setting: np.ndarray
    mean: np.ndarray
    num_runs: np.ndarray
    squares: float
    freedom: float

    @classmethod
    def of(cls, places: Sequence[_Place]) -> Self:
        """From each size by itself."""
        width = max(len(place.log_setting) for place in places)

        def pad(rows: list[np.ndarray]) -> np.ndarray:
            out = np.full((len(rows), width), np.nan)
            for row, values in zip(out, rows, strict=True):
                row[: len(values)] = values
            return out

        names = places[0].sizes
        return cls(
            {name: np.array([place.sizes[name] for place in places]) for name in names},
            pad([place.log_setting for place in places]),
            pad([place.mean for place in places]),
            np.nan_to_num(pad([place.num_runs for place in places])),
            sum(place.squares for place in places),
            sum(place.freedom for place in places),
        )

    @property
    def axes(self) -> list[str]:
        """Names of the sizes."""
        return list(self.sizes)

    @property
    def diverged(self) -> np.ndarray:
        """Where a run ended without a value [points, settings]."""
        return np.isfinite(self.log_setting) & ~np.isfinite(self.mean)

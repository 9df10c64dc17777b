"""What the figures show, in plain arrays: here the law says all it has to say.

Drawing it then takes matplotlib, but neither jax nor a law, so that it can go on in
another process. This module imports none of them: both sides do with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scalepred.report import format, words

if TYPE_CHECKING:
    from scalepred.fitting.backtest import Corner
    from scalepred.report.results import PredictionRow, Results

# More lines than this cannot be told apart.
MAX_LINES = 8
# A point belongs to a line if its size is this close to the line's.
NEARNESS = 1.1
_LINE_PLACES = 25
_SURFACE_PLACES = 40
_MAX_CORNER_SIZES = 10


class Points(NamedTuple):
    """Rows of predictions.csv by column, each [rows]."""

    params: np.ndarray
    data: np.ndarray
    compute: np.ndarray
    region: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    relative_error: np.ndarray
    epochs: np.ndarray

    @staticmethod
    def of(rows: Sequence[PredictionRow]) -> Points:
        return Points(
            *(np.array([getattr(row, name) for row in rows]) for name in Points._fields)
        )

    def where(self, mask: np.ndarray) -> Points:
        """Some of them."""
        return Points(*(column[mask] for column in self))

    def of_region(self, region: str) -> Points:
        """Those that are fit, held_out or target."""
        return self.where(self.region == region)

    @property
    def runs(self) -> Points:
        """Those that were measured."""
        return self.where(self.region != "target")

    @property
    def is_fitted(self) -> np.ndarray:
        """Which of them the law saw [rows]."""
        return self.region == "fit"


class Map(NamedTuple):
    """The law over both sizes: value [params, data]."""

    params: np.ndarray
    data: np.ndarray
    value: np.ndarray


class Lines(NamedTuple):
    """The law along one size at several of the other.

    Attributes:
        fixed: size of each line [lines].
        along: the other size, the same on every line [places].
        value: of the law [lines, places].
        lower: end of the 90 % interval, NaN where there is none [lines, places].
        upper: the other end.
    """

    fixed: np.ndarray
    along: np.ndarray
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Repeats(NamedTuple):
    """The law along epochs at the sizes measured at most of them.

    Attributes:
        params: of each line [lines].
        data: of each line [lines].
        along: epochs [places].
        value: of the law [lines, places].
    """

    params: np.ndarray
    data: np.ndarray
    along: np.ndarray
    value: np.ndarray


class Corners(NamedTuple):
    """Errors of extrapolating from corners of the grid.

    Attributes:
        params: largest sizes fitted, ascending.
        data: the same of data.
        mean: of the relative error, NaN where no law was fitted [data, params].
        std: its standard deviation, NaN also where there is one target.
        own: row and column of the fit region's corner; None if it is not there.
    """

    params: list[float]
    data: list[float]
    mean: np.ndarray
    std: np.ndarray
    own: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class PlotData:
    """What there is to draw.

    Attributes:
        metric: error or loss.
        data_unit: what n counts.
        has_intervals: there were resamples to draw them from.
        points: every point and target.
        shown: those of one number of epochs.
        said: which number that is, for a title.
        map: over both sizes.
        by_params: against n at each m.
        by_data: against m at each n.
        repeats: None where the law knows nothing of epochs.
        corners: None where no corner could be fitted, or none was yet.
    """

    metric: str
    data_unit: str
    has_intervals: bool
    points: Points
    shown: Points
    said: str
    map: Map
    by_params: Lines
    by_data: Lines
    repeats: Repeats | None
    corners: Corners | None

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures, in their order on the page."""
        more = {"epochs": self.repeats, "corners": self.corners}
        there = [name for name, part in more.items() if part is not None]
        return ("predicted", "surface", "curves", *there)


class FigureFiles(NamedTuple):
    """The bytes of a figure's files, the same for the same plot data."""

    png: bytes
    svg: bytes


def make_plot_data(results: Results) -> PlotData:
    """Asks the law for every number that a figure shows, but for the corners."""
    points = Points.of(results.predictions)
    epochs = shown_epochs(results)
    shown = points if epochs is None else points.where(points.epochs == epochs)
    by_params, by_data = _lines(results, shown.runs, epochs)
    said = "" if epochs is None else "Law and points of "
    return PlotData(
        metric=results.surface.metric,
        data_unit=format.unit(results.surface),
        has_intervals=words.has_intervals(results),
        points=points,
        shown=shown,
        said=said + format.passes(epochs).removeprefix(", "),
        map=_map(results, shown, epochs),
        by_params=by_params,
        by_data=by_data,
        repeats=None if epochs is None else trace_repeats(results, points.runs),
        corners=None,
    )


def add_corners(plot: PlotData, results: Results) -> PlotData:
    """The same with the corners, whose refits take longer than all the rest."""
    return dataclasses.replace(plot, corners=_corners(results))


def shown_epochs(results: Results) -> float | None:
    """Epochs of the points drawn over sizes: 1, else the most frequent.

    None where the law knows nothing of them: all points are drawn.
    """
    epochs = results.surface.epochs
    if epochs is None or "epochs" not in results.fit.law.axes:
        return None
    numbers, counts = np.unique(epochs, return_counts=True)
    return 1.0 if 1.0 in numbers else float(numbers[np.argmax(counts)])


def _map(results: Results, shown: Points, epochs: float | None) -> Map:
    data = _spaced(shown.data, _SURFACE_PLACES)
    params = _spaced(shown.params, _SURFACE_PLACES)
    law = results.fit.fitted.log_value(params[:, None], data[None, :], epochs=epochs)
    return Map(params, data, np.exp(law))


def _lines(results: Results, runs: Points, epochs: float | None) -> tuple[Lines, Lines]:
    """Against n at each m, and against m at each n.

    Intervals are for a mean over as many seeds as most points have.
    """
    found, surface = [], results.surface
    if epochs is not None:
        surface = surface.where(surface.epochs == epochs)
    for own, other in ((runs.params, runs.data), (runs.data, runs.params)):
        fixed, along = choose_sizes(own), _spaced(other, _LINE_PLACES)
        sizes = np.broadcast_arrays(fixed[:, None], along)
        params, data = sizes if own is runs.params else sizes[::-1]
        if words.has_intervals(results):
            num_seeds = int(np.median(surface.num_seeds))
            law = results.fit.predict(params, data, num_seeds, epochs)
            found.append(Lines(fixed, along, law.value, law.lower, law.upper))
        else:
            law = results.fit.fitted.log_value(params, data, epochs=epochs)
            nothing = np.full_like(law, math.nan)
            found.append(Lines(fixed, along, np.exp(law), nothing, nothing))
    return found[0], found[1]


def trace_repeats(results: Results, runs: Points) -> Repeats:
    """The law along epochs at the sizes that most of these runs repeat."""
    sizes = np.stack([runs.params, runs.data], axis=1)
    places, counts = np.unique(sizes, axis=0, return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:MAX_LINES]
    chosen = np.sort(chosen[counts[chosen] > min(1, counts.max() - 1)])
    along = np.maximum(_spaced(runs.epochs, _LINE_PLACES), 1.0)
    params, data = places[chosen].T
    law = results.fit.fitted.log_value(params[:, None], data[:, None], epochs=along)
    return Repeats(params, data, along, np.exp(law))


def _corners(results: Results) -> Corners | None:
    params, data, corners = choose_corners(results.corners)
    if not corners:
        return None
    mean = np.full((len(data), len(params)), math.nan)
    std = mean.copy()
    for (m, n), corner in corners.items():
        place = data.index(n), params.index(m)
        mean[place] = corner.mean
        std[place] = corner.std if corner.num_targets > 1 else math.nan
    fitted = results.fit.surface
    m, n = float(fitted.params.max()), float(fitted.data.max())
    own = (data.index(n), params.index(m)) if (m, n) in corners else None
    return Corners(params, data, mean, std, own)


def choose_corners(
    corners: Sequence[Corner],
) -> tuple[list[float], list[float], dict[tuple[float, float], Corner]]:
    """Sizes m, sizes n and the corners at them, few enough to be read.

    Of many sizes, as scattered points have, some evenly spread ones are kept.
    """
    fitted = [corner for corner in corners if math.isfinite(corner.mean)]
    params = _thin(sorted({corner.max_params for corner in fitted}))
    data = _thin(sorted({corner.max_data for corner in fitted}))
    kept = {
        (corner.max_params, corner.max_data): corner
        for corner in fitted
        if corner.max_params in params and corner.max_data in data
    }
    return params, data, kept


def _thin(sizes: list[float]) -> list[float]:
    if len(sizes) <= _MAX_CORNER_SIZES:
        return sizes
    places = np.linspace(0, len(sizes) - 1, _MAX_CORNER_SIZES).round().astype(int)
    return [sizes[place] for place in places]


def choose_sizes(values: np.ndarray) -> np.ndarray:
    """Sizes to draw a line at, ascending: all of a grid, else the most measured.

    Scattered sizes are taken by the number of points near them, each well away from
    those taken before.
    """
    sizes, counts = np.unique(values, return_counts=True)
    if len(sizes) <= MAX_LINES:
        return sizes
    logs = np.log(sizes)
    gap = (logs[-1] - logs[0]) / (MAX_LINES + 1)
    is_free, popularity = np.ones(len(sizes), bool), _count_near(logs, counts)
    chosen = []
    while len(chosen) < MAX_LINES and np.any(is_free):
        index = np.argmax(np.where(is_free, popularity, -1))
        chosen.append(sizes[index])
        is_free &= np.abs(logs - logs[index]) >= gap
    return np.sort(chosen)


def _count_near(logs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Points within `NEARNESS` of each size, of ascending ln sizes [sizes]."""
    reach, last = np.log(NEARNESS), len(logs) - 1

    def is_near(other: np.ndarray) -> np.ndarray:
        return np.abs(logs - logs[np.clip(other, 0, last)]) <= reach

    # A sum may be rounded to the other side of a size that lies at the limit.
    low = np.searchsorted(logs, logs - reach)
    low = np.where((low > 0) & is_near(low - 1), low - 1, low)
    low = np.where(is_near(low), low, low + 1)
    high = np.searchsorted(logs, logs + reach, "right")
    high = np.where((high <= last) & is_near(high), high + 1, high)
    high = np.where(is_near(high - 1), high, high - 1)
    before = np.concatenate([[0], np.cumsum(counts)])
    return before[high] - before[low]


def _spaced(sizes: np.ndarray, places: int) -> np.ndarray:
    """Evenly spaced in the logarithm, a little beyond the sizes on both sides."""
    low, high = np.min(sizes), np.max(sizes)
    margin = 1.5 if low == high else (high / low) ** 0.04
    return np.geomspace(low / margin, high * margin, places)

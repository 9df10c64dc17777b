"""The law over model and data size, with what budgets buy."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scalepred.metrics import find_noun
from scalepred.report import format
from scalepred.report.frontier import Frontier
from scalepred.report.page.axis import Axis, round_numbers
from scalepred.report.page.chart import Chart, Key
from scalepred.report.page.results_axes import (
    data_unit,
    draw_runs,
    draw_targets,
    find_sizes,
    flops,
    run_keys,
    say_value,
    size_axis,
    value_axis,
    wanted_value,
)
from scalepred.report.plot_data import Points, shown_epochs
from scalepred.report.results import Results

_HEIGHT = 440
_PLACES = 40  # along each size
_MOST_LEVELS, _MOST_BUDGETS = 12, 6
# Of the numbers at contours, in units.
_LETTER, _LABEL_HEIGHT = 11.0, 22.0


class _Words(NamedTuple):
    """Where the middle of a number stands, in units, and half its width."""

    across: float
    down: float
    half: float


class _Map(NamedTuple):
    """A function of both sizes, in logarithms.

    Attributes:
        log_data: across [data].
        log_params: upwards [params].
        log_number: of the function [params, data].
        write: one of its numbers.
    """

    log_data: np.ndarray
    log_params: np.ndarray
    log_number: np.ndarray
    write: Callable[[float], str]

    def levels(self, most: int) -> list[float]:
        """Round numbers between its ends: as many as there are, up to `most`."""
        low, high = np.exp(self.log_number.min()), np.exp(self.log_number.max())
        axis = Axis(float(low), float(high) * (1 + 1e-9), "", self.write, "")
        series = [numbers for numbers in round_numbers(axis) if len(numbers) <= most]
        return max(series, key=len, default=[])


def surface(results: Results, frontier: Frontier | None) -> str:
    """Contours of the law over n (across) and m (upwards), and what was measured.

    Args:
        results: of a study.
        frontier: of the same results, for the path of best splits; None: there is none.

    Returns:
        "" where the law cannot tell what each of the sizes is worth.
    """
    if len(find_sizes(results)) < 2:
        return ""
    points = Points.of(results.predictions)
    runs, epochs = points.runs, shown_epochs(results)
    if epochs is not None:
        runs = runs.where(runs.epochs == epochs)
    x = size_axis(results, "data", points.data)
    y = size_axis(results, "params", points.params)
    metric = find_noun(results.surface.metric)
    keys = [
        *run_keys(points),
        Key("line", "plain thin", f"equal {metric}"),
        Key("line", "plain thin dashed faint", "equal FLOPs"),
    ]
    if frontier is not None:
        keys.append(Key("line", "tgt line", "best split"))
    chart = Chart("surface", x, y, keys, height=_HEIGHT)
    cost, value = _make_maps(results, x, y, epochs)
    aimed = points.of_region("target")
    stars = zip(chart.at_x(aimed.data), chart.at_y(aimed.params), strict=True)
    taken = [_Words(float(x), float(y), 12.0) for x, y in stars]
    for level in cost.levels(_MOST_BUDGETS):
        _contour(chart, cost, level, "plain thin dashed faint", taken, at_top=False)
    draw_runs(chart, runs, "data", "params")
    wanted = wanted_value(results)
    if wanted is not None:
        _contour(chart, value, wanted, "plain line", taken, name="wanted: ")
    for level in value.levels(_MOST_LEVELS):
        if level == wanted:
            continue
        _contour(chart, value, level, "plain thin", taken)
    if frontier is not None:
        chart.line(frontier.data, frontier.params, "tgt line")
    draw_targets(chart, results, "data", "params")
    return chart.draw(_describe(results, points, frontier))


def _make_maps(
    results: Results, x: Axis, y: Axis, epochs: float | None
) -> tuple[_Map, _Map]:
    """What runs cost, and what the law says of them, over the sizes of two axes."""
    fit = results.fit
    data = np.geomspace(x.low, x.high, _PLACES)
    params = np.geomspace(y.low, y.high, _PLACES)
    grid = params[:, None], data[None, :]
    times = fit.epochs_at(epochs) or 1.0
    cost = np.log(fit.cost.flops(grid[0], grid[1] * times))
    value = fit.fitted.log_value(*grid, epochs=epochs)
    write = value_axis(results).write
    sizes = np.log(data), np.log(params)
    return _Map(*sizes, cost, flops), _Map(*sizes, value, write)


def _contour(
    chart: Chart,
    drawn: _Map,
    level: float,
    style: str,
    taken: list[_Words],
    *,
    at_top: bool = True,
    name: str = "",
) -> None:
    """One contour, with its number where there is room.

    Args:
        chart: to draw in.
        drawn: whose contour it is.
        level: of the contour.
        style: classes.
        taken: places of the numbers so far; this one's is added.
        at_top: the number stands as far up as may be; or else as far to the right.
        name: before the number.
    """
    import contourpy  # comes with matplotlib

    x, y, number = drawn.log_data, drawn.log_params, drawn.log_number
    generator = contourpy.contour_generator(x, y, number)
    lines = [np.exp(np.asarray(line)) for line in generator.lines(np.log(level))]
    for line in lines:
        chart.line(line[:, 0], line[:, 1], style)
    if not lines:
        return
    longest = max(lines, key=len)
    across, down = chart.at_x(longest[:, 0]), chart.at_y(longest[:, 1])
    text = name + drawn.write(level)
    for index in np.argsort(down if at_top else -across):
        words = _Words(
            float(across[index]), float(down[index]), len(text) * _LETTER / 2
        )
        if _has_room(chart, words, taken):
            taken.append(words)
            chart.words(words.across, words.down + 5, text, "middle")
            return


def _has_room(chart: Chart, words: _Words, taken: list[_Words]) -> bool:
    """Whether a number may stand there, away from the axes and from the others."""
    across, down, half = words
    inside = chart.left + half < across < chart.right - half
    inside &= chart.top + 12 < down < chart.bottom - 12
    return inside and all(
        abs(across - other.across) > half + other.half
        or abs(down - other.down) > _LABEL_HEIGHT
        for other in taken
    )


def _describe(results: Results, points: Points, frontier: Frontier | None) -> str:
    runs = points.runs
    best = int(np.argmin(runs.measured))
    unit = data_unit(results)
    text = (
        f"Runs of {format.count(float(runs.params.min()))} to "
        f"{format.count(float(runs.params.max()))} parameters and "
        f"{format.count(float(runs.data.min()))} to "
        f"{format.count(float(runs.data.max()))} {unit} reach "
        f"{say_value(results, float(runs.measured[best]))} at best"
    )
    if frontier is not None:
        budget = flops(float(frontier.budget[-1]))
        text += (
            f"; the best split of {budget} FLOPs is "
            f"{format.count(float(frontier.params[-1]))} parameters and "
            f"{format.count(float(frontier.data[-1]))} {unit}"
        )
    return text + "."

"""The value of every run against what it took, and what the best use of it buys."""

from typing import NamedTuple

import numpy as np

from scalepred.metrics import find_noun
from scalepred.report import format, words
from scalepred.report.frontier import Frontier
from scalepred.report.page.axis import extent
from scalepred.report.page.chart import Chart, Key
from scalepred.report.page.results_axes import (
    compute_axis,
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
from scalepred.report.plot_data import Points
from scalepred.report.results import Results

_PLACES = 60


class _Line(NamedTuple):
    """The law along the axis across: each [places]."""

    x: np.ndarray
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    name: str


def value_against_compute(results: Results, frontier: Frontier | None) -> str:
    """Every run and target against compute, with the least value a budget buys.

    Where the law follows one size alone, that size stands in the place of compute and
    the law in that of the frontier.

    Args:
        results: of a study.
        frontier: of the same results; None: it has none.
    """
    points = Points.of(results.predictions)
    column = _across(results)
    numbers = getattr(points, column)
    line = _law_line(results, column, numbers, frontier)
    asked = numbers if line is None else np.concatenate([numbers, line.x])
    axis = (
        compute_axis(asked)
        if column == "compute"
        else size_axis(results, column, numbers)
    )
    keys = run_keys(points)
    if line is not None:
        band = ", 90% interval" if words.has_intervals(results) else ""
        keys.append(Key("line", "tgt line", line.name + band))
    values = [] if line is None else [line.value]
    chart = Chart("compute", axis, value_axis(results, *values), keys, zooms=True)
    if line is not None:
        chart.band(line.x, line.lower, line.upper, "tgt band")
    draw_runs(chart, points.runs, column, "measured")
    if line is not None:
        chart.line(line.x, line.value, "tgt line")
    _draw_ends(chart, points, column)
    wanted = wanted_value(results)
    if wanted is not None:
        text = format.wanted(wanted, results.surface.metric)
        chart.horizontal(wanted, f"wanted: {text}")
    draw_targets(chart, results, column, "predicted")
    return chart.draw(_describe(results, points, column, line))


def _across(results: Results) -> str:
    """Which column of the points stands across: compute, or the only size."""
    sizes = find_sizes(results)
    return sizes[0] if len(sizes) == 1 else "compute"


def _law_line(
    results: Results, column: str, numbers: np.ndarray, frontier: Frontier | None
) -> _Line | None:
    if frontier is not None:
        return _Line(
            frontier.budget,
            frontier.value,
            frontier.lower,
            frontier.upper,
            "best split",
        )
    if column == "compute":
        return None
    along = np.geomspace(*extent(numbers, room=0.03), _PLACES)
    fitted = results.fit.fitted
    sizes = {"params": fitted.params_unit, "data": fitted.data_unit, column: along}
    said = fitted.predict(sizes["params"], sizes["data"])
    return _Line(along, said.value, said.lower, said.upper, "law")


def _draw_ends(chart: Chart, points: Points, column: str) -> None:
    """Up to where runs were fitted, and up to where predictions were checked."""
    fitted = float(np.max(getattr(points.of_region("fit"), column)))
    chart.vertical(fitted, "fitted up to here")
    checks = points.where(~points.is_fitted & np.isfinite(points.measured))
    checked = max(getattr(checks, column), default=0.0)
    if checked > fitted:
        chart.vertical(float(checked), "checked up to here", row=1)


def _describe(results: Results, points: Points, column: str, line: _Line | None) -> str:
    """What is to be seen, in a sentence."""
    runs = points.runs
    across = getattr(runs, column)
    first, best = int(np.argmin(across)), int(np.argmin(runs.measured))

    def place(number: float) -> str:
        if column == "compute" or format.unit(results.surface) == "FLOPs":
            return f"{flops(number)} FLOPs"
        unit = "parameters" if column == "params" else format.unit(results.surface)
        return f"{format.count(number)} {unit}"

    metric = find_noun(results.surface.metric)
    text = (
        f"Measured {metric} goes from {say_value(results, runs.measured[first])} at "
        f"{place(across[first])} to {say_value(results, runs.measured[best])} at "
        f"{place(across[best])}"
    )
    targets = words.targets(results)
    if targets:
        last = max(targets, key=lambda row: getattr(row, column))
        text += (
            f"; {say_value(results, last.predicted)} is predicted for the target at "
            f"{place(getattr(last, column))}"
        )
    elif line is not None:
        text += (
            f"; the {line.name} reaches {say_value(results, float(line.value[-1]))} at "
            f"{place(line.x[-1])}"
        )
    return text + "."

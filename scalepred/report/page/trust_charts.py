"""How far the predictions may be trusted: against measurements, and by distance."""

import math
from typing import NamedTuple

import numpy as np

from scalepred.report import format, words
from scalepred.report.page.axis import Axis, extent
from scalepred.report.page.chart import Chart, Key
from scalepred.report.page.results_axes import (
    draw_runs,
    draw_targets,
    run_keys,
    say_value,
    value_axis,
)
from scalepred.report.plot_data import Points
from scalepred.report.results import Results

# With more held-out runs their intervals hide each other.
_MOST_BARS = 60
# Guides beside the diagonal: the first that holds so many of the runs.
_GUIDES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_WITHIN = 0.9
# Errors below this share of the largest lie at the lower end of the axis.
_LEAST_SHARE = 1e-3
# Held-out runs within this factor of distance are averaged, if they are so many.
_STEP, _LEAST_GROUP = 2.5, 3
# Distances below this say nothing of going beyond.
_NEAREST = 0.1


def predicted_against_measured(results: Results) -> str:
    """What the law says of every run against what was measured; "" without runs."""
    points = Points.of(results.predictions)
    runs = points.where(np.isfinite(points.measured))
    if not len(runs.region):
        return ""
    low, high = extent(runs.measured, runs.predicted)
    write = value_axis(results).write
    title = format.metric_label(results.surface.metric)
    x = Axis(low, high, f"measured {title}", write, "measured")
    y = Axis(low, high, f"predicted {title}", write, "predicted")
    error = np.abs(runs.relative_error)
    near = [guide for guide in _GUIDES if np.mean(error <= guide) >= _WITHIN]
    guide = near[0] if near else _GUIDES[-1]
    keys = [
        *run_keys(runs),
        Key("line", "plain thin", "equal"),
        Key("line", "plain thin dashed", f"±{guide:.0%}"),
    ]
    chart = Chart("agreement", x, y, keys)
    along = np.geomspace(low, high, 2)
    chart.line(along, along, "plain thin")
    for factor in (1 + guide, 1 / (1 + guide)):
        chart.line(along, along * factor, "plain thin dashed faint")
    held_out = points.of_region("held_out")
    if len(held_out.region) <= _MOST_BARS:
        ends = held_out.lower, held_out.upper
        chart.bars(held_out.measured, *ends, "out thin faint")
    draw_runs(chart, points.runs, "measured", "predicted")
    draw_targets(chart, results, "measured", "predicted")
    return chart.draw(_describe_agreement(results, runs, held_out))


def _describe_agreement(results: Results, runs: Points, held_out: Points) -> str:
    checked, what = (held_out, "held-out") if len(held_out.region) else (runs, "fitted")
    error = checked.relative_error
    worst = int(np.argmax(np.abs(error)))
    runs_are = "run is" if len(error) == 1 else "runs are"
    return (
        f"Predictions of {len(error):,} {what} {runs_are} typically "
        f"{format.percent(float(np.mean(np.abs(error))))} off, at most "
        f"{format.percent(float(np.abs(error[worst])))}, where "
        f"{say_value(results, checked.measured[worst])} was measured and "
        f"{say_value(results, checked.predicted[worst])} predicted."
    )


def error_by_distance(results: Results) -> str:
    """How wrong predictions were, by how far they went beyond what was fitted.

    Distance is compute over the largest that was fitted. Held-out runs are marks, the
    means of those at like distances a line; a back-test inside the fit region is a line
    from 1 to as far as it went. "" where nothing was ever predicted.
    """
    points, tests = Points.of(results.predictions), results.fit.inner_tests
    fitted = float(points.of_region("fit").compute.max())
    runs = points.of_region("held_out")
    runs = runs.where(runs.compute >= _NEAREST * fitted)
    if not len(runs.region) and not tests:
        return ""
    distance, error = runs.compute / fitted, np.abs(runs.relative_error)
    ratios = np.array([test.ratio for test in tests])
    missed = np.array([test.error for test in tests])
    targets = points.of_region("target").compute / fitted
    x = Axis(
        *extent(1.0, distance, ratios, targets, room=0.04),
        "times the largest fitted compute",
        format.count,
        "distance",
    )
    every = np.concatenate([error, missed])
    floor = max(float(every.max()) * _LEAST_SHARE, 1e-9)
    low, high = extent(np.maximum(every, floor), room=0.08)
    y = Axis(low, high, "relative error", _write_share, "error")
    means = _mean_by_distance(distance, error)
    chart = Chart("distance", x, y, _distance_keys(results, len(means.error)))
    checked = float(max([*distance, *ratios]))
    _shade_unchecked(chart, checked)
    placed = runs._replace(compute=distance, relative_error=np.maximum(error, floor))
    draw_runs(chart, placed, "compute", "relative_error", "faint")
    if len(means.error) > 1:
        chart.line(means.distance, means.error, "out line")
        chart.marks(means.distance, means.error, "square", "out full", size=4.5)
    order = np.argsort(ratios)
    chart.line(ratios[order], missed[order], "fit line dashed")
    chart.marks(ratios, missed, "circle", "fit open", size=4.5)
    _draw_target_distances(chart, results, targets)
    return chart.draw(_describe_distance(results, means, checked, targets))


def _draw_target_distances(
    chart: Chart, results: Results, distance: np.ndarray
) -> None:
    """A star at the lower edge for each target: its error is not known."""
    edge = chart.y.low * (chart.y.high / chart.y.low) ** 0.04
    rows = zip(words.targets(results), distance.tolist(), strict=True)
    for index, (row, times) in enumerate(rows):
        told = format.sentence(words.describe_target(row, results))
        chart.star(times, edge, math.nan, math.nan, told, target=str(index))


def _write_share(share: float) -> str:
    return f"{100 * share:.3g}%"


def _distance_keys(results: Results, num_means: int) -> list[Key]:
    keys = []
    if num_means:
        keys.append(Key("square", "out full", "held out", "held_out"))
    if num_means > 1:
        keys.append(Key("line", "out line", "their mean"))
    if results.fit.inner_tests:
        keys.append(Key("line", "fit line dashed", "back-test"))
    if words.targets(results):
        keys.append(Key("star", "tgt full", "target", "target"))
    return keys


def _shade_unchecked(chart: Chart, checked: float) -> None:
    """A grey area beyond the farthest prediction that was checked."""
    if chart.x.high <= checked * 1.6:  # no more than the room at the end
        return
    across = np.array([checked, chart.x.high])
    ends = np.full(2, chart.y.low), np.full(2, chart.y.high)
    chart.band(across, *ends, "shade")
    chart.vertical(checked, "nothing checked beyond")


class _Means(NamedTuple):
    """Held-out runs at like distances, by rising distance: each [groups]."""

    distance: np.ndarray
    error: np.ndarray
    num_runs: np.ndarray


def _mean_by_distance(distance: np.ndarray, error: np.ndarray) -> _Means:
    """Geometric mean of distances and mean error of groups; small ones are merged."""
    order = np.argsort(distance)
    groups: list[np.ndarray] = []
    for index in order:
        last = groups[-1] if groups else None
        is_near = last is not None and distance[index] <= _STEP * distance[last[0]]
        if last is not None and (is_near or len(last) < _LEAST_GROUP):
            groups[-1] = np.append(last, index)
        else:
            groups.append(np.array([index]))
    if len(groups) > 1 and len(groups[-1]) < _LEAST_GROUP:
        groups[-2:] = [np.concatenate(groups[-2:])]
    return _Means(
        np.array([np.exp(np.mean(np.log(distance[own]))) for own in groups]),
        np.array([np.mean(error[own]) for own in groups]),
        np.array([len(own) for own in groups]),
    )


def _describe_distance(
    results: Results,
    means: _Means,
    checked: float,
    targets: np.ndarray,
) -> str:
    if len(means.num_runs):
        text = (
            f"At about {format.ratio(means.distance[-1], 1)} times the largest "
            f"fitted compute {means.num_runs[-1]} held-out runs are "
            f"{format.percent(means.error[-1])} off on average"
        )
    else:
        test = max(results.fit.inner_tests, key=lambda test: test.ratio)
        text = (
            f"With the top {format.count(test.ratio)} times of compute hidden, "
            f"predictions are {format.percent(test.error)} off on average"
        )
    if len(targets) and targets.max() > checked:
        text += (
            f"; a target lies at {format.ratio(float(targets.max()), 1)} times, "
            "where nothing was checked"
        )
    return text + "."

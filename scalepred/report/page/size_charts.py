"""The law over model and data size, along each of them, and over repeated data."""

import numpy as np

from scalepred.metrics import find_noun
from scalepred.report import format, words
from scalepred.report.page.axis import Axis
from scalepred.report.page.chart import Chart, Key
from scalepred.report.page.results_axes import (
    data_unit,
    draw_runs,
    draw_targets,
    find_sizes,
    run_keys,
    say_value,
    size_axis,
    value_axis,
)
from scalepred.report.plot_data import (
    MAX_LINES,
    NEARNESS,
    Points,
    choose_sizes,
    shown_epochs,
    trace_repeats,
)
from scalepred.report.results import Results

_LINE_PLACES = 60
_LABEL_ROOM, _REPEATS_ROOM = 92, 150
_LABEL_GAP = 21.0


def curves_along_data(results: Results) -> str:
    """The value against data size at some model sizes; "" where the law has none."""
    return _curves(results, "data", "params")


def curves_along_params(results: Results) -> str:
    """The value against model size at some data sizes; "" where the law has none."""
    return _curves(results, "params", "data")


def _curves(results: Results, along: str, other: str) -> str:
    """Lines of the law along one size; of the other one each has its own.

    The line with the interval is that of the first target, else of the largest size.
    """
    fit = results.fit
    if along not in find_sizes(results):
        return ""
    epochs = shown_epochs(results)
    points = Points.of(results.predictions)
    if epochs is not None:
        points = points.where(points.epochs == epochs)
    runs, targets = points.runs, points.of_region("target")
    has_lines = other in fit.law.axes
    fixed = np.array([getattr(fit.fitted, f"{other}_unit")])
    if has_lines:
        fixed = _choose_lines(getattr(runs, other), getattr(targets, other))
    x = size_axis(results, along, getattr(points, along))
    place = np.geomspace(x.low, x.high, _LINE_PLACES)
    sizes = {along: place[None, :], other: fixed[:, None]}
    value = np.exp(fit.fitted.log_value(sizes["params"], sizes["data"], epochs=epochs))
    chosen = len(fixed) - 1
    if len(targets.region):
        aim = getattr(targets, other)[0]
        chosen = int(np.argmin(np.abs(np.log(fixed / aim))))
    sizes = {along: place, other: fixed[chosen]}
    said = fit.fitted.predict(sizes["params"], sizes["data"], epochs=epochs)
    keys = [*run_keys(points), Key("line", "tgt line", "law, 90% interval")]
    if not words.has_intervals(results):
        keys[-1] = Key("line", "tgt line", "law")
    chart = Chart(
        f"curves-{along}",
        x,
        value_axis(results),
        keys,
        right=_LABEL_ROOM if has_lines else 26,
    )
    chart.band(place, said.lower, said.upper, "tgt band")
    for index, (size, line) in enumerate(zip(fixed, value, strict=True)):
        style = "tgt line" if index == chosen else "plain thin faint"
        chart.line(place, line, style, series=format.count(size))
    _draw_near(chart, runs, along, other, fixed, chosen)
    draw_targets(chart, results, along, "predicted", epochs)
    if has_lines:
        title = "m" if other == "params" else "n"
        _label_ends(chart, value[:, -1], [format.count(s) for s in fixed], title)
    return chart.draw(_describe_curve(results, points, x, other, fixed[chosen]))


def repeats(results: Results) -> str:
    """The value against passes over the data; "" where the law knows none."""
    if "epochs" not in results.fit.law.axes or results.surface.epochs is None:
        return ""
    points = Points.of(results.predictions)
    lines = trace_repeats(results, points.runs)
    low, high = float(lines.along[0]), float(lines.along[-1])
    x = Axis(low, high, "epochs: passes over the unique data", format.count, "epochs")
    keys = [*run_keys(points.runs), Key("line", "plain thin", "law")]
    chart = Chart("repeats", x, value_axis(results), keys, right=_REPEATS_ROOM)
    runs = points.runs
    near = np.zeros(len(runs.region), bool)
    for m, n, line in zip(lines.params, lines.data, lines.value, strict=True):
        chart.line(lines.along, line, "plain thin")
        near |= (runs.params == m) & (runs.data == n)
    draw_runs(chart, runs.where(near), "epochs", "measured")
    texts = [
        f"{format.count(m)}, {format.count(n)}"
        for m, n in zip(lines.params, lines.data, strict=True)
    ]
    _label_ends(chart, lines.value[:, -1], texts, "m, n")
    first, last = (say_value(results, float(v)) for v in lines.value[-1, [0, -1]])
    return chart.draw(
        f"With {texts[-1].replace(', ', ' parameters and ')} {data_unit(results)} the "
        f"law goes from {first} after {'one pass' if low == 1 else format.count(low)} "
        f"to {last} after {format.count(high)}."
    )


def _choose_lines(measured: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Sizes to draw a line at, ascending: those of targets, and the most measured."""
    own = np.unique(asked[:2])
    sizes = choose_sizes(measured)
    apart = [
        size for size in sizes if np.all(np.abs(np.log(size / own)) > np.log(NEARNESS))
    ]
    while len(apart) + len(own) > MAX_LINES:
        logs = np.log(apart)
        # The one with the nearest neighbours goes; the ends stay.
        gaps = logs[2:] - logs[:-2]
        apart.pop(int(np.argmin(gaps)) + 1)
    return np.sort(np.concatenate([apart, own]))


def _draw_near(
    chart: Chart,
    runs: Points,
    along: str,
    other: str,
    fixed: np.ndarray,
    chosen: int,
) -> None:
    """The runs near a line; those of other lines than the chosen one are faint."""
    own = getattr(runs, other)
    distance = np.abs(np.log(own[:, None] / fixed))
    nearest = np.argmin(distance, axis=1)
    # Of a grid every size has its line, and its points lie there.
    near = distance[np.arange(len(own)), nearest] <= np.log(NEARNESS)
    is_chosen = nearest == chosen
    for mask, look in ((near & ~is_chosen, "faint"), (near & is_chosen, "")):
        draw_runs(chart, runs.where(mask), along, "measured", look, of=len(own))


def _label_ends(chart: Chart, ends: np.ndarray, texts: list[str], title: str) -> None:
    """Words right of the ends of lines, moved apart where they would overlap."""
    down = np.clip(chart.at_y(ends), chart.top, chart.bottom)
    order = np.argsort(down)
    placed: list[float] = []
    for index in order:
        lowest = placed[-1] + _LABEL_GAP if placed else chart.top + 8.0
        placed.append(max(float(down[index]), lowest))
    limit = float(chart.bottom)
    for number in range(len(placed) - 1, -1, -1):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - _LABEL_GAP
    leaders = ""
    for index, place in zip(order, placed, strict=True):
        leaders += f"M{chart.right} {down[index]:.1f}L{chart.right + 9} {place:.1f}"
        chart.words(chart.right + 12, place + 5, texts[index])
    chart.add(f'<path class="plain thin faint" d="{leaders}"/>')
    chart.words(chart.right + 12, chart.top - 10, f"{title} =")


def _describe_curve(
    results: Results, points: Points, x: Axis, other: str, size: float
) -> str:
    along = x.shows
    unit = {"params": "parameters", "data": data_unit(results)}
    at = ""
    if other in results.fit.law.axes:
        at = f" with {format.count(size)} {unit[other]}"
    own = getattr(points, along)
    ends = np.array([own.min(), own.max()])
    sizes = {along: ends, other: np.full(2, size)}
    law = results.fit.fitted.log_value(
        sizes["params"], sizes["data"], epochs=shown_epochs(results)
    )
    first, last = (say_value(results, float(value)) for value in np.exp(law))
    metric = find_noun(results.surface.metric)
    return (
        f"The law's {metric}{at} goes from {first} at {x.write(float(ends[0]))} "
        f"{unit[along]} to {last} at {x.write(float(ends[1]))}."
    )

"""What the pictures of results share: axes, runs and targets.

Here alone stands how a number is written at an axis.
"""

import math
from typing import NamedTuple

import numpy as np

from scalepred.fitting.estimate import knows_split
from scalepred.report import format, words
from scalepred.report.page.axis import Axis, extent
from scalepred.report.page.chart import MOST_SHAPES, Chart, Key
from scalepred.report.plot_data import Points
from scalepred.report.results import Results

# More marks than this are smaller.
_CROWDED = 80
_LONGEST_UNIT = 24
# Ends of intervals that are farther out than this share of an axis are cut.
_MOST_ROOM = 0.35


def flops(number: float) -> str:
    """5.8e23."""
    return format.flops(number)


def find_sizes(results: Results) -> tuple[str, ...]:
    """Sizes along which the law means something: params, data, both or none.

    None where both rise together in the points, so that a law of both does not know
    what each is worth.
    """
    axes = results.fit.law.axes
    sizes = tuple(axis for axis in axes if axis in ("params", "data"))
    if len(sizes) == 2 and not knows_split(axes, results.fit.surface):
        return ()
    return sizes


def compute_axis(*numbers: np.ndarray | float) -> Axis:
    """Training FLOPs, reaching all numbers."""
    low, high = extent(*numbers, room=0.03)
    return Axis(low, high, "training compute of a run (FLOPs)", flops, "compute")


def size_axis(results: Results, name: str, *numbers: np.ndarray | float) -> Axis:
    """Model sizes (params) or data sizes (data), reaching all numbers."""
    low, high = extent(*numbers, room=0.03)
    if name == "params":
        return Axis(low, high, "model size m (parameters)", format.count, name)
    unit = data_unit(results)
    if unit == "FLOPs":
        return Axis(low, high, "training compute (FLOPs)", flops, name)
    return Axis(low, high, f"data size n ({unit})", format.count, name)


def data_unit(results: Results) -> str:
    """What n counts, short enough for an axis."""
    return format.printable(format.unit(results.surface)[:_LONGEST_UNIT])


def value_axis(results: Results, *numbers: np.ndarray | float) -> Axis:
    """The metric, reaching every run and number, and the ends of intervals nearby."""
    points = Points.of(results.predictions)
    low, high = extent(points.runs.measured, points.predicted, *numbers, room=0)
    room = (high / low) ** _MOST_ROOM
    ends = np.concatenate(
        [points.of_region("target").lower, points.of_region("target").upper]
    )
    near = np.clip(ends[np.isfinite(ends) & (ends > 0)], low / room, high * room)
    low, high = extent(np.array([low, high]), near)
    if math.isclose(results.surface.highest, 1.0):
        high = min(high, 1.03)
    metric = results.surface.metric

    def write(value: float) -> str:
        return format.wanted(value, metric, with_unit=False)

    return Axis(low, high, format.metric_label(metric), write, "value")


def say_value(results: Results, value: float) -> str:
    """A value in a sentence: 2.01 nats, 5.2%."""
    return format.measured(value, results.surface.metric)


class Region(NamedTuple):
    """How the runs of a region look: a shape as well as a colour."""

    name: str
    shape: str
    style: str
    text: str


REGIONS = (
    Region("fit", "circle", "fit open", "fitted"),
    Region("held_out", "square", "out full", "held out"),
)


def run_keys(points: Points) -> list[Key]:
    """Entries of a legend for the regions that there are, and for targets."""
    are_dots = len(points.region) > MOST_SHAPES
    keys = [
        Key(
            region.shape,
            region.style.replace("open", "full") if are_dots else region.style,
            region.text,
            region.name,
        )
        for region in REGIONS
        if len(points.of_region(region.name).region)
    ]
    if len(points.of_region("target").region):
        keys.append(Key("star", "tgt full", "target", "target"))
    return keys


def draw_runs(
    chart: Chart, points: Points, x: str, y: str, more: str = "", of: int = 0
) -> None:
    """Every run in one path a region; of very many, as dots.

    Args:
        chart: to draw in.
        points: runs.
        x: which column of the points stands across.
        y: which one upwards.
        more: classes.
        of: how many there are in all, where these are some of them.
    """
    count = max(of, len(points.region))
    for name, shape, style, _ in REGIONS:
        own = points.of_region(name)
        across, upwards = getattr(own, x), getattr(own, y)
        if count > MOST_SHAPES:
            color = f"{style.split()[0]} {more}".strip()
            chart.dots(across, upwards, shape, color, region=name)
        else:
            size = 3.0 if count > _CROWDED else 4.0
            look = f"{style} {more}".strip()
            chart.marks(across, upwards, shape, look, size=size, region=name)


def draw_targets(
    chart: Chart, results: Results, x: str, y: str, epochs: float | None = None
) -> None:
    """Every target as a star, with its interval where y is `predicted`.

    Args:
        chart: to draw in.
        results: whose targets.
        x: which number of a target stands across.
        y: which one upwards.
        epochs: of those that are drawn; None: all are.
    """
    for index, row in enumerate(words.targets(results)):
        if epochs is not None and row.epochs != epochs:
            continue
        lower = upper = math.nan
        if y == "predicted":
            lower, upper = row.lower, row.upper
        chart.star(
            getattr(row, x),
            getattr(row, y),
            lower,
            upper,
            format.sentence(words.describe_target(row, results)),
            target=str(index),
            region="target",
        )


def wanted_value(results: Results) -> float | None:
    """The value that was asked for, if one was."""
    asked = [answer.asked.get("value", math.nan) for answer in results.answers]
    return next((value for value in asked if math.isfinite(value)), None)

"""Curves of several groups on the same axes, and their differences from the first."""

import numpy as np

from scalepred.fitting.comparison import Comparison
from scalepred.fitting.differences import Curve
from scalepred.report import compare_words as words
from scalepred.report import format
from scalepred.report.page.axis import Axis, extent
from scalepred.report.page.chart import MOST_SHAPES, Chart, Key

_SERIES = 8  # colours that can be told apart
_SHAPES = ("circle", "square", "diamond", "cross")
_LONGEST_NAME = 24  # in a legend
# More than this of a difference is cut: a far end of a band hides all that is near.
_MOST_ROOM = 3.0
# A multiplier beyond this, or below one by it, is cut.
_MOST_TIMES = 100.0


def overlay(found: Comparison) -> str:
    """The runs of each group, and what its law says along the compared sizes."""
    groups = found.groups[:_SERIES]
    sizes, curves = found.pairs[0].sizes, _curves_by_name(found)
    values = [group.fit.surface.value for group in groups]
    lines = [curves[group.name].value for group in groups]
    low, high = extent(*values, *lines)
    high = min(high, groups[0].fit.surface.highest * 1.03)
    metric = found.metric

    def write(value: float) -> str:
        return format.wanted(value, metric, with_unit=False)

    chart = Chart(
        "families",
        _size_axis(found, sizes),
        Axis(low, high, format.metric_label(metric), write, "value"),
        [
            Key(_SHAPES[i % 4], f"s{i + 1} full", _short(group.name), series=group.name)
            for i, group in enumerate(groups)
        ],
    )
    for i, group in enumerate(groups):
        color, curve = f"s{i + 1}", curves[group.name]
        chart.band(sizes, curve.lower, curve.upper, f"{color} band", series=group.name)
    for i, group in enumerate(groups):
        color, surface = f"s{i + 1}", group.fit.surface
        form = "open" if len(surface) <= MOST_SHAPES else "full"
        chart.marks(
            group.sizes,
            surface.value,
            _SHAPES[i % 4],
            f"{color} {form}",
            size=2.6,
            region="fit",
            series=group.name,
        )
        curve = curves[group.name]
        chart.line(sizes, curve.value, f"{color} line", series=group.name)
    common = min(float(group.sizes.max()) for group in groups)
    chart.vertical(common, "all fitted up to here")
    said = "; ".join(
        f"{group.name} {format.measured(float(curves[group.name].value[-1]), metric)}"
        for group in groups
    )
    return chart.draw(f"At {words.size(found, float(sizes[-1]))} the laws say: {said}.")


def differences(found: Comparison) -> str:
    """How far each group lies from the first, along the compared sizes."""
    pairs = found.pairs[: _SERIES - 1]
    sizes = found.pairs[0].sizes
    order = [group.name for group in found.groups]
    inner = np.concatenate([pair.difference.value for pair in pairs])
    room = _MOST_ROOM * max(float(np.max(np.abs(inner))), 0.005)
    ends = [np.nan_to_num(e) for p in pairs for e in p.difference[1:]]
    ends = np.clip(np.concatenate(ends), -room, room)
    low, high = float(min(ends.min(), inner.min())), float(max(ends.max(), inner.max()))
    margin = 0.06 * (high - low) + 1e-4
    axis = Axis(
        min(low, 0.0) - margin,
        max(high, 0.0) + margin,
        f"difference from {_short(found.groups[0].name)}",
        format.percent,
        "difference",
        is_log=False,
    )
    keys = []
    for pair in pairs:
        style = f"s{order.index(pair.second) + 1}"
        keys.append(
            Key("line", f"{style} line", _short(pair.second), series=pair.second)
        )
    chart = Chart("differences", _size_axis(found, sizes), axis, keys)
    chart.line(sizes[[0, -1]], np.zeros(2), "plain thin")
    for pair in pairs:
        color = f"s{order.index(pair.second) + 1}"
        curve = pair.difference
        chart.band(sizes, curve.lower, curve.upper, f"{color} band", series=pair.second)
        chart.line(sizes, curve.value, f"{color} line", series=pair.second)
    common = min(float(group.sizes.max()) for group in found.groups)
    chart.vertical(common, "all fitted up to here")
    said = "; ".join(
        f"{pair.second} {words.difference_cell(pair.headline)}" for pair in pairs
    )
    at = words.describe_place(found.pairs[0].headline, found)
    return chart.draw(f"Difference from {order[0]} at {at}: {said}.")


def multipliers(found: Comparison) -> str:
    """How many times less each group needs than the first, along the sizes."""
    pairs = found.pairs[: _SERIES - 1]
    sizes, order = found.pairs[0].sizes, [group.name for group in found.groups]
    room = _MOST_TIMES
    curves = [np.clip(pair.multiplier, 1 / room, room) for pair in pairs]
    measured = [
        np.clip([scale.multiplier.value for scale in pair.scales], 1 / room, room)
        for pair in pairs
    ]
    known = [curve[np.isfinite(curve)] for curve in (*curves, *measured)]
    axis = Axis(
        *extent(*known, 1.0, room=0.08), _needs(found), words.times, "multiplier"
    )
    keys, styles = [], []
    for pair in pairs:
        styles.append(f"s{order.index(pair.second) + 1}")
        keys.append(
            Key("line", f"{styles[-1]} line", _short(pair.second), series=pair.second)
        )
    chart = Chart("multipliers", _size_axis(found, sizes), axis, keys)
    chart.line(sizes[[0, -1]], np.ones(2), "plain thin")
    for pair, color, curve, points in zip(pairs, styles, curves, measured, strict=True):
        own = {"series": pair.second}
        chart.band(sizes, curve[1], curve[2], f"{color} band", **own)
        at = np.array([scale.compute for scale in pair.scales])
        ends = np.clip(
            [(scale.multiplier.lower, scale.multiplier.upper) for scale in pair.scales],
            1 / room,
            room,
        ).reshape(-1, 2)
        chart.bars(at, ends[:, 0], ends[:, 1], f"{color} thin faint", **own)
        shape = _SHAPES[order.index(pair.second) % 4]
        chart.marks(at, points, shape, f"{color} open", size=3.2, **own)
        chart.line(sizes, curve[0], f"{color} line", **own)
    common = min(float(group.sizes.max()) for group in found.groups)
    chart.vertical(common, "all fitted up to here")
    said = "; ".join(
        f"{pair.second} {words.multiplier_cell(pair.headline.multiplier)}"
        for pair in pairs
    )
    at = words.describe_place(found.pairs[0].headline, found)
    return chart.draw(f"Times less than {order[0]} at {at}: {said}.")


def _needs(found: Comparison) -> str:
    return f"times less {words.axis_name(found)} than {_short(found.groups[0].name)}"


def _curves_by_name(found: Comparison) -> dict[str, Curve]:
    first = found.pairs[0]
    return {first.first: first.curves[0]} | {
        pair.second: pair.curves[1] for pair in found.pairs
    }


def _size_axis(found: Comparison, sizes: np.ndarray) -> Axis:
    low, high = extent(sizes, room=0.03)
    if found.unit == "FLOPs":
        name = "training compute of a run (FLOPs)"
        return Axis(low, high, name, format.flops, "compute")
    if found.axis == "params":
        return Axis(low, high, "model size m (parameters)", format.count, "params")
    unit = format.printable(found.unit[:_LONGEST_NAME])
    return Axis(low, high, f"data size n ({unit})", format.count, "data")


def names(found: Comparison) -> dict[str, str]:
    """What stands for each group that is drawn, by its name."""
    return {group.name: _short(group.name) for group in found.groups[:_SERIES]}


def _short(name: str) -> str:
    """A name as a legend has room for it."""
    name = format.printable(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"

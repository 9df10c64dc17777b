"""The figures of a report, drawn from a `PlotData` alone.

Matplotlib without pyplot, so that nothing global is kept and no display is asked
for. Sizes are told apart by a colour map that is safe for the colour-blind, fit and
held-out points by shape and filling as well as colour.
"""

import functools
import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colors, patheffects, ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from scalepred.report import format
from scalepred.report.plot_data import NEARNESS, FigureFiles, Lines, PlotData, Points

_DPI = 150
# More points than this are drawn as dots of an image, also in files of lines.
_MOST_LINES = 2000
# Okabe and Ito's blue, vermilion and green.
_FIT, _HELD_OUT, _TARGET = "#0072B2", "#D55E00", "#009E73"
_SIZES_MAP = mpl.colormaps["viridis"]

_PERCENT = ticker.FuncFormatter(lambda share, _: f"{100 * share:.3g}%")

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "scalepred",  # the same results give the same file
}


def make_figure(plot: PlotData, name: str) -> Figure:
    """One of `PlotData.figures`."""
    with mpl.rc_context(STYLE):
        return _DRAW[name](plot)


def draw(plot: PlotData, name: str) -> FigureFiles:
    """One of `PlotData.figures`, as it goes into files."""
    with mpl.rc_context(STYLE):
        figure = make_figure(plot, name)
        # The layout is made once; every format is then drawn from the same places.
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)
        figure.set_layout_engine(None)  # "none" would be asked again at each save
        # Half of zlib's default: a tenth larger, and a fifth faster drawn.
        light = {"compress_level": 3}
        png = render(figure, "png", {"Software": None}, pil_kwargs=light)
        return FigureFiles(png, render(figure, "svg", {"Date": None, "Creator": None}))


def render(
    figure: Figure, form: str, metadata: Mapping[str, str | None], **options: Any
) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=form, dpi=_DPI, metadata=metadata, **options)
    return file.getvalue()


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_predicted(plot: PlotData) -> Figure:
    """Predicted against measured, and the relative error against compute."""
    figure = _new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    metric = plot.metric
    form = functools.partial(_value_tick, metric=metric)
    runs = plot.points.where(np.isfinite(plot.points.measured))
    places = np.stack([runs.measured, runs.predicted])
    low, high = places.min() / 1.12, places.max() * 1.12
    left.plot([low, high], [low, high], color="#555555", linewidth=0.9)
    reach = 1.5 * max(0.05, float(np.abs(runs.relative_error).max()))
    right.axhline(0, color="#555555", linewidth=0.9)
    for region, label in (
        ("fit", "fitted"),
        ("held_out", "held out"),
        ("target", "forecast, then trained"),
    ):
        chosen = runs.of_region(region)
        if len(chosen.region):
            _draw_region(left, right, chosen, f"{label} ({len(chosen.region)})")
    left.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    left.set_aspect("equal")
    for axis, name in ((left.xaxis, "measured"), (left.yaxis, "predicted")):
        _set_log(axis, low, high, form)
        axis.set_label_text(f"{name} {format.metric_label(metric)}")
    left.set_title("Predicted against measured")
    low, high = runs.compute.min() / 1.5, runs.compute.max() * 1.5
    right.set(xscale="log", xlim=(low, high), ylim=(-reach, reach))
    right.set_xlabel("training FLOPs of a run")
    _set_log(right.xaxis, low, high, format.flops)
    right.yaxis.set_major_formatter(_PERCENT)
    right.set_ylabel("predicted / measured - 1")
    right.set_title("Relative error against compute")
    left.legend(loc="upper left")
    return figure


def _draw_region(left: Axes, right: Axes, points: Points, label: str) -> None:
    """The points of one region with their 90 % intervals, on both axes."""
    is_crowded = len(points.region) > 60
    predicted = points.predicted
    marker, color, face, size = {
        "fit": ("o", _FIT, "white", 4.5),
        "held_out": ("s", _HELD_OUT, _HELD_OUT, 4.5),
        "target": ("*", _TARGET, _TARGET, 10.0),
    }[str(points.region[0])]
    style: dict[str, Any] = {
        "fmt": marker,
        "markersize": 3.2 if is_crowded else size,
        "color": color,
        "markerfacecolor": face,
        "markeredgewidth": 0.7 if is_crowded else 1.1,
        "elinewidth": 0.5 if is_crowded else 0.8,
        "rasterized": len(points.region) > _MOST_LINES,
    }
    ends = predicted - points.lower, points.upper - predicted
    gaps = np.maximum(ends, 0)
    left.errorbar(points.measured, predicted, yerr=gaps, label=label, **style)
    gaps = gaps / points.measured
    right.errorbar(points.compute, points.relative_error, yerr=gaps, **style)


def _draw_epochs(plot: PlotData) -> Figure:
    """The value against epochs at the sizes that were measured at most of them."""
    figure = _new_figure(8.2, 4.6)
    axes = figure.subplots()
    runs, lines = plot.points.runs, plot.repeats
    assert lines is not None
    shown = np.zeros(len(runs.region), bool)
    shades = _SIZES_MAP(np.linspace(0, 0.88, len(lines.value)))
    for m, n, line, shade in zip(
        lines.params, lines.data, lines.value, shades, strict=True
    ):
        name = f"{format.count(m)}, {format.count(n)}"
        axes.plot(lines.along, line, color=shade, lw=1.2, label=name)
        own = (runs.params == m) & (runs.data == n)
        shown |= own
        for mask, marker, face in (
            (runs.is_fitted, "o", "white"),
            (~runs.is_fitted, "s", shade),
        ):
            axes.plot(
                runs.epochs[own & mask],
                runs.measured[own & mask],
                marker,
                color=shade,
                markerfacecolor=face,
                markersize=4.5,
                rasterized=len(own) > _MOST_LINES,
            )
    measured, law = runs.measured[shown], lines.value
    low, high = min(measured.min(), law.min()), max(measured.max(), law.max())
    first, last = lines.along[0], lines.along[-1]
    axes.set(xscale="log", yscale="log", xlim=(first / 1.05, last))
    axes.set(ylim=(low / 1.05, high * 1.05))
    _set_log(axes.xaxis, first, last, format.count)
    form = functools.partial(_value_tick, metric=plot.metric)
    _set_log(axes.yaxis, low / 1.05, high * 1.05, form)
    axes.set(xlabel="epochs: passes over the unique data")
    axes.set(ylabel=format.metric_label(plot.metric))
    axes.legend(
        title=f"m, n ({_plain(plot.data_unit)})",
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
    return figure


def _draw_surface(plot: PlotData) -> Figure:
    """The law as colour over m and n, the measurements as points on it."""
    figure = _new_figure(8.2, 5.2)
    axes = figure.subplots()
    points, metric = plot.shown, plot.metric
    params, data, fitted = plot.map
    low = min(fitted.min(), points.runs.measured.min())
    high = max(fitted.max(), points.runs.measured.max())
    norm = colors.LogNorm(low, high * (1 + 1e-9))
    style: dict[str, Any] = {"cmap": "viridis", "norm": norm}
    # First the scale: the labels of contours are placed as they will be seen.
    axes.set(xscale="log", yscale="log")
    mesh = axes.pcolormesh(
        data, params, fitted, shading="gouraud", rasterized=True, **style
    )
    form = functools.partial(_value_tick, metric=metric)
    levels = _log_ticks(fitted.min(), fitted.max(), at_most=9)
    if levels:
        lines = axes.contour(
            data, params, fitted, levels=levels, colors="white", linewidths=0.7
        )
        axes.clabel(lines, inline_spacing=2, fmt=form, fontsize=7.5)
    _scatter_runs(axes, points, style)
    axes.grid(False)
    _set_log(axes.xaxis, data[0], data[-1], format.count)
    _set_log(axes.yaxis, params[0], params[-1], format.count)
    axes.set(xlabel=f"data size n ({_plain(plot.data_unit)})")
    axes.set(ylabel="model size m (parameters)")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    _set_log(bar.ax.yaxis, low, high, form)
    bar.set_label(format.metric_label(metric))
    axes.set_title(plot.said)
    legend = figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_array(None)
            handle.set_facecolor("#777777")
    return figure


def _scatter_runs(axes: Axes, points: Points, style: dict[str, Any]) -> None:
    """Every run and target on the map, in the colours of its scale."""
    # White with a dark rim: seen on every colour of the map. Of very many points it
    # would hide the others.
    rim = [patheffects.withStroke(linewidth=2.4, foreground="#222222")]
    for region, marker, size, label in (
        ("fit", "o", 34, "measured, fitted"),
        ("held_out", "s", 34, "measured, held out"),
        ("target", "*", 130, "target, as forecast"),
    ):
        chosen = points.of_region(region)
        if not len(chosen.region):
            continue
        axes.scatter(
            chosen.data,
            chosen.params,
            c=chosen.predicted if region == "target" else chosen.measured,
            marker=marker,
            s=size / 2 if len(points.region) > 100 else size,
            edgecolors="white",
            linewidths=1.0,
            path_effects=None if len(points.region) > _MOST_LINES else rim,
            label=label,
            zorder=3,
            rasterized=len(points.region) > _MOST_LINES,
            **style,
        )


def _draw_curves(plot: PlotData) -> Figure:
    """The value against n at each m, and against m at each n."""
    figure = _new_figure(9.6, 4.8)
    panels = figure.subplots(1, 2, sharey=True)
    runs, metric = plot.shown.runs, plot.metric
    values = runs.measured, plot.by_params.value, plot.by_data.value
    low, high = min(map(np.min, values)), max(map(np.max, values))
    # Less where all values are close together, or they would be a line in the middle.
    room = float(np.clip((high / low) ** 0.15, 1.003, 1.08))
    low, high = low / room, high * room
    form = functools.partial(_value_tick, metric=metric)
    panels[0].set(yscale="log", ylim=(low, high))
    _draw_panel(panels[0], plot, plot.by_params, "m")
    _draw_panel(panels[1], plot, plot.by_data, "n")
    _set_log(panels[0].yaxis, low, high, form)
    panels[0].set_ylabel(format.metric_label(metric))
    grey: dict[str, Any] = {"linestyle": "", "color": "#555555"}
    handles: list[Artist] = [
        Line2D([], [], marker="o", markerfacecolor="white", label="fitted", **grey),
        Line2D([], [], color="#555555", label="law"),
    ]
    if not np.all(runs.is_fitted):
        handles.insert(1, Line2D([], [], marker="s", label="held out", **grey))
    if plot.has_intervals:
        handles.append(Patch(color="#cccccc", label="90% interval"))
    if plot.said:
        figure.suptitle(plot.said, fontsize=9.5)
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _draw_panel(axes: Axes, plot: PlotData, lines: Lines, fixed_name: str) -> None:
    """One line a size of `fixed_name`, m or n, its interval, and the points near it."""
    runs = plot.shown.runs
    own, other = runs.params, runs.data
    names = {"m": "parameters", "n": _plain(plot.data_unit)}
    free_name = "n"
    if fixed_name == "n":
        own, other, free_name = other, own, "m"
    is_grid = len(lines.fixed) == len(np.unique(own))
    nearness = 1 + 1e-9 if is_grid else NEARNESS
    shown = np.zeros(len(own), bool)
    shades = _SIZES_MAP(np.linspace(0, 0.88, len(lines.fixed)))
    for size, value, lower, upper, shade in zip(
        lines.fixed, lines.value, lines.lower, lines.upper, shades, strict=True
    ):
        axes.fill_between(lines.along, lower, upper, color=shade, alpha=0.18, lw=0)
        axes.plot(lines.along, value, color=shade, lw=1.2, label=format.count(size))
        near = np.abs(np.log(own / size)) <= np.log(nearness)
        shown |= near
        for mask, marker, face in (
            (near & runs.is_fitted, "o", "white"),
            (near & ~runs.is_fitted, "s", shade),
        ):
            axes.plot(
                other[mask],
                runs.measured[mask],
                marker,
                color=shade,
                markerfacecolor=face,
                markersize=4.5,
            )
    title = f"Against {free_name} at each {fixed_name}"
    if not is_grid:
        title = (
            f"Against {free_name} at {len(lines.fixed)} of {len(np.unique(own))} "
            f"sizes {fixed_name},\nwith the {np.sum(shown)} of {len(own)} points "
            f"within {NEARNESS - 1:.0%} of them"
        )
    along = lines.along
    axes.set(title=title, xlabel=f"{free_name} ({names[free_name]})")
    axes.set(xscale="log", xlim=(along[0], along[-1]))
    _set_log(axes.xaxis, along[0], along[-1], format.count, at_most=5)
    axes.legend(
        title=f"{fixed_name}, {names[fixed_name]}",
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=1.2,
        borderaxespad=0.2,
    )


def _draw_corners(plot: PlotData) -> Figure:
    """The paper's array: error of extrapolating from each corner of the grid."""
    assert plot.corners is not None
    params, data, mean, std, own = plot.corners
    figure = _new_figure(9.6, 1.6 + 0.42 * max(len(data), 3))
    panels = figure.subplots(1, 2, sharey=True)
    # A corner on the plateau may miss by 1000%; it must not hide all the others.
    limit = float(np.clip(np.nanquantile(np.abs(mean), 0.75) * 1.5, 0.02, 0.5))
    for axes, values, title, low, shades in (
        (panels[0], mean, "Mean of the relative error", -limit, "PuOr_r"),
        (panels[1], std, "Its standard deviation", 0.0, "Purples"),
    ):
        norm = colors.Normalize(low, limit)
        image = axes.imshow(
            values, cmap=shades, norm=norm, origin="lower", aspect="auto"
        )
        _write_cells(axes, values, mpl.colormaps[shades], norm)
        if own is not None:
            place = own[1] - 0.5, own[0] - 0.5
            axes.add_patch(Rectangle(place, 1, 1, fill=False, lw=2, zorder=3))
        axes.set_title(title)
        axes.set_xticks(range(len(params)), [format.count(size) for size in params])
        axes.tick_params(axis="x", labelrotation=30 if len(params) > 5 else 0)
        axes.set_yticks(range(len(data)), [format.count(size) for size in data])
        axes.set_xlabel("fitted up to m (parameters)")
        axes.grid(False)
        bar = figure.colorbar(image, ax=axes, pad=0.02, extend="both" if low else "max")
        bar.ax.yaxis.set_major_formatter(_PERCENT)
        bar.ax.grid(False)
    panels[0].set_ylabel(f"fitted up to n ({_plain(plot.data_unit)})")
    return figure


def _write_cells(
    axes: Axes, values: np.ndarray, shades: colors.Colormap, norm: colors.Normalize
) -> None:
    is_narrow = values.shape[1] > 8
    for (row, column), value in np.ndenumerate(values):
        if math.isnan(value):
            continue
        red, green, blue, _ = shades(norm(value))
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
        axes.text(
            column,
            row,
            format.whole_percent(value) if is_narrow else format.percent(value),
            ha="center",
            va="center",
            fontsize=6.5 if is_narrow else 7.5,
            color="white" if is_dark else "black",
        )


def _set_log(
    axis: Axis, low: float, high: float, form: Callable[[float], str], at_most: int = 7
) -> None:
    """Few, round, labelled ticks on an axis whose scale is logarithmic already."""
    axis.set_major_locator(ticker.FixedLocator(_log_ticks(low, high, at_most)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: form(value)))
    axis.set_minor_locator(ticker.NullLocator())  # each tick takes a millisecond


def _log_ticks(low: float, high: float, at_most: int) -> list[float]:
    """Round numbers from low to high: the densest series with few enough of them."""
    if high / low < 2:  # as good as linear
        locator = ticker.MaxNLocator(at_most - 1, steps=[1, 2, 2.5, 5, 10])
        return [t for t in locator.tick_values(low, high) if low <= t <= high]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    ):
        denser = [digit * 10.0**decade for decade in decades for digit in digits]
        denser = [tick for tick in denser if low <= tick <= high]
        if len(denser) > at_most:
            return ticks or denser[:: math.ceil(len(denser) / at_most)]
        ticks = denser
    return ticks


def _value_tick(value: float, metric: str) -> str:
    return format.wanted(value, metric, with_unit=False)


def _plain(text: str) -> str:
    """Text from outside, short, without mathematics or letters the font lacks."""
    text = format.printable(text[:24])
    known = "".join(char if ord(char) < 0x500 else "?" for char in text)
    return known.replace("$", r"\$")


_DRAW: dict[str, Callable[[PlotData], Figure]] = {
    "predicted": _draw_predicted,
    "surface": _draw_surface,
    "curves": _draw_curves,
    "epochs": _draw_epochs,
    "corners": _draw_corners,
}
MOST = len(_DRAW)

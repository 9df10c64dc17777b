"""The figures of a report, drawn from `Results` alone.

Matplotlib without pyplot, so that nothing global is kept and no display is asked
for. Sizes are told apart by a colour map that is safe for the colour-blind, fit and
held-out points by shape and filling as well as colour.
"""

import dataclasses
import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from etils import epath
from matplotlib import colors, patheffects, ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from scalepred.fitting.backtest import Corner
from scalepred.fitting.predict import Prediction
from scalepred.report import words
from scalepred.results import PredictionRow, Results

_DPI = 150
# Okabe and Ito's blue, vermilion and green.
_FIT, _HELD_OUT, _TARGET = "#0072B2", "#D55E00", "#009E73"
_SIZES_MAP = mpl.colormaps["viridis"]
# More lines than this cannot be told apart.
_MAX_LINES = 8
# A point belongs to a line if its size is this close to the line's.
_NEARNESS = 1.1
_LINE_PLACES = 25
_SURFACE_PLACES = 40
_MAX_CORNER_SIZES = 10

_PERCENT = ticker.FuncFormatter(lambda share, _: f"{100 * share:.3g}%")

_STYLE: dict[Any, Any] = {
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


def draw_figures(results: Results) -> dict[str, Figure]:
    """Every figure that these results have points for, by name.

    Returns:
        predicted, surface, curves; epochs where the law knows of them; and corners
        where the grid has any.
    """
    with mpl.rc_context(_STYLE):
        chosen = _at_one_number_of_epochs(results)
        figures = {
            "predicted": _draw_predicted(results),
            "surface": _draw_surface(chosen),
            "curves": _draw_curves(chosen),
        }
        if "epochs" in results.fit.law.axes:
            figures["epochs"] = _draw_epochs(results)
        if any(math.isfinite(corner.mean) for corner in results.corners):
            figures["corners"] = _draw_corners(results)
        # The layout is made once; every format is then drawn from the same places.
        for figure in figures.values():
            layout = figure.get_layout_engine()
            assert layout is not None
            layout.execute(figure)
            figure.set_layout_engine(None)  # "none" would be asked again at each save
    return figures


def save_figures(figures: dict[str, Figure], folder: epath.Path) -> None:
    """Writes each figure as NAME.png and NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for form in ("png", "svg"):
            (folder / f"{name}.{form}").write_bytes(render(figure, form))


# The page and the folder hold the same drawings; making them is what takes time.
@functools.lru_cache(maxsize=16)
def render(figure: Figure, form: str) -> bytes:
    """The bytes of a "png" or "svg" file, the same for the same results."""
    file = io.BytesIO()
    metadata = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context(_STYLE):
        figure.savefig(file, format=form, dpi=_DPI, metadata=metadata)
    return file.getvalue()


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_predicted(results: Results) -> Figure:
    """Predicted against measured, and the relative error against compute."""
    figure = _new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    metric = results.surface.metric
    form = functools.partial(_value_tick, metric=metric)
    rows = [row for row in results.predictions if row.region != "target"]
    places = np.array([(row.measured, row.predicted) for row in rows])
    low, high = places.min() / 1.12, places.max() * 1.12
    left.plot([low, high], [low, high], color="#555555", linewidth=0.9)
    relative = np.array([row.relative_error for row in rows])
    reach = 1.5 * max(0.05, float(np.abs(relative).max()))
    right.axhline(0, color="#555555", linewidth=0.9)
    for region, label in (("fit", "fitted"), ("held_out", "held out")):
        chosen = [row for row in rows if row.region == region]
        if chosen:
            _draw_region(left, right, chosen, f"{label} ({len(chosen)})")
    left.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    left.set_aspect("equal")
    for axis, name in ((left.xaxis, "measured"), (left.yaxis, "predicted")):
        _set_log(axis, low, high, form)
        axis.set_label_text(f"{name} {words.metric_label(metric)}")
    left.set_title("Predicted against measured")
    compute = np.array([row.compute for row in rows])
    low, high = compute.min() / 1.5, compute.max() * 1.5
    right.set(xscale="log", xlim=(low, high), ylim=(-reach, reach))
    right.set_xlabel("training FLOPs of a run")
    _set_log(right.xaxis, low, high, words.count)
    right.yaxis.set_major_formatter(_PERCENT)
    right.set_ylabel("predicted / measured - 1")
    right.set_title("Relative error against compute")
    left.legend(loc="upper left")
    return figure


def _draw_region(
    left: Axes, right: Axes, rows: Sequence[PredictionRow], label: str
) -> None:
    """The points of one region with their 90 % intervals, on both axes."""
    fitted = rows[0].region == "fit"
    is_crowded = len(rows) > 60
    measured, predicted, lower, upper, relative, compute = np.transpose(
        [
            (
                row.measured,
                row.predicted,
                row.lower,
                row.upper,
                row.relative_error,
                row.compute,
            )
            for row in rows
        ]
    )
    style: dict[str, Any] = {
        "fmt": "o" if fitted else "s",
        "markersize": 3.2 if is_crowded else 4.5,
        "color": _FIT if fitted else _HELD_OUT,
        "markerfacecolor": "white" if fitted else _HELD_OUT,
        "markeredgewidth": 0.7 if is_crowded else 1.1,
        "elinewidth": 0.5 if is_crowded else 0.8,
    }
    down, up = (np.maximum(gap, 0) for gap in (predicted - lower, upper - predicted))
    left.errorbar(measured, predicted, yerr=[down, up], label=label, **style)
    gaps = [down / measured, up / measured]
    right.errorbar(compute, relative, yerr=gaps, **style)


def _at_one_number_of_epochs(results: Results) -> Results:
    """The points and targets of data seen once, else of the most frequent epochs.

    All of them where the law knows nothing of epochs.
    """
    epochs = results.surface.epochs
    if epochs is None or "epochs" not in results.fit.law.axes:
        return results
    numbers, counts = np.unique(epochs, return_counts=True)
    most = 1.0 if 1.0 in numbers else numbers[np.argmax(counts)]
    return dataclasses.replace(
        results,
        surface=results.surface.where(epochs == most),
        predictions=[row for row in results.predictions if row.epochs == most],
    )


def _drawn_epochs(results: Results) -> float | None:
    """Of the points that `_at_one_number_of_epochs` left; None: nothing is known."""
    epochs = results.surface.epochs
    if epochs is None or "epochs" not in results.fit.law.axes:
        return None
    return float(epochs[0])


def _say_epochs(results: Results) -> str:
    epochs = _drawn_epochs(results)
    if epochs is None:
        return ""
    return "Law and points of " + words.passes(epochs).removeprefix(", ")


def _draw_epochs(results: Results) -> Figure:
    """The value against epochs at the sizes that were measured at most of them."""
    figure = _new_figure(8.2, 4.6)
    axes = figure.subplots()
    surface, epochs = results.surface, results.surface.epochs
    assert epochs is not None
    sizes = np.stack([surface.params, surface.data], axis=1)
    places, owner = np.unique(sizes, axis=0, return_inverse=True)
    owner, in_fit = owner.reshape(-1), _in_fit(results)
    counts = np.bincount(owner)
    chosen = np.argsort(-counts, kind="stable")[:_MAX_LINES]
    chosen = np.sort(chosen[counts[chosen] > min(1, counts.max() - 1)])
    along = _spaced(epochs, _LINE_PLACES)
    along = np.maximum(along, 1.0)
    law = results.fit.fitted.log_value(
        places[chosen, :1], places[chosen, 1:], epochs=along
    )
    shades = _SIZES_MAP(np.linspace(0, 0.88, len(chosen)))
    for place, line, shade in zip(chosen, np.exp(law), shades, strict=True):
        m, n = (words.count(size) for size in places[place])
        axes.plot(along, line, color=shade, lw=1.2, label=f"{m}, {n}")
        for mask, marker, face in ((in_fit, "o", "white"), (~in_fit, "s", shade)):
            mine = mask & (owner == place)
            axes.plot(
                epochs[mine],
                surface.value[mine],
                marker,
                color=shade,
                markerfacecolor=face,
                markersize=4.5,
            )
    shown = surface.value[np.isin(owner, chosen)]
    low, high = min(shown.min(), np.exp(law).min()), max(shown.max(), np.exp(law).max())
    axes.set(xscale="log", yscale="log", xlim=(along[0] / 1.05, along[-1]))
    axes.set(ylim=(low / 1.05, high * 1.05))
    _set_log(axes.xaxis, along[0], along[-1], words.count)
    form = functools.partial(_value_tick, metric=surface.metric)
    _set_log(axes.yaxis, low / 1.05, high * 1.05, form)
    axes.set(xlabel="epochs: passes over the unique data")
    axes.set(ylabel=words.metric_label(surface.metric))
    axes.legend(
        title=f"m, n ({_plain(words.unit(surface))})",
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
    return figure


def _draw_surface(results: Results) -> Figure:
    """The law as colour over m and n, the measurements as points on it."""
    figure = _new_figure(8.2, 5.2)
    axes = figure.subplots()
    surface, metric = results.surface, results.surface.metric
    rows = results.predictions
    data = _spaced([row.data for row in rows], _SURFACE_PLACES)
    params = _spaced([row.params for row in rows], _SURFACE_PLACES)
    fitted = np.exp(
        results.fit.fitted.log_value(
            params[:, None], data[None, :], epochs=_drawn_epochs(results)
        )
    )
    low = min(fitted.min(), surface.value.min())
    high = max(fitted.max(), surface.value.max())
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
    # White with a dark rim: seen on every colour of the map.
    rim = [patheffects.withStroke(linewidth=2.4, foreground="#222222")]
    for region, marker, size, label in (
        ("fit", "o", 34, "measured, fitted"),
        ("held_out", "s", 34, "measured, held out"),
        ("target", "*", 130, "target, not measured"),
    ):
        chosen = [row for row in rows if row.region == region]
        if not chosen:
            continue
        is_target = region == "target"
        values = [row.predicted if is_target else row.measured for row in chosen]
        axes.scatter(
            [row.data for row in chosen],
            [row.params for row in chosen],
            c=values,
            marker=marker,
            s=size / 2 if len(rows) > 100 else size,
            edgecolors="white",
            linewidths=1.0,
            path_effects=rim,
            label=label,
            zorder=3,
            **style,
        )
    axes.grid(False)
    _set_log(axes.xaxis, data[0], data[-1], words.count)
    _set_log(axes.yaxis, params[0], params[-1], words.count)
    axes.set(xlabel=f"data size n ({_plain(words.unit(surface))})")
    axes.set(ylabel="model size m (parameters)")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    _set_log(bar.ax.yaxis, low, high, form)
    bar.set_label(words.metric_label(metric))
    axes.set_title(_say_epochs(results))
    legend = figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_array(None)
            handle.set_facecolor("#777777")
    return figure


def _draw_curves(results: Results) -> Figure:
    """The value against n at each m, and against m at each n."""
    figure = _new_figure(9.6, 4.8)
    panels = figure.subplots(1, 2, sharey=True)
    surface, metric = results.surface, results.surface.metric
    fixed = _choose_sizes(surface.params), _choose_sizes(surface.data)
    along = _spaced(surface.data, _LINE_PLACES), _spaced(surface.params, _LINE_PLACES)
    # All lines of both panels in one call: each new shape is compiled anew.
    params = np.concatenate(
        [np.repeat(fixed[0], len(along[0])), np.tile(along[1], len(fixed[1]))]
    )
    data = np.concatenate(
        [np.tile(along[0], len(fixed[0])), np.repeat(fixed[1], len(along[1]))]
    )
    lines = _predict(results, params, data)
    split = len(fixed[0]) * len(along[0])
    low = min(lines.value.min(), surface.value.min())
    high = max(lines.value.max(), surface.value.max())
    # Less where all values are close together, or they would be a line in the middle.
    room = float(np.clip((high / low) ** 0.15, 1.003, 1.08))
    low, high = low / room, high * room
    form = functools.partial(_value_tick, metric=metric)
    panels[0].set(yscale="log", ylim=(low, high))
    _draw_panel(
        panels[0], results, fixed[0], along[0], _part(lines, slice(None, split)), "m"
    )
    _draw_panel(
        panels[1], results, fixed[1], along[1], _part(lines, slice(split, None)), "n"
    )
    _set_log(panels[0].yaxis, low, high, form)
    panels[0].set_ylabel(words.metric_label(metric))
    grey: dict[str, Any] = {"linestyle": "", "color": "#555555"}
    handles: list[Artist] = [
        Line2D([], [], marker="o", markerfacecolor="white", label="fitted", **grey),
        Line2D([], [], color="#555555", label="law"),
    ]
    if not np.all(_in_fit(results)):
        handles.insert(1, Line2D([], [], marker="s", label="held out", **grey))
    if words.has_intervals(results):
        handles.append(Patch(color="#cccccc", label="90% interval"))
    if said := _say_epochs(results):
        figure.suptitle(said, fontsize=9.5)
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _part(lines: Prediction, part: slice) -> Prediction:
    return Prediction(*(leaf[part] for leaf in lines))


def _draw_panel(
    axes: Axes,
    results: Results,
    fixed_sizes: np.ndarray,
    along: np.ndarray,
    lines: Prediction,
    fixed_name: str,
) -> None:
    """One line a size of `fixed_name`, its interval, and the points near it.

    Args:
        axes: where.
        results: for the points.
        fixed_sizes: the size of each line [lines].
        along: the other size, the same on every line [places].
        lines: the law [lines * places].
        fixed_name: m or n.
    """
    surface = results.surface
    own, other = surface.params, surface.data
    names = {"m": "parameters", "n": _plain(words.unit(surface))}
    free_name = "n"
    if fixed_name == "n":
        own, other, free_name = other, own, "m"
    in_fit = _in_fit(results)
    is_grid = len(fixed_sizes) == len(np.unique(own))
    nearness = 1 + 1e-9 if is_grid else _NEARNESS
    shown = np.zeros(len(surface), bool)
    shades = _SIZES_MAP(np.linspace(0, 0.88, len(fixed_sizes)))
    shape = len(fixed_sizes), len(along)
    value, lower, upper = (leaf.reshape(shape) for leaf in lines[:3])
    for k, (size, shade) in enumerate(zip(fixed_sizes, shades, strict=True)):
        axes.fill_between(along, lower[k], upper[k], color=shade, alpha=0.18, lw=0)
        axes.plot(along, value[k], color=shade, lw=1.2, label=words.count(size))
        near = np.abs(np.log(own / size)) <= np.log(nearness)
        shown |= near
        for mask, marker, face in (
            (near & in_fit, "o", "white"),
            (near & ~in_fit, "s", shade),
        ):
            axes.plot(
                other[mask],
                surface.value[mask],
                marker,
                color=shade,
                markerfacecolor=face,
                markersize=4.5,
            )
    title = f"Against {free_name} at each {fixed_name}"
    if not is_grid:
        title = (
            f"Against {free_name} at {len(fixed_sizes)} of {len(np.unique(own))} "
            f"sizes {fixed_name},\nwith the {np.sum(shown)} of {len(surface)} points "
            f"within {_NEARNESS - 1:.0%} of them"
        )
    axes.set(title=title, xlabel=f"{free_name} ({names[free_name]})")
    axes.set(xscale="log", xlim=(along[0], along[-1]))
    _set_log(axes.xaxis, along[0], along[-1], words.count, at_most=5)
    axes.legend(
        title=f"{fixed_name}, {names[fixed_name]}",
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=1.2,
        borderaxespad=0.2,
    )


def _in_fit(results: Results) -> np.ndarray:
    """Which points of the surface were fitted [points]."""
    rows = results.predictions[: len(results.surface)]
    return np.array([row.region == "fit" for row in rows])


def _choose_sizes(values: np.ndarray) -> np.ndarray:
    """Sizes to draw a line at, ascending: all of a grid, else the most measured.

    Scattered sizes are taken by the number of points near them, each well away from
    those taken before.
    """
    sizes = np.unique(values)
    if len(sizes) <= _MAX_LINES:
        return sizes
    logs = np.log(sizes)
    gap = (logs[-1] - logs[0]) / (_MAX_LINES + 1)
    distance = np.abs(logs[:, None] - np.log(values)[None, :])
    popularity = np.sum(distance <= np.log(_NEARNESS), axis=1)
    chosen: list[float] = []
    for index in np.argsort(-popularity, kind="stable"):
        if all(abs(logs[index] - np.log(size)) >= gap for size in chosen):
            chosen.append(float(sizes[index]))
    return np.sort(chosen[:_MAX_LINES])


def _predict(results: Results, params: np.ndarray, data: np.ndarray) -> Prediction:
    """With intervals for a mean over as many seeds as most points have.

    Without resamples there is no interval: NaN.
    """
    if words.has_intervals(results):
        num_seeds = int(np.median(results.surface.num_seeds))
        return results.fit.predict(params, data, num_seeds, _drawn_epochs(results))
    epochs = _drawn_epochs(results)
    value = np.exp(results.fit.fitted.log_value(params, data, epochs=epochs))
    nothing = np.full_like(value, math.nan)
    return Prediction(value, nothing, nothing, nothing, nothing)


def _draw_corners(results: Results) -> Figure:
    """The paper's array: error of extrapolating from each corner of the grid."""
    params, data, corners = choose_corners(results.corners)
    mean = np.full((len(data), len(params)), math.nan)
    std = mean.copy()
    for (m, n), corner in corners.items():
        place = data.index(n), params.index(m)
        mean[place] = corner.mean
        std[place] = corner.std if corner.num_targets > 1 else math.nan
    fitted = results.fit.surface
    own = float(fitted.params.max()), float(fitted.data.max())
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
        if own in corners:
            place = params.index(own[0]) - 0.5, data.index(own[1]) - 0.5
            axes.add_patch(Rectangle(place, 1, 1, fill=False, lw=2, zorder=3))
        axes.set_title(title)
        axes.set_xticks(range(len(params)), [words.count(size) for size in params])
        axes.tick_params(axis="x", labelrotation=30 if len(params) > 5 else 0)
        axes.set_yticks(range(len(data)), [words.count(size) for size in data])
        axes.set_xlabel("fitted up to m (parameters)")
        axes.grid(False)
        bar = figure.colorbar(image, ax=axes, pad=0.02, extend="both" if low else "max")
        bar.ax.yaxis.set_major_formatter(_PERCENT)
        bar.ax.grid(False)
    panels[0].set_ylabel(f"fitted up to n ({_plain(words.unit(results.surface))})")
    return figure


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
            words.whole_percent(value) if is_narrow else words.percent(value),
            ha="center",
            va="center",
            fontsize=6.5 if is_narrow else 7.5,
            color="white" if is_dark else "black",
        )


def _spaced(sizes: Sequence[float] | np.ndarray, places: int) -> np.ndarray:
    """Evenly spaced in the logarithm, a little beyond the sizes on both sides."""
    low, high = np.min(sizes), np.max(sizes)
    margin = 1.5 if low == high else (high / low) ** 0.04
    return np.geomspace(low / margin, high * margin, places)


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
    return words.wanted(value, metric, with_unit=False)


def _plain(text: str) -> str:
    """Text from outside, short, without mathematics or letters the font lacks."""
    text = words.printable(text[:24])
    known = "".join(char if ord(char) < 0x500 else "?" for char in text)
    return known.replace("$", r"\$")

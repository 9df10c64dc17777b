"""The picture of a law of the best setting: bowls, and their bottoms over the sizes."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scalepred.fitting.recipe.law import Best, RecipeLaw
from scalepred.metrics import find_noun
from scalepred.report import format, recipe_words
from scalepred.runtime.files import PICTURE

_DPI = 150
_MOST_BOWLS = 6  # that are told apart by eye
_SHOWN = (1 / 8, 8.0)  # times the best: bowls are shown as high as they are there
_SHADES = mpl.colormaps["viridis"]
_TARGET = "#D55E00"
_LIGHT = 0.75  # of the colours, that of the largest size
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def draw(law: RecipeLaw, targets: Sequence[Best] = ()) -> bytes:
    """The picture as PNG.

    Args:
        law: with one panel of bowls, and one for each size that varies in the sweep.
        targets: that are marked in the latter.
    """
    with mpl.rc_context(_STYLE):
        names = law.seen
        figure = Figure(figsize=(3.6 * (1 + len(names)), 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = np.ravel(figure.subplots(1, 1 + len(names)))
        _draw_bowls(panels[0], law)
        for axes, name in zip(panels[1:], names, strict=True):
            _draw_law(axes, law, name, targets)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, metadata=PICTURE)
        return file.getvalue()


def _draw_bowls(axes: Axes, law: RecipeLaw) -> None:
    """What each setting costs beside the best one, at some of the sizes."""
    points = law.points
    work = np.sum([np.log(size) for size in points.sizes.values()], axis=0)
    order = np.argsort(work, kind="stable")
    count = min(_MOST_BOWLS, len(order))
    chosen = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    shades = _SHADES(np.linspace(0, 0.88, count))
    # What is far from the best would hide where it lies.
    highest = float(np.expm1(max(np.median(law.cost_of(f)) for f in _SHOWN)))
    for i, shade in zip(chosen, shades, strict=True):
        tried = points.log_setting[i]
        known = np.isfinite(points.mean[i])
        cost = np.expm1(points.mean[i] - law.levels[i])
        axes.plot(np.exp(tried[known]), cost[known], "o", color=shade, markersize=4)
        bad = points.diverged[i]
        axes.plot(
            np.exp(tried[bad]), np.full(bad.sum(), 0.97 * highest), "x", color=shade
        )
        ends = np.nanmin(tried), np.nanmax(tried)
        along = np.linspace(*ends, 100)
        line = np.expm1(law.draw_bowl(i, along))
        sizes = [format.count(float(size[i])) for size in points.sizes.values()]
        axes.plot(np.exp(along), line, color=shade, lw=1.2, label=", ".join(sizes))
    axes.set(xscale="log", ylim=(-0.04 * highest, highest))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{100 * y:g}%"))
    axes.set_xlabel(recipe_words.name_knob(law))
    axes.set_ylabel(f"{find_noun(law.sweep.metric)} over the best")
    axes.set_title("Bowls (x: diverged)")
    title = ", ".join(recipe_words.symbol(name) for name in law.axes)
    axes.legend(title=title, title_fontsize=8)
    _set_settings(axes.xaxis)


def _draw_law(axes: Axes, law: RecipeLaw, name: str, targets: Sequence[Best]) -> None:
    """The best setting along one size, for the least and the largest of the others."""
    own = law.points.sizes[name]
    asked = [best.sizes[name] for best in targets]
    along = np.geomspace(min(own.min(), *asked, np.inf), max(own.max(), *asked, 0), 25)
    others = [other for other in law.seen if other != name]
    fixed = [
        {other: float(pick(law.points.sizes[other])) for other in others}
        for pick in (np.min, np.max)
    ][: 2 if others else 1]
    fixed += [{other: best.sizes[other] for other in others} for best in targets[:1]]
    colors = [*_SHADES([0.0, _LIGHT])[: 2 if others else 1], _TARGET]
    for sizes, color in zip(fixed, colors, strict=False):
        if others and any(sizes == one for one in fixed[: fixed.index(sizes)]):
            continue
        said = [law.interval({**law.largest, **sizes, name: at}) for at in along]
        text = ", ".join(
            f"{recipe_words.symbol(other)} = {format.count(size)}"
            for other, size in sizes.items()
        )
        axes.plot(along, [one.value for one in said], color=color, label=text or "law")
        ends = [one.lower for one in said], [one.upper for one in said]
        axes.fill_between(along, *ends, color=color, alpha=0.15, lw=0)
    edges = [edge.sizes for edge in law.edges]
    for one, shade in zip(law.bottoms, _shade(law, others), strict=True):
        face = "white" if one.sizes in edges else shade
        axes.plot(one.sizes[name], one.tried, "o", ms=4, color=shade, mfc=face)
    for best in targets:
        axes.plot(best.sizes[name], best.setting, "*", color=_TARGET, markersize=11)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel(recipe_words.noun(law, name))
    axes.set_title(
        f"Best {recipe_words.name_knob(law)} over {recipe_words.symbol(name)}"
    )
    axes.legend()
    _set_settings(axes.yaxis)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: format.count(x)))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _shade(law: RecipeLaw, others: Sequence[str]) -> np.ndarray:
    """A colour for each size of the sweep, by the first of its other sizes."""
    if not others:
        return np.tile(_SHADES([0.0]), (len(law.bottoms), 1))
    logs = np.log(law.points.sizes[others[0]])
    return _SHADES(_LIGHT * (logs - logs.min()) / np.ptp(logs))


def _set_settings(axis: Axis) -> None:
    """Ticks that are read, also where they span less than a decade."""
    low, high = axis.get_view_interval()
    few = math.log10(high / low) < 1.5
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: recipe_words.setting(value))
    )
    axis.set_minor_formatter(ticker.NullFormatter())

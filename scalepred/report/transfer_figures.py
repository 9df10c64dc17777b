"""Pictures of transfer: activations over size, and loss over the rate at each size."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalepred.coordinates import Check, Moves
from scalepred.report import format
from scalepred.report.figures import STYLE, render
from scalepred.runtime.files import PICTURE
from scalepred.transfer import Group

_COLOURS = mpl.colormaps["viridis"]
_MOST_LAYERS = 6  # a row has room for


def draw_coordinates(checks: Sequence[tuple[str, Check]]) -> bytes:
    """A PNG: mean change of activations over size, a line a step, a panel a layer.

    Args:
        checks: by family, a row each. Of many layers those at even distances are drawn.
    """
    with mpl.rc_context(STYLE):
        most = max(min(len(check.moves), _MOST_LAYERS) for _, check in checks)
        figure = Figure((1.9 * most + 0.6, 2.3 * len(checks)), layout="constrained")
        panels = figure.subplots(len(checks), most, squeeze=False)
        for row, (family, check) in zip(panels, checks, strict=True):
            chosen = np.linspace(0, len(check.moves) - 1, most).round().astype(int)
            shown = [check.moves[index] for index in dict.fromkeys(chosen.tolist())]
            for panel in row[len(shown) :]:
                panel.set_visible(False)
            for panel, moves in zip(row, shown, strict=False):
                _draw_layer(panel, check, moves)
            row[0].set_ylabel(f"{family}\nmean |change|", fontsize=7)
        _share_heights(panels)
        panels[0, 0].legend(fontsize=6, title="steps", title_fontsize=6)
        return render(figure, "png", PICTURE)


def _draw_layer(panel: Axes, check: Check, moves: Moves) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    for step in _choose_steps(check.steps):
        means = np.mean(moves.change[:, :, step - 1], axis=1)
        colour = _COLOURS(0.9 * step / check.steps)
        panel.plot(check.sizes, means, "o-", ms=3, lw=1, color=colour, label=str(step))
    slope = check.find_slope(moves)
    said = f"slope {format.fixed(slope.value)}: {slope.verdict}"
    panel.set_title(f"{moves.layer}\n{said}", fontsize=7)
    panel.set_xlabel(check.axis, fontsize=7)
    panel.set_xticks(check.sizes, [str(size) for size in check.sizes], fontsize=6)
    panel.minorticks_off()
    panel.tick_params(axis="y", labelsize=6)


def _choose_steps(steps: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ..., and the last."""
    found = [m * 10**e for e in range(6) for m in (1, 2, 5) if m * 10**e < steps]
    return [*found, steps]


def _share_heights(panels: Any) -> None:
    """The same decades everywhere, so that slopes may be compared by eye."""
    limits = [axes.get_ylim() for axes in panels.flat if axes.get_visible()]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    for axes in panels.flat:
        axes.set_ylim(max(low, high / 1e5), high)


def draw_bowls(groups: Sequence[Group]) -> bytes:
    """A PNG: loss over the learning rate, a line a width, a panel a family and depth.

    Rings are bottoms, with the interval of the rate.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((3.6 * len(groups), 3.2), layout="constrained")
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for panel, group in zip(panels, groups, strict=True):
            _draw_group(panel, group)
        panels[0].set_ylabel(format.metric_label(groups[0].metric))
        return render(figure, "png", PICTURE)


def _draw_group(panel: Axes, group: Group) -> None:
    panel.set_xscale("log")
    for index, bowl in enumerate(group.bowls):
        colour = _COLOURS(0.9 * index / max(len(group.bowls) - 1, 1))
        shown = np.where(np.isfinite(bowl.means), bowl.means, np.nan)
        label = f"width {bowl.width}"
        panel.plot(bowl.rates, shown, "o-", ms=3, lw=1, color=colour, label=label)
        if bowl.status == "ok":
            low, high = bowl.rate.low, bowl.rate.high
            panel.plot(
                [low, high], [bowl.value] * 2, "-", lw=3, color=colour, alpha=0.4
            )
            panel.plot(bowl.rate.value, bowl.value, "o", ms=7, mfc="none", color=colour)
    panel.set_xlabel("learning rate")
    panel.set_title(f"{group.family}\ndepth {group.depth}", fontsize=7)
    panel.legend(fontsize=7)

"""The figures of a report in this process, for a notebook: `scalepred.draw`."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure

from scalepred.fitting.fit import Fit
from scalepred.report import figures
from scalepred.report.plot_data import add_corners, make_plot_data
from scalepred.report.results import make_results
from scalepred.table.surface import Surface


class Figures(dict[str, Figure]):
    """Figures by name; a notebook shows one under the other."""

    def _repr_html_(self) -> str:
        return "".join(
            f'<img alt="{name}" src="data:image/png;base64,{_encode(figure)}" '
            'style="display: block; max-width: 100%; background: white">'
            for name, figure in self.items()
        )


def draw(
    fit: Fit, surface: Surface | None = None, with_corners: bool = False
) -> Figures:
    """The figures of a report: matplotlib's, by name, which a notebook shows.

    Args:
        fit: of some of the points.
        surface: every measured point, those held out too; None: what was fitted.
        with_corners: adds the paper's array, which refits the law at every corner.

    Returns:
        predicted (against measured), surface, curves, and where there are such, epochs
        and corners.
    """
    surface = surface or fit.surface
    fitted = set(_places(fit.surface))
    in_fit = np.array([place in fitted for place in _places(surface)])
    found = make_results(surface.task, surface, in_fit, fit, [])
    plot = make_plot_data(found)
    if with_corners:
        plot = add_corners(plot, found)
    return Figures((name, figures.make_figure(plot, name)) for name in plot.figures)


def _places(surface: Surface) -> list[tuple[float, ...]]:
    """The sizes of each point."""
    sizes = [surface.params, surface.data]
    if surface.epochs is not None:
        sizes.append(surface.epochs)
    return [tuple(place) for place in np.stack(sizes, axis=1).tolist()]


def _encode(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return base64.b64encode(file.getvalue()).decode("ascii")

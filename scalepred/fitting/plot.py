"""A fit as a picture for a notebook: curves with their intervals, and the points."""

from typing import Any

import numpy as np

# Curves beside each other that an eye still tells apart.
_MOST_CURVES = 6
_PLACES = 60
# How far curves go beyond the largest size, as a factor.
_BEYOND = 10.0


def plot(fit: Any) -> Any:
    """Value against data for each of some model sizes, or against the one axis.

    Args:
        fit: any `fit.Fit`.

    Returns:
        A `matplotlib.figure.Figure`, made without pyplot, so that none is kept open.
    """
    from matplotlib.figure import Figure  # takes a good part of a second

    surface = fit.surface
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    by_params = "data" not in fit.law.axes
    along = surface.params if by_params else surface.data
    across = surface.data if by_params else surface.params
    places = np.geomspace(along.min(), _BEYOND * along.max(), _PLACES)
    for index, size in enumerate(_choose(across, fit.law.axes)):
        color = f"C{index}"
        sizes = (places, size) if by_params else (size, places)
        said = fit.predict(*sizes)
        axes.plot(places, said.value, color=color, label=f"{size:.3g}")
        axes.fill_between(places, said.lower, said.upper, color=color, alpha=0.15)
        near = across == size if len(fit.law.axes) > 1 else np.ones(len(along), bool)
        axes.plot(along[near], surface.value[near], "o", color=color, markersize=4)
    axes.axvline(along.max(), color="grey", linestyle=":", linewidth=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="parameters" if by_params else surface.data_unit,
        ylabel=surface.metric,
        title=f"{fit.called or fit.law.name}: 90 % of new runs; fitted up to the line",
    )
    axes.legend(
        title=surface.data_unit if by_params else "parameters", fontsize="small"
    )
    return figure


def _choose(sizes: np.ndarray, law_axes: tuple[str, ...]) -> np.ndarray:
    """Some of the sizes, from the smallest to the largest; one for one axis."""
    known = np.unique(sizes)
    if len(law_axes) == 1:
        return np.array([np.median(known)])
    count = min(len(known), _MOST_CURVES)
    return known[np.linspace(0, len(known) - 1, count).round().astype(int)]

"""From points to an estimate: which method fits which law, and with what notes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import least_squares, multistart, sample, solver
from scalepred.fitting.auto import curves as auto_curves
from scalepred.fitting.auto import fit as auto_fit
from scalepred.fitting.laws import (
    Law,
    chinchilla,
    data_constrained,
    find_law,
    rosenfeld,
    rosenfeld_fitted_guess,
)
from scalepred.table.surface import Surface

# Sizes as correlated as this are one size: no split of a budget can be told.
_RISE_TOGETHER = 0.9995


class Settings(NamedTuple):
    """How a fit is made; see `fit.fit`, which has the same arguments."""

    residual: solver.Residual = solver.RELATIVE
    weights: str = "given"
    resamples: int = 1000
    starts: int = multistart.STARTS
    seed: int = 0
    refit_points: int = sample.REFIT_POINTS


def estimate(
    surface: Surface, law: str | Law, settings: Settings
) -> least_squares.LeastSquares | auto_fit.Auto:
    """Fits a law to every point of a surface.

    Raises:
        UserError: the points cannot determine the law, or settings do not fit it.
    """
    if settings.weights not in ("given", "noise"):
        raise UserError(f"weights={settings.weights!r}: must be given or noise")
    if law == "auto":
        return _fit_auto(surface, settings)
    law, notes = _choose_law(surface, find_law(law) if isinstance(law, str) else law)
    how = {
        "resamples": settings.resamples,
        "starts": settings.starts,
        "seed": settings.seed,
        "refit_points": settings.refit_points,
    }
    residual = settings.residual
    found = least_squares.fit(surface, law, residual, notes=tuple(notes), **how)
    if settings.weights == "noise":
        notes.append("points are weighed by 1 / (misfit^2 + seed noise^2 / seeds)")
        weighed = least_squares.weigh_by_noise(found)
        found = least_squares.fit(weighed, law, residual, notes=tuple(notes), **how)
    return found


def _fit_auto(surface: Surface, settings: Settings) -> auto_fit.Auto:
    if settings.residual != solver.RELATIVE:
        raise UserError(
            f"residual={settings.residual.kind}: law=auto has a residual of its own; "
            "leave it out or name another law"
        )
    if settings.weights == "noise":
        raise UserError(
            "weights=noise: law=auto has weights of its own; name another law"
        )
    found = auto_fit.fit(
        surface,
        resamples=settings.resamples,
        seed=settings.seed,
        refit_points=settings.refit_points,
    )
    if len(found.law.axes) == 1:
        found = auto_curves.with_published_forms(found)
    return found


def _choose_law(surface: Surface, law: Law) -> tuple[Law, list[str]]:
    """The form of a law that these points determine, and what is said of it."""
    notes = list(surface.notes)
    if law is rosenfeld and surface.random_guess is None:
        law = rosenfeld_fitted_guess
        notes.append("the random-guess level is fitted, because none was given")
    epochs = surface.epochs
    if "epochs" not in law.axes or epochs is None:
        return law, notes
    if law is data_constrained and multistart.have_same_epochs(surface):
        notes.append(
            f"every point has epochs={np.median(epochs):g}, so what repeated data "
            "are worth cannot be told: law=chinchilla is fitted in place of "
            "data_constrained, to unique data"
        )
        return chinchilla, notes
    notes.append(
        "data are unique data; a question that names no epochs is answered "
        "for data seen once"
    )
    return law, notes


def knows_epochs(law: str | Law) -> bool:
    """Whether the law must be told how often the data were seen.

    Raises:
        UserError: there is no such law.
    """
    if law == "auto":
        return False
    law = find_law(law) if isinstance(law, str) else law
    return "epochs" in law.axes


def counts_of(law: str | Law, asked: str = "auto") -> str | None:
    """How `Surface.from_csv` is to read a table for this law: its `data_counts`.

    Args:
        law: its name, or one of one's own.
        asked: auto, unique or seen.

    Raises:
        UserError: there is no such law.
    """
    if law == "auto":  # takes epochs for a third size where the table has them
        return "if_told" if asked == "auto" else asked
    return asked if knows_epochs(law) else None


def axes_of(law: str | Law, surface: Surface) -> tuple[str, ...]:
    """What a law fitted to these points will depend on: params, data, epochs.

    Raises:
        UserError: there is no such law.
    """
    if law == "auto":
        return auto_fit.axes_of(surface)
    law = find_law(law) if isinstance(law, str) else law
    return law.axes


def knows_split(axes: Sequence[str], points: Surface) -> bool:
    """Whether points and law can tell what model and data are worth, each."""
    if not {"params", "data"} <= set(axes):
        return False
    sizes = np.log(points.params), np.log(points.data)
    if min(np.std(own) for own in sizes) == 0:
        return True  # a law of two sizes, which has said what it lacks
    return abs(float(np.corrcoef(*sizes)[0, 1])) < _RISE_TOGETHER

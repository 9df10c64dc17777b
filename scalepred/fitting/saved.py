"""A fit on disk: numbers only, so that questions are answered without fitting again.

One .npz file: arrays, and a header in JSON. Nothing in it is code; a law is named and
built again from its name.
"""

import dataclasses
import functools
import io
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from scalepred.config import UserError
from scalepred.fitting import (
    backtest,
    law_record,
    predict,
    sample,
    solver,
    two_stage,
)
from scalepred.fitting.auto import fit as auto_fit
from scalepred.fitting.auto import weights as auto_weights
from scalepred.fitting.estimate import Settings, estimate
from scalepred.fitting.laws import Law, Scale
from scalepred.fitting.warn import Warn
from scalepred.runtime.files import open_path, write_whole
from scalepred.table.surface import Surface

if TYPE_CHECKING:
    from scalepred.fitting.least_squares import LeastSquares

_FORMAT = 1
# What of a surface and of a fitted law is text or one number; the rest are arrays.
_SURFACE_WORDS = ("metric", "task", "data_unit", "random_guess", "notes")
_FITTED_NUMBERS = (
    "params_unit", "data_unit", "misfit", "growth", "seed", "epochs", "highest",
    "reach", "tested",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a saved fit says of itself; see `LeastSquares` and `Auto`.

    Attributes:
        surface: the points fitted.
        law: the functional form.
        called: the name the law was asked by.
        residual: what was minimised.
        seed: of starts, folds and draws.
        resamples: draws behind every interval.
        objective: at the optimum.
        status: how the solver ended.
        starts: starting points tried.
        agree: share of those carried to the end that ended at the optimum.
        bounds_hit: parameters at a bound.
        notes: choices made for the user.
        members: what law=auto weighed.
        fitted: the law with its numbers and draws.
        inner_tests: back-tests inside the fit region.
        cross_validation: held-out folds.
        condition_number: of the information.
        warnings: what makes the fit less than it seems.
        refit_points: that corners take of more; 0: all.
    """

    surface: Surface
    law: Law
    called: str
    residual: solver.Residual
    seed: int
    resamples: int
    objective: float
    status: solver.Status
    starts: int
    agree: float
    bounds_hit: tuple[str, ...]
    notes: tuple[str, ...]
    members: tuple[auto_weights.MemberScore, ...]
    fitted: predict.FittedLaw
    inner_tests: list[backtest.InnerTest]
    cross_validation: backtest.CrossValidation
    condition_number: float
    warnings: tuple[Warn, ...]
    refit_points: int

    @functools.cached_property
    def again(self) -> "LeastSquares | auto_fit.Auto | Saved":
        """The same, fitted anew: for what takes refitting."""
        if self.law.name == two_stage.NAME:
            raise UserError(
                "a saved fit of two stages keeps no losses to be refitted to; fit the "
                "table again"
            )
        is_auto = self.called == "auto"
        settings = Settings(
            residual=solver.RELATIVE if is_auto else self.residual,
            resamples=self.resamples,
            seed=self.seed,
            refit_points=self.refit_points,
        )
        return estimate(self.surface, self.called, settings)

    def refit(self, surface: Surface) -> tuple[int, backtest.Refit]:
        """The fewest points it takes, and refits to subsets of another surface."""
        return self.again.refit(surface)


def save(fit: Any, path: os.PathLike | str) -> None:
    """Writes a fit as one file, whole; what takes refitting is computed first.

    Args:
        fit: any `fit.Fit`; a law of one's own must have been asked for by name
            (`module.attribute`), so that it can be found again.
        path: the file, .npz by custom.

    Raises:
        UserError: the law has no name it can be found by.
    """
    write_whole(epath.Path(path), to_bytes(fit))


def to_bytes(fit: Any) -> bytes:
    """What `save` writes: the same bytes for the same fit."""
    surface, fitted = fit.surface, fit.fitted
    header = {
        "format": _FORMAT,
        "called": fit.called,
        "law": law_record.describe(fit.law, fit.called),
        "fitted_law": law_record.describe(fitted.law, fit.called),
        "surface": {name: getattr(surface, name) for name in _SURFACE_WORDS},
        "fitted": {name: getattr(fitted, name) for name in _FITTED_NUMBERS},
        "noise": fitted.noise._asdict(),
        "residual": dataclasses.asdict(fit.residual),
        "seed": fit.estimate.seed,
        "resamples": fit.estimate.resamples,
        "refit_points": fit.estimate.refit_points,
        "objective": fit.objective,
        "status": int(fit.status),
        "starts": fit.starts,
        "agree": fit.agree,
        "bounds_hit": fit.bounds_hit,
        "notes": fit.estimate.notes,
        "members": [dataclasses.asdict(member) for member in fit.members],
        "inner_tests": [dataclasses.asdict(test) for test in fit.inner_tests],
        "cross_validation": dataclasses.asdict(fit.cross_validation),
        "condition_number": fit.condition_number,
        "warnings": [dataclasses.asdict(warning) for warning in fit.warnings],
    }
    arrays = {
        "theta": fitted.theta,
        "draws": fitted.draws,
        **{f"scale_{name}": leaf for name, leaf in fitted.scale._asdict().items()},
        **{f"surface_{name}": getattr(surface, name) for name in _arrays_of(surface)},
        "header": np.frombuffer(json.dumps(header, default=float).encode(), np.uint8),
    }
    content = io.BytesIO()
    as_arrays: Any = {name: np.asarray(leaf) for name, leaf in arrays.items()}
    np.savez_compressed(content, **as_arrays)
    return content.getvalue()


def load(path: os.PathLike | str) -> Saved:
    """What `save` wrote.

    Raises:
        UserError: there is no such file, or it is no saved fit.
    """
    path = open_path("path", path)
    if not path.exists():
        raise UserError(f"{path}: there is no saved fit; fit a table first")
    try:
        return from_bytes(path.read_bytes())
    except UserError:  # a law that is not here
        raise
    except Exception as error:  # zip, zlib and numpy have a dozen for damaged bytes
        raise UserError(
            f"{path}: damaged, or no saved fit of this version ({error!r}); fit the "
            "table again"
        ) from None


def from_bytes(content: bytes) -> Saved:
    """What `to_bytes` gave; of damaged bytes whatever zip and numpy raise."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return _build(json.loads(arrays["header"].tobytes()), arrays)


def _build(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Saved:
    if header["format"] != _FORMAT:
        raise ValueError(f"format {header['format']}, not {_FORMAT}")

    def part(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    words = header["surface"]
    words["notes"] = tuple(words["notes"])
    surface = Surface(**part("surface_"), **words)
    fitted = predict.FittedLaw(
        law=law_record.build(header["fitted_law"]),
        theta=arrays["theta"],
        draws=arrays["draws"],
        scale=Scale(**part("scale_")),
        noise=predict.Noise(**header["noise"]),
        **header["fitted"],
    )
    members = [
        auto_weights.MemberScore(
            member["name"],
            member["weight"],
            tuple((ratio, error) for ratio, error in member["errors"]),
        )
        for member in header["members"]
    ]
    return Saved(
        surface=surface,
        law=law_record.build(header["law"]),
        fitted=fitted,
        residual=solver.Residual(**header["residual"]),
        status=solver.Status(header["status"]),
        members=tuple(members),
        inner_tests=[backtest.InnerTest(**test) for test in header["inner_tests"]],
        cross_validation=backtest.CrossValidation(**header["cross_validation"]),
        bounds_hit=tuple(header["bounds_hit"]),
        notes=tuple(header["notes"]),
        warnings=tuple(Warn(**warning) for warning in header["warnings"]),
        refit_points=header.get("refit_points", sample.REFIT_POINTS),
        **{
            name: header[name]
            for name in (
                "called", "seed", "resamples", "objective", "starts", "agree",
                "condition_number",
            )
        },
    )  # fmt: skip


def _arrays_of(surface: Surface) -> list[str]:
    names = ["params", "data", "value", "seed_values", "weight", "compute"]
    more = (name for name in ("epochs", "seeds") if getattr(surface, name) is not None)
    return [*names, *more]

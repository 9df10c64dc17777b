"""What is known of the law's value at candidates and targets, as a normal distribution.

Source: conditioning of a Gaussian process on a finite set of places (Rasmussen and
Williams 2006, eq. 2.19), its covariance that of the draws of a fit.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from scalepred.fitting import predict
from scalepred.fitting.auto import law as auto_law
from scalepred.fitting.auto import priors as auto_priors
from scalepred.fitting.design.cells import Cells, are_in, check_targets
from scalepred.fitting.laws import Law, Scale
from scalepred.fitting.predict import FittedLaw
from scalepred.metrics import is_bounded

# Draws of the prior, and what it takes for the spread of ln value from the smallest
# size to the largest and for what a run leaves unknown about a law.
_PRIOR_DRAWS = 512
_PRIOR_RANGE = 1.0
_PRIOR_SEED = 0
# How little is known of the level of a value whose scale was never seen.
_LEVEL_SD = 1.0


class Posterior(NamedTuple):
    """What is known of ln values, as a normal distribution.

    Attributes:
        covariance: of the candidates and then the targets
            [cells + targets, cells + targets].
        unknown: variance that one run of a candidate leaves [cells].
        floor: variance of the targets that no cell takes away.
        width: 90 % half-width of each target [targets]; NaN: not known.
    """

    covariance: np.ndarray
    unknown: np.ndarray
    floor: float
    width: np.ndarray

    @property
    def num_cells(self) -> int:
        return len(self.unknown)

    def at_targets(self) -> np.ndarray:
        """Variance at each target [targets]."""
        return np.diagonal(self.covariance)[self.num_cells :] + self.floor

    def after(self, cell: int) -> "Posterior":
        """Once a candidate is measured."""
        column = self.covariance[:, cell]
        variance = column[cell] + self.unknown[cell]
        covariance = self.covariance - np.outer(column, column) / variance
        return self._replace(covariance=covariance)

    def gains(self) -> np.ndarray:
        """Share of the targets' variance that each cell takes away [cells]."""
        count = self.num_cells
        variance = np.diagonal(self.covariance)[:count] + self.unknown
        taken = self.covariance[:count, count:] ** 2 / variance[:, None]
        return np.mean(taken / self.at_targets(), axis=1)


def half_width(fitted: FittedLaw, targets: tuple[ArrayLike, ArrayLike]) -> np.ndarray:
    """90 % half-width of the mean at (params, data), over that mean [targets]."""
    said = fitted.predict(*check_targets(1.0, targets))
    return (said.mean_upper - said.mean_lower) / (2 * said.value)


def from_fit(
    fitted: FittedLaw, cells: Cells, targets: tuple[np.ndarray, np.ndarray]
) -> Posterior:
    """What the draws of a fit say."""
    places = [np.append(cells[axis], targets[axis]) for axis in (0, 1)]
    values = fitted.log_value(*places, draws=True)
    center = fitted.log_value(cells.params, cells.data)
    # What one run cannot tell: its own noise and the law's misfit there.
    unknown = fitted.noise.of(center) ** 2 + fitted.misfit**2 + 1e-12
    slots = _unseen_slots(fitted.law)
    if slots:
        # Sizes of model that were never seen have one offset in a draw, but each its
        # own in truth: a cell tells nothing of it unless it has the target's size.
        without = fitted.draws.copy()
        without[:, slots] = 0.0
        plain = dataclasses.replace(fitted, draws=without)
        shared = values[:, : len(cells.cost)]
        alone = plain.log_value(cells.params, cells.data, draws=True)
        others = ~are_in(cells.params, targets[0])
        unknown = unknown + others * np.var(shared - alone, axis=0)
        shared[:, others] = alone[:, others]
    values = values - values.mean(axis=0)
    covariance = values.T @ values / (len(values) - 1)
    width = half_width(fitted, targets)
    return Posterior(covariance, unknown, fitted.misfit**2, width)


def from_prior(
    cells: Cells,
    measured: tuple[np.ndarray, np.ndarray],
    largest: tuple[float, float],
    targets: tuple[np.ndarray, np.ndarray],
    metric: str,
) -> Posterior:
    """What the flexible law's prior says, given where (not what) was measured."""
    is_loss = not is_bounded(metric)
    settings = auto_priors.LOSS if is_loss else auto_priors.ERROR
    members = [member for member in auto_priors.MEMBERS if member.widen == 1]
    weights = np.array([member.weight for member in members])
    rng = np.random.default_rng(_PRIOR_SEED)
    which = rng.choice(len(members), _PRIOR_DRAWS, p=weights / weights.sum())
    priors = [member.prior(settings, is_loss) for member in members]
    mean, sd = (np.stack(part)[which] for part in zip(*priors, strict=True))
    draws = mean + sd * rng.standard_normal(mean.shape)
    places = [
        np.concatenate([cells[axis], measured[axis], targets[axis]]) / largest[axis]
        for axis in (0, 1)
    ]
    # The level itself is not known: only differences count.
    high = _PRIOR_RANGE if is_loss else 0.0  # an error has a level to fall from
    scale = Scale(0.0, high - _PRIOR_RANGE, high)
    x, y = (np.log(sizes) for sizes in places)
    values = predict.evaluate(auto_law.make_law(0, is_loss), draws, x, y, scale)
    values = values - values.mean(axis=0)
    covariance = values.T @ values / (len(values) - 1) + _LEVEL_SD**2
    count = len(cells.cost)
    unknown = np.full(count + len(measured[0]), settings.sigma**2)
    width = np.full(len(targets[0]), math.nan)
    posterior = Posterior(covariance, unknown, settings.sigma**2, width)
    for run in range(count, len(unknown)):
        posterior = posterior.after(run)
    kept = np.r_[:count, len(unknown) : len(covariance)]
    return posterior._replace(
        covariance=posterior.covariance[np.ix_(kept, kept)], unknown=unknown[:count]
    )


def _unseen_slots(law: Law) -> list[int]:
    """Places in theta of what sizes of model without an offset of their own have."""
    law = law.part or law
    names = [parameter.name for parameter in law.parameters]
    return [i for i, name in enumerate(names) if name.endswith("_unseen")]

"""Predictions with intervals from a fitted law and its resampled parameters."""

import dataclasses
import math
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from scalepred.fitting.laws import Array, Law, Scale
from scalepred.runtime import compiler

LEVEL = 0.90  # of every interval that says no other
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_TAILS_50 = (0.25, 0.75)
# ln of how much more compute growth takes to be whole: that of the middle back-test.
_FULL_GROWTH = math.log(12.0)
# How much wider than the draws deviations are, at least, where no back-test went.
_UNTESTED = 1.25
# ln of the factor that an interval says no more beyond: any value will do.
_WIDEST = 60.0
# A law is evaluated so many places of so many rows at a time, whatever is asked for:
# one program a law.
_ROWS, _PLACES = 64, 32
# Numbers of all draws that are held at once.
_MOST_DRAWN = 2**20
_SHOWN = 12  # predictions in a repr


class Prediction(NamedTuple):
    """What a law says of sizes, each field shaped like them.

    Attributes:
        value: expected error (or loss), the mean over runs.
        lower: lower end of the 90 % interval for a new measurement.
        upper: its upper end.
        mean_lower: lower end of the 90 % interval for the mean over many runs.
        mean_upper: its upper end.
        lower_50: lower end of the 50 % interval for a new measurement.
        upper_50: its upper end.
        mean_lower_50: lower end of the 50 % interval for the mean over many runs.
        mean_upper_50: its upper end.

    Every interval holds `value`: a few draws may all lie on one side of it.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    mean_lower: np.ndarray
    mean_upper: np.ndarray
    lower_50: np.ndarray
    upper_50: np.ndarray
    mean_lower_50: np.ndarray
    mean_upper_50: np.ndarray

    def __repr__(self) -> str:
        """The values, each with the 90 % interval for a run; of many, some."""
        ends = zip(*(np.ravel(part) for part in self[:3]), strict=True)
        said = [f"{v:.4g} (90% interval {low:.4g} to {up:.4g})" for v, low, up in ends]
        if len(said) > _SHOWN:
            said = [*said[: _SHOWN - 2], f"... {len(said)} in all ...", said[-1]]
        return (
            f"Prediction({', '.join(said)})"
            if len(said) == 1
            else ("Prediction(\n" + "".join(f"    {line},\n" for line in said) + ")")
        )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A parameter in its published units, with its 90 % interval, which holds it."""

    value: float
    lower: float
    upper: float


class Noise(NamedTuple):
    """Run-to-run standard deviation of ln value: sd * (value / at)^slope.

    Attributes:
        sd: at value `at`; 0 where no point has two runs.
        slope: -0.5 for a counted error on a finite test set, near 0 for a loss.
        at: reference value.
    """

    sd: float
    slope: float
    at: float

    def of(self, log_value: ArrayLike) -> np.ndarray:
        """Standard deviation of ln value of one run, shaped like `log_value`."""
        spread = self.slope * (np.asarray(log_value) - np.log(self.at))
        return self.sd * np.exp(np.clip(spread, -2.0, 2.0))


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """A law with its numbers, and the resamples that say how sure they are.

    Attributes:
        law: the functional form.
        theta: inner parameters of the best fit [parameters].
        draws: the same, refitted to each resample [draws, parameters].
        scale: see laws.
        params_unit: reference model size M.
        data_unit: reference data size N.
        misfit: standard deviation of ln of the true mean about the law.
        growth: factor on every deviation of a draw, learnt from back-tests inside the
            fit region: 1 if they were as wrong as they said, more if worse.
        noise: of single runs.
        seed: of the draws of misfit and noise.
        epochs: passes over the data where nothing else is said; None: not known, or
            the law knows nothing of them.
        highest: that a measurement can be: 1 for an error.
        reach: ln(m n / (M N)) beyond which `growth` sets in; it is whole where a
            back-test of middling distance would end. -inf: it is whole everywhere.
        tested: how far the farthest back-test predicted, in ln of compute. What
            back-tests say of the deviations holds to half as far beyond `reach`, where
            their points lie in the mean. From one and a half times as far nothing was
            tested: deviations are `_UNTESTED` times the draws', or that times `growth`
            where it is above 1. Between the two it changes evenly. inf: what
            back-tests say holds everywhere.
        misfits: of each draw where nothing was measured, in standard deviations
            [draws]; None: drawn by the seed.
    """

    law: Law
    theta: np.ndarray
    draws: np.ndarray
    scale: Scale
    params_unit: float
    data_unit: float
    misfit: float
    growth: float
    noise: Noise
    seed: int
    epochs: float | None = None
    highest: float = math.inf
    reach: float = -math.inf
    tested: float = math.inf
    misfits: np.ndarray | None = None

    @property
    def wander(self) -> np.ndarray:
        """Misfit of each draw where nothing was measured, standard normal [draws]."""
        if self.misfits is not None:
            return self.misfits
        return np.random.default_rng(self.seed).standard_normal(len(self.draws))

    def parameters(self) -> dict[str, Estimate]:
        """The published parameters; NaN intervals where there are no draws."""
        units = self.scale, self.params_unit, self.data_unit
        best = self.law.public(self.theta, *units)
        draws = self.law.public(self.draws, *units)
        estimates = {}
        for name, value in best.items():
            lower = upper = np.nan
            if len(self.draws):
                lower, upper = _around(value, np.quantile(draws[name], _TAILS))
            estimates[name] = Estimate(float(value), float(lower), float(upper))
        return estimates

    def log_value(
        self,
        params: ArrayLike,
        data: ArrayLike,
        draws: bool = False,
        epochs: ArrayLike | None = None,
    ) -> np.ndarray:
        """ln of the law at sizes that broadcast to [...].

        Args:
            params: model sizes, counts.
            data: data sizes, counts.
            draws: of every draw instead of the best fit.
            epochs: passes over the data, for laws that know of them; None: as
                `self.epochs` says.

        Returns:
            [...] at the best fit, or [draws, ...].
        """
        z = None
        epochs = self.epochs if epochs is None else epochs
        if epochs is not None:
            params, data, epochs = np.broadcast_arrays(params, data, epochs)
            z = np.log(epochs.reshape(-1))
        params, data = np.broadcast_arrays(
            np.asarray(params, np.float64), np.asarray(data, np.float64)
        )
        theta = self.draws if draws else self.theta[None]
        x = np.log(params.reshape(-1) / self.params_unit)
        y = np.log(data.reshape(-1) / self.data_unit)
        values = evaluate(self.law, theta, x, y, self.scale, z)
        return values.reshape((-1, *params.shape) if draws else params.shape)

    def spread(
        self,
        log_values: np.ndarray,
        log_value: np.ndarray,
        params: ArrayLike,
        data: ArrayLike,
    ) -> np.ndarray:
        """Draws of ln of the true mean: parameters and misfit, grown as learnt.

        Args:
            log_values: ln of the law under each draw [draws, ...].
            log_value: ln of the law at the best fit [...].
            params: model sizes that these are at, counts [...] or [draws, ...].
            data: data sizes, counts, likewise.
        """
        wander = self.wander.reshape((-1,) + (1,) * (log_values.ndim - 1))
        deviation = log_values - log_value + self.misfit * wander
        x = np.log(np.asarray(params, float) / self.params_unit)
        y = np.log(np.asarray(data, float) / self.data_unit)
        beyond = x + y - self.reach
        growth = 1 + (self.growth - 1) * np.clip(beyond / _FULL_GROWTH, 0.0, 1.0)
        if math.isfinite(self.tested):
            untested = np.clip(beyond / self.tested - 0.5, 0.0, 1.0)
            growth += untested * (_UNTESTED * max(self.growth, 1.0) - growth)
        deviation = np.clip(growth * deviation, -_WIDEST, _WIDEST)
        return self._capped(log_value + deviation, log_value)

    def _capped(self, log_values: np.ndarray, log_value: np.ndarray) -> np.ndarray:
        """At most what can be measured, or what the law itself says."""
        return np.minimum(log_values, np.maximum(log_value, math.log(self.highest)))

    def predict(
        self,
        params: ArrayLike,
        data: ArrayLike,
        num_seeds: ArrayLike = 1,
        epochs: ArrayLike | None = None,
    ) -> Prediction:
        """The value at sizes (params, data), which broadcast.

        Args:
            params: model sizes, counts.
            data: data sizes, counts.
            num_seeds: runs averaged in the measurement that the interval is for.
            epochs: see `log_value`.
        """
        numbers = [params, data, num_seeds] + ([] if epochs is None else [epochs])
        numbers = np.broadcast_arrays(*(np.asarray(n, np.float64) for n in numbers))
        flat = [number.reshape(-1) for number in numbers]
        # So many places at a time: of all, the draws at many points fill the memory.
        block = max(1, _MOST_DRAWN // max(1, len(self.draws)))
        said = [
            self._predict(*(number[first : first + block] for number in flat))
            for first in range(0, max(1, flat[0].size), block)
        ]
        ends = (np.concatenate(part) for part in zip(*said, strict=True))
        return Prediction(*(end.reshape(numbers[0].shape) for end in ends))

    def _predict(
        self,
        params: np.ndarray,
        data: np.ndarray,
        num_seeds: np.ndarray,
        epochs: np.ndarray | None = None,
    ) -> Prediction:
        """`predict` of places in a row, each argument [places]."""
        center, means, runs = self._measured(params, data, num_seeds, epochs)
        value = np.exp(center)
        if not len(self.draws):
            return Prediction(value, *[np.full(value.shape, np.nan)] * 8)
        with np.errstate(over="ignore"):  # no upper end, where draws say nothing
            ends = [
                _around(value, np.exp(np.quantile(drawn, tails, axis=0)))
                for tails in (_TAILS, _TAILS_50)
                for drawn in (runs, means)
            ]
        return Prediction(value, *(end for pair in ends for end in pair))

    def probability(
        self,
        value: ArrayLike,
        params: ArrayLike,
        data: ArrayLike,
        num_seeds: ArrayLike = 1,
        epochs: ArrayLike | None = None,
    ) -> np.ndarray:
        """How likely a measurement is at or below `value`, by the draws of `predict`.

        Args:
            value: error or loss, above 0; broadcasts with the sizes.
            params: model sizes, counts.
            data: data sizes, counts.
            num_seeds: runs averaged in the measurement; infinite: their true mean.
            epochs: see `log_value`.

        Returns:
            0 to 1, shaped as all arguments together; NaN where there are no draws.
        """
        value, params, data, num_seeds = np.broadcast_arrays(
            value, params, data, num_seeds
        )
        *_, runs = self._measured(params, data, num_seeds, epochs)
        if not len(self.draws):
            return np.full(runs.shape[1:], np.nan)
        return np.mean(runs <= np.log(value), axis=0)

    def _measured(
        self,
        params: ArrayLike,
        data: ArrayLike,
        num_seeds: ArrayLike,
        epochs: ArrayLike | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ln of the law [...], of the mean and of a measurement [draws, ...].

        A draw's noise is the same at all places, so that what is said of one of them
        does not depend on which others are asked about.
        """
        center = self.log_value(params, data, epochs=epochs)
        drawn = self.log_value(params, data, draws=True, epochs=epochs)
        means = self.spread(drawn, center, params, data)
        rng = np.random.default_rng(self.seed + 1)
        noise = rng.standard_normal((len(means),) + (1,) * center.ndim)
        noise = noise * self.noise.of(means) / np.sqrt(num_seeds)
        return center, means, self._capped(means + noise, center)


def _around(value: ArrayLike, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An interval that holds its value, from quantiles of draws [2, ...].

    Fewer than some twenty draws may all lie on one side of the best fit.
    """
    return np.minimum(ends[0], value), np.maximum(ends[1], value)


def evaluate(
    law: Law,
    theta: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    scale: Scale,
    z: np.ndarray | None = None,
) -> np.ndarray:
    """ln of the law for every theta at every place [thetas, places]."""
    if not len(theta):
        return np.empty((0, len(x)))
    if law.part is not None:  # a draw follows one part: the others are left out
        size = law.part.num_parameters
        count = law.num_parameters // (size + 1)
        weights = theta[:, count * size :]
        own = theta[:, : count * size].reshape(-1, count, size)
        mean, which = np.nonzero(weights)
        parts = evaluate(law.part, own[mean, which], x, y, scale, z)
        values = np.zeros((len(theta), len(x)))
        np.add.at(values, mean, weights[mean, which, None] * parts)
        return values
    chunks = -(-len(x) // _PLACES)
    order = np.minimum(np.arange(chunks * _PLACES), len(x) - 1).reshape(chunks, _PLACES)
    places = jax.tree.map(lambda values: np.asarray(values)[order], (x, y, z))
    row = np.arange(len(theta) * chunks)
    values = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for first in range(0, len(row), _ROWS):
            some = np.minimum(np.arange(first, first + _ROWS), row[-1])
            which, chunk = np.divmod(some, chunks)
            own = jax.tree.map(lambda leaf, chunk=chunk: leaf[chunk], places)
            values.append(_evaluate(law, theta[which], scale, *own))
        found = np.concatenate(values)[: len(row)]
    return found.reshape(len(theta), chunks * _PLACES)[:, : len(x)]


@compiler.jit_plainly(static_argnums=0)
def _evaluate(
    law: Law, theta: Array, scale: Scale, x: Array, y: Array, z: Array | None
) -> jax.Array:
    """Each theta at places of its own: theta [rows, parameters], x [rows, places]."""

    def one_row(theta: Array, x: Array, y: Array, z: Array | None) -> jax.Array:
        return law.at(z).log_value(theta, x, y, scale)

    return jax.vmap(one_row)(theta, x, y, z)


def estimate_noise(value: np.ndarray, seed_values: np.ndarray) -> Noise:
    """Run-to-run noise from the points that were measured more than once.

    Args:
        value: mean of each point [points].
        seed_values: runs, NaN where there is none [points, seeds].
    """
    runs = np.sum(np.isfinite(seed_values), axis=1)
    repeated = runs >= 2
    at = float(np.exp(np.mean(np.log(value))))
    if not np.any(repeated):
        return Noise(0.0, 0.0, at)
    relative = seed_values[repeated] / value[repeated, None]
    variance = np.nanvar(relative, axis=1, ddof=1)
    freedom = runs[repeated] - 1.0
    pooled = float(np.sum(freedom * variance) / np.sum(freedom))
    if pooled == 0:
        return Noise(0.0, 0.0, at)
    if np.sum(repeated) < 3:
        return Noise(float(np.sqrt(pooled)), 0.0, at)
    # ln of a sample variance scatters with variance about 2 / freedom around the
    # line; a weak prior keeps the slope at 0 where the points cannot tell.
    z = np.log(value[repeated] / at)
    target = np.log(np.maximum(variance, 1e-4 * pooled) / pooled)
    weight = freedom / 2
    centre = np.sum(weight * z) / np.sum(weight)
    slope = np.sum(weight * (z - centre) * target) / (
        np.sum(weight * (z - centre) ** 2) + 1.0
    )
    slope = float(np.clip(slope, -2.0, 2.0))
    shape = np.exp(slope * z)
    sd2 = float(np.sum(freedom * variance / shape) / np.sum(freedom))
    return Noise(float(np.sqrt(sd2)), slope / 2, at)

"""How likely a law of the best settings is, given the runs of a sweep.

    ln v = ln v*(size) + bowl(ln r - ln r*(size))
    ln r*(size) = c + a_m ln m + a_n ln n + deviation(size)

v* is free at every size, so no law of the values is assumed. The bowl has one slope far
below the best setting and another far above. A size's bottom deviates from the law; the
deviation is integrated out.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy import optimize

from scalepred.fitting.recipe.sweep import Points

# The bowl's form is right to this share of its height: of what is far from the best
# only the order counts.
_MISFORM = 0.25
# A run that diverged lies above the best setting; softly so, in ln.
_EDGE = 0.25
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_LOG_WEIGHTS = np.log(_NODE_WEIGHTS / _NODE_WEIGHTS.sum())
# Priors, normal: mean, standard deviation. Published exponents of the best rate lie
# between -0.75 and 0.35.
_EXPONENT_SD = 0.5
_CENTER_SD = 3.0
_DEVIATION_SD = 0.3  # half-normal: by what a size's best is off the law, in ln
_LOG_SLOPE = (math.log(0.1), 1.5)
_LOG_WIDTH = (math.log(0.8), 0.5)
_LOG_NOISE = (math.log(0.01), 2.0)
_LEAST_NOISE = 1e-5
_LARGE = 30.0
# Of the search for the likeliest parameters.
_NUM_GUESSES, _NUM_CLIMBS, _STEP = 600, 3, 1e-4


class Draws(NamedTuple):
    """Parameters of the law, one entry a draw.

    Attributes:
        center: ln of the best setting at the middle of the sizes [draws].
        exponents: of the sizes that vary [draws, axes].
        deviation: standard deviation of ln of a size's best about the law [draws].
        below: slope of the bowl far below the best [draws].
        above: slope far above it [draws].
        width: of the bend between them, in ln setting [draws].
        noise: standard deviation of ln value of one run [draws].
    """

    center: np.ndarray
    exponents: np.ndarray
    deviation: np.ndarray
    below: np.ndarray
    above: np.ndarray
    width: np.ndarray
    noise: np.ndarray

    @property
    def shape(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `bowl` takes beside x."""
        return self.below, self.above, self.width


def bowl(
    x: np.ndarray, below: np.ndarray, above: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """What a setting costs: ln of the value over the best one's.

    width (below + above) ln((above e^(-p x) + below e^(q x)) / (below + above)), where
    p + q = 1 / width and p / q = below / above: some power of the value is the sum of a
    falling and a rising power of the setting. Zero at x = 0, smooth, and linear far
    from it.

    Args:
        x: ln of setting / best setting; broadcasts with the others.
        below: slope far below the best, above 0.
        above: slope far above it.
        width: of the bend between them, in x.
    """
    both = below + above
    # Of the two terms that rises over the other one; ln(1 + e^z) is z for a large z.
    ratio = np.log(below / above) + x / width
    more = np.log(1 + np.exp(np.minimum(ratio, _LARGE))) + np.maximum(ratio - _LARGE, 0)
    return width * both * (np.log(above / both) + more) - below * x


@dataclasses.dataclass(frozen=True)
class Posterior:
    """The density of the law's parameters, given the points.

    Attributes:
        points: of the sweep.
        middle: mean of ln of each size that varies [axes].
        offsets: ln of these sizes less `middle` [points, axes].
    """

    points: Points
    middle: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, points: Points) -> "Posterior":
        """Of a sweep."""
        logs = np.log([points.sizes[name] for name in points.axes]).T
        # Rounded, so that other units of a size lead to the same draws.
        middle = logs.mean(axis=0)
        return cls(points, middle, np.round(logs - middle, 9))

    @property
    def shift(self) -> float:
        """Mean of ln of the settings tried, from which all are counted."""
        return float(np.nanmean(self.points.log_setting))

    @property
    def num_parameters(self) -> int:
        return 6 + self.offsets.shape[1]

    def start(self, num_walkers: int, rng: np.random.Generator) -> np.ndarray:
        """Walkers about the likeliest parameters [walkers, parameters].

        These are climbed to from the likeliest of many draws about a line through the
        best tried settings; the walkers scatter as the curvature there says.
        """
        middle, spread = self._guess()
        drawn = rng.standard_normal((_NUM_GUESSES, self.num_parameters))
        guesses = middle + spread * drawn
        order = np.argsort(-self.log_density(guesses), kind="stable")
        climbs = [
            optimize.minimize(self._descend, guesses[i], jac=True, method="BFGS")
            for i in order[:_NUM_CLIMBS]
        ]
        best = min(climbs, key=lambda climb: climb.fun)
        # The matrix of BFGS is rough: no direction is wider than the guesses.
        width, axes = np.linalg.eigh(best.hess_inv)
        width = np.sqrt(np.clip(width, 1e-8, 0.25))
        scatter = rng.standard_normal((num_walkers, self.num_parameters))
        return best.x + (scatter * width) @ axes.T

    def _descend(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log density and its gradient, by differences."""
        size = len(theta)
        steps = _STEP * np.concatenate(
            [np.eye(size), -np.eye(size), np.zeros((1, size))]
        )
        value = -self.log_density(theta + steps)
        gradient = (value[:size] - value[size:-1]) / (2 * _STEP)
        return float(value[-1]), gradient

    def _guess(self) -> tuple[np.ndarray, np.ndarray]:
        """Parameters by a line through the best tried settings, and their spread."""
        mean = self.points.mean
        best = np.nanargmin(np.where(np.isfinite(mean), mean, np.inf), axis=1)
        tried = np.take_along_axis(self.points.log_setting, best[:, None], 1)[:, 0]
        tried = tried - self.shift
        num_axes = self.offsets.shape[1]
        design = np.c_[np.ones(len(tried)), self.offsets]
        # The prior of the exponents, for sizes that rise together.
        ridge = np.diag(np.r_[1e-6, np.full(num_axes, 0.5 / _EXPONENT_SD**2)])
        line = np.linalg.solve(design.T @ design + ridge, design.T @ tried)
        spread = np.r_[0.4, np.full(num_axes, 0.15), 0.7, 1.2, 1.2, 0.5, 1.2]
        height = np.nanmedian(np.nanmax(mean, axis=1) - np.nanmin(mean, axis=1))
        log_height = math.log(max(float(height), 1e-4))
        log_noise = math.log(max(self._seed_noise(), 0.05 * math.exp(log_height)))
        shape = log_height, log_height, _LOG_WIDTH[0]
        return np.r_[line, math.log(0.1), shape, log_noise], spread

    def _seed_noise(self) -> float:
        """Standard deviation of a run, where runs of several seeds tell it; else 0."""
        points = self.points
        return math.sqrt(points.squares / points.freedom) if points.freedom else 0.0

    def unpack(self, theta: np.ndarray) -> Draws:
        """Parameters of the sampler [..., parameters] as what they mean."""
        num_axes = self.offsets.shape[1]
        scales = np.exp(np.clip(theta[..., 1 + num_axes :], -30, 10))
        return Draws(
            theta[..., 0], theta[..., 1 : 1 + num_axes], *np.moveaxis(scales, -1, 0)
        )

    def log_density(self, theta: np.ndarray) -> np.ndarray:
        """ln of prior and likelihood, up to a constant.

        Args:
            theta: center, exponents, ln of deviation, both slopes, width and noise
                [thetas, parameters].
        """
        return self._log_prior(theta) + self._log_likelihood(self.unpack(theta))

    def _log_prior(self, theta: np.ndarray) -> np.ndarray:
        num_axes = self.offsets.shape[1]
        center, exponents = theta[:, 0], theta[:, 1 : 1 + num_axes]
        log_deviation, below, above, width, noise = theta[:, 1 + num_axes :].T
        mean, sd = _LOG_SLOPE
        squares = (center / _CENTER_SD) ** 2
        squares = squares + np.sum((exponents / _EXPONENT_SD) ** 2, axis=1)
        squares = squares + ((below - mean) / sd) ** 2 + ((above - mean) / sd) ** 2
        squares = squares + ((width - _LOG_WIDTH[0]) / _LOG_WIDTH[1]) ** 2
        squares = squares + ((noise - _LOG_NOISE[0]) / _LOG_NOISE[1]) ** 2
        deviation = np.exp(np.clip(log_deviation, -30, 10))
        squares = squares + (deviation / _DEVIATION_SD) ** 2
        # A deviation of nothing at all is not told from a small one.
        squares = squares + (np.minimum(log_deviation + 5, 0) / 1.0) ** 2
        return log_deviation - squares / 2

    def _log_likelihood(self, draws: Draws) -> np.ndarray:
        points = self.points
        law = draws.center[:, None] + draws.exponents @ self.offsets.T
        bottom = law[..., None] + draws.deviation[:, None, None] * _NODES
        log_setting = np.round(points.log_setting - self.shift, 9)
        # Axes: thetas, points, nodes, settings.
        x = np.nan_to_num(log_setting)[:, None, :] - bottom[..., None]
        height = bowl(x, *(part[:, None, None, None] for part in draws.shape))
        has_value = np.isfinite(points.mean)
        mean = np.where(has_value, points.mean, 0.0)
        least = np.nanmin(points.mean, axis=1, keepdims=True)
        noise = np.maximum(draws.noise, _LEAST_NOISE)[:, None, None]
        variance = noise**2 / np.maximum(points.num_runs, 1)
        variance = variance + (_MISFORM * np.where(has_value, mean - least, 0)) ** 2
        weight = np.where(has_value, 1 / variance, 0.0)
        total = weight.sum(axis=-1)
        gap = mean[:, None, :] - height
        own = weight[:, :, None, :]
        # v* is free: its best value is the weighted mean, its width a factor.
        value = np.sum(own * gap, axis=-1) / total[..., None]
        squares = np.sum(own * gap**2, axis=-1) - total[..., None] * value**2
        said = -squares / 2
        if points.diverged.any():
            edge = np.where(points.diverged[:, None, :], x / _EDGE, np.inf)
            said = said - np.logaddexp(0, -edge).sum(axis=-1)
        said = said + _LOG_WEIGHTS
        top = said.max(axis=-1, keepdims=True)
        of_point = top[..., 0] + np.log(np.exp(said - top).sum(axis=-1))
        scale = np.where(has_value, np.log(variance), 0).sum(axis=-1) + np.log(total)
        found = np.sum(of_point - scale / 2, axis=-1)
        # What runs of one setting differ by.
        noise = noise[:, 0, 0]
        within = points.squares / noise**2 + 2 * points.freedom * np.log(noise)
        return found - within / 2

    def find_levels(self, draws: Draws) -> np.ndarray:
        """ln of the value at each size's best setting, middle of draws [points]."""
        points = self.points
        law = draws.center[:, None] + draws.exponents @ self.offsets.T
        x = points.log_setting - self.shift - law[..., None]
        height = bowl(np.nan_to_num(x), *(part[:, None, None] for part in draws.shape))
        gap = points.mean - np.median(height, axis=0)
        excess = points.mean - np.nanmin(points.mean, axis=1, keepdims=True)
        noise = float(np.median(draws.noise))
        variance = noise**2 / np.maximum(points.num_runs, 1) + (_MISFORM * excess) ** 2
        return np.nansum(gap / variance, axis=1) / np.nansum(
            np.where(np.isfinite(gap), 1 / variance, 0), axis=1
        )

"""A law of the best setting, and what is asked of it.

    ln r*(m, n) = c + a_m ln m + a_n ln n

fitted jointly to all runs of a sweep, bad ones too (see `bowl`). All answers come from
draws of the posterior, so that few sizes and few settings give wide intervals.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.fitting.predict import Estimate
from scalepred.fitting.recipe import sampler
from scalepred.fitting.recipe.bowl import Draws, Posterior, bowl
from scalepred.fitting.recipe.reading import read_sweeps
from scalepred.fitting.recipe.sweep import Points, Sweep
from scalepred.table.numbers import write_size

_TAILS = (0.05, 0.95)
_WALKERS, _BURN_IN, _STEPS, _KEEP_EVERY = 40, 120, 300, 10
# What a run that diverges is taken to cost, in ln of the value, when a setting is
# chosen: nobody keeps such a run.
_DIVERGED = 1.0
_CANDIDATES = 81  # settings among which the one of least mean regret is taken


class Regret(NamedTuple):
    """What a setting costs at a size: value / value of the best setting - 1.

    Attributes:
        setting: that is followed.
        value: middle of the draws, a share of the value.
        lower: lower end of its 90 % interval.
        upper: upper end.
        diverges: chance that it lies beyond where runs of the sweep diverged; 0 where
            none did.
    """

    setting: float
    value: float
    lower: float
    upper: float
    diverges: float


class Best(NamedTuple):
    """What the law says of a size.

    Attributes:
        knob: learning_rate, weight_decay or batch_size.
        sizes: asked for, by name.
        setting: to take: of least mean regret over all draws. It lies below `middle`
            where too much costs more than too little.
        middle: of the draws of the best setting.
        lower: lower end of the 90 % interval of the best setting.
        upper: upper end.
        regret: of `setting`.
    """

    knob: str
    sizes: dict[str, float]
    setting: float
    middle: float
    lower: float
    upper: float
    regret: Regret


class Edge(NamedTuple):
    """A size whose best setting lies beyond those that were tried there."""

    sizes: dict[str, float]
    side: str  # below | above
    tried: float  # the last on that side


class Bottom(NamedTuple):
    """The best setting of one size of the sweep, by its own runs and the law."""

    sizes: dict[str, float]
    law: float  # what the law says, the middle of its draws
    tried: float  # the best that was tried


@dataclasses.dataclass(frozen=True, repr=False)
class RecipeLaw:
    """A fitted law of the best setting of one knob.

    Attributes:
        sweep: that it was fitted to.
        points: its runs by size and setting.
        posterior: of the parameters.
        draws: from it.
        wander: how far a size is off the law, in its deviations [draws].
    """

    sweep: Sweep
    points: Points
    posterior: Posterior
    draws: Draws
    wander: np.ndarray

    @property
    def knob(self) -> str:
        """learning_rate, weight_decay or batch_size."""
        return self.sweep.knob

    @property
    def axes(self) -> list[str]:
        """Sizes that the law knows of."""
        return self.points.axes

    @functools.cached_property
    def seen(self) -> list[str]:
        """Axes along which the sweep has more than one size."""
        spread = np.ptp(self.posterior.offsets, axis=0)
        return [name for name, span in zip(self.axes, spread, strict=True) if span > 0]

    @functools.cached_property
    def exponents(self) -> dict[str, Estimate]:
        """Power of each size, with its 90 % interval; of an unseen one the prior's."""
        found = {}
        for name, drawn in zip(self.axes, self.draws.exponents.T, strict=True):
            lower, middle, upper = np.quantile(drawn, (_TAILS[0], 0.5, _TAILS[1]))
            found[name] = Estimate(float(middle), float(lower), float(upper))
        return found

    @functools.cached_property
    def middle(self) -> dict[str, float]:
        """Round sizes in the middle of the sweep."""
        middle = zip(self.axes, self.posterior.middle, strict=True)
        return {name: float(f"{math.exp(log):.2g}") for name, log in middle}

    @property
    def deviation(self) -> float:
        """By what factor - 1 a size's best is off the law, a standard deviation."""
        return float(np.expm1(np.median(self.draws.deviation)))

    @functools.cached_property
    def largest(self) -> dict[str, float]:
        """The size of the sweep with the most parameters times data."""
        sizes = self.points.sizes
        work = np.sum([np.log(size) for size in sizes.values()], axis=0)
        return {name: float(size[np.argmax(work)]) for name, size in sizes.items()}

    @property
    def largest_setting(self) -> float:
        """The best that was tried at the largest size."""
        (found,) = [one for one in self.bottoms if one.sizes == self.largest]
        return found.tried

    @functools.cached_property
    def bottoms(self) -> list[Bottom]:
        """Of each size of the sweep."""
        points = self.points
        law = np.median(self._law(self.posterior.offsets), axis=0)
        worth = np.where(np.isfinite(points.mean), points.mean, np.inf)
        best = np.argmin(worth, axis=1)
        return [
            Bottom(
                {name: float(size[i]) for name, size in points.sizes.items()},
                float(np.exp(law[i])),
                _as_written(points.log_setting[i, best[i]]),
            )
            for i in range(len(best))
        ]

    @functools.cached_property
    def edges(self) -> list[Edge]:
        """Sizes where the least or the largest setting tried is the best one."""
        found = []
        for row, one in zip(self.points.log_setting, self.bottoms, strict=True):
            # Beyond a run that diverged there is nothing to be tried.
            for side, log_end in (("below", np.nanmin(row)), ("above", np.nanmax(row))):
                if one.tried == (end := _as_written(log_end)):
                    found.append(Edge(one.sizes, side, end))
        return found

    def rule(self) -> tuple[float, str]:
        """The law as settings of a study: a number, and the rule that multiplies it.

        They go to `training.learning_rate` and `training.learning_rate_rule`, or those
        of weight_decay and batch_size: every cell then has the best setting by the law.
        """
        factors = [
            f"({name} / {self.middle[name]:g})**{self.exponents[name].value:.3f}"
            for name in self.seen
        ]
        text = " * ".join(factors).replace("e+0", "e").replace("e+", "e")
        return float(f"{self.best(**self.middle).middle:.3g}"), text

    def best(
        self, params: float | None = None, data: float | None = None, **more: float
    ) -> Best:
        """The setting to take at a size, and how sure that is.

        Args:
            params: m.
            data: n.
            more: other sizes of the sweep by name; those that are left out are as at
                its largest size.

        Raises:
            UserError: a size is none, or the sweep knows nothing of it.
        """
        sizes = self._fill(params, data, more)
        bottoms = self._draw_bottoms(sizes)
        low, high = np.quantile(bottoms, (0.01, 0.99))
        tried = np.linspace(low, high, _CANDIDATES)
        cost = [
            float(np.mean(self._cost(log_setting, bottoms))) for log_setting in tried
        ]
        setting = float(np.exp(tried[int(np.argmin(cost))]))
        found = self.interval(sizes)
        return Best(
            self.knob,
            sizes,
            setting,
            found.value,
            found.lower,
            found.upper,
            self.regret(setting, **sizes),
        )

    def interval(self, sizes: Mapping[str, float]) -> Estimate:
        """The best setting at a size, all axes of the law, with its 90 % interval."""
        tails = (_TAILS[0], 0.5, _TAILS[1])
        lower, middle, upper = np.exp(np.quantile(self._draw_bottoms(sizes), tails))
        return Estimate(float(middle), float(lower), float(upper))

    def regret(
        self,
        setting: float,
        params: float | None = None,
        data: float | None = None,
        **more: float,
    ) -> Regret:
        """What a setting costs at a size, beside the best one.

        Args:
            setting: of the knob, above 0.
            params: m, as in `best`.
            data: n.
            more: other sizes.

        Raises:
            UserError: a number is none above 0, or the sweep knows nothing of a size.
        """
        if not (setting > 0 and math.isfinite(setting)):
            raise UserError(f"{self.knob}={setting!r}: must be a number above 0")
        bottoms = self._draw_bottoms(self._fill(params, data, more))
        x = math.log(setting) - bottoms
        drawn = np.expm1(bowl(x, *self.draws.shape))
        lower, middle, upper = np.quantile(drawn, (_TAILS[0], 0.5, _TAILS[1]))
        chance = float(np.mean(x > self._divergence))
        return Regret(setting, float(middle), float(lower), float(upper), chance)

    @property
    def safe_factor(self) -> float:
        """Times the best setting from which on runs diverged; infinite if none did."""
        return float(np.exp(np.median(self._divergence)))

    @functools.cached_property
    def levels(self) -> np.ndarray:
        """ln of the value at the best setting of each size, by the law [points]."""
        return self.posterior.find_levels(self.draws)

    def draw_bowl(self, point: int, log_setting: np.ndarray) -> np.ndarray:
        """ln of value / best value at a size of the sweep, middle of the draws.

        Args:
            point: its number in `points`.
            log_setting: of the knob [settings].
        """
        law = self._law(self.posterior.offsets[point : point + 1])
        x = log_setting - law
        return np.median(bowl(x, *(part[:, None] for part in self.draws.shape)), axis=0)

    def cost_of(self, factor: float) -> np.ndarray:
        """Draws of ln value at `factor` times the best setting over it [draws]."""
        return bowl(np.array(math.log(factor)), *self.draws.shape)

    @functools.cached_property
    def tried_regret(self) -> float:
        """What the steps between the settings tried cost, in ln value, on average."""
        law = self._law(self.posterior.offsets)[..., None]
        tried = np.where(np.isfinite(self.points.mean), self.points.log_setting, np.nan)
        shape = (part[:, None, None] for part in self.draws.shape)
        return float(np.mean(np.nanmin(bowl(tried - law, *shape), axis=-1)))

    def draw_regrets(self, setting: float, sizes: Mapping[str, float]) -> np.ndarray:
        """Draws of ln value at this setting over that at the best one [draws]."""
        bottoms = self._draw_bottoms(self._fill(None, None, sizes))
        return bowl(math.log(setting) - bottoms, *self.draws.shape)

    def _cost(self, log_setting: float, bottoms: np.ndarray) -> np.ndarray:
        x = log_setting - bottoms
        cost = bowl(x, *self.draws.shape)
        return np.where(x > self._divergence, np.maximum(cost, _DIVERGED), cost)

    @functools.cached_property
    def _divergence(self) -> np.ndarray:
        """ln of setting / best from where on runs diverged, by each draw [draws]."""
        diverged = self.points.diverged
        if not diverged.any():
            return np.full(len(self.wander), np.inf)
        gaps = self.points.log_setting - self._law(self.posterior.offsets)[..., None]
        least = np.min(np.where(diverged, gaps, np.inf), axis=(1, 2))
        return np.maximum(least, 0.0)

    def _law(self, offsets: np.ndarray) -> np.ndarray:
        """ln of the best setting by the law alone [draws, places].

        Args:
            offsets: ln of the sizes less the posterior's middle [places, axes].
        """
        draws = self.draws
        found = draws.center[:, None] + draws.exponents @ offsets.T
        return found + self.posterior.shift

    def draw_law(self, sizes: Mapping[str, float]) -> np.ndarray:
        """ln of the best setting at one size by the law alone [draws]."""
        return self._law(self._offset(sizes)[None])[:, 0]

    def growth(self, sizes: Mapping[str, float]) -> float:
        """Factor on the deviation of a size beyond the sweep; 1 inside.

        A law that is off by a deviation at the ends of its range is off by so many
        more beyond as the size lies ranges away.
        """
        offset, own = self._offset(sizes), self.posterior.offsets
        low, high = own.min(axis=0), own.max(axis=0)
        beyond = np.maximum(0, np.maximum(offset - high, low - offset))
        span = high - low
        ranges = beyond[span > 0] / span[span > 0]
        return math.sqrt(1 + float(np.sum(ranges**2)))

    def _offset(self, sizes: Mapping[str, float]) -> np.ndarray:
        return np.log([sizes[name] for name in self.axes]) - self.posterior.middle

    def _draw_bottoms(self, sizes: Mapping[str, float]) -> np.ndarray:
        """ln of the best setting at one size, its own deviation with it [draws]."""
        wander = self.wander * self.draws.deviation
        return self.draw_law(sizes) + self.growth(sizes) * wander

    def _fill(
        self, params: float | None, data: float | None, more: Mapping[str, float]
    ) -> dict[str, float]:
        asked: dict[str, Any] = {"params": params, "data": data, **more}
        asked = {name: size for name, size in asked.items() if size is not None}
        for name, size in asked.items():
            if not (size > 0 and math.isfinite(size)):
                raise UserError(f"{name}={size!r}: must be a number above 0")
            if name not in self.axes:
                raise UserError(
                    f"{name}={write_size(size)}: the law of {self.knob} knows nothing "
                    f"of it; its sizes are {', '.join(self.axes)}"
                )
        return {**self.largest, **{name: float(size) for name, size in asked.items()}}

    def __repr__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """The law in sentences."""
        from scalepred.report import recipe_words

        return "\n".join(recipe_words.describe(self))


def _as_written(log_setting: float) -> float:
    """A setting of the table, without what ln and exp do to its last digits."""
    return float(f"{math.exp(log_setting):.12g}")


def fit_sweep(sweep: Sweep, seed: int = 0) -> RecipeLaw:
    """Fits the law of the best setting to a sweep.

    Args:
        sweep: runs with several settings at each of three sizes or more.
        seed: of the draws.

    Raises:
        UserError: the sweep has too few sizes or settings.
    """
    points = sweep.group()
    posterior = Posterior.of(points)
    rng = np.random.default_rng(seed)
    drawn = sampler.draw(
        posterior.log_density,
        posterior.start(_WALKERS, rng),
        rng,
        burn_in=_BURN_IN,
        steps=_STEPS,
        keep_every=_KEEP_EVERY,
    )
    wander = rng.standard_normal(len(drawn))
    return RecipeLaw(sweep, points, posterior, posterior.unpack(drawn), wander)


def fit_recipe(
    table: Any,
    knob: str = "learning_rate",
    *,
    column: str = "",
    metric: str | None = None,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    seed: int = 0,
) -> RecipeLaw:
    """Fits the law of the best learning rate, weight decay or batch size.

    Args:
        table: runs with several settings at each of three sizes or more: a file (see
            `Surface.from_csv`), the workdir of a study, rows of one, columns by name,
            or a `Sweep`.
        knob: learning_rate, weight_decay or batch_size. Where others were tried, too,
            they are at their best.
        column: that holds the knob, where its name does not tell.
        metric: see `Surface.from_csv`, as the others.
        task: likewise.
        columns: by our name, what the table calls it.
        where: COLUMN=VALUE, which rows must have.
        seed: of the draws.

    Raises:
        UserError: the table cannot be read, or has too few sizes or settings.
    """
    if not isinstance(table, Sweep):
        about = {"metric": metric, "task": task, "named": columns, "where": where}
        (table,) = read_sweeps(table, knob, column=column, **about)
    return fit_sweep(table, seed)

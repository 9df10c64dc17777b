"""What is believed of the flexible law before there are points: weak normal priors.

The medians and deviations are those that eight public studies of language models
(losses) and of image models (errors) suggest; docs/benchmarks.md says what was seen
while choosing them.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from scalepred.fitting.auto.law import CORE

_HELD_SD = 1e-3  # of parameters that a model of the average holds
# Prior of the top where the level is the given one, or anything below it.
_GIVEN_LEVEL = -30.0, _HELD_SD
_LEVEL_BELOW = 0.0, 2.0
# Learning curves are dense and smooth: they say themselves what the priors say of
# grids. Standard deviations of the inner parameters.
_CURVE_SD = {
    "A": 5.0,
    "model_exponent": 2.0,
    "B": 5.0,
    "data_exponent": 2.0,
    "floor": 5.0,
    "top": 5.0,
    "bend": 0.6,
    "hardness": 0.5,
}
_ABSENT = -30.0  # ln of the amplitude of a size that does not vary


class Prior(NamedTuple):
    """Of one inner parameter.

    Attributes:
        name: in `Core`.
        median: of the parameter itself, or of the inner one where that is no logarithm.
        sd: standard deviation of the inner parameter.
        is_log: whether the inner one is the logarithm.
    """

    name: str
    median: float
    sd: float
    is_log: bool = True

    @property
    def mean(self) -> float:
        """Of the inner parameter."""
        return float(np.log(self.median)) if self.is_log else self.median


@dataclasses.dataclass(frozen=True)
class Settings:
    """Priors and weights for one kind of metric.

    Attributes:
        priors: of the core parameters, in the order of `Core`; then, where epochs are
            among the sizes, of how repeats lose their worth.
        compute_power: a point weighs (m n / largest m n) to this power.
        above: weight of a residual above the law.
        sigma: expected standard deviation of ln value about the law.
        sigma_strength: how many points that expectation counts for.
        offset_sd: expected spread of the offsets of model sizes, in ln t.
        slope_sd: expected spread of their data exponents, in ln.
        offset_strength: how many model sizes those two count for.
    """

    priors: tuple[Prior, ...]
    compute_power: float
    above: float
    sigma: float
    sigma_strength: float
    offset_sd: float
    slope_sd: float
    offset_strength: float

    @property
    def mean(self) -> np.ndarray:
        """Of the priors [priors]."""
        return np.array([prior.mean for prior in self.priors])

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations of the priors [priors]."""
        return np.array([prior.sd for prior in self.priors])


LOSS = Settings(
    priors=(
        Prior("A", 0.053, 2.3),  # a twentieth of the smallest value, within a factor 10
        Prior("model_exponent", 0.32, 0.29),  # 0.24 to 0.43
        Prior("B", 0.23, 1.7),  # likewise of the data, within a factor of 5
        Prior("data_exponent", 0.44, 0.39),  # 0.30 to 0.65
        Prior("floor", 1.06, 0.9, is_log=False),  # 0.48 to 0.90 of the smallest
        Prior("top", -0.5, 2.0, is_log=False),  # 1.6 times the largest value
        Prior("bend", 1.85, 0.155),  # near Rosenfeld's 2
        Prior("hardness", 0.92, 0.55),  # near Chinchilla's 1
    ),
    compute_power=1.3,
    above=0.4,
    sigma=0.008,
    sigma_strength=6.0,
    offset_sd=0.02,
    slope_sd=0.1,
    offset_strength=0.8,
)
ERROR = Settings(
    priors=(
        Prior("A", 0.09, 1.35),  # a tenth of the smallest value, within a factor of 4
        Prior("model_exponent", 0.32, 0.30),  # 0.24 to 0.43
        Prior("B", 0.19, 2.2),  # likewise of the data, within a factor of 9
        Prior("data_exponent", 0.36, 0.35),  # 0.25 to 0.51
        Prior("floor", -0.3, 3.0, is_log=False),  # 0.02 to 0.94 of the smallest value
        Prior("top", 0.0, 1e-6, is_log=False),  # replaced: see `Member.prior`
        Prior("bend", 1.72, 0.155),  # below Rosenfeld's 2
        Prior("hardness", 0.67, 0.26),  # softer than Chinchilla's 1
    ),
    compute_power=0.5,
    above=1.0,
    sigma=0.006,
    sigma_strength=1.5,
    offset_sd=0.3,
    slope_sd=0.065,
    offset_strength=0.5,
)


@dataclasses.dataclass(frozen=True)
class Member:
    """One of the models that `law=auto` averages: the law under a prior of its own.

    Attributes:
        name: for people.
        weight: before the back-tests have spoken.
        mean: inner values at which core parameters are held, by name.
        widen: factor on the standard deviations of the priors.
        is_below: the level of an error is fitted, from the largest value to 1.
        is_equal: every point weighs the same, whatever its compute.
    """

    name: str
    weight: float
    mean: tuple[tuple[str, float], ...] = ()
    widen: float = 1.0
    is_below: bool = False
    is_equal: bool = False

    def prior(self, settings: Settings, is_loss: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the parameters that have a prior."""
        mean = settings.mean
        # What repeats are worth is wide already.
        is_widened = (settings.sd > _HELD_SD) & (np.arange(len(mean)) < len(CORE))
        sd = np.where(is_widened, self.widen, 1.0) * settings.sd
        for name, value in self.mean:
            mean[CORE.index(name)] = value
            sd[CORE.index(name)] = _HELD_SD
        if not is_loss:
            top = CORE.index("top")
            mean[top], sd[top] = _LEVEL_BELOW if self.is_below else _GIVEN_LEVEL
        return mean, sd


# The usual laws are corners of this one, with the same weak priors on the rest.
MEMBERS = (
    Member("flexible", 0.3),
    Member("envelope (Rosenfeld)", 0.1, (("bend", np.log(2.0)), ("hardness", 0.0))),
    Member("rational", 0.1, (("bend", 0.0), ("hardness", 0.0))),
    Member("sum (Chinchilla)", 0.1, (("top", 7.0), ("bend", 0.0), ("hardness", 0.0))),
    Member("scarcer of the two", 0.1, (("hardness", np.log(3.0)),)),
    # Where nothing is like the studies that the priors come from.
    Member("wide priors", 0.1, widen=4.0),
    # Where a usual law is right down to the smallest runs, each of them tells as much
    # of it as the largest.
    Member(
        "Rosenfeld, equal weights",
        0.02,
        (("bend", np.log(2.0)), ("hardness", 0.0)),
        widen=3.0,
        is_equal=True,
    ),
    Member(
        "Chinchilla, equal weights",
        0.02,
        (("top", 7.0), ("bend", 0.0), ("hardness", 0.0)),
        widen=3.0,
        is_equal=True,
    ),
)
# Of errors whose random-guess level nobody gave: a choice among four is wrong in three
# of four, and what starts there falls later and faster than from 1.
UNKNOWN_LEVEL = Member("level below 1", 0.1, widen=4.0, is_below=True)


def for_curves(settings: Settings) -> Settings:
    """The settings for points along one size only."""
    priors = tuple(
        prior._replace(sd=_CURVE_SD[prior.name] if prior.sd > _HELD_SD else prior.sd)
        for prior in settings.priors
    )
    return dataclasses.replace(
        settings,
        priors=priors,
        compute_power=0.5,
        above=1.0,
        sigma=0.01,
        sigma_strength=2.0,
    )


# How fast repeats lose their worth, in the order of `laws.repeated.Decay`: as
# Muennighoff et al. 2023 published it, and a factor of five either way.
_REPEATS = (Prior("of_data", 15.4, 1.6), Prior("of_params", 5.3, 1.6))


def for_repeats(settings: Settings) -> Settings:
    """The settings for points whose data were seen more or less often.

    More epochs are wanted at any compute, not only beyond the largest: it counts half.
    """
    return dataclasses.replace(
        settings,
        priors=(*settings.priors, *_REPEATS),
        compute_power=settings.compute_power / 2,
    )


def curve_members(axis: str) -> tuple[Member, ...]:
    """What is weighed where only params, or only data, varies."""
    absent = ("A", _ABSENT) if axis == "data" else ("B", _ABSENT)
    held = (absent, ("hardness", 0.0))
    return (
        Member("curve", 0.55, held),
        Member("envelope (Rosenfeld)", 0.15, (*held, ("bend", np.log(2.0)))),
        Member("rational", 0.15, (*held, ("bend", 0.0))),
        Member("power", 0.15, (*held, ("top", 7.0), ("bend", 0.0))),
    )

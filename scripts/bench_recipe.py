"""Whether laws of the best rate hold what they promise where the truth is known.

Draws sweeps whose best rate is a power of m and n (exponents within -0.6 and 0.4), that
each size is off by up to a fifth: 6 to 20 sizes, 5 to 9 rates a factor of 2 or 3
apart, 1 to 3 seeds with 0.1 to 2 % of noise. Bowls take turns among three forms, none
of which the fit is told: two parabolas, one exponential, a sum of two powers. In half
of the sweeps too high a rate diverges. Asks for the best rate at 10 and 100 times the
largest m n. Prints how many of the 90 % intervals hold the truth, how wide they are,
and what it costs to follow the law or to keep the best rate of the largest size.

    python scripts/bench_recipe.py [--sweeps=100] [--sweeps_seed=0] [--few]
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

from scalepred.fitting.recipe import Sweep, fit_sweep

_SWEEPS = flags.DEFINE_integer("sweeps", 100, "Sweeps drawn.")
_SEED = flags.DEFINE_integer("sweeps_seed", 0, "Of the sweeps.")
_FEW = flags.DEFINE_bool("few", False, "Of 3 or 6 sizes.")
_FARTHER = (10.0, 100.0)

Bowl = Callable[[np.ndarray], np.ndarray]


class Truth(NamedTuple):
    """A sweep, and what is behind it.

    Attributes:
        sweep: its runs.
        center: ln of the best rate at m = n = 1.
        exponents: of m and n.
        deviation: standard deviation of ln of a size's best about the law.
        bowl: of ln rate / best -> ln value / best value.
        diverges: ln of rate / best from where on runs diverge.
        form: of the bowl.
    """

    sweep: Sweep
    center: float
    exponents: np.ndarray
    deviation: float
    bowl: Bowl
    diverges: float
    form: str


def draw_bowl(rng: np.random.Generator, form: int) -> tuple[str, Bowl]:
    """One of the three forms, with 0.5 to 10 % for a factor of e from the best."""
    low, high = np.exp(rng.uniform(*np.log([0.005, 0.05]))), rng.uniform(1.0, 4.0)
    if form == 0:
        return "parabolas", lambda x: np.where(x < 0, low, high * low) * x**2
    if form == 1:
        skew = rng.uniform(0.3, 0.9)
        return (
            "exponential",
            lambda x: 2 * low / skew**2 * (np.exp(skew * x) - skew * x - 1),
        )
    p, q = rng.uniform(0.3, 0.8), rng.uniform(0.5, 1.5)

    def powers(x: np.ndarray) -> np.ndarray:
        total = (q * np.exp(-p * x) + p * np.exp(q * x)) / (p + q)
        return 2 * low / (p * q) * np.log(total)

    return "powers", powers


def draw_truth(seed: int, number: int, is_few: bool = False) -> Truth:
    """The sweep of this number: the forms take turns, the rest is drawn.

    Args:
        seed: of all sweeps.
        number: of this one.
        is_few: it has 3 or 6 sizes.
    """
    rng = np.random.default_rng([seed, number])
    form, bowl = draw_bowl(rng, number % 3)
    num_m, num_n = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    if is_few:
        num_m, num_n = int(rng.integers(1, 3)), 3
    m = 1e5 * rng.uniform(2, 4) ** np.arange(num_m)
    n = 1e6 * rng.uniform(2, 4) ** np.arange(num_n)
    params, data = (size.ravel() for size in np.meshgrid(m, n))
    exponents = np.array([rng.uniform(-0.6, 0.1), rng.uniform(-0.5, 0.4)])
    logs = np.log(np.stack([params, data], axis=1))
    middle = math.log(1e-2) + rng.uniform(-1, 1)
    center = middle - float(logs.mean(axis=0) @ exponents)
    deviation = float(rng.uniform(0, 0.2))
    best = center + logs @ exponents + deviation * rng.standard_normal(len(logs))
    num_rates, step = int(rng.integers(5, 10)), rng.choice([2.0, 3.0])
    first = middle + rng.uniform(-0.7, 0.7) - math.log(step) * (num_rates - 1) / 2
    rates = first + math.log(step) * np.arange(num_rates)
    seeds = int(rng.integers(1, 4))
    noise = np.exp(rng.uniform(*np.log([0.001, 0.02])))
    diverges = float(rng.uniform(1.5, 3.0)) if number % 2 else math.inf
    x = rates - best[:, None]
    value = np.log(1.7 + 400 * params**-0.34 + 410 * data**-0.28)[:, None] + bowl(x)
    shape = (*value.shape, seeds)
    # Half of the variance of a run is its seed's, whatever the rate.
    shared = rng.standard_normal((len(best), 1, seeds)) * noise
    runs = value[..., None] + shared + noise * rng.standard_normal(shape)
    runs = np.where(x[..., None] > diverges, np.nan, np.minimum(runs, 30.0))

    def spread(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, shape).ravel()

    sweep = Sweep.from_arrays(
        {
            "params": spread(params[:, None, None]),
            "data": spread(data[:, None, None]),
        },
        np.exp(spread(rates[None, :, None])),
        np.exp(runs.ravel()),
        seed=spread(np.arange(seeds)),
    )
    return Truth(sweep, center, exponents, deviation, bowl, diverges, form)


class Held(NamedTuple):
    """What one sweep was asked."""

    what: str
    is_inside: bool
    width: float  # ln of upper / lower, or upper - lower of exponents and regrets
    score: float  # interval score of the same


class Cost(NamedTuple):
    """What a rate costs at a target, ln of value / best value; 1 where it diverges."""

    farther: float
    law: float
    largest: float


def ask(truth: Truth, number: int) -> tuple[list[Held], list[Cost]]:
    """Fits the sweep, and holds what it says against the truth."""
    law = fit_sweep(truth.sweep)
    rng = np.random.default_rng([number, 1])
    held, costs = [], []
    for (name, one), true in zip(law.exponents.items(), truth.exponents, strict=True):
        held.append(_hold(f"exponent of {name}", true, one.lower, one.upper))
    for farther in _FARTHER:
        sizes = {
            name: float(size.max()) * math.sqrt(farther)
            for name, size in truth.sweep.sizes.items()
        }
        logs = np.log([sizes["params"], sizes["data"]])
        true = truth.center + float(logs @ truth.exponents)
        true += truth.deviation * rng.standard_normal()
        best = law.best(**sizes)
        ends = math.log(best.lower), math.log(best.upper)
        held.append(_hold(f"best rate at {farther:g}x", true, *ends))
        paid = []
        for whose, regret in (
            ("law", best.regret),
            ("largest", law.regret(law.largest_setting, **sizes)),
        ):
            x = math.log(regret.setting) - true
            cost = 1.0 if x > truth.diverges else float(truth.bowl(np.array(x)))
            paid.append(cost)
            if x <= truth.diverges:
                # What cannot be told from nothing need not be.
                lower = 0.0 if regret.lower < 1e-4 else regret.lower
                is_told = _hold(
                    f"regret of the {whose} at {farther:g}x",
                    math.expm1(cost),
                    lower,
                    regret.upper,
                )
                held.append(is_told)
        costs.append(Cost(farther, *paid))
    return held, costs


def _hold(what: str, true: float, lower: float, upper: float) -> Held:
    miss = max(lower - true, true - upper, 0.0)
    width = upper - lower
    return Held(what, miss == 0, width, width + miss * 2 / 0.1)


def describe(held: Sequence[Held], costs: Sequence[Cost]) -> list[str]:
    """The tables, as lines."""
    lines = ["| what | inside, % | median width | mean score |", "| --- " * 4 + "|"]
    for what in dict.fromkeys(one.what for one in held):
        own = [one for one in held if one.what == what]
        inside = 100 * np.mean([one.is_inside for one in own])
        width = np.median([one.width for one in own])
        score = np.mean([one.score for one in own])
        lines.append(f"| {what} | {inside:.0f} | {width:.2g} | {score:.2g} |")
    lines += ["", "| farther | cost of | median, % | mean, % | worst, % |"]
    lines.append("| --- " * 5 + "|")
    for farther in _FARTHER:
        for whose in ("law", "largest"):
            own = [getattr(one, whose) for one in costs if one.farther == farther]
            paid = 100 * np.expm1(np.array(own))
            lines.append(
                f"| {farther:g}x | {whose} | {np.median(paid):.2g} | "
                f"{np.mean(paid):.2g} | {np.max(paid):.2g} |"
            )
    return lines


def _main(_: Sequence[str]) -> None:
    held: list[Held] = []
    costs: list[Cost] = []
    for number in range(_SWEEPS.value):
        told, paid = ask(draw_truth(_SEED.value, number, _FEW.value), number)
        held += told
        costs += paid
    print("\n".join(describe(held, costs)))


if __name__ == "__main__":
    app.run(_main)

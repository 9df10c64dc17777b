"""Whether intervals and probabilities hold what they promise where the truth is known.

Draws grids from published laws (the nine of Rosenfeld et al. 2020; Chinchilla's by
three papers): 4 to 7 sizes of model and of data in factors of 2, one or three seeds
with 0.5 to 3 % noise. Each is fitted as a whole, by the law it came from and by
law=auto, and asked about 4 to 1024 times its largest compute. Prints how many of the
90 and 50 % intervals hold the truth, and how often came true what was given a
probability.

    python scripts/bench_calibration.py [--grids=500] [--laws=true,auto]
        [--resamples=300] [--grids_seed=0] [--jobs=1]

A grid depends on --grids_seed and its number alone: jobs change nothing but the time.
"""

import concurrent.futures
import functools
import itertools
import math
import multiprocessing
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

import scalepred
from scalepred.fitting import answers, laws
from scalepred.fitting.predict import FittedLaw, Noise
from scalepred.runtime import command
from scalepred.table.surface import Surface

_GRIDS = flags.DEFINE_integer("grids", 100, "Grids drawn.")
_LAWS = flags.DEFINE_list("laws", ["true", "auto"], "true: the one of the grid; auto.")
_RESAMPLES = flags.DEFINE_integer("resamples", 300, "Draws behind every interval.")
_SEED = flags.DEFINE_integer("grids_seed", 0, "Of the grids.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Processes.")

# Table 2 of Rosenfeld et al. 2020: alpha, beta, b, c, eta, random-guess level; sizes in
# fractions of the baseline. Those above 1 are losses.
_ROSENFELD = (
    (0.75403879, 0.61131518, 0.75575083, 3.62934233, 18.50376969, 0.999),
    (0.655043783, 0.534102925, 5.87e-2, 7.14e-14, 19.7701518, 0.9),
    (0.70403326, 0.50562759, 0.14727227, 0.70969734, 6.92618391, 0.99),
    (0.400319211, 1.16231333, 4.30e-5, 1.27e-9, 0.846839835, 46 / 47),
    (1.10233368, 0.831731092, 3.47e-3, 5.16e-10, 1.12529537, 0.99),
    (0.933547255, 0.537578077, 4.68e-2, 1.16e-9, 2.98124532, 100 / 101),
    (0.80962791, 0.34315027, 0.14690378, 4.99807364, 6.27494232, 6.09699692),
    (1.00822978, 0.21667458, 0.99145936, 8.23497095, 10.37612973, 6.21205331),
    (0.73505031, 0.55718887, 0.32914295, 9.03598661, 16.33563873, 6.59633058),
)
# E, A, alpha, B, beta: Hoffmann et al. 2022, Besiroglu et al. 2024, Muennighoff et al.
# 2023.
_CHINCHILLA = (
    (1.69, 406.4, 0.34, 410.7, 0.28),
    (1.8172, 482.01, 0.3478, 2085.43, 0.3658),
    (1.87, 521.0, 0.353, 1488.0, 0.353),
)
_FARTHER = (4.0, 16.0, 64.0, 256.0, 1024.0)  # than the largest fitted compute
_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
_BINS = tuple(itertools.pairwise(_EDGES))  # of probabilities
_NO_ENDS = math.nan, math.nan  # of the 50 % intervals that answers do not have
_MOST = 10.0  # that one interval counts in the mean score, in ln of the value or size


class Grid(NamedTuple):
    """What is measured, and the law behind it."""

    truth: FittedLaw
    law: str
    surface: Surface
    noise: float  # standard deviation of ln of one run


class Held(NamedTuple):
    """One interval and what it should hold, in ln of the value or size."""

    what: str
    truth: float
    ends: tuple[float, float]
    ends_50: tuple[float, float]


class Said(NamedTuple):
    """One probability and whether it came true."""

    what: str
    probability: float
    happened: bool


def draw_grid(seed: int, number: int) -> Grid:
    """The grid of this number: the laws take turns, the rest is drawn."""
    rng = np.random.default_rng([seed, number])
    params, data = (
        2.0 ** np.arange(1 - rng.integers(4, 8), 1) for _ in ("params", "data")
    )
    if number % 2:
        constants = _ROSENFELD[number // 2 % len(_ROSENFELD)]
        alpha, beta, b, c, eta, guess = constants
        theta = np.log([1 / eta, alpha, b / eta, beta, c / eta])
        truth, name = (
            _known(laws.rosenfeld, theta, math.log(guess), 1e7, 1e6),
            "rosenfeld",
        )
        params, data = 1e7 * params, 1e6 * data
        metric, level = ("loss", None) if guess > 1 else ("error", guess)
    else:
        theta = np.log(_CHINCHILLA[number // 2 % len(_CHINCHILLA)])
        truth, name = _known(laws.chinchilla, theta, 0.0, 1.0, 1.0), "chinchilla"
        most = 10 ** rng.uniform(8, 9.5)
        params, data = most * params, 20 * most * data
        metric, level = "loss", None
    m, n = (sizes.reshape(-1) for sizes in np.meshgrid(params, data))
    seeds, noise = int(rng.choice([1, 3])), math.exp(rng.uniform(*np.log([5e-3, 0.03])))
    means = np.exp(truth.log_value(m, n))
    runs = means[:, None] * np.exp(noise * rng.standard_normal((len(m), seeds)))
    if level is not None:
        runs = np.minimum(runs, 1.0)
    surface = Surface.from_arrays(
        np.repeat(m, seeds),
        np.repeat(n, seeds),
        runs.reshape(-1),
        metric=metric,
        random_guess=level,
        seed=np.tile(np.arange(seeds), len(m)),
    )
    return Grid(truth, name, surface, noise)


def _known(
    law: laws.Law, theta: np.ndarray, log_guess: float, params: float, data: float
) -> FittedLaw:
    """The law itself, without doubt or noise."""
    scale, none = laws.Scale(log_guess, 0.0, 0.0), np.empty((0, len(theta)))
    noise = Noise(0.0, 0.0, 1.0)
    return FittedLaw(law, theta, none, scale, params, data, 0.0, 1.0, noise, seed=0)


_Asked = tuple[list[Held], list[Said]]


def examine(seed: int, number: int, law: str, resamples: int) -> _Asked:
    """Fits one grid and asks it everything."""
    grid = draw_grid(seed, number)
    rng = np.random.default_rng([seed, number, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = scalepred.fit(
            grid.surface, grid.law if law == "true" else law, resamples=resamples
        )
    held, said = _ask_farther(grid, fit, rng)
    held_sizes = _ask_sizes(grid, fit)
    held_budget, said_budget = _ask_budget(grid, fit, rng)
    return held + held_sizes + held_budget, said + said_budget


def _ask_farther(grid: Grid, fit: scalepred.Fit, rng: np.random.Generator) -> _Asked:
    """Forecasts, at the same shape of model and data farther out."""
    root = np.sqrt(_FARTHER)
    m, n = grid.surface.params.max() * root, grid.surface.data.max() * root
    truth = grid.truth.log_value(m, n)
    runs = truth + grid.noise * rng.standard_normal(len(truth))
    found = fit.predict(m, n)
    held, said = [], []
    for name, values, kind in (("run", runs, ""), ("mean", truth, "mean_")):
        ends = [
            np.log(getattr(found, f"{kind}{end}{level}"))
            for level in ("", "_50")
            for end in ("lower", "upper")
        ]
        for i, farther in enumerate(_FARTHER):
            low, high, low_50, high_50 = (float(end[i]) for end in ends)
            question = f"{name} at {farther:g}x"
            held.append(
                Held(question, float(values[i]), (low, high), (low_50, high_50))
            )
    # Values that the fit finds likely or not, chosen without knowledge of the truth.
    half = np.log(found.upper / found.lower) / 2
    asked = found.value * np.exp(half * rng.uniform(-1.2, 1.2, len(half)))
    for name, seeds, values in (("run", 1, runs), ("mean", math.inf, truth)):
        chances = fit.probability(asked, m, n, seeds)
        for chance, value, wanted in zip(chances, values, asked, strict=True):
            happened = value <= np.log(wanted)
            said.append(Said(f"{name} <= value", float(chance), happened))
    return held, said


def _ask_sizes(grid: Grid, fit: scalepred.Fit) -> list[Held]:
    """How much of one size a value needs, the other given."""
    most_params, most_data = grid.surface.params.max(), grid.surface.data.max()
    wanted = float(np.exp(grid.truth.log_value(2 * most_params, 8 * most_data)))
    data = fit.data_needed(wanted, params=2 * most_params)
    wanted = float(np.exp(grid.truth.log_value(8 * most_params, 2 * most_data)))
    params = fit.params_needed(wanted, data=2 * most_data)
    return [
        Held("data needed", math.log(8 * most_data), _log_ends(data), _NO_ENDS),
        Held("params needed", math.log(8 * most_params), _log_ends(params), _NO_ENDS),
    ]


def _ask_budget(grid: Grid, fit: scalepred.Fit, rng: np.random.Generator) -> _Asked:
    """What a budget buys, and whether it reaches a value."""
    budget = 64 * 6 * grid.surface.params.max() * grid.surface.data.max()
    ideal = answers.best_for_budget(grid.truth, budget, answers.Cost(6.0), "")
    best = fit.best_for_budget(budget)
    ideal_params, ends = ideal.details["params"][0], best.details["params"][1:]
    held = [
        Held("best for budget", math.log(ideal.value), _log_ends(best), _NO_ENDS),
        Held("budget's params", math.log(ideal_params), _log(*ends), _NO_ENDS),
    ]
    m, n = best.details["params"][0], best.details["data"][0]
    reached = float(np.exp(grid.truth.log_value(m, n)))
    half = math.log(best.upper / best.lower) / 2
    said = []
    for _ in range(3):
        wanted = best.value * math.exp(half * rng.uniform(-1.2, 1.2))
        go = fit.budget_suffices(wanted, budget)
        said.append(Said("budget suffices", go.value, reached <= wanted))
    return held, said


def _log(low: float, high: float) -> tuple[float, float]:
    with np.errstate(divide="ignore"):
        return float(np.log(low)), float(np.log(high))


def _log_ends(answer: scalepred.Answer) -> tuple[float, float]:
    return _log(answer.lower, answer.upper)


def examine_all(
    seed: int, grids: Iterable[int], law: str, resamples: int, jobs: int = 1
) -> tuple[list[list[Held]], list[Said]]:
    """Every grid: what intervals should hold [grids][questions], and what was said."""
    ask = functools.partial(examine, seed, law=law, resamples=resamples)
    if jobs == 1:
        found = [ask(number) for number in grids]
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(
            jobs, context, initializer=command.cache_programs
        ) as pool:
            found = list(pool.map(ask, grids))
    return [held for held, _ in found], [one for _, said in found for one in said]


def share_held(held: Sequence[Held], level: int = 90) -> float:
    """Coverage; NaN where there are no such intervals."""
    ends = [one.ends if level == 90 else one.ends_50 for one in held]
    if any(math.isnan(low) for low, _ in ends):
        return math.nan
    inside = [
        low <= one.truth <= high for one, (low, high) in zip(held, ends, strict=True)
    ]
    return float(np.mean(inside))


def _width(one: Held) -> float:
    low, high = one.ends
    return math.inf if math.isinf(high) else high - low


def interval_score(one: Held) -> float:
    """Width, and 20 times what lies outside (Gneiting and Raftery 2007), at most 10."""
    low, high = one.ends
    outside = max(low - one.truth, 0.0) + max(one.truth - high, 0.0)
    return min(_width(one) + 20 * outside, _MOST)


def brier_score(said: Sequence[Said]) -> float:
    """Mean square of probability less outcome; 0.25 for always one half."""
    return float(np.mean([(one.probability - one.happened) ** 2 for one in said]))


def reliability(said: Sequence[Said]) -> list[tuple[int, float, float]]:
    """By bins of probability: how many, their mean, and how many of them came true.

    NaN for the last two where a bin is empty.
    """
    rows = []
    for low, high in _BINS:
        own = [
            one
            for one in said
            if low <= one.probability < high or one.probability == high == 1
        ]
        mean = share = math.nan
        if own:
            mean = float(np.mean([one.probability for one in own]))
            share = float(np.mean([one.happened for one in own]))
        rows.append((len(own), mean, share))
    return rows


def print_block(law: str, grids: Sequence[Grid], found: list[list[Held]]) -> None:
    """Coverage of every question, together and by kind of grid."""
    kinds: dict[str, list[bool]] = {
        "all": [True for _ in grids],
        "rosenfeld": [grid.law == "rosenfeld" for grid in grids],
        "chinchilla": [grid.law == "chinchilla" for grid in grids],
        "1 seed": [grid.surface.num_seeds[0] == 1 for grid in grids],
        "3 seeds": [grid.surface.num_seeds[0] == 3 for grid in grids],
    }
    print(f"\nlaw={law}\n\n| | {' | '.join(kinds)} | 50 % | upper / lower | score |")
    print("| --- |" + " --- |" * (len(kinds) + 3))
    by_question = zip(*found, strict=True)  # every grid is asked the same
    for held in by_question:
        cells = [
            f"{share_held([*itertools.compress(held, own)]):.0%}" if any(own) else ""
            for own in kinds.values()
        ]
        middle = share_held(held, 50)
        cells.append("" if math.isnan(middle) else f"{middle:.0%}")
        width = float(np.median([_width(one) for one in held]))
        cells.append(f"{math.exp(width):.3g}" if width < _MOST else "open")
        score = float(np.mean([interval_score(one) for one in held]))
        print(f"| {held[0].what} | {' | '.join(cells)} | {score:.3f} |")


def print_reliability(law: str, said: list[Said]) -> None:
    """Probabilities said and how often they came true, by bins; how many."""
    names = " | ".join(f"{low:g} to {high:g}" for low, high in _BINS)
    print(f"\nlaw={law}: said, came true (how often said)\n")
    print(f"| | Brier score | {names} |\n| --- |" + " --- |" * (1 + len(_BINS)))
    for what in dict.fromkeys(one.what for one in said):
        own = [one for one in said if one.what == what]
        cells = " | ".join(
            f"{mean:.2f}, {share:.2f} ({count})"
            for count, mean, share in reliability(own)
        )
        print(f"| {what} | {brier_score(own):.3f} | {cells} |")


def main(argv: list[str]) -> None:
    del argv
    command.cache_programs()
    start = time.monotonic()
    numbers = range(_GRIDS.value)
    grids = [draw_grid(_SEED.value, number) for number in numbers]
    for law in _LAWS.value:
        found, said = examine_all(
            _SEED.value, numbers, law, _RESAMPLES.value, _JOBS.value
        )
        print_block(law, grids, found)
        print_reliability(law, said)
    print(f"\n{len(grids)} grids, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    app.run(main)

"""How often comparisons of made-up arms are right: docs/results/arms.md.

    .venv/bin/python scripts/bench_arms.py --trials=300 [--first=0] [--law=auto]

Each trial draws a law (Chinchilla's or Rosenfeld's), a grid of 9 to 30 sizes, 1 to 5
seeds, 0.5 to 3 % of noise in one run of which 0 to 95 % (of its variance) is common to
both arms, and what arm B does: nothing, multiply compute or data, take a share off the
value or off what is above its floor, each of which drifts with the scale in half of the
trials, or change the law's three terms, each by a factor of its own. Both arms
are compared at 1, 10 and 100 times the largest compute. The truth is that of the two
frontiers, each with its own best split. Printed are how many percent of the 90 %
intervals hold it, by what was drawn, whether orders come true as often as they are
said to, and what the verdicts say.
"""

import argparse
import collections
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import scalepred
from scalepred.fitting.comparison import Pair
from scalepred.fitting.fit import Fit
from scalepred.runtime.command import cache_programs
from scalepred.table.surface import Surface

_BEYOND = (1.0, 10.0, 100.0)
_KINDS = ("none", "compute", "data", "value", "reducible", "terms")
_GRIDS = ((3, 3), (3, 4), (4, 4), (4, 5), (5, 5), (5, 6))
_SPLITS = np.linspace(-9.0, 9.0, 361)  # of ln(m / n) about the grid's
_TIMES = np.geomspace(1e-5, 1e5, 201)  # of a budget
_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0001)

Law = Callable[[Any, Any], np.ndarray]  # (params, data) -> value


class Truth(NamedTuple):
    """What was drawn.

    Attributes:
        first: law of arm A.
        second: of arm B.
        params: sizes of the grid [sizes].
        data: likewise.
        seeds: runs of each size.
        noise: standard deviation of ln of one run.
        share: of its variance that both arms have in common.
        about: law, kind and drift, by name.
    """

    first: Law
    second: Law
    params: np.ndarray
    data: np.ndarray
    seeds: int
    noise: float
    share: float
    about: dict[str, str]


def draw(trial: int) -> Truth:
    """The arms of one trial."""
    rng = np.random.default_rng([trial, 7])
    rows, columns = _GRIDS[rng.integers(len(_GRIDS))]
    spans = rng.uniform(1.0, 2.5, 2)
    low = 10 ** rng.uniform(6, 7.5), 10 ** rng.uniform(7.5, 9)
    params, data = (
        part.ravel()
        for part in np.meshgrid(
            low[0] * np.logspace(0, spans[0], rows),
            low[1] * np.logspace(0, spans[1], columns),
        )
    )
    middle = (
        float(np.exp(np.mean(np.log(params)))),
        float(np.exp(np.mean(np.log(data)))),
    )
    name = ("chinchilla", "rosenfeld")[rng.integers(2)]
    make, terms = _draw_law(name, middle, rng)
    kind = _KINDS[rng.integers(len(_KINDS))]
    drifts = bool(rng.integers(2)) and kind not in ("none", "terms")
    ends = (0.02, 0.8) if kind in ("compute", "data") else (0.002, 0.1)
    size = float(np.exp(rng.uniform(*np.log(ends)))) * rng.choice((-1.0, 1.0))
    by_decade = 0.3 * size * rng.normal() if drifts else 0.0

    def amount(m: Any, n: Any) -> np.ndarray:
        decades = np.log10(np.asarray(m) / middle[0]) + np.log10(n / middle[1])
        return size + by_decade * np.clip(decades, -8.0, 8.0)

    first, floor = make(terms), float(make(terms)(np.inf, np.inf))
    second = _change(first, floor, kind, amount)
    if kind == "terms":
        second = make(terms * np.exp(size * rng.standard_normal(3)))
    return Truth(
        first,
        second,
        params,
        data,
        int(rng.integers(1, 6)),
        math.exp(rng.uniform(math.log(0.005), math.log(0.03))),
        float(rng.uniform(0.0, 0.95)),
        {"law": name, "kind": kind, "drift": "yes" if drifts else "no"},
    )


def _draw_law(
    name: str, middle: tuple[float, float], rng: np.random.Generator
) -> tuple[Callable[[np.ndarray], Law], np.ndarray]:
    """A form of a law, and its terms: floor, and what model and data add to it."""
    alpha, beta = rng.uniform(0.25, 0.5, 2)
    drawn = np.array([rng.uniform(0.2, 1.5), *rng.uniform(0.3, 1.0, 2)])
    guess, scale, bend = 0.9, 0.25, float(rng.uniform(1.0, 3.0))

    def make(terms: np.ndarray) -> Law:
        def plain(m: Any, n: Any) -> np.ndarray:
            falls = (m / middle[0]) ** -alpha, (n / middle[1]) ** -beta
            return np.asarray(terms[0] + terms[1] * falls[0] + terms[2] * falls[1])

        def error(m: Any, n: Any) -> np.ndarray:  # Rosenfeld et al. 2020, eq. 5
            inner = scale * plain(m, n)
            return guess * inner / np.hypot(inner, bend)

        return plain if name == "chinchilla" else error

    return make, drawn


def _change(law: Law, floor: float, kind: str, amount: Law) -> Law:
    """Arm B: what its kind does, by so much."""

    def changed(m: Any, n: Any) -> np.ndarray:
        by = amount(m, n)
        if kind == "compute":
            return law(m * np.exp(by / 2), n * np.exp(by / 2))
        if kind == "data":
            return law(m, n * np.exp(by))
        if kind == "value":
            return law(m, n) * np.exp(-by)
        return floor + (law(m, n) - floor) * np.exp(-2 * by)

    return law if kind == "none" else changed


def frontier(law: Law, budgets: np.ndarray, ratio: float) -> np.ndarray:
    """The least values that 6 m n = budget buys [budgets].

    Args:
        law: of an arm.
        budgets: FLOPs [budgets].
        ratio: m / n about which splits are tried.
    """
    params = np.sqrt(budgets[:, None] / 6 * ratio) * np.exp(_SPLITS / 2)
    return np.min(law(params, budgets[:, None] / 6 / params), axis=1)


def true_multiplier(truth: Truth, budget: float) -> tuple[float, float]:
    """Times less compute that B needs at a budget, and ln of B's value over A's."""
    ratio = float(np.exp(np.mean(np.log(truth.params / truth.data))))
    wanted = float(frontier(truth.first, np.array([budget]), ratio)[0])
    own = frontier(truth.second, budget * _TIMES, ratio)
    if not own.min() <= wanted <= own.max():
        times = math.inf if own.max() < wanted else 0.0
    else:
        falling = np.minimum.accumulate(own)
        at = np.interp(-math.log(wanted), -np.log(falling), np.log(_TIMES))
        times = math.exp(-float(at))
    here = float(frontier(truth.second, np.array([budget]), ratio)[0])
    return times, math.log(here / wanted)


def measure(truth: Truth, trial: int) -> tuple[Surface, Surface]:
    """The tables of both arms."""
    shape = truth.seeds, len(truth.params)
    common = np.random.default_rng([trial, 0]).standard_normal(shape)
    tables = []
    for number, law in enumerate((truth.first, truth.second), 1):
        own = np.random.default_rng([trial, number]).standard_normal(shape)
        drawn = math.sqrt(truth.share) * common + math.sqrt(1 - truth.share) * own
        value = law(truth.params, truth.data) * np.exp(truth.noise * drawn)
        tables.append(
            Surface.from_arrays(
                np.tile(truth.params, truth.seeds),
                np.tile(truth.data, truth.seeds),
                value.ravel(),
                metric="loss",
                seed=np.repeat(np.arange(truth.seeds), shape[1]),
            )
        )
    return tables[0], tables[1]


def compare(trial: int, law: str, resamples: int) -> dict[str, Any]:
    """One trial: what was drawn, and what the comparison says, place by place."""
    truth = draw(trial)
    first, second = measure(truth, trial)
    fit = scalepred.fit(first, law, resamples=resamples)
    top = 6 * float(np.max(truth.params * truth.data))
    budgets = [times * top for times in _BEYOND]
    found = scalepred.compare({"A": fit, "B": _of(fit, second)}, budgets=budgets)
    return {**_describe(truth), "places": _places(truth, found.pairs[0])}


def _of(fit: Fit, surface: Surface) -> Fit:
    """Of the second arm only the runs and the cost of FLOPs count."""
    own = dataclasses.replace(fit.estimate, surface=surface)
    return dataclasses.replace(fit, estimate=own)


def _describe(truth: Truth) -> dict[str, Any]:
    cells = len(truth.params)
    return {
        **truth.about,
        "seeds": str(truth.seeds),
        "sizes": "9 to 16" if cells <= 16 else "20 to 30",
        "noise": "below 1.2%" if truth.noise < 0.012 else "above",
        "common": "below half" if truth.share < 0.5 else "above half",
    }


def _places(truth: Truth, pair: Pair) -> list[dict[str, Any]]:
    said = []
    for place in pair.places:
        times, difference = true_multiplier(truth, place.at["budget"])
        assert place.multiplier is not None
        assert place.power is not None
        said.append(
            {
                "times": times,
                "relative": math.expm1(difference),
                "multiplier": dataclasses.astuple(place.multiplier),
                "difference": dataclasses.astuple(place.relative),
                "better": place.better,
                "verdict": place.verdict,
                "seen": place.power.smallest,
            }
        )
    return said


def _holds(ends: tuple[float, float, float], true: float) -> bool:
    slack = 1e-9 * (1 + abs(true))
    return ends[1] - slack <= true <= ends[2] + slack


def tell(trials: list[dict[str, Any]]) -> list[str]:
    """The tables of docs/results/arms.md."""
    lines = ["| what | pairs | multiplier inside, % | difference inside, % | width |"]
    lines += ["| --- | --- | --- | --- | --- |", _row("all", trials)]
    for name in ("law", "kind", "drift", "seeds", "sizes", "noise", "common"):
        for value in sorted({trial[name] for trial in trials}):
            own = [trial for trial in trials if trial[name] == value]
            lines.append(_row(f"{name} {value}", own))
    lines += ["", "| said | orders | came true, % |", "| --- | --- | --- |"]
    lines += _orders(trials)
    lines += ["", "| truth | right | none | wrong |", "| --- | --- | --- | --- |"]
    return lines + _verdicts(trials)


def _row(name: str, trials: list[dict[str, Any]]) -> str:
    cells = []
    for what, true in (("multiplier", "times"), ("difference", "relative")):
        inside = [
            [_holds(place[what], place[true]) for place in trial["places"]]
            for trial in trials
        ]
        shares = np.mean(inside, axis=0)
        cells.append(", ".join(f"{100 * share:.0f}" for share in shares))
    widths = [
        [_width(place["multiplier"]) for place in trial["places"]] for trial in trials
    ]
    middle = np.median(widths, axis=0)
    cells.append(", ".join(f"{width:.2f}" for width in middle))
    return f"| {name} | {len(trials)} | " + " | ".join(cells) + " |"


def _width(ends: tuple[float, float, float]) -> float:
    """Upper over lower end."""
    return ends[2] / ends[1] if ends[1] else math.inf


def _orders(trials: list[dict[str, Any]]) -> list[str]:
    """Of all places that have an order: said with a probability, and come true."""
    places = [place for trial in trials for place in trial["places"]]
    places = [place for place in places if _has_order(place)]
    lines = []
    for low, high in itertools.pairwise(_EDGES):
        own = [place for place in places if low <= place["better"] < high]
        true = [place["relative"] < 0 for place in own]
        said = np.mean([place["better"] for place in own]) if own else math.nan
        share = f"{100 * np.mean(true):.0f}" if own else "n/a"
        lines.append(f"| {100 * said:.0f} % | {len(own)} | {share} |")
    return lines


def _has_order(place: dict[str, Any]) -> bool:
    return abs(place["relative"]) > 1e-9


def _verdicts(trials: list[dict[str, Any]]) -> list[str]:
    """At the largest compute measured."""
    lines = []
    for name, low, high in (
        ("no difference", -1.0, 1e-9),
        ("a difference that would be seen with less than 80 %", 1e-9, 1.0),
        ("a larger one", 1.0, math.inf),
    ):
        counts: collections.Counter[str] = collections.Counter()
        for trial in trials:
            place = trial["places"][0]
            size = abs(place["relative"])
            share = -1.0 if size < 1e-9 else size / place["seen"]
            if not low <= share < high:
                continue
            is_second, said = place["relative"] < 0, place["verdict"]
            if said == "none":
                counts["none"] += 1
            else:
                is_right = share > 0 and (said == "second") == is_second
                counts["right" if is_right else "wrong"] += 1
        cells = [str(counts[word]) for word in ("right", "none", "wrong")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--law", default="auto")
    parser.add_argument("--keep", help="file of trials that are done, to go on from")
    arguments = parser.parse_args()
    cache_programs()
    kept = pathlib.Path(arguments.keep) if arguments.keep else None
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    trials = [json.loads(line) for line in lines]
    for trial in range(
        arguments.first + len(trials), arguments.first + arguments.trials
    ):
        trials.append(compare(trial, arguments.law, arguments.resamples))
        if kept:
            with kept.open("a") as file:
                file.write(json.dumps(trials[-1]) + "\n")
    print("\n".join(tell(trials)))


if __name__ == "__main__":
    main()

"""How often a table is told that it does not scale: clean ones, and such as do not.

    .venv/bin/python scripts/bench_scaling.py [--tables=500] [--data=DIR]

Clean tables are drawn from published laws (those of bench_calibration.py): grids with
one or three seeds, ladders of one size, scattered sizes, isoFLOP profiles, all with 0.5
to 3 % noise. The others are made of them: values at chance, rising, U-shaped, with a
peak, and fitted before a bend. With --data the downstream tasks of Gadre et al. 2024
(gadre_overtraining_downstream.csv) are judged, too. Table i depends on i alone.
"""

import collections
import math
import pathlib
from collections.abc import Callable

import numpy as np
from absl import app, flags
from bench_calibration import draw_grid

from scalepred.fitting.scaling import judge
from scalepred.table.surface import Surface

_TABLES = flags.DEFINE_integer("tables", 500, "of each kind")
_DATA = flags.DEFINE_string("data", "", "folder of the public studies")


def _noisy(
    rng: np.random.Generator, m: np.ndarray, n: np.ndarray, value: np.ndarray
) -> Surface:
    noise = math.exp(rng.uniform(*np.log([5e-3, 0.03])))
    value = value * np.exp(noise * rng.standard_normal(len(value)))
    return Surface.from_arrays(m, n, value, metric="loss")


def _truth(number: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """One of the published Chinchilla laws."""
    constants = (
        (1.69, 406.4, 0.34, 410.7, 0.28),
        (1.8172, 482.01, 0.3478, 2085.43, 0.3658),
        (1.87, 521.0, 0.353, 1488.0, 0.353),
    )
    e, a, alpha, b, beta = constants[number % 3]
    return lambda m, n: e + a * m**-alpha + b * n**-beta


def grid(number: int) -> Surface:
    return draw_grid(0, number).surface


def ladder(number: int) -> Surface:
    """5 to 12 sizes of data at one size of model."""
    rng = np.random.default_rng([1, number])
    n = 1e8 * rng.choice([2.0, 3.0]) ** np.arange(rng.integers(5, 13))
    m = np.full(len(n), 10 ** rng.uniform(7, 10))
    return _noisy(rng, m, n, _truth(number)(m, n))


def scattered(number: int) -> Surface:
    """30 to 200 sizes, none of them twice."""
    rng = np.random.default_rng([2, number])
    count = int(rng.integers(30, 200))
    m, n = 10 ** rng.uniform(7.5, 10, count), 10 ** rng.uniform(9, 11.5, count)
    return _noisy(rng, m, n, _truth(number)(m, n))


def profiles(number: int) -> Surface:
    """IsoFLOP profiles: 4 to 7 budgets, 7 sizes of model each."""
    rng = np.random.default_rng([3, number])
    budgets = 6e18 * 3.0 ** np.arange(rng.integers(4, 8))
    m = np.concatenate(
        [np.sqrt(c / 120) * 2.0 ** np.arange(-3, 4) for c in budgets]
    ).round(-3)
    n = np.repeat(budgets, 7) / 6 / m
    return _noisy(rng, m, n, _truth(number)(m, n))


CLEAN = {
    "grids": grid,
    "ladders": ladder,
    "scattered sizes": scattered,
    "isoFLOP profiles": profiles,
}


def _base(number: int, kind: int) -> tuple[np.random.Generator, Surface]:
    """A clean table: grid, ladder or scattered sizes, in turns."""
    made = (grid, ladder, scattered)[number % 3](number)
    return np.random.default_rng([9, kind, number]), made


def _changed(surface: Surface, factor: np.ndarray) -> Surface:
    return Surface.from_arrays(
        surface.params, surface.data, surface.value * factor, metric="loss"
    )


def _place(surface: Surface) -> np.ndarray:
    """Where a point lies along its data, 0 to 1 [points]."""
    size = np.log(surface.data)
    return (size - size.min()) / np.ptp(size)


def at_chance(number: int) -> Surface:
    """An error of a quiz of four answers that nobody can tell yet."""
    rng, base = _base(number, 0)
    value = 0.75 * np.exp(0.01 * rng.standard_normal(len(base)))
    return Surface.from_arrays(
        base.params, base.data, value, metric="error", random_guess=0.75
    )


def rising(number: int) -> Surface:
    """It grows by 10 to 50 % along data."""
    rng, base = _base(number, 1)
    m, n = base.params, base.data
    value = np.exp(rng.uniform(0.1, 0.4) * _place(base))
    return _noisy(rng, m, n, value)


def u_shaped(number: int) -> Surface:
    """It falls by half and then rises by 20 to 80 %, from 40 to 70 % of the way on."""
    rng, base = _base(number, 2)
    turn, place = rng.uniform(0.4, 0.7), _place(base)
    fall = np.minimum(place / turn, 1.0) * math.log(2)
    rise = np.maximum(place - turn, 0.0) / (1 - turn) * math.log(rng.uniform(1.2, 1.8))
    return _noisy(rng, base.params, base.data, np.exp(rise - fall))


def peaked(number: int) -> Surface:
    """It falls to a third, but for a peak of 1.5 to 3 times, half way on."""
    rng, base = _base(number, 3)
    place, height = _place(base), math.log(rng.uniform(1.5, 3))
    bump = np.exp(-(((place - rng.uniform(0.4, 0.6)) / 0.13) ** 2))
    return _noisy(rng, base.params, base.data, np.exp(height * bump - 1.1 * place))


def bending(number: int) -> Surface:
    """It stays, and falls as n^-0.5 from half way or later on."""
    rng, base = _base(number, 4)
    steps = _place(base) * math.log(3000)
    value = (1 + np.exp(steps - rng.uniform(0.5, 0.8) * math.log(3000))) ** -0.5
    return _noisy(rng, base.params, base.data, value)


BAD = {
    "at chance": at_chance,
    "rising": rising,
    "U-shaped": u_shaped,
    "with a peak": peaked,
    "before a bend": bending,
}


def kinds(make: Callable[[int], Surface], tables: int) -> collections.Counter[str]:
    """How many tables are told what; "" is nothing."""
    found = (judge(make(number)) for number in range(tables))
    return collections.Counter("" if one is None else one.kind for one in found)


def _print_row(name: str, counts: collections.Counter[str]) -> None:
    total = sum(counts.values())
    told = total - counts[""]
    what = ", ".join(f"{kind} {n}" for kind, n in counts.most_common() if kind)
    print(f"| {name} | {total} | {told} | {told / total:.1%} | {what} |", flush=True)


def main(argv: list[str]) -> None:
    del argv
    print("| tables | number | told | share | as |\n| --- | --- | --- | --- | --- |")
    for name, make in (CLEAN | BAD).items():
        _print_row(name, kinds(make, _TABLES.value))
    if not _DATA.value:
        return
    path = pathlib.Path(_DATA.value) / "gadre_overtraining_downstream.csv"
    import csv

    with path.open() as file:
        tasks = sorted({row["task"] for row in csv.DictReader(file)})
    found = (judge(Surface.from_csv(path, task=task)) for task in tasks)
    counts = collections.Counter("" if one is None else one.kind for one in found)
    _print_row("Gadre et al., downstream", counts)


if __name__ == "__main__":
    app.run(main)

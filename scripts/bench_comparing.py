"""How often comparisons of made-up laws are right: docs/results/comparing.md.

    .venv/bin/python scripts/bench_comparing.py --seeds=3 --shared=0.9 [--trials=60]

Two Chinchilla laws that differ by a known share are measured on a 5 x 5 grid with 0.5 %
of noise in one run, a part of which (of its variance) both have in common for the same
seed at the same sizes. Each trial draws new noise. Printed is a row of the table for
each true difference: how often the 90 % intervals hold it, at 1, 10 and 100 times the
largest compute, how wide they are, and what the verdict says.
"""

import argparse
import collections
import dataclasses
import math

import numpy as np

import scalepred
from scalepred.fitting.comparison import Pair
from scalepred.runtime.command import cache_programs
from scalepred.table.surface import Surface

_NOISE = 0.005
_DIFFERENCES = (0.0, -0.02, -0.1)
_M, _N = (
    size.ravel()
    for size in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(2e8, 2e10, 5))
)


def measure(trial: int, number: int, seeds: int, shared: float) -> Surface:
    """The runs of one family, of which `shared` of the noise is that of the others."""
    shape = seeds, len(_M)
    common = np.random.default_rng([trial, 0]).standard_normal(shape)
    own = np.random.default_rng([trial, number]).standard_normal(shape)
    noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
    law = 1.7 + 400.0 * _M**-0.34 + 410.0 * _N**-0.28
    return Surface.from_arrays(
        np.tile(_M, seeds),
        np.tile(_N, seeds),
        (law * np.exp(_NOISE * noise)).ravel(),
        metric="loss",
        seed=np.repeat(np.arange(seeds), len(_M)),
    )


def times(surface: Surface, factor: float, data: float) -> Surface:
    """The same runs with all values, and data sizes, so many times as large."""
    return dataclasses.replace(
        surface,
        value=factor * surface.value,
        seed_values=factor * surface.seed_values,
        data=data * surface.data,
    )


def compare(arguments: argparse.Namespace, difference: float, is_paired: bool) -> str:
    """A row of the table."""
    pairs: list[Pair] = []
    apart = 0.0 if is_paired else 1e-4
    for trial in range(arguments.trials):
        about = arguments.seeds, arguments.shared
        factors = 1.0, 1.0 + difference
        fits = {
            name: scalepred.fit(
                # Runs of no common sizes are not paired.
                times(measure(trial, number, *about), factor, 1 + apart * number),
                arguments.law,
                resamples=arguments.resamples,
            )
            for number, (name, factor) in enumerate(zip("ab", factors, strict=True), 1)
        }
        pairs += scalepred.compare(fits).pairs
    relative = [[place.relative for place in pair.places] for pair in pairs]
    inside = np.mean(
        [[r.lower <= difference <= r.upper for r in p] for p in relative], 0
    )
    width = np.median([[r.upper - r.lower for r in p] for p in relative], axis=0)
    said = collections.Counter(pair.headline.verdict for pair in pairs)
    right = said["none"] if difference == 0 else said["second"]
    wrong = len(pairs) - right if difference == 0 else said["first"]
    cells = [
        str(arguments.seeds),
        f"{arguments.shared:g}",
        "yes" if is_paired else "no",
        f"{100 * difference:g} %",
        ", ".join(f"{100 * share:.0f}" for share in inside),
        ", ".join(f"{100 * share:.2g}" for share in width),
        f"{100 * right / len(pairs):.0f} %",
        f"{100 * wrong / len(pairs):.0f} %",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=float, default=0.9)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--law", default="chinchilla")
    arguments = parser.parse_args()
    cache_programs()
    for difference in _DIFFERENCES:
        for is_paired in (True, False):
            print(compare(arguments, difference, is_paired), flush=True)


if __name__ == "__main__":
    main()

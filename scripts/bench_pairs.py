"""What pairing is worth: intervals of a difference with runs paired by seed, and not.

    scalepred --config=experiments/digits_mlp.py --workdir=DIR --config.metric=loss \\
        --arm="plain: training.nesterov=False" --arm="nesterov:" --stages=train,fit
    .venv/bin/python scripts/bench_pairs.py --workdir=DIR [--law=rosenfeld]

The same runs are compared twice: each with the one of its own seed, and each with that
of the next seed, which shares nothing with it. Printed are half-widths of 90 %
intervals of the difference at each size that was measured, and farther out.
"""

import argparse
import dataclasses
import pathlib

import numpy as np

import scalepred
from scalepred.fitting.comparison import Pair
from scalepred.fitting.predict import Estimate
from scalepred.runtime.command import cache_programs
from scalepred.table.surface import Surface


def compare(first: Surface, second: Surface, law: str) -> Pair:
    fits = {"first": first, "second": second}
    return scalepred.compare(fits, law=law, resamples=200).pairs[0]


def half_width(relative: Estimate) -> float:
    return (relative.upper - relative.lower) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="of a study with arms")
    parser.add_argument("--law", default="rosenfeld")
    parser.add_argument("--metric", default="loss")
    args = parser.parse_args()
    cache_programs()
    folders = sorted(
        path.parent for path in pathlib.Path(args.workdir).glob("*/measurements.csv")
    )
    first, second = (
        Surface.from_csv(folder / "measurements.csv", metric=args.metric)
        for folder in folders[:2]
    )
    seeds = np.roll(second.seed_values, 1, axis=1)
    apart = dataclasses.replace(second, seed_values=seeds)
    paired, unpaired = (compare(first, one, args.law) for one in (second, apart))
    print(f"{folders[1].name} against {folders[0].name}, {len(paired.scales)} sizes")
    print(f"{'half-width of the difference':<36}{'paired':>10}{'not':>10}{'ratio':>8}")
    rows = [
        ("measured, median of the sizes", *(
            float(np.median([half_width(scale.relative) for scale in pair.scales]))
            for pair in (paired, unpaired)
        ))
    ]  # fmt: skip
    for one, other in zip(paired.places, unpaired.places, strict=True):
        name = f"by the law at {one.at['budget']:.2g} FLOPs"
        rows.append((name, half_width(one.relative), half_width(other.relative)))
    for name, one, other in rows:
        print(f"{name:<36}{one:>10.2%}{other:>10.2%}{other / one:>8.1f}")


if __name__ == "__main__":
    main()

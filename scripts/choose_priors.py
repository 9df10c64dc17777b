"""How the priors and weights of law=auto were chosen: leaving one study out.

Every knob is one prior or weight and a few values of it; the first is the one in use.
With each value the eight studies of `bench_extrapolation.py` (those that priors may be
chosen by) are fitted below 1 / ratio of their compute and scored on the rest. A knob's
value for a study is the one that does best on the other seven; what it then scores on
the study itself says what the choice is worth where nobody tuned. Knobs are tried one
at a time, the others as they are in use.

    python scripts/choose_priors.py [--data=DIR] [--ratios=50] [--knobs=floor,temper]

The criterion is the geometric mean over studies of the interval score, which prices
errors and widths alike. DIR is that of bench_extrapolation.py.
"""

import collections
import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import bench_extrapolation
import numpy as np
from absl import app, flags

from scalepred.fitting import backtest
from scalepred.fitting.auto import priors, weights
from scalepred.runtime import command

_KNOBS = flags.DEFINE_list("knobs", [], "Names; empty: all.")

Patch = tuple[Any, str, Any]  # a module, the name of a constant of it, its new value


class Knob(NamedTuple):
    """One prior or weight.

    Attributes:
        what: for people.
        values: tried; the first is in use.
        patch: the constants that a value stands for.
    """

    what: str
    values: tuple[float, ...]
    patch: Callable[[float], list[Patch]]


class Chosen(NamedTuple):
    """What a knob is worth.

    Attributes:
        by_others: the value that does best on the other studies [studies].
        score: geometric mean of the scores with those values.
    """

    by_others: list[float]
    score: float


def _settings(name: str, factor: float) -> list[Patch]:
    """A number of both kinds of settings, times a factor."""
    return [
        (priors, kind, dataclasses.replace(old, **{name: factor * getattr(old, name)}))
        for kind, old in (("LOSS", priors.LOSS), ("ERROR", priors.ERROR))
    ]


def _prior(names: Sequence[str], factor: float) -> list[Patch]:
    """Standard deviations of some parameters' priors, times a factor."""
    return [
        (
            priors,
            kind,
            dataclasses.replace(
                old,
                priors=tuple(
                    prior._replace(sd=factor * prior.sd)
                    if prior.name in names
                    else prior
                    for prior in old.priors
                ),
            ),
        )
        for kind, old in (("LOSS", priors.LOSS), ("ERROR", priors.ERROR))
    ]


def _equal_weights(weight: float) -> list[Patch]:
    members = tuple(
        dataclasses.replace(member, weight=weight) if member.is_equal else member
        for member in priors.MEMBERS
    )
    return [(priors, "MEMBERS", members)]


def _flexible(weight: float) -> list[Patch]:
    first, *others = priors.MEMBERS
    return [(priors, "MEMBERS", (dataclasses.replace(first, weight=weight), *others))]


_EXPONENTS = "model_exponent", "data_exponent"
_FACTORS = 1.0, 0.7, 1.4, 2.0
KNOBS = {
    "floor": Knob(
        "spread of the floor", (1.0, 1.4, 2.0), lambda f: _prior(("floor",), f)
    ),
    "exponents": Knob(
        "spread of the exponents", _FACTORS, lambda f: _prior(_EXPONENTS, f)
    ),
    "compute": Knob(
        "power of compute in a point's weight",
        _FACTORS,
        lambda f: _settings("compute_power", f),
    ),
    "noise": Knob(
        "points that the expected noise counts for",
        _FACTORS,
        lambda f: _settings("sigma_strength", f),
    ),
    "equal": Knob(
        "weight before back-tests of either member with equal weights",
        (0.03, 0.0, 0.01, 0.1, 0.3),
        _equal_weights,
    ),
    "flexible": Knob(
        "weight before back-tests of the flexible law",
        (0.1, 0.03, 0.3, 0.5),
        _flexible,
    ),
    "temper": Knob(
        "observations that a back-test counts for in weights",
        (weights.TEMPER, 0.0, 0.25, 0.5, 1.0, 2.0),
        lambda value: [(weights, "TEMPER", value)],
    ),
    "belief": Knob(
        "back-tests' points that it takes to narrow intervals",
        (backtest.NARROWING_WEIGHT, 3.0, 10.0, 30.0, 1e6),
        lambda value: [(backtest, "NARROWING_WEIGHT", value)],
    ),
}


@contextlib.contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """The constants replaced, and put back."""
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    try:
        for module, name, value in patches:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def score_studies(
    problems: Sequence[bench_extrapolation.Problem], ratio: float
) -> dict[str, bench_extrapolation.Score]:
    """The mean score of each study."""
    scores = collections.defaultdict(list)
    for problem in problems:
        found = bench_extrapolation.score(problem, "auto", ratio)
        if found is not None:
            scores[problem.study].append(found)
    return {
        study: bench_extrapolation.Score(*np.mean(own, axis=0).tolist())
        for study, own in scores.items()
    }


def choose(values: Sequence[float], scores: np.ndarray) -> Chosen:
    """The value for each study by the others, and what it gives on the study.

    Args:
        values: tried.
        scores: ln of the interval score [values, studies].
    """
    others = scores.sum(axis=1, keepdims=True) - scores
    best = np.argmin(others, axis=0)
    score = np.mean(scores[best, np.arange(scores.shape[1])])
    return Chosen([values[i] for i in best], float(np.exp(score)))


def print_knob(
    knob: Knob, problems: Sequence[bench_extrapolation.Problem], ratio: float
) -> None:
    """One row a value: what it scores on the studies, and on how many it is chosen."""
    values = tuple(dict.fromkeys(knob.values))
    rows = []
    for value in values:
        with patched(knob.patch(value)):
            rows.append(score_studies(problems, ratio))
    studies = list(rows[0])
    scores = np.log([[row[study].interval_score for study in studies] for row in rows])
    chosen = choose(values, scores)
    print(f"\n{knob.what}, from 1/{ratio:g} of the compute\n")
    print(f"| value | {' | '.join(studies)} | score | error | coverage | chosen for |")
    print("| --- |" + " --- |" * (len(studies) + 4))
    for value, row, own in zip(values, rows, scores, strict=True):
        cells = " | ".join(f"{row[study].interval_score:.3f}" for study in studies)
        error = np.exp(np.mean([np.log(row[study].error) for study in studies]))
        share = np.mean([row[study].coverage for study in studies])
        taken = [
            study
            for study, best in zip(studies, chosen.by_others, strict=True)
            if best == value
        ]
        print(
            f"| {value:g} | {cells} | {np.exp(np.mean(own)):.4f} | {error:.2%} "
            f"| {share:.0%} | {', '.join(taken)} |"
        )
    used = np.exp(np.mean(scores[0]))
    print(
        f"\nin use {used:.4f}; chosen without the study {chosen.score:.4f}", flush=True
    )


def main(argv: list[str]) -> None:
    del argv
    folder, ratios = flags.FLAGS.data, flags.FLAGS.ratios
    if not pathlib.Path(folder).is_dir():
        sys.exit(f"--data={folder}: no such folder; give one with the CSV files")
    unknown = [name for name in _KNOBS.value if name not in KNOBS]
    if unknown:
        sys.exit(f"--knobs={unknown[0]}: no such knob; there are {', '.join(KNOBS)}")
    command.cache_programs()
    start = time.monotonic()
    problems = list(bench_extrapolation.main_studies())
    for name in _KNOBS.value or KNOBS:
        for ratio in ratios:
            print_knob(KNOBS[name], problems, float(ratio))
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    flags.FLAGS.set_default("ratios", ["50"])
    app.run(main)

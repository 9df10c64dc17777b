"""What choosing cells is worth: the loop replayed on studies that were made already.

Every study's largest run is the target. What is affordable are the other runs up to
1 / ratio of its compute m n (all others where too few are left); a run costs its m n.
The loop (`scalepred.fitting.rounds`) may measure them as it likes; random choice
takes runs in a random order, each if the budget left still buys it. Printed are the
half-width of the target's 90 % interval and the error of its prediction by share of
what all affordable runs cost, and the share that it takes until the half-width is that
which all of them give, to within 10 %: of the loop, and of random choice (its median
seed). An interval may be narrow by accident where runs are few, so that share is given
twice: at which it happens first, and from which on it stays so.

    python scripts/bench_planning.py [--data=DIR] [--studies=chinchilla,gadre,...]
        [--ratio=10] [--seeds=5] [--resamples=400] [--budgets=1,5,10,20,50]
    python scripts/bench_planning.py --farseer=FILE

DIR holds public scaling studies as CSV with columns params, data, value; FILE is one
more with a column split (fit, or heldout for several targets), of which R2 is printed.
`simulated` studies have a known truth.
"""

import csv
import dataclasses
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

import scalepred
from scalepred.config import UserError
from scalepred.fitting.design.cells import Cells, NextCell
from scalepred.fitting.design.rounds import rounds
from scalepred.runtime import command
from scalepred.table.surface import Surface

_DATA = flags.DEFINE_string("data", "../shared/data/measured", "Folder of CSV files.")
_STUDIES = flags.DEFINE_list("studies", [], "Which; all where it is empty.")
_RATIO = flags.DEFINE_float("ratio", 10.0, "Of the target's compute to affordable.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Random orders.", lower_bound=1)
_RESAMPLES = flags.DEFINE_integer("resamples", 400, "Draws.", lower_bound=2)
_BUDGETS = flags.DEFINE_list("budgets", ["1", "5", "10", "20", "50"], "Percent.")
_FARSEER = flags.DEFINE_string("farseer", "", "CSV of a study with a split.")

_LEAST_AFFORDABLE = 25  # runs; otherwise all but the target are
_SLACK = 1.1  # of the half-width that all runs give
# Shares of the whole cost at which random choice is looked at.
_SHARES = (
    *(0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2),
    *(0.28, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)


class Study(NamedTuple):
    """Runs (params, data) -> value, one each [runs]."""

    name: str
    metric: str
    params: np.ndarray
    data: np.ndarray
    value: np.ndarray
    is_target: np.ndarray | None = None  # [runs]; None: the largest is

    @property
    def work(self) -> np.ndarray:
        return self.params * self.data

    def where(self, mask: np.ndarray) -> "Study":
        arrays = self.params[mask], self.data[mask], self.value[mask]
        return Study(self.name, self.metric, *arrays)

    def fit(self) -> scalepred.Fit:
        surface = Surface.from_arrays(
            self.params, self.data, self.value, metric=self.metric
        )
        return scalepred.fit(surface, resamples=_RESAMPLES.value)


class Split(NamedTuple):
    """A study's affordable runs and its targets."""

    affordable: Study
    target: Study

    @staticmethod
    def of(study: Study) -> "Split":
        target = study.is_target
        if target is None:
            target = np.arange(len(study.value)) == np.argmax(study.work)
        affordable = ~target
        cheap = study.work <= study.work[target].max() / _RATIO.value
        if study.is_target is None and np.sum(cheap) >= _LEAST_AFFORDABLE:
            affordable &= cheap
        return Split(study.where(affordable), study.where(target))

    @property
    def cost(self) -> float:
        """Of all affordable runs."""
        return float(self.affordable.work.sum())

    def look(self, fit: scalepred.Fit) -> "Look":
        """What a fit says of the targets."""
        said = fit.predict(self.target.params, self.target.data)
        width = (said.mean_upper - said.mean_lower) / (2 * said.value)
        value = self.target.value
        scatter = np.sum((value - value.mean()) ** 2)
        r2 = 1 - np.sum((said.value - value) ** 2) / scatter if scatter else math.nan
        error = float(np.mean(np.abs(said.value / value - 1)))
        return Look(float(width.max()), error, float(r2))


class Look(NamedTuple):
    """What is said of the targets at some cost."""

    half_width: float = math.inf
    error: float = math.nan
    r2: float = math.nan


class Step(NamedTuple):
    """A round of the loop: the share spent, and what it said."""

    share: float
    num_runs: int
    look: Look


def replay(split: Split, share: float, until_width: float = 0.0) -> list[Step]:
    """The loop on runs that exist, with a share of what all of them cost."""
    pool = split.affordable
    cells = Cells.of(pool.params, pool.data, pool.work)
    done = np.zeros(len(pool.value), bool)

    def measure(chosen: Sequence[NextCell]) -> Surface:
        sizes = np.array([(cell.params, cell.data) for cell in chosen]).T
        done[cells.are_in(*sizes)] = True
        known = pool.where(done)
        return Surface.from_arrays(
            known.params, known.data, known.value, metric=pool.metric
        )

    def fit(surface: Surface) -> scalepred.Fit:
        return scalepred.fit(surface, resamples=_RESAMPLES.value)

    steps = []
    try:
        for now in rounds(
            cells,
            (split.target.params, split.target.data),
            share * split.cost,
            until_width,
            measure,
            fit,
            metric=pool.metric,
        ):
            if now.fit is not None:
                look = split.look(now.fit)
                steps.append(Step(now.spent / split.cost, now.num_points, look))
    except UserError:  # the budget buys no fit
        return steps
    return steps


@dataclasses.dataclass(frozen=True)
class Random:
    """Random choice in a study, whose looks are kept."""

    split: Split
    seen: dict[tuple[float, int], Look] = dataclasses.field(default_factory=dict)

    def look(self, share: float, seed: int) -> Look:
        """With a share of what all affordable runs cost."""
        if (share, seed) not in self.seen:
            self.seen[share, seed] = choose_randomly(self.split, share, seed)
        return self.seen[share, seed]

    def need(self, wanted: float, seed: int) -> "Need":
        """The share at which the half-width is the wanted one."""
        looks = [Step(x, 0, self.look(x, seed)) for x in _SHARES]
        return find_need(looks, wanted)


def choose_randomly(split: Split, share: float, seed: int) -> Look:
    """Runs in a random order, each if the budget left buys it."""
    pool, left = split.affordable, share * split.cost * (1 + 1e-9)
    chosen = np.zeros(len(pool.value), bool)
    for run in np.random.default_rng(seed).permutation(len(chosen)):
        if pool.work[run] <= left:
            chosen[run] = True
            left -= pool.work[run]
    try:
        return split.look(pool.where(chosen).fit())
    except UserError:  # too few of them for a fit
        return Look()


class Need(NamedTuple):
    """Shares from which on the half-width is the wanted one."""

    first: float  # at least once
    lasting: float  # and ever after


def find_need(steps: Sequence[Step], wanted: float) -> Need:
    """1 where it never is; all runs are sure enough by definition."""
    sure = [step.look.half_width <= wanted for step in steps]
    shares = [*(step.share for step in steps), 1.0]
    first = sure.index(True) if any(sure) else -1
    unsure = [i for i, is_sure in enumerate(sure) if not is_sure]
    return Need(shares[first], shares[unsure[-1] + 1] if unsure else shares[0])


class Headline(NamedTuple):
    """What it takes to be as sure as all affordable runs make one."""

    study: str
    num_runs: int
    everything: Look
    loop: Need
    stopped: Look  # where the loop was first sure
    random: Need  # of the median seed

    @property
    def ratios(self) -> Need:
        """Of the loop's share to that of random choice."""
        return Need(*(a / b for a, b in zip(self.loop, self.random, strict=True)))


def headline(random: Random) -> Headline:
    split = random.split
    everything = split.look(split.affordable.fit())
    wanted = _SLACK * everything.half_width
    steps = replay(split, 1.0, wanted)
    # What comes after the stop, had it gone on for as long as there is money.
    steps += [s for s in replay(split, 1.0) if s.share > steps[-1].share]
    sure = [step for step in steps if step.look.half_width <= wanted]
    needs = [random.need(wanted, seed) for seed in range(_SEEDS.value)]
    return Headline(
        split.affordable.name,
        len(split.affordable.value),
        everything,
        find_need(steps, wanted),
        (sure or steps[-1:])[0].look,
        Need(*(statistics.median(numbers) for numbers in zip(*needs, strict=True))),
    )


def curve(random: Random) -> list[tuple[Look, Look]]:
    """Loop and median random choice at each budget."""
    rows = []
    for percent in map(float, _BUDGETS.value):
        steps = replay(random.split, percent / 100)
        looks = [random.look(percent / 100, seed) for seed in range(_SEEDS.value)]
        middle = Look(*np.median(np.array(looks), axis=0))
        rows.append((steps[-1].look if steps else Look(), middle))
    return rows


Row = dict[str, str]


def _read(path: pathlib.Path) -> list[Row]:
    if not path.exists():
        sys.exit(f"--data={path.parent}: has no {path.name}; give the folder that has")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["params"] and row["data"] and row["value"]]


def _make_study(
    name: str,
    rows: list[Row],
    metric: str = "loss",
    merge: Callable[[Sequence[float]], float] = statistics.fmean,
) -> Study:
    """One run a (params, data)."""
    cells: dict[tuple[float, float], list[float]] = {}
    for row in rows:
        sizes = float(row["params"]), float(row["data"])
        cells.setdefault(sizes, []).append(float(row["value"]))
    params, data = np.array(list(cells)).T
    return Study(name, metric, params, data, np.array([*map(merge, cells.values())]))


def public_studies(folder: pathlib.Path) -> list[Study]:
    """Studies with two axes whose runs were trained to the end."""

    def read(name: str, **wanted: str) -> list[Row]:
        rows = _read(folder / f"{name}.csv")
        return [r for r in rows if all(r[key] == wanted[key] for key in wanted)]

    # Epoch leaves the five largest losses out.
    chinchilla = sorted(read("chinchilla_epoch"), key=lambda r: float(r["value"]))[:-5]
    gadre = read("gadre_overtraining_loss")
    gadre = [row for row in gadre if row["task"] == gadre[0]["task"]]
    marin = read("marin_isoflop")
    # Up to four epochs repeated data are nearly as good as new.
    repeated = read("datablations_repeat")
    repeated = [row for row in repeated if float(row["epochs"]) <= 4.5]
    porian = read("porian_isoflop", stage="final_chinchilla_length_cosine")
    porian = [row for row in porian if row["task"] == porian[0]["task"]]
    return [
        _make_study("chinchilla", chinchilla),
        _make_study("gadre", gadre),
        _make_study("laion", read("laion_clip_best", metric="top1_error"), "error"),
        # Several learning rates a cell: the best is the surface.
        _make_study("misfitting", read("misfitting_final"), merge=min),
        *(
            _make_study(f"marin {task}", [r for r in marin if r["task"] == task])
            for task in sorted({row["task"] for row in marin})
        ),
        _make_study("protein", read("protein_mlm_final")),
        _make_study("datablations", repeated),
        _make_study("porian", porian, merge=min),
        _make_study("steplaw", read("steplaw_dense_best")),
    ]


def simulated_studies() -> list[Study]:
    """Grids of seven by seven sizes with a known law and 0.5 % of noise."""
    params = 1e7 * 2.0 ** np.arange(8)
    data = 2e8 * 2.0 ** np.arange(8)
    params, data = (sizes.reshape(-1) for sizes in np.meshgrid(params, data))
    m, n = params / params.max(), data / data.max()
    # Hoffmann et al. 2022; Rosenfeld et al. 2020, ImageNet's row of Table 2.
    chinchilla = 1.69 + 406.4 * params**-0.34 + 410.7 * data**-0.28
    t = n**-0.754 + 0.756 * m**-0.611 + 3.63
    rosenfeld = 0.999 * t / np.sqrt(t**2 + 18.5**2)
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal((2, len(m))))
    return [
        Study("simulated sum", "loss", params, data, chinchilla * noise[0]),
        Study("simulated envelope", "error", params, data, rosenfeld * noise[1]),
    ]


def farseer_study(path: pathlib.Path) -> Study:
    rows = _read(path)
    columns = [
        np.array([float(r[key]) for r in rows]) for key in ("params", "data", "value")
    ]
    held_out = np.array([row["split"] == "heldout" for row in rows])
    return Study("farseer", "loss", *columns, is_target=held_out)


def print_headline(lines: list[Headline]) -> None:
    print(
        "\nshare of the cost of all affordable runs at which the half-width is theirs "
        "(within 10 %): for the first time, and for good\n"
    )
    print(
        "| study | runs | half-width of all (error) | loop's first (error) | loop | "
        "random | loop / random |"
    )
    print("| --- |" + " ---: |" * 6)
    for x in lines:
        all_of, stopped = (
            f"{look.half_width:.2%} ({look.error:.2%})"
            for look in (x.everything, x.stopped)
        )
        loop, random = (
            f"{need.first:.1%}, {need.lasting:.1%}" for need in (x.loop, x.random)
        )
        ratios = ", ".join(f"{ratio:.2f}" for ratio in x.ratios)
        print(
            f"| {x.study} | {x.num_runs} | {all_of} | {stopped} | {loop} | {random} | "
            f"{ratios} |"
        )
    first, lasting = map(
        statistics.median, zip(*(x.ratios for x in lines), strict=True)
    )
    held = sum(x.stopped.error <= x.stopped.half_width for x in lines)
    print(f"| median | | | | | | **{first:.2f}, {lasting:.2f}** |")
    print(
        f"\nWhere the loop was first sure, {held} of {len(lines)} errors were within "
        "the half-width.",
        flush=True,
    )


def print_curves(curves: dict[str, list[tuple[Look, Look]]]) -> None:
    def text(look: Look) -> str:
        if math.isinf(look.half_width):
            return "-"
        r2 = "" if math.isnan(look.r2) else f", R2 {look.r2:.2f}"
        return f"{look.half_width:.1%} ({look.error:.1%}{r2})"

    print("\nhalf-width (error) by budget: loop / random\n")
    print("| study | " + " | ".join(f"{b} %" for b in _BUDGETS.value) + " |")
    print("| --- |" + " --- |" * len(_BUDGETS.value))
    for name, rows in curves.items():
        cells = [f"{text(loop)} / {text(random)}" for loop, random in rows]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("| geometric mean of errors | " + " | ".join(
        f"{_mean_error(curves, b, 0):.2%} / {_mean_error(curves, b, 1):.2%}"
        for b in range(len(_BUDGETS.value))
    ) + " |")  # fmt: skip


def _mean_error(
    curves: dict[str, list[tuple[Look, Look]]], budget: int, which: int
) -> float:
    """Over the studies where both had a fit."""
    pairs = [rows[budget] for rows in curves.values()]
    pairs = [pair for pair in pairs if not any(math.isnan(x.error) for x in pair)]
    errors = [pair[which].error + 1e-4 for pair in pairs]
    return float(np.exp(np.mean(np.log(errors)))) if errors else math.nan


def main(argv: list[str]) -> None:
    del argv
    folder = pathlib.Path(_DATA.value)
    if not folder.is_dir():
        sys.exit(f"--data={_DATA.value}: no such folder; give one with the CSV files")
    command.cache_programs()
    start = time.monotonic()
    if _FARSEER.value:
        studies = [farseer_study(pathlib.Path(_FARSEER.value))]
    else:
        studies = public_studies(folder) + simulated_studies()
    if _STUDIES.value:
        studies = [s for s in studies if s.name.split()[0] in _STUDIES.value]
        if not studies:
            sys.exit(f"--studies={','.join(_STUDIES.value)}: there is none of them")
    lines, curves = [], {}
    for study in studies:
        random = Random(Split.of(study))
        lines.append(headline(random))
        curves[study.name] = curve(random)
        line = lines[-1]
        print(
            f"{study.name}: {line.loop.first:.1%}, at random {line.random.first:.1%}; "
            f"{time.monotonic() - start:.0f} s",
            file=sys.stderr,
        )
    print_headline(lines)
    print_curves(curves)
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    app.run(main)

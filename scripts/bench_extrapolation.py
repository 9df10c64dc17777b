"""How well each law predicts what it did not see: accuracy and coverage.

Fits every study's cells with m n <= max / ratio, predicts the rest, and prints one row
a study: the mean absolute relative error of the held-out points, the share of their
runs within 90 % intervals, the interval score (width plus 20 times what lies outside,
over the value) and the median half-width over the median error, averaged over the
problems of a study; then geometric means over studies, and the mean coverage.

    python scripts/bench_extrapolation.py [--data=DIR] [--ratios=10,50,200,1000]
        [--laws=rosenfeld,chinchilla,auto] [--studies=main,dense,other] [--outliers]
    python scripts/bench_extrapolation.py --studies=curves --laws=m4,bnsl,auto
    python scripts/bench_extrapolation.py --studies=repeated \
        --laws=data_constrained,chinchilla,seen:auto,auto

DIR holds public scaling studies as CSV with columns params, data, value. `other` are
studies that no prior or weight was chosen by. `curves` are learning curves of one model
each, with the split into fitted and held-out points that their authors published; the
ratios do not apply to them. `repeated` are runs that see their data up to 9,000 times,
of which those with more than 1.5 epochs are scored; a law that knows nothing of epochs,
and `seen:LAW`, are told how many data were seen.
"""

import collections
import csv
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from absl import app, flags

import scalepred
from scalepred.fitting.region import fit_region
from scalepred.fitting.scores import coverage, interval_score
from scalepred.runtime import command
from scalepred.table.surface import Surface

_DATA = flags.DEFINE_string("data", "../shared/data/measured", "Folder of CSV files.")
_RATIOS = flags.DEFINE_list("ratios", ["10", "50", "200", "1000"], "Of compute.")
_LAWS = flags.DEFINE_list("laws", ["rosenfeld", "chinchilla", "auto"], "Laws.")
_STUDIES = flags.DEFINE_list(
    "studies", ["main"], "main, dense, other, curves, repeated."
)
_OUTLIERS = flags.DEFINE_bool("outliers", False, "Keep what Epoch leaves out, too.")

_MIN_POINTS = 6
_NUMBERS = "params", "data", "value"
_HAVE_SPLITS = "curves", "repeated"
_KNOW_EPOCHS = "data_constrained", "auto"


class Problem(NamedTuple):
    study: str
    name: str
    surface: Surface
    in_fit: np.ndarray | None = None  # [points]; None: drawn by compute
    is_scored: np.ndarray | None = None  # [points]; None: all that are not fitted


class Score(NamedTuple):
    error: float
    coverage: float
    interval_score: float
    width: float  # median half-width over median error


Row = dict[str, str]


def find(name: str) -> pathlib.Path:
    """The CSV of a study.

    Raises:
        SystemExit: the folder has none.
    """
    path = pathlib.Path(_DATA.value) / f"{name}.csv"
    if not path.exists():
        sys.exit(f"--data={_DATA.value}: has no {path.name}; give the folder that has")
    return path


def read(name: str) -> list[Row]:
    """Rows of a study that have numbers."""
    with find(name).open() as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["params"] and row["data"] and row["value"]]


def surface_of_runs(rows: list[Row], metric: str) -> Surface:
    """Checkpoints: rows of one (params, data) are of different runs, which go on."""
    columns = [[float(row[name]) for row in rows] for name in _NUMBERS]
    _, run = np.unique([row["run"] for row in rows], return_inverse=True)
    return Surface.from_arrays(*columns, metric=metric, seed=run)


def make_surface(
    rows: list[Row], metric: str, merge: Callable[[list[float]], float] | None = None
) -> Surface:
    """Rows of one (params, data) are seeds of a point, or merged into one run."""
    cells = collections.defaultdict(list)
    for row in rows:
        cells[float(row["params"]), float(row["data"])].append(float(row["value"]))
    params, data, value = [], [], []
    for (m, n), values in cells.items():
        for one in values if merge is None else [merge(values)]:
            params.append(m)
            data.append(n)
            value.append(one)
    return Surface.from_arrays(params, data, value, metric=metric)


def split(rows: list[Row], *columns: str) -> Iterator[tuple[str, list[Row]]]:
    """Rows by the values of some columns."""
    groups = collections.defaultdict(list)
    for row in rows:
        groups[" ".join(row[column] for column in columns)].append(row)
    yield from groups.items()


def main_studies() -> Iterator[Problem]:
    """Eight two-dimensional studies, each with runs trained to the end."""
    rows = sorted(read("chinchilla_epoch"), key=lambda row: float(row["value"]))
    rows = rows if _OUTLIERS.value else rows[:-5]
    yield Problem("chinchilla", "", make_surface(rows, "loss"))
    for name, rows in split(read("gadre_overtraining_loss"), "task"):
        yield Problem("gadre", name, make_surface(rows, "loss"))
    for name, rows in split(read("laion_clip_best"), "task", "metric"):
        yield Problem("laion", name, make_surface(rows, "error"))
    # Several learning rates a cell: the best is the surface.
    rows = read("misfitting_final")
    yield Problem("misfitting", "", make_surface(rows, "loss", min))
    for name, rows in split(read("marin_isoflop"), "task"):
        yield Problem("marin", name, make_surface(rows, "loss"))
    rows = [row for row in read("primate_vvs_imagenet_error") if not _true(row)]
    yield Problem("primate", "", make_surface(rows, "error"))
    yield Problem("protein", "", make_surface(read("protein_mlm_final"), "loss"))
    # Up to four epochs repeated data are nearly as good as new (their finding).
    rows = [r for r in read("datablations_repeat") if float(r["epochs"]) <= 4.5]
    yield Problem("datablations", "", make_surface(rows, "loss"))


def _true(row: Row) -> bool:
    return row["is_ablation"] == "True"


def dense_studies() -> Iterator[Problem]:
    """Checkpoints of runs: points of one run err together."""
    for study, file, metric in (
        ("chess", "supercollapse_chess", "loss"),
        ("mlp", "supercollapse_mlp", "loss"),
        ("openclip", "openclip_imagenet_curves", "error"),
        ("protein_curves", "protein_mlm_curves", "loss"),
    ):
        yield Problem(study, "", surface_of_runs(read(file), metric))
    # What differs at one (params, data) are the experts: no noise, so their mean.
    for name, rows in split(read("routed_lm_curves"), "task", "family"):
        yield Problem("routed", name, make_surface(rows, "loss", _mean))
    for name, rows in split(read("pythia_zeroshot"), "task", "metric", "family"):
        metric = "error" if "error" in name else "loss"
        yield Problem("pythia", name, surface_of_runs(rows, metric))


def other_studies() -> Iterator[Problem]:
    """What no prior or weight was chosen by: other metrics, tasks and domains."""
    for name, rows in split(read("porian_isoflop"), "task", "metric", "stage"):
        yield Problem("porian", name, make_surface(rows, "loss", min))
    for name, rows in split(read("il_atari_a"), "task"):
        yield Problem("atari", name, make_surface(rows, "loss", min))
    tasks = [*split(read("openclip_zeroshot"), "task", "metric", "family")]
    for name, rows in tasks[::3]:
        yield Problem("zeroshot", name, make_surface(rows, "error", min))
    for name, rows in [*split(read("gadre_overtraining_downstream"), "task")][::3]:
        yield Problem("downstream", name, make_surface(rows, "error", _mean))
    curves = read("hitchhiker_curves_thinned")
    curves = [row for row in curves if float(row["value"]) > 0]
    for name, rows in split(curves, "task", "metric"):
        if len({row["params"] for row in rows}) >= 3:
            yield Problem("hitchhiker", name, make_surface(rows, "loss", _mean))
    for name, rows in split(read("primate_vvs_imagenet_brain"), "task", "metric"):
        yield Problem("brain", name, make_surface(rows, "loss"))
    yield Problem("steplaw", "", make_surface(read("steplaw_dense_best"), "loss"))


def curve_studies() -> Iterator[Problem]:
    """Learning curves of "Revisiting Neural Scaling Laws", by its five groups."""
    for file in ("google_vision_imagenet", "google_vision_caltech101", "google_lang"):
        for name, rows in split(read(file), "task", "run"):
            task = rows[0]["task"]
            group = task.split(":")[0] if file == "google_lang" else file
            highest = max(float(row["value"]) for row in rows)
            is_loss = "log" in rows[0]["metric"] or highest > 1
            surface = make_surface(rows, "loss" if is_loss else "error", _mean)
            fitted = {float(row["data"]) for row in rows if row["split"] == "fit"}
            in_fit = np.isin(surface.data, list(fitted))
            yield Problem(group, name, surface, in_fit)


def repeated_studies() -> Iterator[Problem]:
    """Held-out runs of Muennighoff et al. 2023 that see their data more than once.

    A run over-fits where fewer epochs, or fewer parameters, do better with its data.
    """
    every = Surface.from_csv(find("datablations_repeat"), data_counts="auto")
    for study, surface in (
        ("all", every),
        ("without over-fitting", every.where(~_over_fits(every))),
    ):
        epochs = surface.epochs
        assert epochs is not None
        for hidden, in_fit in (
            ("above 1/10", fit_region(surface, max_compute=surface.work.max() / 10)),
            ("above 1/50", fit_region(surface, max_compute=surface.work.max() / 50)),
            ("more than 10 epochs", epochs <= 10),
        ):
            yield Problem(f"{study}, {hidden}", "", surface, in_fit, epochs > 1.5)


def _over_fits(surface: Surface) -> np.ndarray:
    """Points that a cheaper run of as many unique data is better than [points]."""
    params, data, epochs = surface.params, surface.data, surface.epochs
    assert epochs is not None

    def same(sizes: np.ndarray) -> np.ndarray:
        return np.abs(sizes[:, None] / sizes - 1) < 1e-6

    shorter = same(params) & (epochs < epochs[:, None])
    smaller = same(epochs) & (params < params[:, None])
    better = surface.value < surface.value[:, None]
    return np.any(same(data) & (shorter | smaller) & better, axis=1)


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def score(problem: Problem, law: str, ratio: float) -> Score | None:
    """Fits the cheap part, predicts the rest; None where too little is left."""
    surface = problem.surface
    in_fit = problem.in_fit
    if in_fit is None:
        work = surface.params * surface.data
        if work.min() > work.max() / ratio:
            return None
        in_fit = fit_region(surface, max_compute=work.max() / ratio)
        if min(_sizes(surface.where(in_fit))) < 2:
            return None
    is_scored = ~in_fit if problem.is_scored is None else ~in_fit & problem.is_scored
    part, rest = surface.where(in_fit), surface.where(is_scored)
    if len(part) < _MIN_POINTS or not len(rest):
        return None
    if law == "rosenfeld" and surface.metric == "error":
        law = "rosenfeld_fitted_guess"
    if surface.epochs is not None and law not in _KNOW_EPOCHS:
        part, law = _as_seen(part), law.removeprefix("seen:")
        rest = dataclasses.replace(rest, data=rest.seen, epochs=None)
    fit = scalepred.fit(part, law)
    said = fit.predict(rest.params, rest.data, epochs=rest.epochs)
    point, seed = np.nonzero(np.isfinite(rest.seed_values))
    runs = rest.seed_values[point, seed]
    ends = said.lower[point], said.upper[point]
    errors = np.abs(said.value / rest.value - 1)
    half = (said.upper - said.lower) / 2 / rest.value
    return Score(
        float(np.mean(errors)),
        coverage(runs, *ends),
        interval_score(runs, *ends),
        float(np.median(half) / max(np.median(errors), 1e-12)),
    )


def _as_seen(surface: Surface) -> Surface:
    """The same runs, for laws that take a repeat for new data."""
    point, seed = np.nonzero(np.isfinite(surface.seed_values))
    value = surface.seed_values[point, seed]
    sizes = surface.params[point], surface.seen[point]
    return Surface.from_arrays(*sizes, value, metric=surface.metric)


def _sizes(surface: Surface) -> tuple[int, int]:
    return len(np.unique(surface.params)), len(np.unique(surface.data))


def print_table(problems: list[Problem], ratio: float, laws: list[str]) -> None:
    fitted = f"where m n <= max / {ratio:g}" if ratio else "on a split of their own"
    print(f"\nfitted {fitted}; error of the rest (coverage; score; width)\n")
    print("| study | problems | " + " | ".join(laws) + " |")
    print("| --- | --- |" + " --- |" * len(laws))
    scores = collections.defaultdict(lambda: collections.defaultdict(list))
    for problem in problems:
        for law in laws:
            found = score(problem, law, ratio)
            if found is not None:
                scores[problem.study][law].append(found)
    totals = collections.defaultdict(list)
    for study, by_law in scores.items():
        cells = []
        for law in laws:
            mean = Score(*np.mean(by_law[law], axis=0).tolist())
            totals[law].append(mean)
            cells.append(_say(mean))
        print(f"| {study} | {len(by_law[laws[0]])} | " + " | ".join(cells) + " |")
    summary = []
    for law in laws:
        typical = Score(*np.exp(np.mean(np.log(totals[law]), axis=0)).tolist())
        share = float(np.mean([one.coverage for one in totals[law]]))
        summary.append(_say(typical._replace(coverage=share)))
    print("| geometric mean (mean) | | " + " | ".join(summary) + " |", flush=True)


def _say(one: Score) -> str:
    return (
        f"{one.error:.2%} ({one.coverage:.0%}; {one.interval_score:.3f}; "
        f"{one.width:.1f})"
    )


_PROBLEMS = {
    "main": main_studies,
    "dense": dense_studies,
    "other": other_studies,
    "curves": curve_studies,
    "repeated": repeated_studies,
}


def main(argv: list[str]) -> None:
    del argv
    if not pathlib.Path(_DATA.value).is_dir():
        sys.exit(f"--data={_DATA.value}: no such folder; give one with the CSV files")
    command.cache_programs()
    start = time.monotonic()
    for name in _STUDIES.value:
        problems = list(_PROBLEMS[name]())
        for ratio in [0] if name in _HAVE_SPLITS else _RATIOS.value:
            print_table(problems, float(ratio), _LAWS.value)
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    app.run(main)

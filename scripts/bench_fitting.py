"""How fast laws are fitted, beside scipy and a peer, on the same points in one run.

    .venv/bin/python scripts/bench_fitting.py --data=DIR

DIR holds chinchilla_epoch.csv (columns params, data, value). Rounds alternate between
the contestants; the table gives medians and ratios. Scipy's 4,500 starts take minutes,
so a sample of them is timed and multiplied, as the table says. simple-scaling-laws,
chinchilla and autograd (all on PyPI; Epoch's published resamples get their gradient
from the last) are compared where they can be imported and named as absent where not.
"""

import csv
import dataclasses
import functools
import importlib
import itertools
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import scipy.optimize
from absl import app, flags

import scalepred
from scalepred.fitting import laws, multistart, solver
from scalepred.runtime import command
from scalepred.table.surface import Surface

_DATA = flags.DEFINE_string("data", "../shared/data/measured", "folder of the CSV")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "alternations")
_SAMPLE = flags.DEFINE_integer("sample", 40, "scipy's starts, or resamples, a round")

_HUBER = solver.Residual("huber", 1e-3)
_BEST_KNOWN = 1.018274018e-3
# The grid of Besiroglu et al. 2024: ln A, ln B, ln E, alpha, beta.
_GRID = np.array(
    list(
        itertools.product(
            np.arange(0, 30, 5),
            np.arange(0, 30, 5),
            np.arange(-1, 1.5, 0.5),
            np.arange(0, 2.5, 0.5),
            np.arange(0, 2.5, 0.5),
        )
    )
)
_RESAMPLES = 1000
_PEER_STARTS = 32
_STARTS = flags.DEFINE_integer(
    "starts",
    len(_GRID),
    "of the published grid, evenly",
    lower_bound=1,
    upper_bound=len(_GRID),
)
# Whether starts are pruned, and the steps of each.
_WAYS = {
    "all, up to 300 steps": (False, 300),
    "all, up to 60 steps": (False, 60),
    "pruned": (True, 300),
}


def read_points(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Params, data and loss of all but the five largest losses, as Epoch fits them."""
    with (folder / "chinchilla_epoch.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["value"]))[:-5]
    columns = [
        [float(row[name]) for row in rows] for name in ("params", "data", "value")
    ]
    params, data, value = np.array(columns)
    return params, data, value


def objective(
    theta: np.ndarray, params: np.ndarray, data: np.ndarray, value: np.ndarray
) -> tuple[float, np.ndarray]:
    """Sum of Huber of ln residuals and its gradient, by hand."""
    log_a, log_b, log_e, alpha, beta = theta
    terms = np.stack(
        [
            log_a - alpha * np.log(params),
            log_b - beta * np.log(data),
            np.full(len(value), log_e),
        ]
    )
    top = terms.max(axis=0)
    total = top + np.log(np.exp(terms - top).sum(axis=0))
    d = total - np.log(value)
    delta, size = _HUBER.delta, np.abs(d)
    rho = np.where(size > delta, delta * (size - delta / 2), d * d / 2)
    slope = np.clip(d, -delta, delta)
    share = np.exp(terms - total) * slope
    sums = share.sum(axis=1)
    return float(rho.sum()), np.array(
        [*sums, -share[0] @ np.log(params), -share[1] @ np.log(data)]
    )


def scipy_starts(points: Sequence[np.ndarray], starts: np.ndarray) -> float:
    """Best objective of L-BFGS-B from each start, with finite differences."""
    return min(
        scipy.optimize.minimize(
            lambda theta: objective(theta, *points)[0], start, method="L-BFGS-B"
        ).fun
        for start in starts
    )


# Where Epoch's resamples start: Hoffmann's values.
_PUBLISHED = np.array([np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28])


def scipy_resamples(
    points: Sequence[np.ndarray], picks: np.ndarray, **options: object
) -> np.ndarray:
    """Best objective of BFGS for each resample; the gradient by hand unless given."""
    return np.array(
        [
            scipy.optimize.minimize(
                **{"fun": objective, "jac": True, **options},
                x0=_PUBLISHED,
                args=tuple(column[pick] for column in points),
                method="BFGS",
            ).fun
            for pick in picks
        ]
    )


def differentiated_objective() -> dict[str, object] | None:
    """The objective with autograd's gradient, as Epoch has it; None where absent."""
    try:
        autograd = importlib.import_module("autograd")
        anp = importlib.import_module("autograd.numpy")
        special = importlib.import_module("autograd.scipy.special")
    except ImportError:
        return None
    delta = _HUBER.delta

    def value_of(theta, params, data, value):
        log_a, log_b, log_e, alpha, beta = theta
        terms = [
            log_a - alpha * anp.log(params),
            log_b - beta * anp.log(data),
            log_e + anp.zeros(len(value)),
        ]
        d = special.logsumexp(anp.stack(terms), axis=0) - anp.log(value)
        size = anp.abs(d)
        return anp.sum(anp.where(size > delta, delta * (size - delta / 2), d * d / 2))

    return {"fun": value_of, "jac": autograd.grad(value_of)}


def own_grid(surface: Surface, prune: bool, steps: int) -> float:
    """Best objective from the same starts, at most so many steps each."""
    points = multistart.make_points(surface)
    law = grid_law(points.params_unit, points.data_unit)
    found = multistart.fit_subsets(
        law,
        points,
        np.ones((1, len(surface)), bool),
        residual=_HUBER,
        starts=_STARTS.value,
        max_iterations=steps,
        prune=prune,
    )
    return float(found.objective[0])


@functools.cache
def grid_law(params_unit: float, data_unit: float) -> laws.Law:
    """chinchilla that starts from the grid; one object, so that it compiles once."""
    some = np.linspace(0, len(_GRID) - 1, _STARTS.value).astype(int)
    log_a, log_b, log_e, alpha, beta = _GRID[some].T
    alpha, beta = np.maximum(alpha, 1e-3), np.maximum(beta, 1e-3)
    inner = [
        log_e,
        log_a - alpha * np.log(params_unit),
        np.log(alpha),
        log_b - beta * np.log(data_unit),
        np.log(beta),
    ]
    starts = np.stack(inner, axis=1)
    return dataclasses.replace(
        laws.chinchilla, start=lambda uniform, scale: starts, sum=None
    )


def own_resamples(surface: Surface, picks: np.ndarray) -> np.ndarray:
    """Objective of a refit to each resample, from the fit to all points."""
    fit = scalepred.fit(surface, "chinchilla", residual=_HUBER)
    counts = np.stack([np.bincount(pick, minlength=len(surface)) for pick in picks])
    points, theta = multistart.make_points(surface), fit.fitted.theta
    zeros = np.zeros(len(theta))
    problem = solver.Problem(
        points.x,
        points.y,
        points.log_value,
        counts.astype(float),
        zeros,
        zeros,
        fit.fitted.scale,
    )
    starts = np.broadcast_to(theta, (len(picks), len(theta)))
    return solver.solve(
        laws.chinchilla, problem, starts, _HUBER, 100, is_near=True
    ).objective


def rosenfeld_surface() -> Surface:
    """42 cells of a Rosenfeld surface with 2 % noise."""
    m, n = np.meshgrid(4.0 ** np.arange(7), 2.0 ** np.arange(6))
    m, n = m.reshape(-1) * 1e4, n.reshape(-1) * 1e3
    t = (n / n.max()) ** -0.6 + 0.5 * (m / m.max()) ** -0.5 + 0.3
    value = 0.9 * t / np.hypot(t, 19.0)
    value = value * np.exp(0.02 * np.random.default_rng(0).standard_normal(42))
    return Surface.from_arrays(m, n, value, random_guess=0.9)


def peer_frame(points: Sequence[np.ndarray]):
    """The points as simple-scaling-laws wants them, or None where it is absent."""
    try:
        polars = importlib.import_module("polars")
        peer = importlib.import_module("simple_scaling_laws")
    except ImportError:
        return None
    params, data, value = points
    count = len(value)
    frame = polars.DataFrame(
        {
            "training_run_id": [f"run_{i}" for i in range(count)],
            "train_set_id": [f"set_{i}" for i in range(count)],
            "test_set_id": ["test"] * count,
            "optimizer_seed": [0] * count,
            "model_size__n_params": params,
            "dataset_size__n_subjects": data,
            "test_loss__cross_entropy": value,
        }
    )
    return lambda: peer.fit(frame, n_draws=_RESAMPLES, seed=0)


def peer_grid(points: Sequence[np.ndarray], folder: str):
    """chinchilla's fit from 32 starts of the grid, or None where it is absent."""
    try:
        peer = importlib.import_module("chinchilla")
        metrics = importlib.import_module("chinchilla._metrics")
        pandas = importlib.import_module("pandas")
    except ImportError:
        return None
    fitter = peer.Chinchilla(
        folder,
        param_grid={
            "e": [-0.5, 0.5],
            "a": [5.0, 10.0],
            "b": [5.0, 10.0],
            "alpha": [0.5, 1.0],
            "beta": [0.5, 1.0],
        },
        loss_fn=functools.partial(metrics.log_huber, delta=_HUBER.delta),
        log_level=50,
    )
    params, data, value = points
    columns = {"C": 6 * params * data, "N": params, "D": data, "loss": value}
    fitter.database.df = pandas.DataFrame(columns)
    fitter.visualizer.optim = lambda *_, **__: None  # its figures are not timed
    return fitter.fit


def alternate(
    contestants: dict[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
    """Median seconds of each, one after the other in every round."""
    seconds = {name: [] for name in contestants}
    for run in contestants.values():
        run()  # compiles
    for _ in range(rounds):
        for name, run in contestants.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(name: str, seconds: float, per: float = 1.0, note: str = "") -> None:
    print(f"| {name} | {seconds * 1e3:.4g} ms | {per:.3g} | {note} |", flush=True)


def time_starts(surface: Surface, points: Sequence[np.ndarray]) -> None:
    """The published grid of starts: ours, scipy's and chinchilla's."""
    rng = np.random.default_rng(0)
    sample = _GRID[rng.choice(len(_GRID), _SAMPLE.value, replace=False)]
    count, what = _STARTS.value, f"{_STARTS.value:,} starts"
    with tempfile.TemporaryDirectory() as work:
        others = peer_grid(points, work)
        took = alternate(
            {
                "scipy": lambda: scipy_starts(points, sample),
                **({} if others is None else {"chinchilla": others}),
                **{
                    name: functools.partial(own_grid, surface, prune, steps)
                    for name, (prune, steps) in _WAYS.items()
                },
            },
            _ROUNDS.value,
        )
    whole = took["scipy"] * count / len(sample)
    show(f"{what}, scipy L-BFGS-B", whole, 1.0, f"from {len(sample)} starts")
    if others is None:
        print("| chinchilla | | | absent: install it to compare |")
    else:
        all_starts = took["chinchilla"] * count / _PEER_STARTS
        note = f"from {_PEER_STARTS} starts, on all cores"
        show(f"{what}, chinchilla", all_starts, whole / all_starts, note)
    for name, way in _WAYS.items():
        above = own_grid(surface, *way) / _BEST_KNOWN - 1
        note = f"objective {above:+.1e} of the best known"
        show(f"{what}, {name}", took[name], whole / took[name], note)


def time_resamples(surface: Surface, points: Sequence[np.ndarray]) -> None:
    """Of Epoch's bootstrap: ours, scipy's, and scipy's with autograd."""
    rng = np.random.default_rng(1)
    picks = rng.integers(0, len(surface), (_RESAMPLES, len(surface)))
    few = picks[: _SAMPLE.value]
    published = differentiated_objective()
    contestants: dict[str, Callable[[], object]] = {
        "by hand": lambda: scipy_resamples(points, few),
        "own": lambda: own_resamples(surface, picks),
    }
    if published is not None:
        contestants["autograd"] = lambda: scipy_resamples(points, few, **published)
    took = alternate(contestants, _ROUNDS.value)
    whole = took["by hand"] * len(picks) / len(few)
    show("1,000 resamples, scipy BFGS, gradient by hand", whole, 1.0, f"of {len(few)}")
    if published is None:
        print("| the same with autograd | | | absent: install it to compare |")
    else:
        seconds = took["autograd"] * len(picks) / len(few)
        note = f"of {len(few)}; {seconds / took['own']:.0f} times scalepred's"
        show("the same with autograd, as Epoch has it", seconds, whole / seconds, note)
    worst = float(
        np.max(own_resamples(surface, few) / scipy_resamples(points, few) - 1)
    )
    note = f"worst objective {worst:+.1e} of scipy's"
    show("1,000 resamples, scalepred", took["own"], whole / took["own"], note)


def time_whole_fits(surface: Surface, points: Sequence[np.ndarray]) -> None:
    """With back-tests and draws, beside simple-scaling-laws."""
    peer = peer_frame(points)
    if peer is None:
        print("| simple-scaling-laws | | | absent: install it to compare |")
    else:

        def resampled() -> object:
            return scalepred.fit(surface, "chinchilla").fitted

        took = alternate({"peer": peer, "own": resampled}, _ROUNDS.value)
        show("simple-scaling-laws, 1,000 draws", took["peer"])
        ratio = took["peer"] / took["own"]
        show("least squares, back-tests, 1,000 draws", took["own"], ratio)

    grid = rosenfeld_surface()
    took = alternate({"own": lambda: scalepred.fit(grid, "rosenfeld").fitted}, 25)
    show("Rosenfeld, 42 points, back-tests, 1,000 draws", took["own"])


def main(argv: list[str]) -> None:
    del argv
    folder = pathlib.Path(_DATA.value)
    if not (folder / "chinchilla_epoch.csv").is_file():
        sys.exit(f"--data={folder}: no chinchilla_epoch.csv there; name its folder")
    command.cache_programs()
    surface = Surface.from_arrays(*read_points(folder), metric="loss")
    points = surface.params, surface.data, surface.value  # in its order
    print("| what | median | times faster | |\n| --- | --- | --- | --- |")
    time_starts(surface, points)

    def fit() -> object:
        return scalepred.fit(surface, "chinchilla", residual=_HUBER)

    took = alternate({"fit": fit}, 10 * _ROUNDS.value)
    show("scalepred.fit, 240 points", took["fit"])
    time_resamples(surface, points)
    time_whole_fits(surface, points)


if __name__ == "__main__":
    app.run(main)

"""Fits a law to many subsets of the same points, each from many starts."""

import dataclasses
import functools

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import projection, solver
from scalepred.fitting.laws import Law, Scale
from scalepred.table.numbers import write_size
from scalepred.table.repeats import SAME_EPOCHS
from scalepred.table.surface import Surface

# Starting points of a fit, how many of them are carried to the end, and the steps after
# which the others are dropped first.
STARTS = 64
_KEPT = 8
_FIRST_STEPS = 4
# Two starts that end this close (relative, in the objective) found the same optimum.
_AGREEMENT = 1e-6
# Below this mean squared relative residual the objective is rounding, not fit.
_EXACT = 1e-24
# A floor that vanishes does so along a curved valley; the best start alone is carried
# on so many times as far.
_PATIENCE = 10
# With more points than this the lowest of them may be an accident.
_MANY_POINTS = 12
# Where the largest value is no larger than this times the smallest, all are the same.
_SAME_VALUE = 1.005
# Values this close to the random-guess level carry no information on the law.
PLATEAU_FRACTION = 0.97
# The plainest law for points that vary along one size only.
_ONE_AXIS = {"data": "power", "params": "power_params"}


@dataclasses.dataclass(frozen=True)
class Points:
    """The points of a surface in the coordinates of a fit.

    Attributes:
        x: ln(m / params_unit) [points].
        y: ln(n / data_unit) [points].
        log_value: ln of the measured value [points].
        weight: importance; 0 leaves a point out [points].
        params_unit: reference model size M.
        data_unit: reference data size N.
        log_guess: ln of the random-guess level; 0 where it is not known.
        z: ln(epochs) where they are known [points].
        of_runs: ln of each run's value less `log_value`, NaN where a point has no run
            of that seed [points, seeds].
        seeds: of these runs, see `table.points.Points`.
    """

    x: np.ndarray
    y: np.ndarray
    log_value: np.ndarray
    weight: np.ndarray
    params_unit: float
    data_unit: float
    log_guess: float
    z: np.ndarray | None = None
    of_runs: np.ndarray | None = None
    seeds: np.ndarray | None = None

    def where(self, mask: np.ndarray) -> "Points":
        """The points of a mask [points], in the same units."""
        return dataclasses.replace(
            self,
            x=self.x[mask],
            y=self.y[mask],
            log_value=self.log_value[mask],
            weight=self.weight[mask],
            z=None if self.z is None else self.z[mask],
            of_runs=None if self.of_runs is None else self.of_runs[mask],
            seeds=None if self.seeds is None else self.seeds[mask],
        )

    def scale(self, masks: np.ndarray) -> Scale:
        """What the law may know of each subset; masks [..., points] -> [...]."""
        ranked = np.sort(np.where(masks, self.log_value, np.inf), axis=-1)
        many = np.sum(masks, axis=-1) > _MANY_POINTS
        low = np.where(many, ranked[..., min(1, ranked.shape[-1] - 1)], ranked[..., 0])
        high = np.where(masks, self.log_value, -np.inf).max(axis=-1)
        none = np.empty((*low.shape, 0))
        return Scale(np.full(low.shape, self.log_guess), low, high, none)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The best optimum of each subset.

    Attributes:
        theta: inner parameters [subsets, parameters].
        objective: [subsets].
        status: `solver.Status` of the best start [subsets].
        agree: share of the starts carried to the end that ended at the best optimum
            [subsets].
    """

    theta: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    agree: np.ndarray


def make_points(surface: Surface) -> Points:
    """The surface in the coordinates of a fit; its largest sizes are the units."""
    guess = surface.random_guess
    params_unit, data_unit = float(surface.params.max()), float(surface.data.max())
    log_value = np.log(surface.value)
    with np.errstate(divide="ignore"):  # a run may err nowhere
        of_runs = np.log(surface.seed_values) - log_value[:, None]
    return Points(
        x=np.log(surface.params / params_unit),
        y=np.log(surface.data / data_unit),
        log_value=log_value,
        weight=surface.weight / surface.weight.mean(),
        params_unit=params_unit,
        data_unit=data_unit,
        log_guess=float(np.log(guess)) if guess else 0.0,
        z=None if surface.epochs is None else np.log(surface.epochs),
        of_runs=np.where(np.isfinite(of_runs), of_runs, np.nan),
        seeds=surface.seeds,
    )


def check_fittable(surface: Surface, law: Law) -> None:
    """Raises UserError where no fit of `law` could mean anything."""
    check_sizes(surface, law.num_parameters, law.name, law.axes)
    if law.bounded and not law.fits_guess and surface.random_guess is None:
        raise UserError(
            f"law={law.name}: the random-guess level is unknown; give random_guess "
            "(0.9 for ten balanced classes), or choose law=rosenfeld_fitted_guess"
        )
    check_above_guess(surface, law.bounded)


def check_sizes(
    surface: Surface,
    min_points: int,
    law_name: str,
    axes: tuple[str, ...] = ("params", "data"),
) -> None:
    """Raises UserError with too few points, or sizes that do not suit the law.

    Sizes must vary along each of the law's axes, and along no other.
    """
    sizes_of = {"params": surface.params, "data": surface.data}
    varying = {axis for axis, sizes in sizes_of.items() if np.any(sizes != sizes[0])}
    _check_epochs(surface, law_name, axes)
    knows_epochs = "epochs" in axes
    axes = tuple(axis for axis in axes if axis in sizes_of)
    for axis in sorted(varying - set(axes)):
        sizes = sizes_of[axis]
        raise UserError(
            f"law={law_name}: knows nothing of {axis}, which varies from "
            f"{write_size(sizes.min())} to {write_size(sizes.max())}; fit the points "
            "that share one of these, or use a law of both sizes such as law=rosenfeld"
        )
    for axis in axes:
        if axis in varying:
            continue
        instead = [
            f", or use law=auto or law={_ONE_AXIS[other]}"
            for other in sorted(varying)
            if not knows_epochs
        ]
        raise UserError(
            f"{axis}: every point to fit has {axis}={write_size(sizes_of[axis][0])}, "
            f"so how the {surface.metric} depends on it cannot be told; add a second "
            "size" + "".join(instead)
        )
    if len(surface) < min_points:
        raise UserError(
            f"{len(surface)} points to fit, fewer than the {min_points} "
            f"parameters of law={law_name}; add points or widen the fit region"
        )


def have_same_epochs(surface: Surface) -> bool:
    """Whether all points have about the same number of epochs, as far as is known."""
    epochs = surface.epochs
    return epochs is None or bool(epochs.max() <= SAME_EPOCHS * epochs.min())


def _check_epochs(surface: Surface, law_name: str, axes: tuple[str, ...]) -> None:
    epochs = surface.epochs
    if "epochs" not in axes:
        if epochs is not None and not have_same_epochs(surface):
            raise UserError(
                f"law={law_name}: knows nothing of epochs, which vary from "
                f"{epochs.min():g} to {epochs.max():g}; fit the points of one number "
                "of epochs only, read the table without them, or use "
                "law=auto or law=data_constrained"
            )
    elif epochs is None:
        raise UserError(
            f"law={law_name}: needs the epochs of every point, the passes over its "
            "data; give epochs to Surface.from_arrays, or data_counts to "
            "Surface.from_csv"
        )
    elif have_same_epochs(surface):
        raise UserError(
            f"epochs: every point to fit has epochs={epochs[0]:g}, so how the "
            f"{surface.metric} depends on them cannot be told; add runs that repeat "
            "their data more often"
        )


def check_above_guess(surface: Surface, bounded: bool) -> None:
    """Raises UserError where nothing has been learnt at any point."""
    low, high = surface.value.min(), surface.value.max()
    if high < _SAME_VALUE * low:
        raise UserError(
            f"value: all points to fit lie between {low:g} and {high:g}, so nothing "
            "depends on size, as at the random-guess level; add larger models or data"
        )
    guess = surface.random_guess
    if bounded and guess and np.all(surface.value >= PLATEAU_FRACTION * guess):
        raise UserError(
            f"value: every point to fit lies at the random-guess level {guess:g}, "
            "where nothing has been learnt yet; add larger models or more data"
        )


def fit_subsets(
    law: Law,
    points: Points,
    masks: np.ndarray,
    *,
    residual: solver.Residual = solver.RELATIVE,
    starts: int = STARTS,
    seed: int = 0,
    max_iterations: int = 300,
    prune: bool = True,
) -> Fitted:
    """Fits `law` to each subset of the points, keeping the best of many starts.

    Args:
        law: the functional form.
        points: all points.
        masks: which points belong to each subset [subsets, points].
        residual: what is minimised.
        starts: starting points for each subset.
        seed: of the starts; the same for every subset.
        max_iterations: of each start; the best, if it has not ended, gets ten times
            as many.
        prune: only the most promising starts are carried to the end; False: all are,
            from where the law starts them.
    """
    scale, weight = points.scale(masks), masks * points.weight
    theta = _start(law, points, weight, scale, starts, seed, prune)
    solve = functools.partial(_solve_starts, law, points, weight, scale, residual)
    steps = _FIRST_STEPS
    while prune and theta.shape[1] > _KEPT:
        looked = solve(theta, steps)
        kept = max(_KEPT, theta.shape[1] // 8)
        order = np.argsort(looked.objective, axis=1, kind="stable")[:, :kept]
        theta = np.take_along_axis(looked.theta, order[..., None], axis=1)
        steps *= 2
    found = solve(theta, max_iterations)
    best = np.argmin(found.objective, axis=1)[:, None]
    first = _take(found, best)
    lowest = first.objective
    exact = _EXACT * np.sum(masks, axis=1)
    same = found.objective <= lowest * (1 + _AGREEMENT) + exact[:, None]
    if np.any(first.status == solver.Status.ITERATION_LIMIT):
        first = solve(first.theta, _PATIENCE * max_iterations)
    return Fitted(
        theta=first.theta[:, 0],
        objective=first.objective[:, 0],
        status=first.status[:, 0],
        agree=np.mean(same, axis=1),
    )


def _start(
    law: Law,
    points: Points,
    weight: np.ndarray,
    scale: Scale,
    starts: int,
    seed: int,
    prune: bool,
) -> np.ndarray:
    """Starting points [subsets, starts, parameters]; few and good, if `prune`."""
    uniform = np.random.default_rng(seed).uniform(size=(starts, law.num_parameters))
    subsets = range(len(weight))
    theta = np.stack([law.start(uniform, scale.of_lane(i)) for i in subsets])
    if not prune or law.sum is None:
        return theta
    return np.stack(
        [
            _best_projected(law, points, weight[i], scale.of_lane(i), theta[i])
            for i in subsets
        ]
    )


def _solve_starts(
    law: Law,
    points: Points,
    weight: np.ndarray,
    scale: Scale,
    residual: solver.Residual,
    theta: np.ndarray,
    steps: int,
) -> solver.Solution:
    """From every start of every subset; leaves are [subsets, starts, ...]."""
    num_subsets, count, parameters = theta.shape
    zeros = np.zeros(parameters)
    problem = solver.Problem(
        x=points.x,
        y=points.y,
        log_value=points.log_value,
        weight=np.repeat(weight, count, axis=0),
        prior_mean=zeros,
        prior_precision=zeros,
        z=points.z,
        scale=Scale(*(np.repeat(leaf, count, axis=0) for leaf in scale)),
    )
    solution = solver.solve(
        law, problem, theta.reshape(-1, parameters), residual, steps
    )
    return solver.Solution(
        *(leaf.reshape(num_subsets, count, *leaf.shape[1:]) for leaf in solution)
    )


def _take(found: solver.Solution, starts: np.ndarray) -> solver.Solution:
    """Some starts of each subset; starts [subsets, kept]."""
    subset = np.arange(len(starts))[:, None]
    return solver.Solution(*(leaf[subset, starts] for leaf in found))


def _best_projected(
    law: Law, points: Points, weight: np.ndarray, scale: Scale, theta: np.ndarray
) -> np.ndarray:
    """The most promising starts, with the amplitudes that suit their exponents."""
    x, y, log_value = points.x, points.y, points.log_value
    theta, error = projection.project(law, x, y, log_value, weight, scale, theta)
    return theta[np.argsort(error, kind="stable")[:_KEPT]]

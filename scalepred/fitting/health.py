"""What makes a fit less than it seems: codes for programs, sentences for people."""

from collections.abc import Sequence

import numpy as np

from scalepred.fitting import multistart, outliers, solver
from scalepred.fitting.auto import law as auto_law
from scalepred.fitting.auto.fit import MIN_POINTS, Auto
from scalepred.fitting.backtest import InnerTest
from scalepred.fitting.cost_reading import OFF, read_cost
from scalepred.fitting.least_squares import LeastSquares
from scalepred.fitting.scaling import NotScaling, judge
from scalepred.fitting.warn import Warn
from scalepred.table import numbers
from scalepred.table.surface import Surface

# Fewer starts than this share at the optimum: the fit may depend on luck.
_FEW_AGREE = 0.1
_ILL_CONDITIONED = 1e8
_HOPELESS = 1e16  # larger condition numbers are rounding
# An exponent that moves by this share without a few of the points rests on them.
_MOVED = 0.1
# So many points at most are named one by one.
_SHOWN = 8
# With more points than this, no single one is left out to see what it does.
_MANY_POINTS = 400
# An interval that spans this factor says that the parameter is not known.
_FLAT = 10.0
# Sizes that are correlated by more than this cannot be told apart.
_CONFOUNDED = 0.98
# A value that rises by more than this share, and by this many standard deviations of
# its noise, as data are repeated more often, is no accident.
_RISE, _RISE_NOISE = 0.01, 4.0

_SIZES = {"params": "model", "data": "data"}


def check(result: LeastSquares | Auto, scaling: NotScaling | None) -> tuple[Warn, ...]:
    """Sentences for what makes this fit less than it seems.

    Args:
        result: the fit.
        scaling: what `judge` says of its points.
    """
    found: list[Warn] = []

    def add(code: str, sentence: str) -> None:
        found.append(Warn(code, sentence))

    surface, law = result.surface, result.law
    if scaling is not None:
        add(scaling.code, scaling.sentence)
    parameters = _num_parameters(result)
    if len(surface) < 2 * parameters:
        add(
            "few_points",
            f"{len(surface)} points for {parameters} parameters: intervals rest on "
            + ("priors" if result.members else "little"),
        )
    for axis, sizes in (("params", surface.params), ("data", surface.data)):
        scales = len(np.unique(sizes))
        if scales < 3 and axis in law.axes:
            add(
                "few_scales",
                f"only {scales} {_SIZES[axis]} sizes: how fast the {surface.metric} "
                f"falls with {_SIZES[axis]} size cannot be told from where it ends",
            )
    if surface.left_out.is_many:
        add("runs_left_out", surface.left_out.sentence)
    found += about_epochs(result)
    found += _costs_apart(surface)
    found += _points_at_guess(surface)
    found += _sizes_together(surface)
    found += _doubtful_optimum(result)
    found += _flat_directions(result)
    found += _points_apart(result)
    found += _failed_tests(result.inner_tests, widens=not result.members)
    if not result.inner_tests:
        add(
            "no_back_test",
            "too few points or sizes to hide some and predict them: how errors grow "
            "with distance is not known, only assumed",
        )
    return tuple(found)


def _costs_apart(surface: Surface) -> list[Warn]:
    """Where the table's FLOPs are not those of any rule."""
    cost = read_cost(surface)
    if not cost.num_apart:
        return []
    sentence = (
        f"the FLOPs of {cost.num_apart} of {cost.num_points} points are more than "
        f"{OFF:.0%} off {cost.cost}, on which all costs rest"
    )
    return [Warn("cost_unexplained", sentence)]


def _sizes_together(surface: Surface) -> list[Warn]:
    """Where larger models all saw more data."""
    log_sizes = np.log(surface.params), np.log(surface.data)
    if min(np.std(sizes) for sizes in log_sizes) == 0:
        return []
    correlation = float(np.corrcoef(*log_sizes)[0, 1])
    if abs(correlation) <= _CONFOUNDED:
        return []
    sentence = (
        f"model and data sizes rise together (correlation {correlation:.3f}): "
        "what one does cannot be told from what the other does"
    )
    return [Warn("confounded_sizes", sentence)]


def _doubtful_optimum(result: LeastSquares | Auto) -> list[Warn]:
    """What the solver says of where it ended."""
    found = []
    if result.status == solver.Status.ITERATION_LIMIT and not result.members:
        sentence = "the solver stopped at its iteration limit"
        found.append(Warn("iteration_limit", sentence))
    for name in result.bounds_hit:
        what = ", so its term may be absent"
        if name in ("R_D*", "R_N*"):
            what = ": the points do not show where more of the same loses its worth"
        found.append(Warn("bound_hit", f"the parameter {name} is at its bound{what}"))
    if result.agree < _FEW_AGREE:
        sentence = (
            f"only {result.agree:.0%} of the starts carried to the end found this "
            "optimum"
        )
        found.append(Warn("starts_disagree", sentence))
    condition = min(condition_number(result), _HOPELESS)
    if condition > _ILL_CONDITIONED:
        sentence = (
            "some parameters cannot be told apart, though predictions may be fine "
            f"(condition number {numbers.write_flops(condition)})"
        )
        found.append(Warn("ill_conditioned", sentence))
    return found


def _points_at_guess(surface: Surface) -> list[Warn]:
    """Where nothing was learnt; a loss, which has no bound, may be far above that."""
    guess = surface.random_guess
    if not guess:
        return []
    at_guess = int(np.sum(surface.value >= multistart.PLATEAU_FRACTION * guess))
    above = int(np.sum(surface.value > guess))
    if not at_guess:
        return []
    sentence = (
        f"{at_guess} of {len(surface)} points lie at the random-guess level {guess:.4g}"
        + (f" or above it ({above})" if above else "")
        + " and tell little"
    )
    return [Warn("plateau_points", sentence)]


def _num_parameters(result: LeastSquares | Auto) -> int:
    """Those of the law; offsets of model sizes are held by their priors."""
    if not result.members:
        return result.law.num_parameters
    repeats = auto_law.DECAY if "epochs" in result.law.axes else ()
    return len(auto_law.CORE) + len(repeats)


def condition_number(result: LeastSquares | Auto) -> float:
    """Of the information matrix with unit diagonal.

    Large: the points cannot tell some parameters apart.
    """
    return float(np.linalg.cond(result.information))


def about_epochs(result: LeastSquares | Auto) -> list[Warn]:
    """What repeats can say, and runs that over-fit: no law here rises with epochs."""
    surface, found = result.surface, []
    epochs = surface.epochs
    if epochs is None:
        return []
    if "epochs" not in result.law.axes:
        times = np.median(epochs)
        sentence = (
            f"every point was trained for {times:g} epoch{'' if times == 1 else 's'}: "
            "what repeated data are worth is not known, and the "
            f"{result.law.name} law speaks of data seen so often only"
        )
        return [Warn("same_epochs", sentence)]
    if (count := len(np.unique(epochs))) < 3:
        many = "one number" if count == 1 else f"{count} numbers"
        rests = "what other studies found" if result.members else "the form of the law"
        sentence = f"only {many} of epochs: how repeats lose their worth rests on "
        sentence += rests
        found.append(Warn("few_epochs", sentence))
    if count > 1 and np.any(surface.data != surface.data[0]):
        correlation = np.corrcoef(np.log(surface.data), np.log(epochs))[0, 1]
        if abs(correlation) > _CONFOUNDED:
            sentence = (
                f"data and epochs go together (correlation {correlation:.3f}), as "
                "where all runs take as many steps: what repeats do cannot be told "
                "from what data do"
            )
            found.append(Warn("confounded_epochs", sentence))
    rises, most = 0, (_RISE, "")
    sizes = np.stack([surface.params, surface.data], axis=1)
    for m, n in np.unique(sizes, axis=0):
        group = np.flatnonzero((surface.params == m) & (surface.data == n))
        low = group[np.argmin(surface.value[group])]
        later = group[epochs[group] > epochs[low]]
        if not len(later):
            continue
        high = later[np.argmax(surface.value[later])]
        rise = surface.value[high] / surface.value[low] - 1
        noise = result.noise.of(np.log(surface.value[low]))
        if rise > max(_RISE, _RISE_NOISE * noise):
            rises += 1
            place = f"{_place(surface, m, n)}, where it is {surface.value[low]:.4g} "
            place += f"after {epochs[low]:g} epochs and {surface.value[high]:.4g} after"
            most = max(most, (rise, f"{place} {epochs[high]:g}"))
    if rises:
        sentence = (
            f"the {surface.metric} rises with more epochs at {rises} of the sizes, "
            f"most at {most[1]}: such runs over-fit, which the law cannot follow"
        )
        found.append(Warn("over_fitting", sentence))
    return found


def _flat_directions(result: LeastSquares | Auto) -> list[Warn]:
    """Parameters that the draws leave open by more than an order of magnitude."""
    if not len(result.fitted.draws):
        return []
    wide = [
        f"{_say(name)} from {numbers.write(estimate.lower)} to "
        f"{numbers.write(estimate.upper)}"
        for name, estimate in result.fitted.parameters().items()
        if estimate.upper > _FLAT * estimate.lower > 0
        and ("exponent" in name or name in ("R_D*", "R_N*"))
    ]
    if not wide:
        return []
    return [
        Warn(
            "flat_optimum",
            f"the optimum is flat: {'; '.join(wide)} fit nearly as well",
        )
    ]


def _points_apart(result: LeastSquares | Auto) -> list[Warn]:
    """Outliers, and what the exponents would be without them; points that lead."""
    surface, found, count = result.surface, [], len(result.surface)
    apart, theta = _find_outliers(result)
    if np.any(apart):
        (moved,) = _moved_exponents(result, theta)
        without = "it" if apart.sum() == 1 else "them"
        sentence = _name_points(
            result,
            apart,
            f"more than {outliers.SIGMAS:g} standard deviations from the law of "
            "the others",
        ) + (f"; without {without} {_say_moved(moved)}" if moved else "")
        found.append(Warn("outliers", sentence))
    few = result.law.num_parameters < count <= _MANY_POINTS
    if isinstance(result, Auto) or not few:  # auto takes too long to refit so often
        return found
    by_point = _moved_exponents(result, result.without(~np.eye(count, dtype=bool)))
    share = [
        max((abs(b / a - 1) for _, a, b in moved), default=0.0) for moved in by_point
    ]
    leader = int(np.argmax(share))
    if share[leader] > _MOVED and not apart[leader]:
        place = _place(surface, surface.params[leader], surface.data[leader])
        moved = _say_moved(by_point[leader])
        sentence = f"one point leads the fit ({place}): without it {moved}"
        found.append(Warn("influential_point", sentence))
    return found


def _find_outliers(result: LeastSquares | Auto) -> tuple[np.ndarray, np.ndarray]:
    """Which points are [points], and theta without them [1, parameters]."""
    if not isinstance(result, Auto):
        apart, theta = outliers.find(result)
        return apart, theta[None]
    # Its fit is robust already, and priors do the work of most points.
    points, count = result.points, len(result.surface)
    noise = result.noise.of(points.log_value) ** 2 / result.surface.num_seeds
    unmoved, equal = np.empty((count, 0)), np.ones(count)
    differences = result.differences
    if count <= _MANY_POINTS:  # but the largest run, if it diverged, bends the law
        above = outliers.stand_above_smaller(result.surface)
        if np.any(above):
            differences = result.differences_without(above)
    apart = outliers.judge(differences, unmoved, equal, noise, MIN_POINTS)
    return apart, result.without(~apart[None]) if np.any(apart) else result.theta[None]


def _say(parameter: str) -> str:
    """model exponent, R_D*."""
    return parameter.replace("_exponent", " exponent")


def _say_moved(moved: list[tuple[str, float, float]]) -> str:
    return ", ".join(
        f"the {_say(name)} would be {after:.3g} instead of {before:.3g}"
        for name, before, after in moved
    )


def _place(surface: Surface, params: float, data: float) -> str:
    """70B parameters and 1.4T tokens."""
    if surface.data_unit == "FLOPs":  # along which a ladder is fitted
        return f"{numbers.write_flops(data)} FLOPs"
    sizes = numbers.write(float(params)), numbers.write(float(data))
    return f"{sizes[0]} parameters and {sizes[1]} {surface.data_unit}"


def _name_points(result: LeastSquares | Auto, which: np.ndarray, where: str) -> str:
    """So many points lie somewhere, and some of their sizes."""
    surface = result.surface
    places = [
        _place(surface, m, n)
        for m, n in zip(surface.params[which], surface.data[which], strict=True)
    ]
    if len(places) == 1:
        return f"the point at {places[0]} lies {where}"
    shown = "; ".join(places[:_SHOWN])
    if len(places) > _SHOWN:
        shown += f"; and {len(places) - _SHOWN} more"
    return f"{len(places)} points lie {where} ({shown})"


def _moved_exponents(
    result: LeastSquares | Auto, thetas: np.ndarray
) -> list[list[tuple[str, float, float]]]:
    """(name, with all points, as refitted) of each exponent, by refit.

    Args:
        thetas: parameters refitted to some of the points [refits, parameters].
    """
    before, after = result.publish(result.theta[None]), result.publish(thetas)
    names = [name for name in before if "exponent" in name]
    return [
        [(name, float(before[name][0]), float(after[name][i])) for name in names]
        for i in range(len(thetas))
    ]


def check_two_stage(surface: Surface, tests: Sequence[InnerTest]) -> tuple[Warn, ...]:
    """What makes an error that follows from a loss less than it seems.

    That it bends is what the second stage is for; its back-tests are of both stages.
    """
    scaling = judge(surface)
    found = []
    if scaling is not None and scaling.code == "does_not_scale":
        found.append(Warn(scaling.code, scaling.sentence))
    return (*found, *_failed_tests(tests, widens=True))


# A miss that is no failure, whatever was promised: tables round their values.
_SLIGHT_MISS = 1e-3


def _failed_tests(tests: Sequence[InnerTest], widens: bool) -> list[Warn]:
    """The back-test that missed by most of what it promised, if one did by far."""
    surprising = [t for t in tests if t.surprise > 3 and t.error > _SLIGHT_MISS]
    if not surprising:
        return []
    worst = max(surprising, key=lambda test: test.surprise)
    sentence = (
        f"hiding the top {worst.ratio:g} times of compute, the law missed it by "
        f"{worst.error:.1%}, {worst.surprise:.1f} times what its fit promised"
    )
    more = "; intervals are widened for it" if widens else ""
    return [Warn("back_test_failed", sentence + more)]

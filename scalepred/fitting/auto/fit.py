"""law=auto: the flexible law under several priors, weighed by back-tests.

Every model of the average (a member: the law under a prior of its own) is fitted to
the points, and to what is left of them when the largest compute is hidden. The
prediction is their weighted mean (`mean.py`); the draws behind its intervals come from
all, so that what the law is counts among what is not known. Parameters and health are
those of the member of most weight.
"""

import dataclasses
import functools
import math

import jax
import numpy as np

from scalepred.config import UserError
from scalepred.fitting import backtest, multistart, predict, sample, solver
from scalepred.fitting.auto import draws, mean, posterior, priors
from scalepred.fitting.auto.law import CORE
from scalepred.fitting.auto.weights import MemberScore, weigh
from scalepred.fitting.laws import Law, Scale
from scalepred.metrics import is_bounded
from scalepred.table.surface import Surface

# Points that auto needs, and that must be left in its back-tests: priors do the rest.
MIN_POINTS = 5
_BACK_TEST_POINTS = 8
_NEAREST = 3.0  # the least that a back-test hides: what is vouched for without any

_Tests = list[list[backtest.BackTest]]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Which priors suit a surface.

    Attributes:
        settings: of the estimate.
        members: that are weighed.
        fits_guess: the random-guess level is fitted.
        axes: of the law.
    """

    settings: priors.Settings
    members: tuple[priors.Member, ...]
    fits_guess: bool
    axes: tuple[str, ...]

    @staticmethod
    def of(surface: Surface) -> "_Kind":
        is_loss = not is_bounded(surface.metric)
        fits_guess = is_loss and surface.random_guess is None
        axes = axes_of(surface)
        settings = priors.LOSS if is_loss else priors.ERROR
        if len(axes) == 1:
            members = priors.curve_members(axes[0])
            return _Kind(priors.for_curves(settings), members, fits_guess, axes)
        members = priors.MEMBERS
        if not is_loss and surface.random_guess is None:
            members += (priors.UNKNOWN_LEVEL,)
        if has_checkpoints(surface):
            # What a run says before its schedule ends lies above what it would say
            # had that been the end.
            above = min(settings.above, priors.LOSS.above)
            settings = dataclasses.replace(settings, above=above)
        if "epochs" in axes:
            settings = priors.for_repeats(settings)
        return _Kind(settings, members, fits_guess, axes or ("params", "data"))


@dataclasses.dataclass(frozen=True)
class Auto:
    """The members' estimates for a surface; what is said of it as of `LeastSquares`.

    Attributes:
        surface: the points fitted.
        law: the flexible law.
        residual: what was minimised.
        seed: of starts, folds and draws.
        resamples: draws behind every interval.
        points: the surface as it was fitted.
        estimate: of each member.
        scores: of each member.
        tests: of each member, with the largest compute of the fit region hidden.
        epoch_tests: likewise with the most epochs hidden; none where they are no size.
        notes: choices made for the user.
        refit_points: that back-tests and folds take of more; 0: all.
    """

    surface: Surface
    law: Law
    residual: solver.Residual
    seed: int
    resamples: int
    points: multistart.Points
    estimate: posterior.Estimate
    scores: tuple[MemberScore, ...]
    tests: list[list[backtest.BackTest]]
    epoch_tests: list[list[backtest.BackTest]]
    notes: tuple[str, ...]
    refit_points: int

    starts = posterior.NUM_STARTS
    bounds_hit = ()

    @property
    def members(self) -> tuple[MemberScore, ...]:
        """All that was weighed."""
        return self.scores

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """Weights of the members, sum 1 [members]."""
        return np.array([score.weight for score in self.scores])

    @functools.cached_property
    def best(self) -> int:
        """The member of most weight."""
        return int(np.argmax(self.shares))

    @property
    def theta(self) -> np.ndarray:
        return self.estimate.theta[self.best]

    @property
    def objective(self) -> float:
        return float(self.estimate.objective[self.best])

    @property
    def status(self) -> solver.Status:
        return solver.Status(int(self.estimate.status[self.best]))

    @property
    def agree(self) -> float:
        return float(self.estimate.agree[self.best])

    @property
    def scale(self) -> Scale:
        return self.estimate.scale.of_lane(self.best)

    @functools.cached_property
    def back_tests(self) -> list[backtest.BackTest]:
        """Of the mean of the members."""
        return mean.back_tests(self.shares, self.tests)

    @property
    def inner_tests(self) -> list[backtest.InnerTest]:
        return [test.score() for test in self.back_tests]

    @functools.cached_property
    def inner_epoch_tests(self) -> list[backtest.InnerTest]:
        """Back-tests that hide the runs of the most epochs."""
        tests = mean.back_tests(self.shares, self.epoch_tests)
        return [test.score() for test in tests]

    @functools.cached_property
    def noise(self) -> predict.Noise:
        return predict.estimate_noise(self.surface.value, self.surface.seed_values)

    @functools.cached_property
    def differences(self) -> np.ndarray:
        """ln(law) - ln(measured) [points]."""
        members = self.estimate._replace(theta=self._thetas)
        everything = np.ones((len(self.shares), len(self.surface)), bool)
        found = posterior.predict_points(self.law, members, self.points, everything)
        return self.shares @ found[0]

    def differences_without(self, hidden: np.ndarray) -> np.ndarray:
        """Of all points, from the best member refitted without some [points].

        Args:
            hidden: points that it is fitted without [points].
        """
        masks = ~hidden[None]
        law, found = self._refit(masks)
        return posterior.predict_points(law, found, self.points, masks)[0][0]

    @functools.cached_property
    def misfit(self) -> float:
        """Standard deviation of the true means about the law, in ln value."""
        of_means = self.noise.of(self.points.log_value) ** 2 / self.surface.num_seeds
        sigma = self.estimate.sigma[self.best]
        return math.sqrt(max(sigma**2 - np.mean(of_means), 0.0))

    @functools.cached_property
    def fitted(self) -> predict.FittedLaw:
        """The mean of the members, with draws that follow one of them each."""
        # The best member comes first: a mean's published parameters are its first's.
        order = np.argsort(self.best != np.arange(len(self.shares)), kind="stable")
        thetas = self._thetas[order]
        draws = self._draw()
        alone = np.eye(1, len(order))
        others = np.concatenate([thetas[1:].reshape(1, -1), alone], axis=1)
        reach, tested = self._tested
        return predict.FittedLaw(
            law=mean.make_law((self.law,) * len(order)),
            theta=np.concatenate([thetas.reshape(-1), self.shares[order]]),
            draws=np.concatenate(
                [draws, np.repeat(others, len(draws), axis=0)], axis=1
            ),
            scale=self.scale,
            params_unit=self.points.params_unit,
            data_unit=self.points.data_unit,
            misfit=self.misfit,
            growth=backtest.learn_growth(
                [*self.inner_tests, *self.inner_epoch_tests],
                may_narrow=len(self.law.axes) > 1,
            ),
            noise=self.noise,
            seed=self.seed,
            epochs=1.0 if "epochs" in self.law.axes else None,
            highest=self.surface.highest,
            reach=reach,
            tested=tested,
        )

    @property
    def _tested(self) -> tuple[float, float]:
        """`reach` and `tested` of the fitted law.

        On a grid the members disagree where they extrapolate, which is most of what
        back-tests reveal. Along epochs, which compute does not tell, all holds
        everywhere.
        """
        if self.law.axes != ("params", "data"):
            return -math.inf, math.inf
        ratios = [test.ratio for test in self.inner_tests] or [_NEAREST]
        reach = float(np.max(self.points.x + self.points.y))
        return reach, math.log(max(ratios))

    @property
    def _thetas(self) -> np.ndarray:
        """Of the members [members, parameters]; those of no weight may have failed."""
        return np.where(self.shares[:, None] > 0, self.estimate.theta, self.theta)

    @functools.cached_property
    def cross_validation(self) -> backtest.CrossValidation:
        """Held-out folds, predicted by the weighted mean of the members."""
        chosen = sample.choose_for_folds(self.surface, self.refit_points)
        surface = self.surface.where(chosen)
        least, refit = self.refit(surface)
        return backtest.cross_validate(len(surface), least, refit, self.seed)

    @functools.cached_property
    def information(self) -> np.ndarray:
        """Of the core parameters, as a correlation matrix."""
        core = slice(0, len(CORE))
        covariance = self.estimate.covariance[self.best][core, core]
        size = np.sqrt(np.diagonal(covariance))
        return covariance / size[:, None] / size[None, :]

    def publish(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Published parameters [thetas] of inner ones [thetas, parameters]."""
        units = self.points.params_unit, self.points.data_unit
        return self.law.public(theta, self.scale, *units)

    def refit(self, surface: Surface) -> tuple[int, backtest.Refit]:
        """The fewest points it takes, and refits to subsets of another surface.

        The members keep the weights that they have in this fit.
        """
        points, kind = multistart.make_points(surface), _Kind.of(self.surface)
        used = np.flatnonzero(self.shares)

        def refit(masks: np.ndarray) -> np.ndarray:
            lanes, owners = np.tile(masks, (len(used), 1)), np.repeat(used, len(masks))
            law, estimate = _estimate(points, lanes, kind, owners, self.seed)
            logs, _ = posterior.predict_points(law, estimate, points, lanes)
            logs = logs.reshape(len(used), *masks.shape)
            return np.expm1(mean.average(self.shares[used], logs))

        return MIN_POINTS, refit

    def without(self, masks: np.ndarray) -> np.ndarray:
        """Parameters of the best member refitted to the points of each mask.

        Args:
            masks: points that stay [masks, points].
        """
        return self._refit(masks)[1].theta

    def _refit(self, masks: np.ndarray) -> tuple[Law, posterior.Estimate]:
        """The best member's law and estimate, by mask."""
        kind, near = _Kind.of(self.surface), None
        if not np.all(sample.choose(self.surface, self.refit_points)):
            near = _take(self.estimate, np.repeat(self.best, len(masks)))
        return _estimate(self.points, masks, kind, self.best, self.seed, near)

    def _draw(self) -> np.ndarray:
        """Draws of theta from all members, by their weights [draws, parameters]."""
        if not self.resamples:
            return np.empty((0, self.law.num_parameters))
        rng = np.random.default_rng(self.seed)
        counts = rng.multinomial(self.resamples, self.shares)
        members = np.repeat(np.arange(len(counts)), counts)
        return draws.draw(self.law, self.estimate, members, rng)


def axes_of(surface: Surface) -> tuple[str, ...]:
    """Sizes that the law of these points depends on.

    Priors know what repeats are worth, so that a surface with epochs has all three,
    even where every point has the same.
    """
    axes = varying_axes(surface)
    same = multistart.have_same_epochs(surface)
    if surface.epochs is None or (len(axes) == 1 and same):
        return axes
    return "params", "data", "epochs"


def varying_axes(surface: Surface) -> tuple[str, ...]:
    """Sizes that differ between points."""
    sizes = {"params": surface.params, "data": surface.data}
    return tuple(axis for axis, size in sizes.items() if np.any(size != size[0]))


def has_checkpoints(surface: Surface) -> bool:
    """Whether runs (seeds) are measured as they go on: several times, at one size of
    model each.
    """
    point, column = np.nonzero(np.isfinite(surface.seed_values))
    run = column if surface.seeds is None else surface.seeds[point, column]
    order = np.argsort(run, kind="stable")
    run, point = run[order], point[order]
    same = run[1:] == run[:-1]
    sizes = surface.params[point]
    return bool(np.any(same) and np.all(sizes[1:][same] == sizes[:-1][same]))


def fit(
    surface: Surface,
    *,
    resamples: int,
    seed: int,
    refit_points: int = sample.REFIT_POINTS,
) -> Auto:
    """Fits and weighs every member.

    Raises:
        UserError: if there are too few points, or nothing depends on size.
    """
    kind = _Kind.of(surface)
    axes = kind.axes[:2] if multistart.have_same_epochs(surface) else kind.axes
    multistart.check_sizes(surface, MIN_POINTS, "auto", axes or ("params",))
    multistart.check_above_guess(surface, bounded=True)
    points = multistart.make_points(surface)
    law, estimate, tests, epoch_tests = _test_members(surface, kind, seed, refit_points)
    if not np.all(sample.choose(surface, refit_points)):
        everything = np.ones((len(kind.members), len(surface)), bool)
        owners = np.arange(len(kind.members))
        law, estimate = _estimate(points, everything, kind, owners, seed, estimate)
    usable = np.isfinite(estimate.objective)
    if not np.any(usable):
        raise UserError(
            f"law=auto: no start gave a finite fit of these {len(surface)} points; "
            "check their values or name a law"
        )
    weights = weigh(np.array([member.weight for member in kind.members]), tests, usable)
    if any(epoch_tests):
        weights = weigh(weights, epoch_tests, usable)
    scores = tuple(
        MemberScore.of(member.name, weight, own)
        for member, weight, own in zip(kind.members, weights, tests, strict=True)
    )
    return Auto(
        surface=surface,
        law=law,
        residual=solver.Residual("robust", posterior.KNEE, kind.settings.above),
        seed=seed,
        resamples=resamples,
        points=points,
        estimate=estimate,
        scores=scores,
        tests=tests,
        epoch_tests=epoch_tests,
        notes=(*_notes(surface, kind), *sample.notes(surface, refit_points)),
        refit_points=refit_points,
    )


def _test_members(
    surface: Surface, kind: _Kind, seed: int, refit_points: int
) -> tuple[Law, posterior.Estimate, _Tests, _Tests]:
    """Every member fitted to a sample of the points, and back-tested on it.

    Returns:
        The law; an estimate, the back-tests along compute and those along epochs of
        each member.
    """
    surface = surface.where(sample.choose(surface, refit_points))
    points = multistart.make_points(surface)
    choose = functools.partial(
        backtest.inner_masks, surface, _BACK_TEST_POINTS, kind.axes[:2]
    )
    of_work = choose()
    of_epochs = choose(along="epochs") if "epochs" in kind.axes else {}
    hidings = [*of_work.items(), *of_epochs.items()]
    masks = np.stack([np.ones(len(surface), bool), *(mask for _, mask in hidings)])
    count = len(kind.members)
    owners = np.repeat(np.arange(count), len(masks))
    all_masks = np.tile(masks, (count, 1))
    law, estimate = _estimate(points, all_masks, kind, owners, seed)
    difference, sd = posterior.predict_points(law, estimate, points, all_masks)
    tests = [
        [
            backtest.BackTest(ratio, mask, difference[first + i], sd[first + i])
            for i, (ratio, mask) in enumerate(hidings, start=1)
        ]
        for first in range(0, len(all_masks), len(masks))
    ]
    rows = np.arange(count) * len(masks)  # fitted to everything
    by_work, by_epochs = (
        [own[part] for own in tests]
        for part in (slice(len(of_work)), slice(len(of_work), None))
    )
    return law, _take(estimate, rows), by_work, by_epochs


def _estimate(
    points: multistart.Points,
    masks: np.ndarray,
    kind: _Kind,
    members: np.ndarray | int,
    seed: int,
    near: posterior.Estimate | None = None,
) -> tuple[Law, posterior.Estimate]:
    """The law and an estimate a mask, each under its member's prior."""
    owners = np.broadcast_to(members, len(masks))
    return posterior.estimate(
        points,
        masks,
        [kind.members[owner] for owner in owners],
        kind.settings,
        kind.fits_guess,
        seed,
        kind.axes,
        near,
    )


def _take(estimate: posterior.Estimate, rows: np.ndarray) -> posterior.Estimate:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], estimate)


def _notes(surface: Surface, kind: _Kind) -> list[str]:
    notes = list(surface.notes)
    if "epochs" in kind.axes:
        notes.append(
            "epochs are a third size: data are unique data, and a question that names "
            "no epochs is answered for data seen once"
        )
    if len(kind.axes) == 1:
        notes.append(
            f"only {kind.axes[0]} varies, so law=auto is a curve along {kind.axes[0]} "
            "and knows nothing of the other size"
        )
    if kind.fits_guess:
        notes.append("the random-guess level is fitted, because none was given")
    elif surface.random_guess is None:
        is_fitted = priors.UNKNOWN_LEVEL in kind.members
        also = " (and fitted by one member)" if is_fitted else ""
        notes.append(
            f"the random-guess level is taken for 1{also}, because none was given"
        )
    if len(kind.axes) > 1 and has_checkpoints(surface):
        notes.append(
            "each run has several points at one size of model: they are taken for "
            f"checkpoints, and weigh {kind.settings.above:g} where they lie above the "
            "law, as schedules that have not ended do"
        )
    notes.append(
        "law=auto predicts the weighted mean of its members; the parameters are the "
        "flexible law's, under the prior that weighs most"
    )
    return notes

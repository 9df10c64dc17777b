"""Two stages for a task's error: sizes -> loss -> error.

An error that stays at chance and then falls is no law of the sizes, but the loss is,
and the error follows the loss. Both stages are one law (`two_stage.py`), so that it is
inverted, drawn and saved as any other. A draw is a draw of the loss's law, with its
misfit as a shift of ln L, and one of the link. Which road is taken, this one or the
direct one, is chosen by back-tests with the largest compute hidden, of the loss and of
the error alike.

Source: see `two_stage.py`. The choice and the intervals are ours.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import backtest, health, predict
from scalepred.fitting.auto.fit import Auto
from scalepred.fitting.estimate import Settings, estimate
from scalepred.fitting.laws import Law
from scalepred.fitting.least_squares import LeastSquares
from scalepred.fitting.link import MIN_POINTS, Link, fit_link
from scalepred.fitting.scaling import judge
from scalepred.fitting.two_stage import make_law
from scalepred.fitting.warn import Warn
from scalepred.table.surface import Surface

_TEST_DRAWS = 200  # of the link in a back-test
# Warnings of the stage of the loss that are about its points, which both stages share.
_OF_POINTS = ("runs_left_out", "cost_unexplained", "plateau_points")


@dataclasses.dataclass(frozen=True)
class TwoStage:
    """Both stages fitted; what is said of them as of `LeastSquares`.

    Attributes:
        surface: the points of the error.
        loss: the estimate of the loss, at the same points.
        link: as fitted to all points.
        tests: with the largest compute hidden from both stages.
        notes: choices made for the user.
    """

    surface: Surface
    loss: LeastSquares | Auto
    link: Link
    tests: list[backtest.BackTest]
    notes: tuple[str, ...]

    bounds_hit = ()

    @property
    def law(self) -> Law:
        return self.fitted.law

    @property
    def residual(self):
        return self.loss.residual

    @property
    def seed(self) -> int:
        return self.loss.seed

    @property
    def resamples(self) -> int:
        return self.loss.resamples

    @property
    def objective(self) -> float:
        return self.loss.objective

    @property
    def status(self):
        return self.loss.status

    @property
    def starts(self) -> int:
        return self.loss.starts

    @property
    def agree(self) -> float:
        return self.loss.agree

    @property
    def members(self):
        """What the loss's law weighed."""
        return self.loss.members

    @property
    def refit_points(self) -> int:
        return self.loss.refit_points

    @property
    def inner_tests(self) -> list[backtest.InnerTest]:
        return [test.score() for test in self.tests]

    @functools.cached_property
    def condition_number(self) -> float:
        return health.condition_number(self.loss)

    @functools.cached_property
    def warnings(self) -> tuple[Warn, ...]:
        """Of the loss's law, and of how the error follows."""
        found = []
        for warning in health.check(self.loss, judge(self.loss.surface)):
            known = warning.code in _OF_POINTS or warning.code == "back_test_failed"
            sentence = warning.sentence
            if not known:
                found.append(Warn(warning.code, f"of the loss: {sentence}"))
        return (*health.check_two_stage(self.surface, self.inner_tests), *found)

    @functools.cached_property
    def fitted(self) -> predict.FittedLaw:
        """Eq. (1) with the draws of both stages."""
        loss, link = self.loss.fitted, self.link
        shift = loss.misfit * loss.wander[:, None]
        rest = link.draws[: len(loss.draws)], shift
        noise = predict.estimate_noise(self.surface.value, self.surface.seed_values)
        of_means = noise.of(np.log(self.surface.value)) ** 2 / self.surface.num_seeds
        return dataclasses.replace(
            loss,
            law=make_law(loss.law),
            theta=np.concatenate([loss.theta, link.theta, [0.0]]),
            draws=np.concatenate([loss.draws, *rest], axis=1),
            misfit=math.sqrt(max(link.sd**2 - float(np.mean(of_means)), 0.0)),
            growth=backtest.learn_growth(self.inner_tests),
            noise=noise,
            highest=self.surface.highest,
            # The misfits of the two stages have nothing to do with each other.
            misfits=None,
            seed=loss.seed + 2,
        )

    @functools.cached_property
    def cross_validation(self) -> backtest.CrossValidation:
        least, refit = self.refit(self.surface)
        return backtest.cross_validate(len(self.surface), least, refit, self.seed)

    def refit(self, surface: Surface) -> tuple[int, backtest.Refit]:
        """The fewest points it takes, and refits to subsets of another surface.

        The loss of points that this fit does not have is what its law says.
        """
        losses = _with_losses(surface, self.loss)
        least, refit_loss = self.loss.refit(losses)

        def refit(masks: np.ndarray) -> np.ndarray:
            said = np.log(losses.value) + np.log1p(refit_loss(masks))
            errors = []
            for mask, log_loss in zip(masks, said, strict=True):
                link = fit_link(
                    losses.value[mask],
                    surface.value[mask],
                    random_guess=self.surface.random_guess,
                )
                errors.append(np.exp(link.log_error(log_loss)) / surface.value - 1)
            return np.stack(errors)

        return max(least, MIN_POINTS), refit


def _with_losses(surface: Surface, loss: LeastSquares | Auto) -> Surface:
    """The sizes of a surface with their losses: measured, else what the law says."""
    value = np.array(loss.fitted.predict(surface.params, surface.data).value)
    places = {
        (m, n): v
        for m, n, v in zip(
            loss.surface.params, loss.surface.data, loss.surface.value, strict=True
        )
    }
    for i, place in enumerate(zip(surface.params, surface.data, strict=True)):
        value[i] = places.get(place, value[i])
    return dataclasses.replace(
        surface,
        value=value,
        seed_values=value[:, None],
        seeds=None,
        metric="loss",
        random_guess=None,
        conversion=None,
    )


def fit(
    surface: Surface,
    losses: Surface,
    law: str | Law,
    settings: Settings,
    is_forced: bool = False,
) -> TwoStage | LeastSquares | Auto:
    """The road to an error that back-tests say is the better one.

    Args:
        surface: the points of the error.
        losses: those of the loss; points that have only one of the two are left out.
        law: of the loss, and of the error on the direct road.
        settings: of both.
        is_forced: takes the two stages, whatever back-tests say.

    Raises:
        UserError: too few points have both.
    """
    shared = share_points(surface, losses)
    if shared is None:
        raise UserError(
            f"through: fewer than {MIN_POINTS} points have a loss and the "
            f"{surface.metric}; give rows that have both, or --through=none"
        )
    own, losses = shared
    loss = estimate(losses, law, settings)
    tests = _test(own, loss)
    error = _mean_error(tests)
    direct = None if is_forced else estimate(surface, law, settings)
    directly = math.nan if direct is None else _mean_error(direct.back_tests)
    note = _tell(error, directly, is_forced)
    if direct is not None and not error < directly:
        return dataclasses.replace(direct, notes=(note, *direct.notes))
    link = fit_link(
        losses.value,
        own.value,
        random_guess=own.random_guess,
        draws=settings.resamples,
        seed=settings.seed + 3,
    )
    notes = (
        note,
        f"the link of error and loss is {link.name}",
        *(f"of the loss: {one}" for one in loss.notes),
    )
    return TwoStage(own, loss, link, tests, notes)


def share_points(surface: Surface, losses: Surface) -> tuple[Surface, Surface] | None:
    """The points of both surfaces that have the same sizes; None where too few do."""
    keys = [_keys(one) for one in (surface, losses)]
    both = [
        np.array([key in set(other) for key in own])
        for own, other in zip(keys, reversed(keys), strict=True)
    ]
    if np.sum(both[0]) < MIN_POINTS:
        return None
    found = surface.where(both[0]), losses.where(both[1])
    order = [sorted(range(len(one)), key=_keys(one).__getitem__) for one in found]
    if order[0] != order[1]:  # points ascend by size, so both have one order
        raise AssertionError("points of two surfaces are in different orders")
    return found


def _keys(surface: Surface) -> list[tuple[float, ...]]:
    columns = [surface.params, surface.data]
    columns += [] if surface.epochs is None else [surface.epochs]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _test(surface: Surface, loss: LeastSquares | Auto) -> list[backtest.BackTest]:
    """Back-tests of the loss carried through a link fitted to the points they left."""
    tests = loss.back_tests
    if tests and len(tests[0].mask) != len(surface):
        from scalepred.fitting import sample

        chosen = sample.choose(loss.surface, loss.refit_points)
        surface, log_loss = surface.where(chosen), np.log(loss.surface.value[chosen])
    else:
        log_loss = np.log(loss.surface.value)
    found = []
    for test in tests:
        if test.mask.sum() < MIN_POINTS:
            continue
        link = fit_link(
            np.exp(log_loss[test.mask]),
            surface.value[test.mask],
            random_guess=surface.random_guess,
            draws=_TEST_DRAWS,
        )
        said = log_loss + test.difference
        sd = link.promise(said, test.sd)
        difference = link.log_error(said) - np.log(surface.value)
        found.append(backtest.BackTest(test.ratio, test.mask, difference, sd))
    return found


def _mean_error(tests: Sequence[backtest.BackTest]) -> float:
    """Mean of the back-tests' errors; NaN: there are none."""
    return float(np.mean([one.score().error for one in tests])) if tests else math.nan


def _tell(error: float, directly: float, is_forced: bool) -> str:
    """Which road was taken, and why."""
    if is_forced:
        return "--through=loss: the error is predicted through the loss"
    if math.isnan(error) or math.isnan(directly):
        return (
            "--through=none was chosen: too few points or sizes to hide some and "
            "compare the two roads (--through=loss takes the other one)"
        )
    both = f"{error:.1%} through the loss and by {directly:.1%} directly"
    chosen, other = ("loss", "none") if error < directly else ("none", "loss")
    return (
        f"--through={chosen} was chosen: back-tests are off by {both} "
        f"(--through={other} takes the other road)"
    )

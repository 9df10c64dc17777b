"""The link of a task's error to the loss: flat at both ends, steep between them.

    e(L) = floor + (ceiling - floor) F(k (L - L0))                                 (1)

with F the logistic function, or one of two that leave one end faster than the other,
drawn by how likely each is. Its four numbers are fitted to ln e by least squares under
weak priors, as small models may show the ceiling alone. Draws are those of a Student t
about the optimum, drawn again in proportion to what the points and priors say of them.

Source: the logistic link of Llama 3 (Dubey et al. 2024, arXiv:2407.21783, section
3.2.1) and of Bhagia et al. 2024 (arXiv:2412.04403); near its ceiling the Gompertz
function is the exponential link of Gadre et al. 2024 (arXiv:2403.08540, Eq. 5).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError
from scalepred.fitting.laws import Array

# Points that a link needs: its four numbers and one to tell the noise from.
MIN_POINTS = 6
_NOISE_LEAST, _ROUNDS = 1e-5, 12  # of ln e; to learn the noise in
_FREEDOM = 4.0  # of the Student t that draws are proposed from
_PROPOSALS = 8  # for each draw that is kept
# Power of the evidence of each link: what is left over is no independent noise.
_EVIDENCE = 0.5
# Prior: the floor as a share of the lowest error, the ceiling of what is left above
# the highest, each as a logit; ln k against the range of losses; L0 in those ranges.
_PRIOR_MEAN = np.array([0.0, -1.0, math.log(4.0), 0.5])
_PRIOR_SD = np.array([1.5, 1.5, 1.0, 1.0])
_KNOWN_CEILING_SD = 0.02  # of ln of the ceiling, where random guess is known


class Numbers(NamedTuple):
    """The numbers of a link.

    Attributes:
        floor: ln of the error that no loss gets below.
        ceiling: ln of the error of what has learnt nothing.
        steepness: ln k, per nat.
        middle: L0, nats.
    """

    floor: Any
    ceiling: Any
    steepness: Any
    middle: Any


def _logistic(z: Array) -> jax.Array:
    return jax.nn.sigmoid(jnp.asarray(z))


def _gompertz(z: Array) -> jax.Array:
    return jnp.exp(-jnp.exp(-jnp.clip(z, -6.0, 700.0)))


def _complementary(z: Array) -> jax.Array:
    return -jnp.expm1(-jnp.exp(jnp.clip(z, -700.0, 6.0)))


LINKS: dict[str, Callable[[Array], jax.Array]] = {
    "logistic": _logistic,
    "gompertz": _gompertz,
    "complementary log-log": _complementary,
}


def log_error(weights: Array, numbers: Numbers, log_loss: Array) -> jax.Array:
    """ln e at ln L by Eq. (1), F the weighted mean of `LINKS`; all broadcast.

    Args:
        weights: of the links, sum 1 [links, ...].
        numbers: each [...].
        log_loss: [...].
    """
    floor, ceiling = jnp.exp(numbers.floor), jnp.exp(numbers.ceiling)
    loss = jnp.exp(jnp.clip(log_loss, -50.0, 50.0))
    z = jnp.exp(numbers.steepness) * (loss - numbers.middle)
    shares = [w * link(z) for w, link in zip(weights, LINKS.values(), strict=True)]
    return jnp.log(floor + (ceiling - floor) * sum(shares))


@dataclasses.dataclass(frozen=True)
class Link:
    """The links fitted to points: the likeliest, and draws of all.

    Attributes:
        name: of the likeliest.
        theta: weights of the links, of which one is 1, and `Numbers` [links + 4].
        draws: likewise of each draw [draws, links + 4].
        sd: standard deviation of ln e about the likeliest.
    """

    name: str
    theta: np.ndarray
    draws: np.ndarray
    sd: float

    def log_error(self, log_loss: np.ndarray) -> np.ndarray:
        """ln e at ln L, shaped like it."""
        return _evaluate(self.theta, log_loss)

    def promise(self, log_loss: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Standard deviation of ln e: draws, misfit, and that of ln L [points].

        Args:
            log_loss: ln L [points].
            sd: its standard deviation [points].
        """
        step = 1e-4
        ends = [self.log_error(log_loss + way * step) for way in (-1, 1)]
        by_loss = (ends[1] - ends[0]) / (2 * step) * sd
        drawn = _evaluate(self.draws.T[..., None], log_loss)
        return np.sqrt(by_loss**2 + np.var(drawn, axis=0) + self.sd**2)


def _evaluate(theta: np.ndarray, log_loss: np.ndarray) -> np.ndarray:
    """ln e of theta [links + 4, ...]."""
    count = len(LINKS)
    with jax.enable_x64(True):
        return np.asarray(log_error(theta[:count], Numbers(*theta[count:]), log_loss))


class _Problem:
    """The points and priors of one fit, in numbers u that may be anything."""

    def __init__(
        self, name: str, loss: np.ndarray, error: np.ndarray, ceiling: float | None
    ):
        self.name, self.log_loss, self.target = name, np.log(loss), np.log(error)
        self.lowest, self.highest = float(error.min()), float(error.max())
        self.first, self.range = float(loss.min()), float(np.ptp(loss))
        self.known = ceiling
        self.mean, self.sd = _PRIOR_MEAN.copy(), _PRIOR_SD.copy()
        if ceiling:
            self.mean[1], self.sd[1] = 0.0, 1.0

    def numbers(self, u: np.ndarray) -> np.ndarray:
        """theta [..., 4] of u [..., 4]."""
        a, b, c, d = np.moveaxis(np.asarray(u), -1, 0)
        floor = math.log(self.lowest) - np.logaddexp(0.0, -a)
        if self.known:
            ceiling = math.log(self.known) + _KNOWN_CEILING_SD * b
        else:
            room = max(1.0, 1.5 * self.highest) - 0.99 * self.highest
            ceiling = np.log(0.99 * self.highest + room / (1 + np.exp(-b)))
        middle = self.first + self.range * d
        return np.stack([floor, ceiling, c - math.log(self.range), middle], axis=-1)

    def residuals(self, u: np.ndarray) -> np.ndarray:
        """ln e - ln measured [..., points]."""
        numbers = Numbers(*np.moveaxis(self.numbers(u)[..., None], -2, 0))
        return _log_error_of(self.name, numbers, self.log_loss) - self.target

    def priors(self, u: np.ndarray) -> np.ndarray:
        """Distance of u from what is expected, in standard deviations [..., 4]."""
        return (np.asarray(u) - self.mean) / self.sd


def _log_error_of(name: str, numbers: Numbers, log_loss: np.ndarray) -> np.ndarray:
    """`log_error` of one link by NumPy, which fits a few points faster."""
    floor, ceiling = np.exp(numbers.floor), np.exp(numbers.ceiling)
    z = np.exp(numbers.steepness) * (np.exp(log_loss) - numbers.middle)
    share = {
        "logistic": lambda z: 1 / (1 + np.exp(-np.clip(z, -700, 700))),
        "gompertz": lambda z: np.exp(-np.exp(-np.clip(z, -6, 700))),
        "complementary log-log": lambda z: -np.expm1(-np.exp(np.clip(z, -700, 6))),
    }[name](z)
    return np.log(floor + (ceiling - floor) * share)


class _One(NamedTuple):
    """One link fitted: its problem, optimum, deviation and ln of its evidence."""

    problem: _Problem
    best: Any
    sd: float
    evidence: float


def fit_link(
    loss: np.ndarray,
    error: np.ndarray,
    *,
    random_guess: float | None = None,
    draws: int = 0,
    seed: int = 0,
) -> Link:
    """Fits every link to points, and draws of them by how likely each is.

    Args:
        loss: of each point, above 0 [points].
        error: of each point, above 0 [points].
        random_guess: the ceiling, if it is known.
        draws: how many.
        seed: of them.

    Raises:
        UserError: there are fewer than six points, or all have the same loss.
    """
    if len(loss) < MIN_POINTS or np.ptp(loss) == 0:
        raise UserError(
            f"through: {len(loss)} points with a loss and an error; a link of the two "
            f"needs {MIN_POINTS} of different losses: give more, or --through=none"
        )
    rng = np.random.default_rng(seed)
    found = [_fit_one(_Problem(name, loss, error, random_guess)) for name in LINKS]
    evidence = np.array([one.evidence for one in found])
    share = np.exp(_EVIDENCE * (evidence - evidence.max()))
    counts = rng.multinomial(draws, share / share.sum())
    best, links = int(np.argmax(evidence)), np.eye(len(found))
    drawn = [
        np.concatenate(
            [np.repeat(links[i : i + 1], count, 0), _draw(one, count, rng)], axis=1
        )
        for i, (one, count) in enumerate(zip(found, counts, strict=True))
    ]
    likeliest = found[best]
    theta = likeliest.problem.numbers(likeliest.best.x)
    return Link(
        name=list(LINKS)[best],
        theta=np.concatenate([links[best], theta]),
        # In no order, as draws of the loss's law are in that of its members.
        draws=rng.permutation(np.concatenate(drawn)),
        sd=likeliest.sd,
    )


def _fit_one(problem: _Problem) -> _One:
    sd, starts = 0.1, np.tile(problem.mean, (3, 1))
    starts[:, 2] += [-1.0, 0.0, 1.0]
    count = len(problem.target)
    best = min((_solve(problem, start, sd) for start in starts), key=lambda b: b.cost)
    for _ in range(_ROUNDS):  # what is left over says how little priors weigh
        left, before = problem.residuals(best.x), sd
        sd = max(math.sqrt(np.sum(left**2) / max(count - 4, 1)), _NOISE_LEAST)
        best = _solve(problem, best.x, sd)
        if sd > 0.9 * before:
            break
    # Laplace's approximation.
    room = -np.linalg.slogdet(best.jac.T @ best.jac)[1] / 2
    return _One(problem, best, sd, -best.cost - count * math.log(sd) + room)


def _solve(problem: _Problem, start: np.ndarray, sd: float) -> Any:
    import scipy.optimize  # a third of a second, which few tables need

    return scipy.optimize.least_squares(
        lambda u: np.append(problem.residuals(u) / sd, problem.priors(u)),
        start,
        max_nfev=200,
    )


def _draw(one: _One, count: int, rng: np.random.Generator) -> np.ndarray:
    """`Numbers` of each draw [draws, 4]."""
    problem, best, sd, _ = one
    if not count:
        return np.empty((0, 4))
    root = np.linalg.inv(np.linalg.cholesky(best.jac.T @ best.jac)).T
    normal = rng.standard_normal((count * _PROPOSALS, 4))
    normal /= np.sqrt(rng.chisquare(_FREEDOM, (len(normal), 1)) / _FREEDOM)
    proposed = best.x + normal @ root.T
    fits = np.sum((problem.residuals(proposed) / sd) ** 2, axis=1)
    fits += np.sum(problem.priors(proposed) ** 2, axis=1)
    size = np.sum(normal**2, axis=1)
    log_weight = (_FREEDOM + 4) / 2 * np.log1p(size / _FREEDOM) - fits / 2
    weight = np.exp(log_weight - log_weight.max())
    kept = rng.choice(len(weight), count, p=weight / weight.sum())
    return problem.numbers(proposed[kept])

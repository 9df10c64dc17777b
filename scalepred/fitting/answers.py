"""The questions a fitted law is asked, each answered by exact inversion.

Every law is monotone in m and n, so an inverse is a bisection in the logarithm of a
size, to the last bits of float64, for the best fit and for every draw at once. "Out
of reach" is an answer.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError
from scalepred.fitting import solver
from scalepred.fitting.laws import Array, Law, Scale
from scalepred.fitting.predict import LEVEL, FittedLaw

# Sizes looked at: e^+-80 times the reference, which is every size there is.
_REACH = 80.0
_BISECTIONS = 64
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclasses.dataclass(frozen=True)
class Answer:
    """One question and its answer.

    Attributes:
        question: data_needed | params_needed | best_for_budget | cheapest_for_target.
        asked: what it was asked with, by name.
        value: the answer in `unit`; infinite where out of reach.
        lower: lower end of the 90 % interval.
        upper: upper end; infinite if out of reach is within the interval.
        unit: of the three numbers.
        reachable: whether the best fit says it can be had at all.
        why: one sentence.
        details: further numbers by name, each (value, lower, upper).
    """

    question: str
    asked: dict[str, float]
    value: float
    lower: float
    upper: float
    unit: str
    reachable: bool
    why: str
    details: dict[str, tuple[float, float, float]] = dataclasses.field(
        default_factory=dict
    )


def data_needed(fitted: FittedLaw, value: float, params: float, unit: str) -> Answer:
    """Data with which a model of `params` reaches `value` on average.

    Args:
        fitted: the law and its draws.
        value: wanted error or loss, above 0.
        params: model size, count.
        unit: what data counts.

    Raises:
        UserError: if a number asked with is not positive.
    """
    return _size_needed(fitted, "data_needed", value, params, unit)


def params_needed(fitted: FittedLaw, value: float, data: float) -> Answer:
    """Model size with which `data` suffices to reach `value` on average."""
    return _size_needed(fitted, "params_needed", value, data, "parameters")


def best_for_budget(
    fitted: FittedLaw, budget: float, flops_per_work: float, unit: str
) -> Answer:
    """The split of a compute budget into model and data that errs least.

    Args:
        fitted: the law and its draws.
        budget: training FLOPs of one run.
        flops_per_work: FLOPs = flops_per_work * m * n.
        unit: what data counts.

    Returns:
        The error reached, with the split in `details` (params, data).
    """
    _check_asked(budget=budget, flops_per_work=flops_per_work)
    log_work = math.log(budget / flops_per_work / fitted.params_unit / fitted.data_unit)
    x = _split(fitted, log_work)
    y = log_work - x
    log_values = _at(fitted, x, y)
    means = fitted.spread(log_values[1:], log_values[:1])
    values = np.exp(np.concatenate([log_values[:1], means]))
    details = {
        "params": _interval(fitted.params_unit * np.exp(x)),
        "data": _interval(fitted.data_unit * np.exp(y)),
    }
    value, lower, upper = _interval(values)
    edge = bool(abs(x[0]) > _REACH - 1 or abs(y[0]) > _REACH - 1)
    why = (
        f"with {budget:.3g} FLOPs the error is least at {details['params'][0]:.3g} "
        f"parameters and {details['data'][0]:.3g} {unit}"
    )
    if edge:
        why += "; the law knows no optimum, one of the two should grow without end"
    return Answer(
        "best_for_budget",
        {"budget": budget, "flops_per_params_and_data": flops_per_work},
        value,
        lower,
        upper,
        "error",
        not edge,
        why,
        details,
    )


def cheapest_for_target(
    fitted: FittedLaw, value: float, flops_per_work: float, unit: str
) -> Answer:
    """The least compute that reaches `value` on average, and its split."""
    _check_asked(value=value, flops_per_work=flops_per_work)
    wanted = _wanted(fitted, value)
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    log_work = _run(_cheapest, fitted, theta, wanted)
    reachable = np.isfinite(log_work)
    log_work = np.where(reachable, log_work, 0.0)
    x = _run(_best_split, fitted, theta, log_work)
    y = log_work - x
    unit_work = fitted.params_unit * fitted.data_unit * flops_per_work
    flops = np.where(reachable, unit_work * np.exp(log_work), math.inf)
    params = np.where(reachable, fitted.params_unit * np.exp(x), math.inf)
    data = np.where(reachable, fitted.data_unit * np.exp(y), math.inf)
    center, lower, upper = _interval(flops)
    details = {"params": _interval(params), "data": _interval(data)}
    if reachable[0]:
        why = (
            f"{value:g} costs least at {details['params'][0]:.3g} parameters and "
            f"{details['data'][0]:.3g} {unit}"
        )
    else:
        why = _limit_sentence(fitted, value, "however large model and data are")
    return Answer(
        "cheapest_for_target",
        {"value": value, "flops_per_params_and_data": flops_per_work},
        center,
        lower,
        upper,
        "FLOPs",
        bool(reachable[0]),
        why,
        details,
    )


def _size_needed(
    fitted: FittedLaw, question: str, value: float, other: float, unit: str
) -> Answer:
    """Inverts the law along one axis, the other size given."""
    for_data = question == "data_needed"
    other_name = "params" if for_data else "data"
    _check_asked(value=value, **{other_name: other})
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    other_unit = fitted.params_unit if for_data else fitted.data_unit
    place = np.full(len(theta), math.log(other / other_unit))
    solve = _needed_data if for_data else _needed_params
    log_size = _run(solve, fitted, theta, _wanted(fitted, value), place)
    sizes = np.exp(log_size) * (fitted.data_unit if for_data else fitted.params_unit)
    center, lower, upper = _interval(sizes)
    held = f"{other:.3g} {'parameters' if for_data else 'of data'}"
    if math.isfinite(center):
        why = f"{value:g} is reached at {center:.3g} {unit} with {held}"
    else:
        grown = "data" if for_data else "parameters"
        why = _limit_sentence(
            fitted, value, f"with {held}, however many {grown}", other, for_data
        )
    if math.isfinite(center) and not math.isfinite(upper):
        why += "; at the pessimistic end it is out of reach"
    return Answer(
        question,
        {"value": value, other_name: other},
        center,
        lower,
        upper,
        unit,
        math.isfinite(center),
        why,
    )


def _limit_sentence(
    fitted: FittedLaw,
    value: float,
    held: str,
    other: float = math.inf,
    for_data: bool = True,
) -> str:
    far = math.exp(_REACH)
    other = min(other, far * (fitted.params_unit if for_data else fitted.data_unit))
    params = other if for_data else far * fitted.params_unit
    data = far * fitted.data_unit if for_data else other
    limit = math.exp(float(fitted.log_value(params, data)))
    return f"{value:g} is out of reach {held}: the law ends at {limit:.4g}"


def _check_asked(**asked: float) -> None:
    for name, number in asked.items():
        if not (math.isfinite(number) and number > 0):
            raise UserError(f"{name}={number:g}: must be a positive number")


def _wanted(fitted: FittedLaw, value: float) -> np.ndarray:
    """ln of the target for the best fit and each draw [1 + draws].

    A draw's own misfit moves its target the other way, so that the interval of a size
    holds what the law does not know as well.
    """
    log_value = np.full(1 + len(fitted.draws), math.log(value))
    wander = np.random.default_rng(fitted.seed).standard_normal(len(fitted.draws))
    log_value[1:] -= fitted.growth * fitted.misfit * wander
    return log_value


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Best fit and the two ends of the interval, from [1 + draws] values."""
    center = float(values[0])
    if len(values) == 1:  # no draws: the interval is not known
        return center, math.nan, math.nan
    # No interpolation: between a number and infinity there is nothing to average.
    lower = np.quantile(values[1:], _TAILS[0], method="lower")
    upper = np.quantile(values[1:], _TAILS[1], method="higher")
    return center, min(float(lower), center), max(float(upper), center)


def _at(fitted: FittedLaw, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """ln of the law for the best fit and each draw, each at its own place."""
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    return _run(_value_at, fitted, theta, x, y)


def _split(fitted: FittedLaw, log_work: float) -> np.ndarray:
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    return _run(_best_split, fitted, theta, np.full(len(theta), log_work))


def _run(
    solve: Callable[..., jax.Array],
    fitted: FittedLaw,
    theta: np.ndarray,
    *numbers: np.ndarray,
) -> np.ndarray:
    """Vectorises `solve` over the best fit and the draws, compiled once a law."""
    count = len(theta)
    index = np.minimum(np.arange(solver.bucket(count)), count - 1)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        padded = [np.asarray(number, np.float64)[index] for number in numbers]
        return np.asarray(
            _vectorised(solve, fitted.law, fitted.scale, theta[index], *padded)
        )[:count]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _vectorised(
    solve: Callable[..., jax.Array],
    law: Law,
    scale: Scale,
    theta: Array,
    *numbers: Array,
) -> jax.Array:
    return jax.vmap(functools.partial(solve, law, scale))(theta, *numbers)


def _bisect(
    is_above: Callable[[jax.Array], jax.Array], low: Array, high: Array
) -> jax.Array:
    """Where `is_above` turns true on [low, high]; true at `high` is assumed."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        above = is_above(middle)
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    ends = jnp.asarray(low, jnp.float64), jnp.asarray(high, jnp.float64)
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, ends)
    return (low + high) / 2


def _value_at(law: Law, scale: Scale, theta: Array, x: Array, y: Array) -> jax.Array:
    return law.log_value(theta, x, y, scale)


def _needed_data(
    law: Law, scale: Scale, theta: Array, wanted: Array, x: Array
) -> jax.Array:
    """ln(n / N) at which the law falls to `wanted`; infinite if it never does."""

    def reached(y: Array) -> jax.Array:
        return law.log_value(theta, x, y, scale) <= wanted

    found = _bisect(reached, -_REACH, _REACH)
    return jnp.where(reached(jnp.asarray(_REACH)), found, jnp.inf)


def _needed_params(
    law: Law, scale: Scale, theta: Array, wanted: Array, y: Array
) -> jax.Array:
    """ln(m / M) at which the law falls to `wanted`; infinite if it never does."""

    def reached(x: Array) -> jax.Array:
        return law.log_value(theta, x, y, scale) <= wanted

    found = _bisect(reached, -_REACH, _REACH)
    return jnp.where(reached(jnp.asarray(_REACH)), found, jnp.inf)


def _best_split(law: Law, scale: Scale, theta: Array, log_work: Array) -> jax.Array:
    """ln(m / M) that minimises the law at m n = work.

    Along that line the law falls while model is scarcer than data, then rises: the
    optimum is where the two slopes meet, in closed form (b beta / alpha) n^alpha =
    m^beta for Rosenfeld (paper.md 6.1).
    """

    def data_is_scarcer(x: jax.Array) -> jax.Array:
        slopes = jax.grad(
            lambda sizes: law.log_value(theta, sizes[0], sizes[1], scale)
        )(jnp.stack([x, log_work - x]))
        return slopes[0] > slopes[1]  # both negative

    low = jnp.maximum(-_REACH, log_work - _REACH)
    high = jnp.minimum(_REACH, log_work + _REACH)
    return _bisect(data_is_scarcer, low, high)


def _cheapest(law: Law, scale: Scale, theta: Array, wanted: Array) -> jax.Array:
    """ln of the least m n / (M N) that reaches `wanted`; infinite if none does."""

    def reached(log_work: jax.Array) -> jax.Array:
        x = _best_split(law, scale, theta, log_work)
        return law.log_value(theta, x, log_work - x, scale) <= wanted

    found = _bisect(reached, -_REACH, _REACH)
    return jnp.where(reached(jnp.asarray(_REACH)), found, jnp.inf)

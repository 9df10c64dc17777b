"""The questions a fitted law is asked, each answered by exact inversion.

The law is inverted (`inversion`) for the best fit and for every draw, which gives the
interval of the answer. "Out of reach" is an answer.
"""

import dataclasses
import math

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import inversion
from scalepred.fitting.cost import Cost
from scalepred.fitting.inversion import REACH
from scalepred.fitting.predict import LEVEL, FittedLaw
from scalepred.metrics import is_bounded
from scalepred.table import numbers

_NOT_KNOWN = "with a probability that is not known without resamples"
# Sizes that differ by less than this share are the same one, rounded.
SAME_SIZE = 0.05
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


# How what was asked is written, by its name.
_WRITE = {
    "params": numbers.write,
    "data": numbers.write,
    "max_data": numbers.write,
    "budget": numbers.write_flops,
}


@dataclasses.dataclass(frozen=True, repr=False)
class Answer:
    """One question and its answer.

    Attributes:
        question: data_needed | params_needed | best_for_budget | budget_suffices |
            cheapest_for_target.
        asked: what it was asked with, by name.
        value: the answer in `unit`; infinite where out of reach.
        lower: lower end of the 90 % interval.
        upper: upper end; infinite if out of reach is within the interval.
        unit: of the three numbers.
        reachable: whether the best fit says it can be had at all.
        why: one sentence.
        details: further numbers by name, each (value, lower, upper): params and data
            of a split; floor, which the law never gets below, where it is above what
            is wanted.
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

    def __repr__(self) -> str:
        asked = ", ".join(
            f"{name}={_WRITE.get(name, numbers.write_value)(number)}"
            for name, number in self.asked.items()
            if math.isfinite(number)
        )
        ends = f" (90% interval {self._say(self.lower)} to {self._say(self.upper)})"
        if self.lower == self.upper or math.isnan(self.lower):
            ends = ""
        return (
            f"Answer({self.question}({asked}):\n"
            f"    {self._say(self.value)} {self.unit}{ends}\n    {self.why})"
        )

    def _say(self, number: float) -> str:
        if not math.isfinite(number):
            return "n/a" if math.isnan(number) else "never"
        if self.unit == "FLOPs":
            return numbers.write_flops(number)
        is_size = self.question in ("data_needed", "params_needed")
        return (numbers.write if is_size else numbers.write_value)(number)


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
    fitted: FittedLaw,
    budget: float,
    cost: Cost,
    unit: str,
    metric: str = "error",
    max_data: float = math.inf,
) -> Answer:
    """The split of a compute budget into model and data that errs least.

    Args:
        fitted: the law and its draws.
        budget: training FLOPs of one run.
        cost: what FLOPs buy.
        unit: what data counts.
        metric: what the law predicts.
        max_data: no more data than this exist; needed where data cost no FLOPs.

    Returns:
        The error reached, with the split in `details` (params, data).

    Raises:
        UserError: if a number is not positive, or data are free and unlimited.
    """
    _check_axes(fitted, "params", "data")
    _check_asked(budget=budget)
    _check_free_data(cost, max_data)
    log_budget = np.full(1 + len(fitted.draws), math.log(budget))
    x, y = inversion.split_costs(fitted, log_budget, cost, max_data)
    log_values = inversion.log_value_at(fitted, x, y)
    params, data = fitted.params_unit * np.exp(x), fitted.data_unit * np.exp(y)
    means = fitted.spread(log_values[1:], log_values[:1], params[1:], data[1:])
    with np.errstate(over="ignore"):  # no upper end, where draws say nothing
        values = np.exp(np.concatenate([log_values[:1], means]))
    details = {"params": _interval(params), "data": _interval(data)}
    epochs = _epochs_asked(fitted)
    value, lower, upper = _interval(values)
    edge = bool(abs(x[0]) > REACH - 1 or abs(y[0]) > REACH - 1)
    why = (
        f"with {numbers.write_flops(budget)} FLOPs the {metric} is least at "
        + _split(details["params"][0], details["data"][0], unit)
        + _seen(epochs)
    )
    if cost.data_power == 0:
        why += ": data cost no FLOPs here, so all of them are used"
    elif details["data"][0] >= max_data * (1 - 1e-9):
        why += ": more data would help, but there are no more"
    if edge:
        why += "; the law knows no optimum, one of the two should grow without end"
    return Answer(
        "best_for_budget",
        {"budget": budget, **cost._asdict(), "max_data": max_data, **epochs},
        value,
        lower,
        upper,
        metric,
        not edge,
        why,
        details,
    )


def budget_suffices(
    fitted: FittedLaw,
    value: float,
    budget: float,
    cost: Cost,
    unit: str,
    metric: str = "error",
    max_data: float = math.inf,
) -> Answer:
    """How likely a compute budget reaches `value` on average over runs.

    The split is the best fit's, under every draw: a person trains one model, before
    knowing which draw is right. It is that of `best_for_budget`.

    Args:
        fitted: the law and its draws.
        value: wanted error or loss, above 0.
        budget: training FLOPs of one run.
        cost: what FLOPs buy.
        unit: what data counts.
        metric: what the law predicts.
        max_data: no more data than this exist; needed where data cost no FLOPs.

    Returns:
        A probability, 0 to 1, which has no interval: lower and upper equal it. NaN
        without draws. `details` hold the split (params, data), the value expected there
        (expected) and the probability that a single run reaches `value` (one_run).

    Raises:
        UserError: if a number is not positive, or data are free and unlimited.
    """
    _check_asked(value=value)
    best = best_for_budget(fitted, budget, cost, unit, metric, max_data)
    params, data = best.details["params"][0], best.details["data"][0]
    on_average = float(fitted.probability(value, params, data, math.inf))
    one_run = float(fitted.probability(value, params, data, 1))
    is_known = not math.isnan(on_average)
    says = f"with probability {on_average:.2f}" if is_known else _NOT_KNOWN
    why = (
        f"with {numbers.write_flops(budget)} FLOPs the {metric} is "
        f"{_say_value(value, metric)} or less {says}, best at "
        f"{_split(params, data, unit)}{_seen(_epochs_asked(fitted))}"
    )
    mean = fitted.predict(params, data)
    return Answer(
        "budget_suffices",
        {"value": value, **best.asked},
        on_average,
        on_average,
        on_average,
        "probability",
        best.value <= value,
        why,
        {
            "params": (params, params, params),
            "data": (data, data, data),
            "expected": (best.value, float(mean.mean_lower), float(mean.mean_upper)),
            "one_run": (one_run, one_run, one_run),
        },
    )


def cheapest_for_target(
    fitted: FittedLaw, value: float, cost: Cost, unit: str, max_data: float = math.inf
) -> Answer:
    """The least compute that reaches `value` on average, and its split."""
    _check_axes(fitted, "params", "data")
    _check_asked(value=value)
    _check_free_data(cost, max_data)
    wanted = _wanted(fitted, value)
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    if cost.data_power == 0:
        log_data = np.full(len(theta), math.log(max_data / fitted.data_unit))
        x = inversion.solve_each(
            inversion.needed_params, fitted, theta, wanted, log_data
        )
        log_cost = np.log(cost.flops(fitted.params_unit * np.exp(x), max_data))
    else:
        log_cost = inversion.least_costs(fitted, wanted, cost, max_data)
    reachable = np.isfinite(log_cost)
    x, y = inversion.split_costs(
        fitted, np.where(reachable, log_cost, 0.0), cost, max_data
    )
    flops = np.where(reachable, np.exp(np.minimum(log_cost, 700.0)), math.inf)
    params = np.where(reachable, fitted.params_unit * np.exp(x), math.inf)
    data = np.where(reachable, fitted.data_unit * np.exp(y), math.inf)
    center, lower, upper = _interval(flops)
    details = {"params": _interval(params), "data": _interval(data)}
    if not reachable[0]:
        details["floor"] = _floor(fitted, max_data, for_data=False)
    epochs = _epochs_asked(fitted)
    if reachable[0]:
        split = _split(details["params"][0], details["data"][0], unit)
        why = f"{numbers.write_value(value)} costs least at {split}{_seen(epochs)}"
    elif math.isfinite(max_data):
        held = (
            f"with {numbers.write(max_data)} {unit}{_seen(epochs)}, however large the "
            "model"
        )
        why = _limit_sentence(value, held, details["floor"])
    else:
        held = f"however large model and data are{_seen(epochs)}"
        why = _limit_sentence(value, held, details["floor"])
    return Answer(
        "cheapest_for_target",
        {"value": value, **cost._asdict(), "max_data": max_data, **epochs},
        center,
        lower,
        upper,
        "FLOPs",
        bool(reachable[0]),
        why,
        details,
    )


def _check_free_data(cost: Cost, max_data: float) -> None:
    _check_asked(factor=cost.factor, params_power=cost.params_power)
    if not max_data > 0:
        raise UserError(f"max_data={max_data:g}: must be a positive number")
    if cost.data_power == 0 and not math.isfinite(max_data):
        raise UserError(
            "max_data: needed, because FLOPs do not depend on data here (a fixed "
            "number of steps); say how much data there is"
        )


def _check_axes(fitted: FittedLaw, *asked: str) -> None:
    for axis in asked:
        if axis not in fitted.law.axes:
            raise UserError(
                f"law={fitted.law.name}: knows nothing of {axis}; this question needs "
                "points that vary in it and a law of both sizes"
            )


def _size_needed(
    fitted: FittedLaw, question: str, value: float, other: float, unit: str
) -> Answer:
    """Inverts the law along one axis, the other size given."""
    for_data = question == "data_needed"
    other_name = "params" if for_data else "data"
    _check_axes(fitted, "data" if for_data else "params")
    _check_asked(value=value, **{other_name: other})
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    other_unit = fitted.params_unit if for_data else fitted.data_unit
    is_far = abs(math.log(other / other_unit)) > SAME_SIZE
    if other_name not in fitted.law.axes and is_far:
        raise UserError(
            f"{other_name}={numbers.write_size(other)}: law={fitted.law.name} speaks "
            f"of {other_name}={numbers.write_size(other_unit)} only; ask with that"
        )
    place = np.full(len(theta), math.log(other / other_unit))
    solve = inversion.needed_data if for_data else inversion.needed_params
    log_size = inversion.solve_each(solve, fitted, theta, _wanted(fitted, value), place)
    sizes = np.exp(log_size) * (fitted.data_unit if for_data else fitted.params_unit)
    center, lower, upper = _interval(sizes)
    held = f"{numbers.write(other)} {'parameters' if for_data else 'of data'}"
    epochs, details = _epochs_asked(fitted), {}
    if math.isfinite(center):
        reached = f"{numbers.write_value(value)} is reached at"
        why = f"{reached} {numbers.write(center)} {unit} with {held}"
        if epochs:
            why += f", data{_seen(epochs)}"
    else:
        grown = "data" if for_data else "parameters"
        held = f"with {held}, however many {grown}"
        if epochs:
            held += f", data{_seen(epochs)}"
        details["floor"] = _floor(fitted, other, for_data)
        why = _limit_sentence(value, held, details["floor"])
    if center < 1:
        why += "; less than one, so any will do"
    if math.isfinite(center) and not math.isfinite(upper):
        why += "; at the pessimistic end it is out of reach"
    return Answer(
        question,
        {"value": value, other_name: other, **epochs},
        center,
        lower,
        upper,
        unit,
        math.isfinite(center),
        why,
        details,
    )


def _floor(
    fitted: FittedLaw, other: float, for_data: bool
) -> tuple[float, float, float]:
    """Where the law ends as one size grows, and its interval; see `_wanted`.

    Args:
        fitted: the law and its draws.
        other: the size that is held; infinite: it grows, too.
        for_data: data grow, and the model size is held.
    """
    far = math.exp(REACH)
    other = min(other, far * (fitted.params_unit if for_data else fitted.data_unit))
    params = other if for_data else far * fitted.params_unit
    data = far * fitted.data_unit if for_data else other
    shape = (1 + len(fitted.draws),)
    x = np.full(shape, math.log(params / fitted.params_unit))
    y = np.full(shape, math.log(data / fitted.data_unit))
    return _interval(np.exp(inversion.log_value_at(fitted, x, y) - _wander(fitted)))


def _limit_sentence(value: float, held: str, floor: tuple[float, float, float]) -> str:
    wanted, end = numbers.write_value(value), numbers.write_value(floor[0])
    return f"{wanted} is out of reach {held}: the law ends at {end}"


def _say_value(value: float, metric: str) -> str:
    if is_bounded(metric):
        return f"{numbers.write_value(100 * value)}%"
    return numbers.write_value(value)


def _split(params: float, data: float, unit: str) -> str:
    return f"{numbers.write(params)} parameters and {numbers.write(data)} {unit}"


def _epochs_asked(fitted: FittedLaw) -> dict[str, float]:
    """What the law was asked with; nothing where it knows nothing of epochs."""
    return {} if fitted.epochs is None else {"epochs": fitted.epochs}


def _seen(epochs: dict[str, float]) -> str:
    if not epochs:
        return ""
    times = epochs["epochs"]
    return " seen once" if times == 1 else f" seen {numbers.write(times)} times"


def _check_asked(**asked: float) -> None:
    for name, number in asked.items():
        if not (math.isfinite(number) and number > 0):
            raise UserError(f"{name}={number:g}: must be a positive number")


def _wanted(fitted: FittedLaw, value: float) -> np.ndarray:
    """ln of the target for the best fit and each draw [1 + draws].

    A draw's own misfit moves its target the other way, so that the interval of a size
    holds what the law does not know as well.
    """
    return math.log(value) + _wander(fitted)


def _wander(fitted: FittedLaw) -> np.ndarray:
    """What the misfit of each draw moves its target by, in ln [1 + draws]."""
    moved = np.zeros(1 + len(fitted.draws))
    moved[1:] = -fitted.growth * fitted.misfit * fitted.wander
    return moved


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Best fit and the two ends of the interval, from [1 + draws] values."""
    center = float(values[0])
    if len(values) == 1:  # no draws: the interval is not known
        return center, math.nan, math.nan
    # No interpolation: between a number and infinity there is nothing to average.
    lower = np.quantile(values[1:], _TAILS[0], method="lower")
    upper = np.quantile(values[1:], _TAILS[1], method="higher")
    return center, min(float(lower), center), max(float(upper), center)

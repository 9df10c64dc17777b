"""Conditions on what a fit says, for scripts: `--gate`.

A gate is passed where one run reaches its value with at least its probability, at given
sizes or at the best ones for a budget.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scalepred.config import UserError
from scalepred.fitting.fit import Fit
from scalepred.table import numbers as table_numbers
from scalepred.table.points import LARGEST, MOST_FLOPS, SMALLEST


class Gate(NamedTuple):
    """A condition on what the fit says, for scripts.

    Attributes:
        text: as it was given.
        value: that must be reached.
        probability: with which, at least.
        params: m; NaN where a budget is given.
        data: n; likewise.
        epochs: passes over the data; None: as the law takes it.
        budget: training FLOPs of one run, well split; NaN where sizes are given.
    """

    text: str
    value: float
    probability: float
    params: float
    data: float
    epochs: float | None
    budget: float


def parse_gate(text: str) -> Gate:
    """value<=0.05,params=1e9,data=2e10[,epochs=4],probability=0.8, or with budget=.

    Raises:
        UserError: it is written otherwise.
    """
    numbers: dict[str, float] = {}
    for part in text.split(","):
        sign = "<=" if "<=" in part else "="
        name, _, number = part.partition(sign)
        name = name.strip()
        if (name == "value") != (sign == "<=") or name in numbers:
            numbers = {}
            break
        try:
            numbers[name] = table_numbers.parse(number)
        except ValueError:
            numbers = {}
            break
    sizes = {"params", "data"} if "budget" not in numbers else {"budget"}
    needed = {"value", "probability", *sizes}
    good = (
        needed <= set(numbers) <= needed | {"epochs"}
        and all(math.isfinite(number) and number > 0 for number in numbers.values())
        and numbers["probability"] < 1
        and numbers.get("epochs", 1.0) >= 1
    )
    if not good:
        raise UserError(
            f"--gate={text}: must look like "
            "value<=0.05,params=1e9,data=2e10,probability=0.8 or "
            "value<=0.05,budget=1e21,probability=0.8, with positive numbers and a "
            "probability below 1"
        )
    for name, number in numbers.items():
        largest = MOST_FLOPS if name == "budget" else LARGEST
        if not SMALLEST <= number <= largest:
            raise UserError(
                f"--gate={text}: {name} must be between {SMALLEST:g} and {largest:g}"
            )
    return Gate(
        text,
        numbers["value"],
        numbers["probability"],
        numbers.get("params", math.nan),
        numbers.get("data", math.nan),
        numbers.get("epochs"),
        numbers.get("budget", math.nan),
    )


class Verdict(NamedTuple):
    """What the fit says of a gate."""

    gate: Gate
    probability: float
    passed: bool


def judge(fit: Fit, gates: Sequence[Gate]) -> list[Verdict]:
    """Whether one run passes each gate; a probability that is not known does not pass.

    Where data cost no FLOPs a budget has no more of them than were fitted.
    """
    found = []
    for gate in gates:
        if math.isnan(gate.budget):
            chance = float(
                fit.probability(gate.value, gate.params, gate.data, epochs=gate.epochs)
            )
        else:
            is_free = fit.cost.data_power == 0
            limit = float(fit.surface.data.max()) if is_free else math.inf
            answer = fit.budget_suffices(gate.value, gate.budget, limit, gate.epochs)
            chance = answer.details["one_run"][0]
        found.append(Verdict(gate, chance, chance >= gate.probability))
    return found

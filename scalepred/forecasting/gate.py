"""Conditions on what fits say, for scripts: `--gate`.

A gate of a fit is passed where one run reaches its value with at least its probability,
at given sizes or at the best ones for a budget. A gate of arms is passed where one of
them is better than another with at least its probability there.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scalepred.config import UserError
from scalepred.fitting.comparison import compare
from scalepred.fitting.fit import Fit
from scalepred.table import numbers as table_numbers
from scalepred.table.points import LARGEST, MOST_FLOPS, SMALLEST
from scalepred.table.surface import Surface


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
    _check_sizes(text, numbers)
    return Gate(
        text,
        numbers["value"],
        numbers["probability"],
        numbers.get("params", math.nan),
        numbers.get("data", math.nan),
        numbers.get("epochs"),
        numbers.get("budget", math.nan),
    )


def _check_sizes(text: str, numbers: Mapping[str, float]) -> None:
    for name, number in numbers.items():
        largest = MOST_FLOPS if name == "budget" else LARGEST
        if not SMALLEST <= number <= largest:
            raise UserError(
                f"--gate={text}: {name} must be between "
                f"{table_numbers.write_size(SMALLEST)} and "
                f"{table_numbers.write_size(largest)}"
            )


class ArmGate(NamedTuple):
    """A condition on what a comparison says, for scripts.

    Attributes:
        text: as it was given.
        arm: that must be better.
        than: the other one.
        probability: with which, at least.
        params: m; NaN where a budget is given.
        data: n; likewise.
        budget: training FLOPs of one run, well split; NaN where sizes are given.
    """

    text: str
    arm: str
    than: str
    probability: float
    params: float
    data: float
    budget: float


_ARMS = re.compile(r"arm=(?P<arm>.+) better than (?P<than>.+) at (?P<where>.+)")


def is_of_arms(text: str) -> bool:
    """Whether a gate asks a comparison, and not a fit."""
    return text.strip().startswith("arm=")


def parse_arm_gate(text: str) -> ArmGate:
    """arm=B better than A at params=7e10,data=1.4e12 probability=0.9, or at budget=.

    Raises:
        UserError: it is written otherwise.
    """
    found = _ARMS.fullmatch(text.strip())
    numbers: dict[str, float] = {}
    for part in re.split(r"[,\s]+", found["where"]) if found else ():
        name, _, number = part.partition("=")
        try:
            numbers[name] = table_numbers.parse(number)
        except ValueError:
            numbers = {}
            break
    sizes = {"budget"} if "budget" in numbers else set(numbers) & {"params", "data"}
    good = (
        bool(sizes)
        and set(numbers) == sizes | {"probability"}
        and all(math.isfinite(number) and number > 0 for number in numbers.values())
        and numbers["probability"] < 1
    )
    if found is None or not good:
        raise UserError(
            f"--gate={text}: must look like arm=B better than A at "
            "params=7e10,data=1.4e12 probability=0.9, or at budget=1e21 "
            "probability=0.9, with positive numbers and a probability below 1"
        )
    _check_sizes(text, numbers)
    return ArmGate(
        text,
        found["arm"].strip(),
        found["than"].strip(),
        numbers["probability"],
        numbers.get("params", math.nan),
        numbers.get("data", math.nan),
        numbers.get("budget", math.nan),
    )


def judge_arms(
    fits: Mapping[str, Fit], gates: Sequence[ArmGate], seed: int = 0
) -> list["Verdict"]:
    """Whether each gate of arms is passed; an unknown probability does not pass.

    Args:
        fits: of the arms, by name.
        gates: that are asked.
        seed: of draws.

    Raises:
        UserError: there is no such arm, or two cannot be compared.
    """
    check_arms(fits, gates)
    found = []
    for gate in gates:
        pair = {name: fits[name] for name in (gate.than, gate.arm)}
        for fit in pair.values():
            check_costs(gate, fit.surface)
        if math.isnan(gate.budget):
            targets = [(gate.params, gate.data)]
            told = compare(pair, targets=targets, seed=seed).pairs[0].targets[0]
        else:
            told = compare(pair, budgets=[gate.budget], seed=seed).pairs[0].places[0]
        found.append(Verdict(gate, told.better, told.better >= gate.probability))
    return found


def check_costs(gate: Gate | ArmGate, points: Surface) -> None:
    """Refuses a budget where nobody knows what runs cost.

    Raises:
        UserError: names the gate and what it lacks.
    """
    if not math.isnan(gate.budget) and points.why_no_costs:
        raise UserError(
            f"--gate={gate.text}: {points.why_no_costs}; name sizes in place of a "
            "budget, or give a column of FLOPs"
        )


def check_arms(arms: Mapping[str, object], gates: Sequence[ArmGate]) -> None:
    """Refuses gates that name no two of the arms.

    Raises:
        UserError: names gate, arm and those that are there.
    """
    for gate in gates:
        for name in (gate.arm, gate.than):
            if name not in arms:
                raise UserError(
                    f"--gate={gate.text}: there is no {name!r} (there: "
                    f"{', '.join(arms)})"
                )
        if gate.arm == gate.than:
            raise UserError(f"--gate={gate.text}: names one arm twice; name two")


class Verdict(NamedTuple):
    """What the fit, or the comparison, says of a gate."""

    gate: Gate | ArmGate
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

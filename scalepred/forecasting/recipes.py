"""Runs that follow the laws of a sweep: `training.recipe`.

A law of recipe.json (`scalepred.commands.recipe`) becomes a number and a rule of the
config. So every cell has its rate as a number before anything is trained, as by a rule
that somebody wrote, and the cell's id rests on that number alone.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from scalepred.config import Experiment, Training, UserError
from scalepred.grid import Cell, read_programs
from scalepred.recipe import KIND
from scalepred.report import format
from scalepred.report.recipe_words import setting
from scalepred.runtime.files import open_path

_KNOBS = ("learning_rate", "weight_decay", "batch_size")
# Sizes that a rule knows before a run's batch and steps are found.
_AXES = ("params", "data")
# A size is beyond the sweep from this factor on.
_BEYOND = 1.05


class Law(NamedTuple):
    """A law of recipe.json, as far as a config needs it."""

    knob: str  # learning_rate, weight_decay or batch_size
    base: float  # the best in the middle of the sweep
    rule: str  # arithmetic of params and data that multiplies it
    formula: str  # both, for people
    ranges: dict[str, tuple[float, float]]  # sizes of the sweep, by name
    num_sizes: int
    num_edges: int  # sizes whose best is the least or the largest tried
    data_unit: str
    # Names of families, optimizers and schedules of the sweep; none where its rows do
    # not say, as in a table of one's own.
    trained: dict[str, list[str]]

    @property
    def name(self) -> str:
        """For people: learning rate, weight decay, batch size."""
        return self.knob.replace("_", " ")


def follow(experiment: Experiment) -> Experiment:
    """The study with the numbers and rules that `training.recipe` says.

    Raises:
        UserError: there is no such recipe, it cannot be followed, or the config says
            the same by itself.
    """
    training = experiment.training
    if not training.recipe:
        return experiment
    changed: dict[str, Any] = {}
    for law in _read(training.recipe):
        _check(experiment, law)
        base, rule = law.base, law.rule
        if law.knob == "batch_size":  # whole in the config, rounded once by the rule
            base = max(1, round(law.base))
            rule = f"{law.base:g} / {base} * {rule}"
        changed |= {law.knob: base, f"{law.knob}_rule": rule}
    return dataclasses.replace(
        experiment, training=dataclasses.replace(training, **changed)
    )


def describe(
    training: Training,
    cells: Sequence[Cell],
    sizes: Sequence[tuple[float, float]],
    data_unit: str,
) -> tuple[list[str], list[str]]:
    """What the runs of a study take from its recipe, and what stands against it.

    Args:
        training: of a study that follows a recipe, or none.
        cells: of the study.
        sizes: parameters and data of each cell.
        data_unit: of the study's data.

    Returns:
        Sentences, and sentences of warning.

    Raises:
        UserError: the recipe counts data in another unit.
    """
    said, warned = [], []
    for law in _read(training.recipe) if training.recipe else ():
        if "data" in law.ranges and law.data_unit != data_unit:
            raise UserError(
                f"training.recipe={training.recipe}: its sweep counts {law.data_unit}, "
                f"this study's data are {data_unit}; take a sweep of such data"
            )
        numbers = [getattr(cell, law.knob) for cell in cells]
        span = format.span(min(numbers), max(numbers), setting) or setting(numbers[0])
        said.append(
            f"{law.formula}, by the law of {training.recipe} ({law.num_sizes} sizes): "
            f"{span} in the {len(cells)} runs of this study."
        )
        warned += _warn(law, sizes) + _warn_of_others(law, cells)
    return said, warned


def _warn(law: Law, sizes: Sequence[tuple[float, float]]) -> list[str]:
    """Runs beyond the sweep, and sizes of the sweep without a bottom."""
    found, beyond, texts = [], set(), []
    for name, (low, high) in law.ranges.items():
        own = [size[_AXES.index(name)] for size in sizes]
        noun = "parameters" if name == "params" else law.data_unit
        out = {
            number
            for number, one in enumerate(own)
            if one > _BEYOND * high or one < low / _BEYOND
        }
        if out:
            beyond |= out
            here = format.span(min(own), max(own)) or format.count(own[0])
            there = format.span(low, high) or format.count(low)
            texts.append(f"{here} {noun}, where the sweep has {there}")
    if beyond:
        found.append(
            f"{len(beyond)} of the {len(sizes)} runs lie beyond the sweep that gave "
            f"the law of the {law.name}: {'; '.join(texts)}."
        )
    if law.num_edges:
        found.append(
            f"The best {law.name} is at the edge of what was tried at {law.num_edges} "
            f"of the {law.num_sizes} sizes of the sweep."
        )
    return found


def _warn_of_others(law: Law, cells: Sequence[Cell]) -> list[str]:
    """That the sweep trained something else: its best settings may be others."""
    own = read_programs({str(cell.program_key) for cell in cells})
    others = [
        f"{kind} {', '.join(new)}, where the sweep has {', '.join(known)}"
        for kind, known in law.trained.items()
        if (new := [name for name in own.get(kind, ()) if name not in known])
    ]
    if not others:
        return []
    return [
        f"The law of the {law.name} comes from other training than this study's: "
        f"{'; '.join(others)}. The best there need not be the best here."
    ]


def _check(experiment: Experiment, law: Law) -> None:
    """Refuses a law that cannot be followed, or need not be."""
    asked = f"training.recipe={experiment.training.recipe}"
    rule = f"{law.knob}_rule"
    if getattr(experiment.training, rule):
        raise UserError(
            f"{asked}: has a law of the {law.name}, and training.{rule} is another "
            "rule of it; leave one of them out"
        )
    if getattr(experiment.grid, f"{law.knob}s", ()):
        raise UserError(
            f"{asked}: has a law of the {law.name}, and grid.{law.knob}s sweeps it; "
            "leave one of them out"
        )
    more = [name for name in law.ranges if name not in _AXES]
    if more:
        raise UserError(
            f"{asked}: its law of the {law.name} asks for {', '.join(more)}, which a "
            "rule does not know beforehand; fit a sweep that varies parameters and "
            "data alone"
        )
    if 2 * law.num_edges > law.num_sizes:
        raise UserError(
            f"{asked}: the best {law.name} is at the edge of what was tried at "
            f"{law.num_edges} of the {law.num_sizes} sizes, so where it lies was not "
            "seen; widen the sweep"
        )


def _read(text: str) -> list[Law]:
    """The laws of a recipe.json, or of the folder that it is in."""
    asked = f"training.recipe={text}"
    path = open_path("training.recipe", text)
    if path.is_dir():
        path = path / "recipe.json"
    remedy = "give what `python -m scalepred.commands.recipe` wrote, or its folder"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{asked}: there is no {path}; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{asked}: cannot be read ({error}); {remedy}") from None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise UserError(f"{asked}: is no recipe; {remedy}")
    try:
        return [_parse(knob, one) for knob, one in record["laws"].items()]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{asked}: is no whole recipe, or of an older version; run the command of "
            "the recipe again"
        ) from None


def _parse(knob: str, one: dict[str, Any]) -> Law:
    sizes = [bottom["sizes"] for bottom in one["bottoms"]]
    base = float(one["rule"]["base"])
    if knob not in _KNOBS or not 0 < base < math.inf:
        raise ValueError(knob)
    return Law(
        knob,
        base,
        str(one["rule"]["factor"]) or "1",
        str(one["formula"]),
        {
            name: (min(s[name] for s in sizes), max(s[name] for s in sizes))
            for name, exponent in one["exponents"].items()
            if exponent["is_seen"]
        },
        len(sizes),
        len({json.dumps(edge["sizes"]) for edge in one["edges"]}),
        str(one["data_unit"]),
        {kind: list(map(str, names)) for kind, names in one.get("trained", {}).items()},
    )

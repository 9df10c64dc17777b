"""What an arm is: the config with some of its fields changed."""

import ast
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from scalepred import validation
from scalepred.config import Experiment, UserError
from scalepred.grid import is_sweep
from scalepred.runtime.workdir import is_taken

# Fields that an arm may change, beside all of `training`. Sizes and seeds are the same
# in all arms, or there would be nothing to compare.
_CHANGEABLE = ("family", "dataset", "grid.learning_rates", "grid.weight_decays")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")


def make_experiments(experiment: Experiment) -> dict[str, Experiment]:
    """The config of each arm, by name, the baseline first.

    Raises:
        UserError: an arm has no usable name, changes a field that it may not or gives
            it a value that it cannot have, or only some of the arms sweep rates.
    """
    arms = experiment.arms
    if len(arms) < 2:
        raise UserError(
            f"arms={arms!r}: name two or more, such as "
            '{"plain": {}, "nesterov": {"training.nesterov": True}}, or none'
        )
    for name in arms:
        if not _NAME.fullmatch(name) or is_taken(name):
            raise UserError(
                f"arms: {name!r} is no name of an arm, which is a folder of the "
                "workdir, too; take letters, digits and any of _ . + - (at most 40), "
                "and none of the workdir's own names"
            )
    if len({name.lower() for name in arms}) < len(arms):
        raise UserError(f"arms: {', '.join(arms)}: names must differ in more than case")
    made = {name: _change(experiment, name, arms[name]) for name in arms}
    sweeps = {name: is_sweep(one) for name, one in made.items()}
    if len(set(sweeps.values())) > 1:
        some = ", ".join(name for name, sweeps_rates in sweeps.items() if sweeps_rates)
        raise UserError(
            f"arms: only {some} sweeps rates, and so holds out a validation part; give "
            "every arm two rates or more, or none, so that all train on the same data"
        )
    return made


def _change(
    experiment: Experiment, name: str, changes: Mapping[str, Any]
) -> Experiment:
    """The config with an arm's changes."""
    made = copy.deepcopy(experiment)
    made.arms = {}
    for field, value in changes.items():
        home, _, last = field.rpartition(".")
        owner: Any = getattr(made, home, None) if home else made
        is_field = field in _CHANGEABLE or home == "training"
        if not is_field or not hasattr(owner, last):
            raise UserError(
                f"arms.{name}: {field} is nothing that an arm may change; change "
                f"{', '.join(_CHANGEABLE)} or a field of training"
            )
        setattr(owner, last, _convert(name, field, value, getattr(owner, last)))
    try:
        validation.validate(made)
    except UserError as error:
        raise UserError(f"arms.{name}: {error}") from None
    return made


def _convert(name: str, field: str, value: Any, old: Any) -> Any:
    """The value in the type of the one that it replaces."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(old, tuple) and isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(old, float) and is_number:
        return float(value)
    if type(value) is type(old):
        return value
    raise UserError(
        f"arms.{name}: {field}={value!r}: must be a {type(old).__name__}, such as "
        f"{old!r}"
    )


def parse(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Arms as a flag has them: "muon: training.optimizer=muon; training.momentum=0".

    Args:
        texts: one an arm; words need no quotes.

    Raises:
        UserError: one is written otherwise, or a name comes twice.
    """
    arms: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, colon, rest = text.partition(":")
        parts = [part.partition("=") for part in rest.split(";") if part.strip()]
        if not colon or not all(equals for _, equals, _ in parts) or name in arms:
            raise UserError(
                f"--arm={text}: write NAME: field=value; field=value, each name once, "
                'as in "muon: training.optimizer=muon; training.learning_rate=0.02"'
            )
        arms[name] = {field.strip(): _read(value) for field, _, value in parts}
    return arms


def _read(text: str) -> Any:
    """A number, a tuple, True or False, or else the words themselves."""
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return text.strip()

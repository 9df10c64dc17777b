"""A law by its name."""

import difflib
import importlib

from scalepred.config import UserError
from scalepred.fitting.laws import one_axis
from scalepred.fitting.laws.law import Law
from scalepred.fitting.laws.repeated import data_constrained
from scalepred.fitting.laws.rosenfeld import (
    rosenfeld,
    rosenfeld_fitted_guess,
    rosenfeld_two_plateaus,
)
from scalepred.fitting.laws.sums import chinchilla, coupled, kaplan

BUILT_IN = (
    rosenfeld,
    rosenfeld_fitted_guess,
    rosenfeld_two_plateaus,
    chinchilla,
    kaplan,
    coupled,
    data_constrained,
    one_axis.power,
    one_axis.power_params,
    one_axis.m4,
    one_axis.m4_params,
    one_axis.bnsl,
    one_axis.bnsl_params,
)


def find_law(name: str) -> Law:
    """The law called `name`: a built-in one, or `package.module.attribute`.

    Raises:
        UserError: lists the built-in names.
    """
    for law in BUILT_IN:
        if law.name == name:
            return law
    module_name, _, attribute = name.rpartition(".")
    known = ", ".join(["auto", *(law.name for law in BUILT_IN)])
    if not module_name:
        names = ["auto", *(law.name for law in BUILT_IN)]
        close = difflib.get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {close[0]}? It must" if close else "must"
        raise UserError(
            f"law={name!r}: {hint} be one of {known}, or package.module.law"
        )
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"law={name!r}: {error}; built-in laws: {known}") from None
    if not isinstance(found, Law):
        raise UserError(
            f"law={name!r}: is a {type(found).__name__}; it must be a Law, made by "
            "law_from_function"
        )
    return found

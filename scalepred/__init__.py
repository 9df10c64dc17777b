"""scalepred: how well will a large network do, said before it is trained."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalepred.config import UserError
    from scalepred.fitting.answers import Answer
    from scalepred.fitting.fit import Fit, fit
    from scalepred.fitting.laws import Law, Parameter, law_from_function
    from scalepred.fitting.predict import Prediction
    from scalepred.fitting.saved import load
    from scalepred.table.surface import Surface

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Fit",
    "Law",
    "Parameter",
    "Prediction",
    "Surface",
    "UserError",
    "fit",
    "law_from_function",
    "load",
]

# Imported when first asked for: most of it takes jax, which takes seconds.
_HOMES = {
    "config": ("UserError",),
    "fitting.answers": ("Answer",),
    "fitting.fit": ("Fit", "fit"),
    "fitting.laws": ("Law", "Parameter", "law_from_function"),
    "fitting.predict": ("Prediction",),
    "fitting.saved": ("load",),
    "table.surface": ("Surface",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

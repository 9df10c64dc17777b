"""scalepred: how well will a large network do, said before it is trained."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalepred.api import run
    from scalepred.arms.run import Compared
    from scalepred.config import Experiment, UserError
    from scalepred.data.dataset import Dataset
    from scalepred.data.task import Task
    from scalepred.fitting.answers import Answer
    from scalepred.fitting.comparison import Comparison, compare
    from scalepred.fitting.fit import Fit, fit, load
    from scalepred.fitting.laws import Law, Parameter, law_from_function
    from scalepred.fitting.predict import Prediction
    from scalepred.fitting.recipe import RecipeLaw, fit_recipe
    from scalepred.fitting.solver import Residual
    from scalepred.forecasting.forecast import Forecast
    from scalepred.models.model import Model, from_linen, from_nnx
    from scalepred.report.quick_look import draw
    from scalepred.study import Outcome
    from scalepred.table.surface import Surface
    from scalepred.training.weights import load_model

__version__ = "0.1.0"

# Imported when first asked for: most of it takes jax, which takes seconds.
_HOMES = {
    "api": ("run",),
    "arms.run": ("Compared",),
    "config": ("Experiment", "UserError"),
    "data.dataset": ("Dataset",),
    "data.task": ("Task",),
    "fitting.answers": ("Answer",),
    "fitting.comparison": ("Comparison", "compare"),
    "fitting.fit": ("Fit", "fit", "load"),
    "fitting.laws": ("Law", "Parameter", "law_from_function"),
    "fitting.predict": ("Prediction",),
    "fitting.recipe": ("RecipeLaw", "fit_recipe"),
    "fitting.solver": ("Residual",),
    "forecasting.forecast": ("Forecast",),
    "models.model": ("Model", "from_linen", "from_nnx"),
    "report.quick_look": ("draw",),
    "study": ("Outcome",),
    "table.surface": ("Surface",),
    "training.weights": ("load_model",),
}

__all__ = [
    "Answer",
    "Compared",
    "Comparison",
    "Dataset",
    "Experiment",
    "Fit",
    "Forecast",
    "Law",
    "Model",
    "Outcome",
    "Parameter",
    "Prediction",
    "RecipeLaw",
    "Residual",
    "Surface",
    "Task",
    "UserError",
    "compare",
    "draw",
    "fit",
    "fit_recipe",
    "from_linen",
    "from_nnx",
    "law_from_function",
    "load",
    "load_model",
    "run",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""Laws of the recipe: which rate, weight decay or batch is best at which size.

reading.py    a table of runs -> the sweep of a knob
sweep.py      runs of a sweep by size and setting
bowl.py       how likely a law of the bottoms is, given these runs
sampler.py    draws from it
law.py        the fitted law, and what it is asked
"""

from scalepred.fitting.recipe.law import Best, RecipeLaw, Regret, fit_recipe, fit_sweep
from scalepred.fitting.recipe.reading import read_sweeps
from scalepred.fitting.recipe.sweep import Sweep

__all__ = [
    "Best",
    "RecipeLaw",
    "Regret",
    "Sweep",
    "fit_recipe",
    "fit_sweep",
    "read_sweeps",
]

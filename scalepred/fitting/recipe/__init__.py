"""Laws of the recipe: which rate, weight decay or batch is best at which size.

    sweep.py      runs of a sweep by size and setting
    bowl.py       how likely a law of the bottoms is, given these runs
    sampler.py    draws from it
    law.py        the fitted law, and what it is asked
"""

from scalepred.fitting.recipe.law import Best, KnobLaw, fit_knob
from scalepred.fitting.recipe.sweep import Sweep

__all__ = ["Best", "KnobLaw", "Sweep", "fit_knob"]

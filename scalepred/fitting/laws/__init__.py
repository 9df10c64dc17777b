"""The laws of the error: how it falls with model size m and data size n.

What a law is stands in `law`, one file a kind of it; `find` knows them by name. A law
of one's own is `law_from_function(name, function, parameters)`; a config or `--law`
names it by dotted path.
"""

from scalepred.fitting.laws import one_axis
from scalepred.fitting.laws.find import BUILT_IN, find_law
from scalepred.fitting.laws.law import Array, Law, Parameter, Scale
from scalepred.fitting.laws.own import law_from_function
from scalepred.fitting.laws.repeated import data_constrained
from scalepred.fitting.laws.rosenfeld import (
    rosenfeld,
    rosenfeld_fitted_guess,
    rosenfeld_two_plateaus,
)
from scalepred.fitting.laws.sums import chinchilla, coupled, kaplan

__all__ = [
    "BUILT_IN",
    "Array",
    "Law",
    "Parameter",
    "Scale",
    "chinchilla",
    "coupled",
    "data_constrained",
    "find_law",
    "kaplan",
    "law_from_function",
    "one_axis",
    "rosenfeld",
    "rosenfeld_fitted_guess",
    "rosenfeld_two_plateaus",
]

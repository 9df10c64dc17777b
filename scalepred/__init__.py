"""scalepred: how well will a large network do, said before it is trained."""

from scalepred.config import UserError
from scalepred.fitting.answers import Answer
from scalepred.fitting.fit import Fit, fit
from scalepred.fitting.laws import Law, Parameter, law_from_function
from scalepred.fitting.predict import Prediction
from scalepred.measurements import Surface

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
]

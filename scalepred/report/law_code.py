"""The fitted law as a few lines of NumPy, which give the numbers of the page.

Nothing is left out: `law=auto` is a weighted mean of several
members, and some sizes of model have an offset of their own. A law of one's own is no
text that could be copied, so its code reads the saved fit.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scalepred.fitting.auto import law as auto_law
from scalepred.fitting.fit import Fit
from scalepred.fitting.laws import Law, Scale
from scalepred.fitting.laws.law import by_name
from scalepred.fitting.predict import FittedLaw
from scalepred.metrics import find_noun
from scalepred.report import law_forms

# The form of each law, and what the form calls the law's inner parameters in turn.
_FORMS: dict[str, tuple[Callable[..., Any], str]] = {
    "rosenfeld": (law_forms.rosenfeld, "a alpha b beta c"),
    "rosenfeld_fitted_guess": (law_forms.rosenfeld, "a alpha b beta c e0"),
    "rosenfeld_two_plateaus": (
        law_forms.rosenfeld_two_plateaus,
        "a alpha b beta c e0 gap",
    ),
    "chinchilla": (law_forms.chinchilla, "E A alpha B beta"),
    "kaplan": (law_forms.coupled, "A alpha B beta"),
    "coupled": (law_forms.coupled, "E A alpha B beta k"),
    "data_constrained": (law_forms.data_constrained, "E A alpha B beta R_D R_N"),
    "power": (law_forms.power, "E A alpha"),
    "m4": (law_forms.m4, "limit span amplitude exponent shape"),
    "bnsl": (law_forms.bnsl, "floor amplitude before after at width"),
}
# Which forms call others.
_NEEDS = {
    law_forms.rosenfeld_two_plateaus: (law_forms.rosenfeld,),
    law_forms.data_constrained: (law_forms.chinchilla,),
    law_forms.flexible: (law_forms.own_terms,),
    law_forms.flexible_repeated: (law_forms.own_terms,),
}


class Part(NamedTuple):
    """One law of the weighted geometric mean that a fit predicts.

    Attributes:
        form: the function of `law_forms` that gives its value.
        sizes: its first arguments: "x, y", "x", "y" or "x, y, epochs".
        numbers: its others.
        weight: on ln of its value; all weights together are 1.
    """

    form: Callable[..., Any]
    sizes: str
    numbers: dict[str, Any]
    weight: float

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "form": self.form.__name__,
            "sizes": self.sizes,
            "numbers": self.numbers,
            "weight": self.weight,
        }


def find_parts(fitted: FittedLaw) -> list[Part]:
    """The laws whose weighted mean is predicted; none for a law of one's own."""
    return _find_parts(fitted.law, fitted.theta, fitted.scale, 1.0)


def _find_parts(law: Law, theta: np.ndarray, scale: Scale, weight: float) -> list[Part]:
    if law.parts:
        ends = np.cumsum([part.num_parameters for part in law.parts])
        *own, weights = np.split(theta, ends)
        found = [
            _find_parts(part, numbers, scale, weight * float(share))
            for part, numbers, share in zip(law.parts, own, weights, strict=True)
            if share > 0
        ]
        return [part for parts in found for part in parts] if all(found) else []
    if law.name == "flexible":
        numbers = _flexible_numbers(law, theta, scale)
        if "epochs" not in law.axes:
            return [Part(law_forms.flexible, "x, y", numbers, weight)]
        decay = np.exp(theta[-len(auto_law.DECAY) :]).tolist()
        numbers |= dict(zip(("R_D", "R_N"), decay, strict=True))
        return [Part(law_forms.flexible_repeated, "x, y, epochs", numbers, weight)]
    form, names = _FORMS.get(law.name.removesuffix("_params"), (None, ""))
    if form is None:
        return []
    numbers = {
        name: float(np.exp(number) if parameter.is_log else number)
        for name, number, parameter in zip(
            names.split(), theta, law.parameters, strict=True
        )
    }
    if law.name == "rosenfeld":
        numbers["e0"] = float(np.exp(scale.log_guess))
    if law.name == "kaplan":
        numbers |= {"E": 0.0, "k": numbers["beta"]}
    along = {"params": "x", "data": "y", "epochs": "epochs"}
    return [Part(form, ", ".join(along[axis] for axis in law.axes), numbers, weight)]


def _flexible_numbers(law: Law, theta: np.ndarray, scale: Scale) -> dict[str, Any]:
    """As `auto.law` has them, with the floor and the top in the value's own unit."""
    core, low = by_name(auto_law.Core, theta), np.exp(scale.log_low)
    top = 1 / (1 + np.exp(-core.top))
    guess, high = np.exp(scale.log_guess), np.exp(scale.log_high)
    numbers = {
        "E": low / (1 + np.exp(-core.floor)),
        "U": guess * (high / guess) ** top
        if law.bounded
        else high * (1 + np.exp(core.top)),
        "A": low * np.exp(core.A),
        "alpha": np.exp(core.model_exponent),
        "B": low * np.exp(core.B),
        "beta": np.exp(core.data_exponent),
        "h": np.exp(core.bend),
        "k": np.exp(core.hardness),
    }
    numbers = {name: float(number) for name, number in numbers.items()}
    slots = auto_law.num_slots(len(scale.levels))
    if not slots:
        return numbers
    # Slots without a size are left out; the last is that of all other sizes.
    sizes = np.exp(scale.levels)
    if not np.any(np.isfinite(sizes)):
        return numbers  # no size is known, and the offset of the others is 0
    kept = np.append(np.isfinite(sizes), True)
    first = auto_law.CORE_SIZE
    both = theta[first : first + slots], theta[first + slots : first + 2 * slots]
    terms = [term[kept] for term in both]
    own = sizes[kept[:-1]], *terms
    return {**numbers, "own": [term.tolist() for term in own]}


def python_code(fit: Fit) -> str:
    """A module that defines value(params, data), or with epochs as a third.

    It needs NumPy alone, and gives what `Fit.predict` gives, to twelve digits.
    """
    fitted, metric = fit.fitted, fit.surface.metric
    parts = find_parts(fitted)
    if not parts:
        return _CODE_OF_OWN.format(law=fit.law.name)
    forms: list[Callable[..., Any]] = []
    for part in parts:
        forms += [*_NEEDS.get(part.form, ()), part.form]
    with_epochs = any("epochs" in part.sizes for part in parts)
    about = "Expected " + find_noun(metric) + " of a model with so many "
    lines = [
        "import numpy as np",
        *(f"\n\n{inspect.getsource(form).rstrip()}" for form in dict.fromkeys(forms)),
        f"\n\ndef value(params, data{', epochs=1.0' if with_epochs else ''}):",
        f'    """{about}parameters on so many data."""',
        f"    x = np.asarray(params) / {fitted.params_unit!r}",
        f"    y = np.asarray(data) / {fitted.data_unit!r}",
    ]
    calls = [
        f"{part.form.__name__}({part.sizes}, "
        + ", ".join(f"{name}={_say(number)}" for name, number in part.numbers.items())
        + ")"
        for part in parts
    ]
    if len(parts) == 1:
        lines.append(f"    return {calls[0]}")
    else:
        lines.append("    return np.exp(")
        lines += [
            f"        {'+ ' if i else ''}{_say(part.weight)} * np.log({call})"
            for i, (part, call) in enumerate(zip(parts, calls, strict=True))
        ]
        lines.append("    )")
    return "\n".join(lines).replace("e+", "e") + "\n"


def _say(number: float | Sequence[Any]) -> str:
    """Twelve digits: what is left out is less than the fit itself knows."""
    if isinstance(number, Sequence):
        return f"[{', '.join(map(_say, number))}]"
    return f"{number:.12g}"


_CODE_OF_OWN = """\
# {law} is a law of your own, or too long to write here. The fit is saved:
import scalepred


def value(params, data):
    return scalepred.load("fit.npz").predict(params, data).value
"""

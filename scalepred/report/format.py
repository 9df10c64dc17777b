"""Numbers as people write them, and the nouns that go with them.

    count(57_216_000)                    57.2M          sizes; exact below a million
    flops(5.8e23)                        5.8e23         compute
    measured(2.0061, "loss")             2.006 nats     a value of the metric
    measured(0.0473, "error")            4.73%
    ends(0.025, 0.061, "error")          2.50% to 6.10%
    percent(-0.045)                      −4.5%          a relative error, a share

Nothing here needs jax: whoever draws figures takes its words from here. Sentences are
made of these in `words`. Text that comes from files (task, unit, device) stands in them
as it is: the page escapes it, the terminal and the page take out what is not
`printable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scalepred.metrics import find_noun, find_unit, is_bounded
from scalepred.table import numbers

if TYPE_CHECKING:
    from scalepred.table.surface import Surface

# A size or a cost that the law never reaches: below the floor.
NEVER = "never"
# The end of an interval that holds that, too.
PERHAPS_NEVER = "perhaps never"
UNKNOWN = "n/a"
# Interval ends closer than this share are told apart by a fourth digit.
_NARROW = 0.02


def printable(text: str) -> str:
    """Without control characters: what a CSV says must not steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def count(number: float) -> str:
    """A size or a count: 4,100; 85,002; 57.2M; 1.4T; "never" if infinite.

    Whole numbers below a million are exact, everything else has three digits.
    """
    if math.isnan(number):
        return UNKNOWN
    return NEVER if math.isinf(number) else numbers.write(number)


def flops(number: float) -> str:
    """Compute, always in the form 5.8e23; three digits."""
    if math.isnan(number):
        return UNKNOWN
    return NEVER if math.isinf(number) else numbers.write_flops(number)


def percent(share: float) -> str:
    """A relative error or a share: −4.5%, 0.03%, 130%."""
    if not math.isfinite(share):
        return UNKNOWN
    number = 100 * share
    if abs(number) >= 100:
        return numbers.write(float(f"{number:.3g}")) + "%"
    if abs(number) >= 0.1:
        text = f"{number:.1f}"
    else:
        text = f"{number:.1g}" if abs(number) >= 1e-3 else "0"
    return _real_minus(text) + "%"


def whole_percent(share: float) -> str:
    """A share of points or a probability: 91%."""
    return UNKNOWN if math.isnan(share) else f"{share:.0%}"


def number(value: float, digits: int = 4) -> str:
    """A number of no unit in so many digits, such as a parameter of the law."""
    if not math.isfinite(value):
        return UNKNOWN
    return _digits(value, digits, keep_zeros=False)


def fixed(value: float, decimals: int = 2) -> str:
    """With so many decimals, such as a slope: −0.03."""
    if not math.isfinite(value):
        return UNKNOWN
    return _real_minus(f"{value:.{decimals}f}")


def mean_and_std(mean: float, std: float) -> str:
    """−4.5% ± 4.7%."""
    if math.isnan(mean):
        return UNKNOWN
    return f"{percent(mean)} ± {percent(std)}"


def measured(value: float, metric: str, with_unit: bool = True) -> str:
    """A value of the metric: an error in percent, three digits; others four digits."""
    if not math.isfinite(value):
        return NEVER if math.isinf(value) else UNKNOWN
    if is_bounded(metric):
        return _digits(100 * value, 3) + "%"
    return _digits(value, 4) + (_unit_after(metric) if with_unit else "")


def ends(lower: float, upper: float, metric: str) -> str:
    """The ends of an interval of the metric: 1.92 to 2.09; 2.50% to 6.10%.

    Nothing where they are not known, or there is no interval.
    """
    if math.isnan(lower) or math.isnan(upper) or lower == upper:
        return ""
    if is_bounded(metric):
        return f"{measured(lower, metric)} to {measured(upper, metric)}"
    digits = 3 if abs(upper - lower) > _NARROW * abs(lower) else 4
    low, high = (
        _digits(end, digits) if math.isfinite(end) else "any value"
        for end in (lower, upper)
    )
    return f"{low} to {high}"


def wanted(value: float, metric: str, with_unit: bool = True) -> str:
    """A round error or loss, without zeros at its end: 5%, 2.1 nats."""
    if is_bounded(metric):
        return _digits(100 * value, 3, keep_zeros=False) + "%"
    text = _digits(value, 4, keep_zeros=False)
    return text + (_unit_after(metric) if with_unit else "")


def _unit_after(metric: str) -> str:
    unit = find_unit(metric)
    return f" {unit}" if unit else ""


def _digits(value: float, digits: int, keep_zeros: bool = True) -> str:
    """So many significant digits, with commas, and an exponent only where it must."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    value = float(f"{mantissa}e{exponent}")
    if value and not 1e-4 <= abs(value) < 1e6:
        return _real_minus(f"{float(mantissa):g}e{int(exponent)}")
    if abs(value) >= 10**digits:
        return _real_minus(f"{value:,.0f}")
    text = f"{value:#.{digits}g}" if keep_zeros else f"{value:.{digits}g}"
    return _real_minus(text.removesuffix("."))


def _real_minus(text: str) -> str:
    """A minus sign in place of the hyphen; zero has no sign."""
    if not text.strip("-0.,"):
        return text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}", 1) if text[0] == "-" else text


def duration(seconds: float) -> str:
    """1 h 5 min, 2 min 10 s, 8.3 s."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.01 else "0 s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole} s" if minutes else f"{whole} s"


def span(lower: float, upper: float, form: Callable[[float], str] = count) -> str:
    """3,200 to 5,600, or 360 to perhaps never; nothing where there is no interval."""
    if math.isnan(lower) or math.isnan(upper) or lower == upper:
        return ""
    return f"{form(lower)} to {form(upper) if math.isfinite(upper) else PERHAPS_NEVER}"


def interval(lower: float, upper: float, form: Callable[[float], str] = count) -> str:
    """A space and (90% interval 3,200 to 5,600); nothing where there is none."""
    text = span(lower, upper, form)
    return f" (90% interval {text})" if text else ""


def ratio(numerator: float, denominator: float) -> str:
    """How many times: 0.31, 3.9, 52, 1,200, 3.1 million; two digits."""
    times = float(f"{numerator / denominator:.2g}")
    if 1e6 <= times < 1e9:
        return f"{times / 1e6:g} million"
    return flops(times) if times >= 1e9 else count(times)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def metric_label(metric: str) -> str:
    """For an axis or a caption."""
    unit = find_unit(metric)
    name = find_noun(metric)
    return name if is_bounded(metric) or not unit else f"{name} ({unit})"


# What the published parameters of the built-in laws mean; {unit}: of the metric.
_MEANINGS = {
    "data_exponent": "power of n; no unit",
    "model_exponent": "power of m; no unit",
    "random_guess": "e0, the value of a model that has learnt nothing; {unit}",
    "irreducible": "the value that no m and n get below; {unit}",
    "b": "weight of the model term beside the data term; no unit",
    "c": "weight of the floor beside the data term; no unit",
    "eta": "where the law bends towards e0; no unit",
    "E": "the value that no m and n get below; {unit}",
    "A": "size of the model term; {unit} times m to its exponent",
    "B": "size of the data term; {unit} times n to its exponent",
    "bend": "how sharply the law bends towards the random guess; no unit",
    "hardness": "1: both terms add; large: the larger term counts alone; no unit",
    "floor": "the error that no loss gets below; fraction",
    "ceiling": "the error of what has learnt nothing; fraction",
    "steepness": "k, how fast the error follows the loss; per unit of the loss",
    "middle_loss": "L0, the loss where the error is half way; as the loss",
    "R_D*": "repeats of the data after which more are worth little; passes",
    "R_N*": "excess of m over what n can use after which more is worth little; times",
}


def describe_parameter(name: str, metric: str) -> str:
    """Meaning and unit, or nothing for the parameter of a law of one's own."""
    own = name.removeprefix("loss ")
    unit = "as the loss" if own != name else find_unit(metric) or "no unit"
    return _MEANINGS.get(own, "").format(unit=unit)


def thing(surface: Surface) -> str:
    """The metric's noun with its article: an error, a loss."""
    metric = find_noun(surface.metric)
    return f"an {metric}" if metric[0] in "aeiou" else f"a {metric}"


def unit(surface: Surface) -> str:
    """What n counts: the table's own word, "examples" where it has none."""
    return surface.data_unit.replace("_", " ")


def sizes(params: float, data: float, surface: Surface) -> str:
    """1.2M parameters and 4,100 images; along compute 5e21 FLOPs."""
    if unit(surface) == "FLOPs":
        return f"{flops(data)} FLOPs"
    said = {"params": params, "data": data}
    parts = [size(name, number, surface) for name, number in said.items()]
    return " and ".join(filter(None, parts))


def size(name: str, number: float, surface: Surface) -> str:
    """1.2M parameters, or 4,100 images; "" where the table does not tell that size.

    Args:
        name: params or data.
        number: of them.
        surface: the points.
    """
    if not is_told(name, surface):
        return ""
    return f"{count(number)} {'parameters' if name == 'params' else unit(surface)}"


def is_told(name: str, surface: Surface) -> bool:
    """Whether the table tells that size (params or data): else it is 1 everywhere."""
    return not (getattr(surface, name) == 1).all()


def given(asked: Mapping[str, float], surface: Surface) -> str:
    """The size that a question gives, after a space: " with 1,280 images"; or ""."""
    parts = [
        size(name, asked[name], surface) for name in ("params", "data") if name in asked
    ]
    text = " and ".join(filter(None, parts))
    return f" with {text}" if text else ""


def passes(epochs: float | None) -> str:
    """How often the data are seen, after a comma; nothing where it is not known."""
    if epochs is None or math.isnan(epochs):
        return ""
    return ", data seen " + ("once" if epochs == 1 else f"{count(epochs)} times")

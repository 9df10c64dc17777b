"""Numbers as people and logs write them: 10M, 3.2B tokens, 1,048,576, 5,33 and 5 %.

`parse` reads all of these; `write` and `write_flops` have one form each.
"""

import math
import re
from collections.abc import Iterable

from scalepred.config import UserError

_SUFFIXES = {
    "k": 1e3, "thousand": 1e3,
    "m": 1e6, "mn": 1e6, "mio": 1e6, "million": 1e6, "millions": 1e6,
    "b": 1e9, "bn": 1e9, "g": 1e9, "billion": 1e9, "billions": 1e9,
    "t": 1e12, "tn": 1e12, "trillion": 1e12, "trillions": 1e12,
}  # fmt: skip
# What may stand behind a size and says nothing of how large it is.
_COUNTED = (
    "tokens?|toks?|params?|parameters?|examples?|samples?|images?|words?|flops?|steps?"
)
_NUMBER = re.compile(
    rf"([+-]?[\d.,_'\s]*\d\.?(?:e[+-]?\d+)?)\s*(%|[a-z]+)?\s*(?:{_COUNTED})?", re.I
)
# As papers write powers: 1.2 x 10^20, with a sign of times and raised digits, or 10**7.
_TIMES = r"([\d.,]+)\s*[x*\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}]\s*"
_EXPONENT = r"(?:(?:\^|\*\*)\s*([+-]?\d+)|([⁻⁰¹²³⁴-⁹]+))"
_POWER = re.compile(rf"(?:{_TIMES}|(?<![\d.,]))10{_EXPONENT}", re.I)
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-", "--", "<na>", "nat", "inf"}
_MISSING |= {"+inf", "-inf", "infinity", "-infinity", "+infinity", "#n/a", "n.a."}
# What people write where a run gave no number.
_MISSING |= {"diverged", "crashed", "failed", "killed", "oom", "timeout", "missing"}
_MISSING |= {"out of memory", "div", "#div/0!", "#value!", "?", "\N{EN DASH}"}
_MISSING |= {"\N{EM DASH}"}

_GROUPED = {
    ".": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?"),
    ",": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?"),
}
# A comma that can only be one for decimals, and one that can only be one of thousands.
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+,(\d{1,2}|\d{4,})|0*,\d+|0,\d+|\d{4,},\d+)")
_THOUSANDS_COMMA = re.compile(r"[+-]?(\d{1,3}(,\d{3}){2,}(\.\d+)?|\d{1,3},\d{3}\.\d+)")
_THOUSANDS_POINT = re.compile(r"[+-]?(\d{1,3}(\.\d{3}){2,}(,\d+)?|\d{1,3}\.\d{3},\d+)")
_DECIMAL_POINT = re.compile(r"[+-]?(\d+\.(\d{1,2}|\d{4,})|0?\.\d+|\d{4,}\.\d+)")


def is_missing(text: str) -> bool:
    """Whether a cell holds no finite number because there is none."""
    return text.strip().lower() in _MISSING


def find_decimal(cells: Iterable[str], is_comma_file: bool) -> str:
    """The decimal mark of a table: "." or ",".

    Args:
        cells: those that hold numbers.
        is_comma_file: commas separate the cells, so that one within is quoted.

    Raises:
        UserError: some cells say one, some the other, or 1,000 may be either.
    """
    comma = point = single = ""
    for cell in cells:
        match = _NUMBER.fullmatch(cell.strip())
        text = re.sub(r"[\s_']", "", match[1]) if match else ""
        if _DECIMAL_COMMA.fullmatch(text) or _THOUSANDS_POINT.fullmatch(text):
            comma = comma or cell
        elif _DECIMAL_POINT.fullmatch(text) or _THOUSANDS_COMMA.fullmatch(text):
            point = point or cell
        elif re.fullmatch(r"[+-]?\d{1,3},\d{3}", text):
            single = single or cell
    if comma and point:
        raise UserError(
            f"numbers: {comma!r} has a comma for decimals and {point!r} a point; write "
            "all with a point, or give --decimal"
        )
    if single and not comma and not point and not is_comma_file:
        raise UserError(
            f"numbers: {single!r} is ambiguous, a thousand times more or less; write "
            "it without the comma, or give --decimal"
        )
    return "," if comma else "."


def parse(text: str, decimal: str = ".") -> float:
    """A number; NaN where a cell is empty or says that there is none.

    Args:
        text: as it was written; a suffix K, M, B (or G) or T, a percent sign, and
            words such as "tokens" may follow.
        decimal: the mark before the fraction; the other one parts thousands.

    Raises:
        ValueError: what is wrong with it, to follow "is".
    """
    text = text.strip()
    if is_missing(text):
        return math.nan
    try:
        if decimal == ".":
            return float(text)
    except ValueError:
        pass
    text = _POWER.sub(_write_power, text)
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ValueError("not a number")
    digits, suffix = re.sub(r"[\s_']", "", match[1]), (match[2] or "").lower()
    factor = 1.0
    if suffix == "%":
        factor = 0.01
    elif suffix and not re.fullmatch(_COUNTED, suffix):
        if suffix not in _SUFFIXES:
            raise ValueError("not a number")
        factor = _SUFFIXES[suffix]
    other = "," if decimal == "." else "."
    if other in digits:
        if not _GROUPED[decimal].fullmatch(digits):
            raise ValueError(
                f"not a number: it has {other!r} where this table has {decimal!r} for "
                "decimals"
            )
        if decimal == "," and "," not in digits and digits.count(".") == 1:
            raise ValueError(
                "ambiguous, a thousand times more or less; write it without the point"
            )
        digits = digits.replace(other, "")
    try:
        # Through decimal digits, so that 3.2B is 3.2e9 and not a bit beside it.
        return float(digits.replace(",", ".")) * factor
    except ValueError:
        raise ValueError("not a number") from None


def _write_power(found: re.Match[str]) -> str:
    """1.2 x 10^20 as 1.2e20."""
    return f"{found[1] or 1}e{found[2] or found[3].translate(_RAISED)}"


def has_unit(text: str) -> bool:
    """Whether a number says itself that it counts thousands, millions and so on."""
    match = _NUMBER.fullmatch(text.strip())
    return match is not None and (match[2] or "").lower() in _SUFFIXES


_LETTERS = (("T", 1e12), ("B", 1e9), ("M", 1e6))


def write(number: float) -> str:
    """A finite size or count: 4,100; 85,002; 57.2M; 1.29B; 5.6T.

    Whole numbers below a million are exact, everything else has three digits.
    """
    size = abs(number)
    if not (float(number).is_integer() and size < 1e6):
        size = float(f"{size:.2e}")
    if size >= 1e15 or 0 < size < 1e-3:
        return write_flops(number)
    sign = "\N{MINUS SIGN}" if number < 0 and size else ""
    for letter, factor in _LETTERS:
        if size >= factor:
            return f"{sign}{size / factor:.3g}{letter}"
    return f"{sign}{size:,.0f}" if size >= 100 else f"{sign}{size:.3g}"


def write_size(number: float) -> str:
    """A positive size as flags take it, six digits: 6250, 16M, 1.23457B, 1e21."""
    size = float(f"{number:.6g}")
    for letter, factor in _LETTERS:
        if factor <= size < 1e15:
            return f"{size / factor:g}{letter}"
    return f"{size:g}".replace("e+", "e").replace("e-0", "e-")


def write_place(params: float, data: float) -> str:
    """Where a run or target stands, as --target takes it: params=7B,data=140B."""
    return f"params={write_size(params)},data={write_size(data)}"


def write_value(number: float) -> str:
    """A finite number of no unit in four digits at most: 0.0473, 2.006, 1.2e-7."""
    text = f"{number:.4g}"
    return write_flops(number) if "e" in text else text.replace("-", "\N{MINUS SIGN}")


def write_flops(number: float) -> str:
    """A finite number of FLOPs as 5.8e23; plain below 1,000 and above 0.001."""
    rounded = float(f"{number:.2e}") + 0.0  # + 0.0: never -0
    if 1e-3 <= abs(rounded) < 1e3 or not rounded:
        return f"{rounded:.3g}".replace("-", "\N{MINUS SIGN}")
    mantissa, exponent = f"{abs(number):.2e}".split("e")
    sign = "\N{MINUS SIGN}" if number < 0 else ""
    return f"{sign}{float(mantissa):g}e{int(exponent)}"

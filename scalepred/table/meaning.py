"""What values mean by their name: which way is better, percent, bits, perplexity."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.metrics import is_bounded
from scalepred.table.numbers import write_size

# Shares that rise as a model gets better; one minus them is an error.
_SHARES = re.compile(
    r"\b(acc ?\d?|accuracy|f1|auc|auroc|auprc|map|miou|iou|bleu\d?|rouge\w*|"
    r"exact match|em|precision|recall|pass ?\d+|pass k|win ?rate|success ?rate)\b"
)
_RISING = re.compile(r"\b(r2|r ?squared|reward|elo|psnr|ssim|spearman|pearson|score)\b")
_SQUARES = re.compile(r"\b(r2|r ?squared)\b")
_PERPLEXITY = re.compile(r"\b(ppl|perplexity)\b")
_BITS = re.compile(r"\b(bpb|bpc|bits?)\b")
_LOSSES = re.compile(r"\b(loss|l|ce|nll|cross entropy|entropy|mse|rmse|mae|squared)\b")
_ERRORS = re.compile(r"\b(error|err|error rate|wer|cer|misclassification)\b")

# Of more pairs of points that can be compared than this share, the one with more of
# both has the higher value: such a table rises.
_RISES = 0.8
_FEW_PAIRS = 3
_MOST_POINTS = 1500
# Operations a parameter and example, of which training takes about six.
_FEWEST_FLOPS = 1e-7


class Conversion(NamedTuple):
    """From what a table holds to what is fitted, which is lower where it is better.

    Attributes:
        metric: that is fitted.
        is_risen: one minus the value.
        is_log: the logarithm of the value.
        percent: the table holds percent.
        note: what was done; "": nothing.
        name: of the metric that the table holds.
    """

    metric: str
    is_risen: bool = False
    is_log: bool = False
    percent: bool = False
    note: str = ""
    name: str = ""

    def apply(self, value: float) -> float:
        """The value that is fitted; a wanted one may be given as a fraction anyhow."""
        if self.percent:
            value /= 100
        if self.is_log:
            return math.log(value) if value > 0 else math.nan
        # Through fewer digits than a float has: 1 - 0.9 is to be 0.1.
        return round(1 - value, 12) if self.is_risen else value

    def apply_wanted(self, value: float) -> float:
        """The same of a number that the user names, a fraction where it is below 1."""
        return self._replace(percent=self.percent and value > 1).apply(value)


def find_conversion(name: str, values: list[float], path: object) -> Conversion | None:
    """What a metric of this name is; None where the name says nothing.

    Args:
        name: of a column or a metric.
        values: that it has.
        path: of the table, for errors.

    Raises:
        UserError: it rises, and nobody can say from where.
    """
    plain = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
    # A few errors above 1 are slips; where nearly all are, they are percent.
    above = sum(value > 1 for value in values)
    percent = above > 0.75 * len(values) and max(values) <= 100
    told = ", in percent" if percent else ""
    if _PERPLEXITY.search(plain):
        note = (
            f"{name} is taken for perplexity; its logarithm, a loss in nats, is fitted"
        )
        return Conversion("loss", is_log=True, note=note)
    if _BITS.search(plain):
        return Conversion("bits", note=f"{name} is taken for a loss in bits")
    if _ERRORS.search(plain) and not _LOSSES.search(plain):
        note = f"{name} is taken for an error rate{told}" if percent else ""
        return Conversion("error", percent=percent, note=note)
    if _SHARES.search(plain) and not _LOSSES.search(plain):
        note = (
            f"{name} rises as models get better{told}; the error 1 - {name} is fitted"
        )
        return Conversion("error", is_risen=True, percent=percent, note=note, name=name)
    if _SQUARES.search(plain) and not _LOSSES.search(plain):
        note = f"{name} rises as models get better; 1 - {name} is fitted as a loss"
        return Conversion("loss", is_risen=True, note=note, name=name)
    if _RISING.search(plain) and not _LOSSES.search(plain):
        raise UserError(
            f"{path}: {name} rises as models get better, and a law of error needs what "
            "falls; give its distance from the best there can be, as metric loss"
        )
    if _LOSSES.search(plain):
        return Conversion("loss")
    return None


def check_sign(cells: Sequence[str], path: object) -> None:
    """Refuses values that are all below zero, such as log-likelihoods.

    Raises:
        UserError: says what to give.
    """
    if all(cell.startswith(("-", "\N{MINUS SIGN}")) for cell in cells):
        raise UserError(
            f"{path}: every value is below zero, as of a log-likelihood; give the loss,"
            " which is minus that"
        )


def check_falls(
    params: np.ndarray,
    data: np.ndarray,
    value: np.ndarray,
    metric: str,
    turned: str = "",
) -> None:
    """Refuses a table whose values rise with what runs are given.

    Args:
        params: model sizes [points].
        data: data sizes [points].
        value: what would be fitted [points].
        metric: of it.
        turned: name of what was turned round to be fitted; "": nothing was.

    Raises:
        UserError: the value rises in most pairs in which one run has more of both.
    """
    if len(value) > _MOST_POINTS:
        some = np.random.default_rng(0).choice(len(value), _MOST_POINTS, replace=False)
        params, data, value = params[some], data[some], value[some]
    more = (params[:, None] >= params) & (data[:, None] >= data)
    more &= (params[:, None] > params) | (data[:, None] > data)
    pairs = int(np.sum(more))
    if pairs < _FEW_PAIRS:
        return
    risen = int(np.sum(more & (value[:, None] > value)))
    if risen > _RISES * pairs and turned:
        raise UserError(
            f"metric={turned!r}: these values fall as models get better, so they are "
            f"no {turned}; say --metric=error, or loss"
        )
    if risen > _RISES * pairs:
        kind = "accuracy" if is_bounded(metric) or np.max(value) <= 1 else "loss"
        remedy = "say --metric=accuracy if it is one, or give 1 - accuracy"
        if kind == "loss":
            remedy = "give what falls as models get better"
        sizes = [
            name
            for name, own in (("params", params), ("data", data))
            if len(np.unique(own)) > 1
        ]
        raise UserError(
            f"value: rises with {' and '.join(sizes)} (in {risen} of {pairs} pairs of "
            f"points with more of them), and a law of error needs what falls; {remedy}"
        )


def check_counts(name: str, sizes: np.ndarray) -> None:
    """Refuses sizes that are no counts, such as millions of parameters.

    Raises:
        UserError: one is below 1, or most are small and not whole.
    """
    small = sizes < 1
    if np.any(small):
        raise UserError(
            f"{name}: {sizes[small][0]:g} is no count; if these are millions or "
            f"billions, write 10M or 3.2B, or name the column '{name} (M)' or "
            f"'{name} (B)'"
        )
    broken = (sizes != np.round(sizes)) & (sizes < 1e4)
    if np.sum(broken) > len(sizes) / 2:
        raise UserError(
            f"{name}: {sizes[broken][0]:g} is no count; write 10M or 3.2B, or name the "
            f"column '{name} (M)' or '{name} (B)'"
        )


def check_flops(flops: np.ndarray, params: np.ndarray, data: np.ndarray) -> None:
    """Refuses FLOPs that are no counts, such as EFLOPs.

    Args:
        flops: of each run, NaN where it is not known [runs].
        params, data: its sizes [runs].

    Raises:
        UserError: they are far fewer than one a parameter and example.
    """
    shares = (flops / params / data)[np.isfinite(flops)]
    share = np.median(shares) if len(shares) else 1.0
    if share < _FEWEST_FLOPS:
        raise UserError(
            f"flops: {share:.0e} of an operation a parameter and example is no count; "
            "if they have a unit, name the column so, as FLOPs (1e18), or leave it out"
        )


def find_mixed_units(name: str, sizes: np.ndarray) -> str:
    """A sentence where some rows seem to be in other units than the others."""
    distinct = np.unique(sizes)
    if len(distinct) < 2:
        return ""
    place = int(np.argmax(np.diff(np.log(distinct))))
    low, high = distinct[place], distinct[place + 1]
    if high / low < 1e5:
        return ""
    return (
        f"{name} go from {write_size(low)} to {write_size(high)} at once: look whether "
        "some rows are in millions or billions"
    )

"""Where the loss curve of a run ends, forecast before it does, with an interval.

A forecast looks at the run's own curve as far as a fixed part of its length, and at a
run of the same size that is finished: its reference, trained by the same schedule at
another learning rate.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scalepred.training.curves import Curve

# Parts of a run's length at which it is looked at.
MOMENTS = (0.25, 0.375, 0.5, 0.625, 0.75)
# A curve is read at a moment by a line through its stretches from this part of the
# steps so far on.
_SEEN = 0.4
_LEAST_STRETCHES = 3
# The end of a curve is the mean over this last part of it.
_END = 0.1
# How much faster than its reference a run may learn, and how much more noise leave it.
_CAUTION = 2.0
# Of what a curve's own noise leaves open, in standard errors.
_ERRORS = 2.0


class Outlook(NamedTuple):
    """The end of a training loss curve, forecast, in the unit of the loss."""

    steps: int  # that the run had done by then
    value: float
    low: float
    high: float


class _Line(NamedTuple):
    """A curve at a moment: ln loss as a line in ln steps."""

    level: float  # ln loss at the moment
    slope: float  # d ln loss / d ln steps
    level_error: float
    slope_error: float


def forecast_end(
    curve: Curve,
    steps: int,
    part: float,
    references: Sequence[Curve],
    rate_ratio: float,
) -> Outlook | None:
    """The end of a run, forecast after a part of it.

    The value goes on along the run's own power law, or falls by the share by which its
    references did from the same part on, whichever is lower. At the high end it falls
    no more. The low end is the lowest of what three reasons allow:

    - own pace: ln loss goes on along its steepest line in steps, as an exponential,
      which never slows down;
    - noise: what the schedule's decay takes from the loss is in proportion to the rate,
      at most (the noise floor of SGD), so `_CAUTION` times the rates' ratio of what it
      took from a reference;
    - at a higher rate than the reference's, a late start: when the decay has brought
      the rate down the run learns `_CAUTION` times as fast as the reference did from
      the same loss on.

    Args:
        curve: of the run, as far as it goes, at least to that part.
        steps: of the whole run.
        part: of its length, above 0 and below 1.
        references: finished runs of the same size and rate, one a seed.
        rate_ratio: learning rate of the run over theirs.

    Returns:
        None where a curve says too little, or a loss is not above 0.
    """
    line = _read_line(curve, part * steps)
    theirs = [_read_line(one, part * steps) for one in references]
    ends = [find_end(one) for one in references]
    if line is None or None in theirs or not all(end > 0 for end in ends):
        return None
    own, margin = math.exp(line.level), math.exp(_ERRORS * line.level_error)
    levels = [math.exp(one.level) for one in theirs if one]
    falls = [max(0.0, 1 - end / level) for end, level in zip(ends, levels, strict=True)]
    value = min(own * part ** max(-line.slope, 0.0), own * (1 - float(np.mean(falls))))
    steepest = max(_ERRORS * line.slope_error - line.slope, 0.0)
    lows = [own / margin * math.exp(-steepest * (1 / part - 1))]
    for level, end, reference in zip(levels, ends, references, strict=True):
        noise = _CAUTION * max(rate_ratio, 1.0) * max(level - end, 0.0)
        lows.append(own / margin - noise)
        if rate_ratio > 1:
            lows.append(_find_late_end(reference, own / margin, part))
    done = int(curve.steps[curve.steps <= part * steps][-1])
    low = min(*lows, value)
    return Outlook(done, value, max(0.0, low), max(own * margin, value))


def find_end(curve: Curve) -> float:
    """Mean loss over the last tenth of a finished run; NaN where it diverged."""
    is_last = curve.steps > (1 - _END) * curve.steps[-1]
    lengths = np.diff(curve.steps, prepend=0)
    return float(np.average(curve.losses[is_last], weights=lengths[is_last]))


def _read_line(curve: Curve, until: float) -> _Line | None:
    """The line through the stretches before a moment; None where there are too few."""
    begins = np.concatenate([[0], curve.steps[:-1]])
    is_seen = (begins >= _SEEN * until) & (curve.steps <= until)
    losses = curve.losses[is_seen].astype(float)
    if len(losses) < _LEAST_STRETCHES or not np.all(losses > 0):  # nor NaN
        return None
    weights = (curve.steps - begins)[is_seen].astype(float)
    x = np.log((curve.steps + begins + 1)[is_seen] / 2 / until)
    y = np.log(losses)
    design = np.column_stack([np.ones_like(x), x])
    normal = design.T @ (weights[:, None] * design)
    level, slope = np.linalg.solve(normal, design.T @ (weights * y))
    left = y - level - slope * x
    variance = float(np.sum(weights * left**2)) / (len(x) - 2)
    errors = np.sqrt(np.diag(np.linalg.inv(normal)) * variance)
    return _Line(float(level), float(slope), float(errors[0]), float(errors[1]))


def _find_late_end(reference: Curve, loss: float, part: float) -> float:
    """Where a run ends that now learns as the reference did from this loss on, faster.

    Args:
        reference: a finished run.
        loss: of the run.
        part: of its length that is over.
    """
    steps = int(reference.steps[-1])
    begins = np.concatenate([[0], reference.steps[:-1]])
    places = np.append((begins + reference.steps + 1) / 2 / steps, 1.0)
    losses = np.append(reference.losses, find_end(reference)).astype(float)
    is_above = losses > loss
    begin = float(places[is_above][-1]) if is_above.any() else 0.0
    return float(np.interp(begin + _CAUTION * (1 - part), places, losses))

"""Can I trust it?"""

import math
from typing import NamedTuple

import numpy as np

from scalepred.metrics import find_noun
from scalepred.report import format
from scalepred.report.results import PredictionRow, Results
from scalepred.report.verdict.card import Card

# The share of held-out points that intervals must hold, and the typical error as a
# share of the improvement that is asked about.
_GOOD_SHARE, _POOR_SHARE = 0.8, 0.5
_GOOD_ERROR, _POOR_ERROR = 1 / 3, 1.0
_LARGE_ERROR = 0.1  # less than that is not called poor
# Mean or deviation of cross-validation: the law does not even meet its own points.
_POOR_FIT = 0.5
# Of pairs of points, one with more of every size, the share where that is better.
_FALLS, _FALLS_MOSTLY = 0.5, 0.8
_MOST_COMPARED = 1500  # points
_BEYOND = 1.5  # a question so many times beyond the checks is told so
_WIDE = 4.0  # times between the ends of an interval, at least, to call it too wide


class _Checks(NamedTuple):
    """What held-out points, and targets that were trained, say of the law.

    Attributes:
        number: of them.
        typical: mean of |predicted / measured - 1|.
        worst: the largest.
        at_worst: where that is.
        inside: how many lie in their 90 % intervals; -1: there are no intervals.
        too_high: how many were predicted too high.
        distance: the largest of them over the largest fitted run, in compute.
    """

    number: int
    typical: float
    worst: float
    at_worst: PredictionRow
    inside: int
    too_high: int
    distance: float


def _checks(results: Results) -> _Checks | None:
    rows = results.checks
    if not rows:
        return None
    errors = [abs(row.relative_error) for row in rows]
    known = math.isfinite(rows[0].lower)
    return _Checks(
        number=len(rows),
        typical=float(np.mean(errors)),
        worst=max(errors),
        at_worst=rows[int(np.argmax(errors))],
        inside=sum(row.lower <= row.measured <= row.upper for row in rows)
        if known
        else -1,
        too_high=sum(row.relative_error > 0 for row in rows),
        distance=max(row.compute for row in rows) / largest_fitted(results),
    )


def largest_fitted(results: Results) -> float:
    """FLOPs of the largest run that the law was fitted to."""
    return max(row.compute for row in results.predictions if row.region == "fit")


def trust_card(results: Results) -> Card:
    checks, question = _checks(results), "Can I trust it?"
    refuted = _refuted(results)
    if refuted:
        sentences = (*refuted[1:], *_say_checks(results, checks))
        return Card("trust", question, "no", f"No: {refuted[0]}", sentences)
    if checks is None:
        return _unchecked(results, question)
    reach = f"up to {format.ratio(max(checks.distance, 1.0), 1)} times the largest "
    reach = (
        f"{reach}fitted run" if checks.distance > 1 else "among runs of the same size"
    )
    doubts, is_poor = _doubts(results, checks)
    sentences = (*_say_checks(results, checks), *doubts)
    if is_poor:
        return Card("trust", question, "no", "No: larger runs refute it", sentences)
    badge = _badge(results, checks.distance)
    if doubts:
        return Card("trust", question, "care", f"With care, {reach}", sentences, badge)
    return Card("trust", question, "yes", f"Yes, {reach}", sentences, badge)


def _refuted(results: Results) -> list[str]:
    """Why no number of this fit should be used: in a few words, then in full."""
    told = results.fit.not_scaling
    # Where larger runs were held out they judge the law, and this is a doubt.
    if told is not None and not results.checks:
        yet = "" if told.code == "does_not_scale" else " yet"
        return [f"this does not scale as a law{yet}", told.sentence]
    falls = share_that_falls(results)
    thing = find_noun(results.surface.metric)
    if falls < _FALLS:
        return [
            f"the {thing} does not fall as sizes grow",
            f"of pairs of points of which one has more of everything, only "
            f"{format.whole_percent(falls)} have the lower {thing} there",
        ]
    checked = results.fit.cross_validation
    off = max(abs(checked.mean), checked.std) if checked.num_folds else 0.0
    if off > _POOR_FIT:
        return [
            "it does not meet its own points",
            "points left out of the fit are missed by "
            f"{format.percent(off)} in cross-validation",
        ]
    far = farthest(results)
    values = results.surface.value
    if far and far.upper / far.lower > max(_WIDE, values.max() / values.min()):
        span = format.ends(far.lower, far.upper, results.surface.metric)
        place = format.sizes(far.params, far.data, results.surface)
        return [
            "it does not know",
            f"the 90% interval at {place} is {span}, wider than all that was measured",
        ]
    return []


def share_that_falls(results: Results) -> float:
    """Of pairs of points, one with more of every size, the share where it is better.

    1 where no two points can be compared. Sizes are those that the law depends on.
    """
    surface = results.surface
    axes = [a for a in ("params", "data") if a in results.fit.law.axes]
    step = -(-len(surface) // _MOST_COMPARED)
    sizes = np.stack([getattr(surface, axis)[::step] for axis in axes])
    value = surface.value[::step]
    more = np.all(sizes[:, :, None] > sizes[:, None, :], axis=0)
    if not np.any(more):
        return 1.0
    better = (value[:, None] < value) + 0.5 * (value[:, None] == value)
    return float(np.sum(better[more]) / np.sum(more))


def farthest(results: Results) -> PredictionRow | None:
    """The largest target; where there is none, the largest point.

    With a fixed number of steps data cost nothing, and count all the same.
    """
    rows = [row for row in results.predictions if row.region == "target"]
    rows = [row for row in rows or results.predictions if math.isfinite(row.lower)]
    return max(rows, key=lambda row: (row.compute, row.params * row.data), default=None)


def _doubts(results: Results, checks: _Checks) -> tuple[list[str], bool]:
    """What speaks against trust, and whether it is enough to say no."""
    doubts, is_poor = [], False
    if 0 <= checks.inside < _GOOD_SHARE * checks.number:
        is_poor = checks.inside < _POOR_SHARE * checks.number
        doubts.append("the intervals are too narrow")
    gap = _gap(results)
    if checks.typical > _GOOD_ERROR * gap:
        is_poor |= checks.typical > _POOR_ERROR * gap and checks.typical > _LARGE_ERROR
        doubts.append(
            "the improvement that is predicted, "
            f"{format.percent(gap)}, is not much larger than the typical error"
        )
    if results.fit.not_scaling is not None:
        doubts.append(results.fit.not_scaling.sentence)
    if "back_test_failed" in {warning.code for warning in results.fit.warnings}:
        doubts.append("a back-test inside the fit missed by far more than it promised")
    falls = share_that_falls(results)
    if falls < _FALLS_MOSTLY:
        doubts.append(
            f"more of everything is better in only {format.whole_percent(falls)} of "
            "the pairs of points"
        )
    return doubts, is_poor


def _gap(results: Results) -> float:
    """The improvement that is asked about, as a share of the best fitted value."""
    best = float(results.fit.surface.value.min())
    asked = [row.predicted for row in results.predictions if row.region != "fit"]
    asked += [one.value for one in results.answers if one.question == "best_for_budget"]
    return abs(math.log(best / min(asked, default=best)))


def _say_checks(results: Results, checks: _Checks | None) -> list[str]:
    if checks is None:
        return []
    several = checks.number > 1
    text = (
        f"{checks.number:,} {'sizes' if several else 'size'} it never saw: "
        f"{'typically ' if several else ''}{format.percent(checks.typical)} off"
    )
    if several:
        place = format.sizes(
            checks.at_worst.params, checks.at_worst.data, results.surface
        )
        text += f" (mean of |predicted / measured − 1|), {format.percent(checks.worst)}"
        text += f" at worst, at {place}"
    if several and checks.too_high in (0, checks.number):
        text += f", always too {'high' if checks.too_high else 'low'}"
    elif several and not 0.1 < checks.too_high / checks.number < 0.9:
        is_high = checks.too_high > checks.number / 2
        text += f", nearly always too {'high' if is_high else 'low'}"
    said = [text]
    if checks.inside >= 0:
        said.append(
            f"{checks.inside:,} of {checks.number:,} are inside their 90% interval"
        )
    return said


def _unchecked(results: Results, question: str) -> Card:
    tests = results.fit.inner_tests
    sentences = ["no run was held out, so no larger run has checked a prediction"]
    verdict, headline = "unchecked", "Unchecked: nothing was held out"
    if tests:
        far = max(tests, key=lambda test: test.ratio)
        sentences.append(
            f"inside the fit, hiding the top {format.ratio(far.ratio, 1)} times of "
            f"compute was missed by {format.percent(far.error)}"
        )
    failed = [
        warning
        for warning in results.fit.warnings
        if warning.code == "back_test_failed"
    ]
    if failed:
        verdict, headline = "no", "No: its own back-test failed"
        sentences.append(failed[0].sentence)
    sentences.append(
        "hold the largest runs out to check it: --fit_max_compute_ratio=10 with a "
        "table, fit.max_params_ratio in a config"
    )
    badge = _badge(results, 1.0)
    return Card("trust", question, verdict, headline, tuple(sentences), badge)


def _badge(results: Results, checked: float) -> str:
    """How far the farthest question lies beyond what was checked."""
    asked = [row.compute for row in results.predictions if row.region == "target"]
    asked += [
        one.asked["budget"]
        for one in results.answers
        if one.question == "best_for_budget"
    ]
    distance = max(asked, default=0.0) / largest_fitted(results)
    if distance <= _BEYOND * max(checked, 1.0):
        return ""
    until = (
        f"up to {format.ratio(checked, 1)} times" if checked > 1 else "nothing beyond"
    )
    return (
        f"You ask for {format.ratio(distance, 1)} times the largest fitted run; "
        f"{'checked ' if checked > 1 else 'checked: '}{until}"
    )

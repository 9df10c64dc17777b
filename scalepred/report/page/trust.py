"""How far the law may be trusted: pictures of its misses, and scores in words."""

import numpy as np

from scalepred.fitting.scores import coverage
from scalepred.report import elements, format, words
from scalepred.report.elements import Section
from scalepred.report.page import trust_charts
from scalepred.report.results import PredictionRow, Results


def trust(results: Results) -> Section:
    """Predicted against measured, error against distance, scores, back-tests."""
    pictures = elements.figure(
        trust_charts.predicted_against_measured(results),
        "each run as predicted against as measured; on the diagonal they agree",
    ) + elements.figure(
        trust_charts.error_by_distance(results),
        "how far the law was off, against how far beyond the fitted runs it was asked",
    )
    body = f'<div class="pair">\n{pictures}</div>\n' if pictures else ""
    return Section("trust", "Trust", body + _scores(results) + _forecasts(results))


def _scores(results: Results) -> str:
    rows = [
        _score("held out: never seen by the law", _region(results, "held_out")),
        _score("fitted: what it was made from", _region(results, "fit")),
    ]
    table = elements.table(
        "typical error: mean of |predicted / measured − 1|; bias: the mean with its "
        "sign, above 0 where predictions are too high; inside: share of measurements "
        "within their 90% intervals",
        ["runs", "number", "typical error", "worst", "bias", "inside"],
        [row for row in rows if row] + _back_tests(results),
        text_columns=(0,),
    )
    return table + elements.bullets(_notes(results))


def _forecasts(results: Results) -> str:
    """What was said of runs before they were measured, the largest first."""
    surface = results.surface
    if not results.verified:
        return ""
    order = sorted(
        results.verified, key=lambda one: (-one.compute, -one.params * one.data)
    )
    first, *others = (
        words.describe_verified(one, surface.metric, format.unit(surface))
        for one in order
    )
    body = elements.heading("Forecast, then measured") + elements.paragraph(first)
    if others:
        body += elements.folded(f"{len(others)} more", elements.bullets(others))
    return body


def _region(results: Results, region: str) -> list[PredictionRow]:
    return [row for row in results.predictions if row.region == region]


def _score(name: str, rows: list[PredictionRow]) -> list[str]:
    if not rows:
        return []
    off = np.array([row.relative_error for row in rows])
    measured, lower, upper = np.array(
        [(row.measured, row.lower, row.upper) for row in rows]
    ).T
    inside = elements.NOTHING
    if np.all(np.isfinite(lower)):
        inside = format.whole_percent(float(coverage(measured, lower, upper)))
    return [
        name,
        f"{len(rows):,}",
        format.percent(float(np.mean(np.abs(off)))),
        format.percent(float(np.max(np.abs(off)))),
        format.percent(float(np.mean(off))),
        inside,
    ]


def _back_tests(results: Results) -> list[list[str]]:
    """Inside the fit: the largest compute is hidden, and predicted from the rest."""
    return [
        [
            f"back-test: the top {test.ratio:g} times of compute hidden",
            f"{test.num_hidden:,}",
            format.percent(test.error),
            elements.NOTHING,
            elements.NOTHING,
            elements.NOTHING,
        ]
        for test in results.fit.inner_tests
    ]


def _notes(results: Results) -> list[str]:
    fit, said = results.fit, []
    if not words.held_out(results).num_points:
        said.append(
            "nothing was held out, so no larger run has checked the law; give "
            "--fit_max_compute_ratio=10 to hold out the top ten times of compute"
        )
    if not fit.inner_tests:
        said.append("too few points for back-tests inside the fit")
    folds = fit.cross_validation
    if folds.num_folds:
        said.append(
            f"cross-validation, {folds.num_folds} folds of the fitted points: off by "
            f"{format.mean_and_std(folds.mean, folds.std)} (mean ± standard "
            "deviation); it says nothing of larger runs"
        )
    return said

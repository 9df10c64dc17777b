"""report.html: one file that needs nothing else, for people who were not there.

All text goes through `elements.escape`: tasks, units and devices come from files that
anyone may have written. Figures are images inside the file; there is no script.
"""

import base64
import math

from etils import epath

from scalepred.fitting.fit import Fit
from scalepred.report import elements, format, words
from scalepred.report.plot_data import choose_corners
from scalepred.report.results import PredictionRow, Results
from scalepred.runtime.files import write_whole

# More predictions than this stand in predictions.csv only.
_MAX_ROWS = 12

_CSS = """
:root { color-scheme: light dark; --text: #1d2329; --faint: #59636e; --back: #ffffff;
  --panel: #f4f6f8; --line: #d5dbe1; --accent: #0b5cad; --warn: #fff4dc;
  --warn-line: #d99a1c; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --faint: #a0abb6;
  --back: #14181c; --panel: #1e242a; --line: #39424b; --accent: #7db7f0;
  --warn: #33290f; --warn-line: #c08a1d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 1000px; color: var(--text);
  background: var(--back); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .2rem; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .6rem; font-size: 1.3rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
p, ul { margin: .5rem 0; }
li { margin: .3rem 0; overflow-wrap: anywhere; }
.faint, figcaption { color: var(--faint); font-size: .9rem; }
.panel { margin: 1.2rem 0; padding: .7rem 1.1rem; border-radius: 8px;
  background: var(--panel); border: 1px solid var(--line); }
.warnings { background: var(--warn); border-color: var(--warn-line);
  border-left-width: 5px; }
.panel h2 { margin: .2rem 0 .4rem; font-size: 1.05rem; }
.tiles { display: grid; gap: .8rem; margin: 1.2rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); }
.tiles li { margin: 0; padding: .7rem 1rem; border: 1px solid var(--line);
  border-radius: 8px; }
.tiles strong { display: block; font-size: 1.35rem; font-weight: 600;
  font-variant-numeric: tabular-nums; color: var(--accent); }
.tiles span { color: var(--faint); font-size: .85rem; line-height: 1.3;
  display: block; }
figure { margin: .8rem 0 2rem; }
figure img { display: block; width: 100%; height: auto; padding: 8px; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; }
figcaption { margin-top: .5rem; }
.scroll { overflow-x: auto; margin: .4rem 0 1.2rem; }
figure .scroll img { min-width: 640px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; }
th, td { padding: .32rem .8rem .32rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td, thead th { white-space: nowrap; }
th:first-child { text-align: left; min-width: 6.5em; }
td.text, th.text { text-align: left; white-space: normal; min-width: 14em; }
code { font-family: ui-monospace, monospace; font-size: .92em;
  overflow-wrap: anywhere; }
@media print { body { max-width: none; font-size: 11pt; }
  figure .scroll img { min-width: 0; }
  figure, table, .panel { break-inside: avoid; } h2 { break-after: avoid; } }
"""

# Heading, what is seen (also for who cannot see it), by figure.
_FIGURES = {
    "predicted": (
        "Predicted against measured",
        "Left: what the law predicts against what was measured; on the diagonal they "
        "agree. Right: the relative error of each prediction against the compute of "
        "a run. Open circles: points fitted; filled squares: points held out; stars: "
        "targets, forecast before they were trained; bars: 90% intervals for a new "
        "measurement.",
    ),
    "surface": (
        "The surface",
        "Colour and contours: the fitted law over model size m and data size n. "
        "Points are filled with the colour of what was measured there, so a point "
        "that vanishes in its surroundings is met by the law. Circles: fitted; "
        "squares: held out; stars: targets, filled with what was forecast.",
    ),
    "curves": (
        "Along each size",
        "Left: against n at fixed m. Right: against m at fixed n. Lines: the law; "
        "bands: 90% intervals for a new measurement; open circles: points fitted; "
        "filled squares: points held out.",
    ),
    "epochs": (
        "Repeated data",
        "Against the passes over the data, at the m and n that were measured at most "
        "of them. Lines: the law; open circles: points fitted; filled squares: points "
        "held out.",
    ),
    "corners": (
        "Extrapolation from every corner",
        "The protocol of the paper (section 7): the law is fitted to all points up to "
        "one m and one n, and predicts the points at or beyond both. Colour and "
        "number: mean and standard deviation of the relative error, "
        "predicted / measured - 1. The frame marks the corner of this fit region.",
    ),
}


def write_page(path: epath.Path, results: Results, figures: dict[str, bytes]) -> None:
    """Writes the report as one HTML file.

    Args:
        path: the file.
        results: all that is told.
        figures: SVG files by name.
    """
    surface, fit = results.surface, results.fit
    subtitle = (
        f"{surface.task or 'no task named'} · {surface.metric} · "
        f"{len(surface)} points, {len(fit.surface)} of them fitted · "
        f"{fit.law.name} law"
    )
    sections = [
        _warnings(fit),
        _answers(results),
        _tiles(results),
        *(_figure(name, figure) for name, figure in figures.items()),
        _corner_table(results),
        _law(results),
        _trust(results),
        _prediction_table(results),
        _what_was_run(results),
        _notes(results),
    ]
    title = elements.escape(results.title)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_CSS}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{_headline(results)}<p class="faint">{elements.escape(subtitle)}</p>
</header>
<main>
{"".join(sections)}
</main>
</body>
</html>
"""
    write_whole(path, page)


def _headline(results: Results) -> str:
    text = words.headline(results)
    if not text:
        return ""
    return f"<p><strong>{elements.escape(format.sentence(text))}</strong></p>\n"


def _warnings(fit: Fit) -> str:
    if not fit.warnings:
        return '<p class="panel">No warnings about this fit.</p>\n'
    items = "".join(
        f"<li><code>{elements.escape(warning.code)}</code>: "
        f"{elements.escape(format.sentence(warning.sentence))}</li>\n"
        for warning in fit.warnings
    )
    return (
        f'<section class="panel warnings" aria-label="Warnings">\n<h2>Warnings</h2>\n'
        f"<ul>\n{items}</ul>\n</section>\n"
    )


def _answers(results: Results) -> str:
    asked = [
        words.describe_answer(answer, results.surface) for answer in results.answers
    ]
    asked += [words.describe_target(row, results) for row in words.targets(results)]
    text = '<section class="panel">\n<h2>Answers</h2>\n'
    nothing = elements.paragraph("nothing was asked of the law")
    text += elements.bullets(asked) if asked else nothing
    text += elements.paragraph("compute: " + words.describe_compute(results))
    return text + "</section>\n"


def _tiles(results: Results) -> str:
    """The few numbers to look at first; those that there are."""
    score, checked = words.held_out(results), results.fit.cross_validation
    tiles = []
    if score.num_points:
        tiles.append(
            (
                format.mean_and_std(score.mean, score.std),
                f"relative error, mean ± std, of {score.num_points} held-out points",
            )
        )
    if score.num_points and words.has_intervals(results):
        tiles.append(
            (
                format.whole_percent(score.coverage),
                "of held-out points within their 90% intervals",
            )
        )
    if checked.num_folds:
        tiles.append(
            (
                format.mean_and_std(checked.mean, checked.std),
                "relative error in cross-validation of the points fitted",
            )
        )
    if words.largest_run(results).region != "fit":
        tiles.append(
            (
                format.ratio(results.largest_flops, results.fit_flops) + " times",
                "compute of one run of the largest size, over the whole fit region",
            )
        )
    items = "".join(
        f"<li><strong>{elements.escape(number)}</strong> "
        f"<span>{elements.escape(label)}</span></li>\n"
        for number, label in tiles
    )
    return f'<ul class="tiles">\n{items}</ul>\n' if tiles else ""


def _figure(name: str, svg: bytes) -> str:
    heading, caption = _FIGURES[name]
    image = base64.b64encode(svg).decode("ascii")
    caption = elements.escape(caption)
    return (
        f"<section>\n<h2>{elements.escape(heading)}</h2>\n<figure>\n"
        f'<div class="scroll"><img src="data:image/svg+xml;base64,{image}" '
        f'alt="{caption}"></div>\n'
        f"<figcaption>{caption}</figcaption>\n</figure>\n</section>\n"
    )


def _corner_table(results: Results) -> str:
    params, data, corners = choose_corners(results.corners)
    if not corners:
        return ""
    fitted = results.fit.surface
    own = fitted.params.max(), fitted.data.max()
    rows = []
    for n in reversed(data):
        row = [format.count(n)]
        for m in params:
            corner = corners.get((m, n))
            if corner is None:
                row.append("")
                continue
            # One point has no spread.
            several = corner.num_targets > 1
            text = format.mean_and_std(corner.mean, corner.std)
            row.append(text if several else format.percent(corner.mean))
            if (m, n) == own:
                row[-1] += " *"
        rows.append(row)
    caption = (
        "Relative error, mean ± std, of the points beyond each corner. Columns: fitted "
        f"up to m parameters; rows: fitted up to n {format.unit(results.surface)}; "
        "*: the corner of this fit region."
    )
    left_out = len(results.corners) - len(corners)
    if left_out:
        caption += (
            f" {left_out} more corners hold too few points to be fitted, or are too "
            "many to be shown; fit.json has them all."
        )
    header = ["n \\ m", *(format.count(m) for m in params)]
    return elements.table(caption, header, rows)


def _law(results: Results) -> str:
    fit, metric = results.fit, results.surface.metric
    rows = [
        [
            name,
            format.number(estimate.value),
            format.number(estimate.lower),
            format.number(estimate.upper),
            format.describe_parameter(name, metric),
        ]
        for name, estimate in fit.parameters.items()
    ]
    reference = format.sizes(fit.fitted.params_unit, fit.fitted.data_unit, fit.surface)
    caption = f"sizes m and n in {fit.law.unit}; the reference sizes are {reference}"
    formula = elements.escape(fit.law.formula or "no formula given")
    source = fit.law.source or "a law of your own"
    health = [
        f"{fit.starts} starts; of those carried to the end {fit.agree:.0%} found this "
        f"optimum; status {fit.status.name.lower().replace('_', ' ')}",
        f"residual minimised: {fit.residual}; objective {fit.objective:.4g}",
        f"parameters at a bound: {', '.join(fit.bounds_hit) or 'none'}; condition "
        f"number {fit.condition_number:.2g}",
    ]
    return (
        "<section>\n<h2>The law</h2>\n"
        f"<p><code>{metric} = {formula}</code></p>\n"
        + elements.paragraph(f"source: {source}")
        + elements.table(
            format.sentence(caption),
            ["parameter", "value", "lower (90%)", "upper (90%)", "meaning and unit"],
            rows,
            text_columns=(4,),
        )
        + elements.bullets(health)
        + "</section>\n"
    )


def _trust(results: Results) -> str:
    fit = results.fit
    has_intervals = words.has_intervals(results)
    scores = [
        [
            score.name,
            str(score.num_points),
            format.percent(score.mean),
            format.percent(score.std),
            format.whole_percent(score.coverage) if has_intervals else format.UNKNOWN,
        ]
        for score in results.scores
    ]
    text = "<section>\n<h2>How far to trust it</h2>\n"
    text += elements.table(
        "Relative error, predicted / measured - 1.",
        ["points", "number", "mean", "std", "within 90% intervals"],
        scores,
    )
    checked = fit.cross_validation
    if checked.num_folds:
        text += elements.paragraph(
            f"cross-validation ({checked.num_folds} folds of the points fitted): mean "
            f"{format.mean_and_std(checked.mean, checked.mean_spread)}, std "
            f"{format.mean_and_std(checked.std, checked.std_spread)}, ± over folds"
        )
    else:
        text += elements.paragraph("too few points for cross-validation")
    text += _back_tests(fit)
    return text + _intervals(fit) + "</section>\n"


def _back_tests(fit: Fit) -> str:
    """How well the largest compute of the fit region was predicted from the rest."""
    if fit.inner_tests:
        return elements.table(
            "Back-tests inside the fit region: its largest compute is hidden and "
            "predicted. A surprise above 1 means that the errors were larger than the "
            "smaller fit promised.",
            ["hidden: above", "fitted", "hidden", "mean |relative error|", "surprise"],
            [
                [
                    f"1/{test.ratio:g} of the compute",
                    str(test.num_fitted),
                    str(test.num_hidden),
                    format.percent(test.error),
                    f"{test.surprise:.2g}",
                ]
                for test in fit.inner_tests
            ],
        )
    return elements.paragraph("too few points for back-tests inside the fit region")


def _intervals(fit: Fit) -> str:
    """How far points lie from the law, and what the intervals come from."""
    noise, misfit = fit.fitted.noise, fit.fitted.misfit
    repeated = "no point was measured twice, so run-to-run noise is not known"
    if noise.sd:
        repeated = f"run-to-run noise {format.percent(noise.sd)} of the value"
    intervals = "without resamples there are no intervals"
    has_draws = len(fit.fitted.draws) > 0
    if has_draws:
        intervals = f"intervals are from {len(fit.fitted.draws):,} resamples"
    if has_draws and fit.fitted.growth > 1:
        grown = format.ratio(fit.fitted.growth, 1.0)
        is_gradual = math.isfinite(fit.fitted.reach)
        intervals += ", widened " + ("up to " if is_gradual else "")
        intervals += f"{grown} times for what the back-tests missed"
        if is_gradual:
            intervals += ", the farther from the fit region the more"
    return elements.bullets(
        [f"misfit of the law {format.percent(misfit)}; {repeated}", intervals]
    )


def _prediction_table(results: Results) -> str:
    """Targets, then the largest held-out runs."""
    held_out = [row for row in results.predictions if row.region == "held_out"]
    held_out.sort(key=lambda row: -row.compute)
    chosen = (words.targets(results) + held_out)[:_MAX_ROWS]
    if not chosen:
        return ""
    metric, has_epochs = results.surface.metric, results.surface.epochs is not None

    def say(value: float) -> str:
        return format.measured(value, metric, with_unit=False)

    def cells(row: PredictionRow) -> list[str]:
        is_target = row.region == "target"
        return [
            row.region.replace("_", " "),
            format.count(row.params),
            format.count(row.data),
            *([format.count(row.epochs)] if has_epochs else []),
            format.flops(row.compute),
            "" if is_target else say(row.measured),
            say(row.predicted),
            say(row.lower),
            say(row.upper),
            "" if is_target else format.percent(row.relative_error),
        ]

    header = [
        "",
        "m",
        f"n ({format.unit(results.surface)})",
        *(["epochs"] if has_epochs else []),
        "FLOPs",
        "measured",
        "predicted",
        "lower (90%)",
        "upper (90%)",
        "relative error",
    ]
    value = format.metric_label(metric)
    caption = (
        f"Values are {value}. Targets, then held-out runs by falling compute; "
        "predictions.csv has every point."
    )
    table = elements.table(caption, header, [cells(row) for row in chosen])
    return f"<section>\n<h2>The largest predictions</h2>\n{table}</section>\n"


def _what_was_run(results: Results) -> str:
    done = results.training
    if done is None:
        items = ["the measurements came from a table; nothing was trained here"]
    else:
        devices = ", ".join(device for device in done.devices)
        items = [
            f"{done.num_runs:,} runs ended well, {done.num_failed:,} did not",
            f"{format.flops(done.flops)} FLOPs in {format.duration(done.seconds)} on "
            f"{devices or 'unknown devices'}, beside compilation",
            f"{done.num_programs:,} compiled programs; compilation in this call took "
            f"{format.duration(done.compile_seconds)}, of which training waited for "
            f"{format.duration(done.wait_seconds)}",
            f"lanes busy in this call: {format.percent(done.lane_utilization)}",
        ]
    items.append(f"what a run costs by its sizes: {words.describe_cost(results)}")
    versions = ", ".join(f"{name} {text}" for name, text in results.versions.items())
    items.append(f"versions: {versions}")
    return f"<section>\n<h2>What was run</h2>\n{elements.bullets(items)}</section>\n"


def _notes(results: Results) -> str:
    # The notes of a surface travel with its fit.
    notes = list(dict.fromkeys((*results.surface.notes, *results.fit.notes)))
    if not notes:
        return ""
    items = elements.bullets(notes)
    return f"<section>\n<h2>Notes: choices made</h2>\n{items}</section>\n"

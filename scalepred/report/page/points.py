"""Every point, with what the law says of it."""

import math

from scalepred.report import elements, format
from scalepred.report.elements import Section
from scalepred.report.results import PredictionRow, Results

# More rows than these are put there by the script.
STATIC_ROWS = 50
REGIONS = {"fit": "fitted", "held_out": "held out", "target": "target"}


def in_order(results: Results) -> list[PredictionRow]:
    """Targets, then the other points by falling compute."""
    return sorted(
        results.predictions, key=lambda row: (row.region != "target", -row.compute)
    )


def points(results: Results) -> Section:
    """The first rows of the table; the script adds the others and sorts them."""
    rows, surface = in_order(results), results.surface
    has_epochs = surface.epochs is not None
    header = [
        "parameters",
        format.unit(surface),
        *(["epochs"] if has_epochs else []),
        "FLOPs",
        "run",
        "measured",
        "predicted",
        "90% interval",
        "off by",
    ]
    shown = rows[:STATIC_ROWS]
    caption = (
        f"measured, predicted, interval: {format.metric_label(surface.metric)}; "
        "targets first, then by falling compute"
    )
    if len(rows) > len(shown):
        caption += f"; {len(shown)} of {len(rows):,} rows, predictions.csv has all"
    table = elements.table(
        caption,
        header,
        [_cells(row, surface.metric, has_epochs) for row in shown],
        id="points-table",
    )
    return Section("points", "Every point", table)


def _cells(row: PredictionRow, metric: str, has_epochs: bool) -> list[str]:
    def say(value: float) -> str:
        if math.isnan(value):
            return elements.NOTHING
        return format.measured(value, metric, with_unit=False)

    is_open = math.isnan(row.relative_error)
    return [
        format.count(row.params),
        format.count(row.data),
        *([format.count(row.epochs)] if has_epochs else []),
        format.flops(row.compute),
        REGIONS[row.region],
        say(row.measured),
        say(row.predicted),
        format.ends(row.lower, row.upper, metric) or elements.NOTHING,
        elements.NOTHING if is_open else format.percent(row.relative_error),
    ]

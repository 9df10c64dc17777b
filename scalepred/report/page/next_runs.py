"""What to train next, to be surer of what was asked."""

import math

from scalepred.config import UserError
from scalepred.fitting.design.cells import NextCell
from scalepred.report import elements, format, words
from scalepred.report.elements import Section
from scalepred.report.results import PredictionRow, Results

# Of what one run of the target costs.
_SHARE = 0.1
_MOST_RUNS = 5


def next_runs(results: Results) -> Section:
    """At most five runs that narrow the interval of the largest target."""
    return Section("next", "Train next", _body(results))


def _body(results: Results) -> str:
    open_targets = [row for row in words.targets(results) if math.isnan(row.measured)]
    if not open_targets:
        return elements.paragraph(
            "name a --target that is not measured yet, and this tells which small runs "
            "would make its prediction surer"
        )
    target = max(open_targets, key=lambda row: row.compute)
    if len(results.fit.law.axes) == 1:
        return elements.paragraph(
            "along one size the largest run that one can afford tells most; which is "
            "best can be told for laws of both sizes only"
        )
    place = format.sizes(target.params, target.data, results.surface)
    budget = _SHARE * target.compute
    try:
        chosen = _choose(results, target, budget)
    except UserError as error:
        return elements.paragraph(f"this cannot be told: {error}")
    if not chosen:
        return elements.paragraph(
            f"no run for a tenth of the cost of {place} would make its prediction surer"
        )
    total = sum(cell.cost for cell in chosen)
    caption = (
        f"runs that narrow the prediction for {place} most, in order; together "
        f"{format.flops(total)} FLOPs, {format.percent(total / target.compute)} of "
        "what that run itself costs (a tenth was allowed)"
    )
    return elements.table(
        caption,
        ["run", "parameters", format.unit(results.surface), "FLOPs", "90% interval"],
        [_row(i, cell) for i, cell in enumerate(chosen, start=1)],
    )


def _choose(results: Results, target: PredictionRow, budget: float) -> list[NextCell]:
    epochs = target.epochs if "epochs" in results.fit.law.axes else None
    place = target.params, target.data
    return results.fit.next_cells(budget, place, epochs, most=_MOST_RUNS)


def _row(number: int, cell: NextCell) -> list[str]:
    return [
        str(number),
        format.count(cell.params),
        format.count(cell.data),
        format.flops(cell.cost),
        f"± {format.percent(cell.before)} to ± {format.percent(cell.after)}",
    ]

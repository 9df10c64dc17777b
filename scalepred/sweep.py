"""The envelope over hyper-parameters: at each point the rates that did best count.

Chosen by the mean over seeds on the validation part, so that the test value of the
chosen runs, which is what is fitted, has not been looked at.
"""

import collections
import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scalepred.grid import Cell
from scalepred.table.rows import Measurement

# What is chosen, by the name of its field in a cell.
RATES = ("learning_rate", "weight_decay")


class Choice(NamedTuple):
    """What was chosen at one point, a width, a depth and a data size."""

    params: int
    data: int
    width: int
    depth: int
    learning_rate: float
    weight_decay: float
    validation_value: float  # mean over seeds; infinite if no rate was without failure
    value: float  # test value, mean over seeds
    at_edge: tuple[str, ...]  # rates that are the least or the largest tried


def choose(
    cells: Sequence[Cell], rows: Mapping[str, Measurement], metric: str
) -> tuple[list[Measurement], list[Choice]]:
    """Of every point the runs with the best rates.

    A rate with which any seed failed is taken only if every rate has such a seed.

    Args:
        cells: of the grid.
        rows: by cell id, one for each cell.
        metric: of the task, by whose validation value is chosen; of a further test set
            (NAME_error) that of the metric itself.

    Returns:
        Rows of the chosen runs, in the order of `cells`, and what was chosen.
    """
    points: dict[tuple, dict[tuple, list[Measurement]]] = {}
    for cell in cells:
        settings = points.setdefault((cell.depth, cell.width, cell.dataset_size), {})
        rates = tuple(getattr(cell, name) for name in RATES)
        settings.setdefault(rates, []).append(rows[cell.cell_id])
    chosen, choices = [], []
    for settings in points.values():
        best = min(settings, key=lambda rates: _judge(settings[rates], metric))
        runs = settings[best]
        chosen += runs
        choices.append(
            Choice(
                params=runs[0].params,
                data=runs[0].data,
                width=runs[0].width,
                depth=runs[0].depth,
                learning_rate=best[0],
                weight_decay=best[1],
                validation_value=_judge(runs, metric),
                value=float(np.mean([row.read(metric) for row in runs])),
                at_edge=_find_edges(best, list(settings)),
            )
        )
    return chosen, choices


def _judge(runs: Sequence[Measurement], metric: str) -> float:
    """Mean validation value; infinite where a run failed."""
    mean = float(np.mean([read_validation(row, metric) for row in runs]))
    return mean if math.isfinite(mean) else math.inf


def read_validation(row: Measurement, metric: str) -> float:
    """The value that rates are chosen by; NaN if the run failed."""
    known = f"validation_{metric}" in row.others or metric == row.metric
    return row.read(metric if known else metric.rpartition("_")[2], "validation")


def _find_edges(best: tuple, tried: Sequence[tuple]) -> tuple[str, ...]:
    edges = []
    for name, value, *column in zip(RATES, best, *tried, strict=True):
        if len(set(column)) > 1 and value in (min(column), max(column)):
            edges.append(name)
    return tuple(edges)


def describe(choices: Sequence[Choice]) -> list[str]:
    """Sentences: which rate won how often, and where a sweep should be wider."""
    notes = []
    for name in RATES:
        counts = collections.Counter(getattr(choice, name) for choice in choices)
        is_edge = [choice for choice in choices if name in choice.at_edge]
        words = ", ".join(f"{value:g} at {counts[value]}" for value in sorted(counts))
        if len(counts) > 1 or is_edge:
            notes.append(
                f"best {name} by validation, of {len(choices)} points: {words}"
            )
        if is_edge:
            largest = max(is_edge, key=lambda choice: choice.params * choice.data)
            notes.append(
                f"the best {name} is at the edge of its sweep at {len(is_edge)} of "
                f"{len(choices)} points, such as {getattr(largest, name):g} at "
                f"{largest.params:,} parameters and {largest.data:,} data; widen "
                f"grid.{name}s: the best may lie beyond, and the envelope lower"
            )
    return notes


def format_choices(choices: Sequence[Choice]) -> str:
    """As CSV, a line a point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Choice._fields)
    for choice in choices:
        writer.writerow([*choice[:-1], " ".join(choice.at_edge)])
    return text.getvalue()

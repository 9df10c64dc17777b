"""What both commands say to machines: one object, and whether a gate is shut."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from etils import epath

from scalepred.fitting.answers import Answer
from scalepred.fitting.comparison import Comparison
from scalepred.fitting.fit import Fit
from scalepred.forecasting.forecast import Forecast, Verified
from scalepred.forecasting.gate import Verdict
from scalepred.report import console, format, words
from scalepred.report.beside import beside
from scalepred.report.results import Results
from scalepred.report.verdict import cards
from scalepred.runtime.command import CommandResult
from scalepred.runtime.files import jsonable, write_json
from scalepred.table.surface import Surface


def write_answers(path: epath.Path, results: Results) -> None:
    """Writes answers.json: the verdict, and every answer with its sentence."""
    write_json(path, describe_answers(results))


def describe_answers(results: Results) -> dict[str, Any]:
    """The cards ("verdict") and the answers of a fit, as the page has them."""
    answers = record_answers(results.answers, results.surface)
    for answer, record in zip(results.answers, answers, strict=True):
        seen = beside(results, answer)
        record["measured"] = None if seen is None else seen._asdict()
    return {
        "verdict": [card._asdict() for card in cards(results)],
        "scaling": describe_scaling(results.fit),
        "offsets": describe_offsets(results),
        "answers": answers,
    }


def describe_offsets(results: Results) -> list[dict[str, Any]]:
    """Targets whose size of model has an offset of its own, or lies beside one."""
    told = []
    for row in words.targets(results):
        epochs = row.epochs if math.isfinite(row.epochs) else None
        found = results.fit.offset_at(row.params, row.data, epochs)
        if found is not None:
            told.append({"params": row.params, "data": row.data, **found._asdict()})
    return told


def describe_scaling(fit: Fit) -> dict[str, Any]:
    """Whether the points scale as a law: status, and kind, axis and sentence if not."""
    told = fit.not_scaling
    if told is None:
        return {"status": "scales", "kind": None, "axis": None, "sentence": None}
    return {"status": told.code, **told._asdict()}


def record_answers(answers: Sequence[Answer], surface: Surface) -> list[dict[str, Any]]:
    """Each answer's numbers, and the sentence that the page and the terminal have."""
    return [
        {
            **dataclasses.asdict(answer),
            "sentence": format.sentence(words.describe_answer(answer, surface)),
        }
        for answer in answers
    ]


def make_command_result(
    forecast: Forecast | None,
    verified: Sequence[Verified] = (),
    verdicts: Sequence[Verdict] = (),
    said: dict[str, Any] | None = None,
) -> CommandResult:
    """The forecast's own record, with what has become of it since.

    Args:
        forecast: None: none was made.
        verified: targets that were measured.
        verdicts: of the gates, which are printed, too.
        said: what else was found in this call, by name; see `describe_answers`.
    """
    console.print_verdicts(verdicts)
    record: dict[str, Any] = dict(forecast.record) if forecast else {"targets": []}
    record["digest"] = forecast.digest if forecast else None
    record.update(said or {})
    record["verified"] = [
        {**dataclasses.asdict(one), "inside": one.inside} for one in verified
    ]
    record["gates"] = _record_verdicts(verdicts)
    is_shut = not all(verdict.passed for verdict in verdicts)
    return CommandResult(
        {name: jsonable(value) for name, value in record.items()}, is_shut
    )


def make_comparison_result(
    found: Comparison, verdicts: Sequence[Verdict] = ()
) -> CommandResult:
    """The comparison's own record, with its gates, where there are any.

    Args:
        found: the comparison.
        verdicts: of the gates, which are printed, too.
    """
    console.print_verdicts(verdicts)
    record = found.to_record()
    if verdicts:
        record["gates"] = jsonable(_record_verdicts(verdicts))
    return CommandResult(record, not all(verdict.passed for verdict in verdicts))


def _record_verdicts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [
        {**verdict.gate._asdict(), "reached_with": chance, "passed": passed}
        for verdict in verdicts
        for chance, passed in [verdict[1:]]
    ]

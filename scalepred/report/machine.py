"""What both commands say to machines: one object, and whether a gate is shut."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from scalepred.fitting.answers import Answer
from scalepred.forecasting.forecast import Forecast, Verified
from scalepred.forecasting.gate import Verdict
from scalepred.report import console
from scalepred.runtime.command import CommandResult
from scalepred.runtime.files import jsonable


def make_command_result(
    forecast: Forecast | None,
    verified: Sequence[Verified] = (),
    verdicts: Sequence[Verdict] = (),
    answers: Sequence[Answer] | None = None,
) -> CommandResult:
    """The forecast's own record, with what has become of it since.

    Args:
        forecast: None: none was made.
        verified: targets that were measured.
        verdicts: of the gates, which are printed, too.
        answers: to the questions of this call; None: those of the forecast.
    """
    console.print_verdicts(verdicts)
    record: dict[str, Any] = dict(forecast.record) if forecast else {"targets": []}
    record["digest"] = forecast.digest if forecast else None
    if answers is not None:
        record["answers"] = [dataclasses.asdict(answer) for answer in answers]
    record["verified"] = [
        {**dataclasses.asdict(one), "inside": one.inside} for one in verified
    ]
    record["gates"] = [
        {**verdict.gate._asdict(), "reached_with": chance, "passed": passed}
        for verdict in verdicts
        for chance, passed in [verdict[1:]]
    ]
    is_shut = not all(verdict.passed for verdict in verdicts)
    return CommandResult(
        {name: jsonable(value) for name, value in record.items()}, is_shut
    )

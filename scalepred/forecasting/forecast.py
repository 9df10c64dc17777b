"""What was said of sizes before any of them was trained, and how it did.

    fit -> forecasts/<digest>.json (sealed, never changed) -> targets trained -> score

A forecast holds all that it takes to judge it: the digest of the rows that it rests on,
what they cost, the law with its numbers (`fit-<digest>.npz` beside it, see
`fitting.saved`) and for every target the value with its intervals. Its name is the
digest of its bytes, so that a change is noticed.
"""

import csv
import dataclasses
import datetime
import hashlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from scalepred.config import UserError
from scalepred.fitting import saved
from scalepred.fitting.answers import Answer
from scalepred.fitting.fit import Fit
from scalepred.fitting.predict import Prediction
from scalepred.forecasting.tuning import Tuning
from scalepred.runtime.files import digest, gone, jsonable, list_files, write_whole
from scalepred.runtime.versions import read_versions

_FORMAT = 1
_DIGITS = 16
# Sizes that differ by less than this share are the same size, rounded in a table.
_SAME_SIZE = 1e-3
# Standard deviations from the middle of a normal to the ends of its 90 % interval.
_TO_END = 1.6448536269514722
# What may differ between two forecasts that say the same.
_OF_THE_MOMENT = ("created", "num_measured")


class Asked(NamedTuple):
    """A size to be forecast.

    Attributes:
        name: for people: "width 64, depth 2"; or nothing.
        kind: target | held_out (a cell of the grid beyond the fit region) | plain.
        params: m.
        data: n; unique data where there are epochs.
        epochs: passes over the data; None where the law knows nothing of them.
        flops: training FLOPs of one run.
        num_seeds: runs that will be averaged.
        num_measured: runs that were in the table already: above 0 it is no forecast.
    """

    name: str
    kind: str
    params: float
    data: float
    epochs: float | None
    flops: float
    num_seeds: int = 1
    num_measured: int = 0


class Evidence(NamedTuple):
    """What a forecast rests on, and what it cost.

    Attributes:
        num_runs: all that were trained for it: seeds, rates, diverged and stopped runs.
        num_failed: of them; stopped ones are none.
        flops: of all of them.
        seconds: of devices; NaN where the table does not say.
        rows: digest of the rows of the table.
        runs: ids of the runs, where the table is ours.
    """

    num_runs: int
    num_failed: int
    flops: float
    seconds: float
    rows: str
    runs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, repr=False)
class Forecast:
    """A sealed forecast.

    Attributes:
        digest: of its bytes, its name.
        record: all it says.
    """

    digest: str
    record: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Forecast({self.digest}, {self.record['created'][:19]}: {self.metric} of "
            f"{self.record['title']} at {len(self.targets)} sizes)"
        )

    @property
    def targets(self) -> list[dict[str, Any]]:
        """What was said of each size."""
        return self.record["targets"]

    @property
    def metric(self) -> str:
        return self.record["metric"]

    def find(self, params: float, data: float, epochs: float | None = None) -> Any:
        """The target of that size; None where it has none."""
        for target in self.targets:
            sizes = (target["params"], params), (target["data"], data)
            own = target["epochs"]
            is_same = all(abs(a / b - 1) < _SAME_SIZE for a, b in sizes)
            if epochs is not None and own is not None:
                is_same = is_same and abs(own / epochs - 1) < _SAME_SIZE
            if is_same:
                return target
        return None


@dataclasses.dataclass(frozen=True)
class Verified:
    """A target that was measured, beside what was said of it: a row of the score.

    Attributes:
        name: of the target, for people.
        params: m.
        data: n.
        compute: training FLOPs of one run.
        predicted: as forecast.
        lower: lower end of the 90 % interval for a mean over as many runs.
        upper: its upper end.
        lower_50: lower end of the 50 % interval.
        upper_50: its upper end.
        measured: mean over the runs that ended well; NaN if none did.
        num_seeds: how many did.
        relative_error: predicted / measured - 1.
        log_score: ln of the forecast's density at the measured ln value; larger is
            better. The density is normal on each side of the predicted value, as wide
            as the 90 % interval says.
        compute_multiple: FLOPs of one run over those of the evidence.
        forecast: digest of the forecast.
        is_before: no run of it was in the table when the forecast was made.
    """

    name: str
    params: float
    data: float
    compute: float
    predicted: float
    lower: float
    upper: float
    lower_50: float
    upper_50: float
    measured: float
    num_seeds: int
    relative_error: float
    log_score: float
    compute_multiple: float
    forecast: str
    is_before: bool

    @property
    def inside(self) -> str:
        """Which interval holds it: 50 | 90 | none | unknown."""
        if math.isnan(self.measured) or math.isnan(self.lower):
            return "unknown"
        if self.lower_50 <= self.measured <= self.upper_50:
            return "50"
        return "90" if self.lower <= self.measured <= self.upper else "none"


def make_record(
    fit: Fit,
    asked: Sequence[Asked],
    evidence: Evidence,
    *,
    title: str,
    config: dict[str, Any],
    answers: Sequence[Answer] = (),
    target_value: float = 0.0,
    tuning: Mapping[Asked, Tuning] | None = None,
) -> dict[str, Any]:
    """All that a forecast says; `seal` adds when, and writes it.

    Args:
        fit: the law, fitted to the evidence.
        asked: sizes to forecast.
        evidence: what the fit rests on.
        title: of the study.
        config: that the study was run with.
        answers: to the questions asked.
        target_value: wanted error or loss; 0: none.
        tuning: of those whose rates follow from a sweep.
    """
    tuning = tuning or {}
    surface = fit.surface
    record = {
        "format": _FORMAT,
        "title": title,
        "task": surface.task,
        "metric": surface.metric,
        "data_unit": surface.data_unit,
        "law": fit.law.name,
        "fit": _describe_fit(fit),
        "evidence": evidence._asdict(),
        "target_value": target_value or None,
        "targets": [
            describe(fit, one, evidence, target_value, tuning.get(one)) for one in asked
        ],
        "answers": [dataclasses.asdict(answer) for answer in answers],
        "config": config,
        "versions": read_versions(),
    }
    return json.loads(json.dumps(jsonable(record)))


def _describe_fit(fit: Fit) -> dict[str, Any]:
    """The law, its parameters and how it was fitted."""
    surface, fitted = fit.surface, fit.fitted
    return {
        "file": "",  # `seal` names it
        "called": fit.called,
        "formula": fit.law.formula,
        "source": fit.law.source,
        "parameters": {n: e.value for n, e in fit.parameters.items()},
        "members": [dataclasses.asdict(member) for member in fit.members],
        "theta": fitted.theta.tolist(),
        "params_reference": fitted.params_unit,
        "data_reference": fitted.data_unit,
        "misfit": fitted.misfit,
        "growth": fitted.growth,
        "noise": fitted.noise._asdict(),
        "num_draws": len(fitted.draws),
        "seed": fitted.seed,
        "num_points": len(surface),
        "max_params": float(surface.params.max()),
        "max_data": float(surface.data.max()),
        "back_tests": [dataclasses.asdict(test) for test in fit.inner_tests],
        "warnings": [dataclasses.asdict(warning) for warning in fit.warnings],
    }


def describe(
    fit: Fit,
    asked: Asked,
    evidence: Evidence,
    target_value: float,
    tuning: Tuning | None = None,
) -> dict[str, Any]:
    """What the fit says of one size, as it stands in a forecast."""
    place = asked.params, asked.data
    run = fit.predict(*place, epochs=asked.epochs)
    mean = fit.predict(*place, asked.num_seeds, asked.epochs)
    chance = math.nan
    if target_value:
        wanted = target_value / (tuning.factor if tuning else 1.0)
        chance = float(fit.probability(wanted, *place, epochs=asked.epochs))
    said = {
        **asked._asdict(),
        "value": float(run.value),
        **_ends(run),
        "mean_over_seeds": _ends(mean),
        "probability": chance,
        "compute_multiple": asked.flops / evidence.flops,
    }
    return said if tuning is None else tuning.add(said, fit.fitted.highest)


def _ends(predicted: Prediction) -> dict[str, float]:
    names = ("lower", "upper", "lower_50", "upper_50")
    return {name: float(getattr(predicted, name)) for name in names}


def seal(folder: epath.Path, record: dict[str, Any], fit: Fit) -> Forecast:
    """Writes a forecast that nothing changes afterwards.

    Where an intact forecast of the folder says the same, that one stands: a command
    that is given again says nothing new.

    Args:
        folder: of the forecasts; made if missing.
        record: from `make_record`.
        fit: that it rests on, kept beside it.

    Raises:
        OSError: it cannot be written; then none of it counts.
    """
    if not folder.parent.exists():
        raise gone(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    content = saved.to_bytes(fit)
    name = f"fit-{name_of(content)}.npz"
    record = {**record, "fit": {**record["fit"], "file": name}}
    for forecast in read_all(folder)[0]:
        if _same(forecast.record, record):
            return forecast
    if not (folder / name).exists():
        write_whole(folder / name, content)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    text = json.dumps({"created": now, **record}, indent=1, allow_nan=False) + "\n"
    found = Forecast(name_of(text.encode()), json.loads(text))
    write_whole(folder / f"{found.digest}.json", text)
    return found


def name_of(content: bytes) -> str:
    """The digest that a sealed file is named by."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def lasting(record: Any) -> Any:
        if isinstance(record, dict):
            return {
                name: lasting(value)
                for name, value in record.items()
                if name not in _OF_THE_MOMENT
            }
        return [lasting(value) for value in record] if type(record) is list else record

    return digest(lasting(one)) == digest(lasting(other))


def read(path: os.PathLike | str) -> Forecast:
    """A forecast that is as it was sealed.

    Raises:
        UserError: there is no such file, or it has changed.
    """
    path = epath.Path(path)
    if not path.exists() or path.is_dir():
        raise UserError(f"{path}: there is no such forecast")
    content = path.read_bytes()
    if name_of(content) != path.name.removesuffix(".json"):
        raise UserError(
            f"{path}: its name is not the digest of what it says, so it was renamed or "
            "changed since it was sealed, and does not count"
        )
    return Forecast(name_of(content), json.loads(content))


def read_all(folder: epath.Path) -> tuple[list[Forecast], list[str]]:
    """The intact forecasts of a folder, oldest first, and a sentence for each other."""
    found, notes = [], []
    for path in list_files(folder, ".json"):
        try:
            found.append(read(path))
        except UserError as error:
            notes.append(str(error))
    return sorted(found, key=lambda forecast: forecast.record["created"]), notes


def choose(
    forecasts: Sequence[Forecast], params: float, data: float, epochs: float | None
) -> tuple[Forecast, dict[str, Any]] | None:
    """The forecast that a measurement of that size is held against, and its target.

    The newest that was made before any run of the size was in the table; if there is
    none, the newest.

    Args:
        forecasts: oldest first.
        params: m.
        data: n.
        epochs: passes over the data, or None.
    """
    chosen = None
    for forecast in forecasts:
        target = forecast.find(params, data, epochs)
        if target is None:
            continue
        if chosen and target["num_measured"] and not chosen[1]["num_measured"]:
            continue
        chosen = forecast, target
    return chosen


def score(
    forecast: Forecast, target: dict[str, Any], values: Sequence[float]
) -> Verified:
    """Sets the measured beside the forecast.

    Args:
        forecast: that the target is of.
        target: one of `Forecast.targets`.
        values: of the runs that ended well. Of one run the interval is that of a single
            run, of more that of the mean over as many as were forecast.
    """
    measured = float(np.mean(values)) if len(values) else math.nan
    ends = target if len(values) <= 1 else target["mean_over_seeds"]
    lower, upper, lower_50, upper_50 = (
        math.nan if ends[name] is None else float(ends[name])
        for name in ("lower", "upper", "lower_50", "upper_50")
    )
    return Verified(
        name=target["name"],
        params=target["params"],
        data=target["data"],
        compute=target["flops"],
        predicted=target["value"],
        lower=lower,
        upper=upper,
        lower_50=lower_50,
        upper_50=upper_50,
        measured=measured,
        num_seeds=len(values),
        relative_error=target["value"] / measured - 1,
        log_score=_log_score(measured, target["value"], lower, upper),
        compute_multiple=target["compute_multiple"],
        forecast=forecast.digest,
        is_before=target["num_measured"] == 0,
    )


def _log_score(measured: float, value: float, lower: float, upper: float) -> float:
    """ln density of ln measured; NaN where something is missing."""
    if not (0 < lower < upper and measured > 0 and math.isfinite(upper)):
        return math.nan
    # The predicted value lies at the end of its interval where draws are capped.
    middle = min(max(value, lower * 1.000001), upper / 1.000001)
    below, above = (
        math.log(middle / lower) / _TO_END,
        math.log(upper / middle) / _TO_END,
    )
    distance = math.log(measured / middle)
    distance /= below if distance < 0 else above
    return math.log(2 / (below + above)) - math.log(2 * math.pi) / 2 - distance**2 / 2


# What verification.csv has of a `Verified`.
_COLUMNS = (
    "params", "data", "compute", "predicted", "lower", "upper", "lower_50", "upper_50",
    "measured", "num_seeds", "relative_error", "forecast",
)  # fmt: skip


def format_scores(scores: Sequence[Verified]) -> str:
    """As CSV; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in scores:
        cells = [getattr(one, name) for name in _COLUMNS]
        writer.writerow("" if cell != cell else cell for cell in cells)
    return text.getvalue()

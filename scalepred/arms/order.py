"""The predicted order of the arms, sealed before the sizes that it speaks of are run.

    comparison -> forecasts/<digest>.json (never changed) -> targets trained -> score

Beside the record of the comparison it names the forecast of each arm, and how many runs
of each target there were already: above 0 it is no forecast.
"""

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from scalepred.fitting.comparison import Comparison, Outcome
from scalepred.fitting.order import OrderScore, score_order
from scalepred.forecasting import forecast as forecasts
from scalepred.forecasting import targets
from scalepred.forecasting.parts import Study
from scalepred.forecasting.verification import find_runs
from scalepred.report import format
from scalepred.runtime.files import list_files, write_whole
from scalepred.runtime.workdir import warn
from scalepred.table.rows import Measurement

_SAME_SIZE = 1e-3


class Scored(NamedTuple):
    """What was said of two arms at a size, and what was measured there.

    Attributes:
        first: the baseline.
        second: the other arm.
        params: m.
        data: n.
        data_unit: what it counts.
        said: the difference that was sealed: relative, better and more, see
            `Difference`.
        num_pairs: runs that share their seed.
        was_there: whether runs of this size were there when it was sealed: then it is
            no test.
        score: how it did.
    """

    first: str
    second: str
    params: float
    data: float
    data_unit: str
    said: Mapping[str, Any]
    num_pairs: int
    was_there: bool
    score: OrderScore

    @property
    def outcome(self) -> str:
        """confirmed | refuted | undecided | hindsight."""
        return "hindsight" if self.was_there else self.score.outcome

    @property
    def told(self) -> Outcome:
        """For the comparison: see `sentence`."""
        measured = self.score.measured
        return Outcome(self.first, self.second, self._at, measured, self.sentence)

    @property
    def _at(self) -> str:
        data = f"{format.count(self.data)} {format.printable(self.data_unit)}"
        return f"{format.count(self.params)} parameters and {data}"

    @property
    def sentence(self) -> str:
        """For people, small and without a full stop."""
        relative = self.said["relative"]
        said = _say(*(relative[name] for name in ("value", "lower", "upper")))
        better = self.said["better"]
        chance = "" if better is None else f", better with {better:.0%}"
        measured = self.score.measured
        runs = "one pair" if self.num_pairs == 1 else f"{self.num_pairs} pairs"
        return (
            f"{format.printable(self.second)} against "
            f"{format.printable(self.first)} at {self._at}: "
            f"sealed before {said}{chance}; "
            f"measured {_say(measured.value, measured.lower, measured.upper)} in "
            f"{runs}: {_WORDS[self.outcome]}"
        )

    def describe(self) -> dict[str, Any]:
        """For JSON; NaN as it is."""
        of = ("first", "second", "params", "data", "data_unit", "said", "num_pairs")
        names = (*of, "outcome")
        measured = dataclasses.asdict(self.score.measured)
        return {name: getattr(self, name) for name in names} | {"measured": measured}


_WORDS = {
    "confirmed": "the predicted order is confirmed",
    "refuted": "the predicted order is refuted",
    "undecided": "the order is not decided",
    "hindsight": "no test, as runs of this size were there before",
}


def _say(value: float, lower: float | None, upper: float | None) -> str:
    """A relative difference with its interval."""
    if lower is None or upper is None or math.isnan(lower):
        return format.percent(value)
    ends = format.span(lower, upper, format.percent)
    return f"{format.percent(value)} ({ends})"


def seal(workdir: epath.Path, found: Comparison, arms: Sequence[Study]) -> None:
    """Writes what the comparison says, unless an intact record says the same.

    Args:
        workdir: of all arms.
        found: the comparison of their fits.
        arms: with their forecasts sealed.
    """
    folder = workdir / "forecasts"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "arms": {arm.arm: _newest(arm) for arm in arms},
        "num_measured": [
            {"params": params, "data": data, "runs": sum(map(len, by_arm.values()))}
            for (params, data), by_arm in _find_measured(arms).items()
        ],
        "comparison": found.to_record(),
    }
    record = json.loads(json.dumps(record, allow_nan=False))
    said = _lasting(record)
    if any(_lasting(old) == said for old in read(workdir)):
        return
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    text = json.dumps({"created": now, **record}, indent=1, allow_nan=False) + "\n"
    write_whole(folder / f"{forecasts.name_of(text.encode())}.json", text)


def _newest(arm: Study) -> str | None:
    told, _ = forecasts.read_all(arm.workdir / "forecasts")
    return told[-1].digest if told else None


def _lasting(record: Mapping[str, Any]) -> dict[str, Any]:
    """What does not depend on the moment."""
    return {
        name: part
        for name, part in record.items()
        if name not in ("created", "num_measured")
    }


def read(workdir: epath.Path) -> list[dict[str, Any]]:
    """The intact records of a workdir, oldest first; of others it is warned."""
    found = []
    for path in list_files(workdir / "forecasts", ".json"):
        content = path.read_bytes()
        if f"{forecasts.name_of(content)}.json" != path.name:
            warn(workdir, f"{path}: changed since it was sealed; it does not count")
            continue
        found.append(json.loads(content))
    return sorted(found, key=lambda record: record["created"])


def score(workdir: epath.Path, arms: Sequence[Study]) -> list[Scored]:
    """Sealed orders beside what was measured since, for every target that was run.

    Of several records that speak of a target the newest counts that was sealed before
    a run of it was there; if there is none, the newest.
    """
    measured = _find_measured(arms)
    records = read(workdir)
    scored: dict[tuple[str, str, float, float], Scored] = {}
    for record in records:
        for pair in record["comparison"]["pairs"]:
            for target in pair["targets"]:
                at = target["at"]
                place = _find_place(at["params"], at["data"], measured)
                names = pair["first"], pair["second"]
                if place is None or not {*names} <= measured[place].keys():
                    continue
                was_there = any(
                    one["runs"]
                    for one in record["num_measured"]
                    if _find_place(one["params"], one["data"], [place])
                )
                old = scored.get((*names, *place))
                if was_there and old and old.outcome != "hindsight":
                    continue
                runs = [measured[place][name] for name in names]
                where = (*place, arms[0].dataset.unit)
                one = _score(names, where, target, runs, was_there)
                if one is not None:
                    scored[*names, *place] = one
    return list(scored.values())


# Of a size, by arm: the values of its runs by seed.
_Measured = dict[str, dict[int, float]]


def _find_measured(arms: Sequence[Study]) -> dict[tuple[float, float], _Measured]:
    """What was measured of every target."""
    found: dict[tuple[float, float], _Measured] = {}
    for arm in arms:
        for asked, cells in targets.ask(arm).items():
            runs: list[Measurement] = find_runs(arm, cells)
            if asked.kind != "target" or not runs:
                continue
            values = {
                row.seed: row.read(arm.metric) for row in runs if row.status == "ok"
            }
            found.setdefault((asked.params, asked.data), {})[arm.arm] = values
    return found


def _find_place(params: float, data: float, places: Any) -> tuple[float, float] | None:
    for place in places:
        sizes = (params / place[0], data / place[1])
        if all(abs(ratio - 1) < _SAME_SIZE for ratio in sizes):
            return place
    return None


def _score(
    names: tuple[str, str],
    place: tuple[float, float, str],
    said: Mapping[str, Any],
    runs: Sequence[Mapping[int, float]],
    was_there: bool,
) -> Scored | None:
    """None where no two runs share their seed."""
    shared = sorted(runs[0].keys() & runs[1].keys())
    if not shared:
        return None
    values = [[own[seed] for seed in shared] for own in runs]
    found = score_order(said, *values)
    return Scored(*names, *place, said, len(shared), was_there, found)

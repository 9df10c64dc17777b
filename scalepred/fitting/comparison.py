"""Two or more fitted laws side by side: which is better, by how much, and where.

Every number comes from draws that belong together (`sides`): a difference is taken draw
by draw, and its 90 % interval and the chance that it is below zero are those of the
draws. Where runs of two groups share their sizes the difference itself has a law
(`drift`), else it is that of the two laws. Laws of both sizes are compared along the
compute-optimal frontier, each with its own cost; laws of one size, and ladders, along
that size.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scalepred.config import UserError
from scalepred.fitting import fit as fitting
from scalepred.fitting.differences import (
    Crossing,
    Curve,
    Difference,
    Needed,
    difference_along,
    find_crossing,
    make_curve,
    make_difference,
    multipliers_along,
    needed_for,
    relative_curve,
)
from scalepred.fitting.estimate import knows_split
from scalepred.fitting.fit import Fit
from scalepred.fitting.pairing import Pairing, Scale, measure_scales
from scalepred.fitting.power import find_power
from scalepred.fitting.predict import Estimate
from scalepred.fitting.sides import Group, Sides, Together, pair_up
from scalepred.runtime.files import jsonable
from scalepred.table.surface import Surface

_PER_DECADE = 4  # places at which frontiers are computed
# Sizes are looked for so many times below and above those that are shown.
_MARGIN = 1e3
# Times the largest compute that all groups have: where they are compared by default.
_BEYOND = (1.0, 10.0, 100.0)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A group beside the baseline.

    Attributes:
        first: name of the baseline.
        second: name of the other.
        sizes: compared, along the axis [places].
        curves: of the two, at these sizes.
        difference: second / first - 1, at these sizes.
        places: differences at the budgets (or sizes) asked for, ascending.
        targets: differences at sizes of model and data.
        needed: for values that are wanted.
        crossing: of the two curves.
        pairing: whether it rests on pairs of runs.
        multiplier: times less of the compared size that the second needs for what the
            first has, at these sizes.
        scales: what was measured at each shared size, smallest first; empty where the
            laws are compared.
        weights: chance of each form of the difference's law (see `drift`); likewise.
    """

    first: str
    second: str
    sizes: np.ndarray
    curves: tuple[Curve, Curve]
    difference: Curve
    places: tuple[Difference, ...]
    targets: tuple[Difference, ...]
    needed: tuple[Needed, ...]
    crossing: Crossing
    pairing: Pairing
    multiplier: Curve
    scales: tuple[Scale, ...]
    weights: dict[str, float]

    @property
    def headline(self) -> Difference:
        """At the first of the places."""
        return self.places[0]


class Outcome(NamedTuple):
    """What was measured where an order had been said before.

    Attributes:
        first: the baseline.
        second: the other group.
        at: the size, in words.
        measured: second / first - 1, with its 90 % interval.
        sentence: what was said, what was measured, what became of it.
    """

    first: str
    second: str
    at: str
    measured: Estimate
    sentence: str


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Groups beside a baseline.

    Attributes:
        groups: all of them, the baseline first.
        pairs: each other group beside the baseline, the best first.
        axis: that they are compared along: compute, params or data.
        metric: what the laws predict.
        data_unit: what data count.
        notes: what else is to be known.
        outcomes: what became of orders that were said before.
    """

    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    axis: str
    metric: str
    data_unit: str
    notes: tuple[str, ...]
    outcomes: tuple[Outcome, ...] = ()

    @property
    def unit(self) -> str:
        """Of the compared sizes."""
        names = {"compute": "FLOPs", "params": "parameters"}
        return names.get(self.axis, self.data_unit)

    def to_record(self) -> dict[str, Any]:
        """All of it for JSON: NaN is null, infinity "inf"."""
        groups = [
            {
                "name": group.name,
                "runs": group.runs,
                "points": len(group.fit.surface),
                "smallest": float(group.sizes.min()),
                "largest": float(group.sizes.max()),
            }
            for group in self.groups
        ]
        pairs = [
            {"verdict": pair.headline.verdict, **_plain(dataclasses.asdict(pair))}
            for pair in self.pairs
        ]
        about = {"axis": self.axis, "unit": self.unit, "metric": self.metric}
        record = {**about, "groups": groups, "pairs": pairs, "notes": self.notes}
        if self.outcomes:
            record["outcomes"] = [
                _plain(one._asdict() | {"measured": dataclasses.asdict(one.measured)})
                for one in self.outcomes
            ]
        return {name: jsonable(part) for name, part in record.items()}

    def __repr__(self) -> str:
        from scalepred.report import compare_screen

        return "\n".join(compare_screen.describe(self))


def compare(
    fits: Mapping[str, Fit | Surface],
    *,
    baseline: str | None = None,
    budgets: Sequence[float] = (),
    targets: Sequence[tuple[float, ...]] = (),
    values: Sequence[float] = (),
    law: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Sets fits beside each other, all against one of them.

    Args:
        fits: by name, two or more; a surface is fitted by `law`.
        baseline: name of the one that all others are held against; None: the first.
        budgets: training FLOPs of one run (for laws of one size: sizes), at which they
            are compared; empty: the largest that all groups have measured, 10 and 100
            times that.
        targets: (params, data), or (params, data, epochs), likewise.
        values: wanted: what each group needs to get there.
        law: of surfaces.
        resamples: of surfaces.
        seed: of draws.

    Raises:
        UserError: they cannot be compared; says why.
    """
    groups = _make_groups(fits, baseline, law, resamples)
    for name, numbers in (("budgets", budgets), ("values", values)):
        for number in numbers:
            if not (math.isfinite(number) and number > 0):
                raise UserError(f"{name}={number:g}: must be positive numbers")
    common = min(float(group.sizes.max()) for group in groups)
    places = tuple(budgets) or tuple(times * _round(common) for times in _BEYOND)
    low = min(float(group.sizes.min()) for group in groups)
    ends = min(low, *places), max(*places, _BEYOND[-1] * common)
    asked = _Asked(places, tuple(targets), tuple(values), ends, seed)
    pairs = [_compare_pair(groups[0], other, asked) for other in groups[1:]]
    pairs.sort(key=lambda pair: pair.headline.relative.value)
    return Comparison(
        groups=groups,
        pairs=tuple(pairs),
        axis=groups[0].axis,
        metric=groups[0].fit.surface.metric,
        data_unit=groups[0].fit.surface.data_unit,
        notes=_notes(groups, pairs, common),
    )


def _make_groups(
    fits: Mapping[str, Fit | Surface], baseline: str | None, law: str, resamples: int
) -> tuple[Group, ...]:
    """The groups, the baseline first; see `compare`."""
    made = {
        str(name): fitting.fit(one, law, resamples=resamples)
        if isinstance(one, Surface)
        else one
        for name, one in fits.items()
    }
    if len(made) < 2:
        raise UserError(f"compare: {len(made)} group given; give two or more")
    first = next(iter(made)) if baseline is None else baseline
    if first not in made:
        raise UserError(
            f"baseline={first}: there is no such group (there: {', '.join(made)})"
        )
    check_alike({name: fit.surface for name, fit in made.items()})
    axis = _find_axis(made)
    names = [first, *(name for name in made if name != first)]
    return tuple(Group(name, made[name], axis) for name in names)


class _Asked(NamedTuple):
    """What is compared, see `compare`; `ends` are the sizes that are looked at."""

    places: tuple[float, ...]
    targets: tuple[tuple[float, ...], ...]
    values: tuple[float, ...]
    ends: tuple[float, float]
    seed: int


def check_alike(surfaces: Mapping[str, Surface]) -> None:
    """Refuses values that mean different things.

    Raises:
        UserError: metrics or units of data differ.
    """
    (name, first), *others = surfaces.items()
    for other, surface in others:
        for what in ("metric", "data_unit"):
            own, theirs = getattr(first, what), getattr(surface, what)
            if own != theirs:
                raise UserError(
                    f"compare: {what} is {own} in {name} and {theirs} in {other}, "
                    f"which cannot be set against each other; give tables of one {what}"
                )


def _find_axis(fits: Mapping[str, Fit]) -> str:
    """What the groups are compared along.

    Raises:
        UserError: they have nothing in common.
    """
    found = {}
    for name, fit in fits.items():
        axes = [axis for axis in fit.law.axes if axis != "epochs"]
        if len(axes) == 1:
            found[name] = axes[0]
        elif knows_split(fit.law.axes, fit.surface):
            found[name] = "compute"
        else:
            raise UserError(
                f"compare: model and data sizes rise together in {name}, so no best "
                "split of a budget can be told; compare along the ladder, with "
                "--law=power_compute"
            )
    (name, first), *others = found.items()
    for other, axis in others:
        if axis != first:
            raise UserError(
                f"compare: {name} has a law of {first}, {other} one of {axis}; name a "
                "law that both can be fitted with"
            )
    return first


def _round(size: float) -> float:
    """Two digits of a size, rounded down, as in budgets that people ask for."""
    step = 10.0 ** (math.floor(math.log10(size)) - 1)
    return math.floor(size / step * (1 + 1e-12)) * step


def _notes(
    groups: Sequence[Group], pairs: Sequence[Pair], common: float
) -> tuple[str, ...]:
    notes = []
    for group in groups:
        if common < group.sizes.min():
            notes.append(
                f"{group.name} was measured only above what all groups have; there "
                "the comparison rests on its extrapolation downwards"
            )
    for pair in pairs:
        if pair.pairing.why_not:
            notes.append(
                f"{pair.first} and {pair.second} are taken as independent: "
                f"{pair.pairing.why_not}"
            )
    is_open = any(group.fit.called == "auto" for group in groups)
    apart = [pair for pair in pairs if pair.pairing.why_not]
    if is_open and any(pair.headline.verdict == "none" for pair in apart):
        notes.append(
            "law=auto leaves the form of the law open, so its intervals are wide; a "
            "law by name that fits, such as --law=chinchilla, sees smaller differences"
        )
    if groups[0].axis == "compute":
        known = {bool(np.any(np.isfinite(g.fit.surface.compute))) for g in groups}
        if len(known) > 1:
            notes.append(
                "some groups have a column of FLOPs and some have none: the cost of "
                "the latter is taken for 6 x parameters x data"
            )
    return tuple(notes)


def _compare_pair(first: Group, second: Group, asked: _Asked) -> Pair:
    sides, pairing = pair_up(first, second, asked.seed)
    inside = _grid(*asked.ends, asked.places)
    reach = asked.ends[0] / _MARGIN, asked.ends[1] * _MARGIN
    sizes = _grid(*reach, inside)
    values = sides.along(sizes)
    shown = (sizes >= asked.ends[0]) & (sizes <= asked.ends[1])
    difference = values.second - values.first
    times = multipliers_along(sizes, values, shown)
    places = [difference_along(size, sizes, values) for size in sorted(asked.places)]
    targets = [_difference_at(target, sides, first) for target in asked.targets]
    scales, weights = (), {}
    if isinstance(sides, Together):
        at = [first.path(np.array([place.at["budget"]])) for place in places]
        places = [
            _with_power(place, sides, (float(m[0]), float(n[0])))
            for place, (m, n) in zip(places, at, strict=True)
        ]
        targets = [
            _with_power(one, sides, first.filled(target[0], target[1]))
            for one, target in zip(targets, asked.targets, strict=True)
        ]
        scales, weights = _measure(sides), sides.drift.weights
    return Pair(
        first=first.name,
        second=second.name,
        sizes=sizes[shown],
        curves=(
            make_curve(values.first[:, shown]),
            make_curve(values.second[:, shown]),
        ),
        difference=relative_curve(difference[:, shown]),
        multiplier=times,
        places=tuple(places),
        targets=tuple(targets),
        needed=tuple(needed_for(value, sizes, values) for value in asked.values),
        crossing=find_crossing(sizes[shown], difference[:, shown]),
        pairing=pairing,
        scales=scales,
        weights=weights,
    )


def _grid(low: float, high: float, more: Sequence[float] | np.ndarray) -> np.ndarray:
    """Sizes from low to high, those asked for among them, ascending [places]."""
    count = max(2, math.ceil(math.log10(high / low) * _PER_DECADE) + 1)
    even = np.geomspace(low, high, count)
    return np.unique(np.concatenate([even, more]))


def _difference_at(
    target: tuple[float, ...], sides: Sides, baseline: Group
) -> Difference:
    """The difference at sizes of model and data, and the multiplier there."""
    at = dict(zip(("params", "data", "epochs"), target, strict=False))
    values = sides.at(at["params"], at["data"], at.get("epochs"))
    known = {name: size for name, size in at.items() if not math.isnan(size)}
    found = make_difference(known, values.first[:, 0], values.second[:, 0])
    if "epochs" in known:  # what compute buys there depends on them
        return found
    times = _grid(1 / _MARGIN, _MARGIN, [1.0])
    along = sides.through(*baseline.filled(at["params"], at["data"]), times)
    there = difference_along(1.0, times, along)
    return dataclasses.replace(found, multiplier=there.multiplier)


def _with_power(
    difference: Difference, sides: Together, place: tuple[float, float]
) -> Difference:
    """With the noise of a pair of runs there, and what would decide it."""
    params, data = (np.array([size]) for size in place)
    drift = sides.drift
    power = find_power(
        drift, *place, drift.draw(params, data)[:, 0], _slope(sides, place)
    )
    noise = float(drift.noise_at(params, data)[0])
    return dataclasses.replace(difference, power=power, noise=noise)


def _slope(sides: Together, place: tuple[float, float]) -> float:
    """Of ln of the baseline's value by ln of the axis, through a place."""
    step = 0.1
    along = sides.groups[0].path_through(*place, np.exp([-step, step]))
    values = sides.drift.fitted.log_value(*along)
    return float(values[1] - values[0]) / (2 * step)


def _measure(sides: Together) -> tuple[Scale, ...]:
    """What was measured at each shared size."""
    shared, first = sides.drift.shared, sides.groups[0]
    slopes = [
        _slope(sides, (m, n)) for m, n in zip(shared.params, shared.data, strict=True)
    ]
    sizes = first.size_of(shared.params, shared.data, shared.epochs)
    noise = sides.drift.noise_at(shared.params, shared.data)
    return measure_scales(shared, noise, sizes, np.array(slopes))


def _plain(record: Any) -> Any:
    """Arrays as lists, and named tuples by their names."""
    if hasattr(record, "_asdict"):
        record = record._asdict()
    if isinstance(record, dict):
        return {name: _plain(part) for name, part in record.items()}
    if isinstance(record, list | tuple):
        return [_plain(part) for part in record]
    return record.tolist() if isinstance(record, np.ndarray) else record

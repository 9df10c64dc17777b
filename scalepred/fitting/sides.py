"""The two sides of a comparison at the same places, draw by draw.

`Apart` are two laws whose draws are independent. `Together` are the baseline's law and
the law of the difference, learnt from pairs of runs: the second side is the first times
exp of the difference.
"""

import dataclasses
import functools
import math
from typing import NamedTuple, Protocol

import numpy as np

from scalepred.fitting import inversion
from scalepred.fitting.drift import Drift, learn
from scalepred.fitting.fit import Fit
from scalepred.fitting.pairing import Pairing, Shared, describe_pairing, find_shared
from scalepred.fitting.predict import FittedLaw

_DRAWS = 1000  # of a difference, at least
_SIZES = ("params", "data")
# ln of how many times larger a model the second side's best split may have.
_SHIFTS = np.linspace(-1.5, 1.5, 13)


@dataclasses.dataclass(frozen=True)
class Group:
    """One of the fits.

    Attributes:
        name: of the group.
        fit: its law.
        axis: along which it is compared: compute, params or data.
    """

    name: str
    fit: Fit
    axis: str

    @property
    def runs(self) -> int:
        """That were fitted."""
        return int(self.fit.surface.num_seeds.sum())

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Of the fitted points along the axis [points]; of compute, as far as known."""
        surface = self.fit.surface
        own = self.size_of(surface.params, surface.data, surface.epochs)
        if self.axis != "compute":
            return own
        return np.where(np.isfinite(surface.compute), surface.compute, own)

    def size_of(
        self, params: np.ndarray, data: np.ndarray, epochs: np.ndarray | None = None
    ) -> np.ndarray:
        """What runs of these sizes have of the axis; of compute, their FLOPs."""
        if self.axis != "compute":
            return np.asarray({"params": params, "data": data}[self.axis], float)
        times = self.fit.epochs_at() if epochs is None else epochs
        seen = data if times is None else data * times
        return np.asarray(self.fit.cost.flops(params, seen), float)

    def path(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Model and data sizes at sizes of the axis, each [places].

        Of compute they are the best split by the best fit, whatever a draw says: one
        model is trained, before anybody knows which draw is right.
        """
        if self.axis != "compute":
            held = {name: self._largest(name) for name in _SIZES}
            sides = {**held, self.axis: sizes}
            params, data = np.broadcast_arrays(sides["params"], sides["data"])
            return params, data
        fit, fitted = self.fit, self.fit.fitted
        alone = dataclasses.replace(fitted, draws=fitted.draws[:0], misfits=None)
        times = fit.epochs_at()
        cost = fit.cost.in_units(1.0, times) if times else fit.cost
        # Where FLOPs do not depend on data there must be an end to the data.
        most = float(fit.surface.data.max()) if cost.data_power == 0 else math.inf
        found = [
            inversion.split_costs(alone, np.log([size]), cost, most) for size in sizes
        ]
        x, y = np.array(found)[..., 0].T
        return fitted.params_unit * np.exp(x), fitted.data_unit * np.exp(y)

    def path_through(
        self, params: float, data: float, times: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sizes that grow through one place as the path does, each [places].

        Args:
            params: model size of the place.
            data: data size.
            times: sizes of the axis, over that of the place.
        """
        size = float(self.size_of(np.array(params), np.array(data)))
        of_params, of_data = self.path(size * np.append(times, 1.0))
        return (
            params * of_params[:-1] / of_params[-1],
            data * of_data[:-1] / of_data[-1],
        )

    def filled(self, params: float, data: float) -> tuple[float, float]:
        """A place whose sizes may be NaN: of one that the law knows nothing of."""
        params = self._largest("params") if math.isnan(params) else params
        return params, self._largest("data") if math.isnan(data) else data

    def _largest(self, name: str) -> float:
        return float(getattr(self.fit.surface, name).max())


class Values(NamedTuple):
    """ln of the true mean of both sides, each [1 + draws, places]."""

    first: np.ndarray
    second: np.ndarray


class Sides(Protocol):
    """Two groups whose draws belong together, one to one."""

    def along(self, sizes: np.ndarray) -> Values:
        """At sizes of the axis, each side at its own best split."""
        ...

    def at(self, params: float, data: float, epochs: float | None) -> Values:
        """At one place."""
        ...

    def through(self, params: float, data: float, times: np.ndarray) -> Values:
        """At sizes of the axis so many times that of a place, through the place."""
        ...


class Apart(NamedTuple):
    """Two laws; see `Sides`."""

    groups: tuple[Group, Group]
    laws: tuple[FittedLaw, FittedLaw]

    def along(self, sizes: np.ndarray) -> Values:
        return self._each([group.path(sizes) for group in self.groups])

    def at(self, params: float, data: float, epochs: float | None) -> Values:
        filled = [group.filled(params, data) for group in self.groups]
        return self._each([(np.array([m]), np.array([n])) for m, n in filled], epochs)

    def through(self, params: float, data: float, times: np.ndarray) -> Values:
        size = float(self.groups[0].size_of(np.array(params), np.array(data)))
        values = []
        for group, law in zip(self.groups, self.laws, strict=True):
            places = self.groups[0].path_through(params, data, times)
            own = values_of(law, *places)
            values.append(_move(own, group.size_of(*places), size * times))
        return Values(*values)

    def _each(
        self,
        places: list[tuple[np.ndarray, np.ndarray]],
        epochs: float | None = None,
    ) -> Values:
        pairs = zip(self.laws, places, strict=True)
        return Values(*(values_of(law, *place, epochs) for law, place in pairs))


class Together(NamedTuple):
    """A law and the law of the difference; see `Sides`."""

    groups: tuple[Group, Group]
    drift: Drift

    def along(self, sizes: np.ndarray) -> Values:
        places = self.groups[0].path(sizes)
        own = self._own_path(places, sizes)
        second = _move(self._values(*own).second, self.groups[1].size_of(*own), sizes)
        return Values(self._first(*places), second)

    def _own_path(
        self, places: tuple[np.ndarray, np.ndarray], sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The second side's best splits, by the middle of the difference's law.

        Args:
            places: model and data sizes of the first side's best splits [places].
            sizes: of the axis [places].
        """
        first, second = self.groups
        if first.axis != "compute" or first.fit.cost.data_power == 0:
            return places
        params = places[0] * np.exp(_SHIFTS)[:, None]
        data = places[1] * np.exp(-_SHIFTS)[:, None]
        values = self.drift.fitted.log_value(params, data)
        middle = self.drift.middle(params.ravel(), data.ravel())
        values = values + middle.reshape(values.shape)
        rows = zip(values, second.size_of(params, data), strict=True)
        values = np.stack([_move(row[None], known, sizes)[0] for row, known in rows])
        shift = _smooth(_lowest(values), sizes)
        return places[0] * np.exp(shift), places[1] * np.exp(-shift)

    def at(self, params: float, data: float, epochs: float | None) -> Values:
        params, data = self.groups[0].filled(params, data)
        return self._values(np.array([params]), np.array([data]), epochs)

    def through(self, params: float, data: float, times: np.ndarray) -> Values:
        first, second = self.groups
        size = float(first.size_of(np.array(params), np.array(data)))
        places = first.path_through(params, data, times)
        values = self._values(*places)
        return Values(
            values.first, _move(values.second, second.size_of(*places), size * times)
        )

    def _values(
        self, params: np.ndarray, data: np.ndarray, epochs: float | None = None
    ) -> Values:
        first = self._first(params, data, epochs)
        difference = self.drift.draw(params, data)
        return Values(first, first + difference[: len(first)])

    def _first(
        self, params: np.ndarray, data: np.ndarray, epochs: float | None = None
    ) -> np.ndarray:
        """The baseline's, for each draw of the difference [1 + draws, places]."""
        own = values_of(self.drift.fitted, params, data, epochs)
        if len(own) == 1:  # without draws of the law there are no intervals
            return own
        rows = np.arange(self.drift.num_draws) % (len(own) - 1)
        return np.concatenate([own[:1], own[1 + rows]])


def _lowest(values: np.ndarray) -> np.ndarray:
    """Where among `_SHIFTS` values are least, by a parabola [shifts, places]."""
    count, columns = values.shape
    at, column = np.argmin(values, axis=0), np.arange(columns)
    inner = np.clip(at, 1, count - 2)
    below, here, above = (values[inner + i, column] for i in (-1, 0, 1))
    bend = below - 2 * here + above
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(bend > 0, (below - above) / (2 * bend), 0.0)
    step = _SHIFTS[1] - _SHIFTS[0]
    return _SHIFTS[inner] + step * np.clip(part, -1.0, 1.0)


def _smooth(shift: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A straight line through shifts by ln of the size, as power laws have it.

    The best of many splits of each size by itself would follow every odd run.
    """
    inside = np.abs(shift) < _SHIFTS[-1]
    if inside.sum() < 2:
        return shift
    line = np.polyfit(np.log(sizes[inside]), shift[inside], 1)
    return np.clip(np.polyval(line, np.log(sizes)), _SHIFTS[0], _SHIFTS[-1])


def values_of(
    law: FittedLaw, params: np.ndarray, data: np.ndarray, epochs: float | None = None
) -> np.ndarray:
    """ln of the true mean at places [1 + draws, places]."""
    best = law.log_value(params, data, epochs=epochs)
    drawn = law.log_value(params, data, draws=True, epochs=epochs)
    means = law.spread(drawn, best, params, data)
    return np.concatenate([best[None], means])


def _move(values: np.ndarray, known: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values at known sizes of the axis, at others [1 + draws, places]."""
    if np.allclose(known, sizes, rtol=1e-6):
        return values
    at, own = np.log(sizes), np.log(known)
    return np.stack([np.interp(at, own, row) for row in values])


def pair_up(first: Group, second: Group, seed: int) -> tuple[Sides, Pairing]:
    """Two groups as they are known best: by their shared runs, else by their laws.

    Args:
        first: the baseline.
        second: another group.
        seed: of draws.
    """
    surfaces = first.fit.surface, second.fit.surface
    shared = find_shared(*surfaces)
    pairing = describe_pairing(*surfaces, shared)
    groups = first, second
    if pairing.why_not:
        return Apart(groups, _draw_apart(first.fit, second.fit, seed)), pairing
    return _learn_together(groups, shared, seed), pairing


def _learn_together(groups: tuple[Group, Group], shared: Shared, seed: int) -> Together:
    law = groups[0].fit.fitted
    times = max(1, math.ceil(_DRAWS / max(len(law.draws), 1)))
    draws = times * max(len(law.draws), 1)
    return Together(groups, learn(shared, law, draws, seed))


def _draw_apart(first: Fit, second: Fit, seed: int) -> tuple[FittedLaw, FittedLaw]:
    """The fits' own draws in random order: both may come from the same numbers."""
    rng = np.random.default_rng(seed)
    count = min(len(first.fitted.draws), len(second.fitted.draws))

    def shuffle(fitted: FittedLaw) -> FittedLaw:
        order = rng.permutation(len(fitted.draws))[:count]
        return dataclasses.replace(
            fitted, draws=fitted.draws[order], misfits=fitted.wander[order]
        )

    return shuffle(first.fitted), shuffle(second.fitted)

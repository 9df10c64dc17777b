"""What a law is, and the few numerical pieces that all of them are made of.

A law is a function of parameters and sizes. Inside a fit every size is a logarithm
relative to a reference (the largest fitted one), x = ln(m / M) and y = ln(n / N), and
every positive parameter is a logarithm too: no law can then depend on units, and the
least-squares problem is well conditioned. `public` turns the inner numbers into the
names and units under which the law was published.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
Columns = TypeVar("Columns", bound=tuple)


class Scale(NamedTuple):
    """What a law may know of the problem beside its parameters. Scalars, or [lanes].

    Attributes:
        log_guess: ln of the random-guess level e0 (where it is fixed).
        log_low: ln of the smallest fitted value, of the second smallest where there
            are enough points for one of them to be an accident.
        log_high: ln of the largest fitted value.
        levels: x of the model sizes that have an offset of their own; most laws know
            none [levels], or [lanes, levels].
    """

    log_guess: Array | float
    log_low: Array | float
    log_high: Array | float
    levels: Array = np.empty(0)

    def of_lane(self, lane: int) -> "Scale":
        """The scale of one lane of many."""
        return Scale(*(np.asarray(leaf)[lane] for leaf in self))


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One inner parameter: its name and where it may lie.

    Attributes:
        name: as in the published form.
        lower: smallest value allowed; reaching it is reported as a bound hit.
        upper: largest value allowed.
        is_log: the solver moves its logarithm (positive parameters).
    """

    name: str
    lower: float
    upper: float
    is_log: bool = True

    @property
    def inner_bounds(self) -> tuple[float, float]:
        """Bounds in the solver's coordinate."""
        if self.is_log:
            return float(np.log(self.lower)), float(np.log(self.upper))
        return self.lower, self.upper


class Term(NamedTuple):
    """What one size adds: exp(theta[amplitude]) * size^-exp(theta[exponent])."""

    amplitude: int
    exponent: int
    axis: str  # params or data


class Sum(NamedTuple):
    """That a response z of the value is a floor and the law's terms.

    Attributes:
        floor: place of ln of the floor in theta.
        response: (theta [starts, parameters], ln value [points], scale) -> ln z and
            its derivative by ln value, each [starts, points].
    """

    floor: int
    response: Callable[[np.ndarray, np.ndarray, Scale], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Law:
    """A functional form.

    Attributes:
        name: what `--law` calls it.
        source: paper and equation.
        formula: one line, for people.
        parameters: the inner ones, in the order of `theta`.
        log_value: (theta [parameters], x, y, scale) -> ln of the value; x and y are
            ln(m / M), ln(n / N) and broadcast; under jit. A law with epochs among its
            axes takes z = ln(epochs) as a fifth.
        start: (uniform numbers [starts, parameters], scale) -> theta [starts,
            parameters], the starting points of a fit.
        public: (theta [..., parameters], scale, M, N) -> the published parameters,
            each [...].
        unit: of m and n in the published parameters, for people.
        fits_guess: the random-guess level is a parameter of the fit.
        bounded: the law never exceeds the random-guess level, so a point at or above
            that level cannot be met exactly.
        axes: what it depends on, of params (m), data (n) and epochs (passes over the
            data, which are then unique data).
        terms: its powers of the sizes, where it is made of such.
        sum: that it is their sum, which makes for good starting points; or None.
        parts: laws of which it is the weighted geometric mean (`mixture.py`): theta is
            that of each of them, and then their weights.
    """

    name: str
    source: str
    formula: str
    parameters: tuple[Parameter, ...]
    log_value: Callable[..., jax.Array]
    start: Callable[[np.ndarray, Scale], np.ndarray]
    public: Callable[[np.ndarray, Scale, float, float], dict[str, np.ndarray]]
    unit: str
    fits_guess: bool = False
    bounded: bool = False
    axes: tuple[str, ...] = ("params", "data")
    terms: tuple[Term, ...] = ()
    sum: Sum | None = None
    parts: "tuple[Law, ...]" = ()

    @property
    def part(self) -> "Law | None":
        """The one law that all parts are; None where they differ, or there are none."""
        return self.parts[0] if len(set(self.parts)) == 1 else None

    def at(self, z: Array | float | None) -> "Law":
        """The law for z = ln(epochs), which broadcasts with x and y.

        A law without epochs among its axes is returned as it is, and traced as if
        there were no z.
        """
        if "epochs" not in self.axes:
            return self
        return dataclasses.replace(
            self, log_value=functools.partial(self.log_value, z=z)
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Law":
        """Itself, as nothing in it ever changes."""
        return self

    @property
    def num_parameters(self) -> int:
        return len(self.parameters)

    @property
    def lower(self) -> np.ndarray:
        """Lower bounds of theta [parameters]."""
        return np.array([parameter.inner_bounds[0] for parameter in self.parameters])

    @property
    def upper(self) -> np.ndarray:
        """Upper bounds of theta [parameters]."""
        return np.array([parameter.inner_bounds[1] for parameter in self.parameters])


# Exponents beyond these are no power law that anyone has measured (paper 5.1 and
# peers: 0.05 to 1.2); amplitudes may vanish, down to what float64 resolves.
EXPONENT = (1e-3, 10.0)
AMPLITUDE = (1e-20, 1e20)


def by_name(columns: type[Columns], theta: Array) -> Columns:
    """Inner parameters under their names.

    Args:
        columns: a NamedTuple, a field a parameter, in the order of theta.
        theta: [..., parameters], at least as many.
    """
    fields: tuple[str, ...] = columns._fields  # pyright: ignore[reportAttributeAccessIssue]
    return columns(*(theta[..., i] for i in range(len(fields))))


def interpolate(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Uniform numbers brought to [low, high]; used for starting points."""
    return low + uniform * (high - low)


def log_sum(*terms: Array) -> jax.Array:
    """ln of the sum of exp(terms), which broadcast."""
    largest = jax.lax.stop_gradient(functools.reduce(jnp.maximum, terms))
    # Where all are -inf the largest must not turn them into NaN.
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    return largest + jnp.log(sum(jnp.exp(term - largest) for term in terms))


def same_response(
    theta: np.ndarray, log_value: np.ndarray, scale: Scale
) -> tuple[np.ndarray, np.ndarray]:
    """The response of laws whose value itself is the sum."""
    del scale
    shape = (len(theta), len(log_value))
    return np.broadcast_to(log_value, shape), np.ones(shape)


def exp_within_float(log_number: Array) -> np.ndarray:
    """exp, held within float64: a published constant may lie beyond 1e308.

    Constants with the dimension of a size are powers 1 / exponent of what was fitted,
    and an exponent may be near 0.
    """
    return np.exp(np.clip(np.asarray(log_number), -700.0, 700.0))

"""How the error falls with model size m and data size n: the functional forms.

A law is a function of parameters and sizes. Inside a fit every size is a logarithm
relative to a reference (the largest fitted one), x = ln(m / M) and y = ln(n / N), and
every positive parameter is a logarithm too: no law can then depend on units, and the
least-squares problem is well conditioned. `public` turns the inner numbers into the
names and units under which the law was published.

A law of one's own is `law_from_function(name, function, parameters)`; a config or
`--law` names it by dotted path.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError

Array = jax.Array | np.ndarray


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


@dataclasses.dataclass(frozen=True)
class Law:
    """A functional form.

    Attributes:
        name: what `--law` calls it.
        source: paper and equation.
        formula: one line, for people.
        parameters: the inner ones, in the order of `theta`.
        log_value: (theta [parameters], x, y, scale) -> ln of the value; x and y are
            ln(m / M), ln(n / N) and broadcast; under jit.
        start: (uniform numbers [starts, parameters], scale) -> theta [starts,
            parameters], the starting points of a fit.
        public: (theta [..., parameters], scale, M, N) -> the published parameters,
            each [...].
        unit: of m and n in the published parameters, for people.
        fits_guess: the random-guess level is a parameter of the fit.
        bounded: the law never exceeds the random-guess level, so a point at or above
            that level cannot be met exactly.
    """

    name: str
    source: str
    formula: str
    parameters: tuple[Parameter, ...]
    log_value: Callable[[Array, Array, Array, Scale], jax.Array]
    start: Callable[[np.ndarray, Scale], np.ndarray]
    public: Callable[[np.ndarray, Scale, float, float], dict[str, np.ndarray]]
    unit: str
    fits_guess: bool = False
    bounded: bool = False

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
_EXPONENT = (1e-3, 10.0)
_AMPLITUDE = (1e-20, 1e20)


def _interpolate(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + uniform * (high - low)


def _odds(log_ratio: np.ndarray) -> np.ndarray:
    """ln z for which z / sqrt(1 + z^2) = exp(log_ratio); ratios below 1."""
    ratio = np.exp(np.minimum(log_ratio, -1e-3))
    return np.log(ratio / np.sqrt(1 - ratio**2))


def _log_envelope(log_z: jax.Array) -> jax.Array:
    """ln of z / sqrt(1 + z^2), stable at both ends."""
    return -0.5 * jnp.logaddexp(0.0, -2.0 * log_z)


def _log_sum(*terms: Array) -> jax.Array:
    total = terms[0]
    for term in terms[1:]:
        total = jnp.logaddexp(total, term)
    return jnp.asarray(total)


# Rosenfeld et al. 2020, Eq. 4 and 5. The published form has a gauge freedom: a, b,
# c and eta times any k give the same value. Here eta = 1 inside; the published
# numbers are those with a = 1 (paper.md 1.2).
def _rosenfeld_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    log_a, log_alpha, log_b, log_beta, log_c = (theta[i] for i in range(5))
    log_guess = theta[5] if len(theta) > 5 else scale.log_guess
    log_z = _log_sum(
        log_a - jnp.exp(log_alpha) * y, log_b - jnp.exp(log_beta) * x, log_c
    )
    return log_guess + _log_envelope(log_z)


def _rosenfeld_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    fitted = uniform.shape[1] > 5
    # Just above what was seen: the plateau, if the data reach it at all.
    log_guess = scale.log_high + _interpolate(uniform[:, -1], 0.02, 0.5)
    log_low = _odds(scale.log_low - (log_guess if fitted else scale.log_guess))
    columns = [
        log_low + _interpolate(uniform[:, 0], -3.0, 0.5),
        np.log(_interpolate(uniform[:, 1], 0.1, 1.2)),
        log_low + _interpolate(uniform[:, 2], -6.0, 0.5),
        np.log(_interpolate(uniform[:, 3], 0.1, 1.2)),
        log_low + _interpolate(uniform[:, 4], -4.0, 0.0),
    ]
    return np.stack(columns + [log_guess] * fitted, axis=1)


def _rosenfeld_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del params_unit, data_unit  # published in fractions of the reference sizes
    log_a = theta[..., 0]
    log_guess = theta[..., 5] if theta.shape[-1] > 5 else np.asarray(scale.log_guess)
    log_c = theta[..., 4]
    return {
        "data_exponent": np.exp(theta[..., 1]),
        "model_exponent": np.exp(theta[..., 3]),
        "b": np.exp(theta[..., 2] - log_a),
        "c": np.exp(log_c - log_a),
        "eta": np.exp(-log_a),
        "random_guess": np.broadcast_to(np.exp(log_guess), log_a.shape),
        # The exact limit, not the paper's approximation for small c (paper.md 1.2).
        "irreducible": np.exp(log_guess - 0.5 * np.logaddexp(0.0, -2.0 * log_c)),
    }


_rosenfeld_parameters = (
    Parameter("a/eta", *_AMPLITUDE),
    Parameter("data_exponent", *_EXPONENT),
    Parameter("b/eta", *_AMPLITUDE),
    Parameter("model_exponent", *_EXPONENT),
    Parameter("c/eta", *_AMPLITUDE),
)

rosenfeld = Law(
    name="rosenfeld",
    source="Rosenfeld et al. 2020, Eq. 4 and 5",
    formula="e0 t / sqrt(t^2 + eta^2), t = n^-alpha + b m^-beta + c",
    parameters=_rosenfeld_parameters,
    log_value=_rosenfeld_log_value,
    start=_rosenfeld_start,
    public=_rosenfeld_public,
    unit="fractions of the largest fitted m and n",
    bounded=True,
)

# For text the random-guess level is a sixth parameter (paper.md 1.4).
rosenfeld_fitted_guess = dataclasses.replace(
    rosenfeld,
    name="rosenfeld_fitted_guess",
    parameters=(*_rosenfeld_parameters, Parameter("random_guess", *_AMPLITUDE)),
    fits_guess=True,
)


# Hoffmann et al. 2022, approach 3: Rosenfeld's Eq. 4 without the envelope.
def _chinchilla_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log_e, log_a, log_alpha, log_b, log_beta = (theta[i] for i in range(5))
    return _log_sum(
        log_e, log_a - jnp.exp(log_alpha) * x, log_b - jnp.exp(log_beta) * y
    )


def _chinchilla_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + _interpolate(uniform[:, 0], -2.0, 0.0),
        scale.log_low + _interpolate(uniform[:, 1], -6.0, 0.0),
        np.log(_interpolate(uniform[:, 2], 0.1, 1.2)),
        scale.log_low + _interpolate(uniform[:, 3], -6.0, 0.0),
        np.log(_interpolate(uniform[:, 4], 0.1, 1.2)),
    ]
    return np.stack(columns, axis=1)


def _chinchilla_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    alpha, beta = np.exp(theta[..., 2]), np.exp(theta[..., 4])
    return {
        "E": np.exp(theta[..., 0]),
        "A": np.exp(theta[..., 1] + alpha * np.log(params_unit)),
        "B": np.exp(theta[..., 3] + beta * np.log(data_unit)),
        "model_exponent": alpha,
        "data_exponent": beta,
    }


chinchilla = Law(
    name="chinchilla",
    source="Hoffmann et al. 2022, approach 3",
    formula="E + A m^-alpha + B n^-beta",
    parameters=(
        Parameter("E", *_AMPLITUDE),
        Parameter("A", *_AMPLITUDE),
        Parameter("model_exponent", *_EXPONENT),
        Parameter("B", *_AMPLITUDE),
        Parameter("data_exponent", *_EXPONENT),
    ),
    log_value=_chinchilla_log_value,
    start=_chinchilla_start,
    public=_chinchilla_public,
    unit="counts",
)


def law_from_function(
    name: str,
    function: Callable[[Mapping[str, Array], Array, Array], Array],
    parameters: Sequence[Parameter],
    *,
    source: str = "",
    formula: str = "",
) -> Law:
    """A law of one's own.

    Args:
        name: what reports call it.
        function: (parameters by name, m, n) -> value, positive and not increasing in
            m or n, written with jax.numpy; m and n are fractions of the largest
            fitted sizes.
        parameters: names and bounds; starts are drawn between the bounds.
        source: where the form comes from.
        formula: one line, for people.

    Returns:
        A law that fits, predicts and answers like the built-in ones.
    """
    parameters = tuple(parameters)

    def natural(theta: Array) -> dict[str, Array]:
        return {
            parameter.name: jnp.exp(theta[i]) if parameter.is_log else theta[i]
            for i, parameter in enumerate(parameters)
        }

    def log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
        del scale
        return jnp.log(function(natural(theta), jnp.exp(x), jnp.exp(y)))

    def start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
        del scale
        low, high = np.transpose([parameter.inner_bounds for parameter in parameters])
        return low + uniform * (high - low)

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        del scale, params_unit, data_unit
        return {
            parameter.name: np.exp(theta[..., i]) if parameter.is_log else theta[..., i]
            for i, parameter in enumerate(parameters)
        }

    return Law(
        name=name,
        source=source,
        formula=formula,
        parameters=parameters,
        log_value=log_value,
        start=start,
        public=public,
        unit="fractions of the largest fitted m and n",
    )


BUILT_IN = (rosenfeld, rosenfeld_fitted_guess, chinchilla)


def find_law(name: str) -> Law:
    """The law called `name`: a built-in one, or `package.module.attribute`.

    Raises:
        UserError: lists the built-in names.
    """
    for law in BUILT_IN:
        if law.name == name:
            return law
    module_name, _, attribute = name.rpartition(".")
    known = ", ".join(law.name for law in BUILT_IN)
    if not module_name:
        raise UserError(f"law={name!r}: must be one of {known}, or package.module.law")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"law={name!r}: {error}; built-in laws: {known}") from None
    if not isinstance(found, Law):
        raise UserError(
            f"law={name!r}: is a {type(found).__name__}; it must be a Law, made by "
            "law_from_function"
        )
    return found

"""The laws of the error: how it falls with model size m and data size n.

Joint laws stand here, laws of one size alone in `one_axis`; what a law is stands in
`law`. A law of one's own is `law_from_function(name, function, parameters)`; a config
or `--law` names it by dotted path.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.config import UserError
from scalepred.fitting import one_axis
from scalepred.fitting.law import (
    AMPLITUDE,
    EXPONENT,
    Array,
    Law,
    Parameter,
    Scale,
    Sum,
    Term,
    exp_within_float,
    interpolate,
    log_sum,
    same_response,
)

# ln(value / random guess) nearer to 0 than this is taken for this.
_NEAR_GUESS = -1e-3


def _odds(log_ratio: Array | float) -> np.ndarray:
    """ln z for which z / sqrt(1 + z^2) = exp(log_ratio); ratios below 1."""
    ratio = np.exp(np.minimum(log_ratio, _NEAR_GUESS))
    return np.log(ratio / np.sqrt(1 - ratio**2))


def _log_envelope(log_z: jax.Array) -> jax.Array:
    """ln of z / sqrt(1 + z^2), stable at both ends."""
    return -0.5 * jnp.logaddexp(0.0, -2.0 * log_z)


# Rosenfeld et al. 2020, Eq. 4 and 5. The published form has a gauge freedom: a, b,
# c and eta times any k give the same value. Here eta = 1 inside; the published
# numbers are those with a = 1 (paper.md 1.2).
def _rosenfeld_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    log_a, log_alpha, log_b, log_beta, log_c = (theta[i] for i in range(5))
    log_guess = theta[5] if len(theta) > 5 else scale.log_guess
    log_z = log_sum(
        log_a - jnp.exp(log_alpha) * y, log_b - jnp.exp(log_beta) * x, log_c
    )
    return jnp.asarray(log_guess + _log_envelope(log_z))


def _rosenfeld_response(
    theta: np.ndarray, log_value: np.ndarray, scale: Scale
) -> tuple[np.ndarray, np.ndarray]:
    log_guess = theta[:, 5:6] if theta.shape[1] > 5 else scale.log_guess
    ratio = np.broadcast_to(log_value - log_guess, (len(theta), len(log_value)))
    ratio = np.minimum(ratio, _NEAR_GUESS)
    return _odds(ratio), 1 / -np.expm1(2 * ratio)


def _rosenfeld_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    fitted = uniform.shape[1] > 5
    # Just above what was seen: the plateau, if the data reach it at all.
    log_guess = scale.log_high + interpolate(uniform[:, -1], 0.02, 0.5)
    log_low = _odds(scale.log_low - (log_guess if fitted else scale.log_guess))
    columns = [
        log_low + interpolate(uniform[:, 0], -3.0, 0.5),
        np.log(interpolate(uniform[:, 1], 0.1, 1.2)),
        log_low + interpolate(uniform[:, 2], -6.0, 0.5),
        np.log(interpolate(uniform[:, 3], 0.1, 1.2)),
        log_low + interpolate(uniform[:, 4], -4.0, 0.0),
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
    Parameter("a/eta", *AMPLITUDE),
    Parameter("data_exponent", *EXPONENT),
    Parameter("b/eta", *AMPLITUDE),
    Parameter("model_exponent", *EXPONENT),
    Parameter("c/eta", *AMPLITUDE),
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
    terms=(Term(0, 1, "data"), Term(2, 3, "params")),
    sum=Sum(4, _rosenfeld_response),
)

# For text the random-guess level is a sixth parameter (paper.md 1.4).
rosenfeld_fitted_guess = dataclasses.replace(
    rosenfeld,
    name="rosenfeld_fitted_guess",
    parameters=(*_rosenfeld_parameters, Parameter("random_guess", *AMPLITUDE)),
    fits_guess=True,
)


# Our relaxation of Rosenfeld's envelope (paper, 1.3 footnote to C1 and 6.4): levels of
# their own for m -> 0 and n -> 0. e = G z / sqrt(1 + z^2), and G rises from the lower
# level to the higher one as the size of the higher level runs out:
#     ln G = ln(lower) + |gap| w^2 / (1 + w^2), gap = ln(data level / model level),
# with w the term of that size alone: a n^-alpha if gap > 0, b m^-beta if gap < 0. So
# G never falls as a size shrinks and the law is monotone; with gap = 0 it is
# `rosenfeld_fitted_guess` to the bit. Where both sizes run out the higher level holds:
# a monotone law cannot tend to both, as e(m, n) <= e(m, 0) and e(m, n) <= e(0, n).
def _two_plateaus_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> Array:
    gap = theta[6]
    log_data = theta[0] - jnp.exp(theta[1]) * y
    log_model = theta[2] - jnp.exp(theta[3]) * x
    rise = jnp.maximum(gap, 0.0) * jnp.exp(2 * _log_envelope(log_data))
    rise += jnp.maximum(-gap, 0.0) * jnp.exp(2 * _log_envelope(log_model))
    return _rosenfeld_log_value(theta[:6], x, y, scale) + rise


def _two_plateaus_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    gap = interpolate(uniform[:, 6], -0.7, 0.7)
    theta = _rosenfeld_start(uniform[:, :6], scale)
    # The higher level lies above what was seen, the lower one may be below it.
    theta[:, 5] -= np.abs(gap)
    return np.concatenate([theta, gap[:, None]], axis=1)


def _two_plateaus_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    numbers = _rosenfeld_public(theta[..., :6], scale, params_unit, data_unit)
    lower, gap = numbers.pop("random_guess"), theta[..., 6]
    return {
        **numbers,
        "random_guess_model": lower * np.exp(np.maximum(-gap, 0.0)),
        "random_guess_data": lower * np.exp(np.maximum(gap, 0.0)),
    }


rosenfeld_two_plateaus = dataclasses.replace(
    rosenfeld_fitted_guess,
    name="rosenfeld_two_plateaus",
    source="Rosenfeld et al. 2020, Eq. 4 and 5, and footnote to criterion 1; form ours",
    formula="G t / sqrt(t^2 + eta^2), t = n^-alpha + b m^-beta + c, G between e_m, e_n",
    parameters=(
        *rosenfeld_fitted_guess.parameters,
        Parameter("plateau_gap", -5.0, 5.0, is_log=False),
    ),
    log_value=_two_plateaus_log_value,
    start=_two_plateaus_start,
    public=_two_plateaus_public,
    sum=None,
)


# Hoffmann et al. 2022, approach 3: Rosenfeld's Eq. 4 without the envelope.
def _chinchilla_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log_e, log_a, log_alpha, log_b, log_beta = (theta[i] for i in range(5))
    return log_sum(log_e, log_a - jnp.exp(log_alpha) * x, log_b - jnp.exp(log_beta) * y)


def _chinchilla_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + interpolate(uniform[:, 0], -2.0, 0.0),
        scale.log_low + interpolate(uniform[:, 1], -6.0, 0.0),
        np.log(interpolate(uniform[:, 2], 0.1, 1.2)),
        scale.log_low + interpolate(uniform[:, 3], -6.0, 0.0),
        np.log(interpolate(uniform[:, 4], 0.1, 1.2)),
    ]
    return np.stack(columns, axis=1)


def _chinchilla_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    alpha, beta = np.exp(theta[..., 2]), np.exp(theta[..., 4])
    return {
        "E": np.exp(theta[..., 0]),
        "A": exp_within_float(theta[..., 1] + alpha * np.log(params_unit)),
        "B": exp_within_float(theta[..., 3] + beta * np.log(data_unit)),
        "model_exponent": alpha,
        "data_exponent": beta,
    }


chinchilla = Law(
    name="chinchilla",
    source="Hoffmann et al. 2022, approach 3",
    formula="E + A m^-alpha + B n^-beta",
    parameters=(
        Parameter("E", *AMPLITUDE),
        Parameter("A", *AMPLITUDE),
        Parameter("model_exponent", *EXPONENT),
        Parameter("B", *AMPLITUDE),
        Parameter("data_exponent", *EXPONENT),
    ),
    log_value=_chinchilla_log_value,
    start=_chinchilla_start,
    public=_chinchilla_public,
    unit="counts",
    terms=(Term(1, 2, "params"), Term(3, 4, "data")),
    sum=Sum(0, same_response),
)


# Powers of m and n that are coupled by an outer exponent k: inside,
#     E + (A^(1/k) + B^(1/k))^k with A = a m^-(alpha k), B = b n^-(beta k),
# so that amplitudes and exponents are those of the value itself whatever k is.
def _log_coupled(log_a: Array, log_b: Array, k: Array) -> jax.Array:
    return jnp.asarray(k * jnp.logaddexp(log_a / k, log_b / k))


# Kaplan et al. 2020, Eq. 1.5: k = alpha_D, and no floor.
def _kaplan_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log_a, log_alpha, log_b, log_beta = (theta[i] for i in range(4))
    beta = jnp.exp(log_beta)
    return _log_coupled(log_a - jnp.exp(log_alpha) * x, log_b - beta * y, beta)


def _kaplan_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    columns = [
        scale.log_low + interpolate(uniform[:, 0], -3.0, 0.0),
        interpolate(uniform[:, 1], np.log(0.03), np.log(1.0)),
        scale.log_low + interpolate(uniform[:, 2], -3.0, 0.0),
        interpolate(uniform[:, 3], np.log(0.03), np.log(1.0)),
    ]
    return np.stack(columns, axis=1)


def _kaplan_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    alpha, beta = np.exp(theta[..., 1]), np.exp(theta[..., 3])
    return {
        "N_c": exp_within_float(theta[..., 0] / alpha + np.log(params_unit)),
        "model_exponent": alpha,
        "D_c": exp_within_float(theta[..., 2] / beta + np.log(data_unit)),
        "data_exponent": beta,
    }


kaplan = Law(
    name="kaplan",
    source="Kaplan et al. 2020, Eq. 1.5",
    formula="((N_c / m)^(alpha / beta) + D_c / n)^beta",
    parameters=(
        Parameter("A", *AMPLITUDE),
        Parameter("model_exponent", *EXPONENT),
        Parameter("B", *AMPLITUDE),
        Parameter("data_exponent", *EXPONENT),
    ),
    log_value=_kaplan_log_value,
    start=_kaplan_start,
    public=_kaplan_public,
    unit="counts",
    terms=(Term(0, 1, "params"), Term(2, 3, "data")),
)


# Videau et al. 2026 (Skaling): Chinchilla's terms under one outer exponent k. The
# form is also that of the supervised law of Busbridge et al. 2025, there gamma.
def _coupled_log_value(theta: Array, x: Array, y: Array, scale: Scale) -> jax.Array:
    del scale
    log_e, log_a, log_alpha, log_b, log_beta, log_k = (theta[i] for i in range(6))
    terms = log_a - jnp.exp(log_alpha) * x, log_b - jnp.exp(log_beta) * y
    return log_sum(log_e, _log_coupled(*terms, jnp.exp(log_k)))


def _coupled_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    log_k = interpolate(uniform[:, 5], np.log(0.3), np.log(2.0))
    return np.append(_chinchilla_start(uniform[:, :5], scale), log_k[:, None], axis=1)


def _coupled_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    del scale
    k = np.exp(theta[..., 5])
    alpha, beta = np.exp(theta[..., 2]) / k, np.exp(theta[..., 4]) / k
    return {
        "E": np.exp(theta[..., 0]),
        "A": exp_within_float(theta[..., 1] / k + alpha * np.log(params_unit)),
        "B": exp_within_float(theta[..., 3] / k + beta * np.log(data_unit)),
        "model_exponent": alpha,
        "data_exponent": beta,
        "k": k,
    }


coupled = Law(
    name="coupled",
    source="Videau et al. 2026 (Skaling)",
    formula="E + (A m^-alpha + B n^-beta)^k",
    parameters=(
        Parameter("E", *AMPLITUDE),
        Parameter("A^k", *AMPLITUDE),
        Parameter("k model_exponent", *EXPONENT),
        Parameter("B^k", *AMPLITUDE),
        Parameter("k data_exponent", *EXPONENT),
        # Below, the larger of two terms; above, their product.
        Parameter("k", 0.02, 50.0),
    ),
    log_value=_coupled_log_value,
    start=_coupled_start,
    public=_coupled_public,
    unit="counts",
    terms=(Term(1, 2, "params"), Term(3, 4, "data")),
)


# Muennighoff et al. 2023, Eq. 5 to 7: repeated data and excess parameters are worth
# less and less. With U unique data and R = epochs - 1 repeats the law of Hoffmann et
# al. sees D' = U + U R_D* (1 - exp(-R / R_D*)); with U_N = min(N, the N for which U
# data are compute-optimal) and R_N = N / U_N - 1, it sees N' likewise with R_N*.
# That optimum is where alpha A N^-alpha = beta B U^-beta, whatever the units are: what
# the paper writes as G (U G)^(beta / alpha), G = (alpha A / (beta B))^(1 / (alpha +
# beta)). The paper ties alpha to beta and fits R_D* and R_N* last; here all are free.
def _log_worth(log_times: Array, log_scale: Array) -> jax.Array:
    """ln of what exp(log_times) times the same are worth: 1 + s (1 - exp(-R / s)).

    R = exp(log_times) - 1 are the times beyond the first, s = exp(log_scale).
    """
    # Beyond e^60 all is lost, and there would be no derivative.
    repeats = jnp.expm1(jnp.minimum(log_times, 60.0))
    scale = jnp.exp(log_scale)
    return jnp.log1p(-scale * jnp.expm1(-repeats / scale))


def _constrained_log_value(
    theta: Array, x: Array, y: Array, scale: Scale, z: Array
) -> jax.Array:
    del scale
    log_e, log_a, log_alpha, log_b, log_beta, log_rd, log_rn = (
        theta[i] for i in range(7)
    )
    alpha, beta = jnp.exp(log_alpha), jnp.exp(log_beta)
    optimal = (log_alpha + log_a - log_beta - log_b + beta * y) / alpha
    used = jnp.minimum(x, optimal)
    return log_sum(
        log_e,
        log_a - alpha * (used + _log_worth(x - used, log_rn)),
        log_b - beta * (y + _log_worth(z, log_rd)),
    )


def _constrained_start(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    decays = interpolate(uniform[:, 5:], np.log(1.0), np.log(100.0))
    return np.append(_chinchilla_start(uniform[:, :5], scale), decays, axis=1)


def _constrained_public(
    theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
) -> dict[str, np.ndarray]:
    return {
        **_chinchilla_public(theta, scale, params_unit, data_unit),
        "R_D*": np.exp(theta[..., 5]),
        "R_N*": np.exp(theta[..., 6]),
    }


data_constrained = Law(
    name="data_constrained",
    source="Muennighoff et al. 2023, Eq. 5 to 7",
    formula=(
        "E + A N'^-alpha + B D'^-beta, D' = n (1 + R_D* (1 - exp(-(epochs - 1) / "
        "R_D*))), N' likewise of m beyond what is optimal for n"
    ),
    parameters=(
        *chinchilla.parameters,
        # Below, a second pass is worth nothing; above, as much as new data.
        Parameter("R_D*", 1e-3, 1e5),
        Parameter("R_N*", 1e-3, 1e5),
    ),
    log_value=_constrained_log_value,
    start=_constrained_start,
    public=_constrained_public,
    unit="counts",
    axes=("params", "data", "epochs"),
)


def law_from_function(
    name: str,
    function: Callable[..., Array],
    parameters: Sequence[Parameter],
    *,
    source: str = "",
    formula: str = "",
    axes: Sequence[str] = ("params", "data"),
) -> Law:
    """A law of one's own.

    Args:
        name: what reports call it.
        function: (parameters by name, m, n) -> value, positive and not increasing in
            m or n, written with jax.numpy; m and n are fractions of the largest
            fitted sizes. With epochs among the axes it takes them as a fourth, as
            they are; n is then unique data.
        parameters: names and bounds; starts are drawn between the bounds.
        source: where the form comes from.
        formula: one line, for people.
        axes: what it depends on: params and data, and epochs if it is to know how
            often the data were seen.

    Returns:
        A law that fits, predicts and answers like the built-in ones.
    """
    parameters = tuple(parameters)
    return Law(
        name=name,
        source=source,
        formula=formula,
        parameters=parameters,
        # Not closures, which no pickle can hold.
        log_value=functools.partial(_own_log_value, function, parameters),
        start=functools.partial(_own_start, parameters),
        public=functools.partial(_own_public, parameters),
        unit="fractions of the largest fitted m and n",
        axes=tuple(axes),
    )


def _own_log_value(
    function: Callable[..., Array],
    parameters: tuple[Parameter, ...],
    theta: Array,
    x: Array,
    y: Array,
    scale: Scale,
    z: Array | None = None,
) -> jax.Array:
    del scale
    natural = {
        parameter.name: jnp.exp(theta[i]) if parameter.is_log else theta[i]
        for i, parameter in enumerate(parameters)
    }
    sizes = [jnp.exp(x), jnp.exp(y)] + ([] if z is None else [jnp.exp(z)])
    return jnp.log(function(natural, *sizes))


def _own_start(
    parameters: tuple[Parameter, ...], uniform: np.ndarray, scale: Scale
) -> np.ndarray:
    del scale
    low, high = np.transpose([parameter.inner_bounds for parameter in parameters])
    return low + uniform * (high - low)


def _own_public(
    parameters: tuple[Parameter, ...],
    theta: np.ndarray,
    scale: Scale,
    params_unit: float,
    data_unit: float,
) -> dict[str, np.ndarray]:
    del scale, params_unit, data_unit
    return {
        parameter.name: np.exp(theta[..., i]) if parameter.is_log else theta[..., i]
        for i, parameter in enumerate(parameters)
    }


BUILT_IN = (
    rosenfeld,
    rosenfeld_fitted_guess,
    rosenfeld_two_plateaus,
    chinchilla,
    kaplan,
    coupled,
    data_constrained,
    one_axis.power,
    one_axis.power_params,
    one_axis.m4,
    one_axis.m4_params,
    one_axis.bnsl,
    one_axis.bnsl_params,
)


def find_law(name: str) -> Law:
    """The law called `name`: a built-in one, or `package.module.attribute`.

    Raises:
        UserError: lists the built-in names.
    """
    for law in BUILT_IN:
        if law.name == name:
            return law
    module_name, _, attribute = name.rpartition(".")
    known = ", ".join(["auto", *(law.name for law in BUILT_IN)])
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

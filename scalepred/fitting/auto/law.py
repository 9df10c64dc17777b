"""One law of which the usual ones are corners.

    e = U z (1 + z^h)^(-1/h)                                                     (1)
    z = (E + s t) / U                                                            (2)
    t = [(A m^-alpha)^k + (B n^-beta)^k]^(1/k)                                   (3)

h is the bend (2: Rosenfeld's envelope, 1: rational), k the hardness (1: Chinchilla's
sum, large: the scarcer of the two), s the smallest error, E the floor, U the
random-guess level, the top.

A size of model that was trained on several data sizes may have a small offset of ln t
of its own, and of ln beta, which takes up what parameters do not count (depth, patches,
heads).

Where data are repeated, m and n of (3) are those that count: of n unique data seen
several times, and of parameters beyond what is optimal for n, the first are worth more
than the rest (`laws.repeated`, Eq. 1 and 2). The optimum for n is where another
parameter and another datum are worth the same:

    alpha (A m^-alpha)^k = beta (B n^-beta)^k                                    (4)
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting.laws import Array, Law, Parameter, Scale
from scalepred.fitting.laws.law import by_name
from scalepred.fitting.laws.repeated import Decay, log_worth


class Core(NamedTuple):
    """Inner parameters: logarithms, but for those of the floor and the top."""

    A: Array  # of the model's term at the largest m, in units of the smallest value
    model_exponent: Array  # alpha
    B: Array  # of the data's term at the largest n, likewise
    data_exponent: Array  # beta
    floor: Array  # logit of E over the smallest value
    # Of a loss ln(U over the largest value - 1); of an error the logit of how far, in
    # ln, U lies from the given level on the way to the largest value.
    top: Array
    bend: Array  # h
    hardness: Array  # k


CORE = Core._fields
CORE_SIZE = len(CORE)
DECAY = Decay._fields  # the last of theta, where epochs are among the axes
# Sizes of model with an offset of their own: none, or at most this many. Programs are
# compiled for the next of these counts.
LEVEL_COUNTS = (0, 4, 8, 16, 24)
_MIN_LEVELS = 3
SAME_SIZE = 1e-9  # of x: two sizes of model are one
_OF_REPEATS = (
    ", m and n being those that count: n (1 + R_D* (1 - exp(-(epochs - 1) / R_D*))), "
    "and m likewise beyond what is optimal for n"
)
# Parameters that mean nothing where one size alone varies.
_OF_NO_AXIS = {
    "data": ("A", "model_exponent", "hardness"),
    "params": ("B", "data_exponent", "hardness"),
}


def _log_value(
    num_levels: int,
    is_loss: bool,
    theta: Array,
    x: Array,
    y: Array,
    scale: Scale,
    z: Array | None = None,
) -> jax.Array:
    core = by_name(Core, theta)
    offset, steeper = _level_terms(num_levels, theta, x, scale)
    k, h = jnp.exp(core.hardness), jnp.exp(core.bend)
    alpha, beta = jnp.exp(core.model_exponent), jnp.exp(core.data_exponent + steeper)
    if z is not None:
        decay = by_name(Decay, theta[CORE_SIZE + 2 * num_slots(num_levels) :])
        ratio = (core.model_exponent - core.data_exponent - steeper) / k
        optimal = (core.A - core.B + ratio + beta * y) / alpha  # Eq. (4)
        used = jnp.minimum(x, optimal)
        x = used + log_worth(x - used, decay.of_params)
        y = y + log_worth(z, decay.of_data)
    of_model = core.A - alpha * x
    of_data = core.B - beta * y
    log_t = jnp.logaddexp(k * of_model, k * of_data) / k + offset  # Eq. (3)
    log_floor = scale.log_low + jax.nn.log_sigmoid(core.floor)
    # The level of a loss is above all values, of an error between them and the given.
    if is_loss:
        log_top = scale.log_high + jnp.logaddexp(0.0, core.top)
    else:
        below = jax.nn.sigmoid(core.top)
        log_top = (1 - below) * scale.log_guess + below * scale.log_high
    log_z = jnp.logaddexp(log_floor, scale.log_low + log_t) - log_top  # Eq. (2)
    return jnp.asarray(log_top - jax.nn.softplus(-h * log_z) / h)  # Eq. (1)


def _level_terms(
    num_levels: int, theta: Array, x: Array, scale: Scale
) -> tuple[jax.Array, jax.Array]:
    """Offset of ln t and of ln beta at each place; the last slot is unseen sizes'."""
    if not num_levels:
        return jnp.zeros(()), jnp.zeros(())
    x = jnp.asarray(x)
    own = jnp.abs(x[..., None] - jnp.asarray(scale.levels)) < SAME_SIZE
    unseen = ~jnp.any(own, axis=-1, keepdims=True)
    which = jnp.concatenate([own, unseen], axis=-1).astype(jnp.float64)
    slots = num_slots(num_levels)
    offsets = theta[CORE_SIZE : CORE_SIZE + slots]
    steeper = theta[CORE_SIZE + slots : CORE_SIZE + 2 * slots]
    return which @ offsets, which @ steeper


def num_slots(num_levels: int) -> int:
    """Offsets in theta, and as many changes of ln beta: of levels and unseen sizes."""
    return num_levels + 1 if num_levels else 0


@functools.cache
def make_law(
    num_levels: int, is_loss: bool, axes: tuple[str, ...] = ("params", "data")
) -> Law:
    """The law with room for that many model sizes of their own."""
    names = list(CORE)
    if num_levels:
        slots = [str(i) for i in range(num_levels)] + ["unseen"]
        names += [f"offset_{slot}" for slot in slots]
        names += [f"steeper_{slot}" for slot in slots]
    knows_epochs = "epochs" in axes
    if knows_epochs:
        names += DECAY

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        del params_unit, data_unit
        core, low = by_name(Core, theta), np.exp(scale.log_low)
        floor = low / (1 + np.exp(-core.floor))
        high, guess = np.exp(scale.log_high), np.exp(scale.log_guess)
        if is_loss:
            top = high * (1 + np.exp(core.top))
        else:
            top = guess * (high / guess) ** (1 / (1 + np.exp(-core.top)))
        bend = np.exp(core.bend)
        ratio = floor / top
        numbers = {
            "A": low * np.exp(core.A),
            "model_exponent": np.exp(core.model_exponent),
            "B": low * np.exp(core.B),
            "data_exponent": np.exp(core.data_exponent),
            "irreducible": floor * (1 + ratio**bend) ** (-1 / bend),
            "random_guess": top,
            "bend": bend,
            "hardness": np.exp(core.hardness),
        }
        if knows_epochs:
            decay = by_name(Decay, theta[..., -len(DECAY) :])
            numbers["R_D*"] = np.exp(decay.of_data)
            numbers["R_N*"] = np.exp(decay.of_params)
        gone = _OF_NO_AXIS[axes[0]] if len(axes) == 1 else ()
        return {name: numbers[name] for name in numbers if name not in gone}

    return Law(
        name="flexible",
        source="scalepred; Rosenfeld et al. 2020 and Hoffmann et al. 2022 are corners",
        formula=(
            "U z (1 + z^h)^(-1/h), z = (E + [(A m^-alpha)^k + (B n^-beta)^k]^(1/k)) / U"
            + (_OF_REPEATS if knows_epochs else "")
        ),
        # No bounds: the priors do it.
        parameters=tuple(Parameter(name, -40.0, 40.0, is_log=False) for name in names),
        log_value=functools.partial(_log_value, num_levels, is_loss),
        start=_no_random_starts,
        public=public,
        unit="fractions of the largest fitted m and n",
        bounded=not is_loss,
        axes=axes,
    )


def _no_random_starts(uniform: np.ndarray, scale: Scale) -> np.ndarray:
    raise NotImplementedError(
        "this law is fitted by auto.posterior.estimate, from its priors"
    )


def find_levels(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Model sizes that recur at several data sizes; none if they are few or many."""
    sizes, counts = np.unique(x[mask], return_counts=True)
    levels = sizes[counts >= 2]
    if not _MIN_LEVELS <= len(levels) <= LEVEL_COUNTS[-1]:
        return np.empty(0)
    return levels

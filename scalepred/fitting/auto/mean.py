"""Several fits as one law: their weighted geometric mean.

Where fits agree on the points and part beyond them, and no back-test says reliably
which is right, their mean errs less than the likeliest of them does.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from scalepred.fitting import backtest
from scalepred.fitting.laws import Array, Law, Parameter, Scale


@functools.cache
def make_law(parts: tuple[Law, ...]) -> Law:
    """The weighted geometric mean of laws.

    theta is that of each of them in turn, and then the weights. The published
    parameters are those of the first.
    """
    sizes = [part.num_parameters for part in parts]
    first = parts[0]

    def log_value(
        theta: Array, x: Array, y: Array, scale: Scale, z: Array | None = None
    ) -> jax.Array:
        *own, weights = jnp.split(jnp.asarray(theta), np.cumsum(sizes))
        if len(set(parts)) == 1:  # compiles once, not once a part
            of_part = functools.partial(first.at(z).log_value, x=x, y=y, scale=scale)
            return jnp.tensordot(weights, jax.vmap(of_part)(jnp.stack(own)), 1)
        values = [
            part.at(z).log_value(one, x, y, scale)
            for part, one in zip(parts, own, strict=True)
        ]
        return jnp.asarray(sum(w * v for w, v in zip(weights, values, strict=True)))

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        own = theta[..., : sizes[0]]
        return first.public(own, scale, params_unit, data_unit)

    return Law(
        name="average",
        formula="geometric mean of " + ", ".join(part.name for part in parts),
        source="; ".join(dict.fromkeys(part.source for part in parts)),
        parameters=(
            *(one for part in parts for one in part.parameters),
            *(Parameter(f"weight {p.name}", 0.0, 1.0, is_log=False) for p in parts),
        ),
        log_value=log_value,
        start=first.start,
        public=public,
        unit=first.unit,
        bounded=False,
        axes=first.axes,
        parts=parts,
    )


def average(weights: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Weighted mean of what fits say in ln value: [fits, ...] -> [...].

    As in `weigh`, a fit that is not finite has no weight; NaN where none is.
    """
    known = np.isfinite(logs)
    share = weights.reshape(-1, *[1] * (logs.ndim - 1)) * known
    total = np.sum(share, axis=0)
    found = np.sum(share * np.where(known, logs, 0.0), axis=0)
    return np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0)


def back_tests(
    weights: np.ndarray, tests: Sequence[Sequence[backtest.BackTest]]
) -> list[backtest.BackTest]:
    """Of the mean of fits, from those of each, where all have one.

    Args:
        weights: of the fits, sum 1; what has none may have failed.
        tests: of each fit.
    """
    of_fits = [
        {test.ratio: test for test in own}
        for own, weight in zip(tests, weights, strict=True)
        if weight > 0
    ]
    weights = weights[weights > 0]
    found = []
    for ratio, first in of_fits[0].items():
        if not all(ratio in own for own in of_fits):
            continue
        differences = np.stack([own[ratio].difference for own in of_fits])
        mean = weights @ differences
        # Of a mixture: what each fit promises, and how far it is from the mean.
        variance = np.stack([own[ratio].sd for own in of_fits]) ** 2
        sd = np.sqrt(weights @ (variance + (differences - mean) ** 2))
        found.append(backtest.BackTest(ratio, first.mask, mean, sd))
    return found

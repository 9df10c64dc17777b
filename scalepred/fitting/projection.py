"""Variable projection: the best amplitudes for given exponents, in closed form.

For laws that are a sum of powers in some response (see `law.Sum`) a starting point
needs exponents only; the amplitudes follow from a small non-negative least-squares
problem (Golub and Pereyra 1973). A start is then a few Gauss-Newton steps from its
optimum, and the many that lead nowhere are seen before any step is taken.
"""

import functools
import itertools

import numpy as np

from scalepred.fitting.laws import Law, Scale

# Amplitudes that least squares puts at 0 start at this share of the typical response:
# a logarithm must be able to move.
_LEAST_SHARE = 1e-3


def project(
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    log_value: np.ndarray,
    weight: np.ndarray,
    scale: Scale,
    theta: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Starting points with the amplitudes that suit their exponents best.

    Args:
        law: one with `law.sum`.
        x: ln(m / M) [points].
        y: ln(n / N) [points].
        log_value: ln of the measured value [points].
        weight: 0 leaves a point out [points].
        scale: of the problem.
        theta: starting points [starts, parameters].

    Returns:
        theta, and the weighted sum of squared relative errors there, to first order
        [starts].
    """
    form = law.sum
    assert form is not None
    used = weight > 0
    x, y, weight = x[used], y[used], weight[used]
    log_z, slope = form.response(theta, log_value[used], scale)
    typical = np.exp(np.mean(log_z, axis=-1, keepdims=True))
    # Relative errors of the value, to first order: of the response over its slope.
    target = np.sqrt(weight) / slope
    relative = np.exp(-log_z) * target
    features = np.empty((len(theta), 1 + len(law.terms), len(x)))
    features[:, 0] = relative
    means = [np.ones(len(theta))]
    for row, (_, exponent, axis) in enumerate(law.terms, start=1):
        along = x if axis == "params" else y
        power = np.exp(-np.exp(theta[:, exponent, None]) * along)
        means.append(power.mean(axis=1))
        np.multiply(power, relative, out=features[:, row])
    gram = features @ features.transpose(0, 2, 1)
    moment = np.squeeze(features @ target[..., None], axis=-1)
    amplitude, gain = _non_negative(gram, moment)
    theta = theta.copy()
    rows = [form.floor, *(term.amplitude for term in law.terms)]
    least = _LEAST_SHARE * typical / np.stack(means, axis=1)
    theta[:, rows] = np.log(np.maximum(amplitude, least))
    return theta, np.sum(target**2, axis=-1) - gain


@functools.cache
def _sets(count: int) -> np.ndarray:
    """Every set of so many things [sets, things], the empty one first."""
    return np.array(list(itertools.product((False, True), repeat=count)))


def _non_negative(
    gram: np.ndarray, moment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """min a' gram a - 2 moment' a over a >= 0, by trying every set of positive ones.

    Args:
        gram: [starts, terms, terms].
        moment: [starts, terms].

    Returns:
        a [starts, terms] and how far below a = 0 the minimum lies [starts].
    """
    terms = moment.shape[1]
    # To unit diagonal, with a ridge that keeps twin columns apart.
    size = np.sqrt(np.maximum(np.einsum("sii->si", gram), 1e-300))
    gram = gram / size[:, :, None] / size[:, None, :] + 1e-12 * np.eye(terms)
    moment = moment / size
    # All sets at once [sets, starts, ...]: what is not chosen is a row of the identity.
    chosen = _sets(terms)[:, None]
    both = chosen[..., None] & chosen[..., None, :]
    found = np.linalg.solve(
        np.where(both, gram, np.eye(terms)), (chosen * moment)[..., None]
    )[..., 0]
    gain = np.where(np.all(found >= 0, axis=2), np.sum(found * moment, axis=2), 0.0)
    best = np.argmax(gain, axis=0)[None]
    gain = np.take_along_axis(gain, best, axis=0)[0]
    amplitude = np.take_along_axis(found, best[..., None], axis=0)[0]
    return amplitude / size, gain

"""Every law as plain NumPy; `law_code` writes these out for people to copy.

x, y are m and n over the largest fitted ones, s either of them; all broadcast. The
numbers are those that were fitted, in these units. The value is what the law says.
"""

import numpy as np


def rosenfeld(x, y, e0, a, alpha, b, beta, c):
    t = a * y**-alpha + b * x**-beta + c
    return e0 * t / np.sqrt(1 + t**2)


def rosenfeld_two_plateaus(x, y, e0, a, alpha, b, beta, c, gap):
    w = a * y**-alpha if gap > 0 else b * x**-beta
    level = e0 * np.exp(abs(gap) * w**2 / (1 + w**2))
    return rosenfeld(x, y, level, a, alpha, b, beta, c)


def chinchilla(x, y, E, A, alpha, B, beta):
    return E + A * x**-alpha + B * y**-beta


def coupled(x, y, E, A, alpha, B, beta, k):
    terms = np.log(A * x**-alpha), np.log(B * y**-beta)
    return E + np.exp(k * np.logaddexp(terms[0] / k, terms[1] / k))


def data_constrained(x, y, epochs, E, A, alpha, B, beta, R_D, R_N):
    def worth(times, R):
        return 1 + R * (1 - np.exp(-(times - 1) / R))

    used = np.minimum(x, (alpha * A / (beta * B) * y**beta) ** (1 / alpha))
    x, y = used * worth(x / used, R_N), y * worth(epochs, R_D)
    return chinchilla(x, y, E, A, alpha, B, beta)


def power(s, E, A, alpha):
    return E + A * s**-alpha


def m4(s, limit, span, amplitude, exponent, shape):
    goal = np.log(amplitude / span) - exponent * np.log(s)
    v = goal
    low, high = np.minimum(goal, goal / shape) - 50, np.maximum(goal, goal / shape) + 50
    for _ in range(100):  # u / (1 - u)^shape rises with u: halve the interval
        v = (low + high) / 2
        is_low = v + (shape - 1) * np.logaddexp(0, v) < goal
        low, high = np.where(is_low, v, low), np.where(is_low, high, v)
    return limit + span / (1 + np.exp(-v))


def bnsl(s, floor, amplitude, before, after, at, width):
    bent = np.logaddexp(0, np.log(s / at) / width) - np.logaddexp(
        0, -np.log(at) / width
    )
    decay = -before * np.log(s) - (after - before) * width * bent
    return floor + amplitude * np.exp(decay)


def flexible(x, y, E, U, A, alpha, B, beta, h, k, own=None):
    offset, steeper = own_terms(x, own)
    of_model = k * (np.log(A) - alpha * np.log(x))
    of_data = k * (np.log(B) - beta * np.exp(steeper) * np.log(y))
    t = np.exp(np.logaddexp(of_model, of_data) / k + offset)
    z = (E + t) / U
    return U * z * np.exp(-np.logaddexp(0, h * np.log(z)) / h)


def flexible_repeated(x, y, epochs, E, U, A, alpha, B, beta, h, k, R_D, R_N, own=None):
    def worth(times, R):
        return np.log1p(-R * np.expm1(-(times - 1) / R))

    offset, steeper = own_terms(x, own)
    x, y, beta = np.log(x), np.log(y), beta * np.exp(steeper)
    best = (np.log(A / B) + np.log(alpha / beta) / k + beta * y) / alpha
    used = np.minimum(x, best)
    of_model = np.log(A) - alpha * (used + worth(np.exp(x - used), R_N))
    of_data = np.log(B) - beta * (y + worth(epochs, R_D))
    t = np.exp(np.logaddexp(k * of_model, k * of_data) / k + offset)
    z = (E + t) / U
    return U * z * np.exp(-np.logaddexp(0, h * np.log(z)) / h)


def own_terms(x, own):
    if own is None:
        return 0.0, 0.0
    sizes, offset, steeper = (np.array(numbers) for numbers in own)
    if not len(sizes):
        return offset[-1], steeper[-1]
    apart = np.abs(np.log(np.asarray(x)[..., None] / sizes))
    nearest = np.argmin(apart, axis=-1)
    which = np.where(np.min(apart, axis=-1) < 1e-8, nearest, len(sizes))
    return offset[which], steeper[which]

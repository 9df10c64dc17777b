"""Every built-in law in its published form, written a second time in plain numpy.

FORMULAS[name](parameters, m, n) takes what `Law.public` returns and sizes in the unit
the law is published in; laws of repeated data take epochs as a fourth.
"""

import numpy as np


def _rosenfeld(p, m, n):
    t = n ** -p["data_exponent"] + p["b"] * m ** -p["model_exponent"] + p["c"]
    return p["random_guess"] * t / np.sqrt(t**2 + p["eta"] ** 2)


def _two_plateaus(p, m, n):
    """Levels e_m and e_n; the higher one takes over as its own size runs out."""
    e_m, e_n = p["random_guess_model"], p["random_guess_data"]
    data, model = n ** -p["data_exponent"], p["b"] * m ** -p["model_exponent"]
    scarce = data if e_n > e_m else model
    share = scarce**2 / (scarce**2 + p["eta"] ** 2)
    low, high = np.minimum(e_m, e_n), np.maximum(e_m, e_n)
    level = low ** (1 - share) * high**share
    t = data + model + p["c"]
    return level * t / np.sqrt(t**2 + p["eta"] ** 2)


def _chinchilla(p, m, n):
    model = p["A"] * m ** -p["model_exponent"]
    return p["E"] + model + p["B"] * n ** -p["data_exponent"]


def _kaplan(p, m, n):
    alpha, beta = p["model_exponent"], p["data_exponent"]
    return ((p["N_c"] / m) ** (alpha / beta) + p["D_c"] / n) ** beta


def _coupled(p, m, n):
    inner = p["A"] * m ** -p["model_exponent"] + p["B"] * n ** -p["data_exponent"]
    return p["E"] + inner ** p["k"]


def _data_constrained(p, m, n, epochs):
    """As in Eq. 5 to 7, by the compute-optimal model of n data."""
    alpha, beta = p["model_exponent"], p["data_exponent"]
    g = (alpha * p["A"] / (beta * p["B"])) ** (1 / (alpha + beta))
    base = np.minimum(m, g * (n * g) ** (beta / alpha))

    def worth(first, times, decay):
        return first + first * decay * (1 - np.exp(-(times - 1) / decay))

    m_worth, n_worth = worth(base, m / base, p["R_N*"]), worth(n, epochs, p["R_D*"])
    return _chinchilla(p, m_worth, n_worth)


def _power(p, s):
    exponent = p.get("data_exponent", p.get("model_exponent"))
    return p["E"] + p["A"] * s**-exponent


def _m4(p, s):
    """By bisection on the value itself."""
    low, high = p["irreducible"], p["random_guess"]
    right = p["b"] * s ** -p.get("data_exponent", p.get("model_exponent"))

    ends = np.full(right.shape, low), np.full(right.shape, high)
    for _ in range(100):
        value = (ends[0] + ends[1]) / 2
        above = value - low > right * (high - value) ** p["shape"]
        ends = np.where(above, ends[0], value), np.where(above, value, ends[1])
    return (ends[0] + ends[1]) / 2


def _bnsl(p, s):
    bent = (1 + (s / p["d1"]) ** (1 / p["f1"])) ** (-p["c1"] * p["f1"])
    return p["a"] + p["b"] * s ** -p["c0"] * bent


def _of_data(curve):
    return lambda p, m, n: curve(p, n)


def _of_params(curve):
    return lambda p, m, n: curve(p, m)


FORMULAS = {
    "rosenfeld": _rosenfeld,
    "rosenfeld_fitted_guess": _rosenfeld,
    "rosenfeld_two_plateaus": _two_plateaus,
    "chinchilla": _chinchilla,
    "kaplan": _kaplan,
    "coupled": _coupled,
    "data_constrained": _data_constrained,
    "power": _of_data(_power),
    "power_params": _of_params(_power),
    "m4": _of_data(_m4),
    "m4_params": _of_params(_m4),
    "bnsl": _of_data(_bnsl),
    "bnsl_params": _of_params(_bnsl),
}

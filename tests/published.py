"""Numbers of Rosenfeld et al. 2020 that several tests compare with.

theta: Table 2 of the LaTeX source, sizes in fractions of the baseline, a = 1. The
grids are those of Table 1: model scales 4^-k from `first_model`, data scales 2^-k.
"""

from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    name: str
    alpha: float
    beta: float
    b: float
    c: float
    eta: float
    guess: float
    num_models: int
    first_model: int
    num_data: int
    is_text: bool


ROWS = (
    Row("ImageNet", 0.75403879, 0.61131518, 0.75575083, 3.62934233, 18.50376969,
        0.999, 7, 0, 7, False),
    Row("CIFAR10", 0.655043783, 0.534102925, 5.87e-2, 7.14e-14, 19.7701518,
        0.9, 8, -3, 6, False),
    Row("CIFAR100", 0.70403326, 0.50562759, 0.14727227, 0.70969734, 6.92618391,
        0.99, 7, -2, 6, False),
    Row("DTD", 0.400319211, 1.16231333, 4.30e-5, 1.27e-9, 0.846839835,
        46 / 47, 7, -2, 6, False),
    Row("Aircraft", 1.10233368, 0.831731092, 3.47e-3, 5.16e-10, 1.12529537,
        0.99, 7, -2, 6, False),
    Row("UCF101", 0.933547255, 0.537578077, 4.68e-2, 1.16e-9, 2.98124532,
        100 / 101, 7, -2, 6, False),
    Row("PTB", 0.80962791, 0.34315027, 0.14690378, 4.99807364, 6.27494232,
        6.09699692, 7, 0, 6, True),
    Row("WikiText-2", 1.00822978, 0.21667458, 0.99145936, 8.23497095, 10.37612973,
        6.21205331, 7, 0, 6, True),
    Row("WikiText-103", 0.73505031, 0.55718887, 0.32914295, 9.03598661, 16.33563873,
        6.59633058, 7, 0, 6, True),
)  # fmt: skip

BY_NAME = {row.name: row for row in ROWS}


def envelope(row: Row, m, n):
    """Eq. 5 in its real form, written here a second time on purpose."""
    t = n**-row.alpha + row.b * m**-row.beta + row.c
    return row.guess * t / np.sqrt(t**2 + row.eta**2)


def grid(row: Row):
    """m, n and value of the row's noiseless grid, flat."""
    m = 4.0 ** -np.arange(row.first_model, row.first_model + row.num_models)
    n = 2.0 ** -np.arange(row.num_data)
    m, n = (sizes.reshape(-1) for sizes in np.meshgrid(m, n))
    return m, n, envelope(row, m, n)

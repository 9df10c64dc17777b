"""Next cells: within the budget, in the order of their worth, and of real use."""

import itertools

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError
from scalepred.fitting.fit import fit_region
from scalepred.measurements import Surface
from tests import published

ROW = published.BY_NAME["CIFAR100"]
TARGET = (16.0, 4.0)


@pytest.fixture(scope="module")
def fit() -> scalepred.Fit:
    m, n, value = published.grid(ROW)
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(len(m)))
    surface = Surface.from_arrays(
        m, n, value * noise, random_guess=ROW.guess, compute=m * n
    )
    part = surface.where(fit_region(surface, max_params=0.25, max_data=0.25))
    return scalepred.fit(part, "rosenfeld", resamples=300)


def test_cells_stay_within_the_budget_and_narrow_the_target(fit):
    cells = fit.next_cells(budget=1.0, target=TARGET)
    assert cells
    assert sum(cell.flops for cell in cells) <= 1.0
    spreads = [cell.spread for cell in cells]
    assert all(after < before for before, after in itertools.pairwise(spreads))
    draws = fit.fitted.log_value(*TARGET, draws=True)
    assert spreads[0] < np.std(draws)
    for cell in cells:
        assert cell.flops == pytest.approx(cell.params * cell.data)


def test_more_money_buys_more_certainty(fit):
    last = [fit.next_cells(budget, TARGET)[-1].spread for budget in (0.05, 0.5, 5.0)]
    assert last[0] > last[1] > last[2]


def test_the_cells_named_help_a_new_fit(fit):
    """Measured with noise and fitted again, the target's interval is narrower."""
    cells = fit.next_cells(budget=2.0, target=TARGET)
    m, n = (np.array([getattr(c, name) for c in cells]) for name in ("params", "data"))
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal(len(m)))
    old = fit.surface
    more = Surface.from_arrays(
        np.append(old.params, m),
        np.append(old.data, n),
        np.append(old.value, published.envelope(ROW, m, n) * noise),
        random_guess=ROW.guess,
    )
    again = scalepred.fit(more, "rosenfeld", resamples=300)
    widths = [
        np.log(said.mean_upper / said.mean_lower)
        for said in (fit.predict(*TARGET), again.predict(*TARGET))
    ]
    assert widths[1] < 0.8 * widths[0]


def test_nothing_to_buy_and_bad_numbers(fit):
    assert fit.next_cells(budget=1e-12, target=TARGET) == []
    with pytest.raises(UserError, match="budget=-1: must be a positive number"):
        fit.next_cells(budget=-1, target=TARGET)
    without = scalepred.fit(fit.surface, "rosenfeld", resamples=0)
    with pytest.raises(UserError, match="without draws"):
        without.next_cells(budget=1.0, target=TARGET)

"""Next cells: within the budget, in the order of their worth, and of real use."""

import dataclasses
import itertools

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError
from scalepred.fitting import predict
from scalepred.fitting.cost import Cost
from scalepred.fitting.design.cells import Cells, NextCell, make_cells
from scalepred.fitting.design.choose import next_cells
from scalepred.fitting.design.costs import cost_model, learn_cost
from scalepred.fitting.design.posterior import half_width
from scalepred.fitting.laws import Law, Parameter, Scale
from scalepred.fitting.region import fit_region
from scalepred.table.surface import Surface
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
    assert sum(cell.cost for cell in cells) <= 1.0
    assert cells[0].before == pytest.approx(half_width(fit.fitted, TARGET))
    for cell in cells:
        assert cell.after < cell.before
        assert cell.cost == pytest.approx(cell.params * cell.data)
    for one, following in itertools.pairwise(cells):
        assert following.before == one.after


def test_more_money_buys_more_certainty(fit):
    last = [fit.next_cells(budget, TARGET)[-1].after for budget in (0.05, 0.5, 5.0)]
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


MISFIT = 0.1


def linear(misfit: float = MISFIT) -> predict.FittedLaw:
    """ln value = a x + b y, with a and b independent and each known to 1.

    Two draws of each sign along each axis have exactly that covariance.
    """
    law = Law(
        name="linear",
        source="",
        formula="",
        parameters=(Parameter("a", -9, 9, False), Parameter("b", -9, 9, False)),
        log_value=lambda theta, x, y, scale: theta[0] * x + theta[1] * y,
        start=lambda uniform, scale: uniform,
        public=lambda theta, *units: {"a": theta[..., 0], "b": theta[..., 1]},
        unit="",
    )
    axes = np.eye(2)
    draws = np.concatenate([axes, -axes]) * np.sqrt(1.5)
    noise = predict.Noise(0.0, 0.0, 1.0)
    return predict.FittedLaw(
        law, np.zeros(2), draws, Scale(0.0, 0.0, 0.0), 1.0, 1.0, misfit, 1.0, noise, 0
    )


def exp(x: float, y: float) -> tuple[float, float]:
    return float(np.exp(x)), float(np.exp(y))


def left(x, y, target_x, target_y):
    """Share of the target's variance once (x, y) is measured, by hand."""
    variance = target_x**2 + target_y**2
    shared = x * target_x + y * target_y
    known = shared**2 / (x**2 + y**2 + MISFIT**2)
    return (variance - known + MISFIT**2) / (variance + MISFIT**2)


@pytest.mark.parametrize("target", [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
def test_the_best_cell_of_a_linear_law_is_the_one_in_closed_form(target):
    x, y = (
        side.reshape(-1) for side in np.meshgrid([-2.0, -1.0, 0.5], [-2.5, -1.0, 0.4])
    )
    cells = Cells.of(np.exp(x), np.exp(y), 1.0)
    shares = left(x, y, *target)
    (chosen,) = next_cells(linear(), cells, 1.0, exp(*target))
    best = int(np.argmin(shares))
    assert chosen[:2] == pytest.approx((np.exp(x[best]), np.exp(y[best])))
    assert chosen.after / chosen.before == pytest.approx(np.sqrt(shares[best]))


def test_two_cells_of_a_linear_law_tell_both_slopes():
    """One along each axis; the next along the same tell what noise has left."""
    cells = Cells.of(np.exp([-2.0, -2.1, 0.0]), np.exp([0.0, 0.0, -2.0]), 1.0)
    plan = next_cells(linear(), cells, 2.0, exp(3.0, 3.0))
    assert {cell.data < 1 for cell in plan} == {True, False}
    # Conditioned on both: variance 9 u / (9 + u) of each axis of length 3 ...
    of_axis = [9 * MISFIT**2 / (size**2 + MISFIT**2) for size in (2.1, 2.0)]
    share = (sum(of_axis) + MISFIT**2) / (18 + MISFIT**2)
    assert plan[-1].after / plan[0].before == pytest.approx(np.sqrt(share))


def test_the_cheaper_way_is_taken_to_what_is_enough():
    """The dear cell tells all at once; two cheap ones are enough."""
    cells = Cells.of(
        np.exp([-3.0, -2.0, 0.0]), np.exp([-3.0, 0.0, -2.0]), [10.0, 1.0, 1.0]
    )
    asked = linear(), cells, 20.0, exp(1.0, 1.0)
    width = float(half_width(linear(), exp(1.0, 1.0))[0])
    plan = next_cells(*asked, until_width=0.3 * width)
    assert [cell.cost for cell in plan] == [1.0, 1.0]
    assert plan[-1].after <= 0.3 * width < plan[-1].before
    everything = next_cells(*asked)
    assert everything[-1].after < plan[-1].after


def test_the_order_of_candidates_and_the_unit_of_the_budget_say_nothing(fit):
    cells = make_cells(fit.fitted, (1 / 64, 1 / 32), Cost(1.0), TARGET)
    plan = next_cells(fit.fitted, cells, 1.0, TARGET)
    order = np.random.default_rng(0).permutation(len(cells.cost))
    other = next_cells(fit.fitted, cells.where(order), 1.0, TARGET)
    assert other == plan
    dollars = cells._replace(cost=cells.cost * 1e-3)
    other = next_cells(fit.fitted, dollars, 1e-3, TARGET)
    assert [cell[:2] for cell in other] == [cell[:2] for cell in plan]
    assert [cell.cost for cell in other] == pytest.approx(
        [1e-3 * cell.cost for cell in plan]
    )


def test_several_targets_count_alike_and_the_widest_is_told():
    wide, narrow = exp(3.0, 0.0), exp(0.0, 1.0)
    both = [wide[0], narrow[0]], [wide[1], narrow[1]]
    cells = Cells.of(np.exp([-2.0, 0.0]), np.exp([0.0, -2.0]), 1.0)
    plan = next_cells(linear(), cells, 2.0, both)
    assert len(plan) == 2
    assert plan[0].before == pytest.approx(half_width(linear(), wide)[0])


def test_a_size_of_model_tells_nothing_of_the_offset_of_another():
    """Draws have one offset for all sizes that were not seen; truth has one each."""
    m, n = (
        s.reshape(-1) for s in np.meshgrid(4.0 ** np.arange(5), 2.0 ** np.arange(5))
    )
    offset = np.repeat([[0.1, -0.1, 0.08, -0.09, 0.1]], 5, axis=0).reshape(-1)
    value = 0.02 * (1 + m**-0.6 + 3 * n**-0.5) * np.exp(offset)
    fitted = scalepred.fit(Surface.from_arrays(m, n, value), resamples=300).fitted
    target = 4.0**6, 2.0**6
    # Of the target's own size, and of another that was not seen either.
    own = Cells.of(target[0], 16.0, 1.0)
    other = Cells.of(1.001 * target[0], 16.0, 1.0)
    helped = [next_cells(fitted, cells, 1.0, target)[0].after for cells in (own, other)]
    assert helped[0] < 0.9 * helped[1]


def test_costs_are_read_from_what_was_measured():
    m, n = np.array([1e6, 4e6, 1e6, 1.6e7]), np.array([1e8, 1e8, 4e8, 4e8])
    seconds = 3e-9 * m**0.8 * n**0.9
    cost = learn_cost(m, n, seconds)
    assert cost.flops(m, n) == pytest.approx(seconds, rel=0.05)
    # One run alone leaves the powers at 1, whatever the units.
    one = learn_cost(m[:1], n[:1], seconds[:1])
    assert (one.params_power, one.data_power) == (1.0, 1.0)
    assert one.flops(m[0], n[0]) == pytest.approx(seconds[0])
    scaled = learn_cost(1e3 * m, n / 7, seconds)
    assert scaled.flops(1e3 * m, n / 7) == pytest.approx(cost.flops(m, n))


def test_every_way_of_counting_costs():
    m, n = np.array([1e6, 4e6, 1e6]), np.array([1e8, 1e8, 4e8])
    surface = Surface.from_arrays(m, n, [0.3, 0.2, 0.1], compute=7 * m * n)
    by_point = 1e-12 * surface.params * surface.data
    costs = {
        name: cost_model(name, surface, by_point, price_per_hour=36.0)
        for name in ("flops", "6mn", "mn", "seconds", "price")
    }
    numbers = {name: float(cost.flops(1e6, 1e8)) for name, cost in costs.items()}
    assert numbers == pytest.approx(
        {"flops": 7e14, "6mn": 6e14, "mn": 1e14, "seconds": 100.0, "price": 1.0}
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("money", {}, "cost=money: must be one of"),
        ("flops", {}, "cost=flops: the table has no compute"),
        ("seconds", {}, "cost=seconds: the table has no seconds"),
        ("price", {"seconds": 1.0}, "price_per_hour=0: must be a positive number"),
    ],
)
def test_costs_that_are_not_known_are_refused(name, options, message):
    surface = Surface.from_arrays([1.0, 2.0], [1.0, 2.0], [0.3, 0.2])
    with pytest.raises(UserError, match=message):
        cost_model(name, surface, **options)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_candidates_are_refused(bad):
    for place, name in enumerate(("params", "data", "cost")):
        numbers = [1.0, 1.0, 1.0]
        numbers[place] = bad
        with pytest.raises(UserError, match=f"{name}=.*: must be positive numbers"):
            Cells.of(*numbers)
    cells = Cells.of(0.1, 0.1, 1.0)
    with pytest.raises(UserError, match=r"target=.*: must be a positive number"):
        next_cells(linear(), cells, 1.0, (bad, 1.0))
    with pytest.raises(UserError, match=r"budget=.*: must be a positive number"):
        next_cells(linear(), cells, bad, (1.0, 1.0))
    without = dataclasses.replace(linear(), draws=np.empty((0, 2)))
    with pytest.raises(UserError, match="without draws"):
        next_cells(without, cells, 1.0, (1.0, 1.0))


def test_a_cell_says_what_it_costs_and_brings():
    cell = NextCell(1e6, 2e9, 1.2e16, 0.08, 0.0512)
    assert str(cell) == ("params=1M, data=2B: costs 1.2e16, narrows ±8.00% to ±5.12%")
    first = cell._replace(before=np.nan, after=np.nan)
    assert str(first) == "params=1M, data=2B: costs 1.2e16"

"""The loop: a first design, rounds of it, when it ends, and after a kill."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError
from scalepred.fitting.design.cells import Cells, NextCell
from scalepred.fitting.design.choose import plan_with_prior
from scalepred.fitting.design.first import first_cells
from scalepred.fitting.design.rounds import Round, cost_of, rounds
from scalepred.table.surface import Surface

M = 1e6 * 2.0 ** np.arange(7)
N = 1e8 * 2.0 ** np.arange(7)
TARGET = 1e9, 1e11


def make_cells() -> Cells:
    m, n = (sizes.reshape(-1) for sizes in np.meshgrid(M, N))
    return Cells.of(m, n, 6 * m * n)


def truth(m, n):
    """Hoffmann et al. 2022, with noise that depends on the cell alone."""
    noise = np.sin(1e3 * np.log(m) + 7e3 * np.log(n))
    return (1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28) * (1 + 0.004 * noise)


class World:
    """Runs that can be had for the asking; the table is all that it remembers."""

    def __init__(self, places=()):
        self.places = list(places)
        self.rounds: list[list[NextCell]] = []

    @property
    def surface(self) -> Surface | None:
        if not self.places:
            return None
        m, n = np.array(self.places).T
        return Surface.from_arrays(m, n, truth(m, n), metric="loss")

    def measure(self, cells: Sequence[NextCell]) -> Surface:
        self.rounds.append(list(cells))
        self.places += [(cell.params, cell.data) for cell in cells]
        assert self.surface is not None
        return self.surface

    def loop(self, budget=math.inf, until_width=0.0, cells=None, **options):
        cells = make_cells() if cells is None else cells
        return rounds(
            cells,
            TARGET,
            min(budget, 1.1 * float(cells.cost.sum())),
            until_width,
            self.measure,
            fit,
            surface=self.surface,
            metric="loss",
            **options,
        )


def sizes(now: Round) -> list[tuple[float, float]]:
    return [(cell.params, cell.data) for cell in now.cells]


def fit(surface: Surface) -> scalepred.Fit:
    return scalepred.fit(surface, resamples=150)


BUDGET = 0.05 * float(make_cells().cost.sum())


@pytest.fixture(scope="module")
def whole():
    """A loop that spends its budget."""
    world = World()
    return world, list(world.loop(BUDGET))


def test_the_budget_is_kept_and_every_round_is_told_before_it_is_measured(whole):
    world, told = whole
    assert told[0].fit is None
    assert math.isnan(told[0].half_width)
    assert [list(now.cells) for now in told[:-1]] == world.rounds
    assert told[-1].cells == ()
    assert told[-1].stop in ("budget spent", "nothing affordable helps")
    assert told[-1].spent <= BUDGET * (1 + 1e-6)
    for now, following in itertools.pairwise(told):
        assert now.stop == ""
        assert following.spent == pytest.approx(now.spent + now.cost)
        assert following.num_points == now.num_points + len(now.cells)
        assert following.number == now.number + 1
    assert len(set(world.places)) == len(world.places)  # no cell twice
    for now in told[1:]:
        assert now.lower < now.value < now.upper
        half = (now.upper - now.lower) / 2 / now.value
        assert now.half_width == pytest.approx(half)
        if now.cells:
            assert now.cells[0].before == pytest.approx(now.half_width)


def test_the_first_design_is_cheap_and_enough_for_a_fit(whole):
    _, told = whole
    first = told[0].cells
    assert len(first) >= 5
    assert len({cell.params for cell in first}) >= 3
    assert len({cell.data for cell in first}) >= 3
    assert told[0].cost < 0.1 * BUDGET


def test_it_stops_when_it_is_sure_enough(whole):
    _, told = whole
    wanted = 1.02 * min(now.half_width for now in told[1:])
    world = World()
    last = list(world.loop(BUDGET, wanted))[-1]
    assert last.stop == "reached"
    assert last.half_width <= wanted
    # And at once, if the table is enough.
    again = list(World(world.places).loop(BUDGET, wanted))
    assert [now.stop for now in again] == ["reached"]


def test_a_kill_between_rounds_changes_nothing(whole):
    _, told = whole
    places = []
    for number, now in enumerate(told[:-1]):
        restarted = next(iter(World(places).loop(BUDGET)))
        assert sizes(restarted) == sizes(now), number
        assert restarted.spent == pytest.approx(now.spent)
        places += [(cell.params, cell.data) for cell in now.cells]


def test_a_kill_in_the_middle_of_a_round_changes_nothing(whole):
    world, told = whole
    done = [cell[:2] for cell in told[0].cells]
    half = len(told[1].cells) // 2
    restarted = World(done + [cell[:2] for cell in told[1].cells[:half]])
    rest = list(restarted.loop(BUDGET, unfinished=told[1].cells[half:]))
    assert set(restarted.places) == set(world.places)
    assert [*map(sizes, rest)] == [*map(sizes, told[2:])]


def test_a_run_that_diverged_is_not_asked_for_again(whole):
    _, told = whole
    bad = told[1].cells[0]

    class Diverging(World):
        def measure(self, cells: Sequence[NextCell]) -> Surface:
            super().measure(cells)
            self.places = [p for p in self.places if p != bad[:2]]
            assert self.surface is not None
            return self.surface

    world = Diverging()
    list(world.loop(BUDGET))
    asked = [cell[:2] for cells in world.rounds for cell in cells]
    assert asked.count(bad[:2]) == 1


def test_what_was_spent_may_be_counted_elsewhere():
    world = World()
    told = list(
        world.loop(BUDGET, spent=lambda table: 0.0 if table is None else BUDGET)
    )
    assert [now.stop for now in told] == ["", "budget spent"]


def test_the_order_of_candidates_says_nothing():
    order = np.random.default_rng(1).permutation(len(make_cells().cost))
    worlds = World(), World()
    list(worlds[0].loop(BUDGET / 4))
    list(worlds[1].loop(BUDGET / 4, cells=make_cells().where(order)))
    assert set(worlds[0].places) == set(worlds[1].places)


def test_units_say_nothing():
    """Of sizes and of money; the prior knows sizes relative to the largest alone."""
    none = np.empty(0), np.empty(0)
    cells = make_cells()
    plan = first_cells(cells, none, BUDGET, TARGET, "loss")
    other = Cells.of(cells.params / 1e3, cells.data * 50, cells.cost * 1e-15)
    target = TARGET[0] / 1e3, TARGET[1] * 50
    scaled = first_cells(other, none, BUDGET * 1e-15, target, "loss")
    assert [cell.params * 1e3 for cell in scaled] == pytest.approx(
        [cell.params for cell in plan]
    )
    assert [cell.data / 50 for cell in scaled] == pytest.approx(
        [cell.data for cell in plan]
    )


@pytest.mark.parametrize("metric", ["error", "loss"])
def test_the_prior_wants_what_it_does_not_have(metric):
    """With the large cells measured, the news is elsewhere."""
    cells = make_cells()
    none = np.empty(0)
    first = plan_with_prior(cells, (none, none), BUDGET, TARGET, metric)
    assert first
    assert sum(cell.cost for cell in first) <= BUDGET
    assert math.isnan(first[0].after)
    have = np.array([cell[:2] for cell in first]).T
    assert cells.are_in(*have).sum() == len(first)
    rest = cells.where(~cells.are_in(*have))
    more = plan_with_prior(rest, tuple(have), BUDGET, TARGET, metric)
    assert not {cell[:2] for cell in more} & {cell[:2] for cell in first}


def test_a_table_that_is_not_enough_is_completed():
    """Two sizes of model, one of data: what lacks is bought, and no more money."""
    have = np.array([1e6, 2e6]), np.array([1e8, 1e8])
    cells = make_cells()
    cells = cells.where(~cells.are_in(*have))
    cheap = float(np.sort(cells.cost)[:6].sum())
    chosen = first_cells(cells, have, 3 * cheap, TARGET, "loss")
    params = {*have[0], *(cell.params for cell in chosen)}
    data = {*have[1], *(cell.data for cell in chosen)}
    assert len(params) >= 3
    assert len(data) >= 3
    assert len(chosen) >= 3
    assert sum(cell.cost for cell in chosen) <= 3 * cheap


def test_of_few_sizes_all_are_taken():
    m, n = (s.reshape(-1) for s in np.meshgrid(M[:2], N[:4]))
    cells = Cells.of(m, n, m * n)
    none = np.empty(0), np.empty(0)
    chosen = first_cells(cells, none, float(cells.cost.sum()), TARGET, "loss")
    assert {cell.params for cell in chosen} == set(M[:2])
    assert len({cell.data for cell in chosen}) >= 3


def test_money_for_no_fit_is_told():
    cells = make_cells()
    poor = 2.5 * float(cells.cost.min())
    with pytest.raises(UserError, match=r"budget=.*: buys .* cells, too few for a fit"):
        list(World().loop(poor))
    with pytest.raises(UserError, match="budget=-1: must be a positive number"):
        list(World().loop(-1.0))
    with pytest.raises(UserError, match="until_width=-1: must be 0 or more"):
        list(World().loop(BUDGET, -1.0))


def test_runs_of_other_sizes_cost_nothing():
    cells = make_cells()
    surface = Surface.from_arrays(
        [M[0], M[0], 3.3e6], [N[1], N[1], N[0]], [3.0, 3.1, 2.9], metric="loss"
    )
    assert cost_of(surface, cells) == pytest.approx(2 * 6 * M[0] * N[1])
    assert cost_of(None, cells) == 0.0

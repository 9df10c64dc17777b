"""What work grows with: cells, rows, points. Calls are counted, not seconds."""

import dataclasses
import heapq
import pathlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import scalepred
from scalepred import config, fill
from scalepred.data.loading import load_dataset
from scalepred.fitting import backtest
from scalepred.fitting import fit as fitting
from scalepred.fitting.scaling import _rank
from scalepred.grid import ProgramKey, make_cells
from scalepred.table.rows import Measurement, Table
from scalepred.table.surface import Surface
from scalepred.training import packing
from scalepred.training.chunks import predict_utilization
from scalepred.training.cost import CPU, GPU, ProgramCost

# Calls a cell at the larger size over those at the smaller.
_MOST = 1.3
_KEY = ProgramKey("digits", "mlp", 8, 2, 32, "sgd", False, "cosine")
_SMALL, _LARGE = (6, 10, 8), (12, 20, 16)  # widths, data sizes, seeds


def count_calls(work: Callable[[], object]) -> int:
    """Calls of functions, Python's and those written in C."""
    count = 0

    def tell(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tell)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def cells_of(widths: int, sizes: int, seeds: int) -> list:
    """A grid whose runs are one epoch long."""
    experiment = config.Experiment(
        dataset="digits",
        family="mlp",
        grid=config.Grid(
            widths=tuple(range(4, 4 + widths)),
            data_fractions=tuple(np.linspace(0.1, 1, sizes).tolist()),
            seeds=seeds,
        ),
        training=config.Training(epochs=1.0),
    )
    return make_cells(experiment, load_dataset("digits", outline=True))


def grows_with_cells(work: Callable[[list], object]) -> None:
    """Calls a cell are no more than a few in a hundred more for 8 times the cells."""
    grids = [cells_of(*_SMALL), cells_of(*_LARGE)]
    small, large = (count_calls(lambda own=own: work(own)) / len(own) for own in grids)
    assert large <= _MOST * small


def _cost(key) -> ProgramCost:
    return ProgramCost(1e5 * key.width**2, 1e3, 1e4, 0.0, False, True)


def _plan(cells: list, machine=CPU) -> Any:
    packs = config.Packing(), 1, "auto", (), _cost, machine
    return packing.plan_packs(cells, *packs)


def test_cells_and_their_ids() -> None:
    small, large = (
        count_calls(lambda shape=shape: [one.cell_id for one in cells_of(*shape)])
        / np.prod(shape)
        for shape in (_SMALL, _LARGE)
    )
    assert large <= _MOST * small


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_plan(machine) -> None:
    """Though all cuts of the widths are tried, and many numbers of lanes."""
    machine = dataclasses.replace(machine, memory_bytes=1e10)
    grows_with_cells(lambda cells: _plan(cells, machine))


def test_the_course_of_the_lanes() -> None:
    grids = [cells_of(*_SMALL), cells_of(*_LARGE)]
    plans = {len(cells): _plan(cells) for cells in grids}
    small, large = (
        count_calls(lambda plan=plan: predict_utilization(plan)) / count
        for count, plan in plans.items()
    )
    assert large <= _MOST * small


@given(
    st.dictionaries(st.integers(1, 300), st.integers(1, 40), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_lanes_end_when_each_takes_the_next_of_the_queue(lengths, lanes) -> None:
    """One cell after the other, with a heap."""
    ends = [0] * lanes
    for steps in sorted(Counter(lengths).elements(), reverse=True):
        heapq.heapreplace(ends, ends[0] + steps)
    count, total = sum(lengths.values()), sum(s * n for s, n in lengths.items())
    expected: float = max(ends)
    if count > packing._MANY_A_LANE * lanes:
        expected = max(total / lanes, max(lengths))
    load = packing._Load(Counter(lengths), Counter(lengths), 1)
    work = packing._Work(_KEY, _cost(_KEY), load, 1)
    assert packing._last_end(work, lanes) == expected


def test_few_numbers_of_lanes_are_simulated(monkeypatch) -> None:
    calls = []
    simulate = packing._last_end
    monkeypatch.setattr(
        packing, "_last_end", lambda *args: calls.append(args) or simulate(*args)
    )
    machine = dataclasses.replace(GPU, memory_bytes=1e10)
    _plan(cells_of(*_LARGE), machine)
    cuts = _LARGE[0] * (_LARGE[0] + 1) / 2
    assert cuts <= len(calls) <= 10 * cuts  # of some forty numbers


def _row(number: int) -> Measurement:
    return Measurement(
        f"{number:012x}", "digits", "mlp", 8, 2, 1000 + number % 7, 1100, 10 + number,
        "examples", 1.0, 5, number % 5, 0.1, 1e6, "error", 0.5, 0.4, "ok", 0.1, "cpu",
        "program", others={"loss": 1.0},
    )  # fmt: skip


def test_rows_their_view_and_opening_them(tmp_path: pathlib.Path) -> None:
    def work(count: int) -> None:
        table = Table(tmp_path / str(count) / "measurements.csv")
        for first in range(0, count, 20):
            table.append([_row(number) for number in range(first, first + 20)])
        table.merge()
        again = Table(table.path)
        assert len(again.rows) == count
        assert not again.notes
        Surface.from_measurements(again.rows.values())

    small, large = (
        count_calls(lambda count=count: work(count)) / count for count in (200, 1600)
    )
    assert large <= _MOST * small


def test_work_to_do_is_added_up_once(tmp_path: pathlib.Path, monkeypatch) -> None:
    """And not at every chunk in which a run ends."""

    class Work(dict):
        looks = 0

        def values(self):
            Work.looks += 1
            return super().values()

    rows = [_row(number) for number in range(50)]
    monkeypatch.setattr(
        fill, "estimate_work", lambda *_: Work({row.cell_id: 1.0 for row in rows})
    )

    def news() -> Iterator[Any]:
        for done, row in enumerate(rows, start=1):
            yield SimpleNamespace(
                rows=[row], num_done=done, lane_utilization=1.0, program="",
                wait_seconds=0.0,
            )  # fmt: skip

    plan: Any = SimpleNamespace(num_cells=len(rows))
    study: Any = SimpleNamespace(dataset=None, workdir=tmp_path)
    all_news: Any = news()
    last = fill._fill(study, [], plan, all_news)
    assert last is not None
    assert last.num_done == len(rows)
    assert Work.looks == 1


def _grid(sizes_of_models: int, sizes_of_data: int) -> Surface:
    m, n = np.meshgrid(
        np.geomspace(1e6, 1e9, sizes_of_models), np.geomspace(1e7, 1e10, sizes_of_data)
    )
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(m.size))
    value = (1.7 + 400 * m**-0.34 + 400 * n**-0.28).ravel() * noise
    return Surface.from_arrays(m.ravel(), n.ravel(), value, metric="loss")


def test_points_are_judged_once(monkeypatch) -> None:
    judged = []
    judge = fitting.judge
    monkeypatch.setattr(
        fitting, "judge", lambda surface: judged.append(surface) or judge(surface)
    )
    fit = scalepred.fit(_grid(5, 5), "chinchilla", resamples=0, starts=8)
    assert fit.not_scaling is None
    assert not {"does_not_scale", "still_bending"} & {one.code for one in fit.warnings}
    assert len(judged) == 1


def test_corners_of_many_points_are_few() -> None:
    fit = scalepred.fit(_grid(40, 30), "chinchilla", resamples=0, starts=8)
    corners = fit.corners(fit.surface)
    assert len({corner.max_params for corner in corners}) == backtest.FEW_CORNERS
    assert len({corner.max_data for corner in corners}) == backtest.FEW_CORNERS
    assert all(corner.num_fitted + corner.num_targets < 1010 for corner in corners)
    fitted = [corner.mean for corner in corners if np.isfinite(corner.mean)]
    assert len(fitted) > 10
    assert np.max(np.abs(fitted)) < 0.05


@pytest.mark.parametrize("part", ["stats", "optimize", "interpolate"])
def test_a_fit_and_its_page_start_without_large_parts_of_scipy(part: str) -> None:
    """Importing one takes as long as many a fit."""
    program = (
        "import sys, scalepred.commands.fit, scalepred.analysis; "
        "import scalepred.report.page.page; "
        f"sys.exit('scipy.{part}' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_ranks_are_those_of_scipy(values: Iterable[int]) -> None:
    given_values = np.array(values, float)
    np.testing.assert_array_equal(
        _rank(given_values), scipy.stats.rankdata(given_values)
    )

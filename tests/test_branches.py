"""Branches: one trunk, and of every length what a run of that length alone gives."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from scalepred import config, grid, study
from scalepred.arms import run as arms
from scalepred.config import UserError
from scalepred.data.loading import load_dataset
from scalepred.grid import Cell
from scalepred.runtime import preemption
from scalepred.runtime.preemption import Stopped
from scalepred.table.rows import Table
from scalepred.training import branches, chunks, curves, optimizer
from scalepred.training.args import LaneArgs, idle_args, lane_args
from scalepred.training.checkpoint import Checkpoints
from scalepred.training.device_data import put_data
from scalepred.training.devices import make_mesh, mark, put, put_lanes, put_mask
from scalepred.training.engine import Engine, compile_pack
from scalepred.training.ensemble import plan_cells
from scalepred.training.lane_axis import pack_args, unpack_args
from scalepred.training.plan import Pack
from scalepred.training.run import PackRun, Totals
from scalepred.training.work import estimate_work

DATASET = load_dataset("digits")
HALVINGS = tuple(2.0**-k for k in range(5))


def make_experiment(
    training: dict[str, Any] | None = None, **packing: Any
) -> config.Experiment:
    """Five sizes, 20 to 320 steps, of two models and two seeds."""
    settings: dict[str, Any] = {
        "optimizer": "adam",
        "learning_rate": 0.01,
        "epochs": 1,
        "batch_size": 4,
        "schedule": "wsd",
        "warmup_steps": 3,
    }
    return config.Experiment(
        name="x",
        metric="loss",
        grid=config.Grid(
            widths=(2, 3), depths=(1,), data_fractions=HALVINGS, seeds=2, branches=True
        ),
        training=config.Training(**settings | (training or {})),
        packing=config.Packing(
            **{"lanes": 1, "lane_axis": "map", "width_bucket": 2.0, **packing}
        ),
    )


class Compiled(NamedTuple):
    """A pack and all that it takes to train it."""

    pack: Pack
    engine: Engine
    order: Any

    def run(self, checkpoints: Checkpoints | None = None, done: Any = ()) -> PackRun:
        queue = tuple(cell for cell in self.pack.queue if cell.cell_id not in done)
        totals = Totals(num_cells=len(queue))
        pack = dataclasses.replace(self.pack, queue=queue)
        return PackRun(pack, self.engine, self.order, totals, checkpoints)

    def train(self) -> "Outcome":
        return Outcome.of(self.run().train())

    def train_alone(self, cell: Cell) -> tuple[Any, Any]:
        """State and scores of a cell from its first step to its last, one call."""
        model = self.pack.widths.index(cell.width)
        args = lane_args(cell, model, self.order[cell.order_key])
        return self._step(args, cell.steps)

    def step_alone(self, args: LaneArgs, steps: int) -> Any:
        """State after so many steps from the first."""
        return self._step(args, steps)[0]

    def _step(self, args: LaneArgs, steps: int) -> tuple[Any, Any]:
        engine, lanes = self.engine, self.pack.lanes
        rows = [pack_args(args), *[pack_args(idle_args())] * (lanes - 1)]
        placed = put_lanes(rows, engine.mesh)
        first = put(np.arange(lanes) == 0, engine.mesh)
        state = engine.start_lanes(engine.idle(), placed, first)
        state, _ = engine.step_lanes(state, placed, np.int32(steps), engine.data)
        scores = engine.score_lanes(state, placed, first, engine.data)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], (state, scores))


class Outcome(NamedTuple):
    rows: dict[str, Any]
    curves: dict[str, curves.Curve]
    last: Any

    @staticmethod
    def of(all_news: Any) -> "Outcome":
        rows, found, last = {}, {}, None
        for last in all_news:
            rows |= {row.cell_id: row for row in last.rows}
            found |= last.curves
        return Outcome(rows, found, last)

    def values(self) -> dict[str, Any]:
        return {
            name: (row.value, row.train_value, row.status)
            for name, row in self.rows.items()
        }


@functools.cache
def compile_form(form: str) -> Compiled:
    """One of three programs: lanes in turn, side by side, and with all extras."""
    experiment = {
        "map": make_experiment(),
        "vmap": make_experiment(lane_axis="vmap", lanes=2, chunk_steps=50),
        "extras": make_experiment(
            {"micro_batch_size": 2, "average_fraction": 0.1, "optimizer": "sgd"}
        ),
    }[form]
    plan = plan_cells(experiment, DATASET, grid.make_cells(experiment, DATASET))
    (pack,) = plan.packs
    data, order = put_data(plan, DATASET, jax.devices())
    return Compiled(pack, compile_pack(pack, DATASET, data, jax.devices()), order)


@functools.cache
def train_form(form: str) -> Outcome:
    return compile_form(form).train()


@pytest.mark.parametrize("form", ["map", "vmap", "extras"])
def test_a_branch_is_the_run_of_its_length(form):
    """Bit for bit, curve and scores, though its trunk was another's."""
    compiled, got = compile_form(form), train_form(form)
    queue = compiled.pack.queue
    assert set(got.rows) == {cell.cell_id for cell in queue}
    assert got.last.live_lane_steps == branches.count_steps(queue)
    for cell in queue[:: 1 if form == "map" else 7]:
        state, scores = compiled.train_alone(cell)
        names = DATASET.columns
        alone = dict(zip(names, scores.values.reshape(-1).tolist(), strict=True))
        row = got.rows[cell.cell_id]
        assert row.value == alone[cell.metric]
        assert row.train_value == alone[f"train_{cell.metric}"]
        assert row.status == "ok"
        assert (row.steps, row.epochs) == (cell.steps, cell.epochs)
        curve = curves.finish(curves.marks_of(cell), state.curve)
        np.testing.assert_array_equal(got.curves[cell.cell_id].steps, curve.steps)
        np.testing.assert_array_equal(got.curves[cell.cell_id].losses, curve.losses)
        assert curve.steps[-1] == cell.steps
        assert cell.cooldown_start in curve.steps
        assert np.isfinite(curve.losses).all()


def test_branches_share_the_trunks_state():
    """All that a lane carries is the same where the shorter cools down, bit for bit."""
    compiled = compile_form("map")
    states = []
    (chain, *_) = branches.find_chains(compiled.pack.queue)
    for cell in (chain[-1], chain[2]):
        args = lane_args(cell, 0, compiled.order[cell.order_key])
        states += [
            compiled.step_alone(given, 63)
            for given in (args, branches.trunk_args(args, cell))
        ]
    for state in states[1:]:
        # The sums of the curve differ in where the short one has a point of its own.
        assert state.curve.sum() == pytest.approx(states[0].curve.sum(), rel=1e-6)
        both = [one._replace(curve=0) for one in (state, states[0])]
        jax.tree.map(np.testing.assert_array_equal, *both)


def _stop_after(run: PackRun, count: int, monkeypatch) -> Outcome:
    """Until SIGTERM, which comes before the count-th chunk."""
    rows, found = {}, {}
    make = chunks.make_chunks

    def make_chunks(*args):
        for number, chunk in enumerate(make(*args)):
            if number == count:
                signalled.setattr(preemption, "_requested", True)
            yield chunk

    def train() -> None:
        for news in run.train():
            rows.update({row.cell_id: row for row in news.rows})
            found.update(news.curves)

    with monkeypatch.context() as signalled:
        signalled.setattr(chunks, "make_chunks", make_chunks)
        with pytest.raises(Stopped):
            train()
    return Outcome(rows, found, None)


@pytest.mark.parametrize(
    ("form", "every"),
    [
        pytest.param("map", 5, marks=pytest.mark.short),
        pytest.param("vmap", 7, marks=pytest.mark.short),
        pytest.param("map", 1, marks=pytest.mark.slow),
        pytest.param("vmap", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_it_goes_on_with_the_same_bits(
    form, every, tmp_path, monkeypatch
):
    compiled, expected = compile_form(form), train_form(form)
    course = list(chunks.make_chunks(compiled.pack))
    repeated = []
    for count in range(0, len(course) - 2, every):
        kept = Checkpoints(tmp_path / str(count), minutes=1e9)
        before = _stop_after(compiled.run(kept), count, monkeypatch)
        kept.close()
        kept = Checkpoints(tmp_path / str(count), minutes=1e9)
        after = Outcome.of(compiled.run(kept, before.rows).train())
        assert not before.rows.keys() & after.rows.keys()
        both = Outcome({**before.rows, **after.rows}, {}, None)
        assert both.values() == expected.values()
        for name, curve in {**before.curves, **after.curves}.items():
            np.testing.assert_array_equal(curve.losses, expected.curves[name].losses)
        # Of what was done only the cooldown in progress is done again.
        done = sum(sum(one.num_steps_of_lanes) for one in course[: count + 1])
        all_steps = branches.count_steps(compiled.pack.queue)
        repeated.append(after.last.live_lane_steps - (all_steps - done))
    assert min(repeated) == 0
    assert max(repeated) <= compiled.pack.lanes * 320 // 5


def test_without_a_checkpoint_a_chain_begins_again():
    compiled, expected = compile_form("map"), train_form("map")
    news: Any = compiled.run().train()
    first = next(news).rows + next(news).rows
    news.close()
    done = {row.cell_id for row in first}
    after = Outcome.of(compiled.run(done=done).train())
    got = {row.cell_id: (row.value, row.train_value, row.status) for row in first}
    assert got | after.values() == expected.values()


def test_the_same_lanes_are_put_on_the_devices_once():
    mesh = make_mesh(jax.devices())
    count = 2 * len(jax.devices())
    marked = mark([1], count, mesh)
    np.testing.assert_array_equal(marked, np.arange(count) == 1)
    assert put_mask(tuple(lane == 1 for lane in range(count)), mesh) is marked
    assert mark([0], count, mesh) is not marked


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
@pytest.mark.parametrize(("least", "most"), [(1, 500), (7, 7), (40, 60), (1, 1)])
def test_chunks_do_every_step_once(lanes, least, most):
    pack = dataclasses.replace(
        compile_form("map").pack, num_devices=1, lanes=lanes, turns=1,
        min_chunk_steps=least, max_chunk_steps=most,
    )  # fmt: skip
    total, done, (states, spares) = 0, [], ([None] * lanes, [None] * lanes)
    for chunk in chunks.make_chunks(pack):
        for lane, chain in enumerate(chunk.chains):
            if not chain:
                continue
            if chunk.fresh[lane]:
                states[lane] = spares[lane] = (chain[-1].trunk, 0)
            if chunk.taken_back[lane]:
                states[lane] = spares[lane]
            if lane in chunk.put_aside:
                spares[lane] = states[lane]
            trunk, steps = states[lane]
            assert trunk == chain[0].trunk
            assert steps == chunk.steps_before[lane]
            if not chunk.in_trunk[lane] and len(chain) > 1:
                assert spares[lane] == (trunk, chain[0].cooldown_start)
            states[lane] = (trunk, steps + chunk.num_steps_of_lanes[lane])
            total += chunk.num_steps_of_lanes[lane]
        done += [cell for _, cell in chunk.finished]
    assert sorted(c.cell_id for c in done) == sorted(c.cell_id for c in pack.queue)
    assert total == branches.count_steps(pack.queue) == pack.live_lane_steps


class Poisoned:
    """An engine's steps, of which some lose the weights of a run.

    Args:
        step_lanes: of the engine.
        cell: one of the trunk's.
        step: after which, whenever it is done.
        length: of the run that this is for; 0: of any.
    """

    def __init__(self, step_lanes: Any, cell: Cell, step: int, length: int):
        self._step_lanes, self._words = (
            step_lanes,
            np.array(cell.random_words, np.uint32),
        )
        self._step, self._length = step, length

    def __call__(self, state: Any, rows: Any, *args: Any) -> Any:
        before = np.asarray(state.step)
        state, seen = self._step_lanes(state, rows, *args)
        given = unpack_args(rows)
        lost = (before < self._step) & (self._step <= np.asarray(state.step))
        lost &= (np.asarray(given.words) == self._words).all(axis=1)
        lost &= not self._length or np.asarray(given.steps) == self._length
        if lost.any():

            def lose(leaf: Any) -> Any:
                spoilt = np.array(leaf)
                spoilt[lost] = np.nan
                return jax.device_put(spoilt, leaf.sharding)

            state = state._replace(params=jax.tree.map(lose, state.params))
        return state, seen


@pytest.mark.parametrize(
    ("step", "length", "lost"),
    [
        (75, 80, {80}),
        (310, 320, {320}),
        (2, 0, {20, 40, 80, 160, 320}),
        (50, 0, {80, 160, 320}),  # the trunk of 40 is left at 31, that of 80 at 63
    ],
)
def test_what_diverges_costs_its_own_rows_alone(step, length, lost):
    """In a cooldown one, in the trunk all that branch off later."""
    compiled, expected = compile_form("map"), train_form("map")
    cell = compiled.pack.queue[0]
    poisoned: Any = Poisoned(compiled.engine.step_lanes, cell, step, length)
    engine = dataclasses.replace(compiled.engine, step_lanes=poisoned)
    got = compiled._replace(engine=engine).train()
    ill = [
        one for one in compiled.pack.queue if got.rows[one.cell_id].status == "diverged"
    ]
    assert {one.trunk for one in ill} == {cell.trunk}
    assert {one.steps for one in ill} == lost
    assert len(got.rows) == got.last.num_done == len(compiled.pack.queue)
    names = {one.cell_id for one in ill}
    for name, one in got.values().items():
        assert name in names or one == expected.values()[name]
    for one in ill if not length else []:
        losses = got.curves[one.cell_id].losses
        assert np.isfinite(losses[0])
        assert np.isnan(losses[-1])


def test_one_trunk_for_seven_halvings():
    """What is spent, as planned and as done, is at most 0.65 of separate runs."""
    experiment = make_experiment({"batch_size": 1})
    experiment.grid.data_fractions = tuple(2.0**-k for k in range(8))
    cells = grid.make_cells(experiment, DATASET)
    plan = plan_cells(experiment, DATASET, cells)
    alone = sum(cell.steps for cell in cells)
    spent = sum(pack.live_lane_steps for pack in plan.packs)
    assert 0.55 * alone < spent <= 0.65 * alone
    work = estimate_work(plan, DATASET)
    assert len(work) == len(cells)
    longest = max(cells, key=lambda cell: cell.steps)
    assert work[longest.cell_id] < 0.65 * sum(work.values())
    # By hand: one model's eight sizes, those of two seeds alike.
    own = sorted({cell.steps for cell in cells})
    trunk = int(0.8 * own[-2]) - 1
    (chain, *_) = branches.find_chains([c for c in cells if c.seed == c.width - 2 == 0])
    assert [cell.steps for cell in chain] == own
    assert branches.count_own_steps(chain)[-1] == own[-1] - trunk
    assert branches.find_chains(cells[:1]) == [(cells[0],)]
    assert branches.list_stretches((cells[0],)) == [cells[0].steps]
    assert sum(branches.list_stretches(chain)) == branches.count_chain_steps(chain)


@pytest.mark.parametrize("cooldown", [0.03, 0.1, 0.2, 1 / 3, 0.5, 0.9])
def test_the_trunk_has_the_full_rate(cooldown):
    """Exactly, whatever the rounding of fractions; and the same warm-up."""
    cell = dataclasses.replace(
        compile_form("map").pack.queue[0], cooldown_fraction=cooldown, learning_rate=1.0
    )
    found = []
    for steps in (7, 64, 1000, 99_991, 3_000_017):
        one = dataclasses.replace(cell, steps=steps, warmup_fraction=3 / steps)
        stop = one.cooldown_start
        assert (1 - cooldown) * steps - 2 <= stop <= max(0, (1 - cooldown) * steps - 1)
        args = lane_args(one, 0, 0)
        at = jnp.array(
            [0, 1, 2, 3, stop // 2, stop - 2, stop - 1], dtype=jnp.int32
        ).clip(0, max(0, stop - 1))
        expected = np.minimum(1, np.float32(np.asarray(at) + 0.5) / np.float32(3))
        for given in (args, branches.trunk_args(args, one)):
            rates = optimizer.learning_rate_at("wsd", given, at, branch=True)
            if stop > 3:
                np.testing.assert_allclose(rates, expected, rtol=1e-6)
                np.testing.assert_array_equal(rates == 1, at >= 3)
                found.append(np.asarray(rates)[:4])
        last = optimizer.learning_rate_at("wsd", args, jnp.int32(steps - 1), True)
        assert 0 < last < 0.6 / (cooldown * steps)
    for rates in found[1:]:
        np.testing.assert_array_equal(rates, found[0])


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"schedule": "cosine"}, "schedule"),
        ({"epochs": 2.0}, "epochs"),
        ({"epochs": 0, "steps": 30}, "epochs"),
        ({"epochs": 0, "data_per_param": 3.0}, "epochs"),
        ({"warmup_steps": 0, "warmup_fraction": 0.1}, "warmup_steps"),
        ({"warmup_steps": 16}, "warmup_steps=16"),
        ({"average_fraction": 0.3}, "average_fraction=0.3"),
        ({"cooldown_fraction": 0.0}, "cooldown_fraction"),
        ({"learning_rate_rule": "(data / 100)**-0.3"}, "learning_rate_rule"),
        ({"weight_decay_rule": "100 / steps"}, "weight_decay_rule"),
        ({"batch_size_rule": "(data / 100)**0.5"}, "batch_size_rule"),
    ],
)
def test_what_would_make_prefixes_differ_is_refused(training, named):
    experiment = make_experiment({"weight_decay": 0.1, **training})
    with pytest.raises(UserError, match=r"grid\.branches") as refused:
        grid.make_cells(experiment, DATASET)
    assert named in str(refused.value)
    experiment.grid.branches = False
    grid.make_cells(experiment, DATASET)


def test_rules_of_the_model_alone_are_accepted():
    rules = {"learning_rate_rule": "2 / width", "batch_size_rule": "params / 300"}
    cells = grid.make_cells(make_experiment(rules), DATASET)
    assert len(branches.find_chains(cells)) == 4
    assert len({cell.learning_rate for cell in cells}) == 2


def test_a_model_that_reads_on_is_refused():
    from scalepred.training.cost import ProgramCosts

    experiment = make_experiment({"optimizer": "sgd"})
    experiment.family, experiment.dataset = "transformer_xl", "markov"
    dataset = load_dataset("markov")
    (cell, *_) = grid.make_cells(experiment, dataset)
    with pytest.raises(UserError, match=r"grid\.branches: family"):
        ProgramCosts(dataset)(cell.program_key)


def test_streamed_data_sweeps_and_arms_have_the_same_branches(tmp_path):
    experiment = make_experiment()
    folder = epath.Path(tmp_path)

    def train(name: str, changed: config.Experiment) -> dict[str, float]:
        study.run(changed, folder / name, ["train"])
        rows = Table(folder / name / "measurements.csv").rows.values()
        return {row.cell_id: row.value for row in rows}

    plain = train("plain", experiment)
    assert len(plain) == 20
    streamed = dataclasses.replace(experiment.packing, stream="true")
    assert train("stream", dataclasses.replace(experiment, packing=streamed)) == plain
    rates = dataclasses.replace(experiment.grid, learning_rates=(0.01, 0.03))
    assert len(train("sweep", dataclasses.replace(experiment, grid=rates))) == 40
    pair = {"same": {}, "faster": {"training.learning_rate": 0.03}}
    with_arms = dataclasses.replace(experiment, arms=pair)
    found = arms.run(with_arms, folder / "arms", ["train"])
    assert {row.cell_id: row.value for row in found.arms["same"].table} == plain
    assert len(found.arms["faster"].table) == 20

"""Optimisers by name: which may be padded, what their options are, what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data import digits
from scalepred.grid import Cell
from scalepred.models.model import build_model
from scalepred.training import args as args_lib
from scalepred.training import cost, ensemble, lane, optimizer, padding
from scalepred.training import program as program_lib
from scalepred.training.optimizer import _PADDABLE

DATASET = digits.load()
DATA = lane.LaneData(
    *map(jnp.asarray, (DATASET.inputs, DATASET.labels, DATASET.order(0)[None]))
)
WIDTHS = 3, 5
MODELS = [build_model("mlp", width, 2, (64,), 10) for width in WIDTHS]


def _cell(optimizer: str, **changes) -> Cell:
    experiment = config.Experiment(
        name="x",
        grid=config.Grid(widths=(WIDTHS[0],), data_fractions=(0.1,)),
        training=config.Training(optimizer=optimizer, steps=6, **changes),
    )
    (cell,) = grid.make_cells(experiment, DATASET)
    return cell


def _train(cell: Cell, models) -> tuple[lane.LaneState, program_lib.Program]:
    program = program_lib.make_program(cell.program_key, models, DATASET)
    args = args_lib.lane_args(cell, 0, 0)

    @jax.jit
    def train(args):
        return jax.lax.fori_loop(
            0,
            cell.steps,
            lambda _, state: program.step_lane(state, args, DATA),
            program.init_lane(args),
        )

    return train(args), program


@pytest.mark.parametrize("name", sorted(_PADDABLE))
def test_what_may_be_padded_trains_as_if_it_were_not(name):
    cell = _cell(name, learning_rate=0.01, weight_decay=0.01)
    assert optimizer.can_be_padded(name)
    narrow, _ = _train(cell, MODELS[:1])
    padded, _ = _train(cell, MODELS)
    assert not bool(narrow.diverged)
    again = padding.pad_tree(narrow.params, padded.params)
    # A product of more columns may be added up in another order.
    close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-6)
    jax.tree.map(close, padded.params, again)

    def is_zero(wide, narrow):
        mask = np.ones(wide.shape, bool)
        mask[tuple(map(slice, narrow.shape))] = False
        assert np.all(np.asarray(wide)[mask] == 0)

    jax.tree.map(is_zero, padded.params, narrow.params)


def test_others_keep_programs_of_their_own():
    costs = cost.ProgramCosts(DATASET)
    for name, padded in (("lion", True), ("adafactor", False), ("muon", False)):
        assert costs(_cell(name).program_key).can_be_padded is padded


@pytest.mark.parametrize(
    "text", ["lion(b1=0.95, b2=0.98)", "adafactor(min_dim_size_to_factor=8)", "sgd",
             "rmsprop(decay=0.95)", "contrib", "schedule_free_adamw"]
)  # fmt: skip
def test_it_takes_a_step_of_optax(text):
    if text == "contrib":
        text = "ademamix(b3=0.999, alpha=2.0)"
    cell = _cell(text, learning_rate=0.01)
    state, program = _train(cell, MODELS[:1])
    assert not bool(state.diverged)
    args = args_lib.lane_args(cell, 0, 0)
    start = program.init_lane(args)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), state.params,
                         start.params)  # fmt: skip
    assert all(distance > 0 for distance in jax.tree.leaves(moved))


def test_options_reach_the_optimiser():
    cell = _cell("lion(b1=0.5, b2=0.6)", learning_rate=0.01, schedule="constant")
    cell = dataclasses.replace(cell, steps=1)
    state, program = _train(cell, MODELS[:1])
    args = args_lib.lane_args(cell, 0, 0)
    start = program.init_lane(args)
    gradient = jax.grad(lambda params: _first_loss(cell, params))(start.params)
    reference = optax.lion(0.01, b1=0.5, b2=0.6, weight_decay=0.0)
    updates, _ = reference.update(gradient, reference.init(start.params), start.params)
    expected = optax.apply_updates(start.params, updates)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, state.params, expected)


def _first_loss(cell: Cell, params) -> jax.Array:
    from scalepred.data.task import cross_entropy
    from scalepred.training import sampling

    words = jnp.array(cell.random_words, jnp.uint32)
    batch, _ = sampling.draw_batch(
        words, sampling.start(), jnp.uint32(cell.dataset_size), cell.batch_size
    )
    rows = DATA.order[0, batch]
    logits, _ = MODELS[0].apply(
        params, {}, DATA.inputs[rows], train=True, key=jax.random.key(0)
    )
    return jnp.mean(cross_entropy(logits, DATA.labels[rows]))


def test_schedule_free_is_scored_by_its_average():
    cell = _cell("schedule_free_sgd", learning_rate=0.1, schedule="constant")
    state, program = _train(cell, MODELS[:1])
    args = args_lib.lane_args(cell, 0, 0)
    scores = jax.jit(program.evaluate_lane)(state, args, DATA)
    average = optimizer.evaluated_params(state.params, state.opt_state)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), average,
                         state.params)  # fmt: skip
    assert max(jax.tree.leaves(moved)) > 1e-4
    plain = _cell("sgd")
    plain_program = program_lib.make_program(plain.program_key, MODELS[:1], DATASET)
    start = plain_program.init_lane(args_lib.lane_args(plain, 0, 0))
    expected = plain_program.evaluate_lane(
        start._replace(params=average), args_lib.lane_args(cell, 0, 0), DATA
    )
    np.testing.assert_allclose(scores.values[:, :2], expected.values[:, :2], rtol=1e-5)


def test_lanes_of_one_program_have_rates_of_their_own():
    experiment = config.Experiment(
        name="x",
        grid=config.Grid(
            widths=(4,), data_fractions=(0.2,), learning_rates=(1e-4, 1e-2)
        ),
        training=config.Training(optimizer="lion", steps=60),
    )
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells)
    assert len(plan.packs) == 1
    rows = {
        row.learning_rate: row.read("loss", "train")
        for news in ensemble.train(plan, DATASET)
        for row in news.rows
    }
    assert rows[1e-2] < 0.7 * rows[1e-4]


def test_a_schedule_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "stairs.py").write_text(
        "import jax.numpy as jnp\n"
        "def halved(done, step, steps):\n"
        "    return 0.5 ** jnp.floor(done * 4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    args = args_lib.lane_args(_cell("sgd", schedule="stairs.halved"), 0, 0)
    args = args._replace(steps=np.int32(400))
    rates = optimizer.learning_rate_at("stairs.halved", args, jnp.arange(400))
    expected = 0.1 * 0.5 ** (np.arange(400) // 100)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": "lyon"}, r"training\.optimizer='lyon': no function of optax"),
        ({"optimizer": "lion(b1=)"}, r"write a name, or name\(option=value"),
        ({"optimizer": "lion(__import__('os'))"}, r"write a name, or name\(option"),
        ({"optimizer": "lion(b7=0.1)"}, r"cannot make a step.*b7"),
        ({"optimizer": "lbfgs"}, "cannot make a step from gradients alone"),
        ({"optimizer": "os.path.join"}, "no function of optax"),
        ({"schedule": "nowhere.at_all"}, r"training\.schedule='nowhere\.at_all'"),
    ],
)
def test_what_cannot_train_is_told_before_anything_is_trained(changes, sentence):
    settings = {"optimizer": "sgd", **changes}
    experiment = config.Experiment(
        name="x",
        grid=config.Grid(widths=(4,), data_fractions=(0.2,)),
        training=config.Training(steps=5, **settings),
    )
    cells = grid.make_cells(experiment, DATASET)
    with pytest.raises(UserError, match=sentence):
        ensemble.plan_cells(experiment, DATASET, cells)

"""One lane: its step is a plain optax step, its scores are those of numpy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import compile_once  # noqa: F401

from scalepred.data import digits
from scalepred.grid import Cell
from scalepred.models.model import build_model, cross_entropy
from scalepred.training import lane, sampling

NUM_STEPS = 8
CELL = Cell(
    dataset="digits",
    family="mlp",
    metric="error",
    width=5,
    depth=2,
    dataset_size=40,
    seed=1,
    steps=NUM_STEPS,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.2,
    momentum=0.8,
    nesterov=False,
    weight_decay=0.01,
    schedule="cosine",
    warmup_fraction=0.25,
)
DATASET = digits.load()
DATA = lane.LaneData(
    *map(jnp.asarray, (DATASET.inputs, DATASET.labels, DATASET.order(CELL.seed)[None]))
)
MODEL = build_model("mlp", CELL.width, CELL.depth, DATASET.input_shape, 10)


@functools.cache
def _train(cell: Cell) -> tuple[lane.Program, lane.LaneArgs, lane.LaneState]:
    program = lane.make_program(cell.program_key, [MODEL], DATASET)
    args = lane.lane_args(cell, model=0, order=0)
    step = jax.jit(program.step_lane)
    state = jax.jit(program.init_lane)(args)
    for _ in range(cell.steps):
        state = step(state, args, DATA)
    return program, args, state


def _rate(cell: Cell, step) -> jax.Array:
    """The schedule, written once more."""
    done = (step + 0.5) / cell.steps
    rest = (done - cell.warmup_fraction) / (1 - cell.warmup_fraction)
    falling = {"constant": 1.0, "linear": 1 - rest}.get(
        cell.schedule, 0.5 * (1 + jnp.cos(jnp.pi * rest))
    )
    rising = done / max(cell.warmup_fraction, 1e-9)
    return cell.learning_rate * jnp.where(rest < 0, rising, falling)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": True, "schedule": "linear"},
        {"momentum": 0.0, "weight_decay": 0.0, "warmup_fraction": 0.0},
        {"optimizer": "adam", "learning_rate": 0.01, "schedule": "constant"},
        {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    ],
    ids=["sgd", "nesterov", "plain", "adam", "adamw"],
)
def test_steps_equal_a_plain_optax_loop(changes):
    cell = dataclasses.replace(CELL, **changes)
    _, args, state = _train(cell)
    schedule = functools.partial(_rate, cell)
    if cell.optimizer == "sgd":
        sgd = optax.sgd(schedule, cell.momentum, cell.nesterov)
        optimizer = optax.chain(optax.add_decayed_weights(cell.weight_decay), sgd)
    elif cell.optimizer == "adam":
        optimizer = optax.adam(schedule)
    else:
        optimizer = optax.adamw(schedule, weight_decay=cell.weight_decay)

    key = jax.random.wrap_key_data(jnp.array(cell.random_words, jnp.uint32))
    params, _ = jax.jit(MODEL.init)(key)
    opt_state = optimizer.init(params)
    cursor = sampling.start()
    subset = DATASET.order(cell.seed)[: cell.dataset_size]

    def loss(params, x, labels):
        logits, _ = MODEL.apply(params, {}, x, train=True, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, opt_state, x, labels):
        gradient = jax.grad(loss)(params, x, labels)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    draw = jax.jit(sampling.draw_batch, static_argnums=3)
    for _ in range(cell.steps):
        size = jnp.uint32(cell.dataset_size)
        batch, cursor = draw(args.words, cursor, size, cell.batch_size)
        chosen = subset[np.asarray(batch)]
        params, opt_state = step(
            params, opt_state, DATASET.inputs[chosen], DATASET.labels[chosen]
        )

    assert int(state.step) == cell.steps
    assert not bool(state.diverged)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6),
        state.params,
        params,
    )


def test_scores_are_those_of_the_two_parts():
    program, args, state = _train(CELL)
    scores = jax.jit(program.evaluate_lane)(state, args, DATA)
    order = DATASET.order(CELL.seed)
    parts = order[DATASET.num_train :], order[: CELL.dataset_size]
    found = (scores.error, scores.loss), (scores.train_error, scores.train_loss)
    for part, (error, loss) in zip(parts, found, strict=True):
        x, labels = DATA.inputs[part], DATA.labels[part]
        key = jax.random.key(0)
        logits, _ = MODEL.apply(state.params, {}, x, train=False, key=key)
        wrong = np.argmax(np.asarray(logits), axis=-1) != np.asarray(labels)
        assert float(error) == pytest.approx(np.mean(wrong), abs=1e-6)
        expected = jnp.mean(cross_entropy(logits, labels))
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert not bool(scores.diverged)


def test_evaluation_in_several_batches(monkeypatch):
    program, args, state = _train(CELL)
    whole = jax.jit(program.evaluate_lane)(state, args, DATA)
    monkeypatch.setattr(lane, "_MAX_EVALUATION_BATCH", 16)  # 517 = 32 * 16 + 5
    parts = jax.jit(program.evaluate_lane)(state, args, DATA)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_loss_that_was_not_finite_is_not_forgotten():
    program, args, state = _train(CELL)
    step = jax.jit(program.step_lane)
    spoilt = args._replace(learning_rate=np.float32(1e38))
    broken = state._replace(step=jnp.int32(5))
    for _ in range(3):
        broken = step(broken, spoilt, DATA)
    assert bool(broken.diverged)
    healed = broken._replace(params=state.params, opt_state=state.opt_state)
    healed = step(healed, args, DATA)
    assert bool(healed.diverged)


def test_weights_that_are_not_finite_count_as_diverged():
    """Argmax of NaN is a class like any other, so the error alone would look fine."""
    program, args, state = _train(CELL)
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, state.params)
    evaluate = jax.jit(program.evaluate_lane)
    assert bool(evaluate(state._replace(params=params), args, DATA).diverged)
    assert bool(evaluate(state._replace(diverged=True), args, DATA).diverged)
    assert not bool(evaluate(state, args, DATA).diverged)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_schedule_is_a_function_of_the_fraction_done(schedule, warmup):
    def rates(num_steps):
        cell = dataclasses.replace(CELL, steps=num_steps, warmup_fraction=warmup)
        args = lane.lane_args(cell, 0, 0)
        steps = jnp.arange(num_steps)
        return np.asarray(lane.learning_rate_at(schedule, args, steps))

    long, short = rates(1000), rates(10)
    assert long.max() == pytest.approx(CELL.learning_rate, rel=0.01)
    assert np.all(long > 0)
    np.testing.assert_allclose(short, long[50::100], rtol=0.02, atol=1e-3)
    end = CELL.learning_rate if schedule == "constant" else 0
    assert long[-1] == pytest.approx(end, abs=1e-3)

"""One lane: its step is a plain optax step, its scores are those of numpy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from scalepred.config import SCHEDULES, UserError
from scalepred.data import digits
from scalepred.data.dataset import Dataset
from scalepred.data.task import cross_entropy
from scalepred.grid import Cell
from scalepred.models.model import build_model, from_nnx
from scalepred.training import args as args_lib
from scalepred.training import lane, optimizer, sampling, score
from scalepred.training import program as program_lib
from scalepred.training.augment import augment

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
def _train(cell: Cell) -> tuple[program_lib.Program, args_lib.LaneArgs, lane.LaneState]:
    program = program_lib.make_program(cell.program_key, [MODEL], DATASET)
    args = args_lib.lane_args(cell, model=0, order=0)
    step = jax.jit(program.step_lane)
    state = jax.jit(program.init_lane)(args)
    for _ in range(cell.steps):
        state = step(state, args, DATA)
    return program, args, state


def _is_matrix(params):
    return jax.tree.map(lambda leaf: leaf.ndim == 2, params)


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
        {"optimizer": "adamw", "learning_rate": 0.01, "beta2": 0.9, "clip_norm": 0.1},
        {"label_smoothing": 0.3, "batch_size": 32, "micro_batch_size": 16},
    ],
    ids=["sgd", "nesterov", "plain", "adam", "adamw", "clip", "smooth-micro"],
)
def test_steps_equal_a_plain_optax_loop(changes):
    cell = dataclasses.replace(CELL, **changes)
    _, args, state = _train(cell)
    schedule = functools.partial(_rate, cell)
    if cell.optimizer == "sgd":
        sgd = optax.sgd(schedule, cell.momentum, cell.nesterov)
        decay = optax.add_decayed_weights(cell.weight_decay, _is_matrix)
        optimizer = optax.chain(decay, sgd)
    elif cell.optimizer == "adam":
        optimizer = optax.adam(schedule)
    else:
        optimizer = optax.adamw(
            schedule, b2=cell.beta2, weight_decay=cell.weight_decay, mask=_is_matrix
        )
    if cell.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(cell.clip_norm), optimizer)

    key = jax.random.wrap_key_data(jnp.array(cell.random_words, jnp.uint32))
    params, _ = jax.jit(MODEL.init)(key)
    opt_state = optimizer.init(params)
    cursor = sampling.start()
    subset = DATASET.order(cell.seed)[: cell.dataset_size]

    def loss(params, x, labels):
        logits, _ = MODEL.apply(params, {}, x, train=True, key=key)
        target = optax.smooth_labels(jax.nn.one_hot(labels, 10), cell.label_smoothing)
        return optax.softmax_cross_entropy(logits, target).mean()

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
    found = np.asarray(scores.values[:, :2]).T  # error and loss of each part
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
    monkeypatch.setattr(score, "_MAX_EVALUATION_BATCH", 16)  # 517 = 32 * 16 + 5
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


def test_the_average_is_that_of_the_last_weights():
    cell = dataclasses.replace(CELL, average_fraction=0.5)
    program = program_lib.make_program(cell.program_key, [MODEL], DATASET)
    args = args_lib.lane_args(cell, model=0, order=0)
    step, state = jax.jit(program.step_lane), jax.jit(program.init_lane)(args)
    seen = []
    for _ in range(cell.steps):
        state = step(state, args, DATA)
        seen.append(state.params)
    expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *seen[4:])
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        state.average,
        expected,
    )
    evaluate = jax.jit(program.evaluate_lane)
    of_mean = evaluate(state._replace(params=state.average), args, DATA)
    assert np.array_equal(evaluate(state, args, DATA).values, of_mean.values, True)


def test_bfloat16_keeps_weights_and_scores_in_float32():
    program, args, _ = _train(CELL)
    state = jax.jit(program.init_lane)(args)
    coarse = dataclasses.replace(CELL, precision="bfloat16")
    coarse_program = program_lib.make_program(coarse.program_key, [MODEL], DATASET)
    one = jax.jit(program.step_lane)(state, args, DATA)
    other = jax.jit(coarse_program.step_lane)(state, args, DATA)
    assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(
        lambda x: x.dtype, other
    )
    one, other = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(s.params)])
                  for s in (one, other))  # fmt: skip
    start = jnp.concatenate([x.ravel() for x in jax.tree.leaves(state.params)])
    assert float(jnp.abs(one - other).max()) > 0
    change = jnp.linalg.norm(one - start)
    assert float(jnp.linalg.norm(one - other)) < 0.05 * float(change)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_schedule_is_a_function_of_the_fraction_done(schedule, warmup):
    def rates(num_steps):
        cell = dataclasses.replace(
            CELL, steps=num_steps, warmup_fraction=warmup, decay_points=(0.4, 0.6)
        )
        args = args_lib.lane_args(cell, 0, 0)
        steps = jnp.arange(num_steps)
        return np.asarray(optimizer.learning_rate_at(schedule, args, steps))

    long, short = rates(1000), rates(10)
    if schedule == "rsqrt":
        begin = max(warmup, 0.01)
        done = (np.arange(1000) + 0.5) / 1000
        expected = CELL.learning_rate * np.sqrt(begin / done)[done > begin]
        np.testing.assert_allclose(long[done > begin], expected, rtol=1e-4)
        return
    assert long.max() == pytest.approx(CELL.learning_rate, rel=0.01)
    assert np.all(long > 0)
    np.testing.assert_allclose(short, long[50::100], rtol=0.02, atol=1e-3)
    end = {"constant": 1.0, "step": 0.01}.get(schedule, 0) * CELL.learning_rate
    assert long[-1] == pytest.approx(end, abs=1e-3)
    if schedule == "step":
        levels = CELL.learning_rate * np.array([1, 0.1, 0.01])
        after_warmup = long[200:]
        np.testing.assert_allclose(np.unique(after_warmup)[::-1], levels, rtol=1e-5)
        assert np.flatnonzero(np.diff(after_warmup)).tolist() == [199, 399]
    if schedule == "wsd":
        np.testing.assert_allclose(long[200:800], CELL.learning_rate, rtol=1e-6)
        falling = CELL.learning_rate * (1 - (np.arange(800, 1000) + 0.5) / 1000) / 0.2
        np.testing.assert_allclose(long[800:], falling, rtol=1e-3)


def test_augmented_images_are_shifted_and_mirrored_copies():
    random = np.random.default_rng(0)
    images = random.integers(1, 255, size=(200, 6, 5, 3), dtype=np.uint8)
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)])
    for kind in ("crop", "crop_flip"):
        changed = np.asarray(augment(jnp.asarray(images), kind, jax.random.key(0)))
        assert changed.dtype == np.uint8
        num_mirrored, places = 0, set()
        for image, around in zip(changed, padded, strict=True):
            found = [
                (down, right, mirrored)
                for down in range(9)
                for right in range(9)
                for mirrored in (False, True)
                for cut in [around[down : down + 6, right : right + 5]]
                if np.array_equal(image, cut[:, ::-1] if mirrored else cut)
            ]
            assert found
            places.add(found[0][:2])
            num_mirrored += found[0][2]
        assert len(places) > 50
        assert (num_mirrored == 0) == (kind == "crop")
        assert num_mirrored < 140


def test_augmentation_needs_images():
    cell = dataclasses.replace(CELL, augment="crop")
    with pytest.raises(UserError, match=r"training\.augment.*not images"):
        program_lib.make_program(cell.program_key, [MODEL], DATASET)


class _Bigrams(nnx.Module):
    """Logits from a token and the sum of what was read before; the sum is kept."""

    def __init__(self, rngs: nnx.Rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (7, 7)))
        self.read = nnx.BatchStat(jnp.zeros((1,)))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        read = jnp.cumsum(x, axis=1) + self.read[...][:, None]
        self.read.set_value(read[:, -1].astype(jnp.float32))
        return self.table[...][x] * (1 + 0.01 * read[..., None])


def _restart(state, batch_size):
    return {"read": jnp.zeros(batch_size)}


def _text(stretch=1) -> Dataset:
    tokens = np.random.default_rng(0).integers(7, size=(40, 6)).astype(np.int32)
    return Dataset(
        name="text",
        inputs=tokens[:, :-1],
        labels=tokens[:, 1:],
        num_classes=7,
        num_train=30,
        has_fixed_test=True,
        unit="tokens",
        stretch=stretch,
    )


def test_text_is_scored_at_every_position():
    """A model that reads on sees its part of the text whole and in order."""
    text = _text(stretch=30)
    assert text.units_per_example == 5
    model = from_nnx(_Bigrams, restart=_restart)
    cell = dataclasses.replace(CELL, batch_size=4, dataset_size=20, learning_rate=0.05)
    program = program_lib.make_program(cell.program_key, [model], text)
    args = args_lib.lane_args(cell, 0, 0)
    data = lane.LaneData(
        *map(jnp.asarray, (text.inputs, text.labels, text.order(0)[None]))
    )
    start = jax.jit(program.init_lane)(args)
    state = jax.jit(program.step_lane)(start, args, data)
    # The first step reads the first window of each of four stretches of five.
    first = text.inputs[[0, 5, 10, 15]]
    np.testing.assert_array_equal(state.model_state["read"], first.sum(axis=1))
    for _ in range(cell.steps - 1):
        state = jax.jit(program.step_lane)(state, args, data)
    # 8 steps are an epoch of 5 and windows 0, 1, 2 of the next.
    read = text.inputs[:20].reshape(4, 5, 5)[:, :3].sum(axis=(1, 2))
    np.testing.assert_array_equal(state.model_state["read"], read)
    assert (int(state.cursor.epoch), int(state.cursor.position)) == (1, 3)

    scores = jax.jit(program.evaluate_lane)(state, args, data)
    table = np.asarray(state.params["table"])
    x = text.inputs[30:]  # ten windows in one batch: nothing was read before each
    logits = table[x] * (1 + 0.01 * np.cumsum(x, axis=1)[..., None])
    expected = cross_entropy(jnp.asarray(logits), jnp.asarray(text.labels[30:]))
    assert float(scores.values[1, 0]) == pytest.approx(float(expected.mean()), rel=1e-5)
    wrong = logits.argmax(-1) != text.labels[30:]
    assert float(scores.values[0, 0]) == pytest.approx(wrong.mean())


def test_evaluation_reads_on(monkeypatch):
    """In batches of two rows the ten test windows are two stretches of five."""
    monkeypatch.setattr(score, "_MAX_EVALUATION_BATCH", 10)
    text = _text()
    model = from_nnx(_Bigrams, restart=_restart)
    cell = dataclasses.replace(CELL, batch_size=2, dataset_size=10)
    program = program_lib.make_program(cell.program_key, [model], text)
    args = args_lib.lane_args(cell, 0, 0)
    data = lane.LaneData(
        *map(jnp.asarray, (text.inputs, text.labels, text.order(0)[None]))
    )
    state = jax.jit(program.init_lane)(args)
    scores = jax.jit(program.evaluate_lane)(state, args, data)
    table = np.asarray(state.params["table"])
    x = text.inputs[30:].reshape(2, 25)
    logits = table[x] * (1 + 0.01 * np.cumsum(x, axis=1)[..., None])
    labels = text.labels[30:].reshape(2, 25)
    expected = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    assert float(scores.values[1, 0]) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_stretches_of_text_stay_together():
    order = _text(stretch=5).order(3)
    parts = order[:30].reshape(6, 5)
    np.testing.assert_array_equal(parts - parts[:, :1], np.tile(np.arange(5), (6, 1)))
    assert set(parts[:, 0]) == set(range(0, 30, 5))
    assert not np.array_equal(order, _text(stretch=5).order(4))
    np.testing.assert_array_equal(order[30:], np.arange(30, 40))

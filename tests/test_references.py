"""AWD-LSTM and CIFAR ResNet trained here, step for step beside plain loops.

The references are written anew from the papers' equations: no lane, no packing, no
flax; convolutions and BatchNorm are jax.lax and jax.numpy, SGD is three lines.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.models import awd_lstm
from scalepred.models.model import Model, build_model
from scalepred.training import args as args_lib
from scalepred.training import lane, noise, sampling
from scalepred.training import program as program_lib

NUM_STEPS = 6
RANDOM = np.random.default_rng(0)


def _cell(dataset: Dataset, **changes) -> Cell:
    settings = {
        "dataset": dataset.name,
        "family": "x",
        "metric": "loss",
        "width": 4,
        "depth": 8,
        "dataset_size": dataset.num_train,
        "seed": 3,
        "steps": NUM_STEPS,
        "batch_size": 4,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.01,
        "schedule": "step",
        "decay_points": (0.5,),
        "warmup_fraction": 0.0,
    }
    return Cell(**{**settings, **changes})


def _train(cell: Cell, model: Model, dataset: Dataset):
    """The lane's states, after each step, and its scores at the end."""
    program = program_lib.make_program(cell.program_key, [model], dataset)
    args = args_lib.lane_args(cell, model=0, order=0)
    arrays = (dataset.inputs, dataset.labels, dataset.order(cell.seed)[None])
    data = lane.LaneData(*map(jnp.asarray, arrays))
    state, step = jax.jit(program.init_lane)(args), jax.jit(program.step_lane)
    states = [state]
    for _ in range(cell.steps):
        states.append(step(states[-1], args, data))
    return states, jax.jit(program.evaluate_lane)(states[-1], args, data)


def _keys(cell: Cell):
    """Of the start, and of the noise."""
    words = jnp.array(cell.random_words, jnp.uint32)
    start = jax.random.wrap_key_data(words, impl="threefry2x32")
    return start, noise.make_key(jnp.array([words[0], words[1] ^ 1]))


def _sgd(params, velocity, gradient, rate, momentum, decay):
    """PyTorch's SGD: the velocity is of gradients, weights of one axis do not decay."""

    def move(p, v, g):
        v = momentum * v + g + (decay * p if p.ndim > 1 else 0)
        return p - rate * v, v

    moved = jax.tree.map(move, params, velocity, gradient)
    return tuple(
        jax.tree.map(
            lambda pair, k=k: pair[k], moved, is_leaf=lambda x: type(x) is tuple
        )
        for k in (0, 1)
    )


def _mean_cross_entropy(logits, labels):
    chances = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.sum(chances * jax.nn.one_hot(labels, logits.shape[-1]), -1))


def _assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-5),
        found,
        expected,
    )


def _resnet(params, averages, x, train: bool):
    """Depth 8: a stem, three blocks of two convolutions, mean, linear."""

    def layer(p, old, x, stride=1):
        """Convolution and BatchNorm, and the averages after it."""
        x = jax.lax.conv_general_dilated(
            x, p["conv"]["kernel"], (stride, stride), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        mean, variance = old["norm"]["mean"], old["norm"]["var"]
        after = old
        if train:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            batch = {"norm": {"mean": mean, "var": variance}}
            after = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, old, batch)
        normed = (x - mean) / jnp.sqrt(variance + 1e-5)
        return normed * p["norm"]["scale"] + p["norm"]["bias"], after

    x, stem = layer(params["stem"], averages["stem"], x)
    x, blocks = jax.nn.relu(x), {}
    for index in range(3):
        p, old, after = params["blocks"][index], averages["blocks"][index], {}
        stride, past = 1 if index == 0 else 2, x
        if index > 0:
            past, after["shortcut"] = layer(p["shortcut"], old["shortcut"], x, stride)
        x, after["first"] = layer(p["first"], old["first"], x, stride)
        x, after["second"] = layer(p["second"], old["second"], jax.nn.relu(x))
        x, blocks[index] = jax.nn.relu(past + x), after
    logits = x.mean((1, 2)) @ params["output"]["kernel"] + params["output"]["bias"]
    return logits, {"stem": stem, "blocks": blocks}


def test_a_resnet_follows_a_plain_loop():
    labels = np.arange(24) % 3
    images = RANDOM.normal(size=(24, 8, 8, 3)).astype(np.float32)
    dataset = Dataset("noise", images, labels.astype(np.int32), 3, 16, True)
    cell = _cell(dataset, family="wide_resnet")
    model = build_model("wide_resnet", cell.width, cell.depth, (8, 8, 3), 3)
    states, scores = _train(cell, model, dataset)

    params, averages = model.init(_keys(cell)[0])
    velocity = jax.tree.map(jnp.zeros_like, params)
    cursor, order = sampling.start(), dataset.order(cell.seed)

    def loss(params, averages, x, y):
        logits, after = _resnet(params, averages, x, train=True)
        return _mean_cross_entropy(logits, y), after

    gradient_of = jax.jit(jax.grad(loss, has_aux=True))
    words, size = jnp.array(cell.random_words, jnp.uint32), jnp.uint32(16)
    for step in range(NUM_STEPS):
        batch, cursor = sampling.draw_batch(words, cursor, size, 4)
        chosen = order[np.asarray(batch)]
        gradient, averages = gradient_of(
            params, averages, images[chosen], labels[chosen]
        )
        rate = 0.1 if step + 0.5 < NUM_STEPS / 2 else 0.01
        params, velocity = _sgd(params, velocity, gradient, rate, 0.9, 0.01)
        _assert_close(states[step + 1].params, params)
        _assert_close(states[step + 1].model_state, averages)
    logits, _ = _resnet(params, averages, images[16:], train=False)
    expected = _mean_cross_entropy(logits, labels[16:])
    assert float(scores.values[1, 0]) == pytest.approx(float(expected), rel=1e-3)
    wrong = np.mean(np.argmax(logits, -1) != labels[16:])
    assert float(scores.values[0, 0]) == pytest.approx(wrong)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _lstm(params, tokens, depth: int):
    """Logits of one text read from its start, in numpy and float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    table = params["embedding"]["table"]
    xs = [table[token] for token in tokens]
    for index in range(depth):
        p = params["layers"][index]
        units = p["hidden_weights"].shape[0]
        h, c, outputs = np.zeros(units), np.zeros(units), []
        for x in xs:
            pre = [
                x @ p["input_weights"][:, gate]
                + h @ p["hidden_weights"][:, gate]
                + p["biases"][0, gate]
                + p["biases"][1, gate]
                for gate in range(4)
            ]
            c = _sigmoid(pre[1]) * c + _sigmoid(pre[0]) * np.tanh(pre[2])
            h = _sigmoid(pre[3]) * np.tanh(c)
            outputs.append(h)
        xs = outputs
    return np.stack(xs) @ table.T + params["embedding"]["bias"]


def _text(window: int, num_windows: int, vocabulary_size: int) -> Dataset:
    tokens = RANDOM.integers(vocabulary_size, size=window * num_windows + 1)
    return Dataset(
        name="text",
        inputs=tokens[:-1].reshape(num_windows, window).astype(np.uint8),
        labels=tokens[1:].reshape(num_windows, window).astype(np.uint8),
        num_classes=vocabulary_size,
        num_train=num_windows - 4,
        has_fixed_test=True,
        unit="tokens",
        stretch=num_windows,  # in its own order
    )


RECIPE = awd_lstm.Recipe(embedding_size=6)


def _awd_lstm(window: int, vocabulary_size: int) -> Model:
    return awd_lstm.make(5, 3, (window,), vocabulary_size, RECIPE)


def test_an_lstm_follows_its_equations():
    """Two windows, one after the other, as one text."""
    dataset = _text(window=4, num_windows=6, vocabulary_size=7)
    model = _awd_lstm(4, 7)
    params, state = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    assert model.restart is not None
    state = model.restart(state, 1)
    expected = _lstm(params, dataset.inputs[:2].reshape(-1), 3)
    for window in range(2):
        x = jnp.asarray(dataset.inputs[window][None])
        logits, state = model.apply(
            params, state, x, train=False, key=jax.random.key(0)
        )
        part = expected[4 * window : 4 * window + 4]
        np.testing.assert_allclose(logits[0], part, rtol=1e-3, atol=1e-5)


def test_an_awd_lstm_follows_a_plain_loop():
    """With all its dropout, its clipping and its average; two stretches side by side,
    begun anew when they end."""
    window, vocabulary_size, batch_size = 4, 7, 2
    dataset = _text(window, 12, vocabulary_size)
    cell = _cell(
        dataset, family="awd_lstm", depth=3, batch_size=batch_size, learning_rate=5.0,
        momentum=0.0, weight_decay=1e-3, clip_norm=0.1, schedule="constant",
        decay_points=(), average_fraction=0.5,
    )  # fmt: skip
    model = _awd_lstm(window, vocabulary_size)
    states, scores = _train(cell, model, dataset)
    length = dataset.num_train // batch_size  # windows a stretch: 4
    assert length < NUM_STEPS  # the loop begins anew within the test

    start_key, noise_key = _keys(cell)
    params, fresh = model.init(start_key)
    assert model.restart is not None
    memory = model.restart(fresh, batch_size)
    velocity = jax.tree.map(jnp.zeros_like, params)

    def loss(params, memory, x, y, key):
        logits, memory = model.apply(params, memory, x, train=True, key=key)
        return _mean_cross_entropy(logits, y), memory

    gradient_of = jax.jit(jax.grad(loss, has_aux=True))
    last = []
    for step in range(NUM_STEPS):
        position = step % length
        if position == 0:
            memory = model.restart(memory, batch_size)
        rows = [position, length + position]
        gradient, memory = gradient_of(
            params,
            memory,
            dataset.inputs[rows],
            dataset.labels[rows].astype(np.int32),
            jax.random.fold_in(noise_key, step),
        )
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
        assert norm > cell.clip_norm  # or clipping is not tried
        gradient = jax.tree.map(lambda g, norm=norm: g * (0.1 / norm), gradient)
        params, velocity = _sgd(params, velocity, gradient, 5.0, 0.0, 1e-3)
        _assert_close(states[step + 1].params, params)
        if step >= NUM_STEPS / 2:
            last.append(params)
    average = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *last)
    _assert_close(states[-1].average, average)

    # The test part fits into one batch: each of its windows is read from the start.
    logits = np.stack([_lstm(average, x, 3) for x in dataset.inputs[-4:]])
    expected = _mean_cross_entropy(jnp.asarray(logits), dataset.labels[-4:])
    assert float(scores.values[1, 0]) == pytest.approx(float(expected), rel=1e-3)

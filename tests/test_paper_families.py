"""The larger families: what `test_families` asks of every family, at little cost."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.task import cross_entropy
from scalepred.grid import Cell
from scalepred.models.model import Model, build_model
from scalepred.training import args as args_lib
from scalepred.training import lane, padding
from scalepred.training import program as program_lib

RANDOM = np.random.default_rng(0)
NUM_TRAIN, NUM_TEST, NUM_CLASSES, WINDOW = 8, 4, 5, 6


def _images() -> Dataset:
    """Noise with labels that have nothing to do with it: it must be learnt by heart."""
    labels = np.arange(NUM_TRAIN + NUM_TEST) % NUM_CLASSES
    return Dataset(
        name="noise",
        inputs=RANDOM.normal(size=(len(labels), 8, 8, 3)).astype(np.float32),
        labels=labels.astype(np.int32),
        num_classes=NUM_CLASSES,
        num_train=NUM_TRAIN,
        has_fixed_test=True,
    )


def _text() -> Dataset:
    """Windows of a sequence in which each token says the next."""
    cycle = np.tile(RANDOM.permutation(NUM_CLASSES), 100)
    tokens = cycle[: (NUM_TRAIN + NUM_TEST) * WINDOW + 1].astype(np.uint8)
    return Dataset(
        name="cycle",
        inputs=tokens[:-1].reshape(-1, WINDOW),
        labels=tokens[1:].reshape(-1, WINDOW),
        num_classes=NUM_CLASSES,
        num_train=NUM_TRAIN,
        has_fixed_test=True,
        unit="tokens",
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A small member of a family, and how it learns the small task."""

    depth: int
    widths: tuple[int, int]  # two that may share a program
    data: Dataset
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    steps: int = 30
    # A fresh model's loss may be so far above ln K.
    start: float = 0.7


IMAGES, TEXT = _images(), _text()
CASES = {
    # At rates at which another rounding, or start, learns as well.
    "resnet50": Case(14, (3, 4), IMAGES, 0.03, steps=60),
    "vgg16bn": Case(11, (4, 6), IMAGES, 0.02, steps=160),
    "densenet": Case(10, (4, 6), IMAGES),
    "awd_lstm_small": Case(2, (6, 8), TEXT, 0.05, "adam", steps=60),
    "vit": Case(2, (16, 32), IMAGES, 0.01, "adam", steps=60),
    "awd_lstm": Case(2, (6, 8), TEXT, 0.05, "adam", steps=100),
    "awd_lstm_wikitext2": Case(3, (6, 8), TEXT, 0.05, "adam", steps=100),
    "transformer_xl": Case(2, (6, 8), TEXT, 0.001, "adam", steps=60),
}
# The code need not be fast, but be there soon.
_quickly = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": "0"}
)
every_family = pytest.mark.parametrize("family", CASES)
# The recipes of the AWD-LSTM differ in numbers only; one is trained.
every_kind = pytest.mark.parametrize(
    "family", [name for name in CASES if name not in ("awd_lstm", "awd_lstm_wikitext2")]
)


@functools.cache
def _model(family: str, width: int | None = None) -> Model:
    case = CASES[family]
    return build_model(
        family,
        width or case.widths[0],
        case.depth,
        case.data.input_shape,
        case.data.num_classes,
    )


@functools.cache
def _variables(family: str):
    return _quickly(_model(family).init)(jax.random.key(0))


@functools.cache
def _evaluate(family: str):
    return _quickly(functools.partial(_model(family).apply, train=False))


def _apply(family: str, x, key=0, variables=None):
    """Logits and state after reading x, from a fresh start."""
    model = _model(family)
    params, state = variables or _variables(family)
    state = model.restart(state, len(x)) if model.restart else state
    return _evaluate(family)(params, state, jnp.asarray(x), key=jax.random.key(key))


@every_family
def test_shapes_and_counts(family):
    case, model, variables = CASES[family], _model(family), _variables(family)
    x = case.data.inputs[:4]
    logits, state = _apply(family, x)
    assert logits.shape == (*case.data.labels[:4].shape, NUM_CLASSES)
    assert logits.dtype == jnp.float32
    start = model.restart(variables.state, 4) if model.restart else variables.state
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, start)
    sizes = [leaf.size for leaf in jax.tree.leaves(variables.params)]
    assert sum(model.num_params_by_group.values()) == sum(sizes)
    counted = set(model.num_params_by_group) - model.embeddings
    assert model.num_params == sum(
        model.num_params_by_group[group] for group in counted
    )
    wider = _model(family, CASES[family].widths[1])
    assert wider.num_params > model.num_params


@every_family
def test_a_fresh_model_guesses(family):
    case = CASES[family]
    logits, _ = _apply(family, case.data.inputs[:4])
    loss = jnp.mean(cross_entropy(logits, jnp.asarray(case.data.labels[:4], jnp.int32)))
    assert abs(float(loss) - math.log(NUM_CLASSES)) < case.start


@every_family
def test_evaluation_is_not_random_and_an_example_knows_no_other(family):
    x = CASES[family].data.inputs[:4]
    logits, _ = _apply(family, x, key=1)
    again, _ = _apply(family, x[::-1], key=2)
    np.testing.assert_allclose(logits[::-1], again, rtol=1e-4, atol=1e-5)


def _cell(family: str, width: int, **changes) -> Cell:
    case = CASES[family]
    settings = {
        "dataset": case.data.name,
        "family": family,
        "metric": "loss",
        "width": width,
        "depth": case.depth,
        "dataset_size": NUM_TRAIN,
        "seed": 0,
        "steps": case.steps,
        "batch_size": 4,
        "optimizer": case.optimizer,
        "learning_rate": case.learning_rate,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "warmup_fraction": 0.1,
    }
    return Cell(**{**settings, **changes})


def _programs(cell: Cell, models) -> program_lib.Program:
    return program_lib.make_program(cell.program_key, models, CASES[cell.family].data)


@functools.cache
def _step(family: str):
    cell = _cell(family, CASES[family].widths[0])
    return _quickly(_programs(cell, [_model(family)]).step_lane)


def _data(family: str, dtype=jnp.float32) -> lane.LaneData:
    data = CASES[family].data
    inputs = jnp.asarray(data.inputs)
    return lane.LaneData(
        inputs=inputs.astype(dtype) if data is IMAGES else inputs,
        labels=jnp.asarray(data.labels),
        order=jnp.asarray(data.order(0)[None]),
    )


def _start(
    cell: Cell, models, index: int = 0
) -> tuple[lane.LaneState, args_lib.LaneArgs]:
    args = args_lib.lane_args(cell, model=index, order=0)
    return _quickly(_programs(cell, models).init_lane)(args), args


@every_kind
def test_a_tiny_set_is_learnt(family):
    cell, data = _cell(family, CASES[family].widths[0]), _data(family)
    state, args = _start(cell, [_model(family)])
    for _ in range(cell.steps):
        state = _step(family)(state, args, data)
    assert not bool(state.diverged)
    train = CASES[family].data.order(0)[:NUM_TRAIN]
    logits, _ = _apply(family, data.inputs[train], variables=state[:2])
    loss = cross_entropy(logits, data.labels[train].astype(jnp.int32))
    assert float(jnp.mean(loss)) < 0.5 * math.log(NUM_CLASSES)


@every_kind
def test_a_lane_beside_others_is_a_lane_alone(family):
    cell, data = _cell(family, CASES[family].widths[0]), _data(family)
    alone, args = _start(cell, [_model(family)])
    other, other_args = _start(
        dataclasses.replace(cell, seed=1, learning_rate=0.01), [_model(family)]
    )

    def stack(*trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    beside, both = stack(other, alone), stack(other_args, args)
    program = _programs(cell, [_model(family)])
    step_both = _quickly(jax.vmap(program.step_lane, (0, 0, None)))
    for _ in range(2):
        alone = _step(family)(alone, args, data)
        beside = step_both(beside, both, data)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b[1], a, rtol=2e-2, atol=1e-3),
        alone.params,
        beside.params,
    )


@every_kind
def test_padded_is_exact_or_not_offered(family):
    """In float64 the padded model has the narrow one's loss, state and gradient, and
    gradient zero where it was padded; so any elementwise optimiser leaves it there."""
    if not _model(family).can_be_padded:
        pytest.skip(f"{family} is bucketed by exact width, as its docstring says")
    wide = _model(family, CASES[family].widths[1])
    labels = _data(family).labels[:4].astype(jnp.int32)

    def loss(params, state, model, x):
        key = jax.random.key(0)
        logits, state = model.apply(params, state, x, train=True, key=key)
        return jnp.mean(cross_entropy(logits, labels)), state

    with jax.enable_x64(True):
        x = _data(family, jnp.float64).inputs[:4]
        # Not the start itself: some of its weights are zero.
        narrow = jax.tree.map(
            lambda leaf: (
                jnp.asarray(leaf, jnp.float64)
                + (0.1 * RANDOM.normal(size=leaf.shape) if leaf.ndim else 0)
            ),
            _variables(family),
        )
        padded = padding.pad_tree(narrow, wide.shapes)
        found = []
        for model, variables in ((_model(family), narrow), (wide, padded)):
            compute = _quickly(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
            found.append(compute(*variables, model, x))
        ((expected, state), gradient), ((value, wide_state), wide_gradient) = found
        assert float(value) == pytest.approx(float(expected), rel=1e-11)
        for tree, other in ((gradient, wide_gradient), (state, wide_state)):
            again = padding.pad_tree(tree, other)
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-12),
                other,
                again,
            )
        sizes = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), narrow.params)
        was_there = padding.pad_tree(sizes, wide.shapes.params)
        jax.tree.map(
            lambda leaf, there: np.testing.assert_array_equal(leaf * (1 - there), 0),
            wide_gradient,
            was_there,
        )


@every_family
def test_the_wrong_data_are_refused(family):
    shape = (WINDOW,) if CASES[family].data is IMAGES else (8, 8, 3)
    with pytest.raises(UserError, match="the dataset has examples of shape"):
        build_model(family, 4, CASES[family].depth, shape, 3)


PUBLISHED = [
    # family, width, depth, shape, classes, parameters without word embeddings
    ("resnet50", 64, 50, (224, 224, 3), 1000, 25_557_032),
    ("resnet50", 32, 50, (64, 64, 3), 1000, 6_917_640),
    ("resnet50", 1, 50, (64, 64, 3), 1000, 39_701),
    ("resnet50", 64, 101, (224, 224, 3), 1000, 44_549_160),
    ("awd_lstm", 1150, 3, (70,), 10_000, 20_211_600),
    ("transformer_xl", 2100, 16, (150,), 267_735, 41_067_220),
    # Convolutions and norms as published, then two layers of 512.
    ("vgg16bn", 64, 16, (32, 32, 3), 100, 14_723_136 + 525_312 + 51_300),
]


@pytest.mark.parametrize(
    ("family", "width", "depth", "shape", "classes", "count"), PUBLISHED
)
def test_published_counts(family, width, depth, shape, classes, count):
    assert build_model(family, width, depth, shape, classes).num_params == count


def test_densenet_counts():
    """L = 40, k = 12 has 1,019,722; at k = 32 the sum of its layers."""
    from scalepred.models.densenet import DenseNet
    from scalepred.models.model import from_nnx

    small = from_nnx(lambda rngs: DenseNet(12, 40, 16, 3, 10, rngs))
    assert small.num_params == 1_019_722
    count, channels = 3 * 9 * 16, 16
    for block in range(3):
        for _ in range(12):
            count += 2 * channels + 9 * channels * 32
            channels += 32
        if block < 2:
            count += 2 * channels + channels * channels
    count += 2 * channels + channels * 100 + 100
    model = build_model("densenet", 32, 40, (32, 32, 3), 100)
    assert model.num_params == count


@pytest.mark.parametrize(
    ("family", "depth"), [("resnet50", 49), ("vgg16bn", 12), ("densenet", 39)]
)
def test_depths_that_there_are_not(family, depth):
    with pytest.raises(UserError, match=rf"grid\.depths={depth}"):
        build_model(family, 8, depth, (32, 32, 3), 10)


@pytest.mark.parametrize("family", ["awd_lstm_small", "transformer_xl"])
def test_reading_on_is_reading_at_once(family):
    """Two windows one after the other give what one window twice as long gives.

    The second half of the Transformer-XL's long window sees as far back as its
    memory reaches.
    """
    case = CASES[family]
    double = build_model(
        family, case.widths[0], 2, (2 * WINDOW,), case.data.num_classes
    )
    model, (params, state) = _model(family), _variables(family)
    assert model.restart is not None
    assert double.restart is not None
    x = jnp.asarray(case.data.inputs[:4].reshape(2, 2 * WINDOW))
    key = jax.random.key(0)
    whole, _ = double.apply(
        params, double.restart(double.init(key).state, 2), x, train=False, key=key
    )
    state = model.restart(state, 2)
    for half in (slice(0, WINDOW), slice(WINDOW, None)):
        logits, state = model.apply(params, state, x[:, half], train=False, key=key)
        np.testing.assert_allclose(logits, whole[:, half], rtol=1e-3, atol=1e-4)
        if family == "transformer_xl" and half.start:
            assert float(state["has_read"].min()) == 1


def test_relative_positions_are_shifted_to_keys():
    from scalepred.models.relative_attention import shift

    length, num_keys = 3, 5
    scores = RANDOM.normal(size=(2, length, num_keys))
    found = np.asarray(shift(jnp.asarray(scores)))
    for i in range(length):
        for j in range(num_keys - length + i + 1):
            distance = i + num_keys - length - j
            expected = scores[:, i, num_keys - 1 - distance]
            np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-6)


@pytest.mark.parametrize("family", ["awd_lstm_small", "transformer_xl"])
def test_no_token_sees_those_after_it(family):
    x = np.array(CASES[family].data.inputs[:2])
    before, _ = _apply(family, x)
    x[:, 3:] = (x[:, 3:] + 1) % NUM_CLASSES
    after, _ = _apply(family, x)
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[:, 3:], after[:, 3:], atol=1e-3)

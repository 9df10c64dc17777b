"""What every family promises, alike: counts, causality, a fair start, learning,
padding, and results that do not depend on what else is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.data.task import cross_entropy
from scalepred.models.model import build_model
from scalepred.training import args as args_lib
from scalepred.training import ensemble, lane, padding
from scalepred.training import program as program_lib

DEVICES = jax.devices()


def _images() -> Dataset:
    """Small images whose class is where they are bright."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = random.integers(0, 99, size=(120, 6, 6, 2), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 120
    return Dataset(
        name="bright",
        inputs=images,
        labels=labels,
        num_classes=3,
        num_train=60,
        prepare=lambda x: x.astype(float) / 64 - 1.5,
    )


def _text() -> Dataset:
    """Each token but few is the one before plus two, mod 7."""
    random = np.random.default_rng(0)
    tokens = np.cumsum(np.where(random.random((90, 9)) < 0.05, 3, 2), axis=1) % 7
    tokens = tokens.astype(np.uint8)
    return Dataset(
        name="counting",
        inputs=tokens[:, :-1],
        labels=tokens[:, 1:],
        num_classes=7,
        num_train=60,
        has_fixed_test=True,
        unit="tokens",
    )


@dataclasses.dataclass(frozen=True)
class Family:
    """A family, where it is tried, and a rate at which it learns there."""

    name: str
    dataset: Dataset
    widths: tuple[int, int]
    depth: int
    optimizer: str
    learning_rate: float


FAMILIES = [
    Family("mlp", _images(), (4, 8), 2, "sgd", 0.1),
    Family("wide_resnet", _images(), (2, 3), 8, "sgd", 0.1),
    Family("transformer", _text(), (16, 32), 1, "adam", 0.01),
    Family("transformer_mup", _text(), (16, 32), 1, "adam", 0.01),
    Family("context_mlp", _text(), (4, 6), 2, "adam", 0.01),
]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request) -> Family:
    return request.param


def _model(family: Family, width: int):
    shape, classes = family.dataset.input_shape, family.dataset.num_classes
    return build_model(family.name, width, family.depth, shape, classes)


def _cells(family: Family, **changes) -> list[grid.Cell]:
    training = config.Training(
        optimizer=family.optimizer,
        learning_rate=family.learning_rate,
        batch_size=8,
        steps=60,
    )
    experiment = config.Experiment(
        name="x",
        family=family.name,
        metric="loss",
        grid=config.Grid(
            widths=family.widths, depths=(family.depth,), data_fractions=(1.0,), seeds=3
        ),
        training=training,
    )
    cells = grid.make_cells(experiment, family.dataset)
    return [dataclasses.replace(cell, **changes) for cell in cells]


def _batch(family: Family, count=16):
    dataset = family.dataset
    prepare = dataset.prepare or (lambda x: x)
    x, labels = dataset.inputs[:count], dataset.labels[:count].astype(np.int32)
    return prepare(jnp.asarray(x)), jnp.asarray(labels)


def _train_rows(cells, family, **wishes):
    experiment = config.Experiment(name="x", packing=config.Packing(**wishes))
    plan = ensemble.plan_cells(experiment, family.dataset, cells)
    news = ensemble.train(plan, family.dataset)
    return {row.cell_id: row for progress in news for row in progress.rows}


@pytest.fixture(scope="module")
def rows(family):
    """Both widths, three seeds, each in a pack of its width."""
    return _train_rows(_cells(family), family)


def test_logits_have_the_shape_of_the_labels(family):
    x, labels = _batch(family)
    model = _model(family, family.widths[0])
    for train in (True, False):
        variables = model.init(jax.random.key(0))
        logits, state = model.apply(*variables, x, train=train, key=jax.random.key(1))
        assert logits.shape == (*labels.shape, family.dataset.num_classes)
        assert logits.dtype == jnp.float32
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        assert shapes == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), variables.state
        )


def test_the_first_loss_is_near_that_of_a_guess(family):
    x, labels = _batch(family)
    for width in family.widths:
        model = _model(family, width)
        variables = model.init(jax.random.key(0))
        logits, _ = model.apply(*variables, x, train=True, key=jax.random.key(1))
        loss = float(jnp.mean(cross_entropy(logits, labels)))
        guess = family.dataset.random_guess("loss")
        assert guess - 0.5 < loss < guess + 0.7


def test_it_learns(family, rows):
    guess = family.dataset.random_guess("loss")
    for row in rows.values():
        assert row.status == "ok"
        assert row.read("loss", "train") < 0.6 * guess
        assert row.read("loss") < 0.8 * guess
        assert row.data_unit in ("examples", "tokens")
        assert row.data == 60 * family.dataset.units_per_example


def test_a_run_alone_equals_the_run_in_a_full_pack(family, rows):
    cells = _cells(family)
    plan = ensemble.plan_cells(config.Experiment(name="x"), family.dataset, cells)
    pack = dataclasses.replace(plan.packs[0], queue=plan.packs[0].queue[1:2])
    alone = dataclasses.replace(plan, packs=(pack,))
    news = list(ensemble.train(alone, family.dataset))
    (row,) = [row for progress in news for row in progress.rows]
    for part in ("", "train"):
        assert row.read("loss", part) == rows[row.cell_id].read("loss", part)


def test_lanes_together_equal_lanes_in_turn(family, rows):
    together = _train_rows(_cells(family)[3:], family, lane_axis="vmap")
    assert len(together) == 3
    for cell_id, row in together.items():
        expected = rows[cell_id].read("loss")
        assert row.read("loss") == pytest.approx(expected, rel=0.02)


def _train_double(family: Family, cell: grid.Cell, is_padded: bool):
    """State and scores in float64, alone or padded to the wider of the two."""
    models = [_model(family, width) for width in family.widths]
    if not is_padded:
        models = models[:1]
    program = program_lib.make_program(cell.program_key, models, family.dataset)
    args = args_lib.lane_args(cell, model=0, order=0)
    dataset = family.dataset
    order = dataset.order(cell.seed)[None]
    data = lane.LaneData(*map(jnp.asarray, (dataset.inputs, dataset.labels, order)))

    @jax.jit
    def train(args):
        state = jax.tree.map(
            lambda leaf: (
                leaf.astype(jnp.float64)
                if jnp.issubdtype(leaf.dtype, jnp.floating)
                else leaf
            ),
            program.init_lane(args),
        )
        state = jax.lax.fori_loop(
            0, cell.steps, lambda _, s: program.step_lane(s, args, data), state
        )
        return state, program.evaluate_lane(state, args, data)

    with jax.enable_x64(True):
        return train(args)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "learning_rate": 0.05, "nesterov": True,
         "weight_decay": 0.01, "clip_norm": 0.5},
        {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1,
         "label_smoothing": 0.1, "average_fraction": 0.5},
    ],
    ids=["sgd", "adamw"],
)  # fmt: skip
def test_a_padded_model_trains_as_the_narrow_one(family, changes):
    if not _model(family, family.widths[0]).can_be_padded:
        pytest.skip(f"{family.name} does not claim it")
    cell = dataclasses.replace(_cells(family)[0], steps=20, **changes)
    narrow, expected = _train_double(family, cell, False)
    padded, found = _train_double(family, cell, True)
    seen = [scores.values[:, :2] for scores in (found, expected)]
    np.testing.assert_allclose(*seen, rtol=1e-11)
    for tree in ("params", "model_state", "opt_state", "average"):
        wide = getattr(padded, tree)
        with jax.enable_x64(True):
            again = padding.pad_tree(getattr(narrow, tree), wide)
        jax.tree.map(_check_padding, wide, again)


def _check_padding(padded, expected):
    padded, expected = np.asarray(padded), np.asarray(expected)
    np.testing.assert_allclose(padded, expected, rtol=1e-7, atol=1e-12)
    # Where the narrow model has nothing there is exactly nothing.
    assert np.all(padded[expected == 0] == 0)


def test_the_paper_s_network_has_the_paper_s_size():
    def count(width, depth=44):
        return build_model("wide_resnet", width, depth, (32, 32, 3), 10).num_params

    assert count(16) == 661_338
    # The scales 4^-k of the paper, to a tenth.
    for width, ratio in ((128, 64), (64, 16), (32, 4), (8, 1 / 4), (4, 1 / 16)):
        assert count(width) == pytest.approx(ratio * 661_338, rel=0.1)
    assert count(16, 8) < count(16, 14) < count(16, 20)


def test_transformer_counts():
    model = build_model("transformer", 32, 2, (8,), 50)
    assert model.num_params == 2 * (12 * 32**2 + 2 * 32) + 32
    assert model.num_params_total == model.num_params + 2 * 50 * 32


@pytest.mark.parametrize("name", ["transformer", "transformer_mup"])
@pytest.mark.parametrize("width", [8, 32])
def test_a_decoder_sees_no_later_token(name, width):
    model = build_model(name, width, 2, (6,), 11)
    params, state = model.init(jax.random.key(0))
    kernel = params["output"]["kernel"]
    params["output"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    x = jnp.arange(6)[None]

    def logits(x):
        return model.apply(params, state, x, train=False, key=jax.random.key(0))[0]

    first, changed = logits(x), logits(x.at[0, 3].set(10))
    np.testing.assert_array_equal(first[:, :3], changed[:, :3])
    assert np.all(np.abs(first - changed)[:, 3:].max(axis=-1) > 1e-4)
    # Positions count: the same tokens in another order are not the same text.
    swapped = logits(x.at[0, 0].set(1).at[0, 1].set(0))
    assert np.abs(first - swapped)[:, 2:].max() > 1e-4


def test_maximal_update_parametrisation_is_the_standard_one_at_its_base():
    models = [
        build_model(name, 64, 1, (4,), 5) for name in ("transformer", "transformer_mup")
    ]
    x = jnp.arange(4)[None]
    outputs = []
    for model in models:
        params, state = model.init(jax.random.key(0))
        params["output"]["kernel"] += 1
        outputs.append(model.apply(params, state, x, train=True, key=jax.random.key(0)))
    np.testing.assert_allclose(outputs[0][0], outputs[1][0], rtol=1e-6)


def test_maximal_update_moves_wide_and_narrow_functions_alike():
    """One Adam step of one rate changes logits of every width by as much, to a factor;
    in the standard parametrisation the change grows with the width."""

    def change(name, width):
        model = build_model(name, width, 1, (8,), 7)
        key = jax.random.key(0)
        params, state = model.init(key)
        dataset = _text()
        x = jnp.asarray(dataset.inputs[:16])
        labels = jnp.asarray(dataset.labels[:16], jnp.int32)

        def logits(params):
            return model.apply(params, state, x, train=True, key=key)[0]

        @jax.jit
        def step(params):
            gradient = jax.grad(lambda p: jnp.mean(cross_entropy(logits(p), labels)))(
                params
            )
            return jax.tree.map(lambda p, g: p - 0.01 * jnp.sign(g), params, gradient)

        for _ in range(3):
            params = step(params)
        return float(jnp.std(logits(params)))

    standard = change("transformer", 256) / change("transformer", 32)
    maximal = change("transformer_mup", 256) / change("transformer_mup", 32)
    assert maximal < 0.5 * standard
    assert 1 / 3 < maximal < 3


def test_devices_share_the_batches_of_families_that_carry_nothing(family, rows):
    cells = _cells(family)[:2]
    if family.name == "wide_resnet":  # the statistics of a batch are of all of it
        with pytest.raises(UserError, match="data_shards=2"):
            _train_rows(cells, family, data_shards=2)
        return
    shared = _train_rows(cells, family, data_shards=2)
    for cell in cells:
        assert shared[cell.cell_id].value == pytest.approx(
            rows[cell.cell_id].value, rel=2e-3
        )


@pytest.mark.parametrize(
    ("name", "width", "depth", "shape", "message"),
    [
        ("wide_resnet", 4, 9, (8, 8, 3), r"depths=9.*6k \+ 2"),
        ("wide_resnet", 4, 8, (64,), "takes images"),
        ("transformer", 24, 1, (8,), "widths=24.*multiple of 16"),
        ("transformer", 7, 1, (8,), "widths=7.*even"),
        ("transformer", 16, 1, (8, 8), "windows of tokens"),
    ],
)
def test_what_a_family_cannot_be_is_told(name, width, depth, shape, message):
    with pytest.raises(UserError, match=message):
        build_model(name, width, depth, shape, 5)

"""Families made outside the package: short, packed as alone, padded exactly or told."""

import ast
import functools
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.models.layers import Linear
from scalepred.models.model import Model, Variables, build_model, from_linen, from_nnx
from scalepred.training import args as args_lib
from scalepred.training import ensemble, lane, program
from scalepred.training.padding import check_padding

ROOT = pathlib.Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "extending.md").read_text()
FILES = sorted((ROOT / "experiments" / "families").glob("*.py"))
MOST_LINES = 40
READ_TEXT = {"gru", "s4d"}

# The code need not be fast, but be there soon.
_quickly = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": "0"}
)
every_family = pytest.mark.parametrize("name", [path.stem for path in FILES])


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch):
    """As the commands do with the folder they are called in."""
    monkeypatch.syspath_prepend(ROOT)


def _images() -> Dataset:
    """Small images whose class is where they are bright."""
    labels = np.arange(36, dtype=np.int32) % 3
    images = np.random.default_rng(0).normal(size=(36, 8, 8, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 3] += 2
    return Dataset("bright", images, labels, num_classes=3, num_train=24)


def _text() -> Dataset:
    """Each token is the one before plus two, mod 7."""
    tokens = (np.arange(36)[:, None] + 2 * np.arange(9)) % 7
    return Dataset(
        name="counting",
        inputs=tokens[:, :-1].astype(np.uint8),
        labels=tokens[:, 1:].astype(np.uint8),
        num_classes=7,
        num_train=24,
        has_fixed_test=True,
        unit="tokens",
    )


IMAGES, TEXT = _images(), _text()


def _dataset(name: str) -> Dataset:
    return TEXT if name in READ_TEXT else IMAGES


def _build(name: str, width: int) -> Model:
    data = _dataset(name)
    path = f"experiments.families.{name}"
    return build_model(path, width, 2, data.input_shape, data.num_classes)


@every_family
def test_it_is_short(name):
    source = (ROOT / "experiments" / "families" / f"{name}.py").read_text()
    docstring = ast.parse(source).body[0]
    assert docstring.end_lineno is not None
    told = range(docstring.lineno, docstring.end_lineno + 1)
    lines = enumerate(source.splitlines(), start=1)
    count = sum(1 for number, line in lines if line.strip() and number not in told)
    assert count <= MOST_LINES


def test_the_guide_shows_files_as_they_stand_and_names_all():
    shown = re.findall(
        r"<!-- file: (\S+/\S+) -->\n```python\n(.*?)```", GUIDE, re.DOTALL
    )
    assert shown
    for path, code in shown:
        assert (ROOT / path).read_text() == code
    assert all(f"families/{path.name}" in GUIDE for path in FILES)


@every_family
def test_it_is_built_and_counted(name):
    data, model = _dataset(name), _build(name, 4)
    x = jax.ShapeDtypeStruct((2, *data.input_shape), data.input_spec.dtype)
    for train in (True, False):
        apply = functools.partial(model.apply, train=train)
        logits, state = jax.eval_shape(apply, *model.shapes, x, key=jax.random.key(1))
        assert logits.shape == (*data.labels[:2].shape, data.num_classes)
        assert jax.tree.structure(state) == jax.tree.structure(model.shapes.state)
    assert 0 < model.num_params <= model.num_params_total
    assert model.num_params < _build(name, 6).num_params
    found = model.count_forward(data.input_spec)
    matrices = [leaf for leaf in jax.tree.leaves(model.shapes.params) if leaf.ndim > 1]
    assert found.products > max(leaf.size for leaf in matrices)


def _widen(leaf: jax.Array) -> jax.Array:
    is_real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if is_real else leaf


@every_family
def test_three_lanes_at_once_are_as_each_alone_and_learn(name):
    data = _dataset(name)
    experiment = config.Experiment(
        name="x",
        family=f"experiments.families.{name}",
        grid=config.Grid(widths=(4,), depths=(2,), data_fractions=(1.0,), seeds=3),
        training=config.Training(
            optimizer="adam", learning_rate=0.02, batch_size=8, steps=25
        ),
    )
    cells = grid.make_cells(experiment, data)
    made = program.make_program(cells[0].program_key, [_build(name, 4)], data)
    order = np.stack([data.order(cell.seed) for cell in cells])
    rows = lane.LaneData(*map(jnp.asarray, (data.inputs, data.labels, order)))

    def train(args: args_lib.LaneArgs) -> jax.Array:
        state = jax.tree.map(_widen, made.init_lane(args))
        state = jax.lax.fori_loop(
            0, args.steps, lambda _, state: made.step_lane(state, args, rows), state
        )
        return made.evaluate_lane(state, args, rows).values

    every = [args_lib.lane_args(cell, model=0, order=cell.seed) for cell in cells]
    together = jax.tree.map(lambda *numbers: np.stack(numbers), *every)
    with jax.enable_x64(True):  # what is rounded is amplified
        alone = _quickly(train)(every[1])
        packed = np.asarray(_quickly(jax.vmap(train))(together))
    np.testing.assert_allclose(packed[1], alone, rtol=1e-6)
    guess, loss = data.random_guess("loss"), [*data.task.metrics].index("loss")
    assert guess is not None
    assert np.all(packed[:, loss, data.parts.index("train")] < guess)


@every_family
def test_padded_is_exact_or_not_offered(name):
    narrow, wide = _build(name, 4), _build(name, 6)
    if narrow.can_be_padded:
        check_padding(name, narrow, wide, _dataset(name).input_spec)
    else:  # dropout, whose masks depend on the width
        assert name == "linen_cnn"
        with pytest.raises(UserError, match="says can_be_padded"):
            check_padding(name, narrow, wide, _dataset(name).input_spec)


@pytest.mark.parametrize(
    ("family", "widths", "depth"),
    [
        ("mlp", (3, 5), 2),
        ("wide_resnet", (2, 3), 8),
        ("transformer", (16, 32), 1),
        ("transformer_mup", (16, 32), 1),
        ("vit", (16, 32), 1),
        pytest.param("vgg16bn", (2, 3), 11, marks=pytest.mark.slow),
        pytest.param("resnet50", (1, 2), 14, marks=pytest.mark.slow),
    ],
)
def test_families_of_the_package_say_it_rightly(family, widths, depth):
    data = TEXT if family.startswith("transformer") else IMAGES
    narrow, wide = (
        build_model(family, width, depth, data.input_shape, data.num_classes)
        for width in widths
    )
    assert narrow.can_be_padded
    check_padding(family, narrow, wide, data.input_spec)


def _check(make, widths=(4, 6)) -> None:
    narrow, wide = (make(width) for width in widths)
    check_padding("wrong", narrow, wide, IMAGES.input_spec)


def test_a_norm_over_the_padded_axis_is_refused(monkeypatch):
    """The mixer with flax's own LayerNorm, which counts what was appended."""
    mixer = importlib.import_module("experiments.families.mixer")
    monkeypatch.setattr(
        mixer, "LayerNorm", lambda width: nnx.LayerNorm(width, rngs=nnx.Rngs(0))
    )
    with pytest.raises(UserError, match=r"family='wrong'.*has other .* norms"):
        _check(lambda width: mixer.build(width, 1, (8, 8, 1), 3))


class _Hidden(nnx.Module):
    """One hidden layer, of an activation or with what is asked for."""

    def __init__(self, width: int, activation, dropout: float, rngs: nnx.Rngs):
        self.hidden = Linear(64, width, rngs=rngs)
        self.output = Linear(width, 3, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.activation = activation

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        hidden = self.activation(self.hidden(x.reshape(len(x), -1)))
        return self.output(self.dropout(hidden, rngs=rngs))


@pytest.mark.parametrize(
    ("activation", "dropout", "is_exact"),
    [(nnx.tanh, 0.0, True), (nnx.sigmoid, 0.0, False), (nnx.tanh, 0.5, False)],
)
def test_units_that_are_not_zero_for_zero_are_refused(activation, dropout, is_exact):
    """Sigmoids of padding change no output, but their weights have gradients."""

    def make(width: int) -> Model:
        return from_nnx(lambda rngs: _Hidden(width, activation, dropout, rngs))

    if is_exact:
        _check(make)
    else:
        with pytest.raises(UserError, match=r"family='wrong': says can_be_padded"):
            _check(make)


def _own(width: int, hide) -> Model:
    """One hidden layer; `hide` makes of its sums what the last layer reads."""

    def init(key: jax.Array) -> Variables:
        first, last = jax.random.split(key)
        shapes = {"hidden": (first, (64, width)), "output": (last, (width, 3))}
        return Variables({n: jax.random.normal(*s) / 8 for n, s in shapes.items()}, {})

    def apply(params, state, x, *, train, key):
        sums = x.reshape(len(x), -1) @ params["hidden"]
        return hide(sums, train) @ params["output"], state

    return Model(init, apply, can_be_padded=True)


def _centred(sums: jax.Array) -> jax.Array:
    """Less the mean over all units, those of padding too."""
    return jnp.tanh(sums) - jnp.mean(jnp.tanh(sums), axis=-1, keepdims=True)


def _looped(sums: jax.Array, hide) -> jax.Array:
    """Twice, by a loop that insists on float32."""
    start = jnp.zeros(sums.shape, jnp.float32)
    return jax.lax.scan(lambda x, _: (x + hide(sums), None), start, length=2)[0]


@pytest.mark.parametrize(
    ("hide", "wrong"),
    [
        (lambda sums, train: jnp.tanh(sums), ""),
        (lambda sums, train: jnp.tanh(sums) if train else _centred(sums), "scored"),
        (lambda sums, train: jnp.tanh(sums) / sums.shape[-1], "gradient"),
        (lambda sums, train: jax.nn.softmax(sums), "gradient"),
        (lambda sums, train: _looped(sums, jnp.tanh), ""),
        (lambda sums, train: _looped(sums, _centred), "gradient"),
    ],
)
def test_what_counts_padding_is_refused_in_training_or_when_scored(hide, wrong):
    if wrong:
        with pytest.raises(UserError, match=rf"has other {wrong}.*width_bucket=1"):
            _check(lambda width: _own(width, hide))
    else:
        _check(lambda width: _own(width, hide))


def test_weights_of_another_kind_are_refused():
    def make(width: int) -> Model:
        names = [f"unit{index}" for index in range(width)]

        def init(key: jax.Array) -> Variables:
            return Variables({name: jnp.ones((64, 3)) for name in names}, {})

        def apply(params, state, x, *, train, key):
            return x.reshape(len(x), -1) @ sum(params.values()), state

        return Model(init, apply)

    with pytest.raises(UserError, match="other names or axes"):
        _check(make)
    with pytest.raises(UserError, match="other names or axes"):
        _check(lambda width: build_model("mlp", width, 1, (8, 8, 1), 3), (6, 4))


class _Tagger(linen.Module):
    """Tokens to scores; another name for the flag, a collection of its own."""

    @linen.compact
    def __call__(self, tokens: jax.Array, deterministic: bool) -> jax.Array:
        count = self.variable("counts", "steps", lambda: jnp.zeros(()))
        if not deterministic:
            count.value += 1
        x = linen.Embed(7, 6)(tokens)
        return linen.Dense(7)(linen.Dropout(0.5)(x, deterministic=deterministic))


def test_linen_carries_collections_and_randomness():
    model = from_linen(_Tagger(), (5,), jnp.int32, embeddings=frozenset({"Embed_0"}))
    assert model.num_params_total == 7 * 6 + 6 * 7 + 7
    assert model.num_params == 6 * 7 + 7
    params, state = model.init(jax.random.key(0))
    x = jnp.arange(10).reshape(2, 5) % 7
    first, second = (
        model.apply(params, state, x, train=True, key=jax.random.key(seed))
        for seed in (1, 2)
    )
    assert not np.allclose(first[0], second[0])
    assert float(first[1]["counts"]["steps"]) == 1
    same = [
        model.apply(params, state, x, train=False, key=jax.random.key(seed))
        for seed in (1, 2)
    ]
    jax.tree.map(np.testing.assert_array_equal, *same)
    jax.tree.map(np.testing.assert_array_equal, same[0][1], state)


def test_linen_without_a_flag_or_state():
    model = from_linen(linen.Dense(3), (4,))
    params, state = model.init(jax.random.key(0))
    assert state == {}
    x, key = jnp.ones((2, 4)), jax.random.key(0)
    logits, after = model.apply(params, state, x, train=True, key=key)
    assert after == {}
    expected = x @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def _study(name: str) -> config.Experiment:
    return config.Experiment(
        name="x",
        family=f"experiments.families.{name}",
        grid=config.Grid(
            widths=(4,), depths=(1,), data_fractions=(0.5, 1.0), seeds=2
        ),
        training=config.Training(optimizer="adam", learning_rate=1e-2, epochs=4,
                                 batch_size=4),
        packing=config.Packing(lanes=1, chunk_steps=2),
    )  # fmt: skip


@every_family
def test_killed_and_resumed_is_straight_through(name, tmp_path):
    dataset, experiment = _dataset(name), _study(name)
    cells = grid.make_cells(experiment, dataset)
    devices = jax.devices()[:1]

    def train(done, folder=None):
        plan = ensemble.plan_cells(
            experiment, dataset, cells, done=done, devices=devices
        )
        saving = {"checkpoint_dir": folder, "checkpoint_minutes": 1e-9}
        return ensemble.train(plan, dataset, devices=devices, **saving)

    straight = {row.cell_id: row for news in train(()) for row in news.rows}
    assert len(straight) == 4
    news = train((), tmp_path / "unfinished")
    first = next(news).rows
    news.close()
    done = {row.cell_id for row in first}
    rest = [row for news in train(done, tmp_path / "unfinished") for row in news.rows]
    for row in [*first, *rest]:
        expected = straight.pop(row.cell_id)
        for metric in ("loss", "error"):
            assert row.read(metric) == expected.read(metric)
    assert not straight


def test_a_wrong_claim_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    """By the plan, where widths would share a program, and only there."""
    source = (ROOT / "experiments" / "families" / "mixer.py").read_text()
    source = source.replace("LayerNorm(width)", "nnx.LayerNorm(width, rngs=rngs)")
    (tmp_path / "claims.py").write_text(source.replace("import LayerNorm, ", "import "))
    monkeypatch.syspath_prepend(tmp_path)
    experiment = _study("mixer")
    experiment.family, experiment.grid.widths = "claims", (4, 6)
    experiment.packing.width_bucket = 2.0
    with pytest.raises(UserError, match="family='claims': says can_be_padded, but"):
        ensemble.plan_cells(experiment, IMAGES, grid.make_cells(experiment, IMAGES))
    experiment.packing.width_bucket = 1.0
    plan = ensemble.plan_cells(experiment, IMAGES, grid.make_cells(experiment, IMAGES))
    assert len(plan.packs) == 2


HEADS = """
import jax
import jax.numpy as jnp
from scalepred.models.model import Model, Variables

def build(width, depth, shape, classes):
    heads = max(1, width // 4)

    def init(key):
        first, last = jax.random.split(key)
        params = {"hidden": jax.random.normal(first, (64, width)) / 8,
                  "output": jax.random.normal(last, (width, classes)) / 8}
        return Variables(params, {})

    def apply(params, state, x, *, train, key):
        hidden = jnp.tanh(x.reshape(len(x), -1) @ params["hidden"])
        # Units of a head that is all padding are left alone.
        groups = hidden.reshape(len(x), heads, -1)
        size = jnp.sqrt(jnp.sum(groups**2, axis=-1, keepdims=True) + 1.0)
        return (groups / size).reshape(len(x), -1) @ params["output"], state

    return Model(init, apply, can_be_padded=True)
"""


def test_every_width_of_a_pack_is_tried(tmp_path, monkeypatch):
    """Heads of four units: 4 fits into 8 exactly, 6 (one head of six) does not."""
    (tmp_path / "heads.py").write_text(HEADS)
    monkeypatch.syspath_prepend(tmp_path)
    experiment = _study("mixer")
    experiment.family, experiment.packing.width_bucket = "heads", 2.0
    experiment.grid.widths = (4, 8)
    plan = ensemble.plan_cells(experiment, IMAGES, grid.make_cells(experiment, IMAGES))
    assert [pack.widths for pack in plan.packs] == [(4, 8)]
    experiment.grid.widths = (4, 6, 8)
    with pytest.raises(UserError, match="family='heads': says can_be_padded, but"):
        ensemble.plan_cells(experiment, IMAGES, grid.make_cells(experiment, IMAGES))

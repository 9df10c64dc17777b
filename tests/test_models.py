"""Every family: pure functions, counts that add up, and what the law counts."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scalepred import config
from scalepred.data.task import cross_entropy
from scalepred.models import initializers, layers
from scalepred.models.model import build_model, from_nnx
from scalepred.models.product import multiply


@pytest.mark.parametrize("width", [1, 4, 32])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp_counts(width, depth):
    model = build_model("mlp", width, depth, (8, 8), 10)
    hidden = 64 * width + width + (depth - 1) * (width * width + width)
    total = hidden + 10 * width + 10
    assert model.num_params_by_group == {"layers": total}
    assert model.num_params == model.num_params_total == total
    variables = model.init(jax.random.key(0))
    sizes = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    assert sizes == model.num_params_total


def test_mlp_is_a_tanh_network():
    model = build_model("mlp", 5, 2, (3,), 4)
    params, state = model.init(jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (7, 3))
    logits, _ = model.apply(params, state, x, train=True, key=jax.random.key(0))
    first, second, last = (params["layers"][index] for index in range(3))
    h = jnp.tanh(x @ first["kernel"] + first["bias"])
    h = jnp.tanh(h @ second["kernel"] + second["bias"])
    expected = h @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_forward_flops_are_those_of_the_products():
    """Two a weight and example; what the compiler adds for tanh and bias is small."""
    model = build_model("mlp", 64, 2, (64,), 10)
    weights = 64 * 64 * 2 + 64 * 10
    example = jax.ShapeDtypeStruct((64,), jnp.float32)
    assert 2 * weights <= model.count_forward_flops(example) < 2.1 * weights


def test_init_depends_on_the_key_alone():
    model = build_model("mlp", 4, 2, (3,), 2)
    first, again = model.init(jax.random.key(0)), jax.jit(model.init)(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = model.init(jax.random.key(1))
    for index in range(3):
        kernels = [v.params["layers"][index]["kernel"] for v in (first, other)]
        assert not np.array_equal(*kernels)


def test_mlp_starts_with_variance_one_over_fan_in():
    params, _ = build_model("mlp", 200, 2, (8, 8), 10).init(jax.random.key(0))
    for layer in params["layers"].values():
        fan_in = layer["kernel"].shape[0]
        assert float(layer["kernel"].std()) == pytest.approx(fan_in**-0.5, rel=0.05)
        assert float(abs(layer["bias"]).max()) == 0


@pytest.mark.parametrize("name", ["mlp", "transformer", "context_mlp"])
def test_all_first_weights_are_drawn_in_one_call(name):
    """Each call takes as long to compile as the rest of a small network."""
    model = build_model(name, 16, 3, (8,), 5)
    jaxpr = str(jax.make_jaxpr(model.init)(jax.random.key(0)))
    assert jaxpr.count(" random_bits[") == 1
    found = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
        lambda x: (x.shape, x.dtype), model.shapes
    )


class _Mixed(nnx.Module):
    """Weights drawn at once, of two kinds, and one by flax with a key of its own."""

    def __init__(self, rngs: nnx.Rngs):
        make = functools.partial(layers.Linear, 30, 20, use_bias=False, rngs=rngs)
        of_flax = nnx.initializers.uniform(1.0)
        self.weights = nnx.List(
            [
                make(kernel_init=of_flax),
                make(kernel_init=initializers.uniform(1.0)),
                make(kernel_init=initializers.normal(1.0)),
                make(kernel_init=initializers.normal(1.0)),
            ]
        )


def test_initialisers_of_all_kinds_are_independent_and_have_their_variance():
    params, _ = from_nnx(_Mixed).init(jax.random.key(0))
    drawn = [np.ravel(params["weights"][index]["kernel"]) for index in range(4)]
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.15
    for one, variance in zip(drawn, (1 / 12, 1 / 3, 1, 1), strict=True):
        assert np.var(one) == pytest.approx(variance, rel=0.2)
    # Elsewhere they are initialisers as any other: by the key alone.
    init = initializers.fan_in_normal(2.0)
    first, again, other = (init(jax.random.key(k), (400, 9)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert float(first.std()) == pytest.approx(2 / 400**0.5, rel=0.05)


@pytest.mark.parametrize("norm", [layers.RMSNorm, layers.LayerNorm])
def test_norms_are_those_of_flax_where_nothing_is_padded(norm):
    x = jax.random.normal(jax.random.key(0), (3, 4, 6)) + 1
    of_flax = {"RMSNorm": nnx.RMSNorm, "LayerNorm": nnx.LayerNorm}[norm.__name__]
    expected = of_flax(6, rngs=nnx.Rngs(0))(x)
    np.testing.assert_allclose(norm(6)(x), expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_is_that_of_flax_and_keeps_its_precision():
    x = 3 * jax.random.normal(jax.random.key(0), (9, 5)) + 2
    settings = {"momentum": 0.9, "use_fast_variance": False, "rngs": nnx.Rngs(0)}
    ours, theirs = layers.BatchNorm(5, rngs=nnx.Rngs(0)), nnx.BatchNorm(5, **settings)
    for _ in range(2):
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.mean[...], theirs.mean[...], rtol=1e-5)
    np.testing.assert_allclose(ours.var[...], theirs.var[...], rtol=1e-5)
    for norm in (ours, theirs):
        norm.eval()
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    ours.train()
    assert ours(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert ours.mean[...].dtype == ours.var[...].dtype == jnp.float32


class _Fancy(nnx.Module):
    """Embedding, BatchNorm and dropout: everything the adapter must carry."""

    def __init__(self, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(11, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.output = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = self.dropout(self.norm(self.embedding(x)), rngs=rngs)
        return self.output(x)


def test_adapter_carries_state_and_randomness():
    model = from_nnx(_Fancy, embeddings=frozenset({"embedding"}))
    assert model.num_params_total == 11 * 6 + 2 * 6 + 6 * 3 + 3
    assert model.num_params == model.num_params_total - 11 * 6
    params, state = model.init(jax.random.key(0))
    x = jnp.arange(8)
    keys = jax.random.split(jax.random.key(1))
    first, after = model.apply(params, state, x, train=True, key=keys[0])
    second, _ = model.apply(params, state, x, train=True, key=keys[1])
    assert not np.allclose(first, second)  # dropout
    assert not np.allclose(state["norm"]["mean"], after["norm"]["mean"])
    assert jax.tree.structure(state) == jax.tree.structure(after)
    # In evaluation nothing is random and nothing changes.
    first, same = model.apply(params, after, x, train=False, key=keys[0])
    second, _ = model.apply(params, after, x, train=False, key=keys[1])
    np.testing.assert_array_equal(first, second)
    jax.tree.map(np.testing.assert_array_equal, after, same)


def test_cross_entropy():
    logits = jnp.array([[0.0, math.log(3.0)], [50.0, -50.0], [1000.0, 0.0]])
    loss = cross_entropy(logits, jnp.array([0, 0, 1]))
    np.testing.assert_allclose(loss, [math.log(4.0), 0.0, 1000.0], rtol=1e-6)


@pytest.mark.parametrize("sizes", [(3, 2), (2, 3), (300, 500)], ids=str)
def test_products_and_their_derivatives(sizes):
    """Against numpy, in float64: of many axes, side by side, small and large."""
    inputs, outputs = sizes
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = random.normal(size=(4, 5, 2, inputs))  # four lanes
        weights = random.normal(size=(4, inputs, outputs, 1))
        dy = random.normal(size=(4, 5, 2, outputs, 1))
        y, pull = jax.vjp(jax.jit(jax.vmap(multiply)), x, weights)
        dx, dweights = jax.jit(pull)(dy)
        assert (y.dtype, dx.dtype, dweights.dtype) == (np.float64,) * 3
        for found, formula, factors in (
            (y, "labi,lioj->laboj", (x, weights)),
            (dx, "laboj,lioj->labi", (dy, weights)),
            (dweights, "labi,laboj->lioj", (x, dy)),
        ):
            expected = np.einsum(formula, *factors)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_factors_of_small_derivatives_are_turned_first():
    """Else a CPU reads along columns, which no result shows: the compiled text does."""

    def find_turned(rows, inputs, outputs):
        def loss(weights, x):
            return jnp.sum(jnp.square(multiply(x, weights)))

        shapes = (jnp.ones((3, inputs, outputs)), jnp.ones((3, rows, inputs)))
        step = jax.jit(jax.vmap(jax.grad(loss)))
        text = step.lower(*shapes).compile().as_text()
        assert text is not None
        turned = re.findall(r"f32\[3,(\d+),(\d+)\]\S* transpose\(", text)
        return {tuple(map(int, shape)) for shape in turned}

    assert (8, 32) in find_turned(32, 8, 16)  # x
    assert (8, 32) in find_turned(32, 16, 8)  # dy
    assert not find_turned(32, 200, 300)


@pytest.mark.parametrize("name", ["mpl", "model", "no.such", ""])
def test_an_unknown_family_lists_the_known_ones(name):
    with pytest.raises(config.UserError, match=r"family=.*choose one of .*mlp, "):
        build_model(name, 1, 1, (1,), 2)


def test_a_dotted_path_needs_no_registry(tmp_path, monkeypatch):
    (tmp_path / "my_models").mkdir()
    (tmp_path / "my_models" / "linear.py").write_text(
        "from scalepred.models import mlp\n"
        "def build(width, depth, input_shape, num_classes):\n"
        "    return mlp.build(1, 0, input_shape, num_classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build_model("my_models.linear", 9, 9, (5,), 2).num_params == 5 * 2 + 2

"""FLOPs of every family, against a count by hand; loops count as often as they go."""

import importlib
import itertools
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepred import models
from scalepred.config import UserError
from scalepred.models import flops
from scalepred.models.convolution import FORMS
from scalepred.models.model import Model, build_model, from_nnx
from scalepred.models.target import traced_as

PIXELS, CLASSES = 32, 10
WINDOW, WORDS = 12, 50


def _shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


# By hand: multiply-adds of a convolution of `size` pixels, with as many zeros around
# the image as keep it; those with a zero are left out.


def _conv3(size: int, inputs: int, outputs: int) -> int:
    """Two of three rows at each end, all three between."""
    return (3 * size - 2) ** 2 * inputs * outputs


def _conv3_stride2(size: int, inputs: int, outputs: int) -> int:
    """Of an even size: one zero, after the image."""
    return (3 * size // 2 - 1) ** 2 * inputs * outputs


def _conv7(size: int, inputs: int, outputs: int) -> int:
    """At each end three, two and one taps are on zeros."""
    return (7 * size - 12) ** 2 * inputs * outputs


def _conv1(size: int, inputs: int, outputs: int) -> int:
    return size**2 * inputs * outputs


def _mlp(width: int, depth: int) -> int:
    return PIXELS**2 * 3 * width + (depth - 1) * width**2 + width * CLASSES


def _wide_resnet(width: int, depth: int) -> int:
    more = depth // 6 - 1  # blocks of a stage after its first
    w, size = width, PIXELS
    found = _conv3(size, 3, w) + (2 + 2 * more) * _conv3(size, w, w)
    for before, after in ((w, 2 * w), (2 * w, 4 * w)):
        found += _conv3_stride2(size, before, after)
        found += _conv1(size // 2, before, after)  # the shortcut
        size //= 2
        found += (1 + 2 * more) * _conv3(size, after, after)
    return found + 4 * w * CLASSES


def _vgg16bn(width: int, depth: int) -> int:
    assert depth == 16
    w = width
    channels = [3, w, w, 2 * w, 2 * w, *[4 * w] * 3, *[8 * w] * 6]
    sizes = [32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2]
    convs = sum(map(_conv3, sizes, channels, channels[1:]))
    return convs + 2 * (8 * w) ** 2 + 8 * w * CLASSES


def _densenet(width: int, depth: int) -> int:
    assert depth == 10  # two layers a block
    k, c = width, width // 2
    found = _conv3(32, 3, c)
    for size in (32, 16, 8):
        found += _conv3(size, c, k) + _conv3(size, c + k, k)
        c += 2 * k
        if size > 8:
            found += _conv1(size, c, c)
    return found + c * CLASSES


def _resnet50(width: int, depth: int) -> int:
    assert depth == 14  # one block a stage
    found, inputs = _conv7(32, 3, width), width
    for before, after, c in (
        (16, 16, width),
        (16, 8, 2 * width),
        (8, 4, 4 * width),
        (4, 2, 8 * width),
    ):
        work = _conv3 if before == after else _conv3_stride2
        found += _conv1(before, inputs, c) + work(before, c, c)
        found += _conv1(after, c, 4 * c) + _conv1(after, inputs, 4 * c)
        inputs = 4 * c
    return found + inputs * CLASSES


def _blocks(width: int, depth: int, time: int) -> int:
    """Attention (queries, keys, values, out; scores and mixture), 4 `width` units."""
    return depth * time * ((4 + 8) * width**2 + 2 * time * width)


def _transformer(width: int, depth: int) -> int:
    return _blocks(width, depth, WINDOW) + WINDOW * width * WORDS


def _vit(width: int, depth: int) -> int:
    patches = (PIXELS // 4) ** 2
    into = patches * 4 * 4 * 3 * width
    return into + _blocks(width, depth, patches) + width * CLASSES


def _awd_lstm(width: int, depth: int, outside: int = 400) -> int:
    """Four gates, each of the layer's input and its own output before, every word."""
    sizes = [outside, *[width] * (depth - 1), outside]
    layers = sum(
        4 * after * (before + after) for before, after in itertools.pairwise(sizes)
    )
    return WINDOW * (layers + outside * WORDS)


def _awd_lstm_small(width: int, depth: int) -> int:
    return _awd_lstm(width, depth, 32)


def _transformer_xl(width: int, depth: int) -> int:
    """Keys, values and distances are twice the window, as they have the memory."""
    size, keys = 410, 2 * WINDOW
    weights = (2 * WINDOW + 3 * keys) * size**2  # query and out; key, value, distance
    scores = 3 * WINDOW * keys * size  # content, position; mixture
    layer = weights + scores + 2 * WINDOW * size * width
    return depth * layer + WINDOW * size * WORDS


def _context_mlp(width: int, depth: int) -> int:
    """Eight embeddings of 16 features are read at every position."""
    return WINDOW * (8 * 16 * width + (depth - 1) * width**2 + width * WORDS)


class Case(NamedTuple):
    """A family, where it is counted, and its multiply-adds by hand."""

    width: int
    depth: int
    reads: str
    by_hand: Callable[[int, int], int]


CASES = {
    "mlp": Case(32, 3, "images", _mlp),
    "wide_resnet": Case(6, 20, "images", _wide_resnet),
    "vgg16bn": Case(4, 16, "images", _vgg16bn),
    "densenet": Case(8, 10, "images", _densenet),
    "resnet50": Case(4, 14, "images", _resnet50),
    "transformer": Case(32, 2, "text", _transformer),
    "transformer_mup": Case(48, 3, "text", _transformer),
    "vit": Case(32, 2, "images", _vit),
    "awd_lstm": Case(40, 3, "text", _awd_lstm),
    "awd_lstm_small": Case(40, 2, "text", _awd_lstm_small),
    "awd_lstm_wikitext2": Case(24, 2, "text", _awd_lstm),
    "context_mlp": Case(24, 3, "text", _context_mlp),
    "transformer_xl": Case(24, 2, "text", _transformer_xl),
}


def _build(family: str) -> tuple[Model, jax.ShapeDtypeStruct]:
    """A new model, of which nothing has been counted yet."""
    case = CASES[family]
    if case.reads == "images":
        example, classes = _shape(PIXELS, PIXELS, 3), CLASSES
    else:
        example, classes = jax.ShapeDtypeStruct((WINDOW,), jnp.int32), WORDS
    module = importlib.import_module(f"scalepred.models.{family}")
    return module.build(case.width, case.depth, example.shape, classes), example


def test_no_family_is_left_out():
    names = [module.name for module in pkgutil.iter_modules(models.__path__)]
    modules = [importlib.import_module(f"scalepred.models.{name}") for name in names]
    families = {
        name
        for name, module in zip(names, modules, strict=True)
        if hasattr(module, "build")
    }
    assert families == set(CASES)


@pytest.mark.parametrize("family", CASES)
def test_products_are_those_counted_by_hand(family):
    case = CASES[family]
    model, example = _build(family)
    found = model.count_forward(example)
    assert found.products == 2 * case.by_hand(case.width, case.depth)
    # Norms, gates, softmax, biases: little, but of narrow networks more.
    assert 0 < found.others < 0.15 * found.products
    assert model.count_forward_flops(example) == found.products + found.others


@pytest.mark.parametrize("family", ["mlp", "vgg16bn", "vit", "transformer_xl"])
def test_the_same_wherever_and_however_it_is_traced(family):
    model, example = _build(family)
    expected = model.count_forward(example)
    for form in FORMS:
        for platform in ("cpu", "gpu", "tpu"):
            model, example = _build(family)
            with traced_as(form, platform):
                assert model.count_forward(example) == expected


def test_without_loops_it_is_nearly_what_the_compiler_counts():
    """Which knows of zeros around images, but not of exp and tanh."""
    for family in ("mlp", "wide_resnet", "transformer", "vit"):
        model, example = _build(family)

        def forward(variables: Any, x: jax.Array, model: Model = model) -> jax.Array:
            key = jax.random.key(0)
            params, state = variables
            return model.apply(params, state, x[None], train=False, key=key)[0]

        with traced_as("native"):
            lowered = jax.jit(forward).lower(model.shapes, example)
        compilers = (lowered.cost_analysis() or {})["flops"]
        assert model.count_forward_flops(example) == pytest.approx(compilers, rel=0.02)


def test_what_is_not_a_product_is_one_an_element():
    """Two hidden layers: biases and tanh; then the last biases."""
    model = build_model("mlp", 8, 2, (3,), 4)
    assert model.count_forward(_shape(3)).others == 2 * (8 + 8) + 4


class _Reader(nnx.Module):
    """A GRU of 7 units over a window of 5 features, its last state classified."""

    def __init__(self, rngs: nnx.Rngs):
        self.inputs = nnx.Param(jax.random.normal(rngs.params(), (3, 5, 7)))
        self.own = nnx.Param(jax.random.normal(rngs.params(), (3, 7, 7)))
        self.output = nnx.Linear(7, 3, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs
        inputs, own = self.inputs[...], self.own[...]

        def step(state, x):
            update = nnx.sigmoid(x @ inputs[0] + state @ own[0])
            reset = nnx.sigmoid(x @ inputs[1] + state @ own[1])
            fresh = jnp.tanh(x @ inputs[2] + reset * (state @ own[2]))
            return update * state + (1 - update) * fresh, None

        state, _ = jax.lax.scan(step, jnp.zeros((len(x), 7)), jnp.swapaxes(x, 0, 1))
        return self.output(state)


@pytest.mark.parametrize("words", [1, 9, 40])
def test_a_gru_of_ones_own(words):
    """Three gates of 7 units, each of 5 inputs and 7 units, every word."""
    found = from_nnx(_Reader).count_forward(_shape(words, 5))
    assert found.products == 2 * (words * 3 * 7 * (5 + 7) + 7 * 3)
    # Of each unit: 3 sums, 3 gates, 1 reset, 4 for the mixture.
    assert found.others == words * 7 * 11


def _step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    state = jnp.tanh(state @ jnp.ones((6, 6)) + x)
    return state, jnp.sum(state)


@given(length=st.integers(0, 50), outer=st.integers(1, 5), batch=st.integers(1, 4))
def test_a_scan_takes_its_body_as_often_as_it_is_long(length, outer, batch):
    state, x = _shape(batch, 6), _shape(batch, 6)
    once = flops.count(_step, state, x)
    assert once.products == 2 * batch * 6 * 6
    assert once.others == 3 * batch * 6

    def run(state, xs):
        return jax.lax.scan(_step, state, xs)

    inner = flops.count(run, state, _shape(length, batch, 6))
    assert inner == (length * once.products, length * once.others)
    nested = flops.count(
        lambda state, xs: jax.lax.scan(run, state, xs),
        state,
        _shape(outer, length, batch, 6),
    )
    assert nested == (outer * inner.products, outer * inner.others)


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    spread=st.integers(1, 2),
    spread_taps=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    before=st.integers(2, 4),
    after=st.integers(-1, 4),
)
def test_convolutions_are_counted_tap_by_tap(
    size, taps, strides, spread, spread_taps, groups, before, after
):
    """On images and kernels of ones the result is the number of products itself."""
    x = np.ones((2, *size, 4), np.float32)
    kernel = np.ones((*taps, 4 // groups, 8), np.float32)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, ((before, after), (after, before)),
            (spread, spread), (spread_taps, spread_taps),
            ("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip

    multiplications = int(np.sum(convolve(x, kernel)))
    assert flops.count(convolve, x, kernel) == (2 * multiplications, 0)


def _product(x: jax.Array) -> jax.Array:
    return x @ x


@jax.custom_vjp
def _own_derivative(x: jax.Array) -> jax.Array:
    return x @ x


_own_derivative.defvjp(lambda x: (x @ x, x), lambda x, dy: (dy @ x,))


@jax.custom_jvp
def _own_tangent(x: jax.Array) -> jax.Array:
    return x @ x


_own_tangent.defjvp(lambda x, dx: (x[0] @ x[0], dx[0] @ x[0]))


@pytest.mark.parametrize(
    "function",
    [
        jax.jit(_product),
        jax.checkpoint(_product),
        _own_derivative,
        _own_tangent,
        jax.jit(jax.checkpoint(jax.jit(_own_derivative))),
    ],
)
def test_calls_are_looked_into(function):
    assert flops.count(function, _shape(4, 4)) == (2 * 4**3, 0)


def test_products_of_a_batch():
    found = flops.count(
        lambda a, b: jnp.einsum("bijk,bjk->bi", a, b),
        _shape(3, 5, 2, 7),
        _shape(3, 2, 7),
    )
    assert found.products == 2 * 3 * 5 * 2 * 7


def test_of_a_branch_the_larger_side_counts():
    def either(is_long, x):
        return jax.lax.cond(is_long, lambda x: x @ x @ x, lambda x: x + x, x)

    assert flops.count(either, True, _shape(4, 4)) == (2 * 2 * 4**3, 0)


def test_moves_and_whole_numbers_are_free():
    def move(table, index):
        rows = jnp.concatenate([table[index], table[index + 1]])
        return jnp.where(rows > 0, rows, 0).T.astype(jnp.bfloat16)

    assert flops.count(move, _shape(9, 4), np.arange(5)) == (0, 0)


def test_reductions_and_pooling_count_what_they_read():
    assert flops.count(jnp.sum, _shape(6, 5)) == (0, 30)
    pooled = flops.count(lambda x: nnx.max_pool(x, (2, 3), (2, 3)), _shape(1, 8, 9, 2))
    assert pooled == (0, 8 * 9 * 2)


@pytest.mark.parametrize(("begin", "end", "rounds"), [(0, 6, 6), (2, 6, 4), (6, 2, 0)])
def test_a_while_loop_that_counts_to_a_constant(begin, end, rounds):
    def repeat(x):
        return jax.lax.while_loop(
            lambda state: state[1] < end,
            lambda state: (state[0] @ x, state[1] + 1),
            (x, begin),
        )

    assert flops.count(repeat, _shape(3, 3)) == (rounds * 2 * 3**3, 0)


@pytest.mark.parametrize(
    ("goes_on", "advance"),
    [
        (lambda x, i: x[0, 0] < 6, lambda i: i + 1),  # a number of the data
        (lambda x, i: i < 6, lambda i: i + 2),
        (lambda x, i: i < 6, lambda i: i * 2),
        (lambda x, i: i != 6, lambda i: i + 1),
    ],
)
def test_a_loop_of_unknown_length_is_refused(goes_on, advance):
    def repeat(x):
        return jax.lax.while_loop(
            lambda state: goes_on(*state),
            lambda state: (state[0] @ x, advance(state[1])),
            (x, 0),
        )

    with pytest.raises(UserError, match=r"while loop.*jax\.lax\.scan"):
        flops.count(repeat, _shape(3, 3))


def test_what_cannot_be_looked_into_is_refused():
    with pytest.raises(UserError, match=r"cholesky.*cannot be counted"):
        flops.count(jnp.linalg.cholesky, _shape(3, 3))

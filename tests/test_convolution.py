"""Every form of a convolution is the same function, derivatives included."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred.models.convolution import FORMS, conv_general_dilated, convolve
from scalepred.models.target import traced_as

SHAPES = [
    (size, taps, stride)
    for size in ((8, 8), (7, 9))
    for taps in (1, 3, 5)
    for stride in (1, 2, 3)
]


def _reference(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_the_plain_convolution(form):
    for size, taps, stride in SHAPES:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, *size, 3))
        kernel = jax.random.normal(keys[1], (taps, taps, 3, 4))
        y, pull = jax.vjp(lambda x, k, s=stride: _reference(x, k, s), x, kernel)
        dy = jax.random.normal(keys[2], y.shape)
        with traced_as(form):
            found, found_pull = jax.vjp(
                lambda x, k, s=stride: convolve(x, k, s), x, kernel
            )
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
        for one, other in zip(found_pull(dy), pull(dy), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("form", "groups"), [("auto", 4), ("native", 4), ("auto", 2)])
def test_channels_in_groups(form, groups):
    """4 of 4 is depthwise; of stride 3 the last rows meet no tap."""
    for size, taps, stride in (((7, 9), 3, 1), ((8, 8), 5, 2), ((8, 8), 1, 3)):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, *size, 4))
        kernel = jax.random.normal(keys[1], (taps, taps, 4 // groups, 4))
        arguments = {
            "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
            "feature_group_count": groups,
        }
        y, pull = jax.vjp(
            lambda x, k, s=stride, more=arguments: jax.lax.conv_general_dilated(
                x, k, (s, s), "SAME", **more
            ),
            x,
            kernel,
        )
        dy = jax.random.normal(keys[2], y.shape)
        with traced_as(form):
            found, found_pull = jax.vjp(
                lambda x, k, s=stride: convolve(x, k, s, groups), x, kernel
            )
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
        for one, other in zip(found_pull(dy), pull(dy), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_not_ours_is_the_compilers_own():
    """As flax's layers ask for it: other padding, dilation, one or three axes."""
    x, kernel = (
        jax.random.normal(jax.random.key(0), (2, 9, 9, 3)),
        jnp.ones((3, 3, 3, 2)),
    )
    layout = ("NHWC", "HWIO", "NHWC")
    for padding, dilation in (
        ("VALID", (1, 1)),
        ("SAME", (2, 2)),
        ([(2, 0)] * 2, (1, 1)),
    ):
        arguments = {"rhs_dilation": dilation, "dimension_numbers": layout}
        found = conv_general_dilated(x, kernel, (1, 1), padding, **arguments)
        wanted = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, **arguments)
        np.testing.assert_array_equal(found, wanted)


def test_convolutions_in_a_loop_are_all_of_the_fast_kind():
    """Others fall to XLA's naive emitter there, twenty times as slow."""
    if jax.default_backend() != "cpu":
        pytest.skip("what the CPU compiler does to convolutions")

    def loss(kernel, x):
        return jnp.sum(convolve(convolve(x, kernel), kernel, 2) ** 2)

    def train(kernel, x):
        return jax.lax.fori_loop(
            0, 3, lambda _, k: k - 1e-3 * jax.grad(loss)(k, x), kernel
        )

    shapes = jnp.zeros((3, 3, 6, 6)), jnp.zeros((2, 8, 8, 6))
    text = jax.jit(train).lower(*shapes).compile().as_text()
    assert text is not None
    labels = re.findall(r" convolution\(.*dim_labels=([\w>\-]+)", text)
    assert len(labels) == 5  # two forward, two kernels, one image
    assert set(labels) == {"b01f_01io->b01f"}


def test_the_kernel_of_patches_is_derived_with_few_rows_first():
    """The other way round takes more than twice as long, and XLA prefers it."""
    if jax.default_backend() != "cpu":
        pytest.skip("what the CPU compiler does to products")

    def loss(kernel, x):
        return jnp.sum(convolve(x, kernel) ** 2)

    with traced_as("patches"):
        gradient = jax.jit(jax.grad(loss))
        lowered = gradient.lower(jnp.zeros((3, 3, 4, 5)), jnp.zeros((2, 8, 8, 4)))
    text = lowered.compile().as_text()
    assert text is not None
    assert re.search(r"f32\[5,36\]\S* dot\(", text)
    assert not re.search(r"f32\[36,5\]\S* dot\(", text)


def test_the_form_ends_with_its_block():
    x, kernel = jnp.zeros((1, 4, 4, 8)), jnp.zeros((3, 3, 8, 8))

    def has_convolution():  # a new function each time, as traces are remembered
        text = str(jax.make_jaxpr(lambda x, kernel: convolve(x, kernel))(x, kernel))
        return "conv_general_dilated" in text

    with traced_as("patches"):
        assert not has_convolution()
        with traced_as("native"):
            assert has_convolution()
    assert has_convolution()


def test_few_channels_are_patches_on_a_cpu():
    def has_convolution(channels):
        x, kernel = jnp.zeros((1, 4, 4, channels)), jnp.zeros((3, 3, channels, 8))
        text = str(jax.make_jaxpr(lambda x, kernel: convolve(x, kernel))(x, kernel))
        return "conv_general_dilated" in text

    assert has_convolution(4) == (jax.default_backend() != "cpu")
    assert has_convolution(5)
    with traced_as("canonical"):
        assert has_convolution(4)

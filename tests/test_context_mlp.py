"""The MLP over eight tokens, and texts with a short test part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred.config import UserError
from scalepred.data import short_test, stdlib
from scalepred.models.model import build_model


@pytest.mark.parametrize("depth", [1, 2])
def test_sees_the_last_eight_tokens_and_no_others(depth):
    model = build_model("context_mlp", 12, depth, (32,), 50)
    variables = model.init(jax.random.key(0))
    shape = variables.params["output"]["kernel"].shape
    kernel = jax.random.normal(jax.random.key(1), shape)
    params = {**variables.params, "output": {"kernel": kernel}}

    def logits(x):
        found, _ = model.apply(
            params, variables.state, x, train=True, key=jax.random.key(0)
        )
        return np.asarray(found)[0]

    x = jax.random.randint(jax.random.key(2), (1, 32), 0, 50)
    changed = logits(x.at[0, 10].set((x[0, 10] + 1) % 50)) != logits(x)
    assert changed.any(axis=-1).nonzero()[0].tolist() == list(range(10, 18))


def test_m_counts_layers_and_grows_with_the_width():
    assert build_model("context_mlp", 4, 1, (32,), 50).num_params == 4 * (8 * 16 + 1)
    two = build_model("context_mlp", 4, 2, (32,), 50)
    assert two.num_params == 4 * (8 * 16 + 1) + 4 * (4 + 1)


def test_its_first_loss_is_that_of_a_guess():
    model = build_model("context_mlp", 4, 1, (32,), 50)
    variables = model.init(jax.random.key(0))
    x = jnp.zeros((2, 32), jnp.uint8)
    logits, _ = model.apply(*variables, x, train=True, key=jax.random.key(0))
    assert not np.any(logits)


def test_takes_no_images():
    with pytest.raises(UserError, match="takes windows of tokens"):
        build_model("context_mlp", 4, 1, (8, 8, 3), 10)


def test_a_short_test_part_leaves_the_train_part_alone():
    whole, short = stdlib.load(), short_test.load("stdlib")
    assert short.name == "stdlib_short"
    assert short.num_test * short.units_per_example == 65_536
    train = slice(whole.num_train)
    assert np.array_equal(short.inputs[train], whole.inputs[train])
    test = {row.tobytes() for row in np.asarray(whole.inputs[whole.num_train :])}
    assert all(row.tobytes() in test for row in short.inputs[short.num_train :])
    with pytest.raises(UserError, match="is not a text"):
        short_test.load("digits")


def test_handwritten_sources_are_a_part_of_all():
    whole, own = stdlib.load(), stdlib.load("handwritten")
    assert own.name == "stdlib_handwritten"
    assert 0.7 * whole.num_train < own.num_train < 0.95 * whole.num_train
    with pytest.raises(UserError, match="dataset=stdlib:tables"):
        stdlib.load("tables")

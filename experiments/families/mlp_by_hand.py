"""A family without flax: two pure functions over dicts. One hidden layer of relu."""

import math

import jax
import jax.numpy as jnp

from scalepred.models.model import Model, Tree, Variables


def build(width: int, depth: int, shape: tuple[int, ...], classes: int) -> Model:
    inputs = math.prod(shape)

    def init(key: jax.Array) -> Variables:
        first, second = jax.random.split(key)
        hidden = jax.random.normal(first, (inputs, width)) / math.sqrt(inputs)
        output = jax.random.normal(second, (width, classes)) / math.sqrt(width)
        zeros = jnp.zeros(width)
        return Variables({"hidden": hidden, "bias": zeros, "output": output}, {})

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        hidden = x.reshape(len(x), -1) @ params["hidden"] + params["bias"]
        return jax.nn.relu(hidden) @ params["output"], state

    return Model(init, apply, can_be_padded=True)

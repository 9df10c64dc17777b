"""A module of flax Linen: convolutions of `width` channels, BatchNorm, dropout."""

import jax
from flax import linen as nn

from scalepred.models.model import Model, from_linen


class CNN(nn.Module):
    width: int
    depth: int
    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for _ in range(self.depth):
            x = nn.Conv(self.width, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.classes)(x)


def build(width: int, depth: int, shape: tuple[int, ...], classes: int) -> Model:
    return from_linen(CNN(width, depth, classes), shape)

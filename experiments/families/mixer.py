"""MLP-mixer: `depth` blocks of `width` channels over patches of 2x2 pixels.

Source: I. Tolstikhin et al., "MLP-Mixer", NeurIPS 2021. The layers across patches have
no biases, which would move channels of padding; norms count real channels.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.layers import LayerNorm, Linear, check_images, cut_patches
from scalepred.models.model import Model, from_nnx


class Block(nnx.Module):
    def __init__(self, patches: int, width: int, rngs: nnx.Rngs):
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.mix = Linear(patches, 2 * patches, use_bias=False, rngs=rngs)
        self.unmix = Linear(2 * patches, patches, use_bias=False, rngs=rngs)
        self.expand = Linear(width, 4 * width, rngs=rngs)
        self.contract = Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        across = jnp.swapaxes(self.norm1(x), 1, 2)
        x += jnp.swapaxes(self.unmix(nnx.gelu(self.mix(across))), 1, 2)
        return x + self.contract(nnx.gelu(self.expand(self.norm2(x))))


class Mixer(nnx.Module):
    def __init__(
        self,
        patches: tuple[int, int],
        width: int,
        depth: int,
        classes: int,
        rngs: nnx.Rngs,
    ):
        self.stem = Linear(patches[1], width, rngs=rngs)
        self.blocks = nnx.List([Block(patches[0], width, rngs) for _ in range(depth)])
        self.norm = LayerNorm(width)
        self.output = Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = self.stem(cut_patches(x, 2))
        for block in self.blocks:
            x = block(x)
        return self.output(jnp.mean(self.norm(x), axis=1))


def build(width: int, depth: int, shape: tuple[int, ...], classes: int) -> Model:
    check_images("mixer", shape)
    patches = (shape[0] * shape[1] // 4, 4 * shape[2])  # how many, of what size
    return from_nnx(
        lambda rngs: Mixer(patches, width, depth, classes, rngs), can_be_padded=True
    )

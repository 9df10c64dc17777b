"""Decoder-only transformer over windows of tokens: `depth` blocks of `width` features.

Pre-norm with RMSNorm, rotary positions, causal attention in heads of 16 features (one
head where the width is smaller), GELU layer of 4 `width` units, no biases, output
layer of its own. The law does not count the embedding and the output layer.

Standard parametrisation: weights start normal with variance 1 / fan-in, those that
write to the residual stream 1 / (2 depth fan-in), the embedding with variance 1, the
output layer at zero, so that the first loss is that of a guess.
"""

import functools
import math

import jax
import jax.numpy as jnp

from scalepred.config import UserError
from scalepred.models.attention import attend
from scalepred.models.model import Model, Tree, Variables, draw_arrays, multiply

_HEAD = 16  # features
_EPSILON = 1e-6


def build(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    base_width: int = 0,
) -> Model:
    """The decoder of that width and depth.

    Padding it with zeros adds heads that are zero, so from 16 features on it may be.

    Args:
        width: features; a multiple of 16, or an even number below.
        depth: blocks.
        input_shape: [positions].
        num_classes: size of the vocabulary.
        base_width: above 0: the maximal-update parametrisation, for Adam, that is the
            standard one at this width. Products with inner weights are multiplied by
            base_width / width, and the weights start so much larger, which is a rate
            proportional to 1 / width; so is the output layer, which starts at zero
            (Yang and Hu et al. 2021, "Tensor Programs V", table 8).

    Raises:
        UserError: a width that heads do not fill, or examples that are not windows.
    """
    if width % _HEAD and (width > _HEAD or width % 2):
        raise UserError(
            f"grid.widths={width}: a transformer has heads of {_HEAD} features; choose "
            f"a multiple of {_HEAD} or an even number below it"
        )
    if len(input_shape) != 1:
        raise UserError(
            f"family=transformer: takes windows of tokens [positions], not examples of "
            f"shape {input_shape}; choose another family or dataset"
        )
    head = min(_HEAD, width)
    heads = width // head

    def init(key: jax.Array) -> Variables:
        shapes = {
            "attend": (width, 3, heads, head),
            "project": (heads, head, width),
            "expand": (width, 4 * width),
            "contract": (4 * width, width),
        }
        every = [*shapes.values()] * depth + [(num_classes, width)]
        *drawn, embedding = draw_arrays(jax.random.normal, key, every)
        noise = iter(drawn)
        # Starts that much larger where the product is that much smaller.
        grown = width / base_width if base_width else 1.0
        to_stream = grown / math.sqrt(2 * depth)
        blocks = {}
        for index in range(depth):
            blocks[f"block{index}"] = {
                "attend": next(noise) * grown / math.sqrt(width),
                "project": next(noise) * to_stream / math.sqrt(width),
                "expand": next(noise) * grown / math.sqrt(width),
                "contract": next(noise) * to_stream / math.sqrt(4 * width),
                "norm1": jnp.ones(width),
                "norm2": jnp.ones(width),
            }
        params = {
            "embedding": embedding,
            **blocks,
            "norm": jnp.ones(width),
            "output": jnp.zeros((width, num_classes)),
        }
        # Carried along, as a padded lane does not know its true width otherwise.
        return Variables(params, {"width": jnp.float32(width)})

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        del train, key  # nothing random
        stream = params["embedding"][x]
        true_width = state["width"].astype(stream.dtype)
        shrink = base_width / true_width if base_width else 1.0
        norm = functools.partial(_normalise, true_width)
        is_past = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        for index in range(depth):
            block = params[f"block{index}"]
            queries, keys, values = jnp.moveaxis(
                multiply(norm(stream, block["norm1"]), block["attend"]) * shrink,
                2,
                0,
            )
            read = attend(_rotate(queries), _rotate(keys), values, is_past)
            read = read.reshape(stream.shape)
            stream += multiply(read, block["project"].reshape(width, width)) * shrink
            hidden = multiply(norm(stream, block["norm2"]), block["expand"]) * shrink
            stream += multiply(jax.nn.gelu(hidden), block["contract"]) * shrink
        logits = multiply(norm(stream, params["norm"]), params["output"]) * shrink
        return logits, state

    return Model(
        init,
        apply,
        embeddings=frozenset({"embedding", "output"}),
        can_be_padded=head == _HEAD,
    )


def _normalise(true_width: jax.Array, x: jax.Array, scale: jax.Array) -> jax.Array:
    """RMSNorm over the true features; those of padding are zero and stay so."""
    mean_square = jnp.sum(jnp.square(x), axis=-1, keepdims=True) / true_width
    return x * jax.lax.rsqrt(mean_square + _EPSILON) * scale


def _rotate(x: jax.Array) -> jax.Array:
    """Rotary positions (Su et al. 2021): pairs turned by angles 10000^(-i/pairs) t."""
    positions, pairs = x.shape[1], x.shape[-1] // 2
    speed = 10000.0 ** (-jnp.arange(pairs) / pairs)
    angle = (jnp.arange(positions)[:, None] * speed)[:, None, :]  # [time, 1, pairs]
    cosine, sine = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :pairs], x[..., pairs:]
    turned = first * cosine - second * sine, first * sine + second * cosine
    return jnp.concatenate(turned, axis=-1)

"""Language model without attention: an MLP that sees the last eight tokens.

The embeddings of the tokens (16 features each) stand side by side, `depth` layers of
`width` GELU units read them, an output layer says what comes next (Bengio et al. 2003,
"A Neural Probabilistic Language Model", with today's units). The law does not count the
embedding and the output layer.

In the maximal-update parametrisation, for Adam: products whose inputs are units are
multiplied by 64 / width, and their weights start so much larger (Yang and Hu et al.
2021, "Tensor Programs V", table 8), so that one learning rate serves every width.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.models.initializers import fan_in_normal, normal
from scalepred.models.layers import Embedding, Linear, TrueWidth, check_tokens
from scalepred.models.model import Model, from_nnx

_CONTEXT = 8  # tokens
_FEATURES = 16  # of a token
_BASE_WIDTH = 64


class ContextMLP(nnx.Module):
    """Eight embeddings side by side, GELU layers, linear output."""

    def __init__(self, width: int, depth: int, vocabulary_size: int, rngs: nnx.Rngs):
        self.embedding = Embedding(
            vocabulary_size, _FEATURES, init=normal(1.0), rngs=rngs
        )
        self.width = TrueWidth(jnp.float32(width))
        self.layers = nnx.List([Linear(_CONTEXT * _FEATURES, width, rngs=rngs)])
        # Starts that much larger where the product is that much smaller.
        init = fan_in_normal(math.sqrt(2) * width / _BASE_WIDTH)
        for _ in range(depth - 1):
            self.layers.append(Linear(width, width, kernel_init=init, rngs=rngs))
        zeros = nnx.initializers.zeros
        self.output = Linear(
            width, vocabulary_size, use_bias=False, kernel_init=zeros, rngs=rngs
        )

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = self.embedding(tokens)
        # Before the window there is nothing: zeros.
        padded = jnp.pad(x, ((0, 0), (_CONTEXT - 1, 0), (0, 0)))
        length = tokens.shape[1]
        seen = [padded[:, back : back + length] for back in range(_CONTEXT)]
        x = jnp.concatenate(seen, axis=-1)
        first, *others = self.layers
        x = nnx.gelu(first(x))
        gain = _BASE_WIDTH / self.width[...].astype(x.dtype)
        for layer in others:
            x = nnx.gelu(layer(x * gain))
        return self.output(x) * gain


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The model of that width and depth.

    Args:
        width: units a layer.
        depth: layers.
        input_shape: [positions].
        num_classes: size of the vocabulary.

    Raises:
        UserError: examples that are not windows of tokens.
    """
    check_tokens("context_mlp", input_shape)
    return from_nnx(
        lambda rngs: ContextMLP(width, depth, num_classes, rngs),
        embeddings=frozenset({"embedding", "output"}),
        can_be_padded=True,
    )

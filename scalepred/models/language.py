"""What the language families share: an embedding that is also the output layer."""

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.config import UserError
from scalepred.models.model import multiply


class TiedEmbedding(nnx.Module):
    """Words to vectors, and vectors to scores of words by the same table.

    The table and the bias of the scores are what the law does not count.
    """

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        rngs: nnx.Rngs,
        init: nnx.Initializer,
        shift: float = 0.0,
        word_dropout: float = 0.0,
    ):
        shape = (vocabulary_size, size)
        self.table = nnx.Param(init(rngs.params(), shape, jnp.float32) + shift)
        self.bias = nnx.Param(jnp.zeros(vocabulary_size))
        self.word_dropout = nnx.Dropout(word_dropout, broadcast_dims=(1,))

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Vectors [batch, positions, size]; a dropped word is dropped everywhere."""
        table = self.word_dropout(self.table[...], rngs=rngs)
        return table[tokens.astype(jnp.int32)]

    def score(self, x: jax.Array) -> jax.Array:
        """Logits [batch, positions, words]."""
        return multiply(x, self.table[...].T) + self.bias[...]


def check_tokens(family: str, input_shape: tuple[int, ...]) -> None:
    """Language models read windows [positions] of tokens.

    Raises:
        UserError: the dataset has something else.
    """
    if len(input_shape) != 1:
        raise UserError(
            f"family={family!r}: reads text, but the dataset has examples of shape "
            f"{input_shape}; choose a text such as ptb or stdlib"
        )

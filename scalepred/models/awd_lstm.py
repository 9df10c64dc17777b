"""AWD-LSTM: `depth` LSTM layers, `width` hidden units, everything dropped out.

The input of the first and the output of the last layer have 400 units, as the tied
embedding; all others have `width` (1,150 in the paper, which scales this alone). State
is carried from window to window. What the recipe has beside: clipping at 0.25, rate
30, and an average of the last weights (`average_fraction`; the recipe, NT-ASGD, begins
it when the validation loss stops falling). Left out: the penalties on activations
(alpha, beta) and the random lengths of windows.

Source: S. Merity et al., "Regularizing and Optimizing LSTM Language Models", ICLR
2018; sizes and rates of the official code for the Penn Treebank.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from scalepred.config import UserError
from scalepred.models.layers import Embedding, check_tokens
from scalepred.models.model import Model, Tree, from_nnx
from scalepred.models.product import multiply


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is not scaled. Shares of what is dropped, 0 to 1."""

    embedding_size: int = 400
    word_dropout: float = 0.1  # whole words of the embedding
    input_dropout: float = 0.4  # embedded words, one mask for all of a window
    hidden_dropout: float = 0.25  # between layers, likewise
    output_dropout: float = 0.4  # before the softmax, likewise
    weight_dropout: float = 0.5  # hidden-to-hidden weights, one mask for a window


class LSTM(nnx.Module):
    """One layer. Gates (input, forget, cell, output) have an axis of their own.

    Two biases, as in PyTorch: they only add, but are counted in published sizes.
    """

    def __init__(self, inputs: int, units: int, weight_dropout: float, rngs: nnx.Rngs):
        bound = 1 / math.sqrt(units)
        sizes = (inputs, units, 2)
        noise = jax.random.uniform(
            rngs.params(), (sum(sizes), 4, units), minval=-bound, maxval=bound
        )
        self.input_weights = nnx.Param(noise[:inputs])
        self.hidden_weights = nnx.Param(noise[inputs : inputs + units])
        self.biases = nnx.Param(noise[inputs + units :])
        self.hidden = nnx.BatchStat(jnp.zeros((1, units)))
        self.cell = nnx.BatchStat(jnp.zeros((1, units)))
        self.weight_dropout = nnx.Dropout(weight_dropout)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """[batch, positions, inputs] -> [batch, positions, units]; moves the state."""
        weights = self.weight_dropout(self.hidden_weights[...], rngs=rngs)
        # The products with the inputs do not wait for one another.
        driven = multiply(jnp.swapaxes(x, 0, 1), self.input_weights[...])
        driven += jnp.sum(self.biases[...], axis=0)

        def step(state: tuple[jax.Array, jax.Array], driven: jax.Array):
            hidden, cell = state
            gates = driven + multiply(hidden, weights)
            enter, keep, leave = (nnx.sigmoid(gates[:, g]) for g in (0, 1, 3))
            cell = keep * cell + enter * jnp.tanh(gates[:, 2])
            hidden = leave * jnp.tanh(cell)
            return (hidden, cell), hidden

        state = (self.hidden[...], self.cell[...])
        (hidden, cell), outputs = jax.lax.scan(step, state, driven)
        self.hidden[...], self.cell[...] = hidden, cell
        return outputs.transpose(1, 0, 2)


class AWDLSTM(nnx.Module):
    """Embedding, layers, the embedding again."""

    def __init__(
        self,
        width: int,
        depth: int,
        vocabulary_size: int,
        recipe: Recipe,
        rngs: nnx.Rngs,
    ):
        outside = recipe.embedding_size
        sizes = [outside] + [width] * (depth - 1) + [outside]
        self.embedding = Embedding(
            vocabulary_size,
            outside,
            init=_uniform_tenth,
            is_tied=True,
            dropout=recipe.word_dropout,
            rngs=rngs,
        )
        self.layers = nnx.List(
            [
                LSTM(sizes[k], sizes[k + 1], recipe.weight_dropout, rngs)
                for k in range(depth)
            ]
        )
        rates = [recipe.input_dropout] + [recipe.hidden_dropout] * (depth - 1)
        # One mask for all positions of a window: axis 1 is shared.
        self.dropouts = nnx.List(
            [
                nnx.Dropout(rate, broadcast_dims=(1,))
                for rate in [*rates, recipe.output_dropout]
            ]
        )

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = self.dropouts[0](self.embedding(tokens, rngs), rngs=rngs)
        for layer, dropout in zip(self.layers, self.dropouts[1:], strict=True):
            x = dropout(layer(x, rngs), rngs=rngs)
        return self.embedding.score(x)


def _uniform_tenth(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape) * 0.2 - 0.1


def restart(state: Tree, batch_size: int) -> Tree:
    """Nothing read: all states 0."""
    return jax.tree.map(
        lambda leaf: jnp.zeros((batch_size, *leaf.shape[1:]), leaf.dtype), state
    )


def make(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    recipe: Recipe,
    family: str = "awd_lstm",
) -> Model:
    """The AWD-LSTM of that width, depth and recipe.

    Bucketed by exact width: masks of wider weights would have other bits.

    Raises:
        UserError: fewer than two layers, or the dataset is not text.
    """
    if depth < 2:
        raise UserError(
            f"grid.depths={depth}: {family} needs 2 layers or more; the last has "
            "the size of the embedding, the others the width"
        )
    check_tokens(family, input_shape)
    return from_nnx(
        lambda rngs: AWDLSTM(width, depth, num_classes, recipe, rngs),
        embeddings=frozenset({"embedding"}),
        restart=restart,
    )


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """With the recipe for the Penn Treebank."""
    return make(width, depth, input_shape, num_classes, Recipe())

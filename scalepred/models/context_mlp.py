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

from scalepred.config import UserError
from scalepred.models.model import Model, Tree, Variables, draw_arrays, multiply

_CONTEXT = 8  # tokens
_FEATURES = 16  # of a token
_BASE_WIDTH = 64


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
    if len(input_shape) != 1:
        raise UserError(
            f"family=context_mlp: takes windows of tokens [positions], not examples of "
            f"shape {input_shape}; choose another family or dataset"
        )
    inputs = _CONTEXT * _FEATURES
    grown = width / _BASE_WIDTH

    def init(key: jax.Array) -> Variables:
        shapes = [(num_classes, _FEATURES), (inputs, width)]
        shapes += [(width, width)] * (depth - 1)
        embedding, first, *others = draw_arrays(jax.random.normal, key, shapes)
        layers = {"layer0": first / math.sqrt(inputs)}
        for index, noise in enumerate(others, start=1):
            layers[f"layer{index}"] = noise * grown * math.sqrt(2 / width)
        biases = {f"bias{index}": jnp.zeros(width) for index in range(depth)}
        output = jnp.zeros((width, num_classes))
        return Variables(
            {"embedding": embedding, **layers, **biases, "output": output}, {}
        )

    def apply(
        params: Tree, state: Tree, x: jax.Array, *, train: bool, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        del train, key  # nothing random
        tokens = params["embedding"][x]
        # Before the window there is nothing: zeros.
        padded = jnp.pad(tokens, ((0, 0), (_CONTEXT - 1, 0), (0, 0)))
        length = x.shape[1]
        seen = [padded[:, back : back + length] for back in range(_CONTEXT)]
        hidden = jnp.concatenate(seen, axis=-1)
        for index in range(depth):
            shrink = 1 / grown if index else 1.0
            product = multiply(hidden, params[f"layer{index}"]) * shrink
            hidden = jax.nn.gelu(product + params[f"bias{index}"])
        return multiply(hidden, params["output"]) / grown, state

    return Model(init, apply, embeddings=frozenset({"embedding", "output"}))

"""Decoder-only transformer over windows of tokens: `depth` blocks of `width` features.

Pre-norm with RMSNorm, rotary positions, causal attention in heads of 16 features (one
head where the width is smaller), GELU layer of 4 `width` units, no biases, output
layer of its own. The law does not count the embedding and the output layer.

Standard parametrisation: weights start normal with variance 1 / fan-in, those that
write to the residual stream 1 / (2 depth fan-in), the embedding with variance 1, the
output layer at zero, so that the first loss is that of a guess.

Options: transformer(parametrization='mup', base_width=64) or
transformer(parametrization='completep', base_width=64, base_depth=4), see
`parametrization.py`. Heads have 16 features at every width, so scores of attention
need no rule.
"""

import jax
from flax import nnx

from scalepred.config import UserError
from scalepred.models.initializers import normal
from scalepred.models.layers import (
    Embedding,
    Linear,
    RMSNorm,
    TransformerBlock,
    check_tokens,
)
from scalepred.models.model import Model, from_nnx
from scalepred.models.parametrization import (
    BLOCK_ROLES,
    INPUT,
    OUTPUT,
    VECTOR,
    find_ratios,
    parametrize,
)

_HEAD = 16  # features
ROLES = {
    "embedding.table": INPUT,
    **BLOCK_ROLES,
    "norm.scale": VECTOR,
    "output.kernel": OUTPUT,
}


class Decoder(nnx.Module):
    """Embedding, blocks, norm, linear; `base_width` as in `build_decoder`."""

    def __init__(
        self,
        width: int,
        depth: int,
        vocabulary_size: int,
        base_width: int,
        rngs: nnx.Rngs,
    ):
        self.base_width = base_width
        self.blocks = nnx.List()
        for _ in range(depth):
            block = TransformerBlock(
                width,
                min(_HEAD, width),
                depth,
                # Starts that much larger where the product is that much smaller.
                start_gain=width / base_width if base_width else 1.0,
                is_causal=True,
                is_rotary=True,
                rngs=rngs,
            )
            self.blocks.append(block)
        self.embedding = Embedding(vocabulary_size, width, init=normal(1.0), rngs=rngs)
        self.norm = RMSNorm(width)
        zeros = nnx.initializers.zeros
        self.output = Linear(
            width, vocabulary_size, use_bias=False, kernel_init=zeros, rngs=rngs
        )

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        del rngs  # nothing random
        x = self.embedding(tokens)
        true_width = self.norm.width[...].astype(x.dtype)
        gain = self.base_width / true_width if self.base_width else 1.0
        for block in self.blocks:
            x = block(x, gain)
        return self.output(self.norm(x)) * gain


def build(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    parametrization: str = "standard",
    base_width: int = 64,
    base_depth: int = 4,
) -> Model:
    """The decoder of that width and depth.

    Padding it with zeros adds heads that are zero, so from 16 features on it may be.

    Args:
        width: features; a multiple of 16, or an even number below.
        depth: blocks.
        input_shape: [positions].
        num_classes: size of the vocabulary.
        parametrization: standard, mup or completep.
        base_width: at which mup and completep are the standard one.
        base_depth: likewise completep.

    Raises:
        UserError: a width that heads do not fill, examples that are not windows, or no
            such parametrisation.
    """
    ratios = find_ratios(
        "transformer", parametrization, (width, base_width), (depth, base_depth)
    )
    model = build_decoder(width, depth, input_shape, num_classes)
    return parametrize(model, ratios, ROLES)


def build_decoder(
    width: int,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    base_width: int = 0,
) -> Model:
    """The decoder in the standard parametrisation, or as `transformer_mup` has it.

    Args:
        width: as of `build`.
        depth: likewise.
        input_shape: likewise.
        num_classes: likewise.
        base_width: above 0: products with inner weights are multiplied by base_width /
            width, and the weights start so much larger, which is a rate of Adam
            proportional to 1 / width; so is the output layer, which starts at zero.

    Raises:
        UserError: as `build`.
    """
    if width % _HEAD and (width > _HEAD or width % 2):
        raise UserError(
            f"grid.widths={width}: a transformer has heads of {_HEAD} features; choose "
            f"a multiple of {_HEAD} or an even number below it"
        )
    check_tokens("transformer", input_shape)
    return from_nnx(
        lambda rngs: Decoder(width, depth, num_classes, base_width, rngs),
        embeddings=frozenset({"embedding", "output"}),
        can_be_padded=width >= _HEAD,
    )

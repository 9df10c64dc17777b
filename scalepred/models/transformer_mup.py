"""The decoder in a maximal-update parametrisation of its own, for adam and adamw.

It stays as it was for the studies that were made with it. A new one takes
`transformer(parametrization='mup')`, which differs by Adam's epsilon and serves sgd,
too. Both are the standard parametrisation at width 64.
"""

from scalepred.models import transformer
from scalepred.models.model import Model

_BASE_WIDTH = 64


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The decoder of that width and depth; see `transformer.build_decoder`."""
    return transformer.build_decoder(
        width, depth, input_shape, num_classes, _BASE_WIDTH
    )

"""The MLP of `mlp.py` in the maximal-update parametrisation.

Made for adam and adamw: the learning rate that is best at one width is near the best
at every other. It is the standard parametrisation at width 64.
"""

from scalepred.models import mlp
from scalepred.models.model import Model

_BASE_WIDTH = 64


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """The MLP of that width and depth; see `mlp.build`."""
    return mlp.build(width, depth, input_shape, num_classes, _BASE_WIDTH)

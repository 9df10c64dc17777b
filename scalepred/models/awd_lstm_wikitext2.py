"""AWD-LSTM with the official rates of dropout for WikiText-2."""

from scalepred.models import awd_lstm
from scalepred.models.model import Model


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """As `awd_lstm.build`."""
    recipe = awd_lstm.Recipe(input_dropout=0.65, hidden_dropout=0.2)
    return awd_lstm.make(width, depth, input_shape, num_classes, recipe)

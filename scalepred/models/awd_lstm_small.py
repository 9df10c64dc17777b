"""AWD-LSTM with an embedding of 32 and little dropout, for minutes on a CPU.

With an embedding of 400 nearly all the time goes into the softmax; and small models
that see the data a few times need no strong regularisation.
"""

from scalepred.models import awd_lstm
from scalepred.models.model import Model


def build(
    width: int, depth: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """As `awd_lstm.build`."""
    recipe = awd_lstm.Recipe(
        embedding_size=32,
        word_dropout=0.0,
        input_dropout=0.1,
        hidden_dropout=0.1,
        output_dropout=0.1,
        weight_dropout=0.1,
    )
    return awd_lstm.make(width, depth, input_shape, num_classes, recipe)

"""The paper's AWD-LSTMs: hidden units and words halved in turn.

As in the paper (2.3, 3): hidden size 1150 / 2^k, k = 0..6; words N / 2^k, k = 0..5;
the official recipe, SGD at a rate of 30 clipped at 0.25. Its trigger for averaging
looks at the validation loss; here the last half of each run is averaged.
"""

from scalepred import config


def paper(
    name: str, dataset: str, family: str, batch_size: int, epochs: int
) -> config.Experiment:
    """7 x 6 cells."""
    return config.Experiment(
        name=name,
        dataset=dataset,
        family=family,
        metric="loss",
        grid=config.Grid(
            widths=tuple(round(1150 / 2**k) for k in range(7)),
            depths=(3,),
            data_fractions=tuple(2.0**-k for k in range(6)),
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=30.0,
            momentum=0.0,
            weight_decay=1.2e-6,
            clip_norm=0.25,
            schedule="constant",
            average_fraction=0.5,
            batch_size=batch_size,
            epochs=epochs,
        ),
        # The random-guess level is fitted, as the paper does for text.
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0, random_guess=0),
    )


def small(
    name: str,
    dataset: str,
    halvings: int,
    batch_size: int,
    epochs: int,
    max_data_ratio: float,
) -> config.Experiment:
    """For minutes on two cores: two layers with Adam, at most 1/16 of the words.

    Args:
        name: of the study.
        dataset: one with a small vocabulary.
        halvings: the least data are N / 2^halvings.
        batch_size: windows a step.
        epochs: passes over the data.
        max_data_ratio: N / n of the largest data in the fit region.
    """
    return config.Experiment(
        name=name,
        dataset=dataset,
        family="awd_lstm_small",
        metric="loss",
        grid=config.Grid(
            widths=(8, 16, 32, 64, 128),
            depths=(2,),
            data_fractions=tuple(2.0**-k for k in range(4, halvings + 1)),
        ),
        training=config.Training(
            optimizer="adam",
            learning_rate=0.01,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=batch_size,
            epochs=epochs,
        ),
        fit=config.Fitting(
            max_params_ratio=2.5, max_data_ratio=max_data_ratio, random_guess=0
        ),
    )

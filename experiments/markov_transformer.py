"""A language whose entropy is known: is the irreducible loss of the fit that entropy?

Question: each token of 16 depends on the two before it, so no model's loss is below
1.7526 nats a token. Decoders of two blocks read 16 thousand to a million tokens, four
times. Does the interval of the fitted irreducible loss cover the truth?

Command: scalepred --config=experiments/markov_transformer.py --workdir=runs/markov
         (for minutes on two cores: --config=experiments/markov_transformer.py:small)
Data: none to fetch.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 7 x 9 cells, four seeds; `small`: 4 x 7, one seed."""
    grid = config.choose_scale(
        scale,
        {
            "paper": config.Grid(
                widths=(4, 8, 16, 32, 48, 64, 96),
                data_fractions=tuple(2.0**-k for k in range(9)),
                seeds=4,
            ),
            "small": config.Grid(
                widths=(4, 8, 16, 32),
                data_fractions=tuple(2.0**-k for k in range(7)),
            ),
        },
    )
    grid.depths = (2,)
    return config.Experiment(
        name="markov_transformer",
        dataset="markov",
        family="transformer",
        metric="loss",
        grid=grid,
        training=config.Training(
            optimizer="adamw",
            learning_rate=0.01,
            weight_decay=0.1,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=32,
            # Steps grow with n: with as many on little data the wide ones over-fit.
            epochs=4,
        ),
        fit=config.Fitting(random_guess=0),
    )

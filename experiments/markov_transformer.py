"""A language whose entropy is known: is the irreducible loss of the fit that entropy?

Question: each token of 32 depends on the two before it, so no model's loss is below
2.2469 nats a token. Decoders of one block read 2 thousand to a million tokens. Does
the interval of the fitted irreducible loss cover the truth?

Command: scalepred --config=experiments/markov_transformer.py --workdir=runs/markov
         (for minutes on two cores: --config=experiments/markov_transformer.py:small)
Data: none to fetch.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 7 x 9 cells, four seeds; `small`: 4 x 7, two seeds, shorter."""
    grid, steps = config.choose_scale(
        scale,
        {
            "paper": (
                config.Grid(
                    widths=(8, 16, 32, 48, 64, 96, 128),
                    data_fractions=tuple(2.0**-k for k in range(9)),
                    seeds=4,
                ),
                8000,
            ),
            "small": (
                config.Grid(
                    widths=(4, 8, 16, 32),
                    data_fractions=tuple(2.0**-k for k in range(7)),
                    seeds=2,
                ),
                800,
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
            learning_rate=5e-3,
            weight_decay=0.1,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=32,
            steps=steps,
        ),
        fit=config.Fitting(random_guess=0),
    )

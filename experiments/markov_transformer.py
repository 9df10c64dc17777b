"""A language whose entropy is known: is the irreducible loss of the fit that entropy?

Question: each token of 64 depends on the one before it, so no model's loss is below
3.0691 nats a token. Decoders of one block read 131 thousand to four million tokens
once. Does the interval of the fitted irreducible loss cover the truth? And that of
other languages (`--config.dataset=markov:1`: 3.2166)?

Command: scalepred --config=experiments/markov_transformer.py --workdir=runs/markov
         (for a minute on two cores: --config=experiments/markov_transformer.py:small)
Data: none to fetch.
Hardware: two CPU cores.
Time: 2 minutes.
Answer: 3.066 (90 % interval 3.056 to 3.071), which covers the truth, as the intervals
of three other languages cover theirs; the best model measured 3.0716. See docs/results.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 6 x 6 cells, two seeds; `small`: 4 x 5, one seed."""
    grid = config.choose_scale(
        scale,
        {
            "paper": config.Grid(
                widths=(4, 6, 8, 12, 16, 32),
                data_fractions=tuple(2.0**-k for k in range(6)),
                seeds=2,
            ),
            "small": config.Grid(
                widths=(4, 6, 8, 12),
                data_fractions=tuple(2.0**-k for k in range(1, 6)),
            ),
        },
    )
    grid.depths = (1,)
    return config.Experiment(
        name="markov_transformer",
        dataset="markov",
        family="transformer",
        metric="loss",
        grid=grid,
        training=config.Training(
            optimizer="adamw",
            learning_rate=0.01,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            # Small, so that few tokens are some hundred steps.
            batch_size=8,
            # Nothing is read twice, so that no model over-fits.
            epochs=1,
        ),
        fit=config.Fitting(random_guess=0),
    )

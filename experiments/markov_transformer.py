"""A language whose entropy is known: is the irreducible loss of the fit that entropy?

Question: each token of 16 depends on the two before it, so no model's loss is below
1.7526 nats a token. Decoders of two blocks read 65 thousand to a million tokens, four
times. Does the interval of the fitted irreducible loss cover the truth?

Command: scalepred --config=experiments/markov_transformer.py --workdir=runs/markov
         (for minutes on two cores: --config=experiments/markov_transformer.py:small)
Data: none to fetch.
Hardware: two CPU cores for the small form; the other has not been run.
Time: 13 minutes beside other work.
Answer: in the small form 1.740 (90 % interval 1.155 to 1.758), which covers the truth;
the largest model measured 1.7566. With networks of 4 features and less data in the fit,
which have not yet learnt that two tokens count, 1.674 (1.573 to 1.724), which does not.
See docs/results.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 6 x 6 cells, four seeds; `small`: 3 x 5, one seed."""
    grid = config.choose_scale(
        scale,
        {
            "paper": config.Grid(
                widths=(8, 16, 32, 48, 64, 96),
                data_fractions=tuple(2.0**-k for k in range(6)),
                seeds=4,
            ),
            "small": config.Grid(
                widths=(8, 16, 32),
                data_fractions=tuple(2.0**-k for k in range(5)),
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

"""Decoders on text that every machine has: the sources of Python's library, as bytes.

Question: two blocks read 30 KB to 8 MB four times, each with the rate that suits it of
four: fitted on small models and little text, what of the rest? And does the best rate
move with the size?

Command: scalepred --config=experiments/stdlib_transformer.py --workdir=runs/stdlib
         (for minutes on two cores: --config=experiments/stdlib_transformer.py:small)
Data: none to fetch. Runs of different versions of Python differ a little.
Hardware: two CPU cores for the small form; the other has not been run.
Time: 7 minutes, four times that beside other work.
Answer: in the small form +5.2 % +- 7.2 % over 18 held-out points: the largest model on
the most text, 16 times the computation of any in the fit, is 27 % better than said.
The best rate falls from 0.1 to 0.01 as models grow. See docs/results.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 8 x 8 points, two seeds; `small`: 6 x 5, one seed; four rates each."""
    fractions = tuple(2.0**-k for k in range(9))
    grid = config.choose_scale(
        scale,
        {
            "paper": config.Grid(
                widths=(8, 16, 32, 64, 96, 128, 192, 256),
                data_fractions=fractions[:8],
                seeds=2,
            ),
            "small": config.Grid(
                widths=(4, 6, 8, 12, 16, 32),
                data_fractions=fractions[4:9],
            ),
        },
    )
    grid.depths = (2,)
    grid.learning_rates = (3e-3, 0.01, 0.03, 0.1)
    return config.Experiment(
        name="stdlib_transformer",
        dataset="stdlib",
        family="transformer",
        metric="loss",
        grid=grid,
        training=config.Training(
            optimizer="adamw",
            weight_decay=0.1,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=8,
            epochs=4,
        ),
        fit=config.Fitting(max_params_ratio=4.0, max_data_ratio=4.0, random_guess=0),
    )

"""Decoders on text that every machine has: the sources of Python's library, as bytes.

Question: two blocks of 8 to 128 features read 30 KB to 8 MB: fitted on small models and
little text, what of the rest?

Command: scalepred --config=experiments/stdlib_transformer.py --workdir=runs/stdlib
         (for minutes on two cores: --config=experiments/stdlib_transformer.py:small)
Data: none to fetch. Runs of different versions of Python differ a little.
Hardware: two CPU cores for the small form; the other has not been run.
Answer: in the small form -1.2 % +- 1.4 % over 11 held-out points; its 400 steps are too
few for the size of the text to matter. See docs/results.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 8 x 8 cells, two seeds; `small`: 4 x 5, shorter runs."""
    fractions = tuple(2.0**-k for k in range(9))
    grid, steps = config.choose_scale(
        scale,
        {
            "paper": (
                config.Grid(
                    widths=(8, 16, 32, 64, 96, 128, 192, 256),
                    data_fractions=fractions[:8],
                    seeds=2,
                ),
                10_000,
            ),
            "small": (
                config.Grid(widths=(4, 8, 16, 32), data_fractions=fractions[4:9]),
                400,
            ),
        },
    )
    grid.depths = (2,)
    return config.Experiment(
        name="stdlib_transformer",
        dataset="stdlib",
        family="transformer",
        metric="loss",
        grid=grid,
        training=config.Training(
            optimizer="adamw",
            learning_rate=3e-3,
            weight_decay=0.1,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=16,
            steps=steps,
        ),
        fit=config.Fitting(max_params_ratio=3.0, max_data_ratio=4.0, random_guess=0),
    )

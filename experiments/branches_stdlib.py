"""Branches of one trunk beside runs of their own: the same law, for less?

Question: decoders read 15 KB to 1.9 MB of text once, at a constant rate that cools down
over the last fifth (WSD). Eight sizes of data branch off one trunk, or each is trained
alone. What do the two laws say of models twice as wide on twice the text?

Command: scalepred --config=experiments/branches_stdlib.py --workdir=runs/branches
         (each alone: --config=experiments/branches_stdlib.py:separate)
Data: none to fetch. Runs of different versions of Python differ a little.
"""

from scalepred import config


def get_config(scale: str = "branches") -> config.Experiment:
    """`branches` and `separate`: 5 x 8 points, two seeds."""
    is_branched = config.choose_scale(scale, {"branches": True, "separate": False})
    return config.Experiment(
        name=f"branches_stdlib_{scale}",
        dataset="stdlib",
        family="transformer",
        metric="loss",
        grid=config.Grid(
            widths=(4, 6, 8, 12, 16),
            depths=(2,),
            data_fractions=tuple(2.0**-k for k in range(3, 10)),
            seeds=2,
            branches=is_branched,
        ),
        training=config.Training(
            optimizer="adamw",
            learning_rate=0.02,
            beta2=0.98,
            weight_decay=0.1,
            clip_norm=1.0,
            schedule="wsd",
            cooldown_fraction=0.2,
            warmup_steps=10,
            batch_size=8,
            epochs=1,
        ),
        fit=config.Fitting(
            max_params_ratio=2.0, max_data_ratio=2.0, random_guess=0, law="chinchilla"
        ),
    )

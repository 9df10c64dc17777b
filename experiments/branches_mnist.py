"""Branches of one trunk beside runs of their own: the same law, for less?

Question: small networks see 469 to 60,000 digits once, at a constant rate that cools
down over the last fifth of the run (WSD). Eight sizes of the data branch off one trunk,
or each is trained alone. Do laws fitted to the smaller runs of both say the same?

Command: scalepred --config=experiments/branches_mnist.py --workdir=runs/branches
         (each alone: --config=experiments/branches_mnist.py:separate)
Data: scripts/prepare_data.py --dataset=mnist
Hardware: two CPU cores.
Answer: losses of branches are 0.9 % lower, standard deviation 3.3 %; the law holds for
neither beyond the fit. See docs/results/branches.md.
"""

from scalepred import config


def get_config(scale: str = "branches") -> config.Experiment:
    """`branches` and `separate`: 5 x 8 points, three seeds."""
    is_branched = config.choose_scale(scale, {"branches": True, "separate": False})
    return config.Experiment(
        name=f"branches_mnist_{scale}",
        dataset="mnist",
        family="mlp",
        metric="loss",
        grid=config.Grid(
            widths=(8, 16, 32, 64, 128),
            data_fractions=tuple(2.0**-k for k in range(8)),
            seeds=3,
            branches=is_branched,
        ),
        training=config.Training(
            optimizer="adam",
            learning_rate=3e-3,
            schedule="wsd",
            cooldown_fraction=0.2,
            warmup_steps=5,
            batch_size=32,
            epochs=1,
        ),
        fit=config.Fitting(max_params_ratio=3.0, max_data_ratio=2.0),
    )

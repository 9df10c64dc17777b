"""Does one learning rate serve networks of 32 and of 512 units?

Question: networks of three hidden layers of 32 to 512 units see 10,800 digits of MNIST
once, at seven rates, four seeds each. Does the bottom of the bowl stay within a factor
of 2 as the width grows sixteenfold, in the standard parametrisation and in the
maximal-update one? Is the latter better at the largest width?

Command: scalepred --config=experiments/transfer_mlp.py:standard --workdir=runs/sp
         scalepred --config=experiments/transfer_mlp.py:mup --workdir=runs/mup
         python -m scalepred.commands.transfer --workdir=runs/sp --workdir=runs/mup
Data: scripts/prepare_data.py --dataset=mnist
Hardware: two CPU cores.
Time: 9 minutes of a core for both.
Answer: with mup the best rate rises by 1.5 (1.4 to 1.6), in the standard form it falls
by 0.48 (0.45 to 0.50). At width 512 the standard form ends a little lower. See
docs/results/transfer.md.
"""

from scalepred import config

_FAMILIES = {
    "standard": "mlp",
    "mup": "mlp(parametrization='mup', base_width=64)",
}


def get_config(parametrization: str = "mup") -> config.Experiment:
    """`standard` or `mup`: 5 widths x 7 rates x 4 seeds each."""
    return config.Experiment(
        name="transfer_mlp",
        dataset="mnist",
        family=config.choose_scale(parametrization, _FAMILIES),
        metric="loss",
        grid=config.Grid(
            widths=(32, 64, 128, 256, 512),
            depths=(3,),
            data_fractions=(0.2,),
            learning_rates=tuple(2.0**-k for k in range(12, 5, -1)),
            validation_fraction=0.1,
            seeds=4,
        ),
        training=config.Training(
            optimizer="adam",
            schedule="linear",
            warmup_fraction=0.1,
            batch_size=32,
            epochs=1,
        ),
        fit=config.Fitting(random_guess=0),
    )

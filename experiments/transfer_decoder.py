"""Does the best learning rate of a small decoder serve a large one?

Question: two blocks of 16 to 128 features read 82 KB of the sources of Python's
library once, at seven rates. Does the bottom of the bowl stay where it is as the width
grows, in the standard parametrisation and in the maximal-update one? Is the latter
better at the largest width?

Command: scalepred --config=experiments/transfer_decoder.py:standard --workdir=runs/sp
         scalepred --config=experiments/transfer_decoder.py:mup --workdir=runs/mup
         python -m scalepred.commands.transfer --workdir=runs/sp --workdir=runs/mup
Data: none to fetch. Runs of different versions of Python differ a little.
Hardware: two CPU cores.
Time: 8 minutes of a core for both.
Answer: in the standard one the best rate falls by 0.26 (0.20 to 0.38) from width 16 to
64. In the other it is not seen to move, but two seeds are too few to say that it stays;
at width 128 it is not better. See docs/results/transfer.md.
"""

from scalepred import config

_FAMILIES = {
    "standard": "transformer",
    "mup": "transformer(parametrization='mup', base_width=32)",
}


def get_config(parametrization: str = "mup") -> config.Experiment:
    """`standard` or `mup`: 4 widths x 7 rates x 2 seeds each."""
    return config.Experiment(
        name="transfer_decoder",
        dataset="short_test:stdlib",
        family=config.choose_scale(parametrization, _FAMILIES),
        metric="loss",
        grid=config.Grid(
            widths=(16, 32, 64, 128),
            depths=(2,),
            data_fractions=(1 / 64,),
            learning_rates=tuple(2.0**-k for k in range(9, 2, -1)),
            validation_fraction=0.002,
            seeds=2,
        ),
        training=config.Training(
            optimizer="adam",
            beta2=0.98,
            schedule="linear",
            warmup_fraction=0.1,
            batch_size=4,
            steps=160,
        ),
        fit=config.Fitting(random_guess=0),
    )

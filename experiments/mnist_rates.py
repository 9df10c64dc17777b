"""Does the best learning rate of a large network follow from those of small ones?

Question: networks of 16 to 256 tanh units learn from 1,270 to 20,250 digits in five
epochs, each at five rates. Fit the law of the best rate to the ten smallest sizes, at
most 1/30 of the largest m n. Which rate does it say for one of 512 units that learns
from 40,500, 230 times the m n of the largest of the ten, and what does following it
cost beside keeping the rate that was best at the largest of them?

Command: scalepred --config=experiments/mnist_rates.py --workdir=runs/rates --verify
Data: scripts/prepare_data.py --dataset=mnist
Hardware: two CPU cores.
Time: 2 minutes of a core for all 126 runs, ten beside much other work.
Answer: the law says 6.36e-4 (2.9e-4 to 0.0014); kept was 0.003, said to cost 32 %.
Trained then, 6.36e-4 errs on 2.08 %, 0.001 on 2.00 %, 0.003 on 2.45 % of the digits.
See docs/results/recipes.md.
"""

import dataclasses

from scalepred import config


def get_config(form: str = "sweep") -> config.Experiment:
    """`sweep`: 25 sizes, five rates each; the target once.

    `larger`: six sizes beyond the sweep, for `--config.training.recipe=runs/rates`.
    """
    sweep = _sweep()
    grid = dataclasses.replace(
        sweep.grid,
        widths=(128, 256, 512),
        data_fractions=(3 / 8, 3 / 4),
        learning_rates=(),
    )
    larger = dataclasses.replace(
        sweep, grid=grid, fit=config.Fitting(law="auto"), targets=config.Targets()
    )
    return config.choose_scale(form, {"sweep": sweep, "larger": larger})


def _sweep() -> config.Experiment:
    return config.Experiment(
        name="mnist_rates",
        dataset="mnist",
        family="mlp",
        metric="error",
        grid=config.Grid(
            widths=(16, 32, 64, 128, 256),
            depths=(2,),
            data_fractions=(3 / 128, 3 / 64, 3 / 32, 3 / 16, 3 / 8),
            learning_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        ),
        training=config.Training(
            optimizer="adam",
            schedule="cosine",
            warmup_fraction=0.05,
            batch_size=32,
            epochs=5,
        ),
        fit=config.Fitting(law="auto", max_compute_ratio=30),
        targets=config.Targets(widths=(512,), data_fractions=(3 / 4,)),
    )

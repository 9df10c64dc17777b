"""How does the error of an MLP on MNIST fall with its width and with the images?

Question: two hidden layers of 2 to 128 tanh units (1,600 to 118,000 parameters) learn
from 940 to 60,000 digits, twenty epochs at every size as in the paper. Fitted where
m <= M/16 and n <= N/8, what is said of the rest?

Command: scalepred --config=experiments/mnist_mlp.py --workdir=runs/mnist_mlp
         (for minutes on two cores: --config=experiments/mnist_mlp.py:small)
Data: scripts/prepare_data.py --dataset=mnist
Hardware: two CPU cores for the small form; the other has not been run.
Time: two minutes.
Answer: in the small form not well: relative error -3.2 % +- 21.4 % over 37 points, up
to 41 %, as networks of 2 and 4 units are too narrow for ten digits whatever the data,
and the law takes their fall for a power law. From 8 units on, fitted to M/4 and N/8:
+9.9 % +- 11.3 %. See docs/results.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: widths to 1,024, 8 seeds; `small`: to 128, 3 seeds."""
    grid = config.choose_scale(
        scale,
        {
            "paper": config.Grid(
                widths=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), seeds=8
            ),
            "small": config.Grid(widths=(2, 4, 8, 16, 32, 64, 128), seeds=3),
        },
    )
    grid.depths = (2,)
    grid.data_fractions = tuple(2.0**-k for k in range(7))
    return config.Experiment(
        name="mnist_mlp",
        dataset="mnist",
        family="mlp",
        metric="error",
        grid=grid,
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.03,
            momentum=0.9,
            nesterov=True,
            schedule="cosine",
            warmup_fraction=0.05,
            batch_size=64,
            epochs=20,
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0),
        questions=config.Questions(target_value=0.02),
    )

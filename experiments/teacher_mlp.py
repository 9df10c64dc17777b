"""A random network says the class: do the fitted exponents stay when the grid doubles?

Question: MLPs learn four classes of a teacher from 64 to 4,096 examples; a tenth of
the labels is drawn at random, so no error is below 7.5 %. Fit the half of the grid
that is cheap in either direction, and the whole grid: do the exponents move by more
than their intervals?

Command: scalepred --config=experiments/teacher_mlp.py --workdir=runs/teacher_mlp
         scalepred --config=experiments/teacher_mlp.py:half --workdir=runs/teacher_mlp
Hardware: two CPU cores.
Time: three minutes, busy as the machine was.
Data: none to fetch.
Answer: no. Data exponent 0.254 (90 % interval 0.206 to 0.460) on the half, 0.249 (0.205
to 0.425) on the whole; model exponent 3.86 (2.15 to 9.04) and 2.88 (1.81 to 5.60). The
irreducible error is fitted as 0 (0 to 0.093), where the truth is 0.075: at 4,096
examples the error is twice that and still falls as a power. See docs/results.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: the whole grid is fitted; `half`: to M / 2 and N / 2."""
    fit, seeds = config.choose_scale(
        scale,
        {
            "paper": (config.Fitting(), 16),
            "half": (config.Fitting(max_params_ratio=2.0, max_data_ratio=2.0), 16),
            "small": (config.Fitting(), 4),  # fewer seeds
        },
    )
    return config.Experiment(
        name="teacher_mlp",
        dataset="teacher",
        family="mlp",
        metric="error",
        grid=config.Grid(
            widths=(2, 4, 8, 16, 32, 64, 128),
            depths=(2,),
            data_fractions=tuple(2.0**-k for k in range(7)),
            seeds=seeds,
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.05,
            momentum=0.9,
            nesterov=True,
            weight_decay=1e-3,
            schedule="cosine",
            warmup_fraction=0.1,
            batch_size=64,
            steps=1500,
        ),
        fit=fit,
    )

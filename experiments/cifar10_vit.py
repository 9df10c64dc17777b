"""Vision transformers on CIFAR-10: does the law hold for what is trained today?

Question: patches of 4 pixels, six blocks of 16 to 192 features, AdamW, 100 epochs:
fitted on up to 1/16 of the parameters and 1/8 of the images, what of the rest?

Command: scalepred --config=experiments/cifar10_vit.py --workdir=runs/cifar10_vit
         (for minutes on two cores: --config=experiments/cifar10_vit.py:small)
Data: scripts/prepare_data.py --dataset=cifar10
"""

import dataclasses

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 6 x 6 cells, two seeds; `small`: two blocks, a quarter of the images."""
    paper = config.Experiment(
        name="cifar10_vit",
        dataset="cifar10",
        family="vit",
        metric="error",
        grid=config.Grid(
            widths=(16, 32, 64, 96, 128, 192),
            depths=(6,),
            data_fractions=tuple(2.0**-k for k in range(6)),
            seeds=2,
        ),
        training=config.Training(
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=128,
            epochs=100,
            augment="crop_flip",
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0),
    )
    small = dataclasses.replace(
        paper,
        name="cifar10_vit_small",
        grid=config.Grid(
            widths=(8, 16, 32, 48),
            depths=(2,),
            data_fractions=tuple(2.0**-k for k in range(2, 6)),
        ),
        training=dataclasses.replace(
            paper.training, learning_rate=3e-3, batch_size=64, epochs=10
        ),
        fit=config.Fitting(max_params_ratio=2.0, max_data_ratio=2.0),
    )
    return config.choose_scale(scale, {"paper": paper, "small": small})

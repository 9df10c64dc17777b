"""Is Nesterov's momentum worth it for a residual network, and does that stay so?

Question: residual networks of eight layers (widths 2, 4, 8) learn from 780 to 3,120
images of CIFAR-10 in ten epochs, once with plain momentum and once with Nesterov's, two
seeds each, all else the same. Which is better, by how much compute, and is it still at
width 12 with 6,250 images?

Command: scalepred --config=experiments/arms_cifar10.py --workdir=runs/arms_cifar10
Data: scripts/prepare_data.py --dataset=cifar10
Hardware: two CPU cores, half an hour.

Answer: none that these runs could see. Said of the target, sealed: Nesterov 1.6 % lower
(0.06 to 3.4), better with 96 %; measured in two pairs 1.1 % lower (4.1 % lower to 2.1 %
higher). Its errors, said to be 52.1 and 51.3 %, are 41.1 and 40.6 %.
"""

from scalepred import config


def get_config() -> config.Experiment:
    """Two arms of 18 runs of evidence; one target, twice an arm."""
    return config.Experiment(
        name="arms_cifar10",
        dataset="cifar10",
        family="wide_resnet",
        metric="error",
        grid=config.Grid(
            widths=(2, 4, 8),
            depths=(8,),
            data_fractions=(1 / 64, 1 / 32, 1 / 16),
            seeds=2,
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-4,
            schedule="cosine",
            warmup_fraction=0.1,
            batch_size=16,
            epochs=10,
            augment="crop_flip",
        ),
        fit=config.Fitting(law="auto"),
        targets=config.Targets(widths=(12,), data_fractions=(1 / 8,), seeds=2),
        arms={"plain": {}, "nesterov": {"training.nesterov": True}},
    )

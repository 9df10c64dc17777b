"""The paper's studies of images: one recipe of SGD, networks and data halved in turn.

As in the paper (2.3, 3): SGD with momentum 0.9 and weight decay 1e-4, batches of 128,
a rate of 0.1 that falls tenfold at fixed epochs; fitted, nominally, on 1/16 of the
parameters and 1/8 of the images. The paper does not state the augmentation; the code
it builds on crops and flips.
"""

import dataclasses
from collections.abc import Sequence

from scalepred import config


def halvings(largest: float, smallest: float) -> tuple[float, ...]:
    """1/2^k of the data from `largest` to `smallest`, both powers of 1/2.

    halvings(1, 1 / 4) is (1.0, 0.5, 0.25).
    """
    fractions = [float(largest)]
    while fractions[-1] > smallest:
        fractions.append(fractions[-1] / 2)
    return tuple(fractions)


def sgd(
    epochs: int,
    drops: Sequence[int],
    batch_size: int = 128,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
) -> config.Training:
    """The paper's training; the rate falls tenfold after each epoch of `drops`."""
    return config.Training(
        optimizer=optimizer,
        learning_rate=learning_rate,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step",
        decay_points=tuple(epoch / epochs for epoch in drops),
        decay_factor=0.1,
        batch_size=batch_size,
        epochs=epochs,
        augment="crop_flip",
    )


def fit_region() -> config.Fitting:
    """Up to 1/16 of the parameters and 1/8 of the images (the paper, section 6)."""
    return config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0)


def cifar_resnet(dataset: str, widths: Sequence[int]) -> config.Experiment:
    """CIFAR ResNets of 44 layers (WRN-44-16) on six sizes of a dataset.

    200 epochs; the rate falls after 80, 120 and 160.

    Args:
        dataset: a dataset of 32 x 32 images; the study is named after it.
        widths: base widths; the paper's network has 16.
    """
    return config.Experiment(
        name=f"{dataset}_wrn",
        dataset=dataset,
        family="wide_resnet",
        metric="error",
        grid=config.Grid(
            widths=tuple(widths), depths=(44,), data_fractions=halvings(1, 1 / 32)
        ),
        training=sgd(epochs=200, drops=(80, 120, 160)),
        fit=fit_region(),
    )


def small_cifar_resnet(
    dataset: str, smallest: float, epochs: int, max_data_ratio: float
) -> config.Experiment:
    """For minutes on two cores: 8 layers, widths to 8, at most 1/8 of the images."""
    paper = cifar_resnet(dataset, widths=(1, 2, 4, 8))
    return dataclasses.replace(
        paper,
        name=f"{dataset}_wrn_small",
        grid=dataclasses.replace(
            paper.grid, depths=(8,), data_fractions=halvings(1 / 8, smallest)
        ),
        training=dataclasses.replace(
            paper.training, schedule="cosine", batch_size=64, epochs=epochs
        ),
        fit=config.Fitting(max_params_ratio=3.0, max_data_ratio=max_data_ratio),
    )


def cifar100_variety(
    family: str,
    widest: int,
    depth: int,
    small_depth: int,
    epochs: int,
    drops: Sequence[int],
) -> dict[str, config.Experiment]:
    """The forms of a study of another architecture on CIFAR-100.

    Six widths, `widest` halved five times. Adam has a rate of 1e-3, no weight decay,
    and falls with SGD, as the paper does not state its schedule.

    Returns:
        `sgd` and `adam`, 6 x 6 cells each; `small`: few layers, a quarter of the
        images, for minutes on two cores.
    """

    def study(form: str, training: config.Training) -> config.Experiment:
        return config.Experiment(
            name=f"cifar100_{family}_{form}",
            dataset="cifar100",
            family=family,
            metric="error",
            grid=config.Grid(
                widths=tuple(widest // 2**k for k in range(6)),
                depths=(depth,),
                data_fractions=halvings(1, 1 / 32),
            ),
            training=training,
            fit=fit_region(),
        )

    adam = sgd(epochs, drops, learning_rate=1e-3, optimizer="adam")
    adam.weight_decay = 0.0
    small = study("small", sgd(epochs, drops, learning_rate=0.05))
    small.training.epochs = 8  # the rate falls at the same parts of a run
    small.grid = config.Grid(
        widths=(2, 4, 8, 16),
        depths=(small_depth,),
        data_fractions=halvings(1 / 4, 1 / 32),
    )
    small.fit = config.Fitting(max_params_ratio=2.0, max_data_ratio=2.0)
    return {
        "sgd": study("sgd", sgd(epochs, drops)),
        "adam": study("adam", adam),
        "small": small,
    }

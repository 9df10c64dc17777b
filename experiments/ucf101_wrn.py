"""The paper's UCF101 row: a CIFAR ResNet of 44 layers, its width and the images.

Question: does the error of networks with up to 1/16 of the parameters (nominally) on
up to 1/8 of the images say what the large ones reach? 42 cells.

Command: scalepred --config=experiments/ucf101_wrn.py --workdir=runs/ucf101_wrn
Data: scripts/prepare_data.py --dataset=ucf101
As in the paper (2.3, 3): WRN-44-16, base width 16 x 2^-k for k = -2..4; images
N / 2^k for k = 0..5; SGD, momentum 0.9, weight decay 1e-4, 200 epochs, rate 0.1 times
0.1 after 80, 120 and 160. The paper does not state
the augmentation; the code it builds on crops and flips. The decathlon's validation
part is the test part, as its test labels are not published.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 42 cells."""
    paper = config.Experiment(
        name="ucf101_wrn",
        dataset="ucf101",
        family="wide_resnet",
        metric="error",
        grid=config.Grid(
            widths=tuple(round(16 * 2.0**-k) for k in range(-2, 5)),
            depths=(44,),
            data_fractions=tuple(2.0**-k for k in range(6)),
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            decay_points=(0.4, 0.6, 0.8),
            decay_factor=0.1,
            batch_size=128,
            epochs=200,
            augment="crop_flip",
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0),
    )
    return config.choose_scale(scale, {"paper": paper})

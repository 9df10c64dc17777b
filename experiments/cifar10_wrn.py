"""The paper's CIFAR-10 row: a CIFAR ResNet of 44 layers, its width and the images.

Question: does the error of networks with up to 1/16 of the parameters (nominally) on
up to 1/8 of the images say what the large ones reach? 48 cells.

Command: scalepred --config=experiments/cifar10_wrn.py --workdir=runs/cifar10_wrn
         (for minutes on two cores: --config=experiments/cifar10_wrn.py:small)
Data: scripts/prepare_data.py --dataset=cifar10
As in the paper (2.3, 3): WRN-44-16, base width 16 x 2^-k for k = -3..4; images
N / 2^k for k = 0..5; 200 epochs of SGD, as bases/images.py has it.
"""

from bases import images

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 48 cells; `small`: depth 8, widths to 8, an eighth of the images."""
    paper = images.cifar_resnet("cifar10", widths=(128, 64, 32, 16, 8, 4, 2, 1))
    small = images.small_cifar_resnet(
        "cifar10", smallest=1 / 128, epochs=6, max_data_ratio=4.0
    )
    return config.choose_scale(scale, {"paper": paper, "small": small})

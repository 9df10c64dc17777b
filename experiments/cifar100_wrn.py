"""The paper's CIFAR-100 row: a CIFAR ResNet of 44 layers, its width and the images.

Question: does the error of networks with up to 1/16 of the parameters (nominally) on
up to 1/8 of the images say what the large ones reach? 42 cells.

Command: scalepred --config=experiments/cifar100_wrn.py --workdir=runs/cifar100_wrn
         (for minutes on two cores: --config=experiments/cifar100_wrn.py:small)
Data: scripts/prepare_data.py --dataset=cifar100
As in the paper (2.3, 3): WRN-44-16, base width 16 x 2^-k for k = -2..4; images
N / 2^k for k = 0..5; 200 epochs of SGD, as bases/images.py has it.
"""

from bases import images

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 42 cells; `small`: depth 8, widths to 8, an eighth of the images."""
    paper = images.cifar_resnet("cifar100", widths=(64, 32, 16, 8, 4, 2, 1))
    small = images.small_cifar_resnet(
        "cifar100", smallest=1 / 64, epochs=8, max_data_ratio=2.0
    )
    return config.choose_scale(scale, {"paper": paper, "small": small})

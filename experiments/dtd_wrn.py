"""The paper's DTD row: a CIFAR ResNet of 44 layers, its width and the images.

Question: does the error of networks with up to 1/16 of the parameters (nominally) on
up to 1/8 of the images say what the large ones reach? 42 cells.

Command: scalepred --config=experiments/dtd_wrn.py --workdir=runs/dtd_wrn
Data: scripts/prepare_data.py --dataset=dtd
As in the paper (2.3, 3): WRN-44-16, base width 16 x 2^-k for k = -2..4; images
N / 2^k for k = 0..5; 200 epochs of SGD, as bases/images.py has it. The
decathlon's validation part is the test part, as its test labels are not published.
"""

from bases import images

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 42 cells."""
    paper = images.cifar_resnet("dtd", widths=(64, 32, 16, 8, 4, 2, 1))
    return config.choose_scale(scale, {"paper": paper})

"""The paper's probe: is depth as predictable a way to scale as width?

Question: CIFAR ResNets of base width 16 and 8 to 170 layers, beside the ones of 44
layers and base width 2 to 64: is the law's fit as good for either? The paper finds
both within 3 %.

Command: scalepred --config=experiments/cifar10_depth_width.py:depth --workdir=runs/d
         scalepred --config=experiments/cifar10_depth_width.py:width --workdir=runs/w
         (for minutes on two cores: --config=experiments/cifar10_depth_width.py:small)
Data: scripts/prepare_data.py --dataset=cifar10
Trained as cifar10_wrn. Which depths and widths the paper took is in a figure that we
could not find; base width 16 and depth 44 are named in it. Blocks a stage double here.
"""

from bases import images

from scalepred import config


def get_config(scale: str = "depth") -> config.Experiment:
    """`depth` and `width`: 6 x 6 cells; `small`: depth at width 4, few epochs."""
    depth = images.cifar_resnet("cifar10", widths=(16,))
    depth.name = "cifar10_depth_width"
    depth.grid.depths = (8, 14, 26, 44, 86, 170)
    width = images.cifar_resnet("cifar10", widths=(2, 4, 8, 16, 32, 64))
    width.name = "cifar10_depth_width_width"
    for study in (depth, width):
        study.fit.max_params_ratio = 4.0
    small = images.cifar_resnet("cifar10", widths=(4,))
    small.name = "cifar10_depth_width_small"
    small.grid.depths = (8, 14, 26)
    small.grid.data_fractions = (1 / 64, 1 / 32, 1 / 16)
    small.training.epochs = 10
    small.training.batch_size = 64
    small.fit = config.Fitting()
    return config.choose_scale(scale, {"depth": depth, "width": width, "small": small})

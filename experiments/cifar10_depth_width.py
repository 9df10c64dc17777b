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

from scalepred import config


def get_config(scale: str = "depth") -> config.Experiment:
    """`depth` and `width`: 6 x 6 cells; `small`: depth at width 4, few epochs."""
    data_fractions = tuple(2.0**-k for k in range(6))
    depth = _experiment("cifar10_depth_width")
    depth.grid = config.Grid(
        widths=(16,), depths=(8, 14, 26, 44, 86, 170), data_fractions=data_fractions
    )
    width = _experiment("cifar10_depth_width_width")
    width.grid = config.Grid(
        widths=(2, 4, 8, 16, 32, 64), depths=(44,), data_fractions=data_fractions
    )
    small = _experiment("cifar10_depth_width_small")
    small.grid = config.Grid(
        widths=(4,), depths=(8, 14, 26), data_fractions=(1 / 64, 1 / 32, 1 / 16)
    )
    small.training.epochs = 10
    small.training.batch_size = 64
    small.fit = config.Fitting()
    return config.choose_scale(scale, {"depth": depth, "width": width, "small": small})


def _experiment(name: str) -> config.Experiment:
    return config.Experiment(
        name=name,
        dataset="cifar10",
        family="wide_resnet",
        metric="error",
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
        fit=config.Fitting(max_params_ratio=4.0, max_data_ratio=8.0),
    )

"""The paper's test of variety: VGG-16 with BatchNorm on CIFAR-100, SGD or Adam.

Question: is the law as good for another architecture and another optimiser? 36 cells
each.

Command: scalepred --config=experiments/cifar100_vgg16bn.py:sgd --workdir=runs/vgg
         the same with :adam in the place of :sgd, in a workdir of its own
         (for minutes on two cores: --config=experiments/cifar100_vgg16bn.py:small)
Data: scripts/prepare_data.py --dataset=cifar100
As in the paper (2.3, 3): channels 64 .. 512 x 2^-k, k = 0..5; the
same six data scales as elsewhere (not restated there); 170 epochs of 128; SGD as for
WRN-44-16, or Adam at 1e-3, whose decay is not stated: here it has the same steps.
"""

from scalepred import config


def get_config(scale: str = "sgd") -> config.Experiment:
    """`sgd` and `adam`: 6 x 6 cells; `small`: few layers, a quarter of the images."""
    sgd = _experiment("sgd", learning_rate=0.1)
    adam = _experiment("adam", learning_rate=1e-3)
    adam.training.weight_decay = 0.0
    small = _experiment("sgd", learning_rate=0.05)
    small.name = "cifar100_vgg16bn_small"
    small.grid = config.Grid(
        widths=(2, 4, 8, 16),
        depths=(11,),
        data_fractions=tuple(2.0**-k for k in range(2, 6)),
    )
    small.training.epochs = 8
    small.fit = config.Fitting(max_params_ratio=2.0, max_data_ratio=2.0)
    return config.choose_scale(scale, {"sgd": sgd, "adam": adam, "small": small})


def _experiment(optimizer: str, learning_rate: float) -> config.Experiment:
    return config.Experiment(
        name=f"cifar100_vgg16bn_{optimizer}",
        dataset="cifar100",
        family="vgg16bn",
        metric="error",
        grid=config.Grid(
            widths=tuple(64 // 2**k for k in range(6)),
            depths=(16,),
            data_fractions=tuple(2.0**-k for k in range(6)),
        ),
        training=config.Training(
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            decay_points=(80 / 170, 120 / 170, 160 / 170),
            decay_factor=0.1,
            batch_size=128,
            epochs=170,
            augment="crop_flip",
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0),
    )

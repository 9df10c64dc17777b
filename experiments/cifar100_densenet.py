"""The paper's test of variety: DenseNet (L = 40, k = 32) on CIFAR-100, SGD or Adam.

Question: is the law as good for another architecture and another optimiser? 36 cells
each.

Command: scalepred --config=experiments/cifar100_densenet.py:sgd --workdir=runs/dn
         the same with :adam in the place of :sgd, in a workdir of its own
         (for minutes on two cores: --config=experiments/cifar100_densenet.py:small)
Data: scripts/prepare_data.py --dataset=cifar100
As in the paper (2.3, 3): growth and first channels x 2^-k, k = 0..5; the same six data
scales as elsewhere (not restated there); 300 epochs of 128; SGD as for WRN-44-16, or
Adam at 1e-3 (bases/images.py).
"""

from bases import images

from scalepred import config


def get_config(scale: str = "sgd") -> config.Experiment:
    """`sgd` and `adam`: 6 x 6 cells; `small`: few layers, a quarter of the images."""
    forms = images.cifar100_variety(
        "densenet", widest=32, depth=40, small_depth=10, epochs=300, drops=(150, 225)
    )
    return config.choose_scale(scale, forms)

"""The paper's test of variety: DenseNet (L = 40, k = 32) on CIFAR-100, SGD or Adam.

Question: is the law as good for another architecture and another optimiser? 36 cells
each.

Command: scalepred --config=experiments/cifar100_densenet.py:sgd --workdir=runs/dn
         the same with :adam in the place of :sgd, in a workdir of its own
         (for minutes on two cores: --config=experiments/cifar100_densenet.py:small)
Data: scripts/prepare_data.py --dataset=cifar100
As in the paper (2.3, 3): growth and first channels x 2^-k, k = 0..5; the
same six data scales as elsewhere (not restated there); 300 epochs of 128; SGD as for
WRN-44-16, or Adam at 1e-3, whose decay is not stated: here it has the same steps.
"""

from bases import paper_cnn, small_cnn, with_adam

from scalepred import config


def get_config(scale: str = "sgd") -> config.Experiment:
    """`sgd` and `adam`: 6 x 6 cells; `small`: few layers, a quarter of the images."""
    sgd, adam, small = (
        paper_cnn(
            "cifar100_densenet_sgd",
            "densenet",
            widest=32,
            depth=40,
            epochs=300,
            decay_points=(150 / 300, 225 / 300),
        )
        for _ in range(3)
    )
    adam = with_adam(adam, "cifar100_densenet_adam")
    small = small_cnn(small, "cifar100_densenet_small", depth=10)
    return config.choose_scale(scale, {"sgd": sgd, "adam": adam, "small": small})

"""The paper's ImageNet row: ResNet-50, its width and the images.

Question: does the error of networks with up to 1/16 of the parameters (nominally) on
up to 1/8 of the images say what the large ones reach? 49 cells. The paper predicts
eleven larger ones with -4.5 % mean and 4.7 % standard deviation.

Command: scalepred --config=experiments/imagenet_resnet50.py --workdir=runs/imagenet
Data: scripts/prepare_data.py --dataset=imagenet --from=FOLDER --image_size=64
As in the paper (2.3, 3): channels 64 / 2^k and images N / 2^k, k = 0..6; SGD, momentum
0.9, weight decay 1e-4, 90 epochs, rate 0.1 times 0.1 after 30 and 60. The paper prints
a batch of 16, which with that rate must have been one device's; here it is 256, as in
the code it names. 64 pixels fit into the memory of one device as bytes; 224 do not.
"""

from bases import images

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 7 x 7 cells."""
    paper = config.Experiment(
        name="imagenet_resnet50",
        dataset="imagenet",
        family="resnet50",
        metric="error",
        grid=config.Grid(
            widths=tuple(64 // 2**k for k in range(7)),
            depths=(50,),
            data_fractions=images.halvings(1, 1 / 64),
        ),
        training=images.sgd(epochs=90, drops=(30, 60), batch_size=256),
        fit=images.fit_region(),
    )
    return config.choose_scale(scale, {"paper": paper})

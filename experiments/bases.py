"""What studies share: the paper's recipes, and that of the forecasts of text.

Each study is a file of its own, with its question and its answer, and imports from here
what it has in common with others.
"""

from scalepred import config


def halves(first: int, last: int) -> tuple[float, ...]:
    """2^-first, and halves of it down to 2^-last."""
    return tuple(2.0**-k for k in range(first, last + 1))


def paper_resnet(name: str, dataset: str, widest: int = 64) -> config.Experiment:
    """The paper's ResNet of 44 layers, widths from `widest` to 1; 200 epochs.

    Source: Rosenfeld et al. 2020, section 3 and appendix A.
    """
    return config.Experiment(
        name=name,
        dataset=dataset,
        family="wide_resnet",
        metric="error",
        grid=config.Grid(
            widths=tuple(widest // 2**k for k in range(widest.bit_length())),
            depths=(44,),
            data_fractions=halves(0, 5),
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


def small_resnet(
    name: str, dataset: str, smallest: int, epochs: int, max_data_ratio: float
) -> config.Experiment:
    """A ResNet of 8 layers for minutes on two cores; data from 1/8 to 2^-smallest."""
    return config.Experiment(
        name=name,
        dataset=dataset,
        family="wide_resnet",
        metric="error",
        grid=config.Grid(
            widths=(1, 2, 4, 8), depths=(8,), data_fractions=halves(3, smallest)
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="cosine",
            batch_size=64,
            epochs=epochs,
            augment="crop_flip",
        ),
        fit=config.Fitting(max_params_ratio=3.0, max_data_ratio=max_data_ratio),
    )


def paper_cnn(
    name: str,
    family: str,
    widest: int,
    depth: int,
    epochs: int,
    decay_points: tuple[float, ...],
) -> config.Experiment:
    """Another of the paper's networks on CIFAR-100, six widths; SGD.

    Source: Rosenfeld et al. 2020, section 6.3 and appendix A.
    """
    return config.Experiment(
        name=name,
        dataset="cifar100",
        family=family,
        metric="error",
        grid=config.Grid(
            widths=tuple(widest // 2**k for k in range(6)),
            depths=(depth,),
            data_fractions=halves(0, 5),
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            decay_points=decay_points,
            decay_factor=0.1,
            batch_size=128,
            epochs=epochs,
            augment="crop_flip",
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0),
    )


def with_adam(experiment: config.Experiment, name: str) -> config.Experiment:
    """The study with Adam at 0.001 and no weight decay."""
    experiment.name = name
    experiment.training.optimizer = "adam"
    experiment.training.learning_rate = 1e-3
    experiment.training.weight_decay = 0.0
    return experiment


def small_cnn(
    experiment: config.Experiment, name: str, depth: int
) -> config.Experiment:
    """The study with few layers and a quarter of the images: minutes on two cores."""
    experiment.name = name
    experiment.grid = config.Grid(
        widths=(2, 4, 8, 16), depths=(depth,), data_fractions=halves(2, 5)
    )
    experiment.training.learning_rate = 0.05
    experiment.training.epochs = 8
    experiment.fit = config.Fitting(max_params_ratio=2.0, max_data_ratio=2.0)
    return experiment


def paper_awd_lstm(
    name: str, dataset: str, family: str, batch_size: int, epochs: int
) -> config.Experiment:
    """The paper's AWD-LSTM; the random-guess level is fitted, as it does for text.

    Source: Rosenfeld et al. 2020, section 3; rates of Merity et al. 2018.
    """
    return config.Experiment(
        name=name,
        dataset=dataset,
        family=family,
        metric="loss",
        grid=config.Grid(
            widths=tuple(round(1150 / 2**k) for k in range(7)),
            depths=(3,),
            data_fractions=halves(0, 5),
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=30.0,
            momentum=0.0,
            weight_decay=1.2e-6,
            clip_norm=0.25,
            schedule="constant",
            average_fraction=0.5,
            batch_size=batch_size,
            epochs=epochs,
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0, random_guess=0),
    )


def small_awd_lstm(
    name: str,
    dataset: str,
    smallest: int,
    batch_size: int,
    epochs: int,
    max_data_ratio: float,
) -> config.Experiment:
    """A smaller one of 2,000 words, with Adam; data from 1/16 to 2^-smallest."""
    return config.Experiment(
        name=name,
        dataset=dataset,
        family="awd_lstm_small",
        metric="loss",
        grid=config.Grid(
            widths=(8, 16, 32, 64, 128),
            depths=(2,),
            data_fractions=halves(4, smallest),
        ),
        training=config.Training(
            optimizer="adam",
            learning_rate=0.01,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=batch_size,
            epochs=epochs,
        ),
        fit=config.Fitting(
            max_params_ratio=2.5, max_data_ratio=max_data_ratio, random_guess=0
        ),
    )


def text_forecast(
    name: str,
    dataset: str,
    grid: config.Grid,
    targets: config.Targets,
    *,
    family: str = "context_mlp",
    learning_rate: float,
    batch_size: int,
) -> config.Experiment:
    """A forecast of one large model of text from a grid of small ones, read once."""
    return config.Experiment(
        name=name,
        dataset=dataset,
        family=family,
        metric="loss",
        grid=grid,
        training=config.Training(
            optimizer="adam",
            learning_rate=learning_rate,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=batch_size,
            epochs=1,
        ),
        fit=config.Fitting(law="auto", random_guess=0),
        targets=targets,
    )

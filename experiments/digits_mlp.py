from scalepred import config


def get_config() -> config.Experiment:
    return config.Experiment(
        name="digits_mlp",
        dataset="digits",
        family="mlp",
        metric="error",
        grid=config.Grid(
            widths=(2, 4, 8, 16, 32, 64, 128, 256),
            depths=(2,),
            data_fractions=(1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0),
            seeds=8,
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=0.1,
            momentum=0.9,
            schedule="cosine",
            batch_size=32,
            epochs=50,
        ),
        packing=config.Packing(lanes=8),
        fit=config.Fitting(max_params_ratio=8.0, max_data_ratio=8.0),
    )

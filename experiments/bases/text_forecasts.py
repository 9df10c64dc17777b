"""Forecasts of language models: small models read little text once, a large one more.

What all have in common was found in forecast_stdlib: Adam without weight decay, a
cosine after a twentieth of warm-up, each text read once, law=auto with a fitted
level of guessing. The target is trained twice.
"""

from collections.abc import Sequence

from scalepred import config


def study(
    name: str,
    dataset: str,
    *,
    widths: Sequence[int],
    data_fractions: Sequence[float],
    target_width: int,
    target_fraction: float,
    learning_rate: float,
    batch_size: int = 2,
    family: str = "context_mlp",
    depth: int = 1,
) -> config.Experiment:
    """Every width on every part of the text is evidence for the one target.

    Args:
        name: of the study.
        dataset: text; of its test part a short one is scored (`short_test`).
        widths: of the evidence.
        data_fractions: of the evidence, shares of the text.
        target_width: of the model that is forecast.
        target_fraction: share of the text that it reads.
        learning_rate: largest of the schedule, the same at every size.
        batch_size: windows a step.
        family: of the models.
        depth: of evidence and target.
    """
    return config.Experiment(
        name=name,
        dataset=f"short_test:{dataset}",
        family=family,
        metric="loss",
        grid=config.Grid(
            widths=tuple(widths),
            depths=(depth,),
            data_fractions=tuple(data_fractions),
        ),
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
        targets=config.Targets(
            widths=(target_width,), data_fractions=(target_fraction,), seeds=2
        ),
    )

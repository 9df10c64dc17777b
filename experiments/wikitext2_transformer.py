"""Decoders on WikiText-2: the loss of today's architecture against width and words.

Question: four blocks of 32 to 512 features on 33 thousand to 2 million words: fitted
on small models and few words, what of the rest?

Command: scalepred --config=experiments/wikitext2_transformer.py --workdir=runs/wt2
         (for minutes on two cores: --config=experiments/wikitext2_transformer.py:small)
Data: scripts/prepare_data.py --dataset=wikitext2
"""

import dataclasses

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 6 x 7 cells; `small`: two blocks, the 2,000 commonest words."""
    paper = config.Experiment(
        name="wikitext2_transformer",
        dataset="wikitext2",
        family="transformer",
        metric="loss",
        grid=config.Grid(
            widths=(32, 64, 128, 192, 256, 512),
            depths=(4,),
            data_fractions=tuple(2.0**-k for k in range(7)),
        ),
        training=config.Training(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.1,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=32,
            epochs=10,
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0, random_guess=0),
    )
    small = dataclasses.replace(
        paper,
        name="wikitext2_transformer_small",
        dataset="wikitext2_2000",
        grid=config.Grid(
            widths=(4, 8, 16, 32),
            depths=(2,),
            data_fractions=tuple(2.0**-k for k in range(3, 8)),
        ),
        training=dataclasses.replace(
            paper.training, learning_rate=5e-3, batch_size=8, epochs=3
        ),
        fit=config.Fitting(max_params_ratio=3.0, max_data_ratio=4.0, random_guess=0),
    )
    return config.choose_scale(scale, {"paper": paper, "small": small})

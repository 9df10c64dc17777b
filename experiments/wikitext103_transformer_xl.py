"""The paper's WikiText-103 row: Transformer-XL base, inner size and words.

Question: does the loss of models with up to 1/16 of the parameters (nominally) on up
to 1/8 of the words say what the large ones reach? 42 cells. The paper predicts eleven
larger ones with 0.5 % mean and 1.7 % standard deviation.

Command: scalepred --config=experiments/wikitext103_transformer_xl.py --workdir=runs/xl
Data: scripts/prepare_data.py --dataset=wikitext103
As in the paper (2.3, 3): inner size 2100 / 2^k, k = 0..6; words N / 2^k, k = 0..5; the
official base model with Adam, rate 2.5e-4, cosine, clipped at 0.25, batches of 60 x
150. Its 200,000 steps see all words 17.4 times; whether the paper kept them for
subsets is not stated, here it is the epochs that are kept. m falls to a third only, as
the attention stays; the fit region is drawn by data.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 7 x 6 cells."""
    paper = config.Experiment(
        name="wikitext103_transformer_xl",
        dataset="wikitext103",
        family="transformer_xl",
        metric="loss",
        grid=config.Grid(
            widths=tuple(round(2100 / 2**k) for k in range(7)),
            depths=(16,),
            data_fractions=tuple(2.0**-k for k in range(6)),
        ),
        training=config.Training(
            optimizer="adam",
            learning_rate=2.5e-4,
            schedule="cosine",
            clip_norm=0.25,
            batch_size=60,
            epochs=17.4,
        ),
        fit=config.Fitting(max_data_ratio=8.0, random_guess=0),
    )
    return config.choose_scale(scale, {"paper": paper})

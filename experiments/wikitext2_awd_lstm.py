"""The paper's WikiText-2 row: AWD-LSTM, hidden units and words.

Question: does the loss of AWD-LSTMs with up to 1/16 of the parameters (nominally) on
up to 1/8 of the words say what the large ones reach? 42 cells.

Command: scalepred --config=experiments/wikitext2_awd_lstm.py --workdir=runs/wikitext2
         (for minutes on two cores: --config=experiments/wikitext2_awd_lstm.py:small)
Data: scripts/prepare_data.py --dataset=wikitext2
As in the paper (2.3, 3): hidden size 1150 / 2^k, k = 0..6; words N / 2^k, k = 0..5;
the official recipe for 750 epochs, with the average over the last half of each run in
the place of its trigger.
"""

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 7 x 6 cells; `small`: 2,000 words, smaller networks, fewer epochs."""
    paper = config.Experiment(
        name="wikitext2_awd_lstm",
        dataset="wikitext2",
        family="awd_lstm_wikitext2",
        metric="loss",
        grid=config.Grid(
            widths=tuple(round(1150 / 2**k) for k in range(7)),
            depths=(3,),
            data_fractions=tuple(2.0**-k for k in range(6)),
        ),
        training=config.Training(
            optimizer="sgd",
            learning_rate=30.0,
            momentum=0.0,
            weight_decay=1.2e-6,
            clip_norm=0.25,
            schedule="constant",
            average_fraction=0.5,
            batch_size=80,
            epochs=750,
        ),
        fit=config.Fitting(max_params_ratio=16.0, max_data_ratio=8.0, random_guess=0),
    )
    small = config.Experiment(
        name="wikitext2_awd_lstm_small",
        dataset="wikitext2_2000",
        family="awd_lstm_small",
        metric="loss",
        grid=config.Grid(
            widths=(8, 16, 32, 64, 128),
            depths=(2,),
            data_fractions=tuple(2.0**-k for k in range(4, 9)),
        ),
        training=config.Training(
            optimizer="adam",
            learning_rate=0.01,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=8,
            epochs=8,
        ),
        fit=config.Fitting(max_params_ratio=2.5, max_data_ratio=4.0, random_guess=0),
    )
    return config.choose_scale(scale, {"paper": paper, "small": small})

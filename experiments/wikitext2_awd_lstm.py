"""The paper's WikiText-2 row: AWD-LSTM, hidden units and words.

Question: does the loss of AWD-LSTMs with up to 1/16 of the parameters (nominally) on
up to 1/8 of the words say what the large ones reach? 42 cells.

Command: scalepred --config=experiments/wikitext2_awd_lstm.py --workdir=runs/wikitext2
         (for minutes on two cores: --config=experiments/wikitext2_awd_lstm.py:small)
Data: scripts/prepare_data.py --dataset=wikitext2
As in the paper (2.3, 3): hidden size 1150 / 2^k, k = 0..6; words N / 2^k, k = 0..5;
the official recipe for 750 epochs, as bases/awd_lstm.py has it.
"""

from bases import awd_lstm

from scalepred import config


def get_config(scale: str = "paper") -> config.Experiment:
    """`paper`: 7 x 6 cells; `small`: 2,000 words, smaller networks, fewer epochs."""
    paper = awd_lstm.paper(
        "wikitext2_awd_lstm",
        "wikitext2",
        "awd_lstm_wikitext2",
        batch_size=80,
        epochs=750,
    )
    small = awd_lstm.small(
        "wikitext2_awd_lstm_small",
        "wikitext2_2000",
        halvings=8,
        batch_size=8,
        epochs=8,
        max_data_ratio=4.0,
    )
    return config.choose_scale(scale, {"paper": paper, "small": small})

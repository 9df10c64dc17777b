"""Said before it is trained: a model of the Penn Treebank's words, 57 times larger.

Question: twelve small models (8 to 32 units) read 19 to 155 thousand words, once. How
well will one of 1,024 units do that reads all 929 thousand? Only the 2,000 most
frequent words are told apart.

Command: scalepred --config=experiments/forecast_ptb.py --workdir=runs/ptb
Data: scripts/prepare_data.py --dataset=ptb
Hardware: two CPU cores; the target is trained twice, a core each.
Cost: evidence 2.14e11 FLOPs in all, some 30 s of a core; one target run 1.22e13, 57
times that, 2 minutes of a core that does 106 GFLOP/s.

Answer: said 4.127 nats a word (3.745 to 4.475), then measured 4.329: inside, 5 % low.

Settings: none of training was tried here, those of forecast_wikitext2 were taken as
they are (batches of 280 words); 1 range of sizes, 3 laws. Nothing larger than the
evidence was trained before the forecast.
- Law: hiding the largest width and data, `auto` errs by 0.4 % at the corner and by
  0.5 % +- 0.9 % over all hidden cells, `chinchilla` by 1.4 and 1.1 % +- 0.8 %,
  `rosenfeld` by 1.0 and 0.9 % +- 0.8 %; hiding what costs most, 0.4, 0.6 and 0.6 %.
  They say 4.13, 4.22 and 4.15.
- Without the smallest width, data or both `auto` says 4.22, 4.25 and 4.23.
"""

from bases import text_forecasts

from scalepred import config


def get_config() -> config.Experiment:
    """12 runs of evidence; one target, twice."""
    return text_forecasts.study(
        "forecast_ptb",
        "ptb_2000",
        widths=(8, 16, 32),
        data_fractions=(1 / 48, 1 / 24, 1 / 12, 1 / 6),
        target_width=1024,
        target_fraction=1.0,
        learning_rate=0.01,
        batch_size=8,
    )

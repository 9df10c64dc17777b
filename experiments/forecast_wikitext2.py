"""Said before it is trained: a model of words of Wikipedia, 57 times larger.

Question: twelve small models (8 to 32 units) read 22 to 174 thousand words, once. How
well will one of 2,048 units do that reads 522 thousand? Only the 2,000 most frequent
words are told apart.

Command: scalepred --config=experiments/forecast_wikitext2.py --workdir=runs/wikitext2
Data: scripts/prepare_data.py --dataset=wikitext2
Hardware: two CPU cores; the target is trained twice, a core each.
Cost: evidence 2.40e11 FLOPs in all, some 30 s of a core; one target run 1.37e13, 57
times that, 5 minutes of a core that does 50 GFLOP/s at it.

Answer: said 3.811 nats a word (90 % interval 3.527 to 4.026), then measured 3.849: 1 %
too low, inside the 50 % interval.

Settings: 3 of training, 1 range of sizes, 3 laws and 3 targets were weighed, on runs
of at most 1/189 of the target's FLOPs; nothing larger was trained before the forecast.
What forecast_stdlib had found (the family, no weight decay, batches of 256) was kept.
- Rates 0.005, 0.01, 0.02 at 8 and 32 units, 15 and 59 thousand words: 0.01 is best on
  the fewer, 0.02 by 0.6 to 1.2 % on the more; 0.01.
- Law: hiding the largest width and data, `auto` errs by -0.2 % at the corner and by
  0.3 % +- 1.1 % over all hidden cells, `chinchilla` by -0.7 and 0.2 % +- 1.2 %,
  `rosenfeld` by 0.0 and 0.6 % +- 1.3 %; hiding what costs most, 0.1, 1.1 and 1.1 %.
- The loss falls by 5 % with every doubling of the words and does not slow down yet, so
  of three targets of the same FLOPs (512 units on all words, 1,024 on half, 2,048 on a
  quarter) the one with the narrowest interval was taken: 22, 18 and 14 % wide.
"""

from bases import text_forecasts

from scalepred import config


def get_config() -> config.Experiment:
    """12 runs of evidence; one target, twice."""
    return text_forecasts.study(
        "forecast_wikitext2",
        "wikitext2_2000",
        widths=(8, 16, 32),
        data_fractions=(1 / 96, 1 / 48, 1 / 24, 1 / 12),
        target_width=2048,
        target_fraction=1 / 4,
        learning_rate=0.01,
        batch_size=4,
    )

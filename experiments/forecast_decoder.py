"""Said before it is trained: a decoder on English books, 58 times larger.

Question: twelve small decoders (8 to 32 features, two blocks, muP) read 61 to 488 KB of
old books, once. How well will one of 256 features do that reads 2.4 MB?

Command: scalepred --config=experiments/forecast_decoder.py --workdir=runs/decoder
Data: as forecast_books.
Hardware: two CPU cores; the target is trained twice, a core each.
Cost: evidence 4.53e11 FLOPs in all, some 35 s of a core; one target run 2.63e13, 58
times that, 5 minutes of a core that does 89 GFLOP/s.

Answer: said 1.542 nats a byte (90 % interval 1.382 to 1.684), then measured 1.471: 5 %
too high, inside.

Settings: 4 of training, 1 range of sizes and 3 laws were tried, on runs of at most
1/170 of the target's FLOPs; nothing larger was trained before the forecast.
- Rates 0.002, 0.004, 0.008 at 8 and 32 features, 61 and 244 KB: the best is 0.008,
  0.004, 0.004 and 0.002, so it falls with data and width; 0.002 and 0.004 differ by
  0.4 % at the largest. 0.003 was taken untried.
- Seeds and phases of learning leave neighbours 3 % out of line. Law: hiding the largest
  width and data, `auto` errs by 1.9 % at the corner and by -1.1 % +- 1.6 % over all
  hidden cells, `chinchilla` by 9.9 and 3.0 % +- 3.7 %, `rosenfeld` by -38 and -14 % +-
  19 %; hiding what costs most (above 1/3, 1/6), 1.9 and 1.1 %, 5.0 and 5.3 %, 3.4 and
  4.2 %. They say 1.54, 1.59 and 1.26.
- Without the smallest width, data or both `auto` says 1.54.
"""

from bases import text_forecasts

from scalepred import config


def get_config() -> config.Experiment:
    """12 runs of evidence; one target, twice."""
    return text_forecasts.study(
        "forecast_decoder",
        "books",
        widths=(8, 16, 32),
        data_fractions=(1 / 320, 1 / 160, 1 / 80, 1 / 40),
        target_width=256,
        target_fraction=1 / 8,
        learning_rate=0.003,
        family="transformer_mup",
        depth=2,
    )
